//! Writes a unit that was checked.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{Connection, Result, params};
use tidemill_core::{
    delivery::{AttemptRecord, Seq, Work},
    event::{Event, Field},
    ledger::{Forget, LedgerMove},
    outcome::Usage,
};

use super::{
    check::{Checked, Checker, Settled, holds},
    counters::Counters,
    known::Known,
    moves::Moves,
    statements::Statements,
    tally::{Tally, Told},
    turns,
};
use crate::{Accepted, Added, KeyDone, KvWrite, NewDelivery, Noted, Settle, Unit, UnitResult};

/// Expired rows removed with a commit, besides two for each unit: enough to keep up with what units
/// add, and to work off a backlog, and too few to be felt.
const SWEPT: usize = 64;

/// Applies units, one after another, within a transaction that someone else begins and commits.
pub struct Applier<'c> {
    /// The connection's statements.
    pub sql: Statements<'c>,
    known: Arc<Known>,
    moves: Moves,
    counters: Counters,
    tally: Tally,
    /// No event id expires before.
    event_ids_until: i64,
    /// Engine running time up to the start of this engine, in milliseconds.
    pub ran_before: i64,
}

impl<'c> Applier<'c> {
    /// Goes on where the journal stands.
    pub fn new(conn: &'c Connection, known: Arc<Known>, told: Arc<Told>) -> Result<Self> {
        let counters = Counters::open(conn)?;
        let mut sql = Statements::new(conn)?;
        Ok(Applier {
            event_ids_until: first_expiry(&mut sql)?,
            sql,
            known,
            moves: Moves::default(),
            ran_before: counters.running(),
            counters,
            tally: Tally::open(conn, told)?,
        })
    }

    /// The transaction is durable.
    pub fn committed(&mut self) {
        self.counters.committed();
        self.tally.committed();
    }

    /// The transaction was taken back: what was remembered of it does not hold.
    pub fn taken_back(&mut self) {
        self.moves.taken_back();
        self.counters.taken_back();
        self.tally.taken_back();
        self.event_ids_until = i64::MIN;
    }

    /// Writes what is left to write, with no transaction open. `ran` milliseconds have passed since the start.
    pub fn close(&mut self, ran: i64) -> Result<()> {
        self.counters.close(&mut self.sql, self.ran_before + ran)
    }

    /// Applies a unit, or leaves everything as it is. `ran` milliseconds have passed since the start.
    pub fn apply(&mut self, unit: &Unit, ran: i64) -> Result<UnitResult> {
        let running = self.ran_before + ran;
        match (Checker {
            sql: &mut self.sql,
            filter: &self.known,
            moves: &mut self.moves,
            running,
        })
        .check(unit)?
        {
            Checked::Refused(result) => Ok(result),
            Checked::Fine(settled) => self.write(unit, &settled, running),
        }
    }

    /// The last steps of a transaction, after these units were written: what many of them change is
    /// written once for all, then the counters, and some of what expired goes.
    pub fn finish(&mut self, units: &[&Unit], ran: i64) -> Result<()> {
        let running = self.ran_before + ran;
        self.add_usage(units)?;
        self.moves.write(&mut self.sql)?;
        self.counters.tell(&mut self.sql, running)?;
        let expire = || units.iter().filter_map(|unit| unit.expire);
        let more: usize = expire().map(|expire| expire.limit).sum();
        let limit = int(units.len() * 2 + SWEPT + more);
        if running >= self.event_ids_until {
            self.sql.sweep_event_ids.execute([running, limit])?;
            self.event_ids_until = first_expiry(&mut self.sql)?;
        }
        // The units bring the time that keys are measured by.
        let keys = units.iter().flat_map(|unit| &unit.keys);
        let times = keys.map(|key| key.completed.0);
        if let Some(now) = times.chain(expire().map(|expire| expire.now.0)).max()
            && self.sql.has_expired_keys.exists([now])?
        {
            self.sql.sweep_keys.execute([now, limit])?;
        }
        for expire in expire() {
            self.sql.sweep_usage.execute([expire.usage_before])?;
        }
        Ok(())
    }

    fn write(&mut self, unit: &Unit, all: &[Settled], running: i64) -> Result<UnitResult> {
        let (mut added, mut released) = (Vec::new(), Vec::new());
        for (settle, &settled) in unit.settle.iter().zip(all) {
            let leaves = matches!(settle, Settle::Done { .. } | Settle::Dead { .. });
            let place = (leaves && settled.has_turn)
                .then(|| turns::place(&mut self.sql, settled.seq))
                .transpose()?;
            added.extend(self.settle(settle, settled)?);
            if let Some(place) = &place {
                released.extend(turns::pass_on(&mut self.sql, place)?);
            }
        }
        if unit.settle.len() > 1 {
            // One of them may have waited for another.
            released.retain(|free| all.iter().all(|settled| settled.seq != free.seq));
        }
        for write in &unit.writes {
            self.set_value(write)?;
        }
        for accepted in &unit.accept {
            self.accept(accepted, all, &mut added)?;
        }
        for step in &unit.ledger {
            self.move_ledger(step)?;
        }
        if let Some(noted) = &unit.noted {
            self.note(noted)?;
        }
        for step in &unit.buckets {
            let to = step.to;
            let row = params![step.bucket, to.began.0, to.complete, to.deletes];
            self.sql.set_bucket.execute(row)?;
            if let Some(Forget { before, limit }) = step.forget {
                let which = params![step.bucket, before.0, to.deletes, int(limit)];
                self.sql.forget_keys.execute(which)?;
            }
        }
        for object in &unit.written {
            let row = params![object.bucket, object.key, object.etag, object.hops];
            self.sql.set_written.execute(row)?;
        }
        for id in &unit.event_ids {
            let expires = running.saturating_add(int(id.window.as_millis()));
            let row = params![id.delivery.0, expires, id.fingerprint];
            self.sql.set_event_id.execute(row)?;
            self.event_ids_until = self.event_ids_until.min(expires);
        }
        for key in &unit.keys {
            self.complete_key(key)?;
        }
        for step in &unit.cursors {
            let row = params![step.schedule, step.to.at.0, step.to.definition];
            self.sql.set_cursor.execute(row)?;
        }
        for of in &unit.forget {
            self.moves.forget(&mut self.sql, of)?;
        }
        for step in &unit.offsets {
            self.moves.step(step);
        }
        Ok(UnitResult::Committed { added, released })
    }

    fn settle(&mut self, settle: &Settle, settled: Settled) -> Result<Option<Added>> {
        let Settled {
            seq,
            event,
            attempts,
            ..
        } = settled;
        match settle {
            Settle::Done { .. } => {
                self.leave(settled, false)?;
                self.release(settled, false)?;
            }
            Settle::Purge { .. } => {
                self.leave(settled, true)?;
                self.release(settled, true)?;
            }
            Settle::Retry { due, record, .. } => {
                self.attempt(seq, attempts, record)?;
                self.sql.retry.execute([seq, due.0])?;
            }
            Settle::Dead { cause, record, .. } => {
                self.attempt(seq, attempts, record)?;
                let row = params![seq, cause.as_str(), record.reason, record.ended.0];
                self.sql.die.execute(row)?;
                self.tally.left(false);
                self.tally.came(true);
            }
            Settle::Redrive { new, .. } => {
                self.leave(settled, true)?;
                let body = Body {
                    event,
                    shared: settled.shared,
                    size: settled.size,
                };
                return Ok(Some(self.add(new, body)?));
            }
        }
        Ok(None)
    }

    /// Removes a delivery, a dead letter or not, and its history.
    fn leave(&mut self, settled: Settled, dead: bool) -> Result<()> {
        self.sql.delete_delivery.execute([settled.seq])?;
        self.tally.left(dead);
        if settled.attempts > 0 {
            self.sql.delete_attempts.execute([settled.seq])?;
        }
        Ok(())
    }

    /// Lets go of the event of a delivery that left; the last one takes it along.
    fn release(&mut self, settled: Settled, spoil: bool) -> Result<()> {
        let event = [settled.event];
        if settled.shared {
            let left: i64 = self.sql.shared_state.query_row(event, |row| row.get(0))?;
            if left > 1 {
                self.sql
                    .update_shared
                    .execute(params![settled.event, spoil])?;
                return Ok(());
            }
            self.sql.delete_shared.execute(event)?;
        }
        self.sql.delete_event.execute(event)?;
        Ok(())
    }

    fn attempt(&mut self, seq: Seq, position: i64, record: &AttemptRecord) -> Result<()> {
        self.sql.insert_attempt.execute(params![
            seq,
            position,
            record.attempt,
            record.started.0,
            record.ended.0,
            record.outcome.as_str(),
            record.reason,
            record.digest,
        ])?;
        Ok(())
    }

    fn accept(
        &mut self,
        accepted: &Accepted,
        settled: &[Settled],
        added: &mut Vec<Added>,
    ) -> Result<()> {
        let kept = || accepted.deliveries.iter().filter(|new| holds(new, settled));
        let count = kept().count() as i64;
        if count == 0 {
            return Ok(());
        }
        let size = accepted.event.size() as i64;
        let body = Body {
            event: self.counters.seq() + 1,
            shared: count > 1,
            size,
        };
        self.insert_event(body.event, &accepted.event)?;
        if body.shared {
            self.sql.insert_shared.execute([body.event, count])?;
        }
        for new in kept() {
            added.push(self.add(new, body)?);
        }
        Ok(())
    }

    fn insert_event(&mut self, place: i64, event: &Event) -> Result<()> {
        self.sql.insert_event.execute(params![
            place,
            event.id,
            event.source,
            event.kind,
            event.subject,
            event.time.0,
            event.datacontenttype,
            event.traceparent,
            event.hops,
            fields(&event.headers),
            &event.data[..],
        ])?;
        Ok(())
    }

    fn add(&mut self, new: &NewDelivery, body: Body) -> Result<Added> {
        let seq = self.counters.next_seq();
        let blocked = turns::is_blocked(&mut self.sql, new)?;
        let work = match &new.work {
            Work::Handle => None,
            Work::Outbox(action) => Some(json(action)),
        };
        let died = new
            .dead
            .as_ref()
            .map(|_| new.history.last().map_or(new.accepted, |a| a.ended));
        self.sql.insert_delivery.execute(params![
            seq,
            body.event,
            body.shared,
            new.id.0,
            new.trigger,
            work,
            new.history.len() as i64,
            new.accepted.0,
            new.due.0,
            body.size,
            new.lane,
            new.key,
            new.remember,
            blocked,
            new.redrive.map(|redrive| redrive.of.0),
            new.redrive.map(|redrive| redrive.original),
            new.dead.as_ref().map(|(cause, _)| cause.as_str()),
            new.dead.as_ref().map(|(_, reason)| reason),
            died.map(|at| at.0),
        ])?;
        self.tally.came(died.is_some());
        for (position, record) in (0..).zip(&new.history) {
            self.attempt(seq, position, record)?;
        }
        Ok(Added {
            seq,
            id: new.id,
            blocked,
        })
    }

    fn set_value(&mut self, write: &KvWrite) -> Result<()> {
        match &write.value {
            Some(value) => {
                let version = self.counters.next_version();
                let row = params![write.store, write.key, version, &value[..]];
                self.sql.set_value.execute(row)?;
            }
            None => {
                self.sql.delete_value.execute([&write.store, &write.key])?;
            }
        }
        Ok(())
    }

    fn move_ledger(&mut self, step: &LedgerMove) -> Result<()> {
        let (bucket, to) = (&step.bucket, &step.to);
        let row = params![
            bucket,
            to.key,
            to.etag,
            int(to.size),
            to.modified.0,
            to.deletes
        ];
        self.sql.set_ledger.execute(row)?;
        if let Some(etag) = &to.etag {
            self.sql.delete_written.execute([bucket, &to.key, etag])?;
        }
        Ok(())
    }

    fn note(&mut self, noted: &Noted) -> Result<()> {
        let bucket = &noted.bucket;
        for entry in &noted.objects {
            let (size, modified) = (int(entry.size), entry.modified.0);
            let row = params![bucket, entry.key, entry.etag, size, modified, entry.deletes];
            self.sql.note.execute(row)?;
        }
        self.sql.delete_noticed.execute([bucket])?;
        Ok(())
    }

    fn complete_key(&mut self, done: &KeyDone) -> Result<()> {
        self.sql.set_key.execute(params![
            done.trigger,
            done.key,
            done.delivery.0,
            done.completed.0,
            done.expires.0,
            done.fingerprint,
            done.reply.as_ref().and_then(|reply| reply.status),
            done.reply.as_ref().and_then(|reply| fields(&reply.headers)),
            done.reply.as_ref().map(|reply| &reply.body[..]),
        ])?;
        Ok(())
    }

    fn add_usage(&mut self, units: &[&Unit]) -> Result<()> {
        let mut accounts: BTreeMap<(&str, i64), (u64, Usage)> = BTreeMap::new();
        for entry in units.iter().filter_map(|unit| unit.usage.as_ref()) {
            let account = accounts.entry((&entry.function, entry.day)).or_default();
            let (invocations, used) = (&mut account.0, &mut account.1);
            *invocations = invocations.saturating_add(entry.invocations);
            used.wall_us = used.wall_us.saturating_add(entry.used.wall_us);
            used.busy_us = used.busy_us.saturating_add(entry.used.busy_us);
            used.memory = used.memory.saturating_add(entry.used.memory);
        }
        for ((function, day), (invocations, used)) in accounts {
            self.sql.add_usage.execute(params![
                function,
                day,
                int(invocations),
                int(used.wall_us),
                int(used.busy_us),
                int(used.memory),
            ])?;
        }
        Ok(())
    }
}

/// When the first event id expires.
fn first_expiry(sql: &mut Statements<'_>) -> Result<i64> {
    let first: Option<i64> = sql.first_expiry.query_row([], |row| row.get(0))?;
    Ok(first.unwrap_or(i64::MAX))
}

/// The event of a delivery, as it is stored.
#[derive(Clone, Copy)]
struct Body {
    event: i64,
    shared: bool,
    size: i64,
}

/// Headers as JSON; none, if there are none.
fn fields(headers: &[Field]) -> Option<String> {
    (!headers.is_empty()).then(|| json(headers))
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("strings and numbers become JSON")
}

/// Numbers beyond what SQLite holds count as the largest that it does.
fn int<N: TryInto<i64>>(number: N) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
