//! The journal, read by plain SQL from outside the engine.

use std::collections::BTreeMap;

use rusqlite::{Connection, OpenFlags};

use super::Site;

impl Site {
    /// Reads the journal's file.
    pub fn journal(&self) -> Connection {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        Connection::open_with_flags(self.path("data/journal.db"), flags).expect("the journal opens")
    }

    /// The value of a key, as text.
    pub fn key(&self, store: &str, key: &str) -> Option<String> {
        let sql = "SELECT value FROM kv WHERE store = ?1 AND key = ?2";
        let found = self
            .journal()
            .query_row(sql, [store, key], |row| row.get::<_, Vec<u8>>(0));
        found
            .ok()
            .map(|value| String::from_utf8(value).expect("UTF-8"))
    }

    /// The probe's counters whose names begin so, by the rest of their names.
    pub fn counters(&self, prefix: &str) -> BTreeMap<String, u64> {
        let journal = self.journal();
        let sql = "SELECT substr(key, length(?1) + 1), CAST(CAST(value AS TEXT) AS INTEGER) FROM kv \
            WHERE store = 'probe' AND substr(key, 1, length(?1)) = ?1";
        let mut rows = journal.prepare(sql).expect("the table is there");
        let rows = rows.query_map([prefix], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)));
        let counter = |row: rusqlite::Result<(String, i64)>| {
            let (key, count) = row.expect("it is read");
            (key, count.cast_unsigned())
        };
        rows.expect("it is read").map(counter).collect()
    }

    /// How many counters of the probe have names that begin so.
    pub fn count(&self, prefix: &str) -> usize {
        let sql =
            "SELECT count(*) FROM kv WHERE store = 'probe' AND key >= ?1 AND key < ?1 || x'ff'";
        let count = self
            .journal()
            .query_row(sql, [prefix], |row| row.get::<_, i64>(0));
        usize::try_from(count.expect("it is counted")).expect("a count")
    }

    /// How many dead letters there are.
    pub fn dead_letters(&self) -> usize {
        self.succeeds(&["dead-letters", "list", "--json", "--limit", "1000000"])
            .lines()
            .count()
    }
}
