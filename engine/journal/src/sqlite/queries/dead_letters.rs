//! Dead letters.

use rusqlite::{Connection, OptionalExtension, Result, Row};
use tidemill_core::{
    delivery::{AttemptRecord, DeadLetter, Seq},
    identity::DeliveryId,
};

use super::{
    columns::{At, Id, Name, cause},
    count,
    deliveries::{DELIVERY, read_delivery},
    int,
};
use crate::{DeadLetterFilter, DeadLetterLine};

pub fn dead_letters(
    conn: &Connection,
    filter: &DeadLetterFilter,
    after: Option<Seq>,
    limit: usize,
) -> Result<Vec<DeadLetterLine>> {
    let sql = "SELECT seq, d.id, trigger, source, subject, cause, reason, attempts, died \
        FROM deliveries d INDEXED BY dead JOIN events e USING (event) \
        WHERE died IS NOT NULL AND seq > ?1 \
        AND (?2 IS NULL OR trigger IN (SELECT value FROM json_each(?2))) \
        AND (?3 IS NULL OR cause IN (SELECT value FROM json_each(?3))) \
        AND (?4 IS NULL OR instr(reason, ?4) > 0) AND died >= ?5 AND died < ?6 \
        ORDER BY seq LIMIT ?7";
    let causes: Vec<_> = filter.causes.iter().map(|cause| cause.as_str()).collect();
    let since = filter.since.map_or(i64::MIN, |at| at.0);
    let until = filter.until.map_or(i64::MAX, |at| at.0);
    let after = after.unwrap_or(Seq::MIN);
    let read = |row: &Row<'_>| {
        Ok(DeadLetterLine {
            seq: row.get(0)?,
            id: row.get::<_, Id>(1)?.0,
            trigger: row.get(2)?,
            source: row.get(3)?,
            subject: row.get(4)?,
            cause: cause(row, 5)?,
            reason: row.get(6)?,
            attempts: row.get(7)?,
            died: row.get::<_, At>(8)?.0,
        })
    };
    let filter = (
        after,
        any_of(&filter.triggers),
        any_of(&causes),
        &filter.reason,
        since,
        until,
        int(limit),
    );
    conn.prepare_cached(sql)?.query_map(filter, read)?.collect()
}

/// The values as a JSON array; nothing, if any will do.
fn any_of<T: AsRef<str>>(values: &[T]) -> Option<String> {
    let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    (!values.is_empty()).then(|| serde_json::Value::from(values).to_string())
}

pub fn dead_letter(conn: &Connection, id: DeliveryId) -> Result<Option<DeadLetter>> {
    let sql = format!("{DELIVERY} WHERE d.id = ?1 AND died IS NOT NULL");
    let read = |row: &Row<'_>| {
        Ok(DeadLetter {
            delivery: read_delivery(row)?,
            cause: cause(row, 22)?,
            reason: row.get(23)?,
            died: row.get::<_, At>(24)?.0,
            history: Vec::new(),
        })
    };
    let mut found = conn
        .prepare_cached(&sql)?
        .query_row([id.0], read)
        .optional()?;
    if let Some(letter) = &mut found {
        letter.history = history(conn, letter.delivery.seq)?;
    }
    Ok(found)
}

fn history(conn: &Connection, seq: Seq) -> Result<Vec<AttemptRecord>> {
    let sql = "SELECT attempt, started, ended, outcome, reason, digest FROM attempts \
        WHERE delivery = ?1 ORDER BY position";
    let read = |row: &Row<'_>| {
        Ok(AttemptRecord {
            attempt: row.get(0)?,
            started: row.get::<_, At>(1)?.0,
            ended: row.get::<_, At>(2)?.0,
            outcome: row.get::<_, Name<_>>(3)?.0,
            reason: row.get(4)?,
            digest: row.get(5)?,
        })
    };
    conn.prepare_cached(sql)?.query_map([seq], read)?.collect()
}

/// Dead letters.
pub fn count_dead(conn: &Connection) -> Result<u64> {
    let dead = "SELECT count(*) FROM deliveries INDEXED BY dead WHERE died IS NOT NULL";
    count(conn, dead)
}
