//! The floor's journal: a SQLite file that remembers ids, with the greedy group commit that the engine's
//! journal has too. What arrives while one commit is made durable is the next one.

use std::{path::Path, thread::JoinHandle};

use anyhow::{Context, Result};
use rusqlite::Connection;
use tokio::sync::mpsc;

/// Ids that may wait for the writer, and the most in one commit.
const QUEUE: usize = 4096;

/// A writer of ids with what belongs to each.
pub struct Ids<T> {
    pub sender: mpsc::Sender<(String, T)>,
    thread: JoinHandle<Result<()>>,
}

impl<T: Send + 'static> Ids<T> {
    /// Opens the file, and starts the writer. What belongs to the ids of a commit is given to `durable`, in the
    /// order it came in.
    pub fn open(path: &Path, mut durable: impl FnMut(Vec<T>) + Send + 'static) -> Result<Ids<T>> {
        let connection = Connection::open(path).context("the floor's file does not open")?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.execute_batch(
            "CREATE TABLE ids (id TEXT PRIMARY KEY, expires INTEGER) WITHOUT ROWID, STRICT",
        )?;
        let (sender, mut queue) = mpsc::channel::<(String, T)>(QUEUE);
        let thread = std::thread::spawn(move || {
            let mut insert = connection.prepare("INSERT OR IGNORE INTO ids VALUES (?1, ?2)")?;
            let mut begin = connection.prepare("BEGIN IMMEDIATE")?;
            let mut commit = connection.prepare("COMMIT")?;
            while let Some(first) = queue.blocking_recv() {
                begin.execute([])?;
                let mut group = Vec::new();
                let mut next = Some(first);
                while let Some((id, with)) = next.take() {
                    insert.execute((id, 604_800_000))?;
                    group.push(with);
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
        Ok(Ids { sender, thread })
    }

    /// Waits until all is durable.
    pub fn close(self) -> Result<()> {
        drop(self.sender);
        self.thread.join().expect("the writer does not panic")
    }
}
