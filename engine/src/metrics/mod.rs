//! What is counted, in the words of the design, as Prometheus metrics.

mod labels;
mod sources;
mod table;

use std::sync::OnceLock;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, histogram::Histogram},
};
use tidemill_core::{
    delivery::Cause,
    outcome::{Outcome, Usage},
};

use crate::functions::Deployed;
use labels::{Function, FunctionOutcome, Source, Trigger, TriggerCause, TriggerResult};
pub use table::Metrics;

/// Where the attempts of a function are counted, once that was looked up: most of them end ok.
#[derive(Default)]
pub struct AttemptCounts {
    ok: OnceLock<Counter>,
    seconds: OnceLock<Histogram>,
}

impl Metrics {
    /// All of them in the OpenMetrics text format.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry())?;
        Ok(text)
    }

    pub(crate) fn accepted(&self, source: &str, events: usize) {
        let accepted = self.accepted.get_or_create(&Source::of(source));
        accepted.inc_by(events as u64);
    }

    pub(crate) fn unmatched(&self, source: &str) {
        self.unmatched.get_or_create(&Source::of(source)).inc();
    }

    pub(crate) fn duplicate(&self, source: &str) {
        self.duplicates.get_or_create(&Source::of(source)).inc();
    }

    pub(crate) fn parked(&self, trigger: &str) {
        let labels = Trigger {
            trigger: trigger.to_owned(),
        };
        self.parked.get_or_create(&labels).inc();
    }

    pub(crate) fn outsized(&self, trigger: &str) {
        self.outsized
            .get_or_create(&Trigger {
                trigger: trigger.to_owned(),
            })
            .inc();
    }

    pub(crate) fn key_missing(&self, trigger: &str) {
        self.keys_missing
            .get_or_create(&Trigger {
                trigger: trigger.to_owned(),
            })
            .inc();
    }

    /// Counts the outcomes of an attempt, one for each of its events.
    pub(crate) fn attempt<'o>(
        &self,
        function: &Deployed,
        outcomes: impl IntoIterator<Item = &'o Outcome>,
        usage: &Usage,
    ) {
        for outcome in outcomes {
            match outcome {
                Outcome::Ok => self.ok(function).inc(),
                other => self.outcome(function, other).inc(),
            };
        }
        self.took(function, [usage]);
    }

    /// Counts attempts of one event each that ended ok. All at once: what all cores count in has to be
    /// fetched from one another.
    pub(crate) fn attempts_ok<'u>(
        &self,
        function: &Deployed,
        all: impl ExactSizeIterator<Item = &'u Usage>,
    ) {
        if all.len() > 0 {
            self.ok(function).inc_by(all.len() as u64);
            self.took(function, all);
        }
    }

    fn ok<'f>(&self, function: &'f Deployed) -> &'f Counter {
        let counts = &function.counts;
        counts
            .ok
            .get_or_init(|| self.outcome(function, &Outcome::Ok))
    }

    fn outcome(&self, function: &Deployed, outcome: &Outcome) -> Counter {
        let (function, outcome) = (function.plan.name.clone(), outcome.name().as_str());
        self.attempts
            .get_or_create(&FunctionOutcome { function, outcome })
            .clone()
    }

    fn took<'u>(&self, function: &Deployed, all: impl IntoIterator<Item = &'u Usage>) {
        let seconds = function.counts.seconds.get_or_init(|| {
            let function = function.plan.name.clone();
            self.seconds.get_or_create(&Function { function }).clone()
        });
        for usage in all {
            seconds.observe(usage.wall_us as f64 / 1e6);
        }
    }

    pub(crate) fn conflict(&self, function: &str) {
        self.conflicts
            .get_or_create(&Function {
                function: function.to_owned(),
            })
            .inc();
    }

    pub(crate) fn settled(&self, trigger: &str, result: &'static str) {
        self.settled_all(trigger, result, 1);
    }

    /// Counts so many deliveries.
    pub(crate) fn settled_all(&self, trigger: &str, result: &'static str, count: usize) {
        self.settled
            .get_or_create(&TriggerResult {
                trigger: trigger.to_owned(),
                result,
            })
            .inc_by(count as u64);
    }

    pub(crate) fn dead_letter(&self, trigger: &str, cause: Cause) {
        let (trigger, cause) = (trigger.to_owned(), cause.as_str());
        self.dead_letters
            .get_or_create(&TriggerCause { trigger, cause })
            .inc();
    }

    pub(crate) fn dead_letter_expired(&self, trigger: &str) {
        let trigger = trigger.to_owned();
        self.dead_letters_expired
            .get_or_create(&Trigger { trigger })
            .inc();
    }
}
