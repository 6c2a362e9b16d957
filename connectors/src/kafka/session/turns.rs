//! Partitions that come, go, and are taken up again.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
};
use tidemill_core::limits;
use tokio::time::Instant;

use super::{
    super::{
        Trouble,
        assign::{Place, TakenUp},
        context::Turn,
        reading::{Reading, State},
    },
    Full, Holding, Restarting, Session,
};

impl Session<'_> {
    pub(super) fn turn(&mut self, turn: Turn) {
        match &turn {
            // It takes nothing up any more.
            Turn::Assign(_) if self.stopping => self.client.turn = Some(turn),
            Turn::Assign(list) => {
                let places = self.places(list);
                tracing::debug!(source = self.connector.origin.source, ?places, "assigned");
                let asker = self.asker.clone();
                self.client.turn = Some(turn);
                self.taking_up = Some(Box::pin(async move { asker.take_up(places).await }));
            }
            Turn::Revoke { partitions, lost } => {
                let (places, lost) = (self.places(partitions), *lost);
                tracing::debug!(
                    source = self.connector.origin.source,
                    ?places,
                    lost,
                    "revoked"
                );
                for place in places {
                    if let Some(reading) = self.readings.get_mut(&place) {
                        reading.state = State::Leaves;
                    }
                }
                self.client.turn = Some(turn);
                if lost {
                    self.connector.health.joined(false);
                    // It is lost when the broker is silent, too, of which librdkafka tells nothing else
                    // for a minute.
                    self.probe_soon();
                    self.give_up();
                } else {
                    self.drain();
                }
            }
        }
    }

    pub(super) fn taken_up(&mut self, taken_up: Vec<TakenUp>) {
        self.taking_up = None;
        let Some(Turn::Assign(mut list)) = self.client.turn.take() else {
            return;
        };
        for taken_up in &taken_up {
            let (topic, partition) = (taken_up.place.topic, taken_up.place.partition);
            let topic = &self.connector.topics[topic];
            if let Err(error) = list.set_partition_offset(topic, partition, taken_up.offset) {
                tracing::debug!(topic, partition, %error, "cannot say where to begin");
            }
        }
        let places: Vec<Place> = taken_up.iter().map(|taken_up| taken_up.place).collect();
        let mut begins = Vec::new();
        for taken_up in taken_up {
            begins.extend(self.read(taken_up));
        }
        if let Err(error) = Turn::Assign(list).answer(&*self.client.consumer) {
            // The group went on without it: it is told so next, and joins again.
            tracing::debug!(%error, "cannot take the partitions");
        }
        // librdkafka keeps a pause over the time when a partition is somebody else's.
        self.fetch(&places, self.intake_full != Full::Paused);
        self.store();
        self.commit(&begins);
        let partitions = self.readings.len();
        self.connector
            .health
            .change(|status| status.partitions = partitions);
        self.connector.tell(Trouble::Client, None);
        self.connector.health.joined(true);
    }

    /// Reads a partition from now on. Where the group begins with it, if it has not begun.
    pub(super) fn read(&mut self, taken_up: TakenUp) -> Option<(Place, i64)> {
        self.generation += 1;
        let (place, commit) = (taken_up.place, taken_up.commit);
        if taken_up.anew {
            self.connector.health.change(|status| status.anew += 1);
        }
        let reading = Reading::new(self.asker.partition(place), self.generation, taken_up);
        self.readings.insert(place, reading);
        commit.map(|offset| (place, offset))
    }

    /// Waits for what runs for partitions that leave or restart.
    pub(super) fn drain(&mut self) {
        let until = Instant::now() + limits::KAFKA_DRAIN;
        self.drain_until.get_or_insert(until);
        self.proceed();
    }

    pub(super) fn leaving(&self) -> impl Iterator<Item = (&Place, &Reading)> {
        let mut readings = self.readings.iter();
        std::iter::from_fn(move || readings.find(|(_, reading)| reading.state == State::Leaves))
    }

    /// Gives up the partitions that leave. What still runs for them is withdrawn.
    pub(super) fn give_up(&mut self) {
        self.store();
        let leaving: Vec<Place> = self.leaving().map(|(place, _)| *place).collect();
        self.withdraw(|place| leaving.contains(place));
        for place in &leaving {
            self.readings.remove(place);
            self.intake.let_go(&self.asker.partition(*place));
        }
        if let Some(turn) = self.client.turn.take()
            && let Err(error) = turn.answer(&*self.client.consumer)
        {
            tracing::debug!(%error, "cannot give the partitions up");
        }
        let (partitions, held) = (self.readings.len(), self.held());
        self.connector.health.change(|status| {
            status.partitions = partitions;
            status.held = held;
        });
        self.make_room();
    }

    /// Drops what is under way for partitions.
    pub(super) fn withdraw(&mut self, whose: impl Fn(&Place) -> bool) {
        let restarting = std::mem::take(&mut self.restarting).into_iter();
        self.restarting = restarting.filter(|one| !whose(&one.place)).collect();
        let (before, mut bytes) = (self.holding.len(), 0);
        self.holding.retain(|_, Holding { taken, .. }| {
            let stays = !whose(&taken.place);
            bytes += if stays { 0 } else { taken.size };
            stays
        });
        self.held_bytes -= bytes;
        let dropped = before - self.holding.len();
        if dropped > 0 {
            tracing::info!(
                source = self.connector.origin.source,
                dropped,
                "records that still ran when their partition was given up are not waited for; whoever reads it next gets them again"
            );
        }
    }

    pub(super) fn restart(&mut self, place: Place, forget: bool) {
        if let Some(reading) = self.readings.get_mut(&place) {
            reading.state = State::Restarts {
                forget,
                begun: false,
            };
            self.fetch(&[place], false);
            self.drain();
        }
    }

    pub(super) fn begin_restart(&mut self, place: Place, forget: bool) {
        self.store();
        let Some(reading) = self.readings.get_mut(&place) else {
            return;
        };
        reading.state = State::Restarts {
            forget,
            begun: true,
        };
        reading.running += 1;
        let asker = self.asker.clone();
        self.restarting.push(Restarting {
            place,
            again: Box::pin(async move { asker.again(place, forget).await }),
        });
    }

    pub(super) fn restarted(&mut self, taken_up: TakenUp) {
        let (place, offset) = (taken_up.place, taken_up.offset);
        let leaves = match self.readings.get_mut(&place) {
            None => true,
            Some(reading) => {
                reading.running -= 1;
                reading.state == State::Leaves
            }
        };
        if leaves {
            return;
        }
        let begins = self.read(taken_up);
        let topic = &self.connector.topics[place.topic];
        // Without a time to wait for, it is only queued, behind nothing that could fail.
        let sought = self
            .client
            .consumer
            .seek(topic, place.partition, offset, Duration::ZERO);
        if let Err(error) = sought {
            tracing::debug!(topic, partition = place.partition, %error, "cannot go back in the log");
        }
        if self.intake_full != Full::Paused {
            self.fetch(&[place], true);
        }
        self.store();
        self.commit(begins.as_slice());
    }

    /// Commits where the group begins, of which it may have committed more when it read another log of
    /// the same name: librdkafka commits nothing by itself that is below what it has committed.
    pub(super) fn commit(&self, begins: &[(Place, i64)]) {
        if begins.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (place, offset) in begins {
            let topic = &self.connector.topics[place.topic];
            // It cannot fail: the offset is a number.
            let offset = Offset::Offset(*offset);
            let _ = list.add_partition_offset(topic, place.partition, offset);
        }
        if let Err(error) = self.client.consumer.commit(&list, CommitMode::Async) {
            // They are stored too, and so committed later.
            tracing::debug!(source = self.connector.origin.source, %error, "nothing is committed yet");
        }
    }

    /// The partitions of a list.
    pub(super) fn places(&self, list: &TopicPartitionList) -> Vec<Place> {
        let topics = &self.connector.topics;
        let elements = list.elements();
        let places = elements.iter().filter_map(|element| {
            let topic = topics.iter().position(|topic| topic == element.topic())?;
            Some(Place {
                topic,
                partition: element.partition(),
            })
        });
        places.collect()
    }
}
