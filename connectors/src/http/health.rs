//! What the HTTP source says of itself, for readiness and metrics. Reading it costs nothing to it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use hyper::StatusCode;

/// The source at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it takes requests.
    pub listening: bool,
    /// Connections that are open.
    pub connections: u64,
    /// Connections that were turned away, because there were too many.
    pub turned_away: u64,
    /// The requests that were answered.
    pub requests: Vec<Count>,
}

/// How many requests of a path were answered with a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The path, as in the plan; none for requests of paths that it does not have.
    pub path: Option<String>,
    /// The status.
    pub status: u16,
    /// How many.
    pub requests: u64,
}

/// A handle on the status of the source. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Inner>);

/// How many answers there were of each status.
pub(super) type Statuses = Mutex<BTreeMap<u16, u64>>;

#[derive(Debug, Default)]
struct Inner {
    listening: AtomicBool,
    connections: AtomicU64,
    turned_away: AtomicU64,
    /// By path; those of paths that the plan does not have any more stay.
    counts: Mutex<BTreeMap<String, Arc<Statuses>>>,
    /// Of paths that the plan does not have.
    unknown: Statuses,
}

impl Health {
    /// The status now.
    pub fn status(&self) -> Status {
        let mut requests = Vec::new();
        let mut add = |path: Option<&String>, counts: &Statuses| {
            requests.extend(lock(counts).iter().map(|(status, requests)| Count {
                path: path.cloned(),
                status: *status,
                requests: *requests,
            }));
        };
        for (path, counts) in &*lock(&self.0.counts) {
            add(Some(path), counts);
        }
        add(None, &self.0.unknown);
        Status {
            listening: self.0.listening.load(Relaxed),
            connections: self.0.connections.load(Relaxed),
            turned_away: self.0.turned_away.load(Relaxed),
            requests,
        }
    }

    /// Where answers to requests of a path are counted.
    pub(super) fn of(&self, path: &str) -> Arc<Statuses> {
        lock(&self.0.counts)
            .entry(path.to_owned())
            .or_default()
            .clone()
    }

    pub(super) fn listening(&self, yes: bool) {
        self.0.listening.store(yes, Relaxed);
    }

    /// Counts a connection as open until the guard is dropped.
    pub(super) fn connected(&self) -> Connected {
        self.0.connections.fetch_add(1, Relaxed);
        Connected(self.clone())
    }

    pub(super) fn turned_away(&self) {
        self.0.turned_away.fetch_add(1, Relaxed);
    }

    /// Counts an answer to a request of a path.
    pub(super) fn answered(&self, path: Option<&Statuses>, status: StatusCode) {
        let counts = path.unwrap_or(&self.0.unknown);
        *lock(counts).entry(status.as_u16()).or_default() += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that is open.
pub(super) struct Connected(Health);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Relaxed);
    }
}
