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

/// Quick queries that share a transaction. Beginning and ending one costs more than most of them.
const TOGETHER: usize = 32;

/// Runs with an open transaction, or is told why there is none.
type Work = Box<dyn FnOnce(Result<&Connection, &JournalError>) + Send>;

struct Query {
    /// It reads a few rows by their keys: others may wait for its end.
    quick: bool,
    work: Work,
}

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
            let name = path.display().to_string();
            // The one idle thread that has the lock waits for the query, the others for the lock.
            let next = move || gather(&mut lock(&queue));
            let body = move || {
                while let Some(queries) = next() {
                    answer(&conn, &name, queries);
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
        self.ask(false, query).await
    }

    /// The same for a query that reads a few rows by their keys. Those that wait together run
    /// together.
    pub async fn look<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.ask(true, query).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        quick: bool,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let Some(queue) = lock(&self.queue).clone() else {
            return Err(JournalError::Closed);
        };
        let (answer, answered) = oneshot::channel();
        let path = self.path.clone();
        let work: Work = Box::new(move |conn| {
            if answer.is_closed() {
                return;
            }
            _ = answer.send(match conn {
                Ok(conn) => query(conn).map_err(|error| fault::classify(conn, &path, &error)),
                Err(error) => Err(error.clone()),
            });
        });
        let query = Query { quick, work };
        queue.send(query).await.map_err(|_| JournalError::Closed)?;
        drop(queue);
        answered.await.map_err(|_| JournalError::Closed)?
    }
}

/// The next query, and the quick ones behind it. A query that may take long comes last: nobody waits for it.
fn gather(queue: &mut mpsc::Receiver<Query>) -> Option<Vec<Query>> {
    let mut queries = vec![queue.blocking_recv()?];
    while queries.len() < TOGETHER && queries.last().is_some_and(|last| last.quick) {
        match queue.try_recv() {
            Ok(query) => queries.push(query),
            Err(_) => break,
        }
    }
    Some(queries)
}

/// Answers them in one transaction, which begins after all of them were asked.
fn answer(conn: &Connection, path: &str, queries: Vec<Query>) {
    let transaction = conn.unchecked_transaction();
    let open = match &transaction {
        Ok(_) => Ok(conn),
        Err(error) => Err(fault::classify(conn, path, error)),
    };
    for query in queries {
        (query.work)(open.as_ref().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_behind_a_query_that_may_take_long() {
        let (sender, mut queue) = mpsc::channel(QUEUE);
        let ask = |quick| {
            let query = Query {
                quick,
                work: Box::new(|_| ()),
            };
            sender.try_send(query).expect("there is room");
        };
        for quick in [true, true, false, true, false] {
            ask(quick);
        }
        (0..=TOGETHER).for_each(|_| ask(true));
        let mut together = || gather(&mut queue).expect("there is one").len();
        assert_eq!(
            [together(), together(), together(), together()],
            [3, 2, TOGETHER, 1]
        );
    }
}
