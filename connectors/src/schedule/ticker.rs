//! The task of one schedule. A round reads the cursor, deals with what is due, and waits for the next
//! tick. Whatever fails ends the round; the next one begins with what the journal says then.

use std::{sync::Arc, time::Duration};

use tidemill_core::{
    intake::{Cursors, IntakeError, Mark, Offer, Receipt},
    limits::CLOCK_LOOK,
    schedule::{Cursor, CursorMove, Overlap, Schedule, Tick, source},
    time::Timestamp,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Clock, Health};

/// The first and the longest wait after the journal failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub(super) struct Ticker {
    pub(super) trigger: String,
    pub(super) schedule: Schedule,
    /// The schedule in its own words.
    pub(super) definition: String,
    pub(super) intake: Arc<dyn Cursors>,
    pub(super) clock: Clock,
    pub(super) beats: watch::Receiver<()>,
    pub(super) health: Health,
    pub(super) stop: CancellationToken,
}

impl Ticker {
    pub(super) async fn run(mut self) {
        let mut wait = RETRY.0;
        while !self.stop.is_cancelled() {
            match self.round().await {
                Ok(()) => wait = RETRY.0,
                Err(IntakeError::Stopping) => break,
                Err(error) => {
                    self.tell(Some(format!("its ticks wait: {error}")));
                    self.pause(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
        self.health.change(|status| {
            status.ready = false;
            status.next = None;
        });
    }

    /// Deals with what is due, and waits until more is.
    async fn round(&mut self) -> Result<(), IntakeError> {
        let now = (self.clock)();
        let mut cursor = match self.intake.cursor(&self.trigger).await? {
            Some(cursor) if cursor.definition == self.definition => cursor,
            known => return self.begin(known, now).await,
        };
        let due = self.schedule.due(&self.trigger, &cursor, now);
        let mut missed = due.missed;
        for tick in &due.ticks {
            if self.stop.is_cancelled() || !self.take(tick, &cursor).await? {
                return Ok(());
            }
            cursor.at = tick.at;
            self.report(std::mem::take(&mut missed));
        }
        if due.cursor_to > cursor.at {
            if !self.pass(&cursor, due.cursor_to).await? {
                return Ok(());
            }
            cursor.at = due.cursor_to;
            self.report(missed);
        }
        let late_clock = self.schedule.waits_for_clock(&cursor, now).then(|| {
            format!(
                "the clock shows {now}, but was at {} before: no tick runs until it is there \
                 again, so that none runs twice; if the clock is right and that is too long, rename \
                 the trigger, and it begins now",
                cursor.at
            )
        });
        self.tell(late_clock);
        self.wait(self.schedule.next_after(cursor.at)).await;
        Ok(())
    }

    /// Puts the cursor of a schedule that is new, or another than it was, to now.
    async fn begin(&self, known: Option<Cursor>, now: Timestamp) -> Result<(), IntakeError> {
        let (trigger, definition) = (&self.trigger, &self.definition);
        let before = known.as_ref().map(|cursor| cursor.definition.clone());
        if !self.step(known, now).await? {
            return Ok(());
        }
        match (before, self.schedule.next_after(now)) {
            (_, None) => {
                tracing::warn!(trigger, definition, "this schedule is past: it never ticks");
            }
            (None, Some(next)) => {
                tracing::info!(trigger, definition, first = %next, "a new schedule");
            }
            (Some(before), Some(next)) => {
                tracing::info!(
                    trigger, definition, before, first = %next,
                    "the schedule is another one than it was: it begins now"
                );
            }
        }
        Ok(())
    }

    /// Offers a tick, or leaves it out. False, if the cursor has not moved with it.
    async fn take(&self, tick: &Tick, cursor: &Cursor) -> Result<bool, IntakeError> {
        let trigger = &self.trigger;
        if self.schedule.overlap == Overlap::Skip && self.intake.is_busy(trigger).await? {
            let passed = self.pass(cursor, tick.at).await?;
            if passed {
                tracing::info!(
                    trigger, tick = %tick.at,
                    "left out: the tick before it is not done (overlap = \"skip\")"
                );
                self.health.change(|status| status.skipped += 1);
            }
            return Ok(passed);
        }
        let now = (self.clock)();
        let offer = Offer {
            source: source(trigger),
            event: tick.event(trigger, now),
            mark: Mark::Cursor(self.to(Some(cursor.clone()), tick.at)),
            due: Some(tick.due).filter(|due| *due > now),
        };
        match self.intake.offer(offer).await? {
            Receipt::Accepted { .. } => {
                self.health.change(|status| status.offered += 1);
                Ok(true)
            }
            Receipt::Duplicate | Receipt::Reused => {
                // The cursor has moved, and then this does nothing; or it was put back, as by a
                // change to another schedule and back while the clock was set back.
                tracing::info!(trigger, tick = %tick.at, "the journal has this tick already");
                self.pass(cursor, tick.at).await
            }
        }
    }

    /// Moves the cursor past ticks that make no event. False, if it did not stand there.
    async fn pass(&self, from: &Cursor, to: Timestamp) -> Result<bool, IntakeError> {
        self.step(Some(from.clone()), to).await
    }

    async fn step(&self, from: Option<Cursor>, to: Timestamp) -> Result<bool, IntakeError> {
        let moved = self.intake.move_cursor(self.to(from, to)).await?;
        if !moved {
            // Somebody else moved it, which is rare: the pause keeps two of a kind from a race.
            tracing::debug!(trigger = self.trigger, "the cursor stands elsewhere");
            self.pause(RETRY.0).await;
        }
        Ok(moved)
    }

    fn to(&self, from: Option<Cursor>, at: Timestamp) -> CursorMove {
        CursorMove {
            schedule: self.trigger.clone(),
            from,
            to: Cursor {
                at,
                definition: self.definition.clone(),
            },
        }
    }

    fn report(&self, missed: u64) {
        if missed > 0 {
            let trigger = &self.trigger;
            tracing::info!(
                trigger,
                missed,
                "ticks were missed and are left out; catch_up says which run afterwards"
            );
            self.health.change(|status| status.missed += missed);
        }
    }

    /// Tells of trouble when it begins, or that there is none.
    fn tell(&self, trouble: Option<String>) {
        if let Some(trouble) = &trouble
            && self.health.status().trouble.is_none()
        {
            tracing::warn!(trigger = self.trigger, "{trouble}");
        }
        self.health.change(|status| status.trouble = trouble);
    }

    /// Waits so long, or for the stop.
    async fn pause(&self, wait: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// Waits for an instant by the wall clock, or for the stop.
    async fn wait(&mut self, next: Option<Timestamp>) {
        self.health.change(|status| {
            status.ready = true;
            status.next = next;
        });
        let Some(next) = next else {
            return self.stop.cancelled().await;
        };
        loop {
            let left = next.since((self.clock)());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(left.min(CLOCK_LOOK)) => {}
                // The sender lives as long as the beat, of which there is a handle elsewhere; should
                // it be gone, the sleep does.
                Ok(()) = self.beats.changed() => {}
            }
        }
    }
}
