//! Whether a unit may happen: everything that can refuse it is looked up before anything of it is
//! written. So a refused unit leaves nothing to take back, and a commit needs no savepoints, which
//! would make SQLite copy every page that a unit touches.
//!
//! A unit is checked as if applied in the order of its fields, so what stands earlier in it counts.
//! Nothing here writes.

use rusqlite::{OptionalExtension, Result, Statement, params};
use tidemill_core::{
    delivery::Seq,
    identity::DeliveryId,
    ledger::{LedgerEntry, LedgerMove},
    schedule::{Cursor, CursorMove},
    time::Timestamp,
};

use super::{known::Known, moves::Moves, statements::Statements};
use crate::{KeyDone, NewDelivery, OffsetsMove, Settle, Unit, UnitResult};

/// A delivery that a unit settles, as it stands before.
#[derive(Clone, Copy)]
pub struct Settled {
    /// Its place.
    pub seq: Seq,
    /// Its event.
    pub event: i64,
    /// About how many bytes its event has.
    pub size: i64,
    /// Attempts that ended.
    pub attempts: i64,
    /// Its event came with more than one delivery.
    pub shared: bool,
    /// It has a lane or a key, so others may wait for it.
    pub has_turn: bool,
    /// After the unit no delivery of its event is left, and all of them were done.
    pub all_done: bool,
}

/// What a check gives.
pub enum Checked {
    /// The unit may happen.
    Fine(Vec<Settled>),
    /// It may not.
    Refused(UnitResult),
}

/// Checks units against what the current transaction sees.
pub struct Checker<'a, 'c> {
    /// The connection's statements.
    pub sql: &'a mut Statements<'c>,
    /// What need not be looked up.
    pub filter: &'a Known,
    /// Where partitions stand in this transaction.
    pub moves: &'a mut Moves,
    /// Engine running time, in milliseconds.
    pub running: i64,
}

impl Checker<'_, '_> {
    /// Checks the unit.
    pub fn check(&mut self, unit: &Unit) -> Result<Checked> {
        let duplicate = Ok(Checked::Refused(UnitResult::Duplicate));
        let mut settled: Vec<Settled> = Vec::with_capacity(unit.settle.len());
        for settle in &unit.settle {
            match self.settled(settle)? {
                Some(one) if settled.iter().all(|other| other.seq != one.seq) => settled.push(one),
                _ => return Ok(Checked::Refused(UnitResult::Gone)),
            }
        }
        // The places that a new delivery's identity may still be found at.
        let leaving = unit.settle.iter().filter_map(|settle| match settle {
            Settle::Done { delivery }
            | Settle::Purge { delivery }
            | Settle::Redrive { delivery, .. } => Some(*delivery),
            Settle::Retry { .. } | Settle::Dead { .. } => None,
        });
        let leaving: Vec<Seq> = leaving.collect();
        let new: Vec<&NewDelivery> = redriven(unit).chain(added(unit, &settled)).collect();
        for new in redriven(unit) {
            if self.known(new.id, &leaving)? {
                return duplicate;
            }
        }
        for read in &unit.reads {
            let found = one::<i64>(&mut self.sql.version, params![read.store, read.key])?;
            if found.unwrap_or(0) != read.version {
                let (store, key) = (read.store.clone(), read.key.clone());
                return Ok(Checked::Refused(UnitResult::Conflict { store, key }));
            }
        }
        for (n, delivery) in new.iter().enumerate() {
            let earlier = &new[..n];
            if earlier.iter().any(|earlier| earlier.id == delivery.id)
                || self.known(delivery.id, &leaving)?
            {
                return duplicate;
            }
        }
        if self.rest_is_known(unit, &settled, &new)? {
            return duplicate;
        }
        Ok(Checked::Fine(settled))
    }

    fn settled(&mut self, settle: &Settle) -> Result<Option<Settled>> {
        let (seq, wants_dead) = match *settle {
            Settle::Done { delivery }
            | Settle::Retry { delivery, .. }
            | Settle::Dead { delivery, .. } => (delivery, false),
            Settle::Redrive { delivery, .. } | Settle::Purge { delivery } => (delivery, true),
        };
        let found = self.sql.delivery_state.query_row([seq], |row| {
            let settled = Settled {
                seq,
                event: row.get(0)?,
                shared: row.get(1)?,
                attempts: row.get(2)?,
                size: row.get(3)?,
                has_turn: row.get(5)?,
                all_done: false,
            };
            Ok((settled, row.get::<_, bool>(4)?))
        });
        let Some((mut settled, dead)) = found.optional()? else {
            return Ok(None);
        };
        if dead != wants_dead {
            return Ok(None);
        }
        if let Settle::Done { .. } = settle {
            settled.all_done = !settled.shared
                || self.sql.shared_state.query_row([settled.event], |row| {
                    Ok(row.get::<_, i64>(0)? == 1 && !row.get::<_, bool>(1)?)
                })?;
        }
        Ok(Some(settled))
    }

    /// Whether the journal holds a delivery with this identity, or remembers it.
    fn known(&mut self, id: DeliveryId, leaving: &[Seq]) -> Result<bool> {
        Ok(self.is_here(id, leaving)? || self.is_remembered(id)?)
    }

    /// Whether a delivery with this identity is here, but for those at these places.
    fn is_here(&mut self, id: DeliveryId, but: &[Seq]) -> Result<bool> {
        if !self.filter.may_hold(id) {
            return Ok(false);
        }
        let found = one(&mut self.sql.delivery_known, params![id.0])?;
        Ok(found.is_some_and(|seq| !but.contains(&seq)))
    }

    fn is_remembered(&mut self, id: DeliveryId) -> Result<bool> {
        let known = &mut self.sql.event_id_known;
        Ok(self.filter.may_hold(id) && known.exists(params![id.0, self.running])?)
    }

    fn rest_is_known(
        &mut self,
        unit: &Unit,
        settled: &[Settled],
        new: &[&NewDelivery],
    ) -> Result<bool> {
        for (n, step) in unit.ledger.iter().enumerate() {
            if self.ledger(&unit.ledger[..n], step)? != step.from {
                return Ok(true);
            }
        }
        let own: Vec<Seq> = settled.iter().map(|settled| settled.seq).collect();
        for (n, id) in unit.event_ids.iter().enumerate() {
            let accepted = new.iter().any(|new| new.id == id.delivery);
            if unit.event_ids[..n]
                .iter()
                .any(|earlier| earlier.delivery == id.delivery)
                || self.is_remembered(id.delivery)?
                || !accepted && self.is_here(id.delivery, &own)?
            {
                return Ok(true);
            }
        }
        for (n, key) in unit.keys.iter().enumerate() {
            if self.key_known(&unit.keys[..n], key)? {
                return Ok(true);
            }
        }
        for (n, step) in unit.cursors.iter().enumerate() {
            if self.cursor(&unit.cursors[..n], step)? != step.from {
                return Ok(true);
            }
        }
        for (n, step) in unit.offsets.iter().enumerate() {
            let forgotten = unit.forget.contains(&step.of);
            if self.offsets_known(&unit.offsets[..n], step, forgotten)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn ledger(&mut self, earlier: &[LedgerMove], step: &LedgerMove) -> Result<Option<LedgerEntry>> {
        let (bucket, key) = (&step.bucket, &step.to.key);
        let same = |other: &&LedgerMove| other.bucket == *bucket && other.to.key == *key;
        if let Some(moved) = earlier.iter().rev().find(same) {
            return Ok(Some(moved.to.clone()));
        }
        let entry = self.sql.ledger_entry.query_row([bucket, key], |row| {
            Ok(LedgerEntry {
                key: key.clone(),
                etag: row.get(0)?,
                size: row.get::<_, i64>(1)? as u64,
                modified: Timestamp(row.get(2)?),
                deletes: row.get(3)?,
            })
        });
        entry.optional()
    }

    fn key_known(&mut self, earlier: &[KeyDone], done: &KeyDone) -> Result<bool> {
        let same = |other: &&KeyDone| other.trigger == done.trigger && other.key == done.key;
        match earlier.iter().rev().find(same) {
            Some(other) => Ok(other.expires > done.completed),
            None => {
                let sql = &mut self.sql.key_known;
                sql.exists(params![done.trigger, done.key, done.completed.0])
            }
        }
    }

    fn cursor(&mut self, earlier: &[CursorMove], step: &CursorMove) -> Result<Option<Cursor>> {
        let same = |other: &&CursorMove| other.schedule == step.schedule;
        if let Some(moved) = earlier.iter().rev().find(same) {
            return Ok(Some(moved.to.clone()));
        }
        let cursor = self.sql.cursor.query_row([&step.schedule], |row| {
            Ok(Cursor {
                at: Timestamp(row.get(0)?),
                definition: row.get(1)?,
            })
        });
        cursor.optional()
    }

    /// Whether an offset of the step is completed already, or, if it has none, whether the watermark
    /// would not move.
    fn offsets_known(
        &mut self,
        earlier: &[OffsetsMove],
        step: &OffsetsMove,
        forgotten: bool,
    ) -> Result<bool> {
        let stands = match forgotten {
            true => None,
            false => self.moves.watermark(self.sql, &step.of)?,
        };
        let same = |other: &&OffsetsMove| other.of == step.of;
        let moved = earlier
            .iter()
            .filter(same)
            .map(|other| other.watermark)
            .max();
        let watermark = stands.max(moved);
        if step.completed.is_empty() {
            return Ok(watermark.is_some_and(|stands| stands >= step.watermark));
        }
        for (n, offset) in step.completed.iter().enumerate() {
            if watermark.is_some_and(|stands| *offset < stands)
                || step.completed[..n].contains(offset)
                || earlier
                    .iter()
                    .filter(same)
                    .any(|other| other.completed.contains(offset))
                || !forgotten && self.moves.is_completed(&step.of, *offset)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The deliveries that the unit's accepted events get, those left out that may only follow when all
/// went well and it did not.
pub fn added<'u>(unit: &'u Unit, settled: &'u [Settled]) -> impl Iterator<Item = &'u NewDelivery> {
    unit.accept
        .iter()
        .flat_map(|accepted| &accepted.deliveries)
        .filter(|delivery| holds(delivery, settled))
}

/// Whether the delivery is to be kept at all.
pub fn holds(delivery: &NewDelivery, settled: &[Settled]) -> bool {
    match delivery.only_if_last {
        None => true,
        Some(seq) => settled
            .iter()
            .any(|settled| settled.seq == seq && settled.all_done),
    }
}

fn redriven(unit: &Unit) -> impl Iterator<Item = &NewDelivery> {
    unit.settle.iter().filter_map(|settle| match settle {
        Settle::Redrive { new, .. } => Some(new),
        _ => None,
    })
}

fn one<T: rusqlite::types::FromSql>(
    statement: &mut Statement<'_>,
    params: impl rusqlite::Params,
) -> Result<Option<T>> {
    statement.query_row(params, |row| row.get(0)).optional()
}
