//! One client of a connector, from its making until it is stopped or gives up: the loop that polls
//! librdkafka, gives records to the intake, and lets their offsets pass.
//!
//! All of it is one task, which never blocks on a broker: whatever asks one is a future of its own
//! beside it. librdkafka is polled by this task too, and tells of changes of the assignment while it is;
//! they are passed on, and answered when the partitions are taken up, or have nothing running any more.
//! So a rebalance can wait for records without keeping the loop from completing them.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as Cx, Poll},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{BorrowedMessage, Message as _},
};
use tidemill_core::{
    BoxFuture,
    hold::{Holds, Settlement},
    limits,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    KafkaConnector, Trouble,
    assign::{Asker, Consumer, Place, TakenUp},
    context::{Context, Turn},
    event,
    probe::{self, Found},
    reading::{Reading, State, Take},
};

/// How often offsets are given to librdkafka to commit, which does it every second or so.
const STORE: Duration = Duration::from_millis(200);

/// How long records stay with librdkafka while the intake is full, before it is told not to fetch: it
/// throws away what it has fetched then. Meanwhile it is not polled.
const LINGER: Duration = Duration::from_millis(500);

/// How often the brokers are asked while something is wrong.
const PROBE: Duration = Duration::from_secs(5);

/// How many records are taken before anything else is looked at.
const AT_ONCE: usize = 64;

/// How a session ended.
pub(super) enum End {
    /// As it was told.
    Stopped,
    /// librdkafka cannot go on with this client.
    Broken(String),
}

/// One client of a connector.
pub(super) struct Session<'a> {
    /// First, so that it is dropped before all else that has its consumer.
    client: Client,
    connector: &'a KafkaConnector,
    intake: &'a dyn Holds,
    asker: Arc<Asker<'a>>,
    errors: watch::Receiver<Option<(RDKafkaErrorCode, String)>>,
    readings: HashMap<Place, Reading>,
    /// All that is under way for partitions.
    running: FuturesUnordered<Running<'a>>,
    held: usize,
    held_bytes: usize,
    generation: u64,
    taking_up: Option<BoxFuture<'a, Vec<TakenUp>>>,
    /// When what still runs for partitions that leave or restart is not waited for any longer.
    drain_until: Option<Instant>,
    store_at: Option<Instant>,
    probing: Option<BoxFuture<'static, Found>>,
    probe_at: Option<Instant>,
    intake_full: Full,
    stopping: bool,
    broken: Option<String>,
}

/// A consumer, and the changes of its assignment. When it is dropped, librdkafka is left with nothing to
/// wait for: else it would never close.
struct Client {
    consumer: Arc<Consumer>,
    turns: mpsc::UnboundedReceiver<Turn>,
    /// The change that librdkafka waits for.
    turn: Option<Turn>,
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

/// Whether the intake has no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    No,
    /// Records stay with librdkafka, until then.
    Waits(Instant),
    /// librdkafka does not fetch.
    Paused,
}

/// Something under way for a partition.
struct Running<'a> {
    place: Place,
    generation: u64,
    what: What<'a>,
}

enum What<'a> {
    Hold {
        offset: i64,
        size: usize,
        settlement: BoxFuture<'a, Settlement>,
    },
    Restart(BoxFuture<'a, TakenUp>),
}

struct Done {
    place: Place,
    generation: u64,
    what: DoneWhat,
}

enum DoneWhat {
    Hold {
        offset: i64,
        size: usize,
        settlement: Settlement,
    },
    Restart(TakenUp),
}

impl Future for Running<'_> {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Done> {
        let what = match &mut self.what {
            What::Hold {
                offset,
                size,
                settlement,
            } => settlement.poll_unpin(cx).map(|settlement| DoneWhat::Hold {
                offset: *offset,
                size: *size,
                settlement,
            }),
            What::Restart(future) => future.poll_unpin(cx).map(DoneWhat::Restart),
        };
        what.map(|what| Done {
            place: self.place,
            generation: self.generation,
            what,
        })
    }
}

impl<'a> Session<'a> {
    /// A new client. It begins to look for brokers at once.
    pub(super) fn new(
        connector: &'a KafkaConnector,
        intake: &'a dyn Holds,
    ) -> KafkaResult<Session<'a>> {
        let settings = &connector.settings;
        let config: ClientConfig = settings.consumer(&connector.origin.group);
        let context = Context::new(&connector.origin.source, &settings.secrets);
        let (context, turns) = context.with_turns();
        let errors = context.errors();
        let consumer: Arc<Consumer> = Arc::new(config.create_with_context(context)?);
        let topics: Vec<&str> = connector.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)?;
        let asker = Asker {
            connector,
            intake,
            consumer: consumer.clone(),
        };
        Ok(Session {
            client: Client {
                consumer,
                turns,
                turn: None,
            },
            connector,
            intake,
            asker: Arc::new(asker),
            errors,
            readings: HashMap::new(),
            running: FuturesUnordered::new(),
            held: 0,
            held_bytes: 0,
            generation: 0,
            taking_up: None,
            drain_until: None,
            store_at: None,
            probing: None,
            probe_at: Some(Instant::now()),
            intake_full: Full::No,
            stopping: false,
            broken: None,
        })
    }

    pub(super) async fn run(mut self, stop: &CancellationToken) -> End {
        let consumer = self.client.consumer.clone();
        let mut records = consumer.stream();
        while self.broken.is_none() && !(self.stopping && self.running.is_empty()) {
            let polls = !matches!(self.intake_full, Full::Waits(_));
            let timer = self.next_timer();
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.stopping => self.stop(),
                Some(done) = self.running.next() => {
                    self.done(done);
                    while let Some(Some(done)) = self.running.next().now_or_never() {
                        self.done(done);
                    }
                    self.proceed();
                }
                taken_up = ready(&mut self.taking_up) => self.taken_up(taken_up),
                found = ready(&mut self.probing) => self.probed(found),
                Some(turn) = self.client.turns.recv(), if self.client.turn.is_none() => self.turn(turn),
                Ok(()) = self.errors.changed() => self.probe_soon(),
                () = at(timer) => self.timer(),
                Some(record) = records.next(), if polls => {
                    self.record(record);
                    let mut more = AT_ONCE;
                    while more > 0
                        && self.intake_full == Full::No
                        && let Some(Some(record)) = records.next().now_or_never()
                    {
                        self.record(record);
                        more -= 1;
                    }
                }
            }
        }
        drop(records);
        drop(consumer);
        self.end().await
    }

    // Records.

    fn record(&mut self, record: KafkaResult<BorrowedMessage<'_>>) {
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
    fn failed(&mut self, error: &KafkaError) {
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

    fn take(&mut self, record: &BorrowedMessage<'_>) {
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
            Take::Restart { forget } => self.restart(place, forget),
            Take::Offer => {
                reading.running += 1;
                let ahead = reading.ahead();
                let generation = reading.generation;
                let (held, broken) = event::held(&self.connector.origin, record);
                let size = held.event.size();
                let named = broken.map(|broken| (broken, held.event.id.clone()));
                let settlement = self.intake.hold(held);
                self.running.push(Running {
                    place,
                    generation,
                    what: What::Hold {
                        offset: record.offset(),
                        size,
                        settlement,
                    },
                });
                self.held += 1;
                self.held_bytes += size;
                let held = self.held;
                self.connector.health.change(|status| {
                    status.held = held;
                    status.offered += 1;
                    status.broken += u64::from(named.is_some());
                });
                self.connector.tell(Trouble::Fetch, None);
                if let Some((broken, id)) = named {
                    let topic = &self.connector.topics[topic];
                    tracing::warn!(
                        source = self.connector.origin.source,
                        topic,
                        id,
                        "a record claims to be a CloudEvent and is none ({broken}); it is delivered as it is"
                    );
                }
                let full = self.held >= limits::KAFKA_HELD
                    || self.held_bytes >= limits::KAFKA_HELD_BYTES
                    || ahead >= limits::KAFKA_AHEAD;
                if full && self.intake_full == Full::No {
                    self.intake_full = Full::Waits(Instant::now() + LINGER);
                    self.connector.health.change(|status| status.full = true);
                }
            }
        }
    }

    fn done(&mut self, done: Done) {
        let reading = self.readings.get_mut(&done.place);
        let reading = reading.filter(|reading| reading.generation == done.generation);
        match done.what {
            DoneWhat::Hold {
                offset,
                size,
                settlement,
            } => {
                self.held -= 1;
                self.held_bytes -= size;
                let settles = settlement == Settlement::Settle;
                if let Some(reading) = reading {
                    reading.running -= 1;
                    if settles {
                        reading.completed(offset);
                        self.store_soon();
                    }
                }
                let held = self.held;
                self.connector.health.change(|status| {
                    status.held = held;
                    status.settled += u64::from(settles);
                });
            }
            // It is not withdrawn before its partition is gone, and then it is none of these.
            DoneWhat::Restart(taken_up) => self.restarted(taken_up),
        }
    }

    /// Goes on with whatever waited for what is done.
    fn proceed(&mut self) {
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

    // Room in the intake.

    fn make_room(&mut self) {
        let ahead = |part: usize| {
            let mut readings = self.readings.values();
            readings.any(|reading| reading.ahead() >= limits::KAFKA_AHEAD / part)
        };
        let below = |part: usize| {
            self.held < limits::KAFKA_HELD / part
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

    fn pause_all(&mut self) {
        let places: Vec<Place> = self.readings.keys().copied().collect();
        self.fetch(&places, false);
    }

    fn fetch(&self, places: &[Place], resume: bool) {
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

    // Offsets.

    fn store_soon(&mut self) {
        self.store_at.get_or_insert_with(|| Instant::now() + STORE);
    }

    fn store(&mut self) {
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

    // Partitions that come, go, and are taken up again.

    fn turn(&mut self, turn: Turn) {
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
                    self.give_up();
                } else {
                    self.drain();
                }
            }
        }
    }

    fn taken_up(&mut self, taken_up: Vec<TakenUp>) {
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
        if self.intake_full == Full::Paused {
            self.fetch(&places, false);
        }
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
    fn read(&mut self, taken_up: TakenUp) -> Option<(Place, i64)> {
        self.generation += 1;
        let (place, commit) = (taken_up.place, taken_up.commit);
        if taken_up.anew {
            self.connector.health.change(|status| status.anew += 1);
        }
        let reading = Reading::new(self.generation, taken_up);
        self.readings.insert(place, reading);
        commit.map(|offset| (place, offset))
    }

    /// Waits for what runs for partitions that leave or restart.
    fn drain(&mut self) {
        let until = Instant::now() + limits::KAFKA_DRAIN;
        self.drain_until.get_or_insert(until);
        self.proceed();
    }

    fn leaving(&self) -> impl Iterator<Item = (&Place, &Reading)> {
        let mut readings = self.readings.iter();
        std::iter::from_fn(move || readings.find(|(_, reading)| reading.state == State::Leaves))
    }

    /// Gives up the partitions that leave. What still runs for them is withdrawn.
    fn give_up(&mut self) {
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
        let (partitions, held) = (self.readings.len(), self.held);
        self.connector.health.change(|status| {
            status.partitions = partitions;
            status.held = held;
        });
        self.make_room();
    }

    /// Drops what is under way for partitions.
    fn withdraw(&mut self, whose: impl Fn(&Place) -> bool) {
        let mut dropped = 0;
        for running in std::mem::take(&mut self.running) {
            if !whose(&running.place) {
                self.running.push(running);
                continue;
            }
            if let What::Hold { size, .. } = running.what {
                self.held -= 1;
                self.held_bytes -= size;
                dropped += 1;
            }
        }
        if dropped > 0 {
            tracing::info!(
                source = self.connector.origin.source,
                dropped,
                "records that still ran when their partition was given up are not waited for; whoever reads it next gets them again"
            );
        }
    }

    fn restart(&mut self, place: Place, forget: bool) {
        if let Some(reading) = self.readings.get_mut(&place) {
            reading.state = State::Restarts {
                forget,
                begun: false,
            };
            self.fetch(&[place], false);
            self.drain();
        }
    }

    fn begin_restart(&mut self, place: Place, forget: bool) {
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
        self.running.push(Running {
            place,
            generation: reading.generation,
            what: What::Restart(Box::pin(async move { asker.again(place, forget).await })),
        });
    }

    fn restarted(&mut self, taken_up: TakenUp) {
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
    fn commit(&self, begins: &[(Place, i64)]) {
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
    fn places(&self, list: &TopicPartitionList) -> Vec<Place> {
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

    // Brokers.

    fn probe_soon(&mut self) {
        let soon = Instant::now() + Duration::from_millis(500);
        if self.probing.is_none() && self.probe_at.is_none_or(|at| at > soon) {
            self.probe_at = Some(soon);
        }
    }

    fn probe(&mut self) {
        let settings = &self.connector.settings;
        self.probing = Some(Box::pin(probe::probe(
            self.client.consumer.clone(),
            settings.connection.clone(),
            settings.brokers.clone(),
            self.connector.topics.clone(),
        )));
    }

    fn probed(&mut self, found: Found) {
        self.probing = None;
        if found.brokers.is_none() {
            self.connector.tell(Trouble::Topics, found.topics);
        }
        self.connector.tell(Trouble::Brokers, found.brokers);
        let status = self.connector.health.status();
        self.probe_at = (!status.ready).then(|| Instant::now() + PROBE);
    }

    // Time.

    fn next_timer(&self) -> Option<Instant> {
        let full = match self.intake_full {
            Full::Waits(until) => Some(until),
            _ => None,
        };
        let timers = [full, self.drain_until, self.store_at, self.probe_at];
        timers.into_iter().flatten().min()
    }

    fn timer(&mut self) {
        let now = Instant::now();
        if let Full::Waits(until) = self.intake_full
            && until <= now
        {
            self.intake_full = Full::Paused;
            self.pause_all();
        }
        if self.store_at.is_some_and(|at| at <= now) {
            self.store();
        }
        if self.probe_at.is_some_and(|at| at <= now) {
            self.probe_at = None;
            self.probe();
        }
        if self.drain_until.is_some_and(|at| at <= now) {
            self.drain_until = None;
            self.drained();
        }
    }

    /// The time to drain is over.
    fn drained(&mut self) {
        if let Some(Turn::Revoke { .. }) = self.client.turn {
            self.give_up();
        }
        let mut restarts = Vec::new();
        for (place, reading) in &mut self.readings {
            if let State::Restarts {
                forget,
                begun: false,
            } = reading.state
            {
                reading.running = 0;
                restarts.push((*place, forget));
            }
        }
        self.withdraw(|place| restarts.iter().any(|(restarts, _)| restarts == place));
        for (place, forget) in restarts {
            self.begin_restart(place, forget);
        }
        self.make_room();
    }

    // The end.

    fn stop(&mut self) {
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
        let restarts = |running: &Running<'_>| matches!(running.what, What::Restart(_));
        let all = std::mem::take(&mut self.running);
        self.running
            .extend(all.into_iter().filter(|running| !restarts(running)));
    }

    async fn end(mut self) -> End {
        self.store();
        drop(std::mem::take(&mut self.running));
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
            let committed = client.consumer.commit_consumer_state(CommitMode::Sync);
            drop(client);
            _ = sender.send(committed);
        };
        let source = &connector.origin.source;
        let thread = std::thread::Builder::new().name("kafka-close".to_owned());
        let closed = match thread.spawn(close) {
            Ok(_) => tokio::time::timeout(limits::KAFKA_CLOSE, closed).await,
            Err(error) => {
                tracing::warn!(source, %error, "no thread to leave the group on");
                return End::Stopped;
            }
        };
        match closed {
            Ok(Ok(Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)))) => {}
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

/// Resolves when the future that may be there does.
async fn ready<T>(future: &mut Option<BoxFuture<'_, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Resolves at the time that may be set.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
