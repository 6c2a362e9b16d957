//! What is known of buckets.

use rusqlite::{Connection, OptionalExtension, Result, Row};
use tidemill_core::{
    ledger::{BucketState, Gone, LedgerCount, LedgerEntry},
    time::Timestamp,
};

use super::{cached, columns::At, int};

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
