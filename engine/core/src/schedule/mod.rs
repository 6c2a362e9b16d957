//! Schedules: their instants, and which ticks are due, given where the cursor stands and what time
//! it is. [`Cron`] knows the calendar, [`Schedule::due`] decides.
//!
//! The cursor decides, never a timer: a tick is due because it lies between the cursor and now. So
//! none is lost by a restart, and none comes twice when a clock is set back.
//!
//! What a user of schedules should know:
//!
//! - Daylight saving: times that a cron expression names run once. In the hour that does not exist
//!   they run at the first instant after it; in the hour that comes twice, the first time. If second,
//!   minute or hour has a `*` or `*/n`, the schedule runs at every local time that it matches, as
//!   they go by: each hour is 60 real minutes after the one before, in both hours that bear one name.
//! - `every` counts elapsed time from when the schedule was new, and does not drift.
//! - A tick that comes more than [`limits::TICK_GRACE`] late was missed, whatever kept it: the engine
//!   was down, or the machine asleep, or the journal full. `catch_up` says which of them run.
//! - A new schedule begins now, and so does one whose cron, zone, `every`, `at` or jitter changed: an
//!   `at` that is past by then never runs. One that passed while the engine was down was missed.
//! - A clock that is set back repeats no tick: they go on when it passes the last one again. If that
//!   is long, there is a warning. A clock that is set forward has missed ticks.

mod cron;
mod due;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

pub use cron::{Cron, CronError, Unusual};
pub use due::{Due, TICK, Tick, source};

#[cfg(doc)]
use crate::limits;

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

/// Which ticks that were missed run afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// None.
    None,
    /// The last one, unless a later tick runs anyway.
    Latest,
    /// All, but at most [`crate::limits::CATCH_UP`], the latest ones.
    All,
}

/// The instants of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// Those of a cron expression in a time zone.
    Cron(Cron),
    /// This far apart, in elapsed time, the first one so long after the schedule is new. At least a
    /// second.
    Every(Duration),
    /// Once. If it is past when the schedule is new, never.
    At(Timestamp),
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

impl Schedule {
    /// The first tick after `after`, before jitter. Ticks of `every` are counted from `after`, at
    /// which the cursor stands or stood.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Cron(cron) => cron.next_after(after),
            When::Every(interval) => {
                Some(after.plus(step(*interval))).filter(|at| *at < Timestamp::MAX)
            }
            When::At(at) => Some(*at).filter(|at| *at > after),
        }
    }

    /// The schedule in words that stay the same over releases while its ticks do.
    pub fn definition(&self) -> String {
        let when = match &self.when {
            When::Cron(cron) => format!("cron {} {}", cron.expression(), cron.zone()),
            When::Every(interval) => format!("every {}ms", interval.as_millis()),
            When::At(at) => format!("at {at}"),
        };
        match self.jitter.as_millis() {
            0 => when,
            jitter => format!("{when} jitter {jitter}ms"),
        }
    }
}

/// An interval that goes forward.
fn step(interval: Duration) -> Duration {
    interval.max(Duration::from_millis(1))
}
