//! The dispatch against a model: a journal that is a map and keeps the rule of turns, and random
//! arrivals, ends, pages, delays of what the dispatch is told, and crashes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::turn::Turn;

const QUEUES: [QueueSettings; 7] = [
    queue(0, None, false),
    queue(0, Some(3), false),
    queue(1, None, false),
    queue(1, Some(2), true),
    batches(0, None, false),
    batches(1, Some(7), true),
    queue(0, None, true),
];
const GATES: [usize; 2] = [2, 3];
const CAP: usize = 4;
const WINDOW: usize = 2;
const PER_MS: u64 = 50;

const fn queue(gate: GateIndex, count: Option<u32>, held: bool) -> QueueSettings {
    let rate = match count {
        Some(count) => Some(Rate {
            count,
            per: Duration::from_millis(PER_MS),
        }),
        None => None,
    };
    QueueSettings {
        gate,
        rate,
        held,
        batch: None,
    }
}

const fn batches(gate: GateIndex, count: Option<u32>, held: bool) -> QueueSettings {
    let batch = Batch {
        max: 5,
        wait: Duration::from_millis(20),
        bytes: 500_000,
    };
    QueueSettings {
        batch: Some(batch),
        ..queue(gate, count, held)
    }
}

#[derive(Clone, Debug)]
enum Act {
    Arrive {
        queue: usize,
        delay: i64,
        size: usize,
        turn: Turn,
    },
    /// Many, due one after another, so that most stay in the journal.
    Flood {
        queue: usize,
        gap: i64,
    },
    /// A running one is done, or dead, or runs again.
    End {
        which: usize,
        retry: Option<i64>,
    },
    /// One that runs lets others pass its gate.
    MakeRoom {
        which: usize,
    },
    /// The dispatch hears of something that the journal has.
    Tell {
        which: usize,
    },
    PageComes {
        which: usize,
        fails: bool,
    },
    TimePasses(i64),
    /// Those of these queues that are not held are closed, and all others open.
    Shape {
        closed: [bool; QUEUES.len()],
    },
    Crash,
}

/// How often what happens differs from run to run, for what is rare when all are as fast is common
/// when one is slow.
fn acts() -> impl Strategy<Value = Vec<Act>> {
    let often = prop_oneof![Just(10u32), Just(60)];
    proptest::array::uniform4(often).prop_flat_map(|often| vec(act(often), 0..400))
}

fn act([ends, told, pages, time]: [u32; 4]) -> impl Strategy<Value = Act> {
    let name = || proptest::option::weighted(0.5, "[abc]");
    let turn = (name(), name()).prop_map(|(lane, key)| Turn { lane, key });
    let delay = prop_oneof![3 => Just(0), 1 => 0..50i64];
    prop_oneof![
        3 => (0..QUEUES.len(), 0..10i64).prop_map(|(queue, gap)| Act::Flood { queue, gap }),
        15 => (0..QUEUES.len(), delay, 0..400_000usize, turn)
            .prop_map(|(queue, delay, size, turn)| Act::Arrive { queue, delay, size, turn }),
        ends => (any::<usize>(), proptest::option::weighted(0.3, 0..40i64))
            .prop_map(|(which, retry)| Act::End { which, retry }),
        5 => any::<usize>().prop_map(|which| Act::MakeRoom { which }),
        told => any::<usize>().prop_map(|which| Act::Tell { which }),
        pages => (any::<usize>(), proptest::bool::weighted(0.1))
            .prop_map(|(which, fails)| Act::PageComes { which, fails }),
        time => prop_oneof![0..4i64, 0..40i64].prop_map(Act::TimePasses),
        2 => any::<[bool; QUEUES.len()]>().prop_map(|closed| Act::Shape { closed }),
        2 => Just(Act::Shape { closed: [false; QUEUES.len()] }),
        1 => Just(Act::Crash),
    ]
}

/// A pending delivery: of the journal, or of a client that waits if its queue is held.
#[derive(Clone, Debug)]
struct Row {
    queue: QueueIndex,
    waiting: Waiting,
    turn: Turn,
    blocked: bool,
}

impl Row {
    fn key(&self) -> (Timestamp, Seq) {
        (self.waiting.due, self.waiting.seq)
    }
}

/// What the journal has and the dispatch has not heard of.
#[derive(Clone, Debug)]
enum News {
    /// It was accepted, or is not blocked any more.
    Arrived(QueueIndex, Waiting),
    /// An attempt ended, and some of it may run again.
    Ended(Start, Vec<Seq>, Vec<Waiting>),
}

impl News {
    fn seqs(&self) -> Vec<Seq> {
        match self {
            News::Arrived(_, waiting) => vec![waiting.seq],
            News::Ended(_, seqs, _) => seqs.clone(),
        }
    }
}

struct Model {
    dispatch: Dispatch,
    now: Timestamp,
    /// What the dispatch said last, if nothing has happened since of which it was told that there is news.
    waits: Option<Step>,
    next_seq: Seq,
    rows: BTreeMap<Seq, Row>,
    /// Attempts, of one or several.
    running: Vec<(Start, Vec<Seq>)>,
    /// Those that others pass.
    out: HashSet<Start>,
    news: Vec<News>,
    pages: Vec<(QueueIndex, Vec<Waiting>)>,
    /// What ran by a page before the news of its arrival came: the news is wrong by then.
    outrun: HashSet<Seq>,
    starts: [Vec<Timestamp>; QUEUES.len()],
    closed: [bool; QUEUES.len()],
    /// What left the journal, done or dead, by queue and lane, and by queue and key.
    left_by_lane: HashMap<(QueueIndex, String), Vec<Seq>>,
    left_by_key: HashMap<(QueueIndex, String), Vec<Seq>>,
    left: usize,
    /// How many clients a crash has sent away.
    hung_up: usize,
}

fn fresh() -> Dispatch {
    Dispatch::with_window(&QUEUES, &GATES, CAP, WINDOW)
}

impl Model {
    fn new() -> Model {
        Model {
            dispatch: fresh(),
            now: Timestamp(1000),
            waits: None,
            next_seq: 1,
            rows: BTreeMap::new(),
            running: Vec::new(),
            out: HashSet::new(),
            news: Vec::new(),
            pages: Vec::new(),
            outrun: HashSet::new(),
            starts: Default::default(),
            closed: Default::default(),
            left_by_lane: HashMap::new(),
            left_by_key: HashMap::new(),
            left: 0,
            hung_up: 0,
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Arrive {
                queue,
                delay,
                size,
                turn,
            } => self.arrive(queue, delay, size, turn),
            Act::Flood { queue, gap } => {
                (0..4 * WINDOW as i64)
                    .for_each(|n| self.arrive(queue, n * gap, 0, Turn::default()));
            }
            Act::End { which, retry } if !self.running.is_empty() => {
                let (start, seqs) = self.running.swap_remove(which % self.running.len());
                self.out.remove(&start);
                self.end(start, seqs, retry.filter(|_| !QUEUES[start.queue].held));
            }
            Act::MakeRoom { which } if !self.running.is_empty() => {
                let (start, _) = self.running[which % self.running.len()];
                self.out.insert(start);
                self.dispatch.make_room(start);
            }
            Act::Tell { which } if !self.news.is_empty() => {
                match self.news.swap_remove(which % self.news.len()) {
                    News::Arrived(queue, waiting) => self.arrived(queue, waiting),
                    News::Ended(start, seqs, again) => {
                        let queue = start.queue;
                        match (QUEUES[queue].batch, &*seqs) {
                            (None, [seq]) => self.dispatch.ended(queue, *seq),
                            _ => self.dispatch.ended_batch(start, &seqs),
                        }
                        if !self.dispatch.is_waited_for() {
                            let step = self.dispatch.next(self.now);
                            assert!(matches!(step, Step::Wait(_)), "nobody asks: {step:?}");
                        }
                        for again in again {
                            self.dispatch.arrived(queue, again);
                        }
                    }
                }
            }
            Act::PageComes { which, fails } if !self.pages.is_empty() => {
                let (queue, page) = self.pages.swap_remove(which % self.pages.len());
                match fails {
                    true => self.dispatch.load_failed(queue),
                    false => self.dispatch.loaded(queue, page),
                }
            }
            Act::TimePasses(ms) => self.now.0 += ms,
            Act::Shape { closed } => self.shape(closed),
            Act::Crash => self.crash(),
            Act::End { .. } | Act::MakeRoom { .. } | Act::Tell { .. } | Act::PageComes { .. } => {}
        }
        self.drive();
    }

    fn shape(&mut self, closed: [bool; QUEUES.len()]) {
        for (queue, settings) in QUEUES.iter().enumerate() {
            self.closed[queue] = closed[queue] && !settings.held;
        }
        let open = QUEUES.iter().zip(self.closed);
        let open = open.map(|(settings, closed)| (!closed).then_some(*settings));
        self.dispatch.reshape(&open.collect::<Vec<_>>(), &GATES);
    }

    fn arrive(&mut self, queue: QueueIndex, delay: i64, size: usize, turn: Turn) {
        let waiting = Waiting {
            seq: self.next_seq,
            due: Timestamp(self.now.0 + delay),
            size,
        };
        self.next_seq += 1;
        let held = QUEUES[queue].held;
        let mut row = Row {
            queue,
            waiting,
            turn: if held { Turn::default() } else { turn },
            blocked: false,
        };
        row.blocked = self.is_blocked(&row);
        match (held, row.blocked) {
            (true, _) => self.arrived(queue, waiting),
            (false, false) => self.news.push(News::Arrived(queue, waiting)),
            (false, true) => {}
        }
        self.rows.insert(waiting.seq, row);
        if held && self.dispatch.start_now(queue, waiting.seq, self.now) {
            assert!(self.start(queue, waiting.seq), "it has just arrived");
            self.waits = None;
            let (seq, start) = (waiting.seq, Start::new(queue, waiting.seq));
            self.running.push((start, vec![seq]));
            self.caps_hold(queue);
        }
    }

    /// Whoever is told that nothing is new does not ask.
    fn arrived(&mut self, queue: QueueIndex, waiting: Waiting) {
        if self.dispatch.arrived(queue, waiting) {
            self.waits = None;
        } else if let Some(waits) = &self.waits {
            assert_eq!(self.dispatch.next(self.now), *waits);
        }
    }

    fn is_blocked(&self, row: &Row) -> bool {
        let before = self.rows.range(..row.waiting.seq);
        let ahead = before.filter(|(_, other)| other.queue == row.queue);
        row.turn.is_blocked(ahead.map(|(_, other)| &other.turn))
    }

    /// The commit that ends an attempt. If there is something to run again, every other one is.
    fn end(&mut self, start: Start, seqs: Vec<Seq>, retry: Option<i64>) {
        let mut again = Vec::new();
        for (n, &seq) in seqs.iter().enumerate() {
            if self.news.iter().any(|news| news.seqs().contains(&seq)) {
                self.outrun.insert(seq);
            }
            let Some(delay) = retry.filter(|_| n % 2 == 0) else {
                self.leave(seq);
                continue;
            };
            let row = self.rows.get_mut(&seq).expect("it is pending");
            row.waiting.due = Timestamp(self.now.0 + delay);
            again.push(row.waiting);
        }
        self.news.push(News::Ended(start, seqs, again));
    }

    /// It is pending no more, and others may not be blocked any more.
    fn leave(&mut self, seq: Seq) {
        let row = self.rows.remove(&seq).expect("it is pending");
        self.left += 1;
        for (left, name) in [
            (&mut self.left_by_lane, row.turn.lane),
            (&mut self.left_by_key, row.turn.key),
        ] {
            if let Some(name) = name {
                left.entry((row.queue, name)).or_default().push(seq);
            }
        }
        let blocked = self.rows.values().filter(|other| other.blocked);
        let free = blocked.filter(|other| !self.is_blocked(other));
        let free: Vec<Seq> = free.map(|other| other.waiting.seq).collect();
        for seq in free {
            let row = self.rows.get_mut(&seq).expect("it is pending");
            row.blocked = false;
            self.news.push(News::Arrived(row.queue, row.waiting));
        }
    }

    /// What is in the journal is there still, and all else is gone.
    fn crash(&mut self) {
        self.dispatch = fresh();
        self.running.clear();
        self.out.clear();
        self.news.clear();
        self.pages.clear();
        self.outrun.clear();
        self.starts = Default::default();
        self.closed = Default::default();
        let before = self.rows.len();
        self.rows.retain(|_, row| !QUEUES[row.queue].held);
        self.hung_up += before - self.rows.len();
    }

    fn drive(&mut self) {
        loop {
            match self.dispatch.next(self.now) {
                Step::Start { queue, seq } => {
                    assert_eq!(QUEUES[queue].batch, None);
                    match self.start(queue, seq) {
                        true => self.running.push((Start { queue, seq }, vec![seq])),
                        false => self.dispatch.ended(queue, seq),
                    }
                    self.caps_hold(queue);
                }
                Step::StartBatch { queue, seqs } => {
                    self.is_time(queue, &seqs);
                    let start = Start::new(queue, seqs[0]);
                    self.running.push((start, Vec::new()));
                    for seq in seqs {
                        if self.start(queue, seq) {
                            let (_, batch) = self.running.last_mut().expect("it was pushed");
                            batch.push(seq);
                        } else {
                            self.dispatch.withdraw(queue, seq);
                        }
                    }
                    self.caps_hold(queue);
                    if self.running.pop_if(|(_, batch)| batch.is_empty()).is_some() {
                        self.dispatch.ended_batch(start, &[]);
                    }
                }
                Step::Load {
                    queue,
                    after,
                    limit,
                } => {
                    assert!(!QUEUES[queue].held, "the journal has nothing of it");
                    let own = self.rows.values();
                    let own = own.filter(|row| row.queue == queue && !row.blocked);
                    let mut page: Vec<&Row> = own.filter(|row| Some(row.key()) > after).collect();
                    page.sort_by_key(|row| row.key());
                    let page = page.into_iter().take(limit).map(|row| row.waiting);
                    self.pages.push((queue, page.collect()));
                }
                Step::Wait(until) => {
                    assert!(until.is_none_or(|until| until > self.now));
                    self.waits = Some(Step::Wait(until));
                    return;
                }
            }
        }
    }

    /// Whether a batch is full, or its first one has waited long enough.
    fn is_time(&self, queue: QueueIndex, seqs: &[Seq]) {
        let batch = QUEUES[queue].batch.expect("it has batches");
        assert!((1..=batch.max).contains(&seqs.len()), "{seqs:?}");
        let rows = seqs.iter().filter_map(|seq| self.rows.get(seq));
        let rows: Vec<&Waiting> = rows.map(|row| &row.waiting).collect();
        if rows.len() < seqs.len() || seqs.iter().any(|seq| self.outrun.contains(seq)) {
            // Of what is gone, or news is late about, the model does not know what the dispatch did.
            return;
        }
        let bytes: usize = rows.iter().map(|one| one.size).sum();
        assert!(seqs.len() == 1 || bytes <= batch.bytes, "{bytes} bytes");
        // A page may have brought what the news of is late, so any other one may be next.
        let others = self.rows.values().filter(|row| row.queue == queue);
        let mut others = others.filter(|row| !seqs.contains(&row.waiting.seq));
        let full = seqs.len() == batch.max
            || bytes >= batch.bytes
            || others.any(|other| bytes + other.waiting.size > batch.bytes);
        // One that was full may be as large only as its rate has room for.
        let spent = QUEUES[queue].rate.is_some_and(|rate| {
            self.recent_starts(queue, rate) + seqs.len() >= rate.count as usize
        });
        let ripe = rows[0].due.plus(batch.wait) <= self.now;
        assert!(full || spent || ripe, "too early: {seqs:?}");
    }

    fn recent_starts(&self, queue: QueueIndex, rate: Rate) -> usize {
        let recent = |at: &&Timestamp| self.now < at.plus(rate.per);
        self.starts[queue].iter().filter(recent).count()
    }

    /// Whether it is there still.
    fn start(&mut self, queue: QueueIndex, seq: Seq) -> bool {
        assert!(!self.closed[queue], "it is closed");
        self.starts[queue].push(self.now);
        if let Some(rate) = QUEUES[queue].rate {
            let recent = self.recent_starts(queue, rate);
            assert!(recent <= rate.count as usize, "the rate holds");
        }
        let outrun = self.outrun.contains(&seq);
        let Some(row) = self.rows.get(&seq) else {
            assert!(outrun, "only late news tells of what is gone");
            return false;
        };
        assert_eq!(row.queue, queue);
        let running = self.running.iter();
        let running = running.flat_map(|(start, seqs)| seqs.iter().map(|seq| (start.queue, seq)));
        for (other_queue, other) in running {
            assert_ne!(*other, seq, "it runs already");
            let other = &self.rows[other].turn;
            let same = |one: &Option<String>, two| one.is_some() && one == two;
            let shared = same(&row.turn.lane, &other.lane) || same(&row.turn.key, &other.key);
            assert!(
                !shared || other_queue != queue,
                "one of a lane or key at a time"
            );
        }
        if !outrun {
            assert!(row.waiting.due <= self.now, "it is due");
            let news = self.news.iter().flat_map(News::seqs);
            let running = self.running.iter().flat_map(|(_, seqs)| seqs.clone());
            let taken: HashSet<Seq> = news.chain(running).collect();
            let own = self.rows.values();
            let own = own.filter(|other| other.queue == queue && !other.blocked);
            let first = own.filter(|other| !taken.contains(&other.waiting.seq));
            let first = first.map(Row::key).min();
            assert!(first.is_none_or(|first| row.key() <= first), "in order");
        }
        true
    }

    fn caps_hold(&self, queue: QueueIndex) {
        let gate = QUEUES[queue].gate;
        let inside = self.running.iter().map(|(start, _)| start);
        let in_gate =
            inside.filter(|start| QUEUES[start.queue].gate == gate && !self.out.contains(start));
        assert!(in_gate.count() <= GATES[gate], "the gate's cap holds");
        assert!(self.running.len() <= CAP, "the cap over all holds");
    }
}

proptest! {
    #[test]
    fn everything_leaves_in_turn_within_caps_and_rates(
        acts in acts(),
    ) {
        let mut model = Model::new();
        for act in acts {
            model.act(act);
            for (queue, settings) in QUEUES.iter().enumerate() {
                let (waiting, more) = model.dispatch.waiting_in(queue);
                let loads = model.pages.iter().any(|(loads, _)| *loads == queue);
                let unbounded = settings.held || loads;
                let window = settings.batch.map_or(WINDOW, |batch| batch.max);
                prop_assert!(unbounded || waiting <= 2 * window, "{waiting} in memory");
                prop_assert!(!settings.held || !more, "all of it is in memory");
            }
        }
        // Once nothing new comes, everything ends.
        model.shape([false; QUEUES.len()]);
        for _ in 0..10_000 {
            if model.rows.is_empty() && model.news.is_empty() { break }
            model.act(Act::PageComes { which: 0, fails: false });
            model.act(Act::End { which: 0, retry: None });
            model.act(Act::Tell { which: 0 });
            model.act(Act::TimePasses(10));
        }
        prop_assert!(model.rows.is_empty(), "left over: {:?}", model.rows);
        prop_assert_eq!(model.left + model.hung_up, model.next_seq as usize - 1);
        prop_assert_eq!(model.dispatch.running(), 0);
        for (name, left) in model.left_by_lane.iter().chain(&model.left_by_key) {
            prop_assert!(left.is_sorted(), "{name:?} left in the order {left:?}");
        }
    }
}
