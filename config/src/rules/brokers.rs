//! Queues and topics: what librdkafka may not be told, groups that would take each other's
//! partitions, and what queues do not promise.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    keys::join,
    reserved,
    sink::{Draft, Sink},
    tree::{Node, Table},
    words::shorten,
};

use super::sharing::{Listener, listeners, name};

pub(super) fn check(sink: &mut Sink<'_>, root: &Table) {
    for (connection, table) in root.tables("connections") {
        if let Some(kafka) = table.table("kafka") {
            own_properties(sink, connection, kafka);
        }
    }
    let group = |kafka| Some((name(kafka, "connection")?, name(kafka, "group")?));
    for ((_, group), listeners) in listeners(root, "kafka", group) {
        for listener in &listeners {
            twice(sink, listener);
        }
        torn(sink, group, &listeners);
    }
    let queue = |amqp| Some((name(amqp, "connection")?, name(amqp, "queue")?));
    let queues = listeners(root, "amqp", queue);
    let mut triggers: Vec<&Listener<'_>> = queues.values().flatten().collect();
    triggers.sort_by_key(|listener| listener.source.span.start);
    no_identity(sink, &triggers);
    if several_nodes(root) {
        one_consumer(sink, &triggers);
    }
}

/// What the engine relies on, nobody may change.
fn own_properties(sink: &mut Sink<'_>, connection: &str, kafka: &Table) {
    let properties = kafka.table("properties").into_iter();
    for (property, node) in properties.flat_map(|properties| &properties.entries) {
        let Some(why) = reserved::kafka_property(property) else {
            continue;
        };
        let message =
            format!("connection `{connection}` sets `{property}`, which is not for a file to set");
        let label = format!("expected another property: {why}");
        let draft = Draft::error(node.key_span.clone(), message, label, "remove it");
        sink.add(draft);
    }
}

fn topics<'t>(listener: &Listener<'t>) -> impl Iterator<Item = (&'t str, &'t Node)> + use<'t> {
    let nodes = listener.source.get("topics").map_or(&[][..], Node::list);
    let named = |node: &'t Node| Some((node.string()?, node));
    nodes.iter().filter_map(named)
}

fn twice(sink: &mut Sink<'_>, listener: &Listener<'_>) {
    let mut seen: BTreeMap<&str, &Node> = BTreeMap::new();
    for (topic, node) in topics(listener) {
        let Some(first) = seen.insert(topic, node) else {
            continue;
        };
        let message = format!("trigger `{}` names topic `{topic}` twice", listener.name);
        let label = "expected another topic, found it again";
        let draft = Draft::error(node.span.clone(), message, label, "remove one of the two");
        sink.add(draft.with(first.span.clone(), "it is here already"));
    }
}

/// Triggers of the same topics share one consumer. Those of others have another one, and if both
/// were in one group, each record of a common topic would go to one of the two only.
fn torn(sink: &mut Sink<'_>, group: &str, listeners: &[Listener<'_>]) {
    // Each list of topics gets a number: long ones would take long to compare for each topic.
    let mut lists: BTreeMap<BTreeSet<&str>, usize> = BTreeMap::new();
    // Each topic with the first trigger that reads it; one conflict of a trigger is enough.
    let mut readers: BTreeMap<&str, (&Listener<'_>, usize, &Node)> = BTreeMap::new();
    for listener in listeners {
        let next = lists.len();
        let names = topics(listener).map(|(topic, _)| topic).collect();
        let mine = *lists.entry(names).or_insert(next);
        let mut found = None;
        for (topic, node) in topics(listener) {
            let (other, theirs, at) = *readers.entry(topic).or_insert((listener, mine, node));
            if theirs != mine && found.is_none() {
                found = Some((topic, node, other, at));
            }
        }
        let Some((topic, node, other, at)) = found else {
            continue;
        };
        let (topic, group) = (shorten(topic), shorten(group));
        let message = format!(
            "triggers `{}` and `{}` would take topic `{topic}` from each other",
            other.name, listener.name
        );
        let label = format!(
            "expected a topic of no other trigger in group `{group}`, unless all their topics are the same"
        );
        let help = "give one of them another `group`, and each gets all records; or give both the same `topics` and choose with `filter`";
        let draft = Draft::error(node.span.clone(), message, label, help);
        let label = format!("trigger `{}` reads it in the same group", other.name);
        sink.add(draft.with(at.span.clone(), label));
    }
}

/// A message has an identity if its publisher gives it one. One warning for all: many do.
fn no_identity(sink: &mut Sink<'_>, triggers: &[&Listener<'_>]) {
    let open = triggers
        .iter()
        .filter(|listener| listener.trigger.get("idempotency").is_none());
    let open: Vec<_> = open.copied().collect();
    let Some((first, node)) = first(&open, |listener| listener.source.get("queue")) else {
        return;
    };
    let message = format!(
        "messages without a message-id are not de-duplicated in {}",
        named(&open)
    );
    let label = format!(
        "expected publishers that set message-id, or `idempotency` in trigger `{}`",
        first.name
    );
    let help = "add idempotency = { key = \"$.order_id\" } with what makes a message unique, unless all publishers set message-id";
    sink.add(Draft::error(node.span.clone(), message, label, help).warning());
}

/// A queue deals its messages out to all its consumers, and each node is one.
fn one_consumer(sink: &mut Sink<'_>, triggers: &[&Listener<'_>]) {
    let ordered = triggers
        .iter()
        .filter(|listener| listener.trigger.get("order_by").is_some());
    let ordered: Vec<_> = ordered.copied().collect();
    let Some((_, node)) = first(&ordered, |listener| listener.trigger.get("order_by")) else {
        return;
    };
    let message = format!("several nodes keep no order in {}", named(&ordered));
    let label =
        "expected a queue with one consumer: each node is one, and gets some of the messages";
    let help = "declare the queue with x-single-active-consumer, or read it with one node only";
    sink.add(Draft::error(node.span.clone(), message, label, help).warning());
}

fn first<'l, 't>(
    listeners: &[&'l Listener<'t>],
    node: impl Fn(&Listener<'t>) -> Option<&'t Node>,
) -> Option<(&'l Listener<'t>, &'t Node)> {
    let first = listeners.first()?;
    Some((first, node(first)?))
}

/// The names of some triggers.
fn named(listeners: &[&Listener<'_>]) -> String {
    const MOST: usize = 4;
    let names = listeners.iter().take(MOST);
    let names = names.map(|listener| format!("`{}`", listener.name));
    let names = match listeners.len().saturating_sub(MOST) {
        0 => join(names, "and"),
        more => join(names.chain([format!("{more} more")]), "and"),
    };
    let plural = if listeners.len() > 1 { "s" } else { "" };
    format!("trigger{plural} {names}")
}

/// Only a journal that is a database of its own has several nodes.
fn several_nodes(root: &Table) -> bool {
    let journal = root
        .table("engine")
        .and_then(|engine| engine.get("journal"));
    journal.is_some_and(|journal| journal.given && journal.string() != Some("sqlite"))
}
