//! Which commits become one transaction: all that are queued, and, if only sources wait for them and more
//! keep coming, those of the next moment too. A transaction costs the same for one as for many.

use std::time::Duration;

use tidemill_core::limits::{COMMIT_BYTES, COMMIT_UNITS};
use tokio::sync::mpsc;

use super::writer::Job;
use crate::Unit;

/// How long to wait for more: about as long as a disk takes to make a transaction durable.
const MOMENT: Duration = Duration::from_micros(200);

/// How many moments make a look at what has come, and the most looks that a commit waits for.
const FEW: Looks = Looks {
    moments: 1,
    most: 3,
};

/// The same if so many events or more are in it. Their source has many more, and they come as many together.
const MANY: Looks = Looks {
    moments: 5,
    most: 2,
};
const MANY_EVENTS: usize = 32;

/// For how many transactions nobody waits after a look that found too little: a source that goes on only
/// when the commit is there would be slower for it.
const REST: u32 = 32;

struct Looks {
    moments: usize,
    most: usize,
}

/// Gathers commits.
#[derive(Debug, Default)]
pub struct Gather {
    /// For so many more transactions it does not wait.
    rests: u32,
}

impl Gather {
    /// What becomes one transaction with `first`, up to its limits, and what did not fit. `wait` blocks for so
    /// long.
    pub fn group(
        &mut self,
        first: Job,
        queue: &mut mpsc::Receiver<Job>,
        mut wait: impl FnMut(Duration),
    ) -> (Vec<Job>, Option<Job>) {
        let mut group = Group::of(first);
        if let Some(next) = group.take(queue) {
            return (group.jobs, Some(next));
        }
        if !group.may_wait() {
            return (group.jobs, None);
        }
        if self.rests > 0 {
            self.rests -= 1;
            return (group.jobs, None);
        }
        let looks = match group.events >= MANY_EVENTS {
            true => MANY,
            false => FEW,
        };
        for _ in 0..looks.most {
            let before = group.events;
            for _ in 0..looks.moments {
                wait(MOMENT);
                if let Some(next) = group.take(queue) {
                    return (group.jobs, Some(next));
                }
                if !group.may_wait() {
                    return (group.jobs, None);
                }
            }
            if (group.events - before) * 4 < before {
                self.rests = REST;
                break;
            }
        }
        (group.jobs, None)
    }
}

struct Group {
    jobs: Vec<Job>,
    units: usize,
    bytes: usize,
    /// What they are done with, if only sources wait for them.
    events: usize,
    /// Whether only sources wait for them.
    patient: bool,
}

impl Group {
    fn of(first: Job) -> Group {
        Group {
            units: first.units.len(),
            bytes: first.bytes,
            events: events(&first),
            patient: is_patient(&first),
            jobs: vec![first],
        }
    }

    /// Takes in all that is queued; what does not fit comes back.
    fn take(&mut self, queue: &mut mpsc::Receiver<Job>) -> Option<Job> {
        while let Ok(job) = queue.try_recv() {
            self.units += job.units.len();
            self.bytes += job.bytes;
            if self.units > COMMIT_UNITS || self.bytes > COMMIT_BYTES {
                return Some(job);
            }
            self.events += events(&job);
            self.patient &= is_patient(&job);
            self.jobs.push(job);
        }
        None
    }

    /// One alone has nobody beside it who would make the wait worth it.
    fn may_wait(&self) -> bool {
        self.patient && self.events > 1
    }
}

fn is_patient(job: &Job) -> bool {
    job.units.iter().all(Unit::is_for_sources)
}

fn events(job: &Job) -> usize {
    let of = |unit: &Unit| {
        let offsets = unit.offsets.iter().map(|step| step.completed.len());
        unit.event_ids.len() + offsets.sum::<usize>()
    };
    job.units.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use tidemill_core::identity::DeliveryId;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{EventId, Noted};

    fn job(unit: Unit) -> Job {
        Job {
            units: [unit].into(),
            bytes: 1,
            answer: oneshot::channel().0,
        }
    }

    fn patient() -> Job {
        let id = EventId {
            delivery: DeliveryId::derive("trigger", "source", "id"),
            window: Duration::ZERO,
            fingerprint: None,
        };
        job(Unit {
            event_ids: vec![id],
            ..Unit::default()
        })
    }

    fn urgent() -> Job {
        job(Unit {
            noted: Some(Noted {
                bucket: String::new(),
                objects: Vec::new(),
            }),
            ..Unit::default()
        })
    }

    /// The sizes of groups, and how many moments each waited, if these come at first and in each moment.
    fn sizes(gather: &mut Gather, first: usize, moments: &[usize]) -> (usize, usize) {
        let (sender, mut queue) = mpsc::channel(COMMIT_UNITS);
        let send = |count: usize| (0..count).for_each(|_| sender.try_send(patient()).unwrap());
        send(first);
        let mut coming = moments.iter();
        let mut waited = 0;
        let first = queue.try_recv().unwrap();
        let (group, next) = gather.group(first, &mut queue, |_| {
            waited += 1;
            send(coming.next().copied().unwrap_or(0));
        });
        assert!(next.is_none());
        (group.len(), waited)
    }

    #[test]
    fn it_waits_while_more_keep_coming() {
        let mut gather = Gather::default();
        assert_eq!(sizes(&mut gather, 4, &[4, 4, 4, 4]), (16, FEW.most));
        assert_eq!(sizes(&mut gather, 2, &[1]), (3, 2));
    }

    #[test]
    fn many_together_wait_for_as_many() {
        let row = |events: usize| {
            let Job { units, .. } = patient();
            let id = units[0].event_ids[0].clone();
            job(Unit {
                event_ids: vec![id; events],
                ..Unit::default()
            })
        };
        let (sender, mut queue) = mpsc::channel(8);
        let mut gather = Gather::default();
        let mut waited = 0;
        let (group, _) = gather.group(row(MANY_EVENTS), &mut queue, |_| {
            waited += 1;
            if waited % MANY.moments == 0 {
                sender.try_send(row(MANY_EVENTS)).unwrap();
            }
        });
        assert_eq!((group.len(), waited), (3, 10));
        // None comes.
        waited = 0;
        gather.group(row(MANY_EVENTS), &mut queue, |_| waited += 1);
        assert_eq!(waited, MANY.moments);
        gather.group(row(MANY_EVENTS), &mut queue, |_| waited += 1);
        assert_eq!(waited, MANY.moments, "it rests");
    }

    #[test]
    fn one_alone_waits_for_nobody() {
        assert_eq!(sizes(&mut Gather::default(), 1, &[9]), (1, 0));
    }

    #[test]
    fn after_a_wait_in_vain_it_does_not_wait_for_a_while() {
        let mut gather = Gather::default();
        assert_eq!(sizes(&mut gather, 8, &[1]), (9, 1));
        for _ in 0..REST {
            assert_eq!(sizes(&mut gather, 8, &[8]), (8, 0));
        }
        assert_eq!(sizes(&mut gather, 8, &[8, 8, 8]), (32, FEW.most));
    }

    #[test]
    fn whoever_is_waited_for_ends_the_wait() {
        let (sender, mut queue) = mpsc::channel(8);
        let mut gather = Gather::default();
        sender.try_send(patient()).unwrap();
        let (group, _) = gather.group(patient(), &mut queue, |_| {
            sender.try_send(urgent()).unwrap();
        });
        assert_eq!(group.len(), 3);
        let mut waited = false;
        sender.try_send(patient()).unwrap();
        let (group, _) = gather.group(urgent(), &mut queue, |_| waited = true);
        assert_eq!((group.len(), waited), (2, false));
    }
}
