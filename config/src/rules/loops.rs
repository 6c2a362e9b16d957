//! Objects that come back to the trigger they come from.

use crate::{
    build::after,
    plan::After,
    sink::{Draft, Sink, Span},
    tree::{Node, Table},
};

use super::sharing::{self, Listener, listeners};

pub(super) fn check(sink: &mut Sink<'_>, root: &Table) {
    for (bucket, listeners) in listeners(root, "bucket", |bucket| sharing::name(bucket, "name")) {
        for listener in &listeners {
            moved_onto_itself(sink, bucket, listener, &listeners);
            if created(listener) {
                may_write(sink, root, bucket, listener);
                sends_back(sink, bucket, listener);
            }
        }
    }
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
fn may_write(sink: &mut Sink<'_>, root: &Table, bucket: &str, listener: &Listener<'_>) {
    let Some(prefix) = listener.source.get("prefix").and_then(Node::string) else {
        return;
    };
    if !prefix.is_empty() {
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
    let message = format!("function `{function}` may write the bucket that triggers it");
    let label = format!(
        "each object of `{bucket}` triggers `{}`, those it writes too",
        listener.name
    );
    let help = "write to another bucket, or give the trigger a `prefix` that the handler does not write under";
    let draft = Draft::error(name(listener).clone(), message, label, help).warning();
    sink.add(draft.with(grant.span.clone(), "the grant is here"));
}

/// A reply or a dead letter that becomes an object where the trigger listens is its next event.
fn sends_back(sink: &mut Sink<'_>, bucket: &str, listener: &Listener<'_>) {
    for place in ["on_success", "dead_letter"] {
        let to = listener
            .trigger
            .table(place)
            .and_then(|to| to.table("bucket"));
        let Some(to) = to.filter(|to| to.string("name") == bucket) else {
            continue;
        };
        let key = to.string("key").replace("{trigger}", listener.name);
        if key.is_empty() || !may_match(listener, &key) {
            continue;
        }
        let Some(target) = to.get("name") else {
            continue;
        };
        let message = format!(
            "`{place}` of trigger `{}` writes into the bucket that it listens to",
            listener.name
        );
        let label =
            format!("expected a bucket or key that it does not listen to, found `{bucket}`");
        let help =
            "write to another bucket, or begin `key` with what is not the `prefix` of the trigger";
        let draft = Draft::error(target.span.clone(), message, label, help).warning();
        sink.add(draft.with(name(listener).clone(), "the trigger listens here"));
    }
}

/// Whether a key with placeholders can be one that the trigger listens to.
fn may_match(listener: &Listener<'_>, key: &str) -> bool {
    let (start, opened) = key.split_once('{').unwrap_or((key, ""));
    let (closed, end) = key.rsplit_once('}').unwrap_or(("", key));
    let first = opened.split('}').next().unwrap_or_default();
    let last = closed.rsplit('{').next().unwrap_or_default();
    let prefix = listener.source.string("prefix");
    let starts = match prefix.strip_prefix(start) {
        Some(rest) => may_stand_for(first, rest),
        None => start.starts_with(&prefix),
    };
    let ends = |suffix: &String| match suffix.strip_suffix(end) {
        Some(rest) => may_stand_for(last, rest),
        None => end.ends_with(suffix.as_str()),
    };
    let suffixes = listener.source.strings("suffix");
    starts && (suffixes.is_empty() || suffixes.iter().any(ends))
}

/// Types and subjects hold anything, ids and dates do not.
fn may_stand_for(placeholder: &str, part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    matches!(placeholder, "type" | "subject") || part.chars().all(plain)
}

/// Where the trigger names its bucket.
fn name<'t>(listener: &Listener<'t>) -> &'t Span {
    let node = listener.source.get("name");
    node.map_or(&listener.source.span, |node| &node.span)
}
