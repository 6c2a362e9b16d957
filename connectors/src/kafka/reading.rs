//! A partition that is read: which of its records were received, and which of those are completed.
//! Nothing here asks a broker.

use std::sync::Arc;

use rdkafka::Offset;
use tidemill_core::{hold::Partition, watermark::Watermark};

use super::assign::TakenUp;

/// A partition that is read.
pub(super) struct Reading {
    /// As the intake knows it.
    pub partition: Arc<Partition>,
    /// Other than that of whoever read the partition before: what comes late for that one is not for
    /// this one.
    pub generation: u64,
    /// The offset of the last record received; at first, the one before where it is read from.
    last: i64,
    mark: Watermark,
    verify: Option<(i64, i64)>,
    /// The offset that librdkafka was told to commit.
    stored: Option<i64>,
    to_store: Option<i64>,
    /// Records that the intake holds, and whatever else is under way for it.
    pub running: usize,
    pub state: State,
}

/// What is done with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its records are given to the intake.
    Reads,
    /// No more are, and once nothing is running any more it is given up.
    Leaves,
    /// No more are, and once nothing is running any more it is taken up again; if `forget` is set, as
    /// another log.
    Restarts {
        forget: bool,
        /// Whether that has begun.
        begun: bool,
    },
}

/// What is to be done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// Give it to the intake.
    Offer,
    /// Nothing: it is completed already, or comes again.
    Leave,
    /// The log is not what it was: take the partition up again.
    Restart {
        /// Whether it is certainly another one.
        forget: bool,
    },
}

impl Reading {
    pub(super) fn new(partition: Partition, generation: u64, taken_up: TakenUp) -> Reading {
        Reading {
            partition: Arc::new(partition),
            generation,
            last: match taken_up.offset {
                Offset::Offset(offset) => offset - 1,
                _ => -1,
            },
            mark: taken_up.mark,
            verify: taken_up.verify,
            stored: None,
            to_store: taken_up.commit,
            running: 0,
            state: State::Reads,
        }
    }

    /// A record came, with the broker's timestamp in milliseconds.
    pub(super) fn received(&mut self, offset: i64, stamp: i64) -> Take {
        if self.state != State::Reads {
            // It comes again: to the next one who reads it, or when it is taken up again.
            return Take::Leave;
        }
        if offset <= self.last {
            // The log goes back by itself only if its end is before what was read.
            return Take::Restart { forget: false };
        }
        self.last = offset;
        if let Some((last, expected)) = self.verify.take()
            && offset == last
        {
            if stamp != expected {
                return Take::Restart { forget: true };
            }
            // The journal may be ahead of what the group has committed.
            self.to_store = Some(self.mark.at());
            return Take::Leave;
        }
        let completed = self.mark.received(offset, stamp);
        if completed {
            self.to_store = Some(self.mark.at());
            return Take::Leave;
        }
        Take::Offer
    }

    /// A record is completed.
    pub(super) fn completed(&mut self, offset: i64) {
        if self.mark.completed(offset) {
            self.to_store = Some(self.mark.at());
        }
    }

    /// The offset to be committed, if it is another than before.
    pub(super) fn take_offset(&mut self) -> Option<i64> {
        let offset = self.to_store.take()?;
        let moved = self.stored != Some(offset);
        self.stored = Some(offset);
        moved.then_some(offset)
    }

    /// How many records were received that its offset has not passed.
    pub(super) fn ahead(&self) -> usize {
        self.mark.len()
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::watermark::Progress;

    use super::*;
    use crate::kafka::assign::Place;

    fn reading(verify: Option<(i64, i64)>) -> Reading {
        let place = Place {
            topic: 0,
            partition: 0,
        };
        let mark = Watermark::new(Progress {
            watermark: 5,
            stamp: None,
            completed: vec![6],
        });
        let offset = Offset::Offset(verify.map_or(5, |(offset, _)| offset));
        let (commit, anew) = (None, false);
        let partition = Partition {
            source: "kafka:log/work@work".to_owned(),
            group: "work".to_owned(),
            partition: "work/0".to_owned(),
        };
        Reading::new(
            partition,
            1,
            TakenUp {
                place,
                offset,
                mark,
                verify,
                commit,
                anew,
            },
        )
    }

    #[test]
    fn the_record_before_the_watermark_tells_whether_the_log_is_the_same() {
        let mut same = reading(Some((4, 40)));
        assert_eq!(same.received(4, 40), Take::Leave);
        assert_eq!(
            same.take_offset(),
            Some(5),
            "the journal may be ahead of the group"
        );
        assert_eq!(same.received(5, 50), Take::Offer);
        assert_eq!(same.received(6, 60), Take::Leave, "completed before");
        assert_eq!(same.received(7, 70), Take::Offer);
        same.completed(5);
        assert_eq!((same.take_offset(), same.take_offset()), (Some(7), None));

        let mut other = reading(Some((4, 40)));
        assert_eq!(other.received(4, 41), Take::Restart { forget: true });
        // It was compacted away.
        let mut without = reading(Some((4, 40)));
        assert_eq!(without.received(5, 50), Take::Offer);
        assert_eq!(without.received(8, 80), Take::Offer);
    }

    #[test]
    fn a_log_that_goes_back_is_looked_at_again_and_gives_nothing_meanwhile() {
        let mut reading = reading(None);
        assert_eq!(reading.received(5, 50), Take::Offer);
        assert_eq!(reading.received(2, 20), Take::Restart { forget: false });
        assert_eq!(reading.received(5, 50), Take::Restart { forget: false });
        for state in [
            State::Leaves,
            State::Restarts {
                forget: false,
                begun: true,
            },
        ] {
            reading.state = state;
            assert_eq!(reading.received(9, 90), Take::Leave);
        }
    }
}
