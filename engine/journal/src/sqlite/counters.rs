//! What is never used twice, the places of deliveries and the versions of values, and how long engines have run.
//!
//! The file is told of numbers before they are given out, many at a time, and of the time once in a while: so not
//! each transaction writes the page that has them. After a crash some numbers are left out, and less than a
//! second is not counted.

use rusqlite::{Connection, Result};
use tidemill_core::delivery::Seq;

use super::statements::Statements;

/// How many numbers the file is told of at a time.
const AHEAD: i64 = 1024;

/// How long engines may have run longer than the file says, in milliseconds.
const BEHIND: i64 = 1000;

/// The counters. They go on when a transaction is taken back: they may skip numbers, never repeat them.
pub struct Counters {
    now: Row,
    /// What the file says, and what it will when the transaction is durable.
    told: Row,
    telling: Row,
}

#[derive(Clone, Copy)]
struct Row {
    /// The last place given to a delivery.
    seq: Seq,
    /// The last version given to a value.
    version: i64,
    /// Milliseconds that engines have run on this journal.
    running: i64,
}

impl Counters {
    /// Goes on where the journal stands.
    pub fn open(conn: &Connection) -> Result<Counters> {
        let now = conn.query_row("SELECT seq, version, running FROM meta", [], |row| {
            Ok(Row {
                seq: row.get(0)?,
                version: row.get(1)?,
                running: row.get(2)?,
            })
        })?;
        Ok(Counters {
            now,
            told: now,
            telling: now,
        })
    }

    /// Milliseconds that engines have run, as the file says.
    pub fn running(&self) -> i64 {
        self.told.running
    }

    /// The last place that was given out.
    pub fn seq(&self) -> Seq {
        self.now.seq
    }

    /// A place for a delivery.
    pub fn next_seq(&mut self) -> Seq {
        self.now.seq += 1;
        self.now.seq
    }

    /// A version for a value.
    pub fn next_version(&mut self) -> i64 {
        self.now.version += 1;
        self.now.version
    }

    /// Within a transaction, after its last number was given out: tells the file, if it is time.
    pub fn tell(&mut self, sql: &mut Statements<'_>, running: i64) -> Result<()> {
        let ahead = |now: i64, told: i64| if now > told { now + AHEAD } else { told };
        let Row { seq, version, .. } = self.telling;
        let next = Row {
            seq: ahead(self.now.seq, seq),
            version: ahead(self.now.version, version),
            running,
        };
        let same = (next.seq, next.version) == (seq, version);
        if same && running < self.telling.running + BEHIND {
            return Ok(());
        }
        self.write(sql, next)
    }

    /// The transaction is durable.
    pub fn committed(&mut self) {
        self.told = self.telling;
    }

    /// The transaction was taken back: the file says what it said before.
    pub fn taken_back(&mut self) {
        self.telling = self.told;
    }

    /// At the end: nothing is to be left out.
    pub fn close(&mut self, sql: &mut Statements<'_>, running: i64) -> Result<()> {
        let last = Row {
            running,
            ..self.now
        };
        self.write(sql, last)
    }

    fn write(&mut self, sql: &mut Statements<'_>, row: Row) -> Result<()> {
        sql.save_meta.execute([row.seq, row.version, row.running])?;
        self.telling = row;
        Ok(())
    }
}
