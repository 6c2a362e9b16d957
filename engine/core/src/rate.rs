//! Rates: at most so many starts in a while.

use std::{collections::VecDeque, str::FromStr, time::Duration};

use crate::{limits, time::Timestamp};

/// At most `count` starts within any span of `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many. At least 1, at most [`limits::RATE_COUNT`].
    pub count: u32,
    /// In what span.
    pub per: Duration,
}

/// The text is no rate; what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rate is a number from 1 to {}, a slash, and s, m or h",
    limits::RATE_COUNT
)]
pub struct NotARate;

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Rate, NotARate> {
        let (count, unit) = text.split_once('/').ok_or(NotARate)?;
        let per = Duration::from_secs(match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(NotARate),
        });
        let digits = Some(count.trim()).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let count = digits.and_then(|text| text.parse().ok()).ok_or(NotARate)?;
        match (1..=limits::RATE_COUNT).contains(&count) {
            true => Ok(Rate { count, per }),
            false => Err(NotARate),
        }
    }
}

/// The starts of the last span. It forgets them with the process.
#[derive(Debug)]
pub(crate) struct Meter {
    rate: Rate,
    /// The oldest first, at most as many as may start.
    starts: VecDeque<Timestamp>,
}

impl Meter {
    pub(crate) fn new(rate: Rate) -> Meter {
        Meter {
            rate,
            starts: VecDeque::new(),
        }
    }

    /// When the next start may be, if not now.
    pub(crate) fn wait(&mut self, now: Timestamp) -> Option<Timestamp> {
        // If the clock was set back, what lies ahead counts as just now: later than it was, so that
        // no span has too many, and the wait is at most one span.
        let ahead = self.starts.iter_mut().rev();
        for start in ahead.take_while(|start| **start > now) {
            *start = now;
        }
        while let Some(first) = self.starts.front()
            && now >= first.plus(self.rate.per)
        {
            self.starts.pop_front();
        }
        let full = self.starts.len() >= self.rate.count as usize;
        let first = self.starts.front().filter(|_| full)?;
        Some(first.plus(self.rate.per))
    }

    /// How many may start, when one may.
    pub(crate) fn room(&self) -> usize {
        (self.rate.count as usize).saturating_sub(self.starts.len())
    }

    /// Takes note of a start.
    pub(crate) fn start(&mut self, now: Timestamp) {
        self.starts.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_rates() {
        let rate = |count, secs| {
            let per = Duration::from_secs(secs);
            Ok(Rate { count, per })
        };
        assert_eq!("200/s".parse(), rate(200, 1));
        assert_eq!("50 / m".parse(), rate(50, 60));
        assert_eq!("10000/h".parse(), rate(10_000, 3600));
        for text in [
            "", "5", "0/s", "10001/s", "-1/s", "+1/s", "5/d", "5/", "/s", "1.5/s",
        ] {
            assert_eq!(text.parse::<Rate>(), Err(NotARate), "{text}");
        }
    }

    proptest! {
        /// Whatever comes when, and whenever the clock is set back, which takes no time.
        #[test]
        fn no_span_has_too_many(
            count in 1u32..6,
            steps in proptest::collection::vec(prop_oneof![9 => 0i64..400, 1 => -3000i64..0], 1..200),
        ) {
            let per = Duration::from_secs(1);
            let mut meter = Meter::new(Rate { count, per });
            // What the clock says, the time that has passed, and when there was a start by it.
            let (mut now, mut passed, mut starts) = (Timestamp(0), 0, Vec::<i64>::new());
            for step in steps {
                now = Timestamp(now.0 + step);
                passed += step.max(0);
                match meter.wait(now) {
                    Some(at) => prop_assert!(at > now && at <= now.plus(per)),
                    None => {
                        meter.start(now);
                        starts.push(passed);
                    }
                }
                let span = starts.iter().filter(|at| passed - **at < 1000);
                prop_assert!(span.count() <= count as usize);
            }
        }

        /// What is due now never waits without need.
        #[test]
        fn a_full_span_starts_as_many_as_it_may(count in 1u32..20, gap in 0i64..300) {
            let per = Duration::from_secs(1);
            let mut meter = Meter::new(Rate { count, per });
            let mut starts = Vec::new();
            let mut now = Timestamp(0);
            while starts.len() < 3 * count as usize {
                now = meter.wait(now).unwrap_or(now);
                prop_assert_eq!(meter.wait(now), None);
                meter.start(now);
                starts.push(now);
                now = now.plus(Duration::from_millis(gap as u64));
            }
            for (n, start) in starts.iter().enumerate().skip(count as usize) {
                let before = &starts[n - count as usize];
                let earliest = before.plus(per).max(starts[n - 1].plus(Duration::from_millis(gap as u64)));
                prop_assert_eq!(*start, earliest);
            }
        }
    }
}
