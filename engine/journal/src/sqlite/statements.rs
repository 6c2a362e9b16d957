//! The SQL of the writer, each statement prepared once for the life of the connection.

use rusqlite::{Connection, Statement};

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident: $sql:expr;)*) => {
        /// The prepared statements.
        pub struct Statements<'c> { $($(#[$doc])* pub $name: Statement<'c>,)* }

        impl<'c> Statements<'c> {
            /// Prepares them all.
            pub fn new(conn: &'c Connection) -> rusqlite::Result<Self> {
                Ok(Statements { $($name: conn.prepare($sql)?,)* })
            }
        }
    };
}

/// Unblocks the first that is pending in one way, if it is blocked, and first in the other way too.
macro_rules! pass_on {
    ($one:literal, $index:literal, $other:literal, $other_index:literal) => {
        concat!(
            "UPDATE deliveries SET blocked = 0 WHERE seq = \
             (SELECT seq FROM deliveries INDEXED BY ",
            $index,
            " WHERE died IS NULL AND trigger = ?1 AND ",
            $one,
            " = ?2 ORDER BY seq LIMIT 1) AND blocked = 1 AND NOT EXISTS \
             (SELECT 1 FROM deliveries AS ahead INDEXED BY ",
            $other_index,
            " WHERE ahead.died IS NULL AND ahead.trigger = ?1 AND ahead.",
            $other,
            " = deliveries.",
            $other,
            " AND ahead.seq < deliveries.seq) RETURNING seq, id, due, size"
        )
    };
}

statements! {
    begin: "BEGIN IMMEDIATE";
    commit: "COMMIT";
    rollback: "ROLLBACK";
    page_count: "PRAGMA page_count";
    freelist_count: "PRAGMA freelist_count";
    /// Gives (busy, frames in the log, frames carried over).
    checkpoint: "PRAGMA wal_checkpoint(PASSIVE)";
    save_meta: "UPDATE meta SET seq = ?1, version = ?2, running = ?3";

    // Checks.
    delivery_state: "SELECT event, shared, attempts, size, died IS NOT NULL, \
        lane IS NOT NULL OR key IS NOT NULL FROM deliveries WHERE seq = ?1";
    shared_state: "SELECT deliveries, spoiled FROM shared WHERE event = ?1";
    delivery_known: "SELECT seq FROM deliveries WHERE id = ?1";
    /// (id, the running time)
    event_id_known: "SELECT 1 FROM event_ids WHERE delivery = ?1 AND expires > ?2";
    version: "SELECT version FROM kv WHERE store = ?1 AND key = ?2";
    ledger_entry: "SELECT etag, size, modified, deletes FROM ledger WHERE bucket = ?1 AND key = ?2";
    /// (trigger, key, now)
    key_known: "SELECT 1 FROM keys WHERE trigger = ?1 AND key = ?2 AND expires > ?3";
    cursor: "SELECT at, definition FROM cursors WHERE schedule = ?1";
    watermark: "SELECT watermark FROM partitions WHERE trigger = ?1 AND consumers = ?2 AND partition = ?3";
    offsets_above: "SELECT at FROM completed WHERE trigger = ?1 AND consumers = ?2 AND partition = ?3";

    // Deliveries.
    insert_event: "INSERT INTO events (event, id, source, type, subject, time, datacontenttype, \
        traceparent, hops, headers, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    insert_shared: "INSERT INTO shared (event, deliveries, spoiled) VALUES (?1, ?2, 0)";
    insert_delivery: "INSERT INTO deliveries (seq, event, shared, id, trigger, work, attempts, \
        accepted, due, size, lane, key, remember, blocked, redrive_of, redrive_original, \
        cause, reason, died) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, \
        ?16, ?17, ?18, ?19)";
    insert_attempt: "INSERT INTO attempts (delivery, position, attempt, started, ended, outcome, \
        reason, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    delete_event: "DELETE FROM events WHERE event = ?1";
    delete_shared: "DELETE FROM shared WHERE event = ?1";
    update_shared: "UPDATE shared SET deliveries = deliveries - 1, spoiled = max(spoiled, ?2) WHERE event = ?1";
    delete_delivery: "DELETE FROM deliveries WHERE seq = ?1";
    delete_attempts: "DELETE FROM attempts WHERE delivery = ?1";
    retry: "UPDATE deliveries SET attempts = attempts + 1, due = ?2 WHERE seq = ?1";
    die: "UPDATE deliveries SET attempts = attempts + 1, cause = ?2, reason = ?3, died = ?4, \
        blocked = 0 WHERE seq = ?1";

    // Turns.
    place: "SELECT trigger, lane, key FROM deliveries WHERE seq = ?1";
    in_lane: "SELECT 1 FROM deliveries INDEXED BY lane_turns WHERE died IS NULL AND trigger = ?1 AND lane = ?2";
    with_key: "SELECT 1 FROM deliveries INDEXED BY key_turns WHERE died IS NULL AND trigger = ?1 AND key = ?2";
    /// (trigger, lane)
    pass_lane: pass_on!("lane", "lane_turns", "key", "key_turns");
    /// (trigger, key)
    pass_key: pass_on!("key", "key_turns", "lane", "lane_turns");

    // The rest of a unit.
    set_value: "INSERT INTO kv (store, key, version, value) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT DO UPDATE SET version = excluded.version, value = excluded.value";
    delete_value: "DELETE FROM kv WHERE store = ?1 AND key = ?2";
    set_ledger: "INSERT INTO ledger (bucket, key, etag, size, modified, deletes) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET etag = excluded.etag, \
        size = excluded.size, modified = excluded.modified, deletes = excluded.deletes";
    note: "INSERT OR IGNORE INTO ledger (bucket, key, etag, size, modified, deletes) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    /// Those that the ledger stands at.
    delete_noticed: "DELETE FROM written WHERE bucket = ?1 AND EXISTS (SELECT 1 FROM ledger \
        WHERE ledger.bucket = ?1 AND ledger.key = written.key AND ledger.etag = written.etag)";
    set_bucket: "INSERT INTO buckets (bucket, began, complete, deletes) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT DO UPDATE SET began = excluded.began, complete = excluded.complete, \
        deletes = excluded.deletes";
    /// (bucket, seen to be gone before, with at most so many deletes, at most so many)
    forget_keys: "DELETE FROM ledger WHERE bucket = ?1 AND key IN \
        (SELECT key FROM ledger INDEXED BY ledger_gone WHERE bucket = ?1 AND etag IS NULL \
        AND modified < ?2 AND deletes <= ?3 ORDER BY modified LIMIT ?4)";
    delete_written: "DELETE FROM written WHERE bucket = ?1 AND key = ?2 AND etag = ?3";
    /// Not if the ledger stands at it already.
    set_written: "INSERT INTO written (bucket, key, etag, hops) SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS \
        (SELECT 1 FROM ledger WHERE bucket = ?1 AND key = ?2 AND etag = ?3) \
        ON CONFLICT DO UPDATE SET etag = excluded.etag, hops = excluded.hops";
    set_event_id: "INSERT INTO event_ids (delivery, expires, fingerprint) VALUES (?1, ?2, ?3) \
        ON CONFLICT DO UPDATE SET expires = excluded.expires, fingerprint = excluded.fingerprint";
    set_key: "INSERT OR REPLACE INTO keys (trigger, key, delivery, completed, expires, fingerprint, \
        status, headers, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    set_cursor: "INSERT INTO cursors (schedule, at, definition) VALUES (?1, ?2, ?3) \
        ON CONFLICT DO UPDATE SET at = excluded.at, definition = excluded.definition";
    set_watermark: "INSERT OR REPLACE INTO partitions (trigger, consumers, partition, watermark, stamp) \
        VALUES (?1, ?2, ?3, ?4, ?5)";
    forget_partition: "DELETE FROM partitions WHERE trigger = ?1 AND consumers = ?2 AND partition = ?3";
    set_offset: "INSERT OR IGNORE INTO completed (trigger, consumers, partition, at) VALUES (?1, ?2, ?3, ?4)";
    forget_offsets: "DELETE FROM completed WHERE trigger = ?1 AND consumers = ?2 AND partition = ?3";
    /// What the watermark has passed.
    forget_passed: "DELETE FROM completed WHERE trigger = ?1 AND consumers = ?2 AND partition = ?3 AND at < ?4";
    add_usage: "INSERT INTO usage (function, day, invocations, wall_us, busy_us, memory) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET \
        invocations = invocations + excluded.invocations, wall_us = wall_us + excluded.wall_us, \
        busy_us = busy_us + excluded.busy_us, memory = memory + excluded.memory";

    // What has expired, the oldest first, at most ?2. To remove makes SQLite set up a table of its own, even for
    // nothing, so it is known before whether there is any.
    first_expiry: "SELECT min(expires) FROM event_ids";
    has_expired_keys: "SELECT 1 FROM keys WHERE expires <= ?1";
    sweep_event_ids: "DELETE FROM event_ids WHERE delivery IN \
        (SELECT delivery FROM event_ids WHERE expires <= ?1 ORDER BY expires LIMIT ?2)";
    sweep_usage: "DELETE FROM usage WHERE day < ?1";
    sweep_keys: "DELETE FROM keys WHERE (trigger, key) IN \
        (SELECT trigger, key FROM keys WHERE expires <= ?1 ORDER BY expires LIMIT ?2)";
}
