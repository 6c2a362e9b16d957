//! What a Kafka consumer says of itself, for readiness and metrics. Reading it costs nothing to the
//! connector.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

/// A consumer at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether it is a member of its group, reads the partitions it was given (none, if the group has
    /// more members than there are partitions), and nothing is wrong.
    pub ready: bool,
    /// Why it does not read at the moment, or not all.
    pub trouble: Option<String>,
    /// Partitions that it reads.
    pub partitions: usize,
    /// Records that the intake holds.
    pub held: usize,
    /// Whether it reads no more until some of those are settled.
    pub full: bool,
    /// Records that were given to the intake.
    pub offered: u64,
    /// Records that the intake let go.
    pub settled: u64,
    /// Records that claim to be CloudEvents, and are none. They were offered as plain records.
    pub broken: u64,
    /// Partitions that turned out to be those of a topic that was deleted and made anew.
    pub anew: u64,
}

/// A handle on the status of a connector. Clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<watch::Sender<Inner>>);

#[derive(Clone, Debug, Default)]
struct Inner {
    status: Status,
    joined: bool,
    troubles: BTreeMap<Trouble, String>,
}

/// What can be wrong, the most telling first. Each is told and withdrawn by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// The brokers do not answer, or refuse the login.
    Brokers,
    /// The client gave up and begins anew.
    Client,
    /// Topics do not exist, or may not be read.
    Topics,
    /// The group does not take the consumer, or does not say its offsets.
    Group,
    /// The journal does not say what it has of the partitions.
    Journal,
    /// Records cannot be fetched.
    Fetch,
}

impl Health {
    pub(super) fn new() -> Health {
        Health(Arc::new(watch::Sender::new(Inner::default())))
    }

    /// The status now.
    pub fn status(&self) -> Status {
        self.0.borrow().status.clone()
    }

    /// Waits until the status is as wanted.
    pub async fn reached(&self, mut wanted: impl FnMut(&Status) -> bool) {
        // The sender lives as long as this handle.
        let mut changes = self.0.subscribe();
        let _ = changes.wait_for(|inner| wanted(&inner.status)).await;
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Status)) {
        self.0.send_modify(|inner| change(&mut inner.status));
    }

    /// Whether it is a member of its group.
    pub(super) fn joined(&self, joined: bool) {
        self.0.send_modify(|inner| {
            inner.joined = joined;
            inner.settle();
        });
    }

    pub(super) fn has(&self, trouble: Trouble) -> bool {
        self.0.borrow().troubles.contains_key(&trouble)
    }

    /// Tells of trouble, or that there is none; logged when it begins and when it ends.
    pub(super) fn tell(&self, source: &str, trouble: Trouble, text: Option<String>) {
        let had = self.has(trouble);
        match (&text, had) {
            (Some(text), false) => tracing::warn!(source, "{text}"),
            (None, true) => tracing::info!(source, "{} again", trouble.mended()),
            (None, false) => return,
            (Some(_), true) => {}
        }
        self.0.send_modify(|inner| {
            match text {
                Some(text) => inner.troubles.insert(trouble, text),
                None => inner.troubles.remove(&trouble),
            };
            inner.settle();
        });
    }
}

impl Inner {
    fn settle(&mut self) {
        self.status.trouble = self.troubles.values().next().cloned();
        self.status.ready = self.joined && self.status.trouble.is_none();
    }
}

impl Trouble {
    /// What is the case when it is over.
    fn mended(self) -> &'static str {
        match self {
            Trouble::Brokers => "the brokers answer",
            Trouble::Client => "the client works",
            Trouble::Topics => "the topics can be read",
            Trouble::Group => "the group takes the consumer",
            Trouble::Journal => "the journal answers",
            Trouble::Fetch => "records come",
        }
    }
}
