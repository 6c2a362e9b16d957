//! What is read from the journal: each function is one query of [`crate::Journal`]. Nothing here
//! writes.

mod columns;
mod dead_letters;
mod deliveries;
mod ledger;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Result, Row};
use tidemill_core::{
    outcome::{Reply, Usage},
    schedule::Cursor,
    time::Timestamp,
    watermark::Progress,
};

use crate::{KeyDone, PartitionOf, Stats, UsageEntry, UsageFilter, Versioned};
pub use columns::Id;
use columns::{At, Data, read_fields};
pub use dead_letters::{count_dead, dead_letter, dead_letters};
pub use deliveries::{ahead, count_pending, deliveries, find, is_busy, pending, pending_triggers};
pub use ledger::{bucket, gone, hops, ledger, ledger_count, ledger_page, ledger_range};

pub fn kv_get(conn: &Connection, store: &str, key: &str) -> Result<Option<Versioned>> {
    let sql = "SELECT value, version FROM kv WHERE store = ?1 AND key = ?2";
    let read = |row: &Row<'_>| {
        Ok(Versioned {
            value: row.get::<_, Data>(0)?.0,
            version: row.get(1)?,
        })
    };
    conn.prepare_cached(sql)?
        .query_row((store, key), read)
        .optional()
}

pub fn kv_keys(
    conn: &Connection,
    store: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>> {
    let sql = match after {
        Some(_) => "SELECT key FROM kv WHERE store = ?1 AND key > ?2 ORDER BY key LIMIT ?3",
        None => "SELECT key FROM kv WHERE store = ?1 AND ?2 IS NULL ORDER BY key LIMIT ?3",
    };
    let mut statement = conn.prepare_cached(sql)?;
    statement
        .query_map((store, after, int(limit)), |row| row.get(0))?
        .collect()
}

pub fn cursor(conn: &Connection, schedule: &str) -> Result<Option<Cursor>> {
    let sql = "SELECT at, definition FROM cursors WHERE schedule = ?1";
    let read = |row: &Row<'_>| {
        Ok(Cursor {
            at: row.get::<_, At>(0)?.0,
            definition: row.get(1)?,
        })
    };
    conn.prepare_cached(sql)?
        .query_row([schedule], read)
        .optional()
}

pub fn progress(conn: &Connection, of: &PartitionOf) -> Result<Option<Progress>> {
    const WHERE: &str = "WHERE trigger = ?1 AND consumers = ?2 AND partition = ?3";
    let place = (&of.trigger, &of.group, &of.partition);
    let sql = format!("SELECT watermark, stamp FROM partitions {WHERE}");
    let partition = cached(conn, &sql)?
        .query_row(place, |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((watermark, stamp)) = partition else {
        return Ok(None);
    };
    let sql = format!("SELECT at FROM completed {WHERE} ORDER BY at");
    let mut above = cached(conn, &sql)?;
    let rows = above.query_map(place, |row| row.get(0))?;
    Ok(Some(Progress {
        watermark,
        stamp,
        completed: rows.collect::<Result<_>>()?,
    }))
}

pub fn key_done(
    conn: &Connection,
    trigger: &str,
    key: &str,
    now: Timestamp,
) -> Result<Option<KeyDone>> {
    let sql = "SELECT trigger, key, delivery, completed, expires, fingerprint, status, headers, body \
        FROM keys WHERE trigger = ?1 AND key = ?2 AND expires > ?3";
    let read = |row: &Row<'_>| {
        let body: Option<Data> = row.get(8)?;
        let status = row.get(6)?;
        let headers = read_fields(row, 7)?;
        Ok(KeyDone {
            trigger: row.get(0)?,
            key: row.get(1)?,
            delivery: row.get::<_, Id>(2)?.0,
            completed: row.get::<_, At>(3)?.0,
            expires: row.get::<_, At>(4)?.0,
            fingerprint: row.get(5)?,
            reply: body.map(|Data(body)| Reply {
                status,
                headers,
                body,
            }),
        })
    };
    conn.prepare_cached(sql)?
        .query_row((trigger, key, now.0), read)
        .optional()
}

pub fn usage(conn: &Connection, filter: &UsageFilter) -> Result<Vec<UsageEntry>> {
    let sql = "SELECT function, day, invocations, wall_us, busy_us, memory FROM usage \
        WHERE (?1 IS NULL OR function = ?1) AND day >= ?2 AND day <= ?3 ORDER BY function, day";
    let days = (
        filter.since.unwrap_or(i64::MIN),
        filter.until.unwrap_or(i64::MAX),
    );
    let count = |row: &Row<'_>, column| row.get::<_, i64>(column).map(|number| number as u64);
    let read = |row: &Row<'_>| {
        let used = Usage {
            wall_us: count(row, 3)?,
            busy_us: count(row, 4)?,
            memory: count(row, 5)?,
        };
        Ok(UsageEntry {
            function: row.get(0)?,
            day: row.get(1)?,
            invocations: count(row, 2)?,
            used,
        })
    };
    conn.prepare_cached(sql)?
        .query_map((&filter.function, days.0, days.1), read)?
        .collect()
}

/// `running` as in [`find`].
pub fn has_expired(
    conn: &Connection,
    now: Timestamp,
    running: i64,
    usage_before: i64,
) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM keys WHERE expires <= ?1) \
        OR EXISTS (SELECT 1 FROM event_ids WHERE expires <= ?2) \
        OR EXISTS (SELECT 1 FROM usage WHERE day < ?3)";
    cached(conn, sql)?.query_row((now.0, running, usage_before), |row| row.get(0))
}

/// The bytes are those of the file alone: how long the log is, only the writer knows.
pub fn stats(conn: &Connection) -> Result<Stats> {
    let pages = count(conn, "PRAGMA page_count")? - count(conn, "PRAGMA freelist_count")?;
    Ok(Stats {
        pending: count_pending(conn)?,
        dead: count_dead(conn)?,
        bytes: pages * count(conn, "PRAGMA page_size")?,
    })
}

fn count(conn: &Connection, sql: &str) -> Result<u64> {
    let number = cached(conn, sql)?.query_row([], |row| row.get::<_, i64>(0));
    number.map(|number| number as u64)
}

fn cached<'c>(conn: &'c Connection, sql: &str) -> Result<CachedStatement<'c>> {
    conn.prepare_cached(sql)
}

fn int(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
