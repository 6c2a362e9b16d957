//! Why a handler could not do its work, and what follows from the errors of the other modules. It decides
//! nothing about when the next attempt comes: that is the trigger's retry policy.

use std::{fmt, io, time::Duration};

use crate::{bindings::tidemill::function::types, bucket, config, emit, kv};

/// Why a handler could not do its work. All its effects in the journal are thrown away.
///
/// Errors of this crate become a failure by `?`: what may be better next time is retried (a store that failed, a
/// grant that is missing and may be given), what the same event would meet again is rejected (JSON of the wrong
/// shape, an object that has changed since). For any other error the handler says which:
/// `decode(bytes).map_err(Failure::reject)?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Try again, by the retry policy of the trigger.
    Retry {
        /// Not before this has passed. `None`: the backoff of the trigger.
        after: Option<Duration>,
        /// For the person who reads the dead letters.
        reason: String,
    },
    /// Never try again: the event itself is wrong. It becomes a dead letter at once.
    Reject(String),
}

impl Failure {
    /// Try again, by the retry policy of the trigger.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry {
            after: None,
            reason: reason.to_string(),
        }
    }

    /// Try again, not before `after` has passed.
    pub fn retry_after(after: Duration, reason: impl fmt::Display) -> Self {
        Self::Retry {
            after: Some(after),
            reason: reason.to_string(),
        }
    }

    /// Never try again: the event itself is wrong. It becomes a dead letter at once.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Self::Reject(reason.to_string())
    }
}

impl From<bucket::Error> for Failure {
    fn from(error: bucket::Error) -> Self {
        match error {
            bucket::Error::Changed(_) | bucket::Error::TooLarge(_) => Self::reject(error),
            bucket::Error::NotFound(_) | bucket::Error::Denied(_) | bucket::Error::Failed(_) => {
                Self::retry(error)
            }
        }
    }
}

impl From<kv::Error> for Failure {
    fn from(error: kv::Error) -> Self {
        Self::retry(error)
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::retry(error)
    }
}

impl From<emit::Error> for Failure {
    fn from(error: emit::Error) -> Self {
        match error {
            emit::Error::Denied(_) => Self::retry(error),
            emit::Error::TooLarge(_) | emit::Error::Json(_) => Self::reject(error),
        }
    }
}

/// Errors of reading an object through [`bucket::Reader`] count as what they are; all others are retried.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.downcast::<bucket::Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::retry(error),
        }
    }
}

impl From<std::str::Utf8Error> for Failure {
    fn from(error: std::str::Utf8Error) -> Self {
        Self::reject(error)
    }
}

#[cfg(feature = "json")]
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::reject(error)
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retry { after, reason } => Self::Retry(types::Retry {
                after_ms: after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
                reason,
            }),
            Failure::Reject(reason) => Self::Reject(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_bucket_survives_the_way_through_io() {
        let changed = io::Error::other(bucket::Error::Changed("k".into()));
        assert!(matches!(Failure::from(changed), Failure::Reject(_)));
        assert!(matches!(
            Failure::from(io::Error::other("x")),
            Failure::Retry { .. }
        ));
    }

    #[test]
    fn a_wait_too_long_to_count_is_the_longest() {
        let types::Failure::Retry(retry) = Failure::retry_after(Duration::MAX, "x").into() else {
            panic!("not a retry");
        };
        assert_eq!(retry.after_ms, Some(u64::MAX));
    }
}
