//! The part of a queue that is in memory.
//!
//! The invariant: what waits in memory sorts, by (due, seq), before all that waits only in the
//! journal. So the order of a queue never depends on how much of it fits, and a delivery that waits
//! for its retry never keeps one out that could run.

use std::collections::BTreeMap;

use foldhash::HashSet;

use super::{Batch, Waiting};
use crate::{delivery::Seq, time::Timestamp};

type Key = (Timestamp, Seq);

#[derive(Debug)]
pub(super) struct Window {
    limit: usize,
    waiting: BTreeMap<Key, Waiting>,
    /// Bytes of these events.
    bytes: usize,
    /// All that waits in memory or runs, so that a page cannot bring it a second time.
    known: HashSet<Seq>,
    /// If more waits in the journal: all of it sorts after this.
    more_after: Option<Option<Key>>,
    loading: Option<Loading>,
    /// Nothing of it is to start: whatever waits, waits in the journal.
    closed: bool,
}

/// What happened while a page is being read. The page may tell of it or not.
#[derive(Debug, Default)]
struct Loading {
    arrived: Vec<Waiting>,
    /// Whatever the page has of these is old: they are gone, or arrived anew.
    ended: HashSet<Seq>,
    /// The window was closed meanwhile: the page does not go on where it stands now.
    outdated: bool,
}

impl Window {
    /// A window that knows nothing yet: everything is in the journal.
    pub(super) fn new(limit: usize) -> Window {
        Window {
            limit,
            waiting: BTreeMap::new(),
            bytes: 0,
            known: HashSet::default(),
            more_after: Some(None),
            loading: None,
            closed: false,
        }
    }

    /// A window that holds all there is: nothing of it is in the journal.
    pub(super) fn held() -> Window {
        Window {
            more_after: None,
            // Twice of it is still a number.
            ..Window::new(usize::MAX / 2)
        }
    }

    /// Leaves all that waits to the journal. What runs stays known, so that it is not started a second
    /// time if the window is opened again before it ends.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.more_after = None;
        self.bytes = 0;
        for delivery in std::mem::take(&mut self.waiting).into_values() {
            self.known.remove(&delivery.seq);
        }
        if let Some(loading) = &mut self.loading {
            loading.outdated = true;
        }
    }

    /// Goes on after it was closed: everything but what runs is in the journal.
    pub(super) fn open(&mut self) {
        if std::mem::take(&mut self.closed) {
            self.more_after = Some(None);
        }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn has_more(&self) -> bool {
        self.more_after.is_some()
    }

    pub(super) fn is_idle(&self) -> bool {
        let all_here = !self.has_more() && self.loading.is_none() && !self.closed;
        all_here && self.known.is_empty()
    }

    pub(super) fn first(&self) -> Option<Waiting> {
        self.waiting.first_key_value().map(|(_, waiting)| *waiting)
    }

    /// How many from the first on may start as a batch now, and whether it has no room for more. At
    /// least one, if the first is due.
    pub(super) fn gather(&self, now: Timestamp, batch: &Batch) -> (usize, bool) {
        let (mut count, mut bytes) = (0, 0);
        for waiting in self.waiting.values().take_while(|one| one.due <= now) {
            bytes += waiting.size;
            if count == batch.max || (count > 0 && bytes > batch.bytes) {
                return (count, true);
            }
            count += 1;
        }
        (count, count >= batch.max || bytes >= batch.bytes)
    }

    /// Whether there is enough for a full batch, if all of it is due.
    pub(super) fn may_fill(&self, batch: &Batch) -> bool {
        self.waiting.len() >= batch.max || self.bytes >= batch.bytes
    }

    /// Takes the first out; it stays known until it ends.
    pub(super) fn start(&mut self) -> Option<Waiting> {
        let (_, first) = self.waiting.pop_first()?;
        self.bytes -= first.size;
        Some(first)
    }

    /// What runs.
    pub(super) fn started(&self) -> HashSet<Seq> {
        let mut started = self.known.clone();
        for (_, seq) in self.waiting.keys() {
            started.remove(seq);
        }
        started
    }

    pub(super) fn ended(&mut self, seq: Seq) {
        self.known.remove(&seq);
        if let Some(loading) = &mut self.loading {
            loading.ended.insert(seq);
        }
    }

    pub(super) fn arrived(&mut self, delivery: Waiting) {
        if self.closed || self.known.contains(&delivery.seq) {
            return;
        }
        let key = (delivery.due, delivery.seq);
        match self.more_after {
            Some(after) if Some(key) > after => {
                if let Some(loading) = &mut self.loading {
                    loading.arrived.push(delivery);
                }
            }
            _ => {
                self.insert(delivery);
                self.evict();
            }
        }
    }

    /// Whether it is time to read a page.
    pub(super) fn is_hungry(&self) -> bool {
        self.has_more() && self.loading.is_none() && self.waiting.len() <= self.limit / 2
    }

    /// What to read: after which key, and how many.
    pub(super) fn load(&mut self) -> (Option<Key>, usize) {
        self.loading = Some(Loading::default());
        (self.more_after.flatten(), self.limit)
    }

    pub(super) fn load_failed(&mut self) {
        self.loading = None;
        self.evict();
    }

    pub(super) fn loaded(&mut self, page: Vec<Waiting>) {
        let meanwhile = self.loading.take().unwrap_or_default();
        if meanwhile.outdated {
            return;
        }
        let last = page.last().map(|last| (last.due, last.seq));
        let complete = page.len() < self.limit;
        self.more_after = if complete { None } else { Some(last) };
        for delivery in page {
            if !meanwhile.ended.contains(&delivery.seq) {
                self.insert(delivery);
            }
        }
        // The page may have been read before these were written; those that sort before its end,
        // or all if it reached the end of the queue, would not be read again.
        for delivery in meanwhile.arrived {
            if complete || Some((delivery.due, delivery.seq)) <= last {
                self.insert(delivery);
            }
        }
        self.evict();
    }

    fn insert(&mut self, delivery: Waiting) {
        if self.known.insert(delivery.seq) {
            self.bytes += delivery.size;
            self.waiting.insert((delivery.due, delivery.seq), delivery);
        }
    }

    /// Leaves what sorts last to the journal once there is twice the limit, down to the limit. Not
    /// while a page is being read: it would start after a later key than what is left out.
    fn evict(&mut self) {
        if self.waiting.len() <= 2 * self.limit || self.loading.is_some() {
            return;
        }
        while self.waiting.len() > self.limit
            && let Some((_, delivery)) = self.waiting.pop_last()
        {
            self.known.remove(&delivery.seq);
            self.bytes -= delivery.size;
        }
        let last = self.waiting.last_key_value().map(|(key, _)| *key);
        self.more_after = Some(last);
    }
}

/// What chance seldom brings about; the model has the rest.
#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(seq: Seq, due: i64) -> Waiting {
        Waiting {
            seq,
            due: Timestamp(due),
            size: 0,
        }
    }

    /// A window of two with what is due at 10 and 20, and more in the journal after that.
    fn full() -> Window {
        let mut window = Window::new(2);
        assert_eq!(window.load(), (None, 2));
        window.loaded(vec![waiting(1, 10), waiting(2, 20)]);
        window
    }

    fn seqs(window: &Window) -> Vec<Seq> {
        window.waiting.values().map(|one| one.seq).collect()
    }

    #[test]
    fn what_ended_while_a_page_was_read_is_not_brought_back_by_it() {
        let mut window = full();
        window.start();
        // Earlier ones push the window's end before what runs.
        for seq in 3..8 {
            window.arrived(waiting(seq, 0));
        }
        assert_eq!(seqs(&window), [3, 4]);
        assert_eq!(window.load(), (Some((Timestamp(0), 4)), 2));
        window.ended(1);
        window.loaded(vec![waiting(5, 0), waiting(1, 10)]);
        assert_eq!(seqs(&window), [3, 4, 5]);
    }

    #[test]
    fn what_is_to_run_again_is_due_as_it_arrived_and_not_as_a_page_has_it() {
        let mut window = full();
        window.start();
        for (seq, due) in [(3, 0), (4, 0), (5, 12), (6, 13)] {
            window.arrived(waiting(seq, due));
        }
        window.load();
        window.ended(1);
        window.arrived(waiting(1, 11));
        window.loaded(vec![waiting(1, 10), waiting(5, 12)]);
        let keys: Vec<_> = window
            .waiting
            .keys()
            .map(|(due, seq)| (due.0, *seq))
            .collect();
        assert_eq!(keys, [(0, 3), (0, 4), (11, 1), (12, 5)]);
    }

    #[test]
    fn nothing_is_left_to_the_journal_while_a_page_is_read() {
        let mut window = full();
        assert_eq!(window.load(), (Some((Timestamp(20), 2)), 2));
        for seq in 3..8 {
            window.arrived(waiting(seq, 0));
        }
        assert_eq!(seqs(&window), [3, 4, 5, 6, 7, 1, 2]);
        window.loaded(vec![waiting(8, 30), waiting(9, 40)]);
        assert_eq!(seqs(&window), [3, 4]);
        assert_eq!(window.load(), (Some((Timestamp(0), 4)), 2));
    }

    #[test]
    fn a_page_that_failed_leaves_no_more_in_memory_than_one_that_came() {
        let mut window = full();
        window.load();
        for seq in 3..8 {
            window.arrived(waiting(seq, 0));
        }
        window.load_failed();
        assert_eq!(seqs(&window), [3, 4]);
    }
}
