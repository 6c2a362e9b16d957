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
    /// The step that a log takes when this delivery leaves it; none, if the log is there no more.
    pub(super) fn offsets_step(&self, held: &HeldDelivery) -> Option<OffsetsMove> {
        let place = held.log.as_ref()?;
        let mut partitions = self.held.offsets.lock();
        if partitions.log(&place.partition) != place.log {
            return None;
        }
        let readers = partitions.readers(place);
        let mark = readers.and_then(|all| all.iter().find(|(reader, _)| *reader == held.trigger));
        // Of a partition that was let go: it is completed all the same, wherever the watermark is.
        let (watermark, stamp) = mark.map_or((0, None), |(_, mark)| mark.with(place.offset));
        Some(OffsetsMove {
            of: self.partition_of(held.trigger, &place.partition),
            watermark,
            stamp,
            completed: vec![place.offset],
        })
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
