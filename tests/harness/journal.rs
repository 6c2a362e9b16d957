//! The journal, read by plain SQL from outside the engine.

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

    /// How many dead letters there are.
    pub fn dead_letters(&self) -> usize {
        self.succeeds(&["dead-letters", "list", "--json", "--limit", "1000000"])
            .lines()
            .count()
    }
}
