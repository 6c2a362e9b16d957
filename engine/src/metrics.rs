//! What is counted, in the words of the design, as Prometheus metrics.

use std::sync::{
    Mutex, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tidemill_connectors::{bucket, http, schedule};
use tidemill_core::{
    delivery::Cause,
    ledger::NoticedBy,
    outcome::{Outcome, Usage},
};

use crate::functions::Deployed;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Source {
    source: String,
}

impl Source {
    fn of(source: &str) -> Source {
        Source {
            source: source.to_owned(),
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Trigger {
    trigger: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Function {
    function: String,
}

/// Where the attempts of a function are counted, once that was looked up: most of them end ok.
#[derive(Default)]
pub struct AttemptCounts {
    ok: OnceLock<Counter>,
    seconds: OnceLock<Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FunctionOutcome {
    function: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TriggerResult {
    trigger: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TriggerCause {
    trigger: String,
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BucketResult {
    bucket: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BucketName {
    bucket: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BucketBy {
    bucket: String,
    by: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PathStatus {
    path: String,
    status: u16,
}

/// Seconds; a cold start is a millisecond, the longest attempt 15 minutes.
const SECONDS: [f64; 11] = [
    0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0, 900.0,
];

/// All metrics of the engine.
pub struct Metrics {
    registry: Mutex<Registry>,
    ready: Family<Source, Gauge>,
    accepted: Family<Source, Counter>,
    unmatched: Family<Source, Counter>,
    duplicates: Family<Source, Counter>,
    keys_missing: Family<Trigger, Counter>,
    outsized: Family<Trigger, Counter>,
    parked: Family<Trigger, Counter>,
    held: Family<Source, Gauge>,
    broken: Family<Source, Counter>,
    attempts: Family<FunctionOutcome, Counter>,
    conflicts: Family<Function, Counter>,
    seconds: Family<Function, Histogram, fn() -> Histogram>,
    settled: Family<TriggerResult, Counter>,
    dead_letters: Family<TriggerCause, Counter>,
    dead_letters_expired: Family<Trigger, Counter>,
    ticks: Family<TriggerResult, Counter>,
    store_requests: Family<BucketResult, Counter>,
    bucket_objects: Family<BucketName, Gauge>,
    noticed: Family<BucketBy, Counter>,
    missed: Family<BucketName, Counter>,
    delayed: Family<BucketBy, Counter>,
    delays: Family<BucketBy, Counter<f64, AtomicU64>>,
    notifications: Family<BucketResult, Counter>,
    http_requests: Family<PathStatus, Counter>,
    http_connections: Gauge,
    http_turned_away: Counter,
    /// Deliveries in the journal that are not settled.
    pub pending: Gauge,
    /// Dead letters in the journal.
    pub dead: Gauge,
    /// Attempts that run now.
    pub running: Gauge,
    /// Bytes of memory that handlers have.
    pub memory: Gauge,
    /// Attempts that wait for memory.
    pub memory_waiting: Gauge,
    /// Bytes of the journal in use.
    pub journal_bytes: Gauge,
    /// The limit of these bytes.
    pub journal_limit: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("tidemill");
        let metrics = Metrics {
            registry: Mutex::default(),
            ready: Family::default(),
            accepted: Family::default(),
            unmatched: Family::default(),
            duplicates: Family::default(),
            keys_missing: Family::default(),
            outsized: Family::default(),
            parked: Family::default(),
            held: Family::default(),
            broken: Family::default(),
            attempts: Family::default(),
            conflicts: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            settled: Family::default(),
            dead_letters: Family::default(),
            dead_letters_expired: Family::default(),
            ticks: Family::default(),
            store_requests: Family::default(),
            bucket_objects: Family::default(),
            noticed: Family::default(),
            missed: Family::default(),
            delayed: Family::default(),
            delays: Family::default(),
            notifications: Family::default(),
            http_requests: Family::default(),
            http_connections: Gauge::default(),
            http_turned_away: Counter::default(),
            pending: Gauge::default(),
            dead: Gauge::default(),
            running: Gauge::default(),
            memory: Gauge::default(),
            memory_waiting: Gauge::default(),
            journal_bytes: Gauge::default(),
            journal_limit: Gauge::default(),
        };
        let r = &mut registry;
        r.register(
            "source_ready",
            "Whether a source brings all that there is: 1 or 0",
            metrics.ready.clone(),
        );
        r.register(
            "events_accepted",
            "Events made durable",
            metrics.accepted.clone(),
        );
        r.register(
            "events_unmatched",
            "Events that no trigger matched",
            metrics.unmatched.clone(),
        );
        r.register(
            "events_duplicate",
            "Events the journal had already",
            metrics.duplicates.clone(),
        );
        r.register(
            "idempotency_keys_missing",
            "Events without the idempotency key that their trigger names",
            metrics.keys_missing.clone(),
        );
        r.register(
            "objects_outsized",
            "Objects that a trigger left out for their size",
            metrics.outsized.clone(),
        );
        r.register(
            "parked",
            "Deliveries that the journal took over from their source",
            metrics.parked.clone(),
        );
        r.register(
            "held",
            "Events that a broker keeps and the engine works on",
            metrics.held.clone(),
        );
        r.register(
            "broken_cloudevents",
            "Messages that claim to be CloudEvents and are none, by source",
            metrics.broken.clone(),
        );
        r.register(
            "attempts",
            "Attempts by outcome, each event of a batch by its own",
            metrics.attempts.clone(),
        );
        r.register(
            "attempt_conflicts",
            "Attempts run again because a key they read was changed",
            metrics.conflicts.clone(),
        );
        r.register_with_unit(
            "attempt_duration",
            "Time of an attempt in its instance; a batch is one",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        r.register(
            "deliveries_settled",
            "Deliveries done, by result",
            metrics.settled.clone(),
        );
        r.register(
            "deliveries_dead",
            "Deliveries given up, by cause",
            metrics.dead_letters.clone(),
        );
        r.register(
            "dead_letters_expired",
            "Dead letters thrown away because they grew too old",
            metrics.dead_letters_expired.clone(),
        );
        r.register(
            "schedule_ticks",
            "Ticks: offered, skipped for the one before, or missed and left out",
            metrics.ticks.clone(),
        );
        r.register(
            "bucket_objects",
            "Objects that the last listing of a bucket found, or the one that is under way so far",
            metrics.bucket_objects.clone(),
        );
        r.register(
            "objects_noticed",
            "Objects that came or changed, by what told of them first",
            metrics.noticed.clone(),
        );
        r.register(
            "objects_missed",
            "Objects that a listing came upon although there was to be a notification",
            metrics.missed.clone(),
        );
        r.register(
            "store_requests",
            "Requests to object stores, each try counted: all that were sent, those that failed, and those of them that ran out of time",
            metrics.store_requests.clone(),
        );
        r.register(
            "objects_delayed",
            "Objects that the next metric sums over: those that came or changed, but for those that the first listing found",
            metrics.delayed.clone(),
        );
        r.register_with_unit(
            "objects_delay",
            "How long after they were written objects became events, by who noticed them first",
            Unit::Seconds,
            metrics.delays.clone(),
        );
        r.register(
            "notifications",
            "Records that object stores sent: of the bucket's objects, of others, of what changes no object, and messages that no store wrote",
            metrics.notifications.clone(),
        );
        r.register(
            "http_requests",
            "Requests answered, by path of the plan and status",
            metrics.http_requests.clone(),
        );
        r.register(
            "http_connections",
            "Connections of HTTP triggers that are open",
            metrics.http_connections.clone(),
        );
        r.register(
            "http_connections_refused",
            "Connections turned away because there were too many",
            metrics.http_turned_away.clone(),
        );
        r.register(
            "deliveries_pending",
            "Deliveries not settled yet",
            metrics.pending.clone(),
        );
        r.register("dead_letters", "Dead letters kept", metrics.dead.clone());
        r.register(
            "attempts_running",
            "Attempts that run now",
            metrics.running.clone(),
        );
        r.register(
            "handlers_memory_bytes",
            "Bytes of memory that handlers have, those kept for later included",
            metrics.memory.clone(),
        );
        r.register(
            "attempts_waiting_for_memory",
            "Attempts that wait until others give memory back",
            metrics.memory_waiting.clone(),
        );
        r.register(
            "journal_bytes",
            "Bytes of the journal in use",
            metrics.journal_bytes.clone(),
        );
        r.register(
            "journal_limit_bytes",
            "Bytes of the journal at which the intake stops",
            metrics.journal_limit.clone(),
        );
        *metrics.lock() = registry;
        metrics
    }
}

impl Metrics {
    /// All of them in the OpenMetrics text format.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.lock())?;
        Ok(text)
    }

    /// Forgets how sources are: some may be no more.
    pub(crate) fn forget_sources(&self) {
        self.ready.clear();
        self.held.clear();
        self.bucket_objects.clear();
    }

    /// Takes over whether a source is ready.
    pub(crate) fn source_ready(&self, source: &str, ready: bool) {
        let gauge = self.ready.get_or_create(&Source::of(source));
        gauge.set(ready.into());
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

    /// Takes over what a schedule counts.
    pub(crate) fn ticks(&self, trigger: &str, status: &schedule::Status) {
        for (result, count) in [
            ("offered", status.offered),
            ("skipped", status.skipped),
            ("missed", status.missed),
        ] {
            let labels = TriggerResult {
                trigger: trigger.to_owned(),
                result,
            };
            let counter = self.ticks.get_or_create(&labels);
            counter.inner().store(count, Relaxed);
        }
    }

    /// Takes over what the source of a bucket counts.
    pub(crate) fn bucket(&self, bucket: &str, status: &bucket::Status) {
        let name = BucketName {
            bucket: bucket.to_owned(),
        };
        let objects = i64::try_from(status.objects).unwrap_or(i64::MAX);
        self.bucket_objects.get_or_create(&name).set(objects);
        let noticed = &status.noticed;
        let missed = self.missed.get_or_create(&name);
        missed.inner().store(noticed.missed, Relaxed);
        for (by, count) in [
            (NoticedBy::Notification, noticed.by_notification),
            (NoticedBy::Listing, noticed.by_listing),
        ] {
            let (bucket, by) = (bucket.to_owned(), by.as_str());
            let counter = self.noticed.get_or_create(&BucketBy { bucket, by });
            counter.inner().store(count, Relaxed);
        }
        for (by, delay) in [
            (NoticedBy::Notification, status.told_after),
            (NoticedBy::Listing, status.listed_after),
        ] {
            let labels = BucketBy {
                bucket: bucket.to_owned(),
                by: by.as_str(),
            };
            let objects = self.delayed.get_or_create(&labels);
            objects.inner().store(delay.objects, Relaxed);
            let seconds = self.delays.get_or_create(&labels);
            let total = delay.total.as_secs_f64().to_bits();
            seconds.inner().store(total, Relaxed);
        }
        let Some(told) = &status.told else { return };
        for (result, count) in [
            ("taken", told.records),
            ("elsewhere", told.elsewhere),
            ("other", told.others),
            ("strange", told.strange),
        ] {
            let labels = BucketResult {
                bucket: bucket.to_owned(),
                result,
            };
            let counter = self.notifications.get_or_create(&labels);
            counter.inner().store(count, Relaxed);
        }
    }

    /// Takes over what a bucket of an object store counts.
    pub(crate) fn store(&self, bucket: &str, traffic: &bucket::Traffic) {
        for (result, count) in [
            ("sent", traffic.requests()),
            ("failed", traffic.failed()),
            ("timeout", traffic.timeouts()),
        ] {
            let labels = BucketResult {
                bucket: bucket.to_owned(),
                result,
            };
            let counter = self.store_requests.get_or_create(&labels);
            counter.inner().store(count, Relaxed);
        }
    }

    /// Takes over what the HTTP source counts.
    pub(crate) fn http(&self, status: &http::Status) {
        for count in &status.requests {
            let labels = PathStatus {
                path: count.path.clone().unwrap_or_default(),
                status: count.status,
            };
            let counter = self.http_requests.get_or_create(&labels);
            counter.inner().store(count.requests, Relaxed);
        }
        let connections = i64::try_from(status.connections).unwrap_or(i64::MAX);
        self.http_connections.set(connections);
        let refused = self.http_turned_away.inner();
        refused.store(status.turned_away, Relaxed);
    }

    /// Takes over what a broker's connector counts.
    pub(crate) fn held(&self, source: &str, held: usize, broken: u64) {
        let labels = Source::of(source);
        let held = i64::try_from(held).unwrap_or(i64::MAX);
        self.held.get_or_create(&labels).set(held);
        let counter = self.broken.get_or_create(&labels);
        counter.inner().store(broken, Relaxed);
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
