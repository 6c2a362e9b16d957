//! Schedules against an intake with an honest cursor, by a clock that tests set. The runtime's time
//! stands still while anything is to be done, so that hours take no time.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use proptest::prelude::*;
use tidemill_core::{
    BoxFuture,
    intake::{Cursors, Intake, IntakeError, Mark, Offer, Receipt},
    schedule::{CatchUp, Cron, Cursor, CursorMove, Overlap, Schedule, When, source},
    time::Timestamp,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Beat, Health, ScheduleConnector, Status};

/// By the clock of the runtime, which runs ahead when nothing is to be done.
const PATIENCE: Duration = Duration::from_secs(400 * 24 * 3600);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

fn cron(expression: &str, zone: &str) -> Schedule {
    schedule(When::Cron(Cron::parse(expression, zone).unwrap()))
}

fn schedule(when: When) -> Schedule {
    Schedule {
        when,
        jitter: Duration::ZERO,
        catch_up: CatchUp::All,
        overlap: Overlap::Allow,
    }
}

#[derive(Default)]
struct Inner {
    cursor: Option<Cursor>,
    ids: HashSet<String>,
    offers: Vec<Offer>,
    /// How many calls fail from now on.
    failures: usize,
    /// How many offers lose their receipt after the commit.
    lost: usize,
    busy: bool,
    stopping: bool,
}

struct Fake {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

impl Fake {
    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        let result = f(&mut self.inner.lock().unwrap());
        self.changed.send_replace(());
        result
    }

    fn answer<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> Result<T, IntakeError> {
        self.with(|inner| {
            if inner.stopping {
                return Err(IntakeError::Stopping);
            }
            if inner.failures > 0 {
                inner.failures -= 1;
                return Err(IntakeError::Full("no room".into()));
            }
            Ok(f(inner))
        })
    }

    async fn wait(&self, what: &str, mut wanted: impl FnMut(&Inner) -> bool) {
        let mut changes = self.changed.subscribe();
        let wait = changes.wait_for(|()| wanted(&self.inner.lock().unwrap()));
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited for {what}; events: {:?}", self.ids());
        }
    }

    /// The instants of the events, in their order.
    fn ids(&self) -> Vec<String> {
        let id = |offer: &Offer| offer.event.id.clone();
        self.with(|inner| inner.offers.iter().map(id).collect())
    }
}

impl Inner {
    fn step(&mut self, step: CursorMove) -> bool {
        assert_eq!(step.schedule, "t");
        let here = self.cursor == step.from;
        if here {
            if let Some(from) = step
                .from
                .filter(|from| from.definition == step.to.definition)
            {
                assert!(step.to.at > from.at, "a cursor goes forward");
            }
            self.cursor = Some(step.to);
        }
        here
    }
}

impl Intake for Fake {
    fn offer(&self, offer: Offer) -> BoxFuture<'_, Result<Receipt, IntakeError>> {
        Box::pin(async move {
            // A commit takes its time, in which everything else goes on.
            tokio::task::yield_now().await;
            self.answer(|inner| {
                let Mark::Cursor(step) = offer.mark.clone() else {
                    panic!("schedules move the cursor");
                };
                assert_eq!(offer.source, source("t"));
                if inner.ids.contains(&offer.event.id) || !inner.step(step) {
                    return Ok(Receipt::Duplicate);
                }
                inner.ids.insert(offer.event.id.clone());
                inner.offers.push(offer);
                if inner.lost > 0 {
                    inner.lost -= 1;
                    return Err(IntakeError::Failed("the receipt was lost".into()));
                }
                Ok(Receipt::Accepted { deliveries: 1 })
            })?
        })
    }
}

impl Cursors for Fake {
    fn cursor(&self, schedule: &str) -> BoxFuture<'_, Result<Option<Cursor>, IntakeError>> {
        assert_eq!(schedule, "t");
        Box::pin(async { self.answer(|inner| inner.cursor.clone()) })
    }

    fn move_cursor(&self, step: CursorMove) -> BoxFuture<'_, Result<bool, IntakeError>> {
        Box::pin(async { self.answer(|inner| inner.step(step)) })
    }

    fn is_busy(&self, trigger: &str) -> BoxFuture<'_, Result<bool, IntakeError>> {
        assert_eq!(trigger, "t");
        Box::pin(async { self.answer(|inner| inner.busy) })
    }
}

/// A machine: its journal, its clock, and what runs on it.
struct Machine {
    fake: Arc<Fake>,
    beat: Beat,
    /// What the clock shows more than the runtime's, in ms.
    offset: Arc<AtomicI64>,
    born: Instant,
}

impl Machine {
    fn new(now: &str) -> Machine {
        Machine {
            fake: Arc::new(Fake {
                inner: Mutex::default(),
                changed: watch::Sender::new(()),
            }),
            beat: Beat::by_hand(),
            offset: Arc::new(AtomicI64::new(at(now).0)),
            born: Instant::now(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.offset.load(Relaxed)).plus(self.born.elapsed())
    }

    /// Sets the clock.
    fn set(&self, now: Timestamp) {
        self.offset.fetch_add(now.0 - self.now().0, Relaxed);
    }

    fn start(&self, schedule: &Schedule) -> Running {
        let (offset, born) = (self.offset.clone(), self.born);
        let connector = ScheduleConnector {
            clock: Arc::new(move || Timestamp(offset.load(Relaxed)).plus(born.elapsed())),
            ..ScheduleConnector::new("t", schedule.clone(), &self.beat)
        };
        assert_eq!(connector.trigger(), "t");
        let (health, stop) = (connector.health(), CancellationToken::new());
        let task = tokio::spawn(connector.run(self.fake.clone(), stop.clone()));
        Running { health, stop, task }
    }

    async fn expect(&self, ids: &[&str]) {
        self.fake
            .wait(&format!("{ids:?}"), |inner| inner.offers.len() >= ids.len())
            .await;
        assert_eq!(self.fake.ids(), ids);
    }

    fn cursor(&self) -> Cursor {
        self.fake.with(|inner| inner.cursor.clone()).unwrap()
    }
}

struct Running {
    health: Health,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn reached(&self, wanted: impl FnMut(&Status) -> bool) {
        let reached = tokio::time::timeout(PATIENCE, self.health.reached(wanted)).await;
        assert!(reached.is_ok(), "it stays at {:?}", self.health.status());
    }

    async fn idle(&self) {
        self.reached(|status| status.ready).await;
    }

    async fn stop(self) {
        self.stop.cancel();
        self.ended().await;
    }

    async fn ended(self) {
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("it ends").unwrap();
        assert!(!self.health.status().ready);
    }
}

#[tokio::test(start_paused = true)]
async fn ticks_come_when_they_are_due() {
    let machine = Machine::new("2026-03-28T12:00:00+01:00");
    // Ticks may overlap.
    machine.fake.with(|inner| inner.busy = true);
    let running = machine.start(&cron("30 2 * * *", "Europe/Berlin"));
    machine
        .expect(&[
            "2026-03-29T01:00:00.000Z",
            "2026-03-30T00:30:00.000Z",
            "2026-03-31T00:30:00.000Z",
        ])
        .await;
    let offer = machine.fake.with(|inner| inner.offers.remove(1));
    assert_eq!(offer.due, None);
    assert_eq!(offer.event.subject.as_deref(), Some("t"));
    let data = r#"{"late_ms":0,"previous":"2026-03-29T01:00:00.000Z","scheduled":"2026-03-30T00:30:00.000Z"}"#;
    assert_eq!(offer.event.data, data);
    running.reached(|status| status.offered == 3).await;
    running
        .reached(|status| status.next == Some(at("2026-04-01T02:30:00+02:00")))
        .await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_schedule_begins_now() {
    let machine = Machine::new("2026-05-05T12:00:00.500Z");
    let running = machine.start(&schedule(When::Every(Duration::from_secs(300))));
    running.idle().await;
    assert_eq!(machine.cursor().at, at("2026-05-05T12:00:00.500Z"));
    machine
        .expect(&["2026-05-05T12:05:00.500Z", "2026-05-05T12:10:00.500Z"])
        .await;
    running.stop().await;

    // Another one does too, and nothing of the time in between was missed.
    machine.set(at("2026-05-05T15:30:00Z"));
    let hourly = cron("0 * * * *", "UTC");
    let running = machine.start(&hourly);
    running.idle().await;
    assert_eq!(machine.cursor().at, at("2026-05-05T15:30:00Z"));
    assert_eq!(machine.cursor().definition, hourly.definition());
    machine
        .expect(&[
            "2026-05-05T12:05:00.500Z",
            "2026-05-05T12:10:00.500Z",
            "2026-05-05T16:00:00.000Z",
        ])
        .await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn at_ticks_once_or_never() {
    let machine = Machine::new("2026-12-31T12:00:00Z");
    let once = schedule(When::At(at("2027-01-01T00:00:00Z")));
    let running = machine.start(&once);
    machine.expect(&["2027-01-01T00:00:00.000Z"]).await;
    running.reached(|status| status.next.is_none()).await;
    running.stop().await;
    let running = machine.start(&once);
    running.idle().await;
    running.stop().await;

    // It is past when it is new.
    let running = machine.start(&schedule(When::At(at("2026-12-31T18:00:00Z"))));
    running.idle().await;
    assert_eq!(running.health.status().next, None);
    running.stop().await;
    machine.expect(&["2027-01-01T00:00:00.000Z"]).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_ticks_are_caught_up_on() {
    let (none, latest) = (&[][..], &["2026-05-05T16:00:00.000Z"][..]);
    let all = &[
        "2026-05-05T13:00:00.000Z",
        "2026-05-05T14:00:00.000Z",
        "2026-05-05T15:00:00.000Z",
        "2026-05-05T16:00:00.000Z",
    ];
    for (catch_up, ids, missed) in [
        (CatchUp::None, none, 4),
        (CatchUp::Latest, latest, 3),
        (CatchUp::All, all, 0),
    ] {
        let machine = Machine::new("2026-05-05T12:30:00Z");
        let hourly = Schedule {
            catch_up,
            ..cron("0 * * * *", "UTC")
        };
        let running = machine.start(&hourly);
        running.idle().await;
        running.stop().await;
        machine.set(at("2026-05-05T16:30:00Z"));
        let running = machine.start(&hourly);
        running.idle().await;
        machine.expect(ids).await;
        assert_eq!(running.health.status().missed, missed);
        assert_eq!(machine.cursor().at, at("2026-05-05T16:00:00Z"));
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_tick_during_the_one_before_is_left_out() {
    let machine = Machine::new("2026-05-05T12:30:00Z");
    let hourly = Schedule {
        overlap: Overlap::Skip,
        ..cron("0 * * * *", "UTC")
    };
    let running = machine.start(&hourly);
    machine.expect(&["2026-05-05T13:00:00.000Z"]).await;
    machine.fake.with(|inner| inner.busy = true);
    running.reached(|status| status.skipped == 2).await;
    assert_eq!(machine.cursor().at, at("2026-05-05T15:00:00Z"));
    machine.fake.with(|inner| inner.busy = false);
    machine
        .expect(&["2026-05-05T13:00:00.000Z", "2026-05-05T16:00:00.000Z"])
        .await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn jitter_is_left_to_the_dispatcher() {
    let machine = Machine::new("2026-05-05T12:30:00Z");
    let jittered = Schedule {
        jitter: hours(1),
        ..cron("0 * * * *", "UTC")
    };
    let running = machine.start(&jittered);
    machine.expect(&["2026-05-05T13:00:00.000Z"]).await;
    let offer = machine.fake.with(|inner| inner.offers.remove(0));
    let due = offer.due.unwrap();
    assert!(
        due > offer.event.time && due.since(offer.event.time) < hours(1),
        "{due}"
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_the_journal_is_full() {
    let machine = Machine::new("2026-05-05T12:30:00Z");
    let running = machine.start(&cron("0 * * * *", "UTC"));
    running.idle().await;
    // Some five seconds apart: two hours.
    machine.fake.with(|inner| inner.failures = 1440);
    running.reached(|status| status.trouble.is_some()).await;
    machine
        .expect(&[
            "2026-05-05T13:00:00.000Z",
            "2026-05-05T14:00:00.000Z",
            "2026-05-05T15:00:00.000Z",
        ])
        .await;
    running.reached(|status| status.trouble.is_none()).await;
    // A commit whose receipt is lost is a commit.
    machine.fake.with(|inner| inner.lost = 1);
    machine
        .expect(&[
            "2026-05-05T13:00:00.000Z",
            "2026-05-05T14:00:00.000Z",
            "2026-05-05T15:00:00.000Z",
            "2026-05-05T16:00:00.000Z",
            "2026-05-05T17:00:00.000Z",
        ])
        .await;
    // The engine stops.
    machine.fake.with(|inner| inner.stopping = true);
    running.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_is_noticed_at_the_next_beat() {
    let machine = Machine::new("2026-05-05T12:30:00Z");
    let running = machine.start(&cron("0 */6 * * *", "UTC"));
    running.idle().await;
    let before = Instant::now();
    machine.set(at("2026-05-06T00:10:00Z"));
    machine.beat.beat();
    machine
        .expect(&["2026-05-05T18:00:00.000Z", "2026-05-06T00:00:00.000Z"])
        .await;
    assert_eq!(before.elapsed(), Duration::ZERO);

    // Without a beat it takes a minute.
    machine.set(at("2026-05-06T06:00:00Z"));
    machine
        .expect(&[
            "2026-05-05T18:00:00.000Z",
            "2026-05-06T00:00:00.000Z",
            "2026-05-06T06:00:00.000Z",
        ])
        .await;
    assert!(before.elapsed() <= Duration::from_secs(60));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_repeats_nothing() {
    let machine = Machine::new("2026-05-05T12:30:00Z");
    let hourly = cron("0 * * * *", "UTC");
    let running = machine.start(&hourly);
    let mut ids = vec!["2026-05-05T13:00:00.000Z", "2026-05-05T14:00:00.000Z"];
    machine.expect(&ids).await;
    machine.set(at("2026-05-05T13:30:00Z"));
    ids.push("2026-05-05T15:00:00.000Z");
    machine.expect(&ids).await;
    running.stop().await;

    // Far back: it says so, and goes on when the clock has come so far again.
    machine.set(at("2026-05-01T00:00:00Z"));
    let running = machine.start(&hourly);
    running.reached(|status| status.trouble.is_some()).await;
    let next = running.health.status().next;
    assert_eq!(next, Some(at("2026-05-05T16:00:00Z")));
    ids.push("2026-05-05T16:00:00.000Z");
    machine.expect(&ids).await;
    running.reached(|status| status.trouble.is_none()).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_the_journal_has_is_passed() {
    let machine = Machine::new("2026-05-05T12:30:00Z");
    let known = "2026-05-05T13:00:00.000Z".to_owned();
    machine.fake.with(|inner| inner.ids.insert(known));
    let running = machine.start(&cron("0 * * * *", "UTC"));
    machine.expect(&["2026-05-05T14:00:00.000Z"]).await;
    assert_eq!(running.health.status().skipped, 0);
    running.stop().await;
}

#[tokio::test]
async fn the_wall_clock_beats() {
    let beat = Beat::default();
    let mut beats = beat.listen();
    for _ in 0..2 {
        let next = tokio::time::timeout(Duration::from_secs(60), beats.changed());
        next.await.expect("a beat within a minute").unwrap();
    }
    // The scheduler holds no handle: with the last one the beats end.
    drop(beat);
    let end = async { while beats.changed().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), end)
        .await
        .expect("no beats without a handle");
}

/// What happens to the machine next.
#[derive(Clone, Debug)]
enum Fate {
    /// So many calls of the journal fail.
    Failures(usize),
    /// So many receipts are lost.
    Lost(usize),
    /// The engine stops, and starts again after so many minutes.
    Restart(u64),
    /// The clock is set forward, or back, by so many minutes.
    Jump(i64),
    /// So many minutes pass.
    Pass(u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        (1_usize..20).prop_map(Fate::Failures),
        (1_usize..4).prop_map(Fate::Lost),
        (0_u64..600).prop_map(Fate::Restart),
        (-180_i64..180).prop_map(Fate::Jump),
        (1_u64..300).prop_map(Fate::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Over a change of the clock and whatever else happens, every tick comes, in order, and once.
    #[test]
    fn every_tick_comes_once(
        fates in proptest::collection::vec(fate(), 1..40),
        expression in prop::sample::select(vec!["*/20 * * * *", "30 2 * * *", "0 1-4 * * *"]),
        begin in prop::sample::select(vec!["2026-03-28T20:00:00Z", "2026-10-24T20:00:00Z"]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let schedule = cron(expression, "Europe/Berlin");
        let (ids, last) = runtime.block_on(async {
            let machine = Machine::new(begin);
            let mut running = machine.start(&schedule);
            running.idle().await;
            for fate in fates {
                match fate {
                    Fate::Failures(n) => machine.fake.with(|inner| inner.failures = n),
                    Fate::Lost(n) => machine.fake.with(|inner| inner.lost = n),
                    Fate::Restart(minutes) => {
                        running.stop().await;
                        tokio::time::advance(Duration::from_secs(minutes * 60)).await;
                        running = machine.start(&schedule);
                    }
                    Fate::Jump(minutes) => {
                        machine.set(Timestamp(machine.now().0 + minutes * 60_000));
                        machine.beat.beat();
                    }
                    Fate::Pass(minutes) => {
                        tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
                    }
                }
            }
            let last = machine.now().0.max(machine.cursor().at.0);
            machine
                .fake
                .wait("the end", |inner| {
                    inner.cursor.as_ref().is_some_and(|cursor| cursor.at.0 > last)
                })
                .await;
            running.stop().await;
            (machine.fake.ids(), machine.cursor().at)
        });
        let next = |after: &Timestamp| schedule.next_after(*after).filter(|at| *at <= last);
        let ticks = std::iter::successors(next(&at(begin)), next);
        prop_assert_eq!(ids, ticks.map(|at| at.to_string()).collect::<Vec<_>>());
    }
}
