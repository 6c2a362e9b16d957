//! Names that must exist: the function of a trigger, buckets, connections.

use std::collections::BTreeMap;

use crate::{
    keys::join,
    sink::{Draft, Sink},
    suggest,
    tree::{Node, Table},
    words::shorten,
};

pub(super) fn check(sink: &mut Sink<'_>, root: &Table) {
    for (name, trigger) in root.tables("triggers") {
        let what = |key: &str| format!("`{key}` of trigger `{name}`");
        known(
            sink,
            root,
            "functions",
            trigger.get("function"),
            &what("function"),
        );
        if let Some(bucket) = trigger.table("bucket") {
            known(
                sink,
                root,
                "buckets",
                bucket.get("name"),
                &what("bucket.name"),
            );
            let to = bucket
                .get("after")
                .and_then(Node::table)
                .and_then(|after| after.table("move"));
            let to = to.and_then(|to| to.get("bucket"));
            known(sink, root, "buckets", to, &what("bucket.after.move.bucket"));
        }
        for kind in ["amqp", "kafka"] {
            let notify = trigger
                .table("bucket")
                .and_then(|bucket| bucket.table("notify"));
            let node = notify
                .and_then(|notify| notify.table(kind))
                .and_then(|table| table.get("connection"));
            let what = what(&format!("bucket.notify.{kind}.connection"));
            connection(sink, root, kind, node, &what);
        }
        for place in ["on_success", "dead_letter"] {
            let to = trigger.table(place).and_then(|to| to.table("bucket"));
            let bucket = to.and_then(|to| to.get("name"));
            let what = what(&format!("{place}.bucket.name"));
            known(sink, root, "buckets", bucket, &what);
        }
        for kind in ["amqp", "kafka", "postgres"] {
            for (place, table) in [
                (kind.to_owned(), trigger.table(kind)),
                (
                    format!("on_success.{kind}"),
                    trigger.table("on_success").and_then(|to| to.table(kind)),
                ),
                (
                    format!("dead_letter.{kind}"),
                    trigger.table("dead_letter").and_then(|to| to.table(kind)),
                ),
            ] {
                let node = table.and_then(|table| table.get("connection"));
                connection(
                    sink,
                    root,
                    kind,
                    node,
                    &what(&format!("{place}.connection")),
                );
            }
        }
    }
    for (name, function) in root.tables("functions") {
        let Some(allow) = function.table("allow") else {
            continue;
        };
        for key in ["read", "write"] {
            for node in allow.get(key).map_or(&[][..], Node::list) {
                let what = format!("`allow.{key}` of function `{name}`");
                match (key, node.string()) {
                    ("read", Some("@event")) => {}
                    _ => known(sink, root, "buckets", Some(node), &what),
                }
            }
        }
    }
}

/// The name must be one of the section's.
fn known(sink: &mut Sink<'_>, root: &Table, section: &str, node: Option<&Node>, what: &str) {
    let Some((node, name)) = node.and_then(|node| Some((node, node.string()?))) else {
        return;
    };
    let names = root.table(section).map(|table| &table.entries);
    if names.is_some_and(|names| names.contains_key(name)) {
        return;
    }
    let singular = section.trim_end_matches('s');
    let message = format!("{what} names an unknown {singular}");
    let label = format!(
        "expected {}, found \"{}\"",
        expected(singular, names),
        shorten(name)
    );
    let help = help(section, name, names);
    sink.add(Draft::error(node.span.clone(), message, label, help).absent());
}

/// The name must be one of the connections, and that one must be of the kind.
fn connection(sink: &mut Sink<'_>, root: &Table, kind: &str, node: Option<&Node>, what: &str) {
    let Some((node, name)) = node.and_then(|node| Some((node, node.string()?))) else {
        return;
    };
    let Some(entry) = root.table("connections").and_then(|table| table.get(name)) else {
        known(sink, root, "connections", Some(node), what);
        return;
    };
    let Some(table) = entry.table() else { return };
    if table.get(kind).is_some() || table.entries.is_empty() {
        return;
    }
    let message = format!("{what} names a connection of another kind");
    let label = format!("expected a connection with `{kind}`, found \"{name}\"");
    let fitting = root
        .tables("connections")
        .filter(|(_, table)| table.get(kind).is_some());
    let fitting = join(fitting.map(|(name, _)| format!("\"{name}\"")), "or");
    let help = match fitting.as_str() {
        "" => format!("declare [connections.NAME] with `{kind}`"),
        fitting => format!("write {fitting}"),
    };
    let draft = Draft::error(node.span.clone(), message, label, help);
    sink.add(draft.with(
        entry.key_span.clone(),
        format!("\"{name}\" is declared here"),
    ));
}

fn expected(singular: &str, names: Option<&BTreeMap<String, Node>>) -> String {
    /// So many names are still read.
    const MOST: usize = 8;
    match names {
        Some(names) if !names.is_empty() && names.len() <= MOST => {
            join(names.keys().map(|name| format!("\"{name}\"")), "or")
        }
        _ => format!("a {singular} of this file"),
    }
}

fn help(section: &str, name: &str, names: Option<&BTreeMap<String, Node>>) -> String {
    let header = if name.contains('.') {
        format!("\"{name}\"")
    } else {
        name.to_owned()
    };
    if section == "buckets" && name.starts_with('@') {
        return "the only such name is \"@event\", in `allow.read`: the one object that triggered"
            .into();
    }
    let names = names
        .into_iter()
        .flat_map(BTreeMap::keys)
        .map(String::as_str);
    match suggest::closest(name, names) {
        Some(near) => format!("did you mean \"{near}\"? If not, declare [{section}.{header}]"),
        None if crate::values::name(name).is_ok() => format!("declare [{section}.{header}]"),
        None => format!("declare it as [{section}.NAME], and write that name"),
    }
}
