//! Notifications of buckets: which stores send them, what it takes to receive them, and ways that two
//! buckets would take each other's.

use crate::{
    plan::{Provider, Store},
    sink::{Draft, Sink},
    tree::{Node, Table, Value},
};

use super::sharing::{listeners, name};

/// Where a bucket's notifications come by, told from others by these keys.
struct Way {
    key: &'static str,
    identity: &'static [&'static str],
    /// What it is, for a person.
    what: &'static str,
}

const WAYS: [Way; 1] = [Way {
    key: "sqs",
    identity: &["queue"],
    what: "queue",
}];

pub(super) fn check(sink: &mut Sink<'_>, root: &Table) {
    let mut notified: Vec<(&str, &Node, &Table)> = Vec::new();
    for (bucket, listeners) in listeners(root, "bucket", |source| name(source, "name")) {
        // Triggers that disagree are told so elsewhere.
        let first = listeners.first();
        let Some(node) = first.and_then(|listener| listener.source.get("notify")) else {
            continue;
        };
        let Some(table) = node.table() else { continue };
        sends(sink, root, bucket, node, table);
        notified.push((bucket, node, table));
    }
    notified.sort_by_key(|(_, node, _)| node.span.start);
    taken_twice(sink, &notified);
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

/// Of a message that two buckets fetch, only one hears.
fn taken_twice(sink: &mut Sink<'_>, notified: &[(&str, &Node, &Table)]) {
    for (n, (bucket, _, notify)) in notified.iter().enumerate() {
        for way in &WAYS {
            let identity = |notify: &&Table| -> Option<Vec<Value>> {
                let table = notify.table(way.key)?;
                let values = way.identity.iter().map(|key| table.get(key));
                values.map(|node| Some(node?.value.clone())).collect()
            };
            let Some(mine) = identity(notify) else {
                continue;
            };
            let mut before = notified[..n].iter();
            let same = before.find(|(_, _, other)| identity(other).as_ref() == Some(&mine));
            let (Some((other, _, theirs)), Some(node)) = (same, notify.get(way.key)) else {
                continue;
            };
            let what = way.what;
            let message =
                format!("buckets `{other}` and `{bucket}` would take each other's notifications");
            let label = format!("expected a {what} that no other bucket has");
            let help = format!(
                "have the store send the notifications of each bucket to a {what} of its own"
            );
            let draft = Draft::error(node.span.clone(), message, label, help);
            let first = theirs.get(way.key).map_or(0..0, |node| node.span.clone());
            sink.add(draft.with(first, format!("bucket `{other}` has it already")));
        }
    }
}
