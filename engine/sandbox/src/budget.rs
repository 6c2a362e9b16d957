//! The memory of all instances together. What would go beyond it waits until others have ended, in place
//! of running the machine out of memory.
//!
//! Counted is what linear memories have grown to, not what they might. An attempt begins while there is
//! room; one that grows goes before those that begin. When all that have memory wait for more, nobody
//! could ever give any back: the first of them may have all that it asks for until it ends. So the
//! budget is overdrawn by the memory of one function at most.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::{Mutex, Notify};

/// What there is, and who has it. All orders are sequential: whoever gives back sees who waits, or who
/// waits sees what was given back.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
    /// Attempts that have begun and not ended. An instance that is kept has memory, and none of these.
    rooms: AtomicUsize,
    /// Those of them that wait for more.
    growing: AtomicUsize,
    /// One of them may have more than there is.
    overdrawn: AtomicBool,
    /// All that wait, those that have not begun included.
    waiting: AtomicUsize,
    /// Something changed for those that wait.
    changed: Notify,
    /// The line of those that want to begin; the first looks, the others wait for it.
    door: Mutex<()>,
    /// The line of those that want more.
    growth: Mutex<()>,
}

/// The memory of one instance, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    budget: Arc<Budget>,
    held: u64,
    /// The part of it that is no instance's: what the one before had.
    spare: u64,
    /// Nobody is about to give anything back.
    rests: bool,
    /// It need not wait for more.
    overdraws: bool,
}

/// Counts as long as it lives.
struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    fn new(counter: &'c AtomicUsize) -> Counted<'c> {
        counter.fetch_add(1, SeqCst);
        Counted(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Budget> {
        Arc::new(Budget {
            limit,
            used: AtomicU64::new(0),
            rooms: AtomicUsize::new(0),
            growing: AtomicUsize::new(0),
            overdrawn: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
            door: Mutex::default(),
            growth: Mutex::default(),
        })
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(SeqCst)
    }

    /// How many attempts wait for memory.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// A place for an attempt, once there is room.
    pub(crate) async fn enter(self: &Arc<Budget>) -> Room {
        if self.waiting() > 0 || !self.is_open() {
            self.wait(&self.door, || self.is_open()).await;
        }
        self.rooms.fetch_add(1, SeqCst);
        Room {
            budget: self.clone(),
            held: 0,
            spare: 0,
            rests: false,
            overdraws: false,
        }
    }

    fn is_open(&self) -> bool {
        let room = self.used() < self.limit && self.growing.load(SeqCst) == 0;
        // Nobody is there who could give any back.
        room || self.rooms.load(SeqCst) == 0
    }

    /// Takes so much, once there is some; true, if that is more than there is.
    async fn take(&self, bytes: u64) -> bool {
        if self.growing.load(SeqCst) == 0 && self.try_take(bytes) {
            return false;
        }
        let growing = Counted::new(&self.growing);
        // The one who looks may see now that all wait.
        self.changed.notify_waiters();
        let mut overdraws = false;
        self.wait(&self.growth, || {
            if self.try_take(bytes) {
                return true;
            }
            let all_wait = self.growing.load(SeqCst) >= self.rooms.load(SeqCst);
            overdraws = all_wait && !self.overdrawn.swap(true, SeqCst);
            if overdraws {
                self.used.fetch_add(bytes, SeqCst);
            }
            overdraws
        })
        .await;
        drop(growing);
        self.changed.notify_waiters();
        overdraws
    }

    fn try_take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(SeqCst, SeqCst, fits).is_ok()
    }

    /// Waits in a line until `done`, which only the first of the line asks.
    async fn wait(&self, line: &Mutex<()>, mut done: impl FnMut() -> bool) {
        let _waiting = Counted::new(&self.waiting);
        let _first = line.lock().await;
        loop {
            let changed = self.changed.notified();
            if done() {
                return;
            }
            changed.await;
        }
    }

    /// Something was given back.
    fn tell(&self) {
        if self.waiting() > 0 {
            self.changed.notify_waiters();
        }
    }
}

impl Room {
    /// Takes more, once there is some.
    pub(crate) async fn take(&mut self, bytes: u64) {
        let spare = self.spare.min(bytes);
        self.spare -= spare;
        let bytes = bytes - spare;
        if bytes == 0 {
            return;
        }
        if self.overdraws {
            self.budget.used.fetch_add(bytes, SeqCst);
        } else {
            self.overdraws = self.budget.take(bytes).await;
        }
        self.held += bytes;
    }

    /// The attempt has ended, and its instance is gone. Whether the next attempt may have what it had: not while
    /// others wait.
    pub(crate) fn hand_on(&mut self) -> bool {
        self.spare = self.held;
        !self.overdraws && self.budget.waiting() == 0
    }

    /// The attempt has ended, and its instance is kept.
    pub(crate) fn rest(&mut self) {
        if !std::mem::replace(&mut self.rests, true) {
            if std::mem::take(&mut self.overdraws) {
                self.budget.overdrawn.store(false, SeqCst);
            }
            self.budget.rooms.fetch_sub(1, SeqCst);
            self.budget.tell();
        }
    }

    /// Another attempt begins in it.
    pub(crate) fn resume(&mut self) {
        if std::mem::replace(&mut self.rests, false) {
            self.budget.rooms.fetch_add(1, SeqCst);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held, SeqCst);
        self.rest();
        self.budget.tell();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    async fn room(budget: &Arc<Budget>, bytes: u64) -> Room {
        let mut room = budget.enter().await;
        room.take(bytes).await;
        room
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_until_there_is_some() {
        let budget = Budget::new(100);
        let first = room(&budget, 60).await;
        let mut second = room(&budget, 40).await;
        let mut third = Box::pin(budget.enter());
        assert!(third.as_mut().now_or_never().is_none(), "all is taken");
        {
            let mut more = Box::pin(second.take(30));
            assert!(more.as_mut().now_or_never().is_none());
            assert_eq!(budget.waiting(), 2);
            drop(first);
            more.await;
        }
        let third = third.await;
        assert_eq!((budget.used(), budget.waiting()), (70, 0));
        drop((second, third));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn who_grows_goes_first() {
        let budget = Budget::new(100);
        let mut first = room(&budget, 50).await;
        let second = room(&budget, 40).await;
        let mut more = Box::pin(first.take(50));
        assert!(more.as_mut().now_or_never().is_none());
        // There is some room, but not for those that begin.
        let mut third = Box::pin(budget.enter());
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert!(third.as_mut().now_or_never().is_none());
        more.await;
        assert_eq!(budget.used(), 100);
        drop(first);
        third.await;
    }

    #[tokio::test]
    async fn when_all_wait_one_is_let_through() {
        let budget = Budget::new(100);
        let (mut first, mut second) = (room(&budget, 50).await, room(&budget, 50).await);
        let mut one = Box::pin(first.take(10));
        assert!(one.as_mut().now_or_never().is_none());
        let mut other = Box::pin(second.take(10));
        assert!(
            other.as_mut().now_or_never().is_none(),
            "the first one goes"
        );
        one.await;
        first.take(30).await;
        assert_eq!(budget.used(), 140);
        assert!(other.as_mut().now_or_never().is_none(), "one at a time");
        drop(first);
        other.await;
        assert_eq!(budget.used(), 60);
    }

    #[tokio::test]
    async fn one_alone_may_have_more_than_there_is() {
        let budget = Budget::new(100);
        let room = room(&budget, 1000).await;
        assert!(budget.enter().now_or_never().is_none());
        drop(room);
        drop(budget.enter().await);
    }

    #[tokio::test]
    async fn who_rests_keeps_its_memory_and_holds_nobody_up() {
        let budget = Budget::new(100);
        let mut kept = room(&budget, 100).await;
        assert!(budget.enter().now_or_never().is_none());
        kept.rest();
        let mut other = budget.enter().await;
        other.take(10).await;
        assert_eq!(budget.used(), 110, "nobody could give any back");
        kept.resume();
        assert!(budget.enter().now_or_never().is_none());
        drop((kept, other));
        assert_eq!(budget.used(), 0);
        drop(budget.enter().await);
    }

    #[tokio::test]
    async fn what_is_handed_on_is_taken_once() {
        let budget = Budget::new(100);
        let mut room = room(&budget, 60).await;
        assert!(room.hand_on());
        room.take(20).await;
        assert_eq!(budget.used(), 60, "it has what the one before had");
        room.take(50).await;
        assert_eq!(budget.used(), 70);
        assert!(room.hand_on());
        room.take(100).await;
        assert_eq!(budget.used(), 100);
        let waits = budget.enter();
        let mut waits = Box::pin(waits);
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(!room.hand_on(), "others come first");
        drop(room);
        waits.await;
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn who_overdraws_hands_nothing_on() {
        let budget = Budget::new(100);
        let mut room = room(&budget, 1000).await;
        assert!(!room.hand_on());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_holds_nobody_up() {
        let budget = Budget::new(100);
        let first = room(&budget, 100).await;
        let mut second = Box::pin(budget.enter());
        assert!(second.as_mut().now_or_never().is_none());
        let mut third = Box::pin(budget.enter());
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        drop(first);
        third.await;
        assert_eq!(budget.waiting(), 0);
    }
}
