//! Taking partitions up: what the group has committed, what the journal has kept and what the broker's
//! log holds are asked for, and tried again until they answer; [`start`] decides.

use std::{sync::Arc, time::Duration};

use futures_util::future;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    error::{KafkaError, KafkaResult},
};
use tidemill_config::plan::Start;
use tidemill_core::{
    hold::{Holds, Partition},
    intake::IntakeError,
    watermark::{Progress, Watermark},
};

use super::{
    KafkaConnector, Trouble,
    context::Context,
    start::{self, Begin, Log},
};

pub(super) type Consumer = StreamConsumer<Context>;

/// How long brokers may take to answer one question.
const ANSWER: Duration = Duration::from_secs(10);

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A partition: the number of its topic among those of the source, and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub topic: usize,
    pub partition: i32,
}

/// A partition that was taken up.
pub(super) struct TakenUp {
    pub place: Place,
    /// Where to read from.
    pub offset: Offset,
    /// What is completed from there on.
    pub mark: Watermark,
    /// The record to be found first, and its stamp, if the log is the one it was.
    pub verify: Option<(i64, i64)>,
    /// The offset to commit although nothing was read yet: where the group begins.
    pub commit: Option<i64>,
    /// Whether the topic was made anew.
    pub anew: bool,
}

/// Who asks.
pub(super) struct Asker<'a> {
    pub connector: &'a KafkaConnector,
    pub intake: &'a dyn Holds,
    pub consumer: Arc<Consumer>,
}

impl Asker<'_> {
    /// The partition in the words of the intake.
    pub(super) fn partition(&self, place: Place) -> Partition {
        let origin = &self.connector.origin;
        Partition {
            source: origin.source.clone(),
            group: origin.group.clone(),
            partition: format!("{}/{}", self.connector.topics[place.topic], place.partition),
        }
    }

    /// Takes them up, each of which is new.
    pub(super) async fn take_up(&self, places: Vec<Place>) -> Vec<TakenUp> {
        if places.is_empty() {
            return Vec::new();
        }
        let logs = self.logs(&places).await;
        let mut taken_up = Vec::with_capacity(places.len());
        for (place, (committed, log)) in places.into_iter().zip(logs) {
            taken_up.push(self.begin(place, committed, log).await);
        }
        self.connector.tell(Trouble::Journal, None);
        taken_up
    }

    /// Takes one up again whose log is not what it was expected to be. If `forget` is set, it is
    /// another one.
    pub(super) async fn again(&self, place: Place, forget: bool) -> TakenUp {
        self.intake.let_go(&self.partition(place));
        let log = self.logs(&[place]).await.pop();
        let (committed, log) = log.unwrap_or_default();
        let taken_up = match forget {
            true => self.anew(place, log).await,
            // What the group has committed is where it was read to.
            false => self.begin(place, committed, log).await,
        };
        self.connector.tell(Trouble::Journal, None);
        taken_up
    }

    async fn begin(&self, place: Place, committed: Option<i64>, log: Option<Log>) -> TakenUp {
        let kept = self.kept(place).await;
        let (offset, verify) = match start::begin(committed, kept.as_ref(), log) {
            Begin::Start => return self.first(place, log).await,
            Begin::Anew => {
                self.intake.let_go(&self.partition(place));
                return self.anew(place, log).await;
            }
            Begin::At(offset) => (offset, None),
            Begin::Verify { offset, stamp } => (offset + 1, Some((offset, stamp))),
        };
        TakenUp {
            place,
            offset: Offset::Offset(verify.map_or(offset, |(last, _)| last)),
            mark: Watermark::new(start::from(offset, kept)),
            verify,
            commit: None,
            anew: false,
        }
    }

    /// The first time that the group reads it.
    async fn first(&self, place: Place, log: Option<Log>) -> TakenUp {
        let (offset, commit) = match self.connector.start {
            Start::Earliest => match log {
                Some(log) => (Offset::Offset(log.low), Some(log.low)),
                None => (Offset::Beginning, None),
            },
            Start::Latest => match log {
                Some(log) => (Offset::Offset(log.high), Some(log.high)),
                None => (Offset::End, None),
            },
            Start::At(time) => match self.at(place, time).await {
                Offset::Offset(offset) => (Offset::Offset(offset), Some(offset)),
                other => (other, None),
            },
        };
        TakenUp {
            place,
            offset,
            mark: Watermark::new(start::from(commit.unwrap_or(0), None)),
            verify: None,
            commit,
            anew: false,
        }
    }

    /// Another log of the same name. All of it is new, so it is read from its first record.
    async fn anew(&self, place: Place, log: Option<Log>) -> TakenUp {
        let partition = self.partition(place);
        tracing::warn!(
            source = self.connector.origin.source,
            partition = partition.partition,
            "the topic was made anew, or its log was cut short: what was completed of the old one is forgotten, and it is read from its first record"
        );
        self.persist(|| self.intake.forget(&partition)).await;
        // The intake has nothing of it any more.
        self.kept(place).await;
        let low = log.map_or(0, |log| log.low);
        TakenUp {
            place,
            // If there is none there, the first one comes.
            offset: Offset::Offset(low),
            mark: Watermark::new(start::from(low, None)),
            verify: None,
            commit: Some(low),
            anew: true,
        }
    }

    async fn kept(&self, place: Place) -> Option<Progress> {
        let partition = self.partition(place);
        self.persist(|| self.intake.take_up(&partition)).await
    }

    /// Asks the intake until it answers. While the engine stops, that is never.
    async fn persist<T, F>(&self, ask: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, IntakeError>>,
    {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(IntakeError::Stopping) => future::pending().await,
                Err(error) => {
                    let text = format!("new partitions wait: {error}");
                    self.connector.tell(Trouble::Journal, Some(text));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// What the group has committed, and what the logs hold, for each.
    async fn logs(&self, places: &[Place]) -> Vec<(Option<i64>, Option<Log>)> {
        let list = self.list(places);
        loop {
            let (consumer, list) = (self.consumer.clone(), list.clone());
            match blocking(move || logs(&consumer, list)).await {
                Ok(logs) => {
                    self.connector.tell(Trouble::Group, None);
                    return logs;
                }
                Err(error) => {
                    let text = format!(
                        "the brokers do not say what group `{}` has committed: {error}; it is tried again until they do",
                        self.connector.origin.group,
                    );
                    self.connector.tell(Trouble::Group, Some(text));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// The offset of the first record of this time or later.
    async fn at(&self, place: Place, time: i64) -> Offset {
        let mut list = TopicPartitionList::new();
        // It cannot fail: the offset is a number.
        let topic = &self.connector.topics[place.topic];
        let _ = list.add_partition_offset(topic, place.partition, Offset::Offset(time));
        loop {
            let (consumer, list) = (self.consumer.clone(), list.clone());
            match blocking(move || consumer.offsets_for_times(list, ANSWER)).await {
                Ok(found) => {
                    let offset = found.elements().first().map(|found| found.offset());
                    return offset.unwrap_or(Offset::End);
                }
                Err(error) => {
                    tracing::debug!(%error, "no offset of a time; asking again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// The partitions in librdkafka's words.
    pub(super) fn list(&self, places: &[Place]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(places.len());
        for place in places {
            list.add_partition(&self.connector.topics[place.topic], place.partition);
        }
        list
    }
}

/// librdkafka blocks while it waits for brokers.
pub(super) async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> KafkaResult<T> + Send + 'static,
) -> KafkaResult<T> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(answer) => answer,
        // It panicked, or the runtime shuts down.
        Err(_) => Err(KafkaError::Canceled),
    }
}

fn logs(
    consumer: &Consumer,
    list: TopicPartitionList,
) -> KafkaResult<Vec<(Option<i64>, Option<Log>)>> {
    let committed = consumer.committed_offsets(list, ANSWER)?;
    let mut logs = Vec::with_capacity(committed.count());
    let mut answers = true;
    for partition in committed.elements() {
        partition.error()?;
        let offset = match partition.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        // A partition without a leader does not keep the others from being read.
        let log = answers
            .then(|| consumer.fetch_watermarks(partition.topic(), partition.partition(), ANSWER));
        let log = log.and_then(|log| match log {
            Ok((low, high)) => Some(Log { low, high }),
            Err(error) => {
                // One timeout is enough to wait for.
                answers = false;
                tracing::debug!(%error, topic = partition.topic(), "the broker does not say what the log holds");
                None
            }
        });
        logs.push((offset, log));
    }
    Ok(logs)
}
