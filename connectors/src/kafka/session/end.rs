//! How a session ends: nothing is left for librdkafka to wait for, the last offsets are committed, and
//! the group is left, within a bound.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    consumer::{CommitMode, Consumer as _},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use tidemill_core::limits;
use tokio::sync::mpsc;

use super::{
    super::{assign::Consumer, context::Turn},
    End, Session,
};

/// How long to wait before a commit is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// A consumer, and the changes of its assignment. When it is dropped, librdkafka is left with nothing to
/// wait for: else it would never close.
pub(super) struct Client {
    pub(super) consumer: Arc<Consumer>,
    pub(super) turns: mpsc::UnboundedReceiver<Turn>,
    /// The change that librdkafka waits for.
    pub(super) turn: Option<Turn>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.consumer.context().close();
        while let Some(turn) = self.turn.take().or_else(|| self.turns.try_recv().ok()) {
            if let Err(error) = turn.answer(&*self.consumer) {
                tracing::debug!(%error, "a closing consumer changes nothing more");
            }
        }
    }
}

impl Session<'_> {
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.pause_all();
        // The intake does not answer these any more.
        if let Some(taking_up) = self.taking_up.take() {
            drop(taking_up);
            if let Some(Turn::Assign(list)) = &self.client.turn {
                for place in self.places(list) {
                    self.intake.let_go(&self.asker.partition(place));
                }
            }
        }
        self.restarting.clear();
    }

    pub(super) async fn end(mut self) -> End {
        self.store();
        self.holding.clear();
        self.restarting.clear();
        for place in self.readings.keys() {
            self.intake.let_go(&self.asker.partition(*place));
        }
        self.connector.health.change(|status| {
            status.partitions = 0;
            status.held = 0;
            status.full = false;
        });
        let Session {
            client,
            connector,
            asker,
            taking_up,
            probing,
            broken,
            ..
        } = self;
        // They have the consumer too.
        drop((asker, taking_up, probing));
        // On a thread of its own, which the process need not wait for.
        let (sender, closed) = tokio::sync::oneshot::channel();
        let close = move || {
            let committed = commit(&client.consumer);
            drop(client);
            _ = sender.send(committed);
        };
        let source = &connector.origin.source;
        let thread = thread::Builder::new().name("kafka-close".to_owned());
        let closed = match thread.spawn(close) {
            Ok(_) => tokio::time::timeout(limits::KAFKA_CLOSE, closed).await,
            Err(error) => {
                tracing::warn!(source, %error, "no thread to leave the group on");
                return End::Stopped;
            }
        };
        match closed {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::info!(
                source, %error,
                "the last offsets may not be committed; what is completed is in the journal"
            ),
            Ok(Err(_)) => tracing::warn!(source, "the consumer did not close"),
            Err(_) => tracing::warn!(
                source,
                "the group was not left within {} s; its broker notices after `session.timeout.ms`",
                limits::KAFKA_CLOSE.as_secs()
            ),
        }
        match broken {
            Some(why) => End::Broken(why),
            None => End::Stopped,
        }
    }
}

/// Commits what is stored. The broker answers nothing while members join the group, and says then that
/// it was asked by a member of the group before. What is not committed would run again at whoever reads
/// the partition next, so it is tried again as soon as they have joined.
fn commit(consumer: &Consumer) -> KafkaResult<()> {
    use RDKafkaErrorCode::{IllegalGeneration, NoOffset, RebalanceInProgress};
    let until = Instant::now() + limits::KAFKA_CLOSE;
    loop {
        match consumer.commit_consumer_state(CommitMode::Sync) {
            Err(KafkaError::ConsumerCommit(IllegalGeneration | RebalanceInProgress))
                if Instant::now() < until =>
            {
                thread::sleep(AGAIN);
            }
            Err(KafkaError::ConsumerCommit(NoOffset)) => return Ok(()),
            committed => return committed,
        }
    }
}
