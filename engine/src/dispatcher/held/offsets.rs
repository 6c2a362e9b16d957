//! How far the triggers of a source are in the partitions that it reads.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tidemill_core::{
    hold::Partition,
    intake::IntakeError,
    watermark::{Progress, Watermark},
};
use tidemill_journal::{OffsetsMove, PartitionOf, Unit};

use super::HeldDelivery;
use crate::dispatcher::{Dispatcher, intake::refusal};

/// The watermark of each trigger in each partition.
#[derive(Default)]
pub(super) struct Offsets(Mutex<HashMap<Partition, Vec<(usize, Watermark)>>>);

impl Offsets {
    fn lock(&self) -> MutexGuard<'_, HashMap<Partition, Vec<(usize, Watermark)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record was received: the triggers that have completed it already.
    pub(super) fn received(&self, partition: &Partition, offset: i64, stamp: i64) -> Vec<usize> {
        let mut partitions = self.lock();
        let Some(readers) = partitions.get_mut(partition) else {
            return Vec::new();
        };
        let closed = readers
            .iter_mut()
            .filter_map(|(trigger, mark)| mark.received(offset, stamp).then_some(*trigger));
        closed.collect()
    }

    /// A trigger has completed a record.
    pub(super) fn completed(&self, partition: &Partition, trigger: usize, offset: i64) {
        if let Some(readers) = self.lock().get_mut(partition)
            && let Some((_, mark)) = readers.iter_mut().find(|(reader, _)| *reader == trigger)
        {
            mark.completed(offset);
        }
    }

    pub(super) fn let_go(&self, partition: &Partition) {
        self.lock().remove(partition);
    }
}

impl Dispatcher {
    /// The step that a log takes when this delivery leaves it.
    pub(super) fn offsets_step(&self, held: &HeldDelivery) -> Option<OffsetsMove> {
        let (partition, offset) = held.log.as_ref()?;
        let partitions = self.held.offsets.lock();
        let readers = partitions.get(partition);
        let mark = readers.and_then(|all| all.iter().find(|(reader, _)| *reader == held.trigger));
        // Of a partition that was let go: it is completed all the same, wherever the watermark is.
        let (watermark, stamp) = mark.map_or((0, None), |(_, mark)| mark.with(*offset));
        Some(OffsetsMove {
            of: self.partition_of(held.trigger, partition),
            watermark,
            stamp,
            completed: vec![*offset],
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
        for &trigger in self.listeners(&partition) {
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
        self.held.offsets.lock().insert(partition, readers);
        Ok(least)
    }

    pub(super) async fn forget(&self, partition: Partition) -> Result<(), IntakeError> {
        let listeners = self.listeners(&partition).iter();
        let forget = listeners.map(|&trigger| self.partition_of(trigger, &partition));
        let unit = Unit {
            forget: forget.collect(),
            ..Unit::default()
        };
        self.offered(unit).await?;
        self.held.offsets.let_go(&partition);
        Ok(())
    }

    pub(super) fn listeners(&self, partition: &Partition) -> &[usize] {
        let listeners = self.routes.get(&partition.source);
        listeners.map_or(&[][..], Vec::as_slice)
    }
}
