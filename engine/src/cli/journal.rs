//! `tidemill journal stats`: what the journal holds, and how much room it takes.

use std::{fs, path::Path};

use clap::Subcommand;
use serde::Serialize;
use tidemill_journal::{Contents, DeliveriesOf, Journal, StoreOf};

use super::{ConfigArg, Failure, reader::Reader, table::table};
use crate::assemble;

/// What to do with the journal.
#[derive(Debug, Subcommand)]
pub(super) enum JournalCommand {
    /// Show what the journal holds, and how much room it takes. Reads all of it; the engine may run.
    Stats {
        /// Answer in JSON, one object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// The journal as it is shown. Sizes are in bytes, times RFC 3339.
#[derive(Serialize)]
struct JournalView {
    /// Its file.
    path: String,
    /// The file's size.
    file: u64,
    /// Bytes of the file that are unused: the next events take them.
    unused: u64,
    /// The size of the log of changes beside it.
    log: u64,
    /// The size at which sources pause.
    limit: u64,
    deliveries: Vec<DeliveriesView>,
    stores: Vec<StoreView>,
    buckets: Vec<BucketCount>,
    /// Idempotency keys that are remembered, by trigger.
    idempotency_keys: Vec<KeysView>,
    /// Event ids that are remembered.
    event_ids: u64,
    /// Records of Kafka that are completed above the watermarks of their partitions.
    records_ahead: u64,
    /// Functions and days of which the usage is kept.
    usage: u64,
}

#[derive(Serialize)]
struct DeliveriesView {
    /// The trigger; `NAME/outbox` are what its handlers' answers wait for.
    trigger: String,
    /// Waiting or running.
    pending: u64,
    /// Those of them behind another one of their lane or key.
    blocked: u64,
    /// Dead letters.
    dead: u64,
    /// Of all their events.
    bytes: u64,
    /// When the oldest pending one was accepted.
    oldest_pending: Option<String>,
    /// When the first of the dead letters was given up.
    oldest_dead: Option<String>,
}

#[derive(Serialize)]
struct StoreView {
    store: String,
    keys: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct BucketCount {
    bucket: String,
    objects: u64,
    /// Keys that went lately.
    gone: u64,
}

#[derive(Serialize)]
struct KeysView {
    trigger: String,
    keys: u64,
}

impl JournalCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let JournalCommand::Stats { json, config } = self;
        let plan = config.plan()?;
        let path = assemble::journal_path(&plan.engine);
        let reader = Reader::open(&plan)?;
        let contents = reader.runtime.block_on(reader.journal.contents())?;
        let view = view(&path, plan.engine.journal_limit, contents);
        match json {
            true => outln!("{}", serde_json::to_string(&view)?),
            false => out!("{}", text(&view)),
        }
        Ok(())
    }
}

fn view(path: &Path, limit: u64, contents: Contents) -> JournalView {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let deliveries = |of: DeliveriesOf| DeliveriesView {
        trigger: of.trigger,
        pending: of.pending,
        blocked: of.blocked,
        dead: of.dead,
        bytes: of.bytes,
        oldest_pending: of.oldest.map(|at| at.to_string()),
        oldest_dead: of.died.map(|at| at.to_string()),
    };
    let store = |StoreOf { store, keys, bytes }| StoreView { store, keys, bytes };
    let buckets = contents.ledgers.into_iter();
    let keys = contents.keys.into_iter();
    JournalView {
        path: path.display().to_string(),
        file: contents.file,
        unused: contents.unused,
        log: fs::metadata(log).map_or(0, |log| log.len()),
        limit,
        deliveries: contents.deliveries.into_iter().map(deliveries).collect(),
        stores: contents.stores.into_iter().map(store).collect(),
        buckets: buckets
            .map(|(bucket, count)| BucketCount {
                bucket,
                objects: count.objects,
                gone: count.gone,
            })
            .collect(),
        idempotency_keys: keys
            .map(|(trigger, keys)| KeysView { trigger, keys })
            .collect(),
        event_ids: contents.event_ids,
        records_ahead: contents.completed,
        usage: contents.usage,
    }
}

fn text(view: &JournalView) -> String {
    let mut text = format!(
        "{}\n  {} and {} of changes; {} of it are unused; sources pause at {}\n",
        view.path,
        size(view.file),
        size(view.log),
        size(view.unused),
        size(view.limit)
    );
    let mut part = |head: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&columns(head, rows));
        }
    };
    let time = |at: &Option<String>| at.clone().unwrap_or_default();
    part(
        &[
            "deliveries of",
            "pending",
            "blocked",
            "dead",
            "size",
            "oldest pending",
            "oldest dead",
        ],
        rows(&view.deliveries, |of| {
            vec![
                of.trigger.clone(),
                of.pending.to_string(),
                of.blocked.to_string(),
                of.dead.to_string(),
                size(of.bytes),
                time(&of.oldest_pending),
                time(&of.oldest_dead),
            ]
        }),
    );
    part(
        &["store", "keys", "size"],
        rows(&view.stores, |of| {
            vec![of.store.clone(), of.keys.to_string(), size(of.bytes)]
        }),
    );
    part(
        &["bucket", "objects", "gone lately"],
        rows(&view.buckets, |of| {
            vec![
                of.bucket.clone(),
                of.objects.to_string(),
                of.gone.to_string(),
            ]
        }),
    );
    part(
        &["remembered", "count"],
        [
            ("event ids".to_owned(), view.event_ids),
            ("records ahead".to_owned(), view.records_ahead),
            ("days of usage".to_owned(), view.usage),
        ]
        .into_iter()
        .chain(view.idempotency_keys.iter().map(|of| {
            let what = format!("idempotency keys of {}", of.trigger);
            (what, of.keys)
        }))
        .map(|(what, count)| vec![what, count.to_string()])
        .collect(),
    );
    text
}

fn rows<T>(all: &[T], row: impl Fn(&T) -> Vec<String>) -> Vec<Vec<String>> {
    all.iter().map(row).collect()
}

fn columns(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head = head.iter().map(|&name| name.to_owned()).collect();
    let all: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    table(&all, 1)
}

/// A size for a person.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}
