//! Which delivery runs next: by due time within a queue, by deficit round robin between queues, and
//! never past the cap of a gate or the rate of a queue.
//!
//! A queue holds the deliveries of one trigger (its outbox is a queue of its own); a gate is what
//! several queues share a cap on, such as a function. Only a [`Window`] of each queue is in memory.
//! Lanes and keys are the journal's matter: what they block is not told here ([`crate::turn`]).
//! This module decides; it neither runs a delivery nor reads the journal. Whoever drives it calls
//! [`Dispatch::next`] until it says to wait, and tells it what arrived, was loaded and ended.

mod reshape;
mod window;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod sharing_test;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use foldhash::HashSet;

use crate::{
    delivery::Seq,
    limits,
    rate::{Meter, Rate},
    time::Timestamp,
};

use window::Window;

/// A queue, by its place in the list that [`Dispatch::new`] was given.
pub type QueueIndex = usize;
/// A gate, likewise.
pub type GateIndex = usize;

/// What each turn of the round robin adds to a queue's deficit.
const QUANTUM: i64 = 8;
/// The bytes of an event that cost as much as the delivery itself.
const BYTES_PER_COST: usize = 64 << 10;

/// What a queue is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// The gate that it passes.
    pub gate: GateIndex,
    /// How often at most its deliveries start.
    pub rate: Option<Rate>,
    /// Whether somebody else keeps its deliveries: nothing of it is in the journal, so it never
    /// loads, and all that arrives stays in memory.
    pub held: bool,
    /// Whether its deliveries start several at a time.
    pub batch: Option<Batch>,
}

/// How many deliveries start together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The most deliveries.
    pub max: usize,
    /// How long the first one waits for more, from when it is due.
    pub wait: Duration,
    /// The most bytes of events, unless one alone has more.
    pub bytes: usize,
}

/// What was started at once: a delivery, or a batch of them by its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Start {
    /// The queue.
    pub queue: QueueIndex,
    /// The delivery.
    pub seq: Seq,
}

impl Start {
    /// The start of this delivery.
    pub fn new(queue: QueueIndex, seq: Seq) -> Start {
        Start { queue, seq }
    }
}

/// A delivery that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the journal.
    pub seq: Seq,
    /// Not to run before.
    pub due: Timestamp,
    /// Bytes of its event.
    pub size: usize,
}

impl Waiting {
    fn cost(&self) -> i64 {
        1 + (self.size / BYTES_PER_COST) as i64
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start this delivery, and call [`Dispatch::ended`] when it has ended.
    Start {
        /// Its queue.
        queue: QueueIndex,
        /// Which.
        seq: Seq,
    },
    /// Start these together, and call [`Dispatch::ended_batch`] when all have ended. They pass the gate
    /// as one.
    StartBatch {
        /// Their queue.
        queue: QueueIndex,
        /// Which, in their order. At least one.
        seqs: Vec<Seq>,
    },
    /// Read the next page of this queue from the journal and pass it to [`Dispatch::loaded`].
    Load {
        /// The queue.
        queue: QueueIndex,
        /// What sorts after this by (due, seq).
        after: Option<(Timestamp, Seq)>,
        /// So many.
        limit: usize,
    },
    /// Nothing to do before this time, or before something arrives or ends.
    Wait(Option<Timestamp>),
}

/// Where a queue stands in the round robin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing waits.
    Idle,
    /// The first delivery is due then, or has waited long enough for others.
    Timer(Timestamp),
    /// The rate allows one then, whatever arrives meanwhile.
    Rests(Timestamp),
    /// In the ring, with something due.
    Ring,
    /// Its gate is at its cap.
    Blocked,
}

#[derive(Debug)]
struct Queue {
    window: Window,
    place: Place,
    /// A batch may cost more than there is: the rest is owed, and paid by turns without a start.
    deficit: i64,
    /// Whether it has been given its quantum in this turn.
    in_turn: bool,
    meter: Option<Meter>,
    settings: QueueSettings,
    /// How many of it count at its gate.
    passing: usize,
    /// Gates that it had before, and how many of it count there still.
    earlier: Vec<(GateIndex, usize)>,
}

#[derive(Debug)]
struct Gate {
    cap: usize,
    running: usize,
    blocked: Vec<QueueIndex>,
}

impl QueueSettings {
    /// Of a queue that is closed from the beginning.
    const CLOSED: QueueSettings = QueueSettings {
        gate: 0,
        rate: None,
        held: false,
        batch: None,
    };

    /// The size of the window, so that even the largest batch can be full.
    fn window(&self, standard: usize) -> usize {
        self.batch.map_or(standard, |one| standard.max(one.max))
    }
}

impl Queue {
    fn new(settings: QueueSettings, window: usize) -> Queue {
        Queue {
            window: match settings.held {
                true => Window::held(),
                false => Window::new(settings.window(window)),
            },
            place: Place::Idle,
            deficit: 0,
            in_turn: false,
            meter: settings.rate.map(Meter::new),
            settings,
            passing: 0,
            earlier: Vec::new(),
        }
    }

    /// The gate that one of it leaves. Which of them began at an earlier gate is not known, and does not
    /// matter: each gate is left as often as it was passed.
    fn leave_gate(&mut self) -> GateIndex {
        let Some((gate, count)) = self.earlier.last_mut() else {
            self.passing -= 1;
            return self.settings.gate;
        };
        let gate = *gate;
        *count -= 1;
        if *count == 0 {
            self.earlier.pop();
        }
        gate
    }

    /// It leaves the ring. No queue collects credit by resting, and none gets rid of what it owes.
    fn rest(&mut self, place: Place) {
        self.place = place;
        self.in_turn = false;
        self.deficit = self.deficit.min(0);
    }

    /// Starts the first.
    fn start(&mut self, now: Timestamp) -> Option<Seq> {
        let started = self.window.start()?;
        self.deficit -= started.cost();
        if let Some(meter) = &mut self.meter {
            meter.start(now);
        }
        Some(started.seq)
    }
}

/// The state of the round robin.
#[derive(Debug)]
pub struct Dispatch {
    queues: Vec<Queue>,
    gates: Vec<Gate>,
    ring: VecDeque<QueueIndex>,
    timers: BTreeSet<(Timestamp, QueueIndex)>,
    /// Queues that want a page.
    hungry: Vec<QueueIndex>,
    /// What all gates together may run.
    cap: usize,
    running: usize,
    /// What has started, has not ended, and passes its gate no more.
    out: HashSet<Start>,
    /// The size of a window.
    window: usize,
    /// The time of the last step.
    seen: Timestamp,
}

impl Dispatch {
    /// The queues, gates by their caps, and the cap over all. Every queue that is not held begins by
    /// loading what the journal holds.
    pub fn new(queues: &[QueueSettings], gates: &[usize], cap: usize) -> Dispatch {
        Dispatch::with_window(queues, gates, cap, limits::WINDOW)
    }

    fn with_window(
        queues: &[QueueSettings],
        gates: &[usize],
        cap: usize,
        window: usize,
    ) -> Dispatch {
        let mut dispatch = Dispatch {
            queues: Vec::with_capacity(queues.len()),
            gates: Vec::new(),
            ring: VecDeque::new(),
            timers: BTreeSet::new(),
            hungry: Vec::new(),
            cap,
            running: 0,
            out: HashSet::default(),
            window,
            seen: Timestamp(i64::MIN),
        };
        let queues: Vec<Option<QueueSettings>> = queues.iter().copied().map(Some).collect();
        dispatch.reshape(&queues, gates);
        dispatch
    }

    /// A delivery of this queue has become pending in the journal. Whether [`Dispatch::next`] may have something
    /// else to say now, should it wait.
    pub fn arrived(&mut self, queue: QueueIndex, delivery: Waiting) -> bool {
        self.queues[queue].window.arrived(delivery);
        self.place(queue)
    }

    /// The page asked for by [`Step::Load`] came: what the journal held, in order, up to the limit.
    pub fn loaded(&mut self, queue: QueueIndex, page: Vec<Waiting>) {
        self.queues[queue].window.loaded(page);
        self.look_for_hunger(queue);
        self.place(queue);
    }

    /// The page could not be read; it is asked for again.
    pub fn load_failed(&mut self, queue: QueueIndex) {
        self.queues[queue].window.load_failed();
        self.look_for_hunger(queue);
    }

    /// A started delivery has ended. If it is to run again, [`Dispatch::arrived`] follows.
    pub fn ended(&mut self, queue: QueueIndex, seq: Seq) {
        self.ended_batch(Start { queue, seq }, &[seq]);
    }

    /// A batch has ended: these, and those that were [withdrawn](Dispatch::withdraw) before.
    pub fn ended_batch(&mut self, start: Start, seqs: &[Seq]) {
        for seq in seqs {
            self.queues[start.queue].window.ended(*seq);
        }
        self.make_room(start);
        self.out.remove(&start);
        self.running -= 1;
    }

    /// What was started has not ended, but others may pass its gate in its place.
    pub fn make_room(&mut self, start: Start) {
        if !self.out.insert(start) {
            return;
        }
        let gate = self.queues[start.queue].leave_gate();
        let gate = &mut self.gates[gate];
        gate.running -= 1;
        for freed in std::mem::take(&mut gate.blocked) {
            self.queues[freed].place = Place::Ring;
            self.ring.push_back(freed);
        }
    }

    /// One of a started batch takes no part in it, and is as one that never arrived.
    pub fn withdraw(&mut self, queue: QueueIndex, seq: Seq) {
        self.queues[queue].window.ended(seq);
    }

    /// What of this queue has started and has not ended. It looks at all that is in memory.
    pub fn started(&self, queue: QueueIndex) -> HashSet<Seq> {
        self.queues[queue].window.started()
    }

    /// How many attempts are running. A batch is one.
    pub fn running(&self) -> usize {
        self.running
    }

    /// How many deliveries wait in memory, of queues whose turn it is when [`Dispatch::next`] has started something:
    /// so many at most.
    pub fn waiting(&self, most: usize) -> usize {
        let mut waiting = 0;
        for queue in &self.ring {
            waiting += self.queues[*queue].window.len();
            if waiting >= most {
                return most;
            }
        }
        waiting
    }

    /// Whether nothing of this queue waits or runs, here or in the journal.
    pub fn is_idle(&self, queue: QueueIndex) -> bool {
        self.queues[queue].window.is_idle()
    }

    /// How many deliveries of this queue wait in memory, and whether more wait in the journal.
    #[cfg(test)]
    fn waiting_in(&self, queue: QueueIndex) -> (usize, bool) {
        let window = &self.queues[queue].window;
        (window.len(), window.has_more())
    }

    /// What to do next, at this time.
    pub fn next(&mut self, now: Timestamp) -> Step {
        while let Some(queue) = self.hungry.pop() {
            if !self.queues[queue].window.is_hungry() {
                continue;
            }
            let (after, limit) = self.queues[queue].window.load();
            return Step::Load {
                queue,
                after,
                limit,
            };
        }
        if now < self.seen {
            self.look_at_rates_again();
        }
        self.seen = now;
        while let Some(&(due, queue)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            self.queues[queue].place = Place::Ring;
            self.ring.push_back(queue);
        }
        if self.running >= self.cap {
            return Step::Wait(None);
        }
        while let Some(&index) = self.ring.front() {
            let queue = &mut self.queues[index];
            let gate = &mut self.gates[queue.settings.gate];
            let Some(first) = queue.window.first().filter(|first| first.due <= now) else {
                queue.rest(Place::Idle);
                self.ring.pop_front();
                self.place(index);
                continue;
            };
            let mut count = 1;
            if let Some(batch) = &queue.settings.batch {
                let ripe = first.due.plus(batch.wait);
                let mut full = false;
                if ripe <= now || queue.window.may_fill(batch) {
                    (count, full) = queue.window.gather(now, batch);
                }
                if ripe > now && !full {
                    queue.rest(Place::Timer(ripe));
                    self.timers.insert((ripe, index));
                    self.ring.pop_front();
                    continue;
                }
            }
            if gate.running >= gate.cap {
                // It keeps its turn and its credit, or others would always pass it.
                queue.place = Place::Blocked;
                gate.blocked.push(index);
                self.ring.pop_front();
                continue;
            }
            if let Some(meter) = &mut queue.meter
                && let Some(at) = meter.wait(now)
            {
                // It rests as if it had nothing that is due.
                queue.rest(Place::Rests(at));
                self.timers.insert((at, index));
                self.ring.pop_front();
                continue;
            }
            if !queue.in_turn {
                queue.in_turn = true;
                queue.deficit += QUANTUM;
            }
            if queue.deficit < first.cost() {
                queue.in_turn = false;
                self.ring.rotate_left(1);
                continue;
            }
            if let Some(meter) = &queue.meter {
                count = count.min(meter.room());
            }
            gate.running += 1;
            queue.passing += 1;
            self.running += 1;
            let step = if queue.settings.batch.is_some() {
                let seqs = (0..count).filter_map(|_| queue.start(now)).collect();
                Step::StartBatch { queue: index, seqs }
            } else {
                queue.start(now);
                let (queue, seq) = (index, first.seq);
                Step::Start { queue, seq }
            };
            self.look_for_hunger(index);
            return step;
        }
        Step::Wait(self.timers.first().map(|(due, _)| *due))
    }

    /// Starts this one, which has arrived, if [`Dispatch::next`] would do so before anything else, or if there
    /// is so much room that it takes nothing from whoever waits for `next`. Else nothing happens. A queue with
    /// a rate, or with batches, is left to `next`.
    pub fn start_now(&mut self, index: QueueIndex, seq: Seq, now: Timestamp) -> bool {
        let queue = &mut self.queues[index];
        let gate = &mut self.gates[queue.settings.gate];
        let first = queue.window.first();
        let first = first.is_some_and(|first| first.seq == seq && first.due <= now);
        let free = self.running < self.cap && gate.running < gate.cap;
        let plain = queue.meter.is_none() && queue.settings.batch.is_none();
        let mut due = self.timers.iter().take_while(|(due, _)| *due <= now);
        let alone = self.ring.is_empty() && due.all(|(_, other)| *other == index);
        let roomy = self.running < self.cap / 2 && gate.running < gate.cap / 2;
        if !(first && free && plain && (alone || roomy)) {
            return false;
        }
        gate.running += 1;
        queue.passing += 1;
        self.running += 1;
        // Nobody is owed anything for it.
        let deficit = queue.deficit;
        queue.start(now);
        queue.deficit = deficit;
        self.place(index);
        self.look_for_hunger(index);
        true
    }

    /// Whether what has ended just now lets [`Dispatch::next`] go on, should it wait.
    pub fn is_waited_for(&self) -> bool {
        !self.ring.is_empty() || !self.hungry.is_empty() || self.running + 1 >= self.cap
    }

    /// Puts a queue that is neither in the ring nor blocked, nor rests, where its first delivery belongs. Whether
    /// it has a timer that it did not have.
    fn place(&mut self, index: QueueIndex) -> bool {
        let queue = &mut self.queues[index];
        let first = queue.window.first().map(|first| first.due);
        match queue.place {
            Place::Ring | Place::Blocked | Place::Rests(_) => return false,
            Place::Timer(due) if Some(due) == first => return false,
            Place::Timer(due) => {
                self.timers.remove(&(due, index));
            }
            Place::Idle => {}
        }
        queue.place = match first {
            None => Place::Idle,
            Some(due) => {
                self.timers.insert((due, index));
                Place::Timer(due)
            }
        };
        first.is_some()
    }

    /// The clock was set back: what rests until its rate allows more would rest longer than it must.
    fn look_at_rates_again(&mut self) {
        for (index, queue) in self.queues.iter_mut().enumerate() {
            if let Place::Rests(at) = queue.place {
                self.timers.remove(&(at, index));
                queue.place = Place::Ring;
                self.ring.push_back(index);
            }
        }
    }

    fn look_for_hunger(&mut self, index: QueueIndex) {
        if self.queues[index].window.is_hungry() && !self.hungry.contains(&index) {
            self.hungry.push(index);
        }
    }
}
