//! The watermark of a partition: how far its records are completed without a gap, while they complete
//! in any order.
//!
//! Contiguity is of records received, not of offsets: logs have gaps where records were compacted
//! away, and where transactions begin and end. This module neither commits nor reads anything.

use std::collections::{BTreeSet, VecDeque};

/// What is completed of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// All offsets below are completed.
    pub watermark: i64,
    /// The broker's timestamp of the last record below the watermark, in milliseconds since the Unix
    /// epoch: by it a topic that was made anew is told from the old one.
    pub stamp: Option<i64>,
    /// The offsets at or above the watermark that are completed too, in order.
    pub completed: Vec<i64>,
}

/// The records of a partition that were received, and which of them are completed.
#[derive(Debug, Default)]
pub struct Watermark {
    /// All offsets below are completed.
    at: i64,
    /// What was completed above it before these records were received.
    beyond: BTreeSet<i64>,
    stamp: Option<i64>,
    /// The records at or above it, in order.
    records: VecDeque<Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    offset: i64,
    stamp: i64,
    done: bool,
}

impl Watermark {
    /// Goes on from what was completed before.
    pub fn new(progress: Progress) -> Watermark {
        Watermark {
            beyond: progress.completed.into_iter().collect(),
            at: progress.watermark,
            stamp: progress.stamp,
            records: VecDeque::new(),
        }
    }

    /// A record was received, with the broker's timestamp in milliseconds. Records come in the order
    /// of their offsets; one that comes a second time is the same one. True, if it is completed
    /// already.
    pub fn received(&mut self, offset: i64, stamp: i64) -> bool {
        if offset < self.at {
            return true;
        }
        if self
            .records
            .back()
            .is_some_and(|last| offset <= last.offset)
        {
            let found = self.records.binary_search_by_key(&offset, |r| r.offset);
            return found.is_ok_and(|place| self.records[place].done);
        }
        let done = self.beyond.remove(&offset);
        self.records.push_back(Record {
            offset,
            stamp,
            done,
        });
        self.pass();
        done
    }

    /// What will be completed once these records are as well, which they are not yet. They come in
    /// order; what is completed beyond the watermark otherwise is not told again.
    pub fn with(&self, mut offsets: Vec<i64>) -> Progress {
        let closed =
            |record: &&Record| record.done || offsets.binary_search(&record.offset).is_ok();
        let passed = self.records.iter().take_while(closed).last();
        let (watermark, stamp) = match passed {
            Some(last) => (last.offset + 1, Some(last.stamp)),
            None => (self.at, self.stamp),
        };
        offsets.retain(|offset| *offset >= watermark);
        Progress {
            watermark,
            stamp,
            completed: offsets,
        }
    }

    /// A record is completed. True, if the watermark moved.
    pub fn completed(&mut self, offset: i64) -> bool {
        let found = self.records.binary_search_by_key(&offset, |r| r.offset);
        if let Ok(place) = found {
            self.records[place].done = true;
        }
        self.pass()
    }

    /// All offsets below are completed.
    pub fn at(&self) -> i64 {
        self.at
    }

    /// How many records were received that the watermark has not passed.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the watermark has passed all that was received.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn pass(&mut self) -> bool {
        let before = self.at;
        while let Some(first) = self.records.front()
            && first.done
        {
            self.at = first.offset + 1;
            self.stamp = Some(first.stamp);
            self.records.pop_front();
        }
        self.at > before
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn passes_what_is_completed_without_a_gap_and_gaps_between_offsets() {
        let mut mark = Watermark::new(Progress {
            watermark: 10,
            stamp: Some(1),
            completed: vec![13],
        });
        let received = [9, 10, 11, 13, 17].map(|offset| mark.received(offset, offset * 100));
        assert_eq!(received, [true, false, false, true, false]);
        let foreseen = |mark: &Watermark, offsets: &[i64]| {
            let progress = mark.with(offsets.to_vec());
            (progress.watermark, progress.stamp, progress.completed)
        };
        assert_eq!(foreseen(&mark, &[11]), (10, Some(1), vec![11]));
        assert_eq!(foreseen(&mark, &[10, 11, 17]), (18, Some(1700), vec![]));
        assert_eq!(foreseen(&mark, &[10, 17]), (11, Some(1000), vec![17]));
        assert!(!mark.completed(11));
        assert_eq!(foreseen(&mark, &[10]), (14, Some(1300), vec![]));
        assert!(mark.completed(10));
        assert_eq!((mark.at(), mark.len()), (14, 1));
        assert!(mark.completed(17));
        assert_eq!((mark.at(), mark.is_empty()), (18, true));
    }

    #[test]
    fn a_record_that_comes_again_is_the_same_one() {
        let mut mark = Watermark::default();
        for offset in 0..3 {
            assert!(!mark.received(offset, 0));
        }
        mark.completed(0);
        mark.completed(2);
        let again = [0, 1, 2].map(|offset| mark.received(offset, 0));
        assert_eq!(again, [true, false, true]);
        assert_eq!((mark.at(), mark.len()), (1, 2));
    }

    proptest! {
        /// Whatever the order of completion: nothing that is not completed is below the watermark,
        /// all that is completed without a gap is, and `with` says beforehand where it will be.
        #[test]
        fn is_below_the_first_record_that_is_not_completed(
            gaps in prop::collection::vec(1i64..4, 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let mut mark = Watermark::default();
            let mut offset = 0;
            let mut open: Vec<i64> = gaps.iter().map(|gap| { offset += gap; offset }).collect();
            let all = open.clone();
            for &offset in &all {
                mark.received(offset, offset);
            }
            for index in order {
                if open.is_empty() {
                    break;
                }
                let done = open.remove(index.index(open.len()));
                let foreseen = mark.with(vec![done]);
                mark.completed(done);
                prop_assert_eq!(foreseen.watermark, mark.at());
                let above = if done < mark.at() { vec![] } else { vec![done] };
                prop_assert_eq!(foreseen.completed, above);
                let first_open = open.iter().min();
                let last_passed = all.iter().rfind(|&offset| first_open.is_none_or(|open| offset < open));
                prop_assert_eq!(mark.at(), last_passed.map_or(0, |last| last + 1));
                prop_assert_eq!(mark.len(), all.len() - all.iter().filter(|&&o| o < mark.at()).count());
            }
        }
    }
}
