//! What a session does with records: gives them to the intake while it has room, and stores their
//! offsets once they may pass.

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::Consumer as _,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{BorrowedMessage, Message as _},
};
use tidemill_core::{
    hold::{Held, Settlement},
    limits,
};
use tokio::time::Instant;

use super::{
    super::{
        Trouble,
        assign::Place,
        context::Turn,
        event,
        reading::{Reading, State, Take},
    },
    Full, Holding, LINGER, STORE, Session, Taken,
};

impl Session<'_> {
    pub(super) fn record(&mut self, record: KafkaResult<BorrowedMessage<'_>>) {
        match record {
            Ok(record) => self.take(&record),
            Err(KafkaError::MessageConsumptionFatal(code)) => {
                let fatal = self.client.consumer.client().fatal_error();
                let why = fatal.map_or_else(|| code.to_string(), |(_, why)| why);
                self.broken = Some(self.connector.settings.secrets.blank(&why));
            }
            Err(error) => self.failed(&error),
        }
    }

    /// librdkafka goes on by itself after each of these.
    pub(super) fn failed(&mut self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        let origin = &self.connector.origin;
        match error.rdkafka_error_code() {
            Some(Code::GroupAuthorizationFailed) => {
                let text = format!(
                    "connection `{}` does not let us join group `{}`; allow its user to read it",
                    origin.connection, origin.group
                );
                self.connector.tell(Trouble::Group, Some(text));
            }
            Some(
                Code::NotImplemented | Code::UnsupportedCompressionType | Code::BadCompression,
            ) => {
                let text = format!(
                    "records of connection `{}` are compressed in a way that this engine was built without ({error}); let their producers use gzip, snappy, lz4 or zstd",
                    origin.connection
                );
                self.connector.tell(Trouble::Fetch, Some(text));
            }
            _ => {
                tracing::debug!(source = origin.source, %error, "librdkafka tries again");
                self.probe_soon();
            }
        }
    }

    pub(super) fn take(&mut self, record: &BorrowedMessage<'_>) {
        let topics = &self.connector.topics;
        let topic = topics.iter().position(|topic| topic == record.topic());
        let Some(topic) = topic else { return };
        let place = Place {
            topic,
            partition: record.partition(),
        };
        // Not taken up: it comes again.
        let Some(reading) = self.readings.get_mut(&place).filter(|_| !self.stopping) else {
            return;
        };
        match reading.received(record.offset(), event::stamp(record)) {
            Take::Leave => self.store_soon(),
            Take::Restart { forget } => {
                // What came before it is the old log's.
                self.hold();
                self.restart(place, forget);
            }
            Take::Offer => {
                reading.running += 1;
                let ahead = reading.ahead();
                let generation = reading.generation;
                let partition = reading.partition.clone();
                let (held, broken) = event::held(&self.connector.origin, partition, record);
                let size = held.event.size();
                if let Some(broken) = broken {
                    self.connector.health.change(|status| status.broken += 1);
                    tracing::warn!(
                        source = self.connector.origin.source,
                        topic = self.connector.topics[topic],
                        id = held.event.id,
                        "a record claims to be a CloudEvent and is none ({broken}); it is delivered as it is"
                    );
                }
                let taken = Taken {
                    place,
                    generation,
                    offset: record.offset(),
                    size,
                };
                self.taken.push((taken, held));
                self.held_bytes += size;
                let full = self.held() >= limits::KAFKA_HELD
                    || self.held_bytes >= limits::KAFKA_HELD_BYTES
                    || ahead >= limits::KAFKA_AHEAD;
                if full && self.intake_full == Full::No {
                    self.intake_full = Full::Waits(Instant::now() + LINGER);
                    self.connector.health.change(|status| status.full = true);
                }
            }
        }
    }

    /// Gives the intake what was taken.
    pub(super) fn hold(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let (taken, all): (Vec<Taken>, Vec<Held>) = self.taken.drain(..).unzip();
        let (count, first) = (taken.len() as u64, self.next);
        self.next += count;
        let all = (first..).zip(all).collect();
        let tickets = self.intake.hold_all(all, &self.settlements);
        let holding = taken.into_iter().zip(tickets);
        let holding = holding.map(|(taken, _ticket)| Holding { taken, _ticket });
        self.holding.extend((first..).zip(holding));
        let held = self.held();
        self.connector.health.change(|status| {
            status.held = held;
            status.offered += count;
        });
        self.connector.tell(Trouble::Fetch, None);
    }

    /// How many the intake holds, or is about to.
    pub(super) fn held(&self) -> usize {
        self.holding.len() + self.taken.len()
    }

    /// The intake needs a record no longer. One that was withdrawn is not among these.
    pub(super) fn settled(&mut self, number: u64, settlement: Settlement) {
        let Some(Holding { taken, .. }) = self.holding.remove(&number) else {
            return;
        };
        self.held_bytes -= taken.size;
        let settles = settlement == Settlement::Settle;
        let reading = self.readings.get_mut(&taken.place);
        if let Some(reading) = reading.filter(|reading| reading.generation == taken.generation) {
            reading.running -= 1;
            if settles {
                reading.completed(taken.offset);
                self.store_soon();
            }
        }
        self.settled += u64::from(settles);
    }

    /// Goes on with whatever waited for what is done.
    pub(super) fn proceed(&mut self) {
        let (held, settled) = (self.held(), std::mem::take(&mut self.settled));
        self.connector.health.change(|status| {
            status.held = held;
            status.settled += settled;
        });
        self.make_room();
        if self.drain_until.is_none() {
            return;
        }
        let places: Vec<Place> = self.readings.keys().copied().collect();
        for place in places {
            let idle = self
                .readings
                .get(&place)
                .filter(|reading| reading.running == 0);
            if let Some(State::Restarts {
                forget,
                begun: false,
            }) = idle.map(|reading| reading.state)
            {
                self.begin_restart(place, forget);
            }
        }
        if let Some(Turn::Revoke { .. }) = &self.client.turn {
            let mut leaving = self.leaving();
            if leaving.all(|(_, reading)| reading.running == 0) {
                drop(leaving);
                self.give_up();
            }
        }
        let waits = |reading: &Reading| match reading.state {
            State::Reads | State::Restarts { begun: true, .. } => false,
            State::Leaves | State::Restarts { begun: false, .. } => true,
        };
        if !self.readings.values().any(waits) {
            self.drain_until = None;
        }
    }

    pub(super) fn make_room(&mut self) {
        let ahead = |part: usize| {
            let mut readings = self.readings.values();
            readings.any(|reading| reading.ahead() >= limits::KAFKA_AHEAD / part)
        };
        let below = |part: usize| {
            self.held() < limits::KAFKA_HELD / part
                && self.held_bytes < limits::KAFKA_HELD_BYTES / part
                && !ahead(part)
        };
        let room = match self.intake_full {
            Full::No => return,
            Full::Waits(_) => below(1),
            // Each pause throws away what was fetched, so it is worth waiting for more room.
            Full::Paused => below(2),
        };
        if room {
            let paused = self.intake_full == Full::Paused;
            self.intake_full = Full::No;
            if paused && !self.stopping {
                let reading = self.readings.iter();
                let reading = reading.filter(|(_, reading)| reading.state == State::Reads);
                let places: Vec<Place> = reading.map(|(place, _)| *place).collect();
                self.fetch(&places, true);
            }
            self.connector.health.change(|status| status.full = false);
        }
    }

    pub(super) fn pause_all(&mut self) {
        let places: Vec<Place> = self.readings.keys().copied().collect();
        self.fetch(&places, false);
    }

    pub(super) fn fetch(&self, places: &[Place], resume: bool) {
        let list = self.asker.list(places);
        let result = match resume {
            true => self.client.consumer.resume(&list),
            false => self.client.consumer.pause(&list),
        };
        if let Err(error) = result {
            // It was taken away meanwhile, of which the next turn tells.
            tracing::debug!(%error, resume, "cannot pause or resume");
        }
    }

    pub(super) fn store_soon(&mut self) {
        self.store_at.get_or_insert_with(|| Instant::now() + STORE);
    }

    pub(super) fn store(&mut self) {
        self.store_at = None;
        let mut list = TopicPartitionList::new();
        for (place, reading) in &mut self.readings {
            if let Some(offset) = reading.take_offset() {
                let topic = &self.connector.topics[place.topic];
                // It cannot fail: the offset is a number.
                let offset = Offset::Offset(offset);
                let _ = list.add_partition_offset(topic, place.partition, offset);
            }
        }
        if list.count() > 0
            && let Err(error) = self.client.consumer.store_offsets(&list)
        {
            // They were revoked while their records ran. Whoever reads them now begins before those.
            tracing::debug!(source = self.connector.origin.source, ?list, %error, "offsets are not stored");
        }
    }
}
