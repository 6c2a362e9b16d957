//! What the HTTP source says of itself, for readiness and metrics. Reading it costs nothing to it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
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
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

/// How many answers there were of each status.
type Statuses = Mutex<BTreeMap<u16, u64>>;

#[derive(Debug)]
struct Inner {
    listening: AtomicBool,
    connections: AtomicU64,
    turned_away: AtomicU64,
    /// By path; the last is for those that the plan does not have.
    counts: Vec<(Option<String>, Statuses)>,
}

impl Health {
    pub(super) fn new(paths: Vec<String>) -> Health {
        let known = paths.into_iter().map(Some);
        let paths = known.chain([None]);
        Health(Arc::new(Inner {
            listening: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            counts: paths.map(|path| (path, Mutex::default())).collect(),
        }))
    }

    /// The status now.
    pub fn status(&self) -> Status {
        let mut requests = Vec::new();
        for (path, counts) in &self.0.counts {
            let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            requests.extend(counts.iter().map(|(status, requests)| Count {
                path: path.clone(),
                status: *status,
                requests: *requests,
            }));
        }
        Status {
            listening: self.0.listening.load(Relaxed),
            connections: self.0.connections.load(Relaxed),
            turned_away: self.0.turned_away.load(Relaxed),
            requests,
        }
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

    /// Counts an answer to a request of the path of this number.
    pub(super) fn answered(&self, path: Option<usize>, status: StatusCode) {
        let at = path.unwrap_or(self.0.counts.len() - 1);
        let (_, counts) = &self.0.counts[at];
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(status.as_u16()).or_default() += 1;
    }
}

/// A connection that is open.
pub(super) struct Connected(Health);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Relaxed);
    }
}
