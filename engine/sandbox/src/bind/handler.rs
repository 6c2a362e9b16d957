//! The exports that handlers are called by, and the values that pass through it.
//!
//! Written by hand rather than generated, so that an event is copied once: from the engine's memory
//! into the guest's.

use std::time::Duration;

use bytes::Bytes;
use tidemill_core::{
    event::{Event as CoreEvent, Field},
    limits,
    outcome::{Outcome, Reply as CoreReply},
};
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::{output::cut, run::DeliveryInfo};

/// The interface that a component exports for one event at a time.
pub(crate) const HANDLER: &str = "tidemill:function/handler@0.1.0";
/// The interface that a component exports for many events in one call.
pub(crate) const BATCH_HANDLER: &str = "tidemill:function/batch-handler@0.1.0";
/// The one function of each.
pub(crate) const HANDLE: &str = "handle";
/// The answer to one event.
pub(crate) type Answer = Result<Option<Reply>, Failure>;
/// What [`HANDLER`] takes.
pub(crate) type One<'a> = (Event<'a>,);
/// What [`HANDLER`] answers.
pub(crate) type OneAnswer = (Answer,);
/// What [`BATCH_HANDLER`] takes.
pub(crate) type Many<'a> = (Vec<Event<'a>>,);
/// What [`BATCH_HANDLER`] answers.
pub(crate) type ManyAnswers = (Vec<Answer>,);

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Event<'a> {
    id: &'a str,
    source: &'a str,
    #[component(name = "type")]
    kind: &'a str,
    subject: Option<&'a str>,
    #[component(name = "time-ms")]
    time_ms: u64,
    datacontenttype: Option<&'a str>,
    traceparent: Option<&'a str>,
    headers: &'a [Field],
    data: &'a [u8],
    delivery: Delivery<'a>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Delivery<'a> {
    id: &'a str,
    trigger: &'a str,
    attempt: u32,
}

impl<'a> Event<'a> {
    pub(crate) fn new(event: &'a CoreEvent, delivery: &'a DeliveryInfo) -> Event<'a> {
        Event {
            id: &event.id,
            source: &event.source,
            kind: &event.kind,
            subject: event.subject.as_deref(),
            // An event of before 1970 tells the earliest time that the contract can.
            time_ms: u64::try_from(event.time.0).unwrap_or(0),
            datacontenttype: event.datacontenttype.as_deref(),
            traceparent: event.traceparent.as_deref(),
            headers: &event.headers,
            data: &event.data,
            delivery: Delivery {
                id: &delivery.id,
                trigger: &delivery.trigger,
                attempt: delivery.attempt,
            },
        }
    }
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Reply {
    status: Option<u16>,
    headers: Vec<Field>,
    body: Vec<u8>,
}

impl Reply {
    pub(crate) fn size(&self) -> usize {
        self.body.len()
            + self
                .headers
                .iter()
                .map(|(n, v)| n.len() + v.len())
                .sum::<usize>()
    }
}

impl From<Reply> for CoreReply {
    fn from(reply: Reply) -> CoreReply {
        CoreReply {
            status: reply.status,
            headers: reply.headers,
            body: Bytes::from(reply.body),
        }
    }
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Failure {
    #[component(name = "retry")]
    Retry(Retry),
    #[component(name = "reject")]
    Reject(String),
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Retry {
    #[component(name = "after-ms")]
    after_ms: Option<u64>,
    reason: String,
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Outcome {
        match failure {
            Failure::Retry(Retry { after_ms, reason }) => Outcome::Retry {
                after: after_ms.map(Duration::from_millis),
                reason: cut(&reason, limits::REASON).into_owned(),
            },
            Failure::Reject(reason) => Outcome::Reject {
                reason: cut(&reason, limits::REASON).into_owned(),
            },
        }
    }
}
