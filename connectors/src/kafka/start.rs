//! Where a partition is read from when it is taken up: decided from what the group has committed, what
//! the journal has kept, and what the broker's log holds. Pure; nothing here asks anybody.

use tidemill_core::watermark::Progress;

/// The log of a partition at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Log {
    /// Its first offset.
    pub low: i64,
    /// The offset after its last one.
    pub high: i64,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Nothing is known of it: where the trigger's `start` says.
    Start,
    /// At this offset. All below is completed.
    At(i64),
    /// One before the kept watermark, to see whether the record there is the one that was completed.
    Verify {
        /// Where that record is.
        offset: i64,
        /// The broker's timestamp that it has to have, in milliseconds.
        stamp: i64,
    },
    /// The log ends before what was completed: the topic is not the one it was.
    Anew,
}

/// Decides. `log` is absent if the broker does not say at the moment; then a topic that was made anew
/// is noticed when its records come.
pub(super) fn begin(committed: Option<i64>, kept: Option<&Progress>, log: Option<Log>) -> Begin {
    // The log has a record before whatever was completed, or had one.
    let too_short = |offset: i64| log.is_some_and(|log| offset > log.high);
    let Some(kept) = kept else {
        return match committed {
            None => Begin::Start,
            Some(offset) if too_short(offset) => Begin::Anew,
            Some(offset) => Begin::At(offset),
        };
    };
    let watermark = kept.watermark;
    // Somebody else has settled more since, or moved the group by hand.
    if let Some(offset) = committed.filter(|offset| *offset > watermark) {
        return match too_short(offset) {
            true => Begin::Anew,
            false => Begin::At(offset),
        };
    }
    if too_short(watermark) {
        return Begin::Anew;
    }
    let last = watermark - 1;
    match kept.stamp {
        Some(stamp) if log.is_none_or(|log| log.low <= last) => Begin::Verify {
            offset: last,
            stamp,
        },
        _ => Begin::At(watermark),
    }
}

/// What is completed from an offset on, if all below it is.
pub(super) fn from(offset: i64, kept: Option<Progress>) -> Progress {
    match kept {
        Some(kept) if kept.watermark == offset => kept,
        kept => Progress {
            watermark: offset,
            stamp: None,
            completed: kept.map_or_else(Vec::new, |kept| {
                let above = kept.completed.into_iter();
                above.filter(|completed| *completed >= offset).collect()
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(watermark: i64, stamp: Option<i64>) -> Option<Progress> {
        Some(Progress {
            watermark,
            stamp,
            completed: vec![watermark + 2, watermark + 5],
        })
    }

    #[test]
    fn begins_where_nothing_is_lost_and_nothing_runs_again() {
        let log = |low, high| Some(Log { low, high });
        let verify = |offset| Begin::Verify { offset, stamp: 7 };
        let table = [
            ("nothing is known", None, None, log(0, 9), Begin::Start),
            (
                "nothing is known of an empty log",
                None,
                None,
                log(0, 0),
                Begin::Start,
            ),
            ("the group alone", Some(4), None, log(0, 9), Begin::At(4)),
            (
                "the group at its end",
                Some(9),
                None,
                log(0, 9),
                Begin::At(9),
            ),
            (
                "the group behind the log",
                Some(4),
                None,
                log(6, 9),
                Begin::At(4),
            ),
            (
                "the group beyond the log",
                Some(10),
                None,
                log(0, 9),
                Begin::Anew,
            ),
            (
                "the broker does not say",
                Some(10),
                None,
                None,
                Begin::At(10),
            ),
            (
                "the journal alone",
                None,
                kept(5, Some(7)),
                log(0, 9),
                verify(4),
            ),
            (
                "both agree",
                Some(5),
                kept(5, Some(7)),
                log(0, 9),
                verify(4),
            ),
            (
                "the group is behind",
                Some(3),
                kept(5, Some(7)),
                log(0, 9),
                verify(4),
            ),
            (
                "the group is ahead",
                Some(8),
                kept(5, Some(7)),
                log(0, 9),
                Begin::At(8),
            ),
            (
                "ahead, beyond the log",
                Some(10),
                kept(5, Some(7)),
                log(0, 9),
                Begin::Anew,
            ),
            (
                "at the end of the log",
                Some(9),
                kept(9, Some(7)),
                log(0, 9),
                verify(8),
            ),
            (
                "the log ends before",
                Some(9),
                kept(10, Some(7)),
                log(0, 9),
                Begin::Anew,
            ),
            (
                "the log is empty and new",
                Some(5),
                kept(5, Some(7)),
                log(0, 0),
                Begin::Anew,
            ),
            (
                "all was removed",
                Some(5),
                kept(5, Some(7)),
                log(5, 5),
                Begin::At(5),
            ),
            (
                "removed up to the last",
                None,
                kept(5, Some(7)),
                log(4, 9),
                verify(4),
            ),
            (
                "removed beyond it",
                None,
                kept(5, Some(7)),
                log(6, 9),
                Begin::At(5),
            ),
            ("no stamp", None, kept(5, None), log(0, 9), Begin::At(5)),
            (
                "nothing but gaps",
                None,
                kept(0, None),
                log(0, 9),
                Begin::At(0),
            ),
            ("verified later", None, kept(5, Some(7)), None, verify(4)),
        ];
        for (what, committed, kept, log, expected) in table {
            assert_eq!(begin(committed, kept.as_ref(), log), expected, "{what}");
        }
    }

    #[test]
    fn what_was_completed_above_stays_completed() {
        assert_eq!(Some(from(5, kept(5, Some(7)))), kept(5, Some(7)));
        let ahead = from(8, kept(5, Some(7)));
        assert_eq!((ahead.watermark, ahead.stamp), (8, None));
        assert_eq!(ahead.completed, [10]);
        assert_eq!(
            from(8, None),
            Progress {
                watermark: 8,
                ..Progress::default()
            }
        );
    }
}
