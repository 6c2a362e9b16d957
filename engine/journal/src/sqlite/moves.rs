//! The steps of partitions within one transaction. Many units take one each of the same few partitions, in any order:
//! what they come to together is written once, at the end.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, Result, params};

use super::statements::Statements;
use crate::{OffsetsMove, PartitionOf};

/// The partitions that the transaction has looked at or moved so far.
#[derive(Default)]
pub struct Moves(BTreeMap<PartitionOf, Moved>);

/// A partition, as the transaction has it.
#[derive(Default)]
struct Moved {
    /// What is stored; none, if nothing is.
    stored: Option<i64>,
    /// What is to be stored in its place: the watermark and its stamp.
    to: Option<(i64, Option<i64>)>,
    /// Offsets that the transaction completes; what the watermark has passed in the end is not kept.
    completed: BTreeSet<i64>,
}

impl Moved {
    fn watermark(&self) -> Option<i64> {
        self.to.map(|(watermark, _)| watermark).or(self.stored)
    }
}

impl Moves {
    /// Where the watermark stands.
    pub fn watermark(&mut self, sql: &mut Statements<'_>, of: &PartitionOf) -> Result<Option<i64>> {
        if let Some(moved) = self.0.get(of) {
            return Ok(moved.watermark());
        }
        let place = (&of.trigger, &of.group, &of.partition);
        let stored = sql
            .watermark
            .query_row(place, |row| row.get(0))
            .optional()?;
        let moved = Moved {
            stored,
            ..Moved::default()
        };
        self.0.insert(of.clone(), moved);
        Ok(stored)
    }

    /// Whether this offset is completed, apart from where the watermark stands.
    pub fn is_completed(
        &self,
        sql: &mut Statements<'_>,
        of: &PartitionOf,
        offset: i64,
    ) -> Result<bool> {
        let here = |moved: &Moved| moved.completed.contains(&offset);
        if self.0.get(of).is_some_and(here) {
            return Ok(true);
        }
        sql.offset_known
            .exists((&of.trigger, &of.group, &of.partition, offset))
    }

    /// Takes a step.
    pub fn step(&mut self, step: &OffsetsMove) {
        let moved = match self.0.get_mut(&step.of) {
            Some(moved) => moved,
            // It was forgotten.
            None => self.0.entry(step.of.clone()).or_default(),
        };
        if moved
            .watermark()
            .is_none_or(|stands| stands < step.watermark)
        {
            moved.to = Some((step.watermark, step.stamp));
        }
        moved.completed.extend(&step.completed);
    }

    /// All that was known of it is gone.
    pub fn forget(&mut self, sql: &mut Statements<'_>, of: &PartitionOf) -> Result<()> {
        self.0.remove(of);
        let place = (&of.trigger, &of.group, &of.partition);
        sql.forget_partition.execute(place)?;
        sql.forget_offsets.execute(place)?;
        Ok(())
    }

    /// Writes what the steps come to.
    pub fn write(&mut self, sql: &mut Statements<'_>) -> Result<()> {
        for (of, moved) in std::mem::take(&mut self.0) {
            let (trigger, group, partition) = (&of.trigger, &of.group, &of.partition);
            if let Some((watermark, stamp)) = moved.to {
                let row = params![trigger, group, partition, watermark, stamp];
                sql.set_watermark.execute(row)?;
                sql.forget_passed
                    .execute((trigger, group, partition, watermark))?;
            }
            // What is below has nothing to be kept for.
            let watermark = moved.watermark().unwrap_or(i64::MIN);
            for offset in moved.completed.range(watermark..) {
                sql.set_offset
                    .execute((trigger, group, partition, offset))?;
            }
        }
        Ok(())
    }

    /// The transaction was taken back, and another one begins.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
