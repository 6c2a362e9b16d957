//! What is read from the journal: each function is one query of [`crate::Journal`]. Nothing here
//! writes.

use bytes::Bytes;
use rusqlite::{
    CachedStatement, Connection, OptionalExtension, Result, Row,
    types::{FromSql, FromSqlError, FromSqlResult, Type, ValueRef},
};
use serde::de::{DeserializeOwned, value::StrDeserializer};
use tidemill_core::{
    delivery::{AttemptRecord, Cause, DeadLetter, Delivery, Redrive, Seq, Work},
    event::{Event, Field},
    identity::DeliveryId,
    ledger::{BucketState, Gone, LedgerCount, LedgerEntry},
    outcome::{Reply, Usage},
    schedule::Cursor,
    time::Timestamp,
    turn::Turn,
    watermark::Progress,
};

use crate::{
    DeadLetterFilter, DeadLetterLine, Found, KeyDone, PartitionOf, Pending, Stats, UsageEntry,
    UsageFilter, Versioned,
};

const DELIVERY: &str = "SELECT seq, d.id, trigger, work, attempts, accepted, due, lane, key, \
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

const LEDGER: &str = "SELECT key, etag, size, modified, deletes FROM ledger WHERE bucket = ?1";

pub fn ledger(conn: &Connection, bucket: &str, keys: Vec<String>) -> Result<Vec<LedgerEntry>> {
    let mut statement = conn.prepare_cached(&format!("{LEDGER} AND key = ?2"))?;
    let mut found = Vec::new();
    for key in keys {
        found.extend(statement.query_row((bucket, key), read_ledger).optional()?);
    }
    Ok(found)
}

pub fn ledger_page(
    conn: &Connection,
    bucket: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<LedgerEntry>> {
    // Every key sorts at or after the empty one.
    let compare = if after.is_some() { ">" } else { ">=" };
    let sql = format!("{LEDGER} AND key {compare} ?2 AND etag IS NOT NULL ORDER BY key LIMIT ?3");
    let mut statement = conn.prepare_cached(&sql)?;
    statement
        .query_map((bucket, after.unwrap_or(""), int(limit)), read_ledger)?
        .collect()
}

pub fn ledger_range(
    conn: &Connection,
    bucket: &str,
    after: Option<String>,
    until: Option<String>,
    limit: usize,
) -> Result<Vec<LedgerEntry>> {
    // Every key sorts at or after the empty one.
    let compare = if after.is_some() { ">" } else { ">=" };
    let end = match until {
        Some(_) => "AND key <= ?4",
        None => "AND ?4 IS NULL",
    };
    let sql = format!("{LEDGER} AND key {compare} ?2 {end} ORDER BY key LIMIT ?3");
    let range = (bucket, after.unwrap_or_default(), int(limit), until);
    cached(conn, &sql)?.query_map(range, read_ledger)?.collect()
}

fn read_ledger(row: &Row<'_>) -> Result<LedgerEntry> {
    Ok(LedgerEntry {
        key: row.get(0)?,
        etag: row.get(1)?,
        size: row.get::<_, i64>(2)? as u64,
        modified: row.get::<_, At>(3)?.0,
        deletes: row.get(4)?,
    })
}

pub fn bucket(conn: &Connection, bucket: &str) -> Result<Option<BucketState>> {
    let sql = "SELECT began, complete, deletes FROM buckets WHERE bucket = ?1";
    let read = |row: &Row<'_>| {
        Ok(BucketState {
            began: row.get::<_, At>(0)?.0,
            complete: row.get(1)?,
            deletes: row.get(2)?,
        })
    };
    cached(conn, sql)?.query_row([bucket], read).optional()
}

pub fn gone(conn: &Connection, bucket: &str, before: Timestamp, limit: usize) -> Result<Gone> {
    let sql = "SELECT count(*), max(deletes) FROM \
        (SELECT deletes FROM ledger INDEXED BY ledger_gone \
        WHERE bucket = ?1 AND etag IS NULL AND modified < ?2 ORDER BY modified LIMIT ?3)";
    cached(conn, sql)?.query_row((bucket, before.0, int(limit)), |row| {
        Ok(Gone {
            keys: row.get::<_, i64>(0)? as u64,
            deletes: row.get::<_, Option<u32>>(1)?.unwrap_or(0),
        })
    })
}

pub fn ledger_count(conn: &Connection, bucket: &str) -> Result<LedgerCount> {
    let count = |sql| -> Result<u64> {
        let count: i64 = cached(conn, sql)?.query_row([bucket], |row| row.get(0))?;
        Ok(count as u64)
    };
    let all = count("SELECT count(*) FROM ledger WHERE bucket = ?1")?;
    let gone = count(
        "SELECT count(*) FROM ledger INDEXED BY ledger_gone WHERE bucket = ?1 AND etag IS NULL",
    )?;
    Ok(LedgerCount {
        objects: all.saturating_sub(gone),
        gone,
    })
}

pub fn hops(conn: &Connection, object: [String; 3]) -> Result<Option<u32>> {
    let sql = "SELECT hops FROM written WHERE bucket = ?1 AND key = ?2 AND etag = ?3";
    conn.prepare_cached(sql)?
        .query_row(object, |row| row.get(0))
        .optional()
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

/// Deliveries waiting or running, counted one by one.
pub fn count_pending(conn: &Connection) -> Result<u64> {
    let free =
        "SELECT count(*) FROM deliveries INDEXED BY pending WHERE died IS NULL AND blocked = 0";
    let blocked = "SELECT count(*) FROM deliveries INDEXED BY blocked WHERE blocked = 1";
    Ok(count(conn, free)? + count(conn, blocked)?)
}

/// Dead letters.
pub fn count_dead(conn: &Connection) -> Result<u64> {
    let dead = "SELECT count(*) FROM deliveries INDEXED BY dead WHERE died IS NOT NULL";
    count(conn, dead)
}

fn count(conn: &Connection, sql: &str) -> Result<u64> {
    let number = cached(conn, sql)?.query_row([], |row| row.get::<_, i64>(0));
    number.map(|number| number as u64)
}

fn read_delivery(row: &Row<'_>) -> Result<Delivery> {
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

fn read_fields(row: &Row<'_>, column: usize) -> Result<Vec<Field>> {
    match row.get_ref(column)?.as_str_or_null()? {
        Some(text) => json(text, column),
        None => Ok(Vec::new()),
    }
}

fn json<T: DeserializeOwned>(text: &str, column: usize) -> Result<T> {
    let wrong =
        |error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error));
    serde_json::from_str(text).map_err(wrong)
}

fn cause(row: &Row<'_>, column: usize) -> Result<Cause> {
    Ok(row.get::<_, Name<Cause>>(column)?.0)
}

fn cached<'c>(conn: &'c Connection, sql: &str) -> Result<CachedStatement<'c>> {
    conn.prepare_cached(sql)
}

fn int(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

// How the types of core come out of columns.
struct At(Timestamp);
pub struct Id(pub DeliveryId);
struct Data(Bytes);
/// Something whose kebab-case name is stored.
struct Name<T>(T);

impl FromSql for At {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(|at| At(Timestamp(at)))
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(|id| Id(DeliveryId(id)))
    }
}

impl FromSql for Data {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value
            .as_blob()
            .map(|data| Data(Bytes::copy_from_slice(data)))
    }
}

impl<T: DeserializeOwned> FromSql for Name<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = StrDeserializer::<serde::de::value::Error>::new(value.as_str()?);
        T::deserialize(name).map(Name).map_err(FromSqlError::other)
    }
}
