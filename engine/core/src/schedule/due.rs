//! The decision which ticks run now, and the events they become.

use std::time::Duration;

use serde_json::json;

use super::{CatchUp, Cursor, Schedule, When, step};
use crate::{
    event::Event,
    identity::DeliveryId,
    limits::{CATCH_UP, CLOCK_BACK, COUNTED_TICKS, TICK_GRACE},
    time::Timestamp,
};

/// The type of the event of a tick.
pub const TICK: &str = "schedule.tick";

/// The source attribute of a schedule's events.
pub fn source(trigger: &str) -> String {
    format!("schedule:{trigger}")
}

/// An instant at which a schedule has something happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The instant.
    pub at: Timestamp,
    /// The tick before it, whether it ran or not; before the first tick of `every`, its beginning.
    /// Absent for `at`.
    pub previous: Option<Timestamp>,
    /// Not to run before: `at` and its jitter.
    pub due: Timestamp,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The ticks that run, in their order.
    pub ticks: Vec<Tick>,
    /// How many ticks were missed and do not run, counted up to [`COUNTED_TICKS`].
    pub missed: u64,
    /// Where the cursor stands when all this is done: at the last tick, be it one that does not run.
    pub cursor_to: Timestamp,
}

impl Schedule {
    /// Which ticks after the cursor run at `now`. The work is bounded, however long ago that was.
    pub fn due(&self, trigger: &str, cursor: &Cursor, now: Timestamp) -> Due {
        let last = |until| self.last_until(cursor.at, until);
        let mut due = Due {
            ticks: Vec::new(),
            missed: 0,
            cursor_to: last(now).unwrap_or(cursor.at),
        };
        // From the latest one backwards: of many, the latest are wanted.
        let mut next = last(now);
        while let Some(at) = next {
            let in_time = now.since(at) <= TICK_GRACE;
            let runs = match self.catch_up {
                _ if in_time => true,
                CatchUp::None => false,
                CatchUp::Latest => due.ticks.is_empty(),
                CatchUp::All => due.ticks.len() < CATCH_UP,
            };
            if runs {
                due.ticks.push(self.tick(trigger, at));
            } else {
                due.missed += 1;
                if due.missed == COUNTED_TICKS {
                    break;
                }
            }
            next = last(before(at));
        }
        due.ticks.reverse();
        due
    }

    /// Whether the clock was set back so far that a person should know that no tick runs until it
    /// passes the cursor.
    pub fn waits_for_clock(&self, cursor: &Cursor, now: Timestamp) -> bool {
        cursor.at.since(now) > CLOCK_BACK
    }

    /// The last tick after the cursor and up to `until`.
    fn last_until(&self, cursor: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let at = match &self.when {
            When::Cron(cron) => cron.last_until(until),
            When::Every(interval) => {
                let interval = step(*interval).as_millis();
                let ticks = until.since(cursor).as_millis() / interval;
                let since = u64::try_from(ticks * interval).unwrap_or(u64::MAX);
                Some(cursor.plus(Duration::from_millis(since)))
            }
            When::At(at) => Some(*at).filter(|at| *at <= until),
        };
        at.filter(|at| *at > cursor && *at <= until)
    }

    fn tick(&self, trigger: &str, at: Timestamp) -> Tick {
        let previous = match &self.when {
            When::Cron(cron) => cron.last_until(before(at)),
            When::Every(interval) => {
                let interval = i64::try_from(step(*interval).as_millis()).unwrap_or(i64::MAX);
                Some(Timestamp(at.0.saturating_sub(interval)))
            }
            When::At(_) => None,
        };
        Tick {
            at,
            previous,
            due: at.plus(self.delay(trigger, at)),
        }
    }

    /// The jitter of a tick. It is made from the identity of the tick's delivery, so that whoever
    /// computes it again gets the same.
    fn delay(&self, trigger: &str, at: Timestamp) -> Duration {
        let gap = self
            .next_after(at)
            .map_or(Duration::MAX, |next| next.since(at));
        let bound = self.jitter.min(gap).as_millis();
        let id = DeliveryId::derive(trigger, &source(trigger), &at.to_string());
        // Uniform over 0..bound: the next tick is not reached.
        let delay = (u128::from(id.random()) * bound.min(u128::from(u64::MAX))) >> 64;
        Duration::from_millis(u64::try_from(delay).unwrap_or(u64::MAX))
    }
}

impl Tick {
    /// The event of this tick, offered at `now`.
    pub fn event(&self, trigger: &str, now: Timestamp) -> Event {
        let data = json!({
            "scheduled": self.at.to_string(),
            "previous": self.previous.map(|at| at.to_string()),
            "late_ms": u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX),
        });
        Event {
            id: self.at.to_string(),
            source: source(trigger),
            kind: TICK.to_owned(),
            subject: Some(trigger.to_owned()),
            time: self.at,
            datacontenttype: Some("application/json".into()),
            traceparent: None,
            hops: 0,
            headers: Vec::new(),
            data: data.to_string().into(),
        }
    }
}

fn before(at: Timestamp) -> Timestamp {
    Timestamp(at.0.saturating_sub(1))
}
