//! Schedules: ticks of the clock that become events.
//!
//! [`ScheduleConnector`] waits for the next tick of a trigger and offers it. Which ticks those are is
//! decided in [`tidemill_core::schedule`], which says what a user should know of daylight saving,
//! missed ticks and clocks that are set; nothing here decides it. The cursor in the journal moves in
//! the commit of the event, so that every tick is offered once, whatever is interrupted on the way.
//!
//! What becomes of a tick while the one before it still waits or runs, catching up included:
//!
//! - `overlap = "skip"`: it makes no event. So of several ticks that are caught up on, only the first
//!   may run.
//! - `overlap = "queue"`: it is accepted and runs afterwards; the dispatcher sees to it.
//! - `overlap = "allow"`: it runs at once.

mod beat;
mod health;
mod ticker;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tidemill_core::{intake::Cursors, schedule::Schedule, time::Timestamp};
use tokio_util::sync::CancellationToken;

pub use beat::Beat;
pub use health::{Health, Status};
pub use tidemill_core::schedule::source;

use crate::clock;
use ticker::Ticker;

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The source of a schedule's events.
pub struct ScheduleConnector {
    trigger: String,
    schedule: Schedule,
    beat: Beat,
    clock: Clock,
    health: Health,
}

impl ScheduleConnector {
    /// A connector for the schedule of a trigger. All schedules of an engine share one beat.
    pub fn new(trigger: &str, schedule: Schedule, beat: &Beat) -> ScheduleConnector {
        ScheduleConnector {
            trigger: trigger.to_owned(),
            schedule,
            beat: beat.clone(),
            clock: Arc::new(clock::now),
            health: Health::new(),
        }
    }

    /// The trigger.
    pub fn trigger(&self) -> &str {
        &self.trigger
    }

    /// What the connector says of itself.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Offers ticks until `stop` is cancelled or the intake says that the engine stops.
    pub async fn run(self, intake: Arc<dyn Cursors>, stop: CancellationToken) {
        let ticker = Ticker {
            beats: self.beat.listen(),
            definition: self.schedule.definition(),
            trigger: self.trigger,
            schedule: self.schedule,
            intake,
            clock: self.clock,
            health: self.health,
            stop,
        };
        ticker.run().await;
    }
}
