//! The floor's journal: a SQLite file with the greedy group commit that the engine's journal has too. What
//! arrives while one commit is made durable is the next one. What is written is the caller's matter.

use std::{path::Path, thread::JoinHandle};

use anyhow::{Context, Result};
use rusqlite::{Connection, params};
use tokio::sync::mpsc;

/// What may wait for the writer, and the most in one commit.
const QUEUE: usize = 4096;

/// A writer that commits what it is sent.
pub struct Commits<T> {
    pub sender: mpsc::Sender<T>,
    thread: JoinHandle<Result<()>>,
}

impl<T: Send + 'static> Commits<T> {
    /// Makes the file with these tables, and starts the writer. What was sent for a commit is given to `durable`,
    /// in the order it came in.
    pub fn open(
        path: &Path,
        tables: &str,
        mut write: impl FnMut(&Connection, &T) -> rusqlite::Result<()> + Send + 'static,
        mut durable: impl FnMut(Vec<T>) + Send + 'static,
    ) -> Result<Commits<T>> {
        let connection = Connection::open(path).context("the floor's file does not open")?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.execute_batch(tables)?;
        let (sender, mut queue) = mpsc::channel::<T>(QUEUE);
        let thread = std::thread::spawn(move || {
            let mut begin = connection.prepare("BEGIN IMMEDIATE")?;
            let mut commit = connection.prepare("COMMIT")?;
            while let Some(first) = queue.blocking_recv() {
                begin.execute([])?;
                let mut group = Vec::new();
                let mut next = Some(first);
                while let Some(one) = next.take() {
                    write(&connection, &one)?;
                    group.push(one);
                    next = if group.len() < QUEUE {
                        queue.try_recv().ok()
                    } else {
                        None
                    };
                }
                commit.execute([])?;
                durable(group);
            }
            Ok(())
        });
        Ok(Commits { sender, thread })
    }

    /// Waits until all is durable, once nobody has a sender any more.
    pub fn close(self) -> Result<()> {
        drop(self.sender);
        self.thread.join().expect("the writer does not panic")
    }
}

impl<T: Send + 'static> Commits<(String, T)> {
    /// A writer that remembers ids, with what belongs to each.
    pub fn of_ids(
        path: &Path,
        durable: impl FnMut(Vec<(String, T)>) + Send + 'static,
    ) -> Result<Commits<(String, T)>> {
        let table = "CREATE TABLE ids (id TEXT PRIMARY KEY, expires INTEGER) WITHOUT ROWID, STRICT";
        Commits::open(path, table, insert_id, durable)
    }
}

fn insert_id<T>(connection: &Connection, (id, _): &(String, T)) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO ids VALUES (?1, ?2)")?;
    insert.execute(params![id, 604_800_000])?;
    Ok(())
}
