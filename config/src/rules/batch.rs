//! Batches that their function has no room for, or that their broker never fills.

use bytesize::ByteSize;

use crate::{
    sink::{Draft, Sink, Span},
    tree::Table,
};

pub(super) fn check(sink: &mut Sink<'_>, root: &Table, name: &str, trigger: &Table) {
    if let Some(batch) = trigger.table("batch") {
        fits_memory(sink, root, name, trigger, batch);
        fits_prefetch(sink, name, trigger, batch);
    }
}

/// The handler has the whole batch in its memory.
fn fits_memory(sink: &mut Sink<'_>, root: &Table, name: &str, trigger: &Table, batch: &Table) {
    let wanted = trigger.string("function");
    let functions = root.table("functions");
    let Some(function) = functions.and_then(|functions| functions.table(&wanted)) else {
        return;
    };
    let (bytes, memory) = (batch.whole("bytes"), function.whole("memory"));
    let Some(node) = function
        .get("memory")
        .filter(|_| 0 < memory && memory <= bytes)
    else {
        return;
    };
    let shown = |bytes| ByteSize(bytes).display().iec().to_string();
    let message =
        format!("a batch of trigger `{name}` may be larger than the memory of function `{wanted}`");
    let label = format!(
        "expected less than {}, found {}",
        shown(memory),
        shown(bytes)
    );
    let help = "lower `batch.bytes`, or raise `memory` of the function";
    let mut draft = Draft::error(at(batch, "bytes"), message, label, help).warning();
    if node.given {
        draft = draft.with(node.span.clone(), "its memory");
    }
    sink.add(draft);
}

/// The broker sends no more messages until some of those it sent are settled.
fn fits_prefetch(sink: &mut Sink<'_>, name: &str, trigger: &Table, batch: &Table) {
    let Some(amqp) = trigger.table("amqp") else {
        return;
    };
    let (max, prefetch) = (batch.whole("max"), amqp.whole("prefetch"));
    let Some(node) = amqp
        .get("prefetch")
        .filter(|_| 0 < prefetch && prefetch < max)
    else {
        return;
    };
    let message = format!("a batch of trigger `{name}` waits for more messages than it can hold");
    let label = format!("expected at most {prefetch}, the prefetch of its queue, found {max}");
    let help = format!(
        "set `batch.max` to {prefetch} or less, or `prefetch` to {max} or more: the broker keeps the others until some are settled"
    );
    let mut draft = Draft::error(at(batch, "max"), message, label, help).warning();
    if node.given {
        draft = draft.with(node.span.clone(), "the prefetch is here");
    }
    sink.add(draft);
}

/// Where a batch says something, or else where it stands.
fn at(batch: &Table, key: &str) -> Span {
    batch
        .get(key)
        .map_or(&batch.span, |node| &node.span)
        .clone()
}
