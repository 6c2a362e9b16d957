//! Schedules: which ticks are due, given where the cursor stands and what time it is.
//!
//! The cursor decides, never a timer: a tick is due because it lies between the cursor and now. So
//! none is lost by a restart, and none comes twice when a clock is set back.

mod cron;

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{limits, time::Timestamp};

pub use cron::{Cron, CronError};

/// Where a schedule stands: every tick up to `at` was dealt with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The last instant that was dealt with.
    pub at: Timestamp,
    /// [`Schedule::definition`] as it was then: if the file says something else now, the schedule is
    /// new and its cursor starts now.
    pub definition: String,
}

/// A step of a schedule's cursor, taken only if it stands at `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorMove {
    /// The schedule: its trigger's name.
    pub schedule: String,
    /// Where it stood.
    pub from: Option<Cursor>,
    /// Where it stands from now on.
    pub to: Cursor,
}

/// When something is to happen, and what becomes of ticks that were missed.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its instants.
    pub when: When,
    /// Each tick comes later by up to so much, always the same for the same tick, and before the
    /// next one.
    pub jitter: Duration,
    /// Which ticks run when they were missed.
    pub catch_up: CatchUp,
    /// What a tick does while the one before it still waits or runs.
    pub overlap: Overlap,
}

/// The instants of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// Those of a cron expression in a time zone.
    Cron(Cron),
    /// This far apart, in elapsed time, the first one so long after the schedule is new.
    Every(Duration),
    /// Once. If it lies in the past when the schedule is new, never.
    At(Timestamp),
}

/// What a tick does while the one before it still waits or runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// It runs all the same.
    Allow,
    /// It is left out.
    Skip,
    /// It runs afterwards.
    Queue,
}

/// Which ticks that were missed run afterwards. A tick is missed if it could not be dealt with for
/// [`limits::TICK_GRACE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// None.
    None,
    /// The last one.
    Latest,
    /// All, but at most [`limits::CATCH_UP`], the latest ones.
    All,
}

/// One instant of a schedule that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The instant, jitter left out.
    pub scheduled: Timestamp,
    /// The instant before it; of the first tick of a schedule, when the schedule was new.
    pub previous: Timestamp,
}

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Where to move the cursor first, past ticks that were missed and are left out.
    pub skip_to: Option<Timestamp>,
    /// Ticks to offer, in this order; each moves the cursor to its instant.
    pub ticks: Vec<Tick>,
}

impl Schedule {
    /// The schedule's instants in words that stay the same over releases.
    pub fn definition(&self) -> String {
        match &self.when {
            When::Cron(cron) => format!("cron {} {}", cron.expression(), cron.zone()),
            When::Every(interval) => format!("every {}ms", interval.as_millis()),
            When::At(at) => format!("at {at}"),
        }
    }

    /// The first instant after this one, at which the cursor stands or stood.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Cron(cron) => cron.next_after(at),
            When::Every(interval) => Some(at.plus(*interval)),
            When::At(once) => (*once > at).then_some(*once),
        }
    }

    /// When the tick of this instant comes: later by its jitter, which depends on nothing but the
    /// trigger and the instant.
    pub fn comes(&self, trigger: &str, scheduled: Timestamp) -> Timestamp {
        if self.jitter.is_zero() {
            return scheduled;
        }
        let next = self.next_after(scheduled).unwrap_or(Timestamp::MAX);
        let room = next
            .since(scheduled)
            .saturating_sub(Duration::from_millis(1));
        let most = self.jitter.min(room).as_millis() as u64;
        let hash = Sha256::new()
            .chain_update(trigger)
            .chain_update([0])
            .chain_update(scheduled.0.to_be_bytes())
            .finalize();
        let mut random = [0; 8];
        random.copy_from_slice(&hash[..8]);
        // The high half of the product is uniform over 0..=most.
        let late = (u128::from(u64::from_be_bytes(random)) * (u128::from(most) + 1)) >> 64;
        scheduled.plus(Duration::from_millis(late as u64))
    }

    /// When there is something to do next, if nothing is due before.
    pub fn wakes(&self, trigger: &str, cursor: Timestamp) -> Option<Timestamp> {
        let next = self.next_after(cursor)?;
        Some(self.comes(trigger, next))
    }

    /// What is due at `now`, with the cursor at this instant.
    pub fn due(&self, trigger: &str, cursor: Timestamp, now: Timestamp) -> Due {
        let mut latest = self.latest(cursor, now);
        // Only the last tick may have a jitter that is not over.
        if latest
            .back()
            .is_some_and(|last| self.comes(trigger, last.scheduled) > now)
        {
            latest.pop_back();
        }
        let missed = |tick: &Tick| now.since(tick.scheduled) > self.jitter + limits::TICK_GRACE;
        let count = latest.iter().take_while(|tick| missed(tick)).count();
        let dropped = match self.catch_up {
            CatchUp::None => count,
            CatchUp::Latest => count.saturating_sub(1),
            CatchUp::All => 0,
        };
        let mut left_out: Vec<Tick> = latest.drain(..dropped).collect();
        let before = latest.front().map(|tick| tick.previous);
        let last_left_out = left_out.pop().map(|tick| tick.scheduled);
        Due {
            skip_to: before.or(last_left_out).filter(|to| *to > cursor),
            ticks: latest.into(),
        }
    }

    /// The latest ticks after the cursor and until `now`, at most [`limits::CATCH_UP`].
    fn latest(&self, cursor: Timestamp, now: Timestamp) -> VecDeque<Tick> {
        if let When::Every(interval) = self.when {
            return latest_of_interval(interval, cursor, now);
        }
        // A look back over ever longer spans: what lies long ago is not even counted.
        let mut span = limits::TICK_GRACE;
        loop {
            let from = Timestamp(now.0.saturating_sub(span.as_millis() as i64)).max(cursor);
            let mut ticks = VecDeque::new();
            let mut previous = from;
            while let Some(scheduled) = self.next_after(previous).filter(|at| *at <= now) {
                if ticks.len() == limits::CATCH_UP {
                    ticks.pop_front();
                }
                ticks.push_back(Tick {
                    scheduled,
                    previous,
                });
                previous = scheduled;
            }
            if from == cursor {
                return ticks;
            }
            // What begins in the middle does not know what was before its first tick.
            let full = ticks.len() == limits::CATCH_UP;
            if full {
                return ticks;
            }
            span *= 8;
        }
    }
}

fn latest_of_interval(interval: Duration, cursor: Timestamp, now: Timestamp) -> VecDeque<Tick> {
    let step = (interval.as_millis() as i64).max(1);
    let count = now.0.saturating_sub(cursor.0).max(0) / step;
    let first = (count - limits::CATCH_UP as i64 + 1).max(1);
    let at = |n: i64| Timestamp(cursor.0 + n * step);
    let tick = |n: i64| Tick {
        scheduled: at(n),
        previous: at(n - 1),
    };
    (first..=count).map(tick).collect()
}
