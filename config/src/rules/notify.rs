//! Notifications of buckets: which stores send them, what it takes to receive them, and ways that two
//! buckets would take each other's.

use crate::{
    plan::{Provider, Store},
    sink::{Draft, Sink, Span},
    tree::{Node, Table, Value},
};

use super::sharing::{listeners, name};

/// Where a bucket's notifications come by, told from others by these keys.
struct Way {
    key: &'static str,
    /// The key of triggers to which the same messages may come; empty, there is none.
    source: &'static str,
    identity: &'static [&'static str],
    /// What it is, for a person.
    what: &'static str,
}

static WAYS: [Way; 4] = [
    Way {
        key: "sqs",
        source: "",
        identity: &["queue"],
        what: "queue",
    },
    Way {
        key: "webhook",
        source: "http",
        identity: &["path"],
        what: "path",
    },
    Way {
        key: "amqp",
        source: "amqp",
        identity: &["connection", "queue"],
        what: "queue",
    },
    Way {
        key: "kafka",
        source: "kafka",
        identity: &["connection", "group"],
        what: "group",
    },
];

pub(super) fn check(sink: &mut Sink<'_>, root: &Table) {
    let mut notified: Vec<(&str, &Table)> = Vec::new();
    for (bucket, listeners) in listeners(root, "bucket", |source| name(source, "name")) {
        // Triggers that disagree are told so elsewhere.
        let first = listeners.first();
        let Some(node) = first.and_then(|listener| listener.source.get("notify")) else {
            continue;
        };
        let Some(table) = node.table() else { continue };
        sends(sink, root, bucket, node, table);
        notified.push((bucket, table));
    }
    taken_twice(sink, root, &notified);
}

/// Folders are watched, and other stores send other records, or none.
fn sends(sink: &mut Sink<'_>, root: &Table, bucket: &str, node: &Node, notify: &Table) {
    let declared = root
        .table("buckets")
        .and_then(|buckets| buckets.table(bucket));
    let Some(declared) = declared else { return };
    let Some(url) = declared.get("url") else {
        return;
    };
    let Value::Store(store) = &url.value else {
        return;
    };
    let help = match store {
        Store::Remote {
            provider: Provider::S3,
            ..
        } => return unsigned(sink, bucket, declared, notify),
        Store::File { .. } => "remove `notify`: a folder is watched",
        Store::Remote { .. } => "remove `notify`, and list the bucket more often: set `rescan`",
    };
    let message = format!("bucket `{bucket}` is not on s3:// and sends no notifications");
    let label = "expected a bucket on s3://, found another";
    let draft = Draft::error(node.key_span.clone(), message, label, help);
    sink.add(draft.with(url.span.clone(), "the bucket is named here"));
}

/// A queue of AWS wants to know who asks.
fn unsigned(sink: &mut Sink<'_>, bucket: &str, declared: &Table, notify: &Table) {
    let options = declared.table("options");
    let anonymous = options.and_then(|options| options.get("anonymous"));
    let (Some(anonymous), Some(sqs)) = (anonymous, notify.get("sqs")) else {
        return;
    };
    if anonymous.value != Value::Flag(true) {
        return;
    }
    let message =
        format!("bucket `{bucket}` is read without credentials, and its queue needs some");
    let label = "expected a bucket with credentials: the queue is asked with those of the bucket";
    let help = "remove `anonymous = true`, or remove `notify`";
    let draft = Draft::error(sqs.key_span.clone(), message, label, help);
    sink.add(draft.with(anonymous.span.clone(), "no credentials, it says here"));
}

/// Somebody to whom messages come.
struct Taker<'t> {
    who: String,
    way: &'static Way,
    identity: Vec<&'t Value>,
    span: &'t Span,
    /// Whether they are notifications.
    notified: bool,
}

/// Of a message that two fetch, only one hears.
fn taken_twice(sink: &mut Sink<'_>, root: &Table, notified: &[(&str, &Table)]) {
    let mut takers = Vec::new();
    for way in &WAYS {
        for (bucket, notify) in notified {
            takers.extend(way.taker(format!("bucket `{bucket}`"), notify, way.key, true));
        }
        for (name, trigger) in root.tables("triggers") {
            takers.extend(way.taker(format!("trigger `{name}`"), trigger, way.source, false));
        }
    }
    takers.sort_by_key(|taker| taker.span.start);
    for (n, taker) in takers.iter().enumerate() {
        let same = |other: &&Taker<'_>| {
            (other.way.key, &other.identity) == (taker.way.key, &taker.identity)
                && (other.notified || taker.notified)
        };
        let Some(other) = takers[..n].iter().find(same) else {
            continue;
        };
        let what = taker.way.what;
        let message = format!(
            "{} and {} would take each other's messages",
            other.who, taker.who
        );
        let label = format!("expected a {what} that nobody else has");
        let help =
            format!("have the store send the notifications of a bucket to a {what} of its own");
        let draft = Draft::error(taker.span.clone(), message, label, help);
        sink.add(draft.with(other.span.clone(), format!("{} has it already", other.who)));
    }
}

impl Way {
    fn taker<'t>(
        &'static self,
        who: String,
        table: &'t Table,
        key: &str,
        notified: bool,
    ) -> Option<Taker<'t>> {
        let node = table.get(key)?;
        let table = node.table()?;
        let values = self.identity.iter().map(|key| Some(&table.get(key)?.value));
        Some(Taker {
            who,
            way: self,
            identity: values.collect::<Option<_>>()?,
            span: &node.span,
            notified,
        })
    }
}
