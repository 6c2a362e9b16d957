//! The readers: a few threads, each with a connection that cannot write, so that no query waits for
//! a commit and none holds one up. A query sees all that was committed before it was asked.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    fault, lock,
    open::{self, OpenError},
    spawn,
};
use crate::JournalError;

/// How many. Queries are short and mostly answered from memory; a long one, such as a search of the
/// dead letters, leaves the others free.
const THREADS: usize = 3;

/// Queries that may wait; more wait at the door.
const QUEUE: usize = 1024;

type Query = Box<dyn FnOnce(&Connection) + Send>;

/// The threads that read.
pub struct Readers {
    path: String,
    queue: Mutex<Option<mpsc::Sender<Query>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    /// Opens the connections and starts the threads.
    pub fn open(path: &Path) -> Result<Readers, OpenError> {
        let (sender, receiver) = mpsc::channel::<Query>(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut threads = Vec::with_capacity(THREADS);
        for _ in 0..THREADS {
            let conn = open::reader(path)?;
            let queue = receiver.clone();
            // The one idle thread that has the lock waits for the query, the others for the lock.
            let next = move || lock(&queue).blocking_recv();
            let body = move || {
                while let Some(query) = next() {
                    query(&conn);
                }
            };
            threads.push(spawn("journal-reader", path, body)?);
        }
        let path = path.display().to_string();
        Ok(Readers {
            path,
            queue: Mutex::new(Some(sender)),
            threads: Mutex::new(threads),
        })
    }

    /// Answers the queries that wait, and closes the connections. Blocks.
    pub fn close(&self) {
        drop(lock(&self.queue).take());
        for thread in lock(&self.threads).drain(..) {
            _ = thread.join();
        }
    }

    /// Runs a query, in a transaction, so that all its statements see the same journal.
    pub async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let Some(queue) = lock(&self.queue).clone() else {
            return Err(JournalError::Closed);
        };
        let (answer, answered) = oneshot::channel();
        let path = self.path.clone();
        let job: Query = Box::new(move |conn| {
            if answer.is_closed() {
                return;
            }
            let result = conn.unchecked_transaction().and_then(|_open| query(conn));
            _ = answer.send(result.map_err(|error| fault::classify(conn, &path, &error)));
        });
        queue.send(job).await.map_err(|_| JournalError::Closed)?;
        drop(queue);
        answered.await.map_err(|_| JournalError::Closed)?
    }
}
