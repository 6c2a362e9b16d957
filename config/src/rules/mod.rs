//! What the values of a file mean together: names that must exist, settings that must agree, and
//! things that surely do not do what their author wants. Single values are checked by `walk`.

mod batch;
mod brokers;
mod buckets;
mod destinations;
mod engine;
mod events;
mod http;
mod loops;
mod names;
mod notify;
mod schedule;
mod sharing;

use tidemill_core::selector::Selector;

use crate::{
    sink::{Draft, Sink},
    tree::{Node, Table, Value},
};

/// Applies every rule to the file.
pub(crate) fn check(sink: &mut Sink<'_>, root: &Table) {
    engine::check(sink, root);
    names::check(sink, root);
    sharing::check(sink, root);
    loops::check(sink, root);
    http::check(sink, root);
    events::check(sink, root);
    brokers::check(sink, root);
    buckets::check(sink, root);
    notify::check(sink, root);
    for (name, trigger) in root.tables("triggers") {
        schedule::check(sink, name, trigger);
        destinations::check(sink, name, trigger);
        batch::check(sink, root, name, trigger);
        buckets::check_trigger(sink, name, trigger);
        backoff(sink, name, trigger);
        order(sink, name, trigger);
        no_headers(sink, name, trigger);
    }
    for (name, function) in root.tables("functions") {
        twice_named(sink, name, function);
    }
}

/// The first backoff is at most the largest one.
fn backoff(sink: &mut Sink<'_>, name: &str, trigger: &Table) {
    let Some(retry) = trigger.table("retry") else {
        return;
    };
    let (Some(first), Some(max)) = (retry.get("first"), retry.get("max")) else {
        return;
    };
    let (a, b) = (retry.duration("first"), retry.duration("max"));
    if a <= b || b.is_zero() {
        return;
    }
    let shown = |duration| humantime::format_duration(duration).to_string();
    let (at, other) = if first.given {
        (first, max)
    } else {
        (max, first)
    };
    let message = format!("`retry.first` of trigger `{name}` is longer than `retry.max`");
    let label = format!("first is {}, max is {}", shown(a), shown(b));
    let help = format!("set max to {} or more, or shorten first", shown(a));
    let mut draft = Draft::error(at.span.clone(), message, label, help);
    if at.given && other.given {
        draft = draft.with(other.span.clone(), "the other one is here");
    }
    sink.add(draft);
}

/// Only Kafka has an order of its own to follow or to ignore.
fn order(sink: &mut Sink<'_>, name: &str, trigger: &Table) {
    let Some(node) = trigger.get("order_by") else {
        return;
    };
    let Some(word @ ("partition" | "none")) = node.string() else {
        return;
    };
    if trigger.get("kafka").is_some() {
        return;
    }
    let message = format!("`order_by` of trigger `{name}` is for Kafka only");
    let label = format!("expected $.json.path, header:Name or attr:name, found \"{word}\"");
    let help = if word == "none" {
        "remove it: other sources are unordered unless told"
    } else {
        "name a place in the event, such as \"$.customer\""
    };
    sink.add(Draft::error(node.span.clone(), message, label, help));
}

/// Objects and ticks have no headers to look at.
fn no_headers(sink: &mut Sink<'_>, name: &str, trigger: &Table) {
    let (what, help) = if trigger.get("bucket").is_some() {
        (
            "objects",
            "name a field of the record, such as \"$.s3.object.size\", or \"attr:subject\", the object's key",
        )
    } else if trigger.get("schedule").is_some() {
        (
            "ticks",
            "name a field of the tick, such as \"$.scheduled\", or \"attr:id\"",
        )
    } else {
        return;
    };
    let mut places: Vec<(&str, &Node)> = Vec::new();
    let idempotency = trigger.table("idempotency");
    let key = idempotency.and_then(|table| table.get("key"));
    places.extend(key.map(|node| ("idempotency.key", node)));
    places.extend(trigger.get("order_by").map(|node| ("order_by", node)));
    if let Some(filter) = trigger.table("filter") {
        filtered_headers(filter, "filter.headers", &mut places);
    }
    for (key, node) in places {
        if !names_header(node) {
            continue;
        }
        let message =
            format!("`{key}` of trigger `{name}` asks for a header, and {what} have none");
        let label = "expected $.json.path or attr:name, found a header";
        sink.add(Draft::error(node.span.clone(), message, label, help));
    }
}

/// The `headers` of a filter and of its alternatives, of any depth.
fn filtered_headers<'t>(
    filter: &'t Table,
    key: &'static str,
    found: &mut Vec<(&'static str, &'t Node)>,
) {
    found.extend(filter.get("headers").map(|node| (key, node)));
    let alternatives = filter.get("or").map_or(&[][..], Node::list);
    for alternative in alternatives.iter().filter_map(Node::table) {
        filtered_headers(alternative, "filter.or.headers", found);
    }
}

fn names_header(node: &Node) -> bool {
    match &node.value {
        Value::Selector(Selector::Header(_)) => true,
        Value::Table(table) => !table.entries.is_empty(),
        _ => false,
    }
}

/// A handler reads `env` and `secrets` by the same call: a name is in one of them.
fn twice_named(sink: &mut Sink<'_>, name: &str, function: &Table) {
    let (Some(env), Some(secrets)) = (function.table("env"), function.table("secrets")) else {
        return;
    };
    for (variable, secret) in &secrets.entries {
        if let Some(plain) = env.get(variable) {
            let message = format!("`{variable}` of function `{name}` is in env and in secrets");
            let label = "expected another name, found the one of env";
            let help = "remove one of the two: the handler reads both by name";
            let draft = Draft::error(secret.key_span.clone(), message, label, help);
            sink.add(draft.with(plain.key_span.clone(), "it is in env here"));
        }
    }
}
