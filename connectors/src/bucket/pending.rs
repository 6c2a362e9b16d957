//! When a key that was noticed may be looked at, and whether what is found there is finished.
//!
//! Pure: time is an argument, and nothing here touches the disk.
//!
//! A file that was closed by its writer, or renamed into place, is finished. Any other is when its
//! size and modification time stood still for a while: shortly if nobody is known to write it,
//! longer if somebody is.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tidemill_core::{
    ledger::{NoticedBy, Object},
    time::Timestamp,
};
use tokio::time::Instant;

use super::tuning::Tuning;

/// What was noticed of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Closed by its writer, or renamed into place.
    Settled,
    /// Gone. Whatever is there by now is another file.
    Gone,
    /// Written to; whoever writes closes it later.
    Written,
    /// Created; whoever created it closes it later, unless it is a link.
    Created,
    /// Anything else.
    Touched,
}

/// What has to be true of the file before it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// It stood still.
    Stillness {
        /// Somebody is known to write it.
        writing: bool,
        /// Somebody created it and has not closed it.
        created: bool,
        /// How it looked before.
        last: Option<Sight>,
    },
}

/// How a file looked, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    size: u64,
    modified: Timestamp,
    since: Instant,
}

/// Not finished yet: look again after `wait`, with this need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotYet {
    pub(super) wait: Duration,
    pub(super) need: Need,
}

impl Need {
    /// The need of a file found by a scan.
    pub(super) const SCANNED: Need = Need::Stillness {
        writing: false,
        created: false,
        last: None,
    };

    fn after(self, change: Change) -> Need {
        match (change, self) {
            (Change::Settled, _) => Need::Nothing,
            (Change::Gone, _) => Need::SCANNED,
            (Change::Touched, need) => need,
            (change, need) => {
                let (was_written, was_created, last) = match need {
                    Need::Nothing => (false, false, None),
                    Need::Stillness {
                        writing,
                        created,
                        last,
                    } => (writing, created, last),
                };
                Need::Stillness {
                    writing: was_written || change == Change::Written,
                    created: was_created || change == Change::Created,
                    last,
                }
            }
        }
    }

    /// Whether the file as it is now may be offered. `wall` and `now` are the same moment.
    pub(super) fn check(
        self,
        object: &Object,
        wall: Timestamp,
        now: Instant,
        tuning: &Tuning,
    ) -> Result<(), NotYet> {
        // Modification times may lie in the future, by clocks of other machines or on purpose.
        let age = (object.modified <= wall).then(|| wall.since(object.modified));
        let (writing, created, last) = match self {
            Need::Nothing => {
                return match age {
                    Some(age) if age < tuning.tick => Err(NotYet {
                        wait: tuning.tick - age,
                        need: self,
                    }),
                    _ => Ok(()),
                };
            }
            Need::Stillness {
                writing,
                created,
                last,
            } => (writing, created, last),
        };
        // A link is created with all its bytes. An empty file without a close has a writer that
        // is yet to begin.
        let still = if writing || (created && object.size == 0) {
            tuning.still_open
        } else {
            tuning.still
        };
        let sight = match last {
            Some(sight) if (sight.size, sight.modified) == (object.size, object.modified) => sight,
            _ => Sight {
                size: object.size,
                modified: object.modified,
                since: now,
            },
        };
        let stood = now.duration_since(sight.since).max(age.unwrap_or_default());
        if stood >= still {
            return Ok(());
        }
        Err(NotYet {
            wait: still - stood,
            need: Need::Stillness {
                writing,
                created,
                last: Some(sight),
            },
        })
    }
}

/// A key to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    due: Instant,
    need: Need,
    /// Who noticed it first.
    by: NoticedBy,
}

/// The keys to look at, and when.
#[derive(Debug, Default)]
pub(super) struct Pending {
    keys: HashMap<Arc<str>, Waiting>,
    queue: BTreeSet<(Instant, Arc<str>)>,
    limit: usize,
}

impl Pending {
    pub(super) fn new(limit: usize) -> Pending {
        Pending {
            limit,
            ..Pending::default()
        }
    }

    /// Notes a change of a key. False if there is no room: a scan has to find it.
    pub(super) fn note(&mut self, key: &str, change: Change, now: Instant, t: &Tuning) -> bool {
        let known = self.keys.get(key).copied();
        let need = known
            .map_or(Need::SCANNED, |known| known.need)
            .after(change);
        let due = match (need, known) {
            (Need::Nothing, _) => now + t.tick,
            _ if change == Change::Gone => now,
            (_, Some(known)) if known.need != Need::Nothing => known.due,
            _ if change == Change::Touched => now,
            _ => now + t.still,
        };
        let by = NoticedBy::Notification;
        self.put(key, Waiting { due, need, by })
    }

    /// Puts a key back that was not finished.
    pub(super) fn again(
        &mut self,
        key: &str,
        not_yet: NotYet,
        by: NoticedBy,
        now: Instant,
    ) -> bool {
        let NotYet { wait, need } = not_yet;
        let due = now + wait;
        self.put(key, Waiting { due, need, by })
    }

    fn put(&mut self, key: &str, waiting: Waiting) -> bool {
        let due = waiting.due;
        if let Some((key, before)) = self.keys.get_key_value(key) {
            let (key, by) = (key.clone(), before.by);
            self.queue.remove(&(before.due, key.clone()));
            self.queue.insert((due, key.clone()));
            self.keys.insert(key, Waiting { by, ..waiting });
            return true;
        }
        if self.keys.len() >= self.limit {
            return false;
        }
        let key: Arc<str> = key.into();
        self.queue.insert((due, key.clone()));
        self.keys.insert(key, waiting);
        true
    }

    /// Takes a key that is due, with who noticed it.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Arc<str>, Need, NoticedBy)> {
        if self.queue.first()?.0 > now {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        let Waiting { need, by, .. } = self.keys.remove(&key)?;
        Some((key, need, by))
    }

    /// When the next key is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// Whether `more` keys have room.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.keys.is_empty() || self.keys.len() + more <= self.limit
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Forgets who writes: closes may have been missed.
    pub(super) fn forget_writers(&mut self, now: Instant) {
        self.queue.clear();
        for (key, waiting) in &mut self.keys {
            if waiting.need != Need::Nothing {
                (waiting.due, waiting.need) = (now, Need::SCANNED);
            }
            self.queue.insert((waiting.due, key.clone()));
        }
    }

    /// Forgets everything: a scan follows.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Tuning = Tuning::STANDARD;

    fn object(size: u64, modified: i64) -> Object {
        Object {
            key: "a".into(),
            etag: String::new(),
            size,
            modified: Timestamp(modified),
        }
    }

    /// What a series of changes, all at once, leads to: the wait until the key is due, its need.
    fn after(changes: &[Change]) -> (Duration, Need) {
        let now = Instant::now();
        let mut pending = Pending::new(1);
        for change in changes {
            assert!(pending.note("a", *change, now, &T));
        }
        let due = pending.next().unwrap();
        assert_eq!(pending.pop(due - Duration::from_nanos(1)), None);
        let (_, need, _) = pending.pop(due).unwrap();
        (due - now, need)
    }

    #[test]
    fn a_close_decides() {
        use Change::*;
        let writing = |created| Need::Stillness {
            writing: true,
            created,
            last: None,
        };
        let created = Need::Stillness {
            writing: false,
            created: true,
            last: None,
        };
        assert_eq!(after(&[Settled]), (T.tick, Need::Nothing));
        assert_eq!(after(&[Created, Written, Settled]), (T.tick, Need::Nothing));
        assert_eq!(after(&[Settled, Touched]), (T.tick, Need::Nothing));
        assert_eq!(after(&[Written, Gone]), (Duration::ZERO, Need::SCANNED));
        assert_eq!(after(&[Settled, Gone]), (Duration::ZERO, Need::SCANNED));
        assert_eq!(after(&[Gone, Settled]), (T.tick, Need::Nothing));
        assert_eq!(after(&[Created]), (T.still, created));
        assert_eq!(after(&[Created, Written]), (T.still, writing(true)));
        assert_eq!(after(&[Settled, Written]), (T.still, writing(false)));
        assert_eq!(after(&[Touched]), (Duration::ZERO, Need::SCANNED));
        assert_eq!(after(&[Written, Touched]), (T.still, writing(false)));
    }

    #[test]
    fn stillness_is_measured_by_age_or_by_watching() {
        let (wall, now) = (Timestamp(1_000_000), Instant::now());
        let check = |need: Need, object: &Object, later: Duration| {
            need.check(object, wall.plus(later), now + later, &T)
        };
        // Old enough at the first look.
        assert_eq!(
            check(Need::SCANNED, &object(1, 998_000), Duration::ZERO),
            Ok(())
        );
        // Too young: the rest of the time.
        let not_yet = check(Need::SCANNED, &object(1, 998_500), Duration::ZERO).unwrap_err();
        assert_eq!(not_yet.wait, Duration::from_millis(500));
        assert_eq!(
            check(not_yet.need, &object(1, 998_500), not_yet.wait),
            Ok(())
        );
        // From the future: watched for the whole time, anew when it changes.
        let future = object(1, 5_000_000);
        let not_yet = check(Need::SCANNED, &future, Duration::ZERO).unwrap_err();
        assert_eq!(not_yet.wait, T.still);
        let grown = check(not_yet.need, &object(2, 5_000_000), T.still).unwrap_err();
        assert_eq!(grown.wait, T.still);
        assert_eq!(check(not_yet.need, &future, T.still), Ok(()));
        assert_eq!(check(Need::Nothing, &future, Duration::ZERO), Ok(()));
        // Written within the clock's tick: the next write could look the same.
        let not_yet = check(Need::Nothing, &object(1, 999_995), Duration::ZERO).unwrap_err();
        assert_eq!(
            (not_yet.wait, not_yet.need),
            (T.tick - Duration::from_millis(5), Need::Nothing)
        );
    }

    #[test]
    fn a_known_writer_is_given_longer() {
        let (wall, now) = (Timestamp(1_000_000), Instant::now());
        let need = |writing, created| Need::Stillness {
            writing,
            created,
            last: None,
        };
        let ripe = |need: Need, size| need.check(&object(size, 990_000), wall, now, &T).is_ok();
        assert!(!ripe(need(true, false), 1));
        assert!(
            !ripe(need(false, true), 0),
            "created, and its writer is yet to begin"
        );
        assert!(ripe(need(false, true), 1), "a link");
        assert!(
            need(true, true)
                .check(&object(0, 940_000), wall, now, &T)
                .is_ok()
        );
    }

    #[test]
    fn is_bounded_and_forgets_writers() {
        let now = Instant::now();
        let mut pending = Pending::new(2);
        assert!(pending.note("a", Change::Written, now, &T));
        assert!(pending.note("b", Change::Settled, now, &T));
        assert!(!pending.note("c", Change::Settled, now, &T));
        assert!(pending.note("a", Change::Written, now, &T));
        pending.forget_writers(now);
        let told = NoticedBy::Notification;
        assert_eq!(pending.pop(now), Some(("a".into(), Need::SCANNED, told)));
        assert_eq!(pending.pop(now), None);
        assert_eq!(
            pending.pop(now + T.tick),
            Some(("b".into(), Need::Nothing, told))
        );
        assert_eq!(pending.next(), None);
    }
}
