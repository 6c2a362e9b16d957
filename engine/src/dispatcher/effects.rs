//! What an attempt has done so far: kept with it until it ends, and thrown away for every event whose
//! answer is not ok.
//!
//! An attempt has one event or a batch of them, each named by its index. What is written for one is seen
//! by all; the commit has only what was written for those that it completes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidemill_core::{event::Event, host::HostError};
use tidemill_journal::{KvRead, KvWrite, Version};

use super::locks::StoreKey;

/// A bucket and the key of an object.
pub type ObjectKey = (String, String);

/// What an attempt has read and would write.
#[derive(Default)]
pub struct Effects {
    reads: BTreeMap<StoreKey, (Version, Option<Bytes>)>,
    keys: Written,
    objects: Written,
    /// Those that have something.
    events: BTreeMap<usize, OfEvent>,
    /// The event that effects belong to.
    current: Option<usize>,
}

/// What belongs to one event.
#[derive(Default)]
struct OfEvent {
    emitted: Vec<Event>,
    /// The object that triggered is gone or is another one now.
    superseded: bool,
    /// Whose writes it has read.
    read_from: BTreeSet<usize>,
}

/// What was written for an event: a value, or that there is none.
type Value = (usize, Option<Bytes>);

/// Values by their places, the latest last.
#[derive(Default)]
struct Written(BTreeMap<(String, String), Vec<Value>>);

impl Written {
    fn insert(&mut self, place: (String, String), by: usize, value: Option<Bytes>) {
        let values = self.0.entry(place).or_default();
        match values.last_mut() {
            Some((same, last)) if *same == by => *last = value,
            _ => values.push((by, value)),
        }
    }

    fn last(&self, place: &(String, String)) -> Option<&Value> {
        self.0.get(place)?.last()
    }

    fn discard(&mut self, event: usize) {
        self.0.retain(|_, values| {
            values.retain(|(by, _)| *by != event);
            !values.is_empty()
        });
    }

    /// The last value of each place, if only these had written.
    fn of<'w>(
        &'w self,
        events: &'w BTreeSet<usize>,
    ) -> impl Iterator<Item = (&'w (String, String), usize, &'w Option<Bytes>)> {
        self.0.iter().filter_map(move |(place, values)| {
            let mut own = values.iter().rev().filter(|(by, _)| events.contains(by));
            own.next().map(|(by, value)| (place, *by, value))
        })
    }
}

impl Effects {
    /// Those of an attempt with so many events. One alone is begun.
    pub fn new(events: usize) -> Effects {
        Effects {
            current: (events == 1).then_some(0),
            ..Effects::default()
        }
    }

    /// The event that effects belong to, if one was begun.
    pub fn current(&self) -> Option<usize> {
        self.current
    }

    /// From here on, effects belong to this event.
    pub fn begin(&mut self, event: usize) {
        self.current = Some(event);
    }

    /// Forgets what was written and emitted for an event.
    pub fn discard(&mut self, event: usize) {
        self.keys.discard(event);
        self.objects.discard(event);
        if let Some(own) = self.events.get_mut(&event) {
            own.emitted.clear();
        }
    }

    /// What the attempt knows of a key: by its own write, or by an earlier read.
    pub fn known_key(&mut self, place: &StoreKey) -> Option<Option<Bytes>> {
        if let Some((by, value)) = self.keys.last(place) {
            let (by, value) = (*by, value.clone());
            self.read_from(by);
            return Some(value);
        }
        self.reads.get(place).map(|(_, value)| value.clone())
    }

    /// Takes note of what was read.
    pub fn read_key(&mut self, place: StoreKey, version: Version, value: Option<Bytes>) {
        self.reads.insert(place, (version, value));
    }

    /// What the attempt itself made of an object, if it did: its content, or that it is gone.
    pub fn own_object(&mut self, place: &ObjectKey) -> Option<Result<Bytes, HostError>> {
        let (by, content) = self.objects.last(place)?;
        let (by, content) = (*by, content.clone());
        self.read_from(by);
        Some(content.ok_or(HostError::NotFound))
    }

    /// Writes a key, or deletes it.
    pub fn write_key(&mut self, place: StoreKey, value: Option<Bytes>) {
        if let Some(current) = self.current {
            self.keys.insert(place, current, value);
        }
    }

    /// Writes an object, or deletes it.
    pub fn write_object(&mut self, place: ObjectKey, content: Option<Bytes>) {
        if let Some(current) = self.current {
            self.objects.insert(place, current, content);
        }
    }

    /// Emits an event.
    pub fn emit(&mut self, event: Event) {
        if let Some(own) = self.own() {
            own.emitted.push(event);
        }
    }

    /// The object that triggered is gone or is another one now.
    pub fn supersede(&mut self) {
        if let Some(own) = self.own() {
            own.superseded = true;
        }
    }

    /// The keys of a store that were written, and whether each is there now.
    pub fn written_keys(&mut self, store: &str) -> Vec<(String, bool)> {
        let from = (store.to_owned(), String::new());
        let own = self.keys.0.range(from..);
        let own = own.take_while(|((other, _), _)| other == store);
        let (mut found, mut by) = (Vec::new(), BTreeSet::new());
        for ((_, key), values) in own {
            if let Some((who, value)) = values.last() {
                by.insert(*who);
                found.push((key.clone(), value.is_some()));
            }
        }
        by.into_iter().for_each(|by| self.read_from(by));
        found
    }

    /// Whether no key was read or written.
    pub fn is_without_keys(&self) -> bool {
        self.reads.is_empty() && self.keys.0.is_empty()
    }

    /// Whether no object was written or deleted.
    pub fn is_without_objects(&self) -> bool {
        self.objects.0.is_empty()
    }

    /// The keys that were read or written.
    pub fn touched(&self) -> BTreeSet<StoreKey> {
        let written = self.keys.0.keys();
        self.reads.keys().chain(written).cloned().collect()
    }

    /// What the commit must find unchanged.
    pub fn reads(&self) -> Vec<KvRead> {
        let read = |((store, key), (version, _)): (&StoreKey, &(Version, Option<Bytes>))| KvRead {
            store: store.clone(),
            key: key.clone(),
            version: *version,
        };
        self.reads.iter().map(read).collect()
    }

    /// What the commit writes for these events.
    pub fn writes(&self, events: &BTreeSet<usize>) -> Vec<KvWrite> {
        let write = |((store, key), _, value): (&StoreKey, usize, &Option<Bytes>)| KvWrite {
            store: store.clone(),
            key: key.clone(),
            value: value.clone(),
        };
        self.keys.of(events).map(write).collect()
    }

    /// The objects to write or to delete for these events, each with the event it is for.
    pub fn objects<'e>(
        &'e self,
        events: &'e BTreeSet<usize>,
    ) -> impl Iterator<Item = (&'e ObjectKey, usize, &'e Option<Bytes>)> {
        self.objects.of(events)
    }

    /// The events that were emitted for this one.
    pub fn emitted(&self, event: usize) -> &[Event] {
        self.events.get(&event).map_or(&[], |own| &own.emitted)
    }

    /// Whether the object that triggered this event is gone or is another one now.
    pub fn is_superseded(&self, event: usize) -> bool {
        self.events.get(&event).is_some_and(|own| own.superseded)
    }

    /// Takes from these events all that have read, directly or not, what was written for another one
    /// that is not among them.
    pub fn keep_sound(&self, events: &mut BTreeSet<usize>) {
        loop {
            let sound = |event: &usize| {
                let own = self.events.get(event);
                own.is_none_or(|own| own.read_from.is_subset(events))
            };
            let left: BTreeSet<usize> = events.iter().copied().filter(sound).collect();
            if left.len() == events.len() {
                return;
            }
            *events = left;
        }
    }

    /// What belongs to the event that is current.
    fn own(&mut self) -> Option<&mut OfEvent> {
        Some(self.events.entry(self.current?).or_default())
    }

    fn read_from(&mut self, by: usize) {
        // What is read before any event is begun was written by none.
        if let Some(own) = self.own() {
            own.read_from.insert(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: &str) -> StoreKey {
        ("store".into(), key.into())
    }

    fn value(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    fn written(effects: &Effects, events: &[usize]) -> Vec<(String, Option<Bytes>)> {
        let events = events.iter().copied().collect();
        let writes = effects.writes(&events).into_iter();
        writes.map(|write| (write.key, write.value)).collect()
    }

    fn sound(effects: &Effects, events: &[usize]) -> Vec<usize> {
        let mut events = events.iter().copied().collect();
        effects.keep_sound(&mut events);
        events.into_iter().collect()
    }

    #[test]
    fn the_last_write_of_those_that_are_ok_counts() {
        let mut effects = Effects::new(3);
        for (event, text) in [(2, "two"), (0, "zero"), (1, "one"), (0, "zero again")] {
            effects.begin(event);
            effects.write_key(place("a"), value(text));
        }
        assert_eq!(
            written(&effects, &[0, 1, 2]),
            [("a".into(), value("zero again"))]
        );
        assert_eq!(written(&effects, &[1, 2]), [("a".into(), value("one"))]);
        assert_eq!(written(&effects, &[2]), [("a".into(), value("two"))]);
        assert_eq!(written(&effects, &[]), []);
        effects.discard(0);
        assert_eq!(effects.known_key(&place("a")), Some(value("one")));
        assert_eq!(written(&effects, &[0, 2]), [("a".into(), value("two"))]);
    }

    #[test]
    fn who_read_what_a_failed_one_wrote_is_not_sound() {
        let mut effects = Effects::new(4);
        effects.begin(0);
        effects.write_key(place("a"), value("0"));
        effects.begin(1);
        assert_eq!(effects.known_key(&place("a")), Some(value("0")));
        effects.write_key(place("b"), value("1"));
        effects.begin(2);
        assert_eq!(effects.written_keys("store").len(), 2);
        effects.begin(3);
        effects.write_key(place("b"), value("3"));
        assert_eq!(effects.known_key(&place("b")), Some(value("3")));
        assert_eq!(effects.known_key(&place("c")), None);
        assert_eq!(sound(&effects, &[0, 1, 2, 3]), [0, 1, 2, 3]);
        // The list that 2 saw had a key of 1.
        assert_eq!(sound(&effects, &[0, 2, 3]), [0, 3]);
        assert_eq!(sound(&effects, &[1, 2, 3]), [3]);
    }

    #[test]
    fn one_alone_is_begun() {
        let mut effects = Effects::new(1);
        effects.write_key(place("a"), None);
        assert_eq!(written(&effects, &[0]), [("a".into(), None)]);
        let mut effects = Effects::new(2);
        effects.write_key(place("a"), None);
        assert_eq!(written(&effects, &[0, 1]), []);
    }
}
