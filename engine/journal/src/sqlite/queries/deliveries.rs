//! Deliveries and their events.

use rusqlite::{Connection, OptionalExtension, Result, Row};
use tidemill_core::{
    delivery::{Delivery, Redrive, Seq, Work},
    event::Event,
    identity::DeliveryId,
    time::Timestamp,
    turn::Turn,
};

use super::{
    cached,
    columns::{At, Data, Id, json, read_fields},
    count, int,
};
use crate::{Found, Pending};

/// What [`read_delivery`] reads, and after it what a dead letter has besides.
pub(super) const DELIVERY: &str = "SELECT seq, d.id, trigger, work, attempts, accepted, due, lane, key, \
    remember, redrive_of, redrive_original, e.id, source, type, subject, time, datacontenttype, \
    traceparent, hops, headers, data, cause, reason, died \
    FROM deliveries d JOIN events e USING (event)";

pub fn pending(
    conn: &Connection,
    trigger: &str,
    after: Option<(Timestamp, Seq)>,
    limit: usize,
) -> Result<Vec<Pending>> {
    const COLUMNS: &str = "SELECT seq, id, trigger, due, size FROM deliveries INDEXED BY pending \
         WHERE died IS NULL AND blocked = 0";
    let read = |row: &Row<'_>| {
        Ok(Pending {
            seq: row.get(0)?,
            id: row.get::<_, Id>(1)?.0,
            trigger: row.get(2)?,
            due: row.get::<_, At>(3)?.0,
            size: row.get::<_, i64>(4)? as usize,
        })
    };
    let (due, seq) = after.unwrap_or((Timestamp(i64::MIN), Seq::MIN));
    // In two steps, because one condition over both columns would walk all deliveries of that time.
    let sql = format!("{COLUMNS} AND trigger = ?1 AND due = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4");
    let mut found = Vec::new();
    for row in conn
        .prepare_cached(&sql)?
        .query_map((trigger, due.0, seq, int(limit)), read)?
    {
        found.push(row?);
    }
    let sql = format!("{COLUMNS} AND trigger = ?1 AND due > ?2 ORDER BY due, seq LIMIT ?3");
    let rest = int(limit - found.len());
    for row in conn
        .prepare_cached(&sql)?
        .query_map((trigger, due.0, rest), read)?
    {
        found.push(row?);
    }
    Ok(found)
}

pub fn pending_triggers(conn: &Connection) -> Result<Vec<(String, u64)>> {
    // Not from a union that is grouped, which would be sorted first.
    let sql = "SELECT trigger, count(*) + (SELECT count(*) FROM deliveries AS other \
        INDEXED BY blocked WHERE other.blocked = 1 AND other.trigger = deliveries.trigger) \
        FROM deliveries INDEXED BY pending WHERE died IS NULL AND blocked = 0 GROUP BY trigger";
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64));
    conn.prepare_cached(sql)?.query_map([], read)?.collect()
}

/// Where somebody is blocked, somebody else is not: the first who came.
pub fn is_busy(conn: &Connection, trigger: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM deliveries INDEXED BY pending \
        WHERE died IS NULL AND blocked = 0 AND trigger = ?1 LIMIT 1";
    conn.prepare_cached(sql)?.exists([trigger])
}

/// Of the two counts the larger one: some may be in both.
pub fn ahead(conn: &Connection, trigger: &str, turn: &Turn, limit: usize) -> Result<usize> {
    let mut most = 0;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    for (column, index, name) in [
        ("lane", "lane_turns", &turn.lane),
        ("key", "key_turns", &turn.key),
    ] {
        let Some(name) = name else {
            continue;
        };
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM deliveries INDEXED BY {index} \
             WHERE died IS NULL AND trigger = ?1 AND {column} = ?2 LIMIT ?3)"
        );
        let count: i64 = cached(conn, &sql)?.query_row((trigger, name, limit), |row| row.get(0))?;
        most = most.max(count);
    }
    Ok(usize::try_from(most).unwrap_or(usize::MAX))
}

/// `running` is how long engines have run on this journal, in milliseconds, as far as is known here.
pub fn find(conn: &Connection, id: DeliveryId, running: i64) -> Result<Option<Found>> {
    let sql = format!("{DELIVERY} WHERE d.id = ?1");
    let kept = cached(conn, &sql)?
        .query_row([id.0], read_delivery)
        .optional()?;
    if let Some(delivery) = kept {
        return Ok(Some(Found::Kept(Box::new(delivery.event))));
    }
    // Beside a running engine, only the journal knows how long that has run.
    let sql = "SELECT fingerprint FROM event_ids \
        WHERE delivery = ?1 AND expires > max(?2, (SELECT running FROM meta))";
    conn.prepare_cached(sql)?
        .query_row((id.0, running), |row| Ok(Found::Remembered(row.get(0)?)))
        .optional()
}

pub fn deliveries(conn: &Connection, seqs: &[Seq]) -> Result<Vec<Option<Delivery>>> {
    let sql = format!("{DELIVERY} WHERE seq = ?1 AND died IS NULL");
    let mut read = conn.prepare_cached(&sql)?;
    let each = seqs.iter();
    each.map(|seq| read.query_row([seq], read_delivery).optional())
        .collect()
}

/// Deliveries waiting or running, counted one by one.
pub fn count_pending(conn: &Connection) -> Result<u64> {
    let free =
        "SELECT count(*) FROM deliveries INDEXED BY pending WHERE died IS NULL AND blocked = 0";
    let blocked = "SELECT count(*) FROM deliveries INDEXED BY blocked WHERE blocked = 1";
    Ok(count(conn, free)? + count(conn, blocked)?)
}

pub(super) fn read_delivery(row: &Row<'_>) -> Result<Delivery> {
    let redrive = match row.get::<_, Option<Id>>(10)? {
        Some(Id(of)) => Some(Redrive {
            of,
            original: row.get(11)?,
        }),
        None => None,
    };
    let work = match row.get_ref(3)?.as_str_or_null()? {
        Some(text) => Work::Outbox(json(text, 3)?),
        None => Work::Handle,
    };
    Ok(Delivery {
        seq: row.get(0)?,
        id: row.get::<_, Id>(1)?.0,
        trigger: row.get(2)?,
        work,
        attempts: row.get(4)?,
        accepted: row.get::<_, At>(5)?.0,
        due: row.get::<_, At>(6)?.0,
        lane: row.get(7)?,
        key: row.get(8)?,
        remember: row.get(9)?,
        redrive,
        event: Event {
            id: row.get(12)?,
            source: row.get(13)?,
            kind: row.get(14)?,
            subject: row.get(15)?,
            time: row.get::<_, At>(16)?.0,
            datacontenttype: row.get(17)?,
            traceparent: row.get(18)?,
            hops: row.get(19)?,
            headers: read_fields(row, 20)?,
            data: row.get::<_, Data>(21)?.0,
        },
    })
}
