//! What librdkafka tells of itself: its log, its errors, and which partitions a consumer gets and gives
//! up. It is told on whatever thread polls, so nothing here waits: all of it is passed on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use tokio::sync::{mpsc, watch};

use super::settings::Secrets;

/// A change of what a consumer reads. It takes place when it is [answered](Turn::answer), which
/// librdkafka waits for: meanwhile it says nothing more of that kind.
pub(super) enum Turn {
    /// Partitions to read.
    Assign(TopicPartitionList),
    /// Partitions to give up.
    Revoke {
        partitions: TopicPartitionList,
        /// Others may read them already.
        lost: bool,
    },
}

impl Turn {
    /// The same change, without anything done before it.
    pub(super) fn answer<C: ConsumerContext>(
        &self,
        consumer: &impl Consumer<C>,
    ) -> KafkaResult<()> {
        let step_by_step = matches!(
            consumer.rebalance_protocol(),
            RebalanceProtocol::Cooperative
        );
        match (self, step_by_step) {
            (Turn::Assign(partitions), true) => consumer.incremental_assign(partitions),
            (Turn::Assign(partitions), false) => consumer.assign(partitions),
            (Turn::Revoke { partitions, .. }, true) => consumer.incremental_unassign(partitions),
            (Turn::Revoke { .. }, false) => consumer.unassign(),
        }
    }
}

/// The context of a client.
pub(super) struct Context {
    /// What it is for, in logs.
    name: String,
    secrets: Arc<Secrets>,
    /// The last error that was not about one record, in librdkafka's words.
    errors: watch::Sender<Option<(RDKafkaErrorCode, String)>>,
    /// librdkafka waits for the answer to one before it sends another, so that there is never more
    /// than one in here.
    turns: Option<mpsc::UnboundedSender<Turn>>,
    closing: AtomicBool,
}

impl Context {
    pub(super) fn new(name: &str, secrets: &Arc<Secrets>) -> Context {
        Context {
            name: name.to_owned(),
            secrets: secrets.clone(),
            errors: watch::Sender::new(None),
            turns: None,
            closing: AtomicBool::new(false),
        }
    }

    /// For a member of a group.
    pub(super) fn with_turns(mut self) -> (Context, mpsc::UnboundedReceiver<Turn>) {
        let (sender, turns) = mpsc::unbounded_channel();
        self.turns = Some(sender);
        (self, turns)
    }

    /// Changes with each error that is not about one record.
    pub(super) fn errors(&self) -> watch::Receiver<Option<(RDKafkaErrorCode, String)>> {
        self.errors.subscribe()
    }

    /// The last of them that says anything.
    pub(super) fn last_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.errors.borrow().clone()
    }

    /// The brokers answer: what they said before is not why they do not, should they cease to.
    pub(super) fn forget_error(&self) {
        self.errors.send_if_modified(|last| {
            *last = None;
            false
        });
    }

    /// From now on turns are answered at once.
    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let (name, text) = (&self.name, self.secrets.blank(text));
        // A property of the connection is for consumers or for producers, and each of them says so of
        // those of the other.
        let harmless = facility == "CONFWARN";
        match level {
            _ if harmless => tracing::debug!(name, facility, "librdkafka: {text}"),
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                // What it means for the work is said, once, by whoever does the work.
                tracing::info!(name, facility, "librdkafka: {text}");
            }
            RDKafkaLogLevel::Warning => tracing::info!(name, facility, "librdkafka: {text}"),
            _ => tracing::debug!(name, facility, "librdkafka: {text}"),
        }
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        // Behind it are the state of the connection and how long it was in it.
        let reason = reason.split(" (after ").next().unwrap_or(reason);
        let reason = self.secrets.blank(reason);
        tracing::debug!(name = self.name, %error, "librdkafka: {reason}");
        if let Some(code) = code {
            self.errors.send_modify(|last| {
                // That all brokers are down is said after why each of them is.
                if code != RDKafkaErrorCode::AllBrokersDown || last.is_none() {
                    *last = Some((code, reason));
                }
            });
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Context>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let partitions = partitions.clone();
        let turn = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Turn::Assign(partitions),
            _ => Turn::Revoke {
                lost: consumer.assignment_lost(),
                partitions,
            },
        };
        let open = !self.closing.load(Relaxed);
        let turn = match self.turns.as_ref().filter(|_| open) {
            Some(turns) => match turns.send(turn) {
                Ok(()) => return,
                Err(turn) => turn.0,
            },
            None => turn,
        };
        if let Err(error) = turn.answer(consumer) {
            tracing::debug!(name = self.name, %error, "a closing consumer changes nothing more");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        match result {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            // It commits again, the newer ones.
            Err(error) => {
                tracing::debug!(name = self.name, %error, "offsets are not committed yet")
            }
        }
    }
}
