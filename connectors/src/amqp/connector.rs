//! The source: one session after the other until the engine stops.

use std::{sync::Arc, time::Duration};

use tidemill_config::plan::{AmqpSource, Plan};
use tidemill_core::hold::Holds;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Health, Unusable,
    broker::Broker,
    error::Trouble,
    session::{End, Session},
    topology,
};

/// The first and the longest wait before a session begins anew. Of each, up to a half is left to
/// chance, so that many engines do not come back to a broker at once.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// After a session of this length the waits begin again with the first one.
const SOUND: Duration = Duration::from_secs(30);

/// The source of the events of a queue.
pub struct AmqpConnector {
    pub(super) source: String,
    pub(super) queue: String,
    pub(super) prefetch: u16,
    pub(super) declare: bool,
    pub(super) broker: Broker,
    pub(super) health: Health,
}

impl AmqpConnector {
    /// A connector for the triggers that share this queue. Looks the broker's address up, and blocks
    /// while it does; it connects to nothing.
    pub fn new(plan: &Plan, source: &AmqpSource) -> Result<AmqpConnector, Unusable> {
        let broker = Broker::new(plan, &source.connection)?;
        topology::check_names(source)?;
        Ok(AmqpConnector {
            source: super::source(source),
            queue: source.queue.clone(),
            prefetch: source.prefetch,
            declare: source.declare,
            broker,
            health: Health::new(),
        })
    }

    /// What the triggers listen to.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What the connector says of itself.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Consumes until `stop` is cancelled, and then waits for the answers to all that the intake holds.
    /// Returns when the broker knows of every message that is settled, or is not there to be told.
    pub async fn run(self, intake: Arc<dyn Holds>, stop: CancellationToken) {
        let mut wait = AGAIN.0;
        while !stop.is_cancelled() {
            let begun = Instant::now();
            let trouble = match self.session(&*intake, &stop).await {
                End::Stopped => break,
                End::Broken(trouble) => trouble,
            };
            self.health.fails(&self.source, trouble.to_string());
            if begun.elapsed() > SOUND {
                wait = AGAIN.0;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
            }
            wait = (wait * 2).min(AGAIN.1);
        }
        self.health.ends();
    }

    async fn session(&self, intake: &dyn Holds, stop: &CancellationToken) -> End {
        // A broker that is slow to greet does not keep the engine from stopping.
        let begun = tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            begun = Session::begin(self) => begun,
        };
        match begun {
            Ok(session) => session.run(intake, stop).await,
            Err(trouble) => End::Broken(trouble),
        }
    }

    /// What the end of a channel or connection means, in the words of the broker.
    pub(super) fn lost(&self, error: &lapin::Error) -> Trouble {
        topology::trouble(&self.broker.connection, &self.queue, error)
    }
}
