//! How far the triggers of a source are in the partitions that it reads.

use std::sync::{Arc, Mutex, MutexGuard};

use foldhash::HashMap;
use tidemill_core::{
    hold::{Partition, Position},
    intake::IntakeError,
    watermark::{Progress, Watermark},
};
use tidemill_journal::{OffsetsMove, PartitionOf, Unit};

use super::{HeldDelivery, state::lock};
use crate::dispatcher::{Dispatcher, intake::refusal};

/// The logs that this engine has read.
#[derive(Default)]
pub(super) struct Offsets(Mutex<HashMap<Arc<Partition>, Arc<Log>>>);

/// The log of the record before, which is mostly that of the next one, too.
#[derive(Default)]
pub(super) struct LastLog(Option<(Arc<Partition>, Arc<Log>)>);

/// A partition, as long as it is the same log.
struct Log {
    partition: Arc<Partition>,
    progress: Mutex<LogProgress>,
}

#[derive(Default)]
struct LogProgress {
    /// The watermark of each trigger, as long as the partition is read.
    readers: Vec<(usize, Watermark)>,
    /// Another log came under its name.
    forgotten: bool,
}

/// Where a held delivery stands in a log.
#[derive(Clone)]
pub(super) struct Place {
    log: Arc<Log>,
    offset: i64,
}

impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        Arc::ptr_eq(&self.log, &other.log) && self.offset == other.offset
    }
}

impl Log {
    fn progress(&self) -> MutexGuard<'_, LogProgress> {
        lock(&self.progress)
    }
}

impl LogProgress {
    fn mark(&mut self, trigger: usize) -> Option<&mut Watermark> {
        let mut readers = self.readers.iter_mut();
        readers.find_map(|(reader, mark)| (*reader == trigger).then_some(mark))
    }
}

impl Offsets {
    /// The log that a partition is now.
    fn log(&self, partition: &Arc<Partition>) -> Arc<Log> {
        let mut logs = lock(&self.0);
        let log = logs.entry(partition.clone()).or_insert_with(|| {
            Arc::new(Log {
                partition: partition.clone(),
                progress: Mutex::default(),
            })
        });
        log.clone()
    }

    /// A record was received: its place, and the triggers that have completed it already.
    pub(super) fn received(&self, position: &Position, last: &mut LastLog) -> (Place, Vec<usize>) {
        let (partition, offset) = (&position.partition, position.offset);
        let log = match &last.0 {
            Some((same, log)) if Arc::ptr_eq(same, partition) => log.clone(),
            _ => {
                let log = self.log(partition);
                last.0 = Some((partition.clone(), log.clone()));
                log
            }
        };
        let mut progress = log.progress();
        let readers = progress.readers.iter_mut();
        let closed = readers.filter_map(|(trigger, mark)| {
            let completed = mark.received(offset, position.stamp);
            completed.then_some(*trigger)
        });
        let closed = closed.collect();
        drop(progress);
        (Place { log, offset }, closed)
    }

    /// A trigger has completed a record.
    pub(super) fn completed(&self, place: &Place, trigger: usize) {
        if let Some(mark) = place.log.progress().mark(trigger) {
            mark.completed(place.offset);
        }
    }

    pub(super) fn let_go(&self, partition: &Partition) {
        if let Some(log) = lock(&self.0).get(partition) {
            log.progress().readers.clear();
        }
    }
}

impl Dispatcher {
    /// The steps that logs take when these deliveries of one trigger leave them together. A log that
    /// is there no more takes none.
    pub(in crate::dispatcher) fn offsets_steps(&self, all: &[&HeldDelivery]) -> Vec<OffsetsMove> {
        let mut by_log: Vec<(&HeldDelivery, &Arc<Log>, Vec<i64>)> = Vec::with_capacity(1);
        for held in all {
            let Some(Place { log, offset }) = &held.log else {
                continue;
            };
            let same = |(_, other, _): &&mut (_, &Arc<Log>, _)| Arc::ptr_eq(other, log);
            match by_log.iter_mut().find(same) {
                Some((_, _, offsets)) => offsets.push(*offset),
                None => by_log.push((held, log, vec![*offset])),
            }
        }
        let steps = by_log.into_iter().filter_map(|(held, log, mut offsets)| {
            let mut progress = log.progress();
            if progress.forgotten {
                return None;
            }
            offsets.sort_unstable();
            let progress = match progress.mark(held.trigger) {
                Some(mark) => mark.with(offsets),
                // Of a partition that was let go: they are completed, wherever the watermark is.
                None => Progress {
                    completed: offsets,
                    ..Progress::default()
                },
            };
            Some(OffsetsMove {
                of: self.partition_of(held.trigger, &log.partition),
                watermark: progress.watermark,
                stamp: progress.stamp,
                completed: progress.completed,
            })
        });
        steps.collect()
    }

    fn partition_of(&self, trigger: usize, partition: &Partition) -> PartitionOf {
        PartitionOf {
            trigger: self.table.load().triggers[trigger].name.clone(),
            group: partition.group.clone(),
            partition: partition.partition.clone(),
        }
    }

    pub(super) async fn take_up(
        &self,
        partition: Partition,
    ) -> Result<Option<Progress>, IntakeError> {
        let (mut readers, mut least) = (Vec::new(), None::<Progress>);
        let table = self.table.load_full();
        for &trigger in table.listeners(&partition.source) {
            let of = self.partition_of(trigger, &partition);
            let progress = self.journal.progress(&of).await.map_err(refusal)?;
            let behind = |progress: &&Progress| {
                let least = least.as_ref();
                least.is_none_or(|least| progress.watermark < least.watermark)
            };
            if let Some(progress) = progress.as_ref().filter(behind) {
                least = Some(progress.clone());
            }
            readers.push((trigger, Watermark::new(progress.unwrap_or_default())));
        }
        let log = self.held.offsets.log(&Arc::new(partition));
        log.progress().readers = readers;
        Ok(least)
    }

    pub(super) async fn forget(&self, partition: Partition) -> Result<(), IntakeError> {
        let table = self.table.load_full();
        let listeners = table.listeners(&partition.source).iter();
        let forget = listeners.map(|&trigger| self.partition_of(trigger, &partition));
        let unit = Unit {
            forget: forget.collect(),
            ..Unit::default()
        };
        // First: nothing of the old log is completed in the new one.
        if let Some(log) = lock(&self.held.offsets.0).remove(&partition) {
            *log.progress() = LogProgress {
                readers: Vec::new(),
                forgotten: true,
            };
        }
        self.offered(&[unit].into()).await?;
        Ok(())
    }
}
