//! How an attempt ends.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// How one attempt ended, in the words of the handler or of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The handler did its work.
    Ok,
    /// The handler asks for another attempt, not before `after`.
    Retry {
        /// The least time until the next attempt; absent, the policy's backoff.
        after: Option<Duration>,
        /// The handler's words.
        reason: String,
    },
    /// The handler gives the event up.
    Reject {
        /// The handler's words.
        reason: String,
    },
    /// The handler broke: a panic, an illegal instruction, a stack overflow.
    Trap {
        /// What the sandbox says of it.
        reason: String,
    },
    /// The handler ran longer than it may.
    Timeout {
        /// The function's limit.
        limit: Duration,
    },
    /// The handler asked for more memory than it may have, and broke.
    OutOfMemory {
        /// The function's limit in bytes.
        limit: u64,
    },
    /// The handler wrote, emitted or replied more than it may.
    TooMuchOutput {
        /// The function's limit in bytes.
        limit: u64,
    },
    /// The handler of a batch gave more or fewer answers than there are events.
    Miscounted {
        /// Events of the batch.
        events: usize,
        /// Answers of the handler.
        answers: usize,
    },
    /// An effect that belongs to the attempt (an object written) could not be completed.
    EffectFailed {
        /// What failed, with what.
        reason: String,
    },
    /// The function could not be started at all.
    Unavailable {
        /// What is wrong with it.
        reason: String,
    },
}

/// The name of an [`Outcome`], as metrics, logs and the attempt history show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeName {
    /// [`Outcome::Ok`].
    Ok,
    /// [`Outcome::Retry`].
    Retry,
    /// [`Outcome::Reject`].
    Reject,
    /// [`Outcome::Trap`].
    Trap,
    /// [`Outcome::Timeout`].
    Timeout,
    /// [`Outcome::OutOfMemory`].
    OutOfMemory,
    /// [`Outcome::TooMuchOutput`].
    TooMuchOutput,
    /// [`Outcome::Miscounted`].
    Miscounted,
    /// [`Outcome::EffectFailed`].
    EffectFailed,
    /// [`Outcome::Unavailable`].
    Unavailable,
}

impl Outcome {
    /// Its name.
    pub fn name(&self) -> OutcomeName {
        match self {
            Outcome::Ok => OutcomeName::Ok,
            Outcome::Retry { .. } => OutcomeName::Retry,
            Outcome::Reject { .. } => OutcomeName::Reject,
            Outcome::Trap { .. } => OutcomeName::Trap,
            Outcome::Timeout { .. } => OutcomeName::Timeout,
            Outcome::OutOfMemory { .. } => OutcomeName::OutOfMemory,
            Outcome::TooMuchOutput { .. } => OutcomeName::TooMuchOutput,
            Outcome::Miscounted { .. } => OutcomeName::Miscounted,
            Outcome::EffectFailed { .. } => OutcomeName::EffectFailed,
            Outcome::Unavailable { .. } => OutcomeName::Unavailable,
        }
    }
}

impl OutcomeName {
    /// Every name there is.
    pub const ALL: [OutcomeName; 10] = [
        OutcomeName::Ok,
        OutcomeName::Retry,
        OutcomeName::Reject,
        OutcomeName::Trap,
        OutcomeName::Timeout,
        OutcomeName::OutOfMemory,
        OutcomeName::TooMuchOutput,
        OutcomeName::Miscounted,
        OutcomeName::EffectFailed,
        OutcomeName::Unavailable,
    ];

    /// The kebab-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            OutcomeName::Ok => "ok",
            OutcomeName::Retry => "retry",
            OutcomeName::Reject => "reject",
            OutcomeName::Trap => "trap",
            OutcomeName::Timeout => "timeout",
            OutcomeName::OutOfMemory => "out-of-memory",
            OutcomeName::TooMuchOutput => "too-much-output",
            OutcomeName::Miscounted => "miscounted",
            OutcomeName::EffectFailed => "effect-failed",
            OutcomeName::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for OutcomeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Ok => f.write_str("ok"),
            Outcome::Retry { reason, .. } => write!(f, "the handler asks for a retry: {reason}"),
            Outcome::Reject { reason } => write!(f, "the handler rejects the event: {reason}"),
            Outcome::Trap { reason } => write!(f, "the handler broke: {reason}"),
            Outcome::Timeout { limit } => {
                write!(f, "the handler ran longer than its timeout of {limit:?}")
            }
            Outcome::OutOfMemory { limit } => {
                write!(f, "the handler needs more memory than its {limit} bytes")
            }
            Outcome::TooMuchOutput { limit } => {
                write!(
                    f,
                    "the handler writes more than its output limit of {limit} bytes"
                )
            }
            Outcome::Miscounted { events, answers } => write!(
                f,
                "the batch handler gave {answers} answers to {events} events; let it answer each event \
                 once, in their order"
            ),
            Outcome::EffectFailed { reason } => write!(f, "an effect failed: {reason}"),
            Outcome::Unavailable { reason } => write!(f, "the function cannot start: {reason}"),
        }
    }
}

/// What one attempt used, for `usage` and the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// From the start of the instance to the handler's answer, in microseconds.
    pub wall_us: u64,
    /// The part of it spent running rather than waiting, in microseconds.
    pub busy_us: u64,
    /// The largest linear memory of the instance, in bytes.
    pub memory: u64,
}

/// The handler's answer to whoever waits for it, or to `on_success`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The HTTP status, where a client waits.
    pub status: Option<u16>,
    /// Response headers.
    pub headers: Vec<crate::event::Field>,
    /// The body.
    pub body: bytes::Bytes,
}
