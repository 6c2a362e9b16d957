//! Follows the tables of a database by Debezium's change records on Kafka, in batches: keeps the latest row of each
//! primary key in the store `rows`, and emits `row.changed` for each change.
//!
//! ```toml
//! [functions.debezium]
//! component = "functions/build/debezium.wasm"
//! allow = { store = ["rows"], emit = ["row.changed"] }
//!
//! [triggers.shop]
//! function = "debezium"
//! kafka = { connection = "changes", topics = ["shop.public.customers"], group = "tidemill" }
//! batch = { max = 500, wait = "200ms", bytes = "4MiB" }
//! ```
//!
//! It reads the JSON of Debezium's `JsonConverter`, with or without schemas. A row is kept under its table and the key
//! of its message, such as `shop.public.customers {"id":1004}`. Kafka keeps the changes of a row in order; should one
//! come late all the same, as after a redrive, it changes nothing. Of a deleted row its place in the order is kept, for
//! the same reason.

mod change;
mod kept;

use serde::Serialize;
use serde_json::value::RawValue;
use tidemill_sdk::{Event, Failure, batch_handler, emit, kv, log};

use crate::{
    change::{Change, Found, Op},
    kept::Kept,
};

/// The data of `row.changed`.
#[derive(Serialize)]
struct RowChanged<'a> {
    table: &'a str,
    key: &'a RawValue,
    op: Op,
    before: Option<&'a RawValue>,
    after: Option<&'a RawValue>,
    /// When the change was made in the database, in milliseconds since the Unix epoch.
    ts_ms: Option<u64>,
}

fn follow(event: Event) -> Result<(), Failure> {
    let change = match Change::read(event.subject(), event.data()).map_err(Failure::reject)? {
        Found::Change(change) => change,
        Found::Nothing => return Ok(()),
    };
    let name = change.name();
    let rows = kv::open("rows")?;
    let before = rows.get(&name)?;
    let before: Option<Kept> = before.as_deref().map(serde_json::from_slice).transpose()?;
    if before.is_some_and(|kept| change.position.is_before(&kept.position)) {
        log::info!("a late change is left out"; row = name);
        return Ok(());
    }
    let kept = Kept {
        row: change.after,
        position: change.position,
    };
    rows.set(&name, serde_json::to_vec(&kept)?)?;
    let changed = RowChanged {
        table: &change.table,
        key: &change.key,
        op: change.op,
        before: change.before,
        after: change.after,
        ts_ms: kept.position.ts_ms,
    };
    emit::event("row.changed")
        .subject(name)
        .json(&changed)
        .send()?;
    Ok(())
}

batch_handler!(each = follow);
