//! What an AMQP connector says of itself, for readiness and metrics. Reading it costs nothing to the
//! connector.

use std::sync::Arc;

use tokio::sync::watch;

/// A connector at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether it consumes its queue.
    pub ready: bool,
    /// Why it does not, or what is not as the plan says.
    pub trouble: Option<String>,
    /// Messages that the intake holds.
    pub held: usize,
    /// Messages that were given to the intake.
    pub offered: u64,
    /// Messages that were acknowledged.
    pub settled: u64,
    /// Of those given to the intake, the ones that had been delivered before.
    pub redelivered: u64,
    /// Messages that claim to be CloudEvents, and are none. They were offered as plain messages.
    pub broken: u64,
    /// How often it began to consume.
    pub sessions: u64,
}

/// A handle on the status of a connector. Clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<watch::Sender<Status>>);

impl Health {
    pub(super) fn new() -> Health {
        Health(Arc::new(watch::Sender::new(Status::default())))
    }

    /// The status now.
    pub fn status(&self) -> Status {
        self.0.borrow().clone()
    }

    /// Waits until the status is as wanted.
    pub async fn reached(&self, mut wanted: impl FnMut(&Status) -> bool) {
        // The sender lives as long as this handle.
        let _ = self.0.subscribe().wait_for(|status| wanted(status)).await;
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Status)) {
        self.0.send_modify(change);
    }

    /// It consumes.
    pub(super) fn works(&self, source: &str) {
        let before = self.status();
        self.change(|status| {
            status.ready = true;
            status.trouble = None;
            status.sessions += 1;
        });
        match before.trouble {
            Some(_) => tracing::info!(source, "the queue is consumed again"),
            None => tracing::info!(source, "the queue is consumed"),
        }
    }

    /// It does not. Logged when that begins, and when the reason is another one than before.
    pub(super) fn fails(&self, source: &str, trouble: String) {
        if self.status().trouble.as_ref() != Some(&trouble) {
            tracing::warn!(source, "{trouble}");
        }
        self.change(|status| {
            status.ready = false;
            status.held = 0;
            status.trouble = Some(trouble);
        });
    }

    /// It has ended.
    pub(super) fn ends(&self) {
        self.change(|status| {
            status.ready = false;
            status.held = 0;
        });
    }
}
