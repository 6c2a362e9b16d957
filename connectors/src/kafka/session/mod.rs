//! One client of a connector, from its making until it is stopped or gives up: the loop that polls
//! librdkafka, gives records to the intake, and lets their offsets pass.
//!
//! All of it is one task, which never blocks on a broker: whatever asks one is a future of its own
//! beside it. librdkafka is polled by this task too, and tells of changes of the assignment while it is;
//! they are passed on, and answered when the partitions are taken up, or have nothing running any more.
//! So a rebalance can wait for records without keeping the loop from completing them.

mod end;
mod records;
mod turns;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Cx, Poll},
    time::Duration,
};

use foldhash::HashMap;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use rdkafka::{
    ClientConfig,
    consumer::Consumer as _,
    error::{KafkaResult, RDKafkaErrorCode},
};
use tidemill_core::{
    BoxFuture,
    hold::{Held, Holds, Settlements, Ticket},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use end::Client;

use super::{
    KafkaConnector, Trouble,
    assign::{Asker, Consumer, Place, TakenUp},
    context::{Context, Turn},
    probe::{self, Found},
    reading::{Reading, State},
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
pub(in crate::kafka) enum End {
    /// As it was told.
    Stopped,
    /// librdkafka cannot go on with this client.
    Broken(String),
}

/// One client of a connector.
pub(in crate::kafka) struct Session<'a> {
    /// First, so that it is dropped before all else that has its consumer.
    client: Client,
    connector: &'a KafkaConnector,
    intake: &'a dyn Holds,
    asker: Arc<Asker<'a>>,
    errors: watch::Receiver<Option<(RDKafkaErrorCode, String)>>,
    readings: HashMap<Place, Reading>,
    /// Records that are about to be given to the intake.
    taken: Vec<(Taken, Held)>,
    /// What the intake holds, by the numbers that it tells of.
    holding: HashMap<u64, Holding<'a>>,
    /// The number of the next one.
    next: u64,
    settlements: Arc<Settlements>,
    /// Partitions that are taken up again.
    restarting: FuturesUnordered<Restarting<'a>>,
    held_bytes: usize,
    /// Records that were let go, since that was last told.
    settled: u64,
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

/// Whether the intake has no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    No,
    /// Records stay with librdkafka, until then.
    Waits(Instant),
    /// librdkafka does not fetch.
    Paused,
}

/// A record that was taken from its partition.
struct Taken {
    place: Place,
    generation: u64,
    offset: i64,
    size: usize,
}

/// One that the intake holds.
struct Holding<'a> {
    taken: Taken,
    /// Dropped, it is not waited for.
    _ticket: Ticket<'a>,
}

/// A partition that is being taken up again.
struct Restarting<'a> {
    place: Place,
    again: BoxFuture<'a, TakenUp>,
}

impl Future for Restarting<'_> {
    type Output = TakenUp;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<TakenUp> {
        self.again.poll_unpin(cx)
    }
}

impl<'a> Session<'a> {
    /// A new client. It begins to look for brokers at once.
    pub(in crate::kafka) fn new(
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
            readings: HashMap::default(),
            taken: Vec::new(),
            holding: HashMap::default(),
            next: 0,
            settlements: Arc::default(),
            restarting: FuturesUnordered::new(),
            held_bytes: 0,
            settled: 0,
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

    pub(in crate::kafka) async fn run(mut self, stop: &CancellationToken) -> End {
        let consumer = self.client.consumer.clone();
        let mut records = consumer.stream();
        let (settlements, mut told) = (self.settlements.clone(), Vec::new());
        while self.broken.is_none() && !(self.stopping && self.is_idle()) {
            let polls = !matches!(self.intake_full, Full::Waits(_));
            let timer = self.next_timer();
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.stopping => self.stop(),
                () = settlements.next(&mut told) => {
                    for (number, settlement) in told.drain(..) {
                        self.settled(number, settlement);
                    }
                    self.proceed();
                }
                Some(taken_up) = self.restarting.next() => {
                    self.restarted(taken_up);
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
                    self.hold();
                }
            }
        }
        drop(records);
        drop(consumer);
        self.end().await
    }

    fn is_idle(&self) -> bool {
        self.holding.is_empty() && self.restarting.is_empty()
    }

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
