//! The dispatch against a model: a journal that is a map, and random arrivals, ends and pages.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

const QUEUES: [GateIndex; 3] = [0, 0, 1];
const GATES: [usize; 2] = [2, 3];
const CAP: usize = 4;
const WINDOW: usize = 4;

#[derive(Clone, Debug)]
enum Act {
    Arrive {
        queue: usize,
        delay: i64,
        size: usize,
    },
    End {
        which: usize,
        retry: Option<i64>,
    },
    PageComes {
        which: usize,
        fails: bool,
    },
    TimePasses(i64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..QUEUES.len(), prop_oneof![3 => Just(0), 1 => 0..50i64], 0..400_000usize)
            .prop_map(|(queue, delay, size)| Act::Arrive { queue, delay, size }),
        3 => (any::<usize>(), proptest::option::weighted(0.3, 0..40i64))
            .prop_map(|(which, retry)| Act::End { which, retry }),
        2 => (any::<usize>(), proptest::bool::weighted(0.1))
            .prop_map(|(which, fails)| Act::PageComes { which, fails }),
        1 => (0..30i64).prop_map(Act::TimePasses),
    ]
}

struct Model {
    dispatch: Dispatch,
    now: Timestamp,
    next_seq: Seq,
    /// What the journal holds as pending, running ones included.
    journal: BTreeMap<(QueueIndex, Timestamp, Seq), Waiting>,
    running: Vec<(QueueIndex, Waiting)>,
    pages: Vec<(QueueIndex, Vec<Waiting>)>,
    first_page_came: [bool; QUEUES.len()],
    started: HashMap<Seq, u32>,
}

impl Model {
    fn new() -> Model {
        Model {
            dispatch: Dispatch::with_window(&QUEUES, &GATES, CAP, WINDOW),
            now: Timestamp(1000),
            next_seq: 1,
            journal: BTreeMap::new(),
            running: Vec::new(),
            pages: Vec::new(),
            first_page_came: [false; QUEUES.len()],
            started: HashMap::new(),
        }
    }

    fn pending(&self, queue: QueueIndex) -> impl Iterator<Item = &Waiting> {
        let from = (queue, Timestamp(i64::MIN), Seq::MIN);
        self.journal
            .range(from..(queue + 1, Timestamp(i64::MIN), Seq::MIN))
            .map(|(_, w)| w)
    }

    fn add(&mut self, queue: QueueIndex, waiting: Waiting) {
        self.journal
            .insert((queue, waiting.due, waiting.seq), waiting);
        self.dispatch.arrived(queue, waiting);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Arrive { queue, delay, size } => {
                let waiting = Waiting {
                    seq: self.next_seq,
                    due: Timestamp(self.now.0 + delay),
                    size,
                };
                self.next_seq += 1;
                self.add(queue, waiting);
            }
            Act::End { which, retry } if !self.running.is_empty() => {
                let (queue, waiting) = self.running.swap_remove(which % self.running.len());
                self.journal.remove(&(queue, waiting.due, waiting.seq));
                if let Some(delay) = retry {
                    let again = Waiting {
                        due: Timestamp(self.now.0 + delay),
                        ..waiting
                    };
                    self.journal.insert((queue, again.due, again.seq), again);
                    self.dispatch.ended(queue, waiting.seq);
                    self.dispatch.arrived(queue, again);
                } else {
                    self.dispatch.ended(queue, waiting.seq);
                }
            }
            Act::PageComes { which, fails } if !self.pages.is_empty() => {
                let (queue, page) = self.pages.swap_remove(which % self.pages.len());
                if fails {
                    self.dispatch.load_failed(queue);
                } else {
                    self.first_page_came[queue] = true;
                    self.dispatch.loaded(queue, page);
                }
            }
            Act::TimePasses(ms) => self.now.0 += ms,
            Act::End { .. } | Act::PageComes { .. } => {}
        }
        self.drive();
    }

    fn drive(&mut self) {
        loop {
            match self.dispatch.next(self.now) {
                Step::Start { queue, seq } => self.start(queue, seq),
                Step::Load {
                    queue,
                    after,
                    limit,
                } => {
                    let page = self.pending(queue).filter(|w| Some((w.due, w.seq)) > after);
                    let page = page.take(limit).copied().collect();
                    self.pages.push((queue, page));
                }
                Step::Wait(until) => {
                    assert!(until.is_none_or(|until| until > self.now));
                    return;
                }
            }
        }
    }

    fn start(&mut self, queue: QueueIndex, seq: Seq) {
        let runs = |w: &Waiting| self.running.iter().any(|(_, running)| running.seq == w.seq);
        let first = self.pending(queue).find(|w| !runs(w)).copied();
        let started = *self
            .pending(queue)
            .find(|w| w.seq == seq)
            .expect("it is in the journal");
        assert!(!runs(&started), "it runs already");
        assert!(started.due <= self.now, "it is due");
        if self.first_page_came[queue] {
            assert_eq!(first, Some(started), "the queue is in order");
        }
        self.running.push((queue, started));
        *self.started.entry(seq).or_default() += 1;
        let in_gate = self
            .running
            .iter()
            .filter(|(q, _)| QUEUES[*q] == QUEUES[queue])
            .count();
        assert!(in_gate <= GATES[QUEUES[queue]], "the gate's cap holds");
        assert!(self.running.len() <= CAP, "the cap over all holds");
    }
}

proptest! {
    #[test]
    fn everything_runs_once_in_order_within_caps(acts in proptest::collection::vec(act(), 0..300)) {
        let mut model = Model::new();
        for act in acts {
            model.act(act);
            for queue in 0..QUEUES.len() {
                let (waiting, _) = model.dispatch.waiting(queue);
                prop_assert!(waiting <= 4 * WINDOW + CAP, "{waiting} in memory");
            }
        }
        // Once nothing new comes, everything ends.
        for _ in 0..10_000 {
            if model.journal.is_empty() { break }
            model.act(Act::PageComes { which: 0, fails: false });
            model.act(Act::End { which: 0, retry: None });
            model.act(Act::TimePasses(10));
        }
        prop_assert!(model.journal.is_empty(), "left over: {:?}", model.journal);
        prop_assert!((1..model.next_seq).all(|seq| model.started.contains_key(&seq)));
        prop_assert_eq!(model.dispatch.running(), 0);
    }
}

/// Queues that always have work, each with events of one size, over one gate.
fn starts_by_queue(sizes: &[usize], cap: usize, starts: usize) -> Vec<u64> {
    let mut dispatch = Dispatch::new(&vec![0; sizes.len()], &[cap], usize::MAX);
    let mut counts = vec![0; sizes.len()];
    let mut seq = 0;
    let mut running = VecDeque::new();
    while counts.iter().sum::<u64>() < starts as u64 {
        match dispatch.next(Timestamp(0)) {
            Step::Load { queue, .. } => {
                let page = (0..2).map(|n| Waiting {
                    seq: seq + n,
                    due: Timestamp(0),
                    size: sizes[queue],
                });
                dispatch.loaded(queue, page.collect());
                seq += 2;
            }
            Step::Start {
                queue,
                seq: started,
            } => {
                counts[queue] += 1;
                running.push_back((queue, started));
                dispatch.arrived(
                    queue,
                    Waiting {
                        seq,
                        due: Timestamp(0),
                        size: sizes[queue],
                    },
                );
                seq += 1;
            }
            Step::Wait(_) => {
                let (queue, seq) = running.pop_front().expect("something runs");
                dispatch.ended(queue, seq);
            }
        }
    }
    counts
}

#[test]
fn busy_queues_share_a_gate_evenly() {
    for cap in [1, 3, 64] {
        let counts = starts_by_queue(&[100, 100, 100], cap, 3000);
        assert!(
            counts.iter().all(|&n| (900..=1100).contains(&n)),
            "cap {cap}: {counts:?}"
        );
    }
}

#[test]
fn large_events_count_for_more_but_never_starve() {
    for cap in [1, 3, 64] {
        let counts = starts_by_queue(&[100, 6 << 20], cap, 3000);
        assert!(counts[0] > counts[1], "cap {cap}: {counts:?}");
        assert!(counts[1] >= 3, "cap {cap}: {counts:?}");
    }
}
