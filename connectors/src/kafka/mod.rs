//! Kafka: the records of topics are events, held by their log until they are settled, and topics are
//! destinations.
//!
//! [`KafkaConnector`] is a member of a consumer group. It gives each record to the intake and lets its
//! offset pass once the engine says so. Records complete in any order; what is committed is the offset
//! below which all are settled. The journal keeps what is completed above it, so that a crash or a
//! rebalance between nodes of one journal runs nothing again. [`KafkaDestination`] produces events,
//! [`check`] tries the brokers of a plan.
//!
//! What a user of Kafka should know:
//!
//! - A record's event is `kafka.message`, its id `<partition>:<offset>@<timestamp>`, its subject the key,
//!   its data the value, its headers the record's, with lower-case names. Keys and values of headers
//!   that are not UTF-8 are shown in hexadecimal digits after `0x`.
//! - A record without a value (a tombstone) has no data and the header `tidemill-tombstone: true`.
//! - A CloudEvent, in binary or structured mode, keeps its own attributes. A record that claims to be
//!   one and is not is a `kafka.message`, and the header `tidemill-broken-cloudevent` says why.
//! - A topic that is deleted and made anew under the same name is read from its first record, whatever
//!   `start` says: no record of it has been seen.
//! - The group begins at `start` only where it has committed nothing. `start = "latest"` means the end
//!   of the partition when it is first read, which is committed at once.
//! - Only committed records of transactions are read (`isolation.level` says otherwise).
//! - Offsets that are gone from the log (retention) are passed; the oldest record that is left is next.
//! - Partitions that are added are read within half a minute.
//! - A member that stops leaves its group at once; the partitions of one that died are read by others
//!   after `session.timeout.ms`, 10 s unless told otherwise.
//!
//! librdkafka is built without TLS, so that a C compiler and make build all of it. The cargo feature
//! `kafka-tls` adds TLS and SASL with SCRAM and OAUTHBEARER (it builds OpenSSL, which takes perl and
//! some minutes; certificates that the system trusts are trusted), `kafka-gssapi` adds Kerberos. SASL PLAIN is always there. Of compressed records,
//! those of gzip, snappy, lz4 and zstd are read.

mod assign;
mod check;
mod context;
mod destination;
mod error;
mod event;
mod health;
mod probe;
mod reading;
mod session;
mod settings;
mod start;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tidemill_config::plan::{KafkaSource, Plan, Start};
use tidemill_core::hold::Holds;
use tokio_util::sync::CancellationToken;

pub use check::check;
pub use destination::KafkaDestination;
pub use error::Unusable;
pub use health::{Health, Status};

use event::Origin;
use health::Trouble;
use session::{End, Session};
use settings::Settings;

/// The header of a record without a value.
pub const TOMBSTONE: &str = "tidemill-tombstone";

/// The header that says why a record is no CloudEvent, though it claims to be one.
pub const BROKEN: &str = "tidemill-broken-cloudevent";

/// How long to wait before a client that gave up is made anew.
const ANEW: Duration = Duration::from_secs(5);

/// What the triggers of a consumer listen to. Its events name the topic alone: `kafka:<connection>/<topic>`.
pub fn source(plan: &KafkaSource) -> String {
    let topics = plan.topics.join(",");
    format!("kafka:{}/{topics}@{}", plan.connection, plan.group)
}

/// The source of the events of a consumer group's topics.
pub struct KafkaConnector {
    origin: Origin,
    topics: Vec<String>,
    start: Start,
    settings: Settings,
    health: Health,
}

impl KafkaConnector {
    /// A connector for the triggers that share this source. Looks properties up and has librdkafka
    /// check them, and blocks while it does; it connects to nothing.
    pub fn new(plan: &Plan, source: &KafkaSource) -> Result<KafkaConnector, Unusable> {
        Ok(KafkaConnector {
            origin: Origin {
                source: self::source(source),
                connection: source.connection.clone(),
                group: source.group.clone(),
            },
            topics: source.topics.clone(),
            start: source.start,
            settings: Settings::new(plan, &source.connection)?,
            health: Health::new(),
        })
    }

    /// What the triggers listen to.
    pub fn source(&self) -> &str {
        &self.origin.source
    }

    /// What the connector says of itself.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Reads until `stop` is cancelled, and then waits for the answers to all that the intake holds.
    pub async fn run(self, intake: Arc<dyn Holds>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let end = match Session::new(&self, &*intake) {
                Ok(session) => session.run(&stop).await,
                Err(error) => End::Broken(self.settings.secrets.blank(&error.to_string())),
            };
            self.health.joined(false);
            if let End::Broken(why) = end {
                self.tell(
                    Trouble::Client,
                    Some(format!(
                        "the client of connection `{}` gave up ({why}); it begins anew every {} s",
                        self.origin.connection,
                        ANEW.as_secs(),
                    )),
                );
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(ANEW) => {}
                }
            }
        }
    }

    fn tell(&self, trouble: Trouble, text: Option<String>) {
        self.health.tell(&self.origin.source, trouble, text);
    }
}
