//! The model: what a journal means, in the plainest code.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use tidemill_core::{
    delivery::Cause, ledger::LedgerEntry, schedule::Cursor, turn::Turn, watermark::Progress,
};

use super::*;
use crate::{Found, KeyDone, PartitionOf, UnitResult::*, UsageFilter};

/// A delivery that the model holds.
#[derive(Clone, Debug)]
pub struct Held {
    pub seq: Seq,
    pub new: NewDelivery,
    /// Its event's number in the model.
    pub event: usize,
    died: Option<Timestamp>,
}

/// A journal in memory.
#[derive(Clone, Default)]
pub struct Memory {
    /// In the order of their places.
    pub deliveries: Vec<Held>,
    pub running: Duration,
    /// The wall clock, as far as units told it.
    pub now: Timestamp,
    pub ledger: BTreeMap<String, LedgerEntry>,
    pub cursor: Option<Cursor>,
    events: Vec<Event>,
    spoiled: HashSet<usize>,
    /// Values with their versions, which only the store gives out: none until it was asked.
    values: BTreeMap<String, (Bytes, Option<i64>)>,
    /// Every version that was ever seen.
    versions: HashSet<i64>,
    written: BTreeMap<String, (String, u32)>,
    /// When each expires, and the fingerprint of its event.
    event_ids: BTreeMap<DeliveryId, (Duration, Option<[u8; 32]>)>,
    keys: BTreeMap<String, KeyDone>,
    offsets: Option<(i64, BTreeSet<i64>)>,
    usage: u64,
    last_seq: Seq,
}

impl Memory {
    pub fn version(&self, key: &str) -> i64 {
        self.values
            .get(key)
            .map_or(0, |(_, version)| version.unwrap_or(i64::MIN))
    }

    /// Applies the unit and compares the store's result with what is right.
    pub fn expect(&mut self, unit: &Unit, found: UnitResult) {
        let mut next = self.clone();
        match next.apply(unit) {
            Err(refused) => assert_eq!(found, refused, "{unit:?}"),
            Ok(expected) => {
                let Committed { added, released } = &found else {
                    panic!("{found:?} for {unit:?}")
                };
                let ids: Vec<_> = added.iter().map(|added| added.id).collect();
                assert_eq!(ids, expected, "{unit:?}");
                for one in added {
                    assert!(one.seq > next.last_seq, "the place {} again", one.seq);
                    next.last_seq = one.seq;
                    let held = next
                        .deliveries
                        .iter_mut()
                        .find(|held| held.new.id == one.id);
                    held.expect("just added").seq = one.seq;
                }
                let free = next.free();
                for one in added {
                    let waits = !free.iter().any(|free| free.seq == one.seq) && !next.is_dead(one);
                    assert_eq!(one.blocked, waits, "{one:?} of {unit:?}");
                }
                let before = self.free();
                let mut freed = free;
                freed.retain(|one| {
                    let was_free = before.iter().any(|before| before.seq == one.seq);
                    !was_free && !added.iter().any(|added| added.seq == one.seq)
                });
                let mut released = released.clone();
                released.sort_by_key(|one| one.seq);
                assert_eq!(released, freed, "{unit:?}");
                *self = next;
            }
        }
    }

    /// The pending ones that are not blocked, by their place.
    fn free(&self) -> Vec<Pending> {
        let pending: Vec<_> = self
            .deliveries
            .iter()
            .filter(|held| held.died.is_none())
            .collect();
        let turn = |held: &Held| Turn {
            lane: held.new.lane.clone(),
            key: held.new.key.clone(),
        };
        let mut free = Vec::new();
        for (n, held) in pending.iter().enumerate() {
            let ahead: Vec<_> = pending[..n]
                .iter()
                .filter(|other| other.new.trigger == held.new.trigger)
                .map(|other| turn(other))
                .collect();
            if !turn(held).is_blocked(ahead.iter()) {
                free.push(Pending {
                    seq: held.seq,
                    id: held.new.id,
                    trigger: held.new.trigger.clone(),
                    due: held.new.due,
                    size: self.events[held.event].size(),
                });
            }
        }
        free
    }

    fn is_dead(&self, added: &Added) -> bool {
        let mut dead = self.deliveries.iter().filter(|held| held.died.is_some());
        dead.any(|held| held.seq == added.seq)
    }

    fn find(&self, id: DeliveryId) -> Option<Found> {
        let held = self.deliveries.iter().find(|held| held.new.id == id);
        held.map(|held| Found::Kept(Box::new(self.events[held.event].clone())))
            .or_else(|| {
                let (_, fingerprint) = self.event_ids.get(&id).filter(|_| self.remembered(id))?;
                Some(Found::Remembered(*fingerprint))
            })
    }

    fn known(&self, id: DeliveryId) -> bool {
        self.deliveries.iter().any(|held| held.new.id == id) || self.remembered(id)
    }

    fn remembered(&self, id: DeliveryId) -> bool {
        self.event_ids
            .get(&id)
            .is_some_and(|(expires, _)| *expires > self.running)
    }

    /// The identities added, or why it is refused; then nothing here may be used.
    fn apply(&mut self, unit: &Unit) -> Result<Vec<DeliveryId>, UnitResult> {
        let mut added = Vec::new();
        let mut own = Vec::new();
        let mut all_done = Vec::new();
        for settle in &unit.settle {
            let (settled, done) = self.settle(settle, &mut added)?;
            own.push(settled);
            if let Settle::Done { delivery } = settle
                && done
            {
                all_done.push(*delivery);
            }
        }
        for read in &unit.reads {
            if self.version(&read.key) != read.version {
                return Err(Conflict {
                    store: read.store.clone(),
                    key: read.key.clone(),
                });
            }
        }
        for write in &unit.writes {
            match &write.value {
                Some(value) => _ = self.values.insert(write.key.clone(), (value.clone(), None)),
                None => _ = self.values.remove(&write.key),
            }
        }
        for accepted in &unit.accept {
            self.events.push(accepted.event.clone());
            for new in &accepted.deliveries {
                if new.only_if_last.is_none_or(|last| all_done.contains(&last)) {
                    self.add(new, self.events.len() - 1, &mut added)?;
                }
            }
        }
        self.apply_rest(unit, &own, &added)?;
        Ok(added)
    }

    fn add(
        &mut self,
        new: &NewDelivery,
        event: usize,
        added: &mut Vec<DeliveryId>,
    ) -> Result<(), UnitResult> {
        if self.known(new.id) {
            return Err(Duplicate);
        }
        let died = new
            .dead
            .as_ref()
            .map(|_| new.history.last().map_or(new.accepted, |a| a.ended));
        self.deliveries.push(Held {
            seq: 0,
            new: new.clone(),
            event,
            died,
        });
        added.push(new.id);
        Ok(())
    }

    /// The delivery's identity, and whether all deliveries of its event are done now.
    fn settle(
        &mut self,
        settle: &Settle,
        added: &mut Vec<DeliveryId>,
    ) -> Result<(DeliveryId, bool), UnitResult> {
        let (seq, wants_dead) = match *settle {
            Settle::Done { delivery }
            | Settle::Retry { delivery, .. }
            | Settle::Dead { delivery, .. } => (delivery, false),
            Settle::Redrive { delivery, .. } | Settle::Purge { delivery } => (delivery, true),
        };
        let place = self
            .deliveries
            .iter()
            .position(|held| held.seq == seq)
            .ok_or(Gone)?;
        let held = self.deliveries[place].clone();
        if held.died.is_some() != wants_dead {
            return Err(Gone);
        }
        match settle {
            Settle::Done { .. } => _ = self.deliveries.remove(place),
            Settle::Purge { .. } => {
                self.deliveries.remove(place);
                self.spoiled.insert(held.event);
            }
            Settle::Redrive { new, .. } => {
                self.deliveries.remove(place);
                self.add(new, held.event, added)?;
            }
            Settle::Retry { due, record, .. } => {
                let held = &mut self.deliveries[place];
                held.new.due = *due;
                held.new.history.push(record.clone());
            }
            Settle::Dead { cause, record, .. } => {
                let held = &mut self.deliveries[place];
                held.died = Some(record.ended);
                held.new.dead = Some((*cause, record.reason.clone()));
                held.new.history.push(record.clone());
            }
        }
        let others = self
            .deliveries
            .iter()
            .any(|other| other.event == held.event);
        let spoiled = self.spoiled.contains(&held.event);
        Ok((
            held.new.id,
            matches!(settle, Settle::Done { .. }) && !others && !spoiled,
        ))
    }

    fn apply_rest(
        &mut self,
        unit: &Unit,
        own: &[DeliveryId],
        added: &[DeliveryId],
    ) -> Result<(), UnitResult> {
        let holds = |holds: bool| if holds { Ok(()) } else { Err(Duplicate) };
        for step in &unit.ledger {
            let key = &step.to.key;
            holds(self.ledger.get(key) == step.from.as_ref())?;
            self.ledger.insert(key.clone(), step.to.clone());
            if self
                .written
                .get(key)
                .is_some_and(|(etag, _)| Some(etag) == step.to.etag.as_ref())
            {
                self.written.remove(key);
            }
        }
        for object in &unit.written {
            let noticed = self
                .ledger
                .get(&object.key)
                .and_then(|entry| entry.etag.as_ref());
            if noticed != Some(&object.etag) {
                self.written
                    .insert(object.key.clone(), (object.etag.clone(), object.hops));
            }
        }
        for remember in &unit.event_ids {
            let id = remember.delivery;
            let here = self.deliveries.iter().any(|held| held.new.id == id);
            holds(!self.remembered(id) && (!here || own.contains(&id) || added.contains(&id)))?;
            let expires = self.running + remember.window;
            self.event_ids.insert(id, (expires, remember.fingerprint));
        }
        for done in &unit.keys {
            let known = self.keys.get(&done.key);
            holds(known.is_none_or(|known| known.expires <= done.completed))?;
            self.keys.insert(done.key.clone(), done.clone());
        }
        for step in &unit.cursors {
            holds(self.cursor == step.from)?;
            self.cursor = Some(step.to.clone());
        }
        for step in &unit.offsets {
            let (stands, above) = self.offsets.clone().unwrap_or((i64::MIN, BTreeSet::new()));
            let fresh = |offset: &i64| *offset >= stands && !above.contains(offset);
            holds(step.completed.iter().all(fresh))?;
            holds(!step.completed.is_empty() || step.watermark > stands)?;
            let watermark = stands.max(step.watermark);
            let mut all = above;
            all.extend(&step.completed);
            self.offsets = Some((watermark, all.split_off(&watermark)));
        }
        self.usage += unit.usage.as_ref().map_or(0, |usage| usage.invocations);
        Ok(())
    }

    /// Asks the store for the versions of what was written.
    pub async fn learn_versions(&mut self, store: &Store) {
        for (key, (value, version)) in &mut self.values {
            if version.is_none() {
                let found = store.journal().kv_get("s", key).await.unwrap().unwrap();
                assert_eq!(found.value, *value);
                assert!(
                    self.versions.insert(found.version),
                    "the version {} again",
                    found.version
                );
                *version = Some(found.version);
            }
        }
    }

    /// Compares all that can be read.
    pub async fn compare(&self, store: &Store) {
        let journal = store.journal();
        let mut free = self.free();
        free.sort_by_key(|one| (one.due, one.seq));
        let mut busy = Vec::new();
        for trigger in ["t0", "t1"] {
            let mut expected = free.clone();
            expected.retain(|one| one.trigger == trigger);
            assert_eq!(store.pending(trigger).await, expected);
            let of = |held: &&Held| held.died.is_none() && held.new.trigger == trigger;
            let count = self.deliveries.iter().filter(of).count() as u64;
            assert_eq!(journal.is_busy(trigger).await.unwrap(), count > 0);
            if count > 0 {
                busy.push((trigger.to_owned(), count));
            }
            for event in 0..12 {
                let id = id(trigger, &event.to_string());
                assert_eq!(journal.find(id).await.unwrap(), self.find(id));
            }
        }
        assert_eq!(journal.pending_triggers().await.unwrap(), busy);
        for held in &self.deliveries {
            let delivery = match held.died {
                None => journal.delivery(held.seq).await.unwrap().unwrap(),
                Some(died) => {
                    let letter = journal.dead_letter(held.new.id).await.unwrap().unwrap();
                    assert_eq!((letter.died, &letter.history), (died, &held.new.history));
                    let dead: Option<(Cause, String)> = Some((letter.cause, letter.reason));
                    assert_eq!(dead, held.new.dead);
                    letter.delivery
                }
            };
            assert_eq!((delivery.seq, delivery.id), (held.seq, held.new.id));
            assert_eq!(delivery.event, self.events[held.event]);
            assert_eq!(delivery.attempts as usize, held.new.history.len());
            assert_eq!(
                (delivery.due, delivery.redrive, delivery.remember),
                (held.new.due, held.new.redrive, held.new.remember)
            );
            assert_eq!(
                (&delivery.lane, &delivery.key),
                (&held.new.lane, &held.new.key)
            );
        }
        let stats = journal.stats().await.unwrap();
        let dead = self
            .deliveries
            .iter()
            .filter(|held| held.died.is_some())
            .count();
        let counts = (stats.pending as usize, stats.dead as usize);
        assert_eq!(counts, (self.deliveries.len() - dead, dead));

        for name in ["0", "1", "2"] {
            let value = journal.kv_get("s", name).await.unwrap();
            let expected = self
                .values
                .get(name)
                .map(|(value, version)| (value, version.unwrap()));
            assert_eq!(
                value.as_ref().map(|found| (&found.value, found.version)),
                expected
            );
            let entries = journal.ledger("b", vec![name.to_owned()]).await.unwrap();
            assert_eq!(entries.first(), self.ledger.get(name));
            for etag in ["0", "1", "2"] {
                let written = self.written.get(name).filter(|written| written.0 == etag);
                let hops = journal.hops("b", name, etag).await.unwrap();
                assert_eq!(hops, written.map(|written| written.1));
            }
            for later in [0, 5, 20] {
                let now = self.now.plus(Duration::from_millis(later));
                let known = self.keys.get(name).filter(|known| known.expires > now);
                let found = journal.key_done("t0", name, now).await.unwrap();
                assert_eq!(found.as_ref(), known);
            }
        }
        assert_eq!(journal.cursor("c").await.unwrap(), self.cursor);
        let offsets = self.offsets.clone().map(|(watermark, above)| {
            let completed = Vec::from_iter(above);
            Progress {
                watermark,
                stamp: Some(watermark),
                completed,
            }
        });
        let partition = PartitionOf {
            trigger: "t0".into(),
            group: "g".into(),
            partition: "p".into(),
        };
        assert_eq!(journal.progress(&partition).await.unwrap(), offsets);
        let usage = journal.usage(UsageFilter::default()).await.unwrap();
        assert_eq!(
            usage.first().map_or(0, |usage| usage.invocations),
            self.usage
        );
    }
}
