//! A trigger at run time: which events it is about, and what it makes of them.

use std::{sync::Arc, time::Duration};

use tidemill_config::plan::{self, After, Idempotency};
use tidemill_core::{
    dispatch::Batch,
    event::{Event, METHOD},
    filter::{Filter, ObjectFilter},
    rate::Rate,
    retry::RetryPolicy,
    selector::{Parsed, Selector},
};

use crate::functions::Deployed;

/// What a trigger needs at run time.
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The source it listens to; events are routed by it.
    pub source: String,
    /// What becomes of a delivery whose object is gone or was replaced before it was read.
    pub missing: plan::Missing,
    /// Which of the source's events.
    pub listens: Listens,
    /// And of these, which.
    pub filter: Option<Filter>,
    /// What becomes of an event of the source that no trigger matches.
    pub unmatched: plan::Unmatched,
    /// The most bytes of data that an event may have, if that is limited here and not at its source.
    pub max_payload: Option<u64>,
    /// Events that mean the same run once.
    pub idempotency: Option<Idempotency>,
    /// Which deliveries run one after another.
    pub order: Order,
    /// How often attempts start at most.
    pub rate: Option<Rate>,
    /// Whether several of its deliveries run in one attempt.
    pub batch: Option<Batch>,
    /// The function it runs.
    pub function: Arc<Deployed>,
    /// What follows a failure.
    pub retry: RetryPolicy,
    /// Where replies go.
    pub on_success: Option<Target>,
    /// Where dead letters go, besides the journal.
    pub dead_letter: Option<Target>,
}

/// Which of its source's events a trigger is about.
pub enum Listens {
    /// Objects.
    Objects {
        /// Which.
        filter: ObjectFilter,
        /// What becomes of an object when all its deliveries are ok.
        after: After,
    },
    /// Requests with one of these methods.
    Requests(Vec<String>),
    /// All.
    All,
}

/// Which deliveries of a trigger run one after another.
pub enum Order {
    /// None.
    None,
    /// Those that are equal here.
    By(Selector),
    /// Those with the same message key.
    MessageKey,
    /// Those of the same partition.
    Partition,
    /// All.
    All,
}

/// Where replies or dead letters go.
#[derive(Clone, Debug)]
pub enum Target {
    /// Into an object.
    Object {
        /// The bucket.
        bucket: String,
        /// Its key, with placeholders.
        key: String,
    },
    /// To an HTTP server that the plan names.
    Http,
    /// To an AMQP exchange that the plan names.
    Amqp,
    /// To a Kafka topic that the plan names.
    Kafka,
    /// Back into the engine, as an event of this type.
    Event {
        /// The type.
        kind: String,
    },
}

impl Trigger {
    /// Whether the event of its source is for this trigger.
    pub(super) fn matches(&self, parsed: &Parsed<'_>) -> bool {
        let listens = match &self.listens {
            Listens::Objects { filter, .. } => {
                filter.matches(parsed.event) && filter.fits(parsed.event)
            }
            Listens::Requests(methods) => {
                // A CloudEvent keeps its own attributes, and its method all the same.
                let method = parsed.event.header(METHOD).unwrap_or_default();
                methods.iter().any(|known| known == method)
            }
            Listens::All => true,
        };
        listens && self.filter.as_ref().is_none_or(|f| f.matches(parsed))
    }

    /// Whether it would be for this trigger, if its object had another size.
    pub(super) fn is_outsized(&self, event: &Event) -> bool {
        match &self.listens {
            Listens::Objects { filter, .. } => filter.matches(event) && !filter.fits(event),
            _ => false,
        }
    }

    /// The lane of the event, if it has one.
    pub(super) fn lane(&self, parsed: &Parsed<'_>) -> Option<String> {
        match &self.order {
            Order::None => None,
            Order::By(selector) => selector.scalar(parsed),
            Order::All => Some(String::new()),
            Order::MessageKey | Order::Partition => None,
        }
    }

    /// The idempotency key that the user chose, if the event has it. An empty text says nothing, or
    /// all senders who leave it out would mean the same.
    pub(super) fn key(&self, parsed: &Parsed<'_>) -> Option<String> {
        let key = self.idempotency.as_ref()?.key.scalar(parsed)?;
        Some(key).filter(|key| !key.is_empty())
    }

    /// How long a completed key is remembered.
    pub(super) fn window(&self) -> Option<Duration> {
        self.idempotency.as_ref().map(|one| one.window)
    }

    /// What becomes of an object when all its deliveries are ok.
    pub(super) fn after(&self) -> &After {
        match &self.listens {
            Listens::Objects { after, .. } => after,
            _ => &After::Keep,
        }
    }

    /// Whether the event is of a bucket, and tells of an object there.
    pub(super) fn is_about_objects(&self) -> bool {
        matches!(self.listens, Listens::Objects { .. })
    }
}

/// The source that triggers on emitted events of a type listen to.
pub fn emitted_source(kind: &str) -> String {
    format!("event:{kind}")
}
