//! How far the triggers of a source are in the partitions that it reads.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tidemill_core::{
    hold::{Partition, Position},
    intake::IntakeError,
    watermark::{Progress, Watermark},
};
use tidemill_journal::{OffsetsMove, PartitionOf, Unit};

use super::HeldDelivery;
use crate::dispatcher::{Dispatcher, intake::refusal};

/// The watermark of each trigger in each partition.
#[derive(Default)]
pub(super) struct Offsets(Mutex<Partitions>);

#[derive(Default)]
struct Partitions {
    readers: HashMap<Partition, Vec<(usize, Watermark)>>,
    /// How often a partition turned out to be another log under the same name, if ever.
    anew: HashMap<Partition, u32>,
}

/// Where a held delivery stands in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    partition: Partition,
    offset: i64,
    /// Of which log of this name.
    log: u32,
}

impl Partitions {
    /// The readers of the log that the place is in, if that is the one that is read now.
    fn readers(&mut self, place: &Place) -> Option<&mut Vec<(usize, Watermark)>> {
        let is_this = self.log(&place.partition) == place.log;
        self.readers.get_mut(&place.partition).filter(|_| is_this)
    }

    fn log(&self, partition: &Partition) -> u32 {
        self.anew.get(partition).copied().unwrap_or_default()
    }
}

impl Offsets {
    fn lock(&self) -> MutexGuard<'_, Partitions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record was received: its place, and the triggers that have completed it already.
    pub(super) fn received(&self, source: &str, position: &Position) -> (Place, Vec<usize>) {
        let (partition, offset) = position.in_log(source);
        let mut partitions = self.lock();
        let log = partitions.log(&partition);
        let place = Place {
            partition,
            offset,
            log,
        };
        let readers = partitions.readers(&place).into_iter().flatten();
        let closed = readers.filter_map(|(trigger, mark)| {
            let completed = mark.received(offset, position.stamp);
            completed.then_some(*trigger)
        });
        let closed = closed.collect();
        (place, closed)
    }

    /// A trigger has completed a record.
    pub(super) fn completed(&self, place: &Place, trigger: usize) {
        if let Some(readers) = self.lock().readers(place)
            && let Some((_, mark)) = readers.iter_mut().find(|(reader, _)| *reader == trigger)
        {
            mark.completed(place.offset);
        }
    }

    pub(super) fn let_go(&self, partition: &Partition) {
        self.lock().readers.remove(partition);
    }
}

impl Dispatcher {
    /// The steps that logs take when these deliveries of one trigger leave them together. A log that
    /// is there no more takes none.
    pub(in crate::dispatcher) fn offsets_steps(&self, all: &[&HeldDelivery]) -> Vec<OffsetsMove> {
        let mut by_log: Vec<(&HeldDelivery, &Place, Vec<i64>)> = Vec::new();
        for held in all {
            let Some(place) = &held.log else { continue };
            let same = |(_, other, _): &&mut (_, &Place, _)| {
                other.partition == place.partition && other.log == place.log
            };
            match by_log.iter_mut().find(same) {
                Some((_, _, offsets)) => offsets.push(place.offset),
                None => by_log.push((held, place, vec![place.offset])),
            }
        }
        let mut partitions = self.held.offsets.lock();
        by_log.retain(|(_, place, _)| partitions.log(&place.partition) == place.log);
        let steps = by_log.into_iter().map(|(held, place, mut offsets)| {
            offsets.sort_unstable();
            let mut readers = partitions.readers(place).into_iter().flatten();
            let progress = match readers.find(|(reader, _)| *reader == held.trigger) {
                Some((_, mark)) => mark.with(offsets),
                // Of a partition that was let go: they are completed, wherever the watermark is.
                None => Progress {
                    completed: offsets,
                    ..Progress::default()
                },
            };
            OffsetsMove {
                of: self.partition_of(held.trigger, &place.partition),
                watermark: progress.watermark,
                stamp: progress.stamp,
                completed: progress.completed,
            }
        });
        steps.collect()
    }

    fn partition_of(&self, trigger: usize, partition: &Partition) -> PartitionOf {
        PartitionOf {
            trigger: self.triggers[trigger].name.clone(),
            group: partition.group.clone(),
            partition: partition.partition.clone(),
        }
    }

    pub(super) async fn take_up(
        &self,
        partition: Partition,
    ) -> Result<Option<Progress>, IntakeError> {
        let (mut readers, mut least) = (Vec::new(), None::<Progress>);
        for &trigger in self.listeners(&partition.source) {
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
        self.held.offsets.lock().readers.insert(partition, readers);
        Ok(least)
    }

    pub(super) async fn forget(&self, partition: Partition) -> Result<(), IntakeError> {
        let listeners = self.listeners(&partition.source).iter();
        let forget = listeners.map(|&trigger| self.partition_of(trigger, &partition));
        let unit = Unit {
            forget: forget.collect(),
            ..Unit::default()
        };
        {
            // First: nothing of the old log is completed in the new one.
            let mut partitions = self.held.offsets.lock();
            partitions.readers.remove(&partition);
            *partitions.anew.entry(partition).or_default() += 1;
        }
        self.offered(unit).await?;
        Ok(())
    }

    /// The triggers of a source.
    pub(super) fn listeners(&self, source: &str) -> &[usize] {
        let listeners = self.routes.get(source);
        listeners.map_or(&[][..], Vec::as_slice)
    }
}
