//! Queues: messages of RabbitMQ and records of Kafka, held by their broker until they are done.

mod amqp;
mod kafka;

use std::collections::BTreeMap;

use crate::harness::Site;

/// How often each event was counted by the probe, by its message.
fn counted(site: &Site, prefix: &str) -> BTreeMap<String, u64> {
    let journal = site.journal();
    let sql = "SELECT key, CAST(value AS TEXT) FROM kv WHERE store = 'probe'";
    let mut rows = journal.prepare(sql).expect("the table is there");
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    let rows = rows.query_map([], read).expect("it is read");
    let counter = |row: rusqlite::Result<(String, String)>| {
        let (key, count) = row.expect("it is read");
        Some((key.strip_prefix(prefix)?.to_owned(), count.parse().ok()?))
    };
    rows.filter_map(counter).collect()
}
