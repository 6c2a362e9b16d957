//! All metrics, each in one place: by what it is counted, its name and what it says.

use std::sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicU64};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::labels::{
    BucketBy, BucketName, BucketResult, Function, FunctionOutcome, PathStatus, Source, Trigger,
    TriggerCause, TriggerResult,
};

/// Counts in steps of seconds: a cold start is a millisecond, the longest attempt 15 minutes.
const SECONDS: fn() -> Histogram = || {
    Histogram::new([
        0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0, 900.0,
    ])
};

/// Makes a field and an entry of the registry of each: `field: type = "name", "help";`, with `in` the unit and `by`
/// how a family makes its members, where that is not by default.
macro_rules! metrics {
    ($($field:ident: $type:ty = $name:literal $(in $unit:ident)? $(by $new:ident)?, $help:literal;)*) => {
        /// All metrics of the engine.
        pub struct Metrics {
            registry: Mutex<Registry>,
            $(#[doc = $help] pub(crate) $field: $type,)*
        }

        impl Default for Metrics {
            fn default() -> Metrics {
                let mut registry = Registry::with_prefix("tidemill");
                $(let $field: $type = metrics!(@new $($new)?);)*
                $(metrics!(@register registry, $field, $name, $help $(, $unit)?);)*
                Metrics { registry: Mutex::new(registry), $($field,)* }
            }
        }
    };
    (@new) => { Default::default() };
    (@new $new:ident) => { Family::new_with_constructor($new) };
    (@register $registry:ident, $field:ident, $name:literal, $help:literal) => {
        $registry.register($name, $help, $field.clone())
    };
    (@register $registry:ident, $field:ident, $name:literal, $help:literal, $unit:ident) => {
        $registry.register_with_unit($name, $help, Unit::$unit, $field.clone())
    };
}

metrics! {
    ready: Family<Source, Gauge> = "source_ready",
        "Whether a source brings all that there is: 1 or 0";
    accepted: Family<Source, Counter> = "events_accepted",
        "Events made durable";
    unmatched: Family<Source, Counter> = "events_unmatched",
        "Events that no trigger matched";
    duplicates: Family<Source, Counter> = "events_duplicate",
        "Events the journal had already";
    keys_missing: Family<Trigger, Counter> = "idempotency_keys_missing",
        "Events without the idempotency key that their trigger names";
    outsized: Family<Trigger, Counter> = "objects_outsized",
        "Objects that a trigger left out for their size";
    parked: Family<Trigger, Counter> = "parked",
        "Deliveries that the journal took over from their source";
    held: Family<Source, Gauge> = "held",
        "Events that a broker keeps and the engine works on";
    broken: Family<Source, Counter> = "broken_cloudevents",
        "Messages that claim to be CloudEvents and are none, by source";
    attempts: Family<FunctionOutcome, Counter> = "attempts",
        "Attempts by outcome, each event of a batch by its own";
    conflicts: Family<Function, Counter> = "attempt_conflicts",
        "Attempts run again because a key they read was changed";
    seconds: Family<Function, Histogram, fn() -> Histogram> = "attempt_duration" in Seconds by SECONDS,
        "Time of an attempt in its instance; a batch is one";
    settled: Family<TriggerResult, Counter> = "deliveries_settled",
        "Deliveries done, by result";
    dead_letters: Family<TriggerCause, Counter> = "deliveries_dead",
        "Deliveries given up, by cause";
    dead_letters_expired: Family<Trigger, Counter> = "dead_letters_expired",
        "Dead letters thrown away because they grew too old";
    ticks: Family<TriggerResult, Counter> = "schedule_ticks",
        "Ticks: offered, skipped for the one before, or missed and left out";
    bucket_objects: Family<BucketName, Gauge> = "bucket_objects",
        "Objects that the last listing of a bucket found, or the one that is under way so far";
    noticed: Family<BucketBy, Counter> = "objects_noticed",
        "Objects that came or changed, by what told of them first";
    missed: Family<BucketName, Counter> = "objects_missed",
        "Objects that a listing came upon although there was to be a notification";
    store_requests: Family<BucketResult, Counter> = "store_requests",
        "Requests to object stores, each try counted: all that were sent, those that failed, and those of them that \
        ran out of time";
    delayed: Family<BucketBy, Counter> = "objects_delayed",
        "Objects that the next metric sums over: those that came or changed, but for those that the first listing \
        found";
    delays: Family<BucketBy, Counter<f64, AtomicU64>> = "objects_delay" in Seconds,
        "How long after they were written objects became events, by who noticed them first";
    notifications: Family<BucketResult, Counter> = "notifications",
        "Records that object stores sent: of the bucket's objects, of others, of what changes no object, and messages \
        that no store wrote";
    http_requests: Family<PathStatus, Counter> = "http_requests",
        "Requests answered, by path of the plan and status";
    http_connections: Gauge = "http_connections",
        "Connections of HTTP triggers that are open";
    http_turned_away: Counter = "http_connections_refused",
        "Connections turned away because there were too many";
    pending: Gauge = "deliveries_pending",
        "Deliveries not settled yet";
    dead: Gauge = "dead_letters",
        "Dead letters kept";
    running: Gauge = "attempts_running",
        "Attempts that run now";
    memory: Gauge = "handlers_memory_bytes",
        "Bytes of memory that handlers have, those kept for later included";
    memory_waiting: Gauge = "attempts_waiting_for_memory",
        "Attempts that wait until others give memory back";
    journal_bytes: Gauge = "journal_bytes",
        "Bytes of the journal in use";
    journal_limit: Gauge = "journal_limit_bytes",
        "Bytes of the journal at which the intake stops";
}

impl Metrics {
    /// Who writes and who reads them all.
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        let registry = self.registry.lock();
        registry.unwrap_or_else(PoisonError::into_inner)
    }
}
