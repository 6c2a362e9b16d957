//! The steps of partitions. Many units take one each of the same few partitions, in any order: what those of a
//! transaction come to together is written once, at its end. What is stored is remembered from one transaction
//! to the next, so that nobody asks SQLite for each offset: nobody else writes it.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, Result, params};

use super::statements::Statements;
use crate::{OffsetsMove, PartitionOf};

/// The partitions that were looked at or moved so far.
#[derive(Default)]
pub struct Moves {
    partitions: BTreeMap<PartitionOf, Moved>,
}

/// A partition, as the transaction has it.
#[derive(Default)]
struct Moved {
    /// The watermark that is stored; none, if nothing is.
    stored: Option<i64>,
    /// The offsets above it that are stored.
    above: BTreeSet<i64>,
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
    /// The transaction was taken back, and nothing is left of it.
    pub fn taken_back(&mut self) {
        self.partitions.clear();
    }

    /// Where the watermark stands.
    pub fn watermark(&mut self, sql: &mut Statements<'_>, of: &PartitionOf) -> Result<Option<i64>> {
        if let Some(moved) = self.partitions.get(of) {
            return Ok(moved.watermark());
        }
        let place = (&of.trigger, &of.group, &of.partition);
        let watermark = sql.watermark.query_row(place, |row| row.get(0));
        let stored = watermark.optional()?;
        let above = sql.offsets_above.query_map(place, |row| row.get(0))?;
        let moved = Moved {
            stored,
            above: above.collect::<Result<_>>()?,
            ..Moved::default()
        };
        self.partitions.insert(of.clone(), moved);
        Ok(stored)
    }

    /// Whether this offset of a partition that was [looked at](Moves::watermark) is completed, apart from where
    /// the watermark stands.
    pub fn is_completed(&self, of: &PartitionOf, offset: i64) -> bool {
        let here =
            |moved: &Moved| moved.completed.contains(&offset) || moved.above.contains(&offset);
        self.partitions.get(of).is_some_and(here)
    }

    /// Takes a step.
    pub fn step(&mut self, step: &OffsetsMove) {
        let moved = match self.partitions.get_mut(&step.of) {
            Some(moved) => moved,
            // It was forgotten.
            None => self.partitions.entry(step.of.clone()).or_default(),
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
        self.partitions.remove(of);
        let place = (&of.trigger, &of.group, &of.partition);
        sql.forget_partition.execute(place)?;
        sql.forget_offsets.execute(place)?;
        Ok(())
    }

    /// Writes what the steps come to.
    pub fn write(&mut self, sql: &mut Statements<'_>) -> Result<()> {
        for (of, moved) in &mut self.partitions {
            let (trigger, group, partition) = (&of.trigger, &of.group, &of.partition);
            if let Some((watermark, stamp)) = moved.to.take() {
                moved.stored = Some(watermark);
                let row = params![trigger, group, partition, watermark, stamp];
                sql.set_watermark.execute(row)?;
                let above = moved.above.split_off(&watermark);
                if !std::mem::replace(&mut moved.above, above).is_empty() {
                    sql.forget_passed
                        .execute((trigger, group, partition, watermark))?;
                }
            }
            // What is below has nothing to be kept for.
            let watermark = moved.stored.unwrap_or(i64::MIN);
            for offset in std::mem::take(&mut moved.completed).split_off(&watermark) {
                sql.set_offset
                    .execute((trigger, group, partition, offset))?;
                moved.above.insert(offset);
            }
        }
        Ok(())
    }
}
