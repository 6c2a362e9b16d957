//! Triggers that share a bucket: settings that must agree, and loops that feed themselves.

use std::collections::BTreeMap;

use crate::{
    build::after,
    plan::After,
    sink::{Draft, Sink},
    tree::{Node, Table, Value},
};

/// A trigger on a bucket.
#[derive(Clone, Copy)]
struct Listener<'t> {
    name: &'t str,
    trigger: &'t Table,
    source: &'t Table,
}

pub(super) fn check(sink: &mut Sink<'_>, root: &Table) {
    let mut buckets: BTreeMap<&str, Vec<Listener<'_>>> = BTreeMap::new();
    for (name, trigger) in root.tables("triggers") {
        let Some(source) = trigger.table("bucket") else {
            continue;
        };
        let Some(bucket) = source.get("name").and_then(Node::string) else {
            continue;
        };
        buckets.entry(bucket).or_default().push(Listener {
            name,
            trigger,
            source,
        });
    }
    for (bucket, listeners) in &mut buckets {
        listeners.sort_by_key(|listener| listener.source.span.start);
        for key in ["after", "rescan"] {
            agree(sink, bucket, key, listeners);
        }
        for listener in &*listeners {
            moved_onto_itself(sink, bucket, listener, listeners);
            feeds_itself(sink, root, bucket, listener);
        }
    }
}

/// All triggers of a bucket say the same: what becomes of an object cannot depend on who asks.
fn agree(sink: &mut Sink<'_>, bucket: &str, key: &str, listeners: &[Listener<'_>]) {
    let Some((first, others)) = listeners.split_first() else {
        return;
    };
    let Some(one) = first.source.get(key) else {
        return;
    };
    for other in others {
        let Some(two) = other.source.get(key) else {
            continue;
        };
        if one.value == two.value || [one, two].iter().any(|node| broken(node)) {
            continue;
        }
        // Of the two, what stands in the file is what can be wrong.
        let (at, peer, peer_name) = if two.given {
            (two, one, first.name)
        } else {
            (one, two, other.name)
        };
        let message = format!(
            "triggers `{}` and `{}` share bucket `{bucket}`, but not `{key}`",
            first.name, other.name
        );
        let label = format!("expected the same `{key}` as in trigger `{peer_name}`, found another");
        let help = if peer.given {
            format!("make both the same: `{key}` is about the bucket, not about one trigger")
        } else {
            format!(
                "write the same `{key}` in both: left out, it is {}",
                default(key)
            )
        };
        let said = if peer.given {
            "says otherwise here"
        } else {
            "says nothing here"
        };
        let draft = Draft::error(at.span.clone(), message, label, help);
        sink.add(draft.with(peer.span.clone(), format!("trigger `{peer_name}` {said}")));
    }
}

fn broken(node: &Node) -> bool {
    match &node.value {
        Value::Bad => true,
        Value::Table(table) => table.entries.values().any(broken),
        _ => false,
    }
}

fn default(key: &str) -> String {
    let mut keys = crate::keys::children("triggers.*.bucket");
    keys.find(|known| known.name() == key)
        .and_then(|key| key.default_toml())
        .unwrap_or_default()
}

/// An object moved within its bucket must not come back as a new one, for ever.
fn moved_onto_itself(
    sink: &mut Sink<'_>,
    bucket: &str,
    listener: &Listener<'_>,
    all: &[Listener<'_>],
) {
    let After::Move { bucket: to, prefix } = after(listener.source) else {
        return;
    };
    let Some(node) = listener.source.get("after").filter(|node| node.given) else {
        return;
    };
    if to != bucket || to.is_empty() {
        return;
    }
    // Moving puts `prefix` before the key and leaves its end alone. A trigger that finds an object
    // it handled again, moved, will find it again and again; any longer cycle contains such a step.
    let again = |other: &&Listener<'_>| {
        let start = other.source.string("prefix");
        created(other) && format!("{prefix}{start}").starts_with(&start)
    };
    let Some(caught) = all.iter().find(again) else {
        return;
    };
    let message = format!(
        "`after` moves objects of bucket `{bucket}` to where they trigger `{}` again",
        caught.name
    );
    let (label, help) = if prefix.is_empty() {
        (
            "expected another bucket or a prefix, found the place where they are",
            "move them to another bucket, or set a prefix in `move` and another in the triggers of this bucket",
        )
    } else {
        (
            "expected a place that no trigger listens to, found one",
            "move them to another bucket, or give the triggers of this bucket a `prefix` that the moved keys do not start with",
        )
    };
    let mut draft = Draft::error(node.span.clone(), message, label, help);
    if caught.name != listener.name {
        draft = draft.with(
            caught.source.span.clone(),
            format!("trigger `{}` listens here", caught.name),
        );
    }
    sink.add(draft);
}

fn created(listener: &Listener<'_>) -> bool {
    listener
        .source
        .strings("on")
        .iter()
        .any(|change| change == "created")
}

/// A handler that may write where its trigger listens is probably about to trigger itself.
fn feeds_itself(sink: &mut Sink<'_>, root: &Table, bucket: &str, listener: &Listener<'_>) {
    let Some(prefix) = listener.source.get("prefix").and_then(Node::string) else {
        return;
    };
    if !created(listener) || !prefix.is_empty() {
        return;
    }
    let function = listener.trigger.string("function");
    let allow = root
        .table("functions")
        .and_then(|all| all.table(&function))
        .and_then(|f| f.table("allow"));
    let grants = allow
        .and_then(|allow| allow.get("write"))
        .map_or(&[][..], Node::list);
    let Some(grant) = grants.iter().find(|node| node.string() == Some(bucket)) else {
        return;
    };
    let at = listener
        .source
        .get("name")
        .map_or(&listener.source.span, |node| &node.span);
    let message = format!("function `{function}` may write the bucket that triggers it");
    let label = format!(
        "each object of `{bucket}` triggers `{}`, those it writes too",
        listener.name
    );
    let help = "write to another bucket, or give the trigger a `prefix` that the handler does not write under";
    let draft = Draft::error(at.clone(), message, label, help).warning();
    sink.add(draft.with(grant.span.clone(), "the grant is here"));
}
