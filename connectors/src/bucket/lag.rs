//! How late objects are noticed: a histogram that answers for median and largest, in little room.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Steps of a doubling: the median is exact to a fifth.
const STEPS: f64 = 4.0;

/// Up to 2^40 ms, which is 35 years.
const PLACES: usize = 160;

#[derive(Debug)]
pub(super) struct Lags {
    counts: [AtomicU64; PLACES],
    most: AtomicU64,
}

/// How late objects were noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Of half of them, not more; rounded up by a fifth at most.
    pub median: Duration,
    /// Of all of them.
    pub max: Duration,
}

impl Default for Lags {
    fn default() -> Lags {
        Lags {
            counts: [const { AtomicU64::new(0) }; PLACES],
            most: AtomicU64::new(0),
        }
    }
}

impl Lags {
    pub(super) fn add(&self, lag: Duration) {
        let millis = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        let place = ((millis.max(1) as f64).log2() * STEPS).ceil() as usize;
        self.counts[place.min(PLACES - 1)].fetch_add(1, Relaxed);
        self.most.fetch_max(millis, Relaxed);
    }

    /// Absent, there were none.
    pub(super) fn lag(&self) -> Option<Lag> {
        let counts: Vec<u64> = self.counts.iter().map(|n| n.load(Relaxed)).collect();
        let half = counts.iter().sum::<u64>().div_ceil(2);
        let most = self.most.load(Relaxed);
        let mut sum = 0;
        let place = counts.iter().position(|count| {
            sum += count;
            half > 0 && sum >= half
        })?;
        let median = (place as f64 / STEPS).exp2().ceil() as u64;
        Some(Lag {
            median: Duration::from_millis(median.min(most)),
            max: Duration::from_millis(most),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_most() {
        let lags = Lags::default();
        assert_eq!(lags.lag(), None);
        let millis = |lag: Duration| lag.as_millis();
        lags.add(Duration::ZERO);
        let lag = lags.lag().unwrap();
        assert_eq!((millis(lag.median), millis(lag.max)), (0, 0));
        for n in 1..=1000 {
            lags.add(Duration::from_millis(n));
        }
        let lag = lags.lag().unwrap();
        assert!((500..=600).contains(&millis(lag.median)), "{lag:?}");
        assert_eq!(millis(lag.max), 1000);
        lags.add(Duration::MAX);
        assert_eq!(lags.lag().unwrap().max, Duration::from_millis(u64::MAX));
    }
}
