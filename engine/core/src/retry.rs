//! The retry policy: what follows an attempt that did not end ok.

use std::time::Duration;

use crate::{outcome::Outcome, time::Timestamp};

/// When to try again and when to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included. At least 1.
    pub attempts: u32,
    /// The backoff after the first attempt, before jitter.
    pub first: Duration,
    /// The largest backoff, before jitter.
    pub max: Duration,
    /// How old a delivery may grow, counted from its acceptance.
    pub max_age: Duration,
}

/// What the policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again at this time.
    RetryAt(Timestamp),
    /// Give up: the delivery becomes a dead letter for this cause.
    GiveUp(GiveUp),
}

/// Why a delivery is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// The handler rejected the event.
    Rejected,
    /// The attempts are used up.
    Attempts,
    /// The next attempt would come after the largest age.
    Age,
}

impl RetryPolicy {
    /// Decides after the attempt number `attempt` (from 1) of a delivery accepted at `accepted`
    /// ended at `now` with `outcome`. `random` is uniform over all of u64.
    pub fn after(
        &self,
        outcome: &Outcome,
        attempt: u32,
        accepted: Timestamp,
        now: Timestamp,
        random: u64,
    ) -> Verdict {
        if matches!(outcome, Outcome::Reject { .. }) {
            return Verdict::GiveUp(GiveUp::Rejected);
        }
        if attempt >= self.attempts {
            return Verdict::GiveUp(GiveUp::Attempts);
        }
        let asked = match outcome {
            Outcome::Retry { after, .. } => after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let at = now.plus(asked.max(self.backoff(attempt, random)));
        if at.since(accepted) > self.max_age {
            return Verdict::GiveUp(GiveUp::Age);
        }
        Verdict::RetryAt(at)
    }

    /// Full jitter: anywhere between zero and `first * 2^(attempt - 1)`, which `max` bounds.
    pub fn backoff(&self, attempt: u32, random: u64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.max);
        let millis = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX - 1);
        // The high half of the product is uniform over 0..=millis.
        let jittered = (u128::from(random) * (u128::from(millis) + 1)) >> 64;
        Duration::from_millis(jittered as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            attempts: 3,
            first: Duration::from_secs(1),
            max: Duration::from_secs(300),
            max_age: Duration::from_secs(6 * 3600),
        }
    }

    fn trap() -> Outcome {
        Outcome::Trap {
            reason: "unreachable".into(),
        }
    }

    fn asked(after: Duration) -> Outcome {
        Outcome::Retry {
            after: Some(after),
            reason: "busy".into(),
        }
    }

    #[test]
    fn table() {
        let (t0, now) = (Timestamp(0), Timestamp(10_000));
        let reject = Outcome::Reject {
            reason: "bad".into(),
        };
        let cases = [
            (reject, 1, 0, Verdict::GiveUp(GiveUp::Rejected)),
            (trap(), 1, 0, Verdict::RetryAt(now)),
            (trap(), 1, u64::MAX, Verdict::RetryAt(Timestamp(11_000))),
            (trap(), 2, u64::MAX, Verdict::RetryAt(Timestamp(12_000))),
            (trap(), 3, 0, Verdict::GiveUp(GiveUp::Attempts)),
            (
                asked(Duration::from_secs(60)),
                1,
                0,
                Verdict::RetryAt(Timestamp(70_000)),
            ),
            (
                asked(Duration::from_secs(6 * 3600)),
                1,
                0,
                Verdict::GiveUp(GiveUp::Age),
            ),
        ];
        for (outcome, attempt, random, expected) in cases {
            let verdict = policy().after(&outcome, attempt, t0, now, random);
            assert_eq!(verdict, expected, "{outcome:?}, attempt {attempt}");
        }
    }

    proptest! {
        #[test]
        fn backoff_stays_within_its_ceiling(attempt in 1u32..200, random: u64) {
            let ceiling = Duration::from_secs(1).saturating_mul(1 << (attempt - 1).min(20));
            let backoff = policy().backoff(attempt, random);
            prop_assert!(backoff <= ceiling.min(policy().max));
        }

        #[test]
        fn the_whole_range_is_used(attempt in 1u32..12) {
            prop_assert_eq!(policy().backoff(attempt, 0), Duration::ZERO);
            let top = Duration::from_secs(1 << (attempt - 1)).min(policy().max);
            prop_assert_eq!(policy().backoff(attempt, u64::MAX), top);
        }

        #[test]
        fn every_delivery_ends(random in proptest::collection::vec(any::<u64>(), 3)) {
            let mut now = Timestamp(0);
            let mut attempts = 0;
            for (n, random) in (1..).zip(random) {
                attempts = n;
                match policy().after(&trap(), n, Timestamp(0), now, random) {
                    Verdict::RetryAt(at) => { prop_assert!(at >= now); now = at }
                    Verdict::GiveUp(_) => break,
                }
            }
            prop_assert_eq!(attempts, 3);
        }
    }
}
