//! All that is in the journal, counted by whole tables.

use rusqlite::{Connection, Result, Row};
use tidemill_core::{ledger::LedgerCount, time::Timestamp};

use crate::{Contents, DeliveriesOf, StoreOf};

pub fn contents(conn: &Connection) -> Result<Contents> {
    let count = |sql: &str| conn.query_row(sql, [], |row| number(row, 0));
    let page = count("PRAGMA page_size")?;
    Ok(Contents {
        deliveries: deliveries(conn)?,
        event_ids: count("SELECT count(*) FROM event_ids")?,
        keys: rows(
            conn,
            "SELECT trigger, count(*) FROM keys GROUP BY trigger",
            |row| Ok((row.get(0)?, number(row, 1)?)),
        )?,
        stores: rows(
            conn,
            "SELECT store, count(*), sum(length(CAST(key AS BLOB)) + length(value)) \
             FROM kv GROUP BY store",
            |row| {
                Ok(StoreOf {
                    store: row.get(0)?,
                    keys: number(row, 1)?,
                    bytes: number(row, 2)?,
                })
            },
        )?,
        ledgers: rows(
            conn,
            "SELECT bucket, count(etag), count(*) - count(etag) FROM ledger GROUP BY bucket",
            |row| {
                let (objects, gone) = (number(row, 1)?, number(row, 2)?);
                Ok((row.get(0)?, LedgerCount { objects, gone }))
            },
        )?,
        completed: count("SELECT count(*) FROM completed")?,
        usage: count("SELECT count(*) FROM usage")?,
        file: count("PRAGMA page_count")? * page,
        unused: count("PRAGMA freelist_count")? * page,
    })
}

fn deliveries(conn: &Connection) -> Result<Vec<DeliveriesOf>> {
    let sql = "SELECT trigger, count(*) - count(died), sum(blocked), count(died), sum(size), \
        min(CASE WHEN died IS NULL THEN accepted END), min(died) \
        FROM deliveries GROUP BY trigger";
    let time = |row: &Row<'_>, column| row.get::<_, Option<i64>>(column);
    rows(conn, sql, |row| {
        Ok(DeliveriesOf {
            trigger: row.get(0)?,
            pending: number(row, 1)?,
            blocked: number(row, 2)?,
            dead: number(row, 3)?,
            bytes: number(row, 4)?,
            oldest: time(row, 5)?.map(Timestamp),
            died: time(row, 6)?.map(Timestamp),
        })
    })
}

fn rows<T>(
    conn: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    conn.prepare(sql)?.query_map([], read)?.collect()
}

fn number(row: &Row<'_>, column: usize) -> Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}
