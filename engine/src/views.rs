//! What the admin API and `--json` show: one shape for both.

use serde::{Deserialize, Serialize};
use tidemill_core::{
    delivery::{AttemptRecord, Cause, DeadLetter, Seq, Work},
    event::{Event, Field},
    identity::DeliveryId,
    outcome::Reply,
    time::Timestamp,
};
use tidemill_journal::{DeadLetterLine, UsageEntry};

use crate::dispatcher::Invoked;

/// A page of dead letters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetterPage {
    /// The oldest first.
    pub dead_letters: Vec<DeadLetterView>,
    /// Pass it as `after` to get the next page; absent, this was the last.
    pub next: Option<Seq>,
}

/// A dead letter in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetterView {
    /// The delivery.
    pub id: DeliveryId,
    /// Its trigger.
    pub trigger: String,
    /// Its event's source.
    pub source: String,
    /// Its event's subject.
    pub subject: Option<String>,
    /// Why it was given up.
    pub cause: Cause,
    /// The reason of the last attempt.
    pub reason: String,
    /// Attempts in all.
    pub attempts: u32,
    /// When it was given up, RFC 3339.
    pub died: String,
}

/// A dead letter with all that is known of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetterDetail {
    /// As in a list.
    #[serde(flatten)]
    pub line: DeadLetterView,
    /// What was to be done.
    pub work: Work,
    /// When the event was accepted, RFC 3339.
    pub accepted: String,
    /// The event.
    pub event: EventView,
    /// Every attempt, the first one first.
    pub history: Vec<AttemptRecord>,
}

/// An event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventView {
    /// Its identity at its source.
    pub id: String,
    /// Where it comes from.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it happened to.
    pub subject: Option<String>,
    /// When, RFC 3339.
    pub time: String,
    /// The media type of the data.
    pub datacontenttype: Option<String>,
    /// The trace it belongs to.
    pub traceparent: Option<String>,
    /// Writes of this engine that led to it.
    pub hops: u32,
    /// Its headers.
    pub headers: Vec<Field>,
    /// Its payload, where it is text.
    #[serde(flatten)]
    pub data: Data,
}

/// A payload: as it is if it is UTF-8, in hexadecimal otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Data {
    /// UTF-8.
    Data(String),
    /// Two digits a byte.
    DataHex(String),
}

impl Data {
    /// The view of these bytes.
    pub fn of(bytes: &[u8]) -> Data {
        match std::str::from_utf8(bytes) {
            Ok(text) => Data::Data(text.to_owned()),
            Err(_) => Data::DataHex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

/// A delivery made from a dead letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RedrivenView {
    /// The dead letter.
    pub of: DeliveryId,
    /// The new delivery.
    pub id: DeliveryId,
}

/// A dead letter that was thrown away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PurgedView {
    /// The dead letter.
    pub id: DeliveryId,
}

/// A dead letter with which nothing could be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailedView {
    /// The dead letter.
    pub id: DeliveryId,
    /// Why.
    pub error: String,
}

/// How an invocation ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InvokedView {
    /// The name of the outcome.
    pub outcome: String,
    /// In words, if it is not ok.
    pub reason: Option<String>,
    /// The handler's answer.
    pub reply: Option<ReplyView>,
    /// Microseconds in the instance.
    pub wall_us: u64,
    /// The largest memory of the instance, in bytes.
    pub memory: u64,
    /// Events emitted.
    pub emitted: usize,
    /// Objects written: bucket and key.
    pub written: Vec<(String, String)>,
}

/// A handler's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplyView {
    /// The HTTP status it asked for.
    pub status: Option<u16>,
    /// Its headers.
    pub headers: Vec<Field>,
    /// Its body.
    #[serde(flatten)]
    pub data: Data,
}

/// An attempt that ended, or a delivery that was given up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptView {
    /// When, RFC 3339.
    pub time: String,
    /// The trigger.
    pub trigger: String,
    /// The function; absent for the outbox.
    pub function: Option<String>,
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its event's source.
    pub source: String,
    /// Its event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its event's subject.
    pub subject: Option<String>,
    /// Counts from 1; of a delivery that was given up, all of them.
    pub attempt: u32,
    /// The name of the outcome, or [`AttemptView::DEAD`].
    pub outcome: String,
    /// Milliseconds in the instance, where there was one.
    pub ms: Option<f64>,
    /// In words, if it is not ok.
    pub reason: Option<String>,
}

impl AttemptView {
    /// In place of an outcome: the delivery was given up.
    pub const DEAD: &str = "dead";
}

/// In place of attempts that a listener was too slow for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOutView {
    /// How many.
    pub left_out: u64,
}

/// What a function used on one day.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UsageView {
    /// The function.
    pub function: String,
    /// The day, UTC, such as `2027-03-28`.
    pub day: String,
    /// Attempts that ended.
    pub invocations: u64,
    /// Memory times time: the largest memory of each attempt, of which 1 GB are 1024 MiB, for as long
    /// as it ran.
    pub gb_seconds: f64,
    /// From the start of each attempt to its end.
    pub wall_seconds: f64,
    /// The part of it spent running rather than waiting.
    pub cpu_seconds: f64,
}

/// A refusal of the admin API.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// In words.
    pub error: String,
}

impl From<DeadLetterLine> for DeadLetterView {
    fn from(line: DeadLetterLine) -> Self {
        DeadLetterView {
            id: line.id,
            trigger: line.trigger,
            source: line.source,
            subject: line.subject,
            cause: line.cause,
            reason: line.reason,
            attempts: line.attempts,
            died: line.died.to_string(),
        }
    }
}

impl From<UsageEntry> for UsageView {
    fn from(entry: UsageEntry) -> Self {
        const KIB_MS: f64 = (1 << 20) as f64 * 1e3;
        let day = Timestamp::of_day(entry.day).to_string();
        UsageView {
            function: entry.function,
            day: day.split('T').next().unwrap_or_default().to_owned(),
            invocations: entry.invocations,
            gb_seconds: entry.used.memory as f64 / KIB_MS,
            wall_seconds: entry.used.wall_us as f64 / 1e6,
            cpu_seconds: entry.used.busy_us as f64 / 1e6,
        }
    }
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        EventView {
            id: event.id.clone(),
            source: event.source.clone(),
            kind: event.kind.clone(),
            subject: event.subject.clone(),
            time: event.time.to_string(),
            datacontenttype: event.datacontenttype.clone(),
            traceparent: event.traceparent.clone(),
            hops: event.hops,
            headers: event.headers.clone(),
            data: Data::of(&event.data),
        }
    }
}

impl From<DeadLetter> for DeadLetterDetail {
    fn from(dead: DeadLetter) -> Self {
        let delivery = dead.delivery;
        let view = EventView::from(&delivery.event);
        DeadLetterDetail {
            line: DeadLetterView {
                id: delivery.id,
                trigger: delivery.trigger,
                source: delivery.event.source,
                subject: delivery.event.subject,
                cause: dead.cause,
                reason: dead.reason,
                attempts: delivery.attempts,
                died: dead.died.to_string(),
            },
            work: delivery.work,
            accepted: delivery.accepted.to_string(),
            event: view,
            history: dead.history,
        }
    }
}

impl From<Invoked> for InvokedView {
    fn from(invoked: Invoked) -> Self {
        let ok = invoked.outcome == tidemill_core::outcome::Outcome::Ok;
        InvokedView {
            outcome: invoked.outcome.name().to_string(),
            reason: (!ok).then(|| invoked.outcome.to_string()),
            reply: invoked.reply.map(ReplyView::from),
            wall_us: invoked.usage.wall_us,
            memory: invoked.usage.memory,
            emitted: invoked.emitted,
            written: invoked.written,
        }
    }
}

impl From<Reply> for ReplyView {
    fn from(reply: Reply) -> Self {
        ReplyView {
            status: reply.status,
            headers: reply.headers,
            data: Data::of(&reply.body),
        }
    }
}
