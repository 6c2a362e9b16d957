//! What an attempt has done so far: kept with it until it ends, and thrown away unless it ends ok.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidemill_core::{event::Event, host::HostError};
use tidemill_journal::{KvRead, KvWrite, Version};

use super::locks::StoreKey;

/// What an attempt has read and would write.
#[derive(Default)]
pub struct Effects {
    reads: BTreeMap<StoreKey, (Version, Option<Bytes>)>,
    writes: BTreeMap<StoreKey, Option<Bytes>>,
    /// Objects to write, or to delete, by bucket and key.
    pub objects: BTreeMap<(String, String), Option<Bytes>>,
    /// Events to emit.
    pub emitted: Vec<Event>,
    /// The object that triggered is gone or is another one now.
    pub superseded: bool,
}

impl Effects {
    /// Leaves only what is known of the object that triggered: the attempt failed.
    pub fn throw_away(&mut self) {
        *self = Effects {
            superseded: self.superseded,
            ..Effects::default()
        };
    }

    /// What the attempt knows of a key: by its own write, or by an earlier read.
    pub fn known_key(&self, place: &StoreKey) -> Option<Option<Bytes>> {
        let read = || self.reads.get(place).map(|(_, value)| value);
        self.writes.get(place).or_else(read).cloned()
    }

    /// Takes note of what was read.
    pub fn read_key(&mut self, place: StoreKey, version: Version, value: Option<Bytes>) {
        self.reads.insert(place, (version, value));
    }

    /// What the attempt itself made of an object, if it did: its content, or that it is gone.
    pub fn own_object(&self, bucket: &str, key: &str) -> Option<Result<Bytes, HostError>> {
        let place = (bucket.to_owned(), key.to_owned());
        let content = self.objects.get(&place)?.clone();
        Some(content.ok_or(HostError::NotFound))
    }

    /// Writes a key, or deletes it.
    pub fn write_key(&mut self, place: StoreKey, value: Option<Bytes>) {
        self.writes.insert(place, value);
    }

    /// What was written to a store.
    pub fn written_keys<'a>(
        &'a self,
        store: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Option<Bytes>)> {
        let own = self.writes.iter().filter(move |((s, _), _)| s == store);
        own.map(|((_, key), value)| (key, value))
    }

    /// The keys that were read or written.
    pub fn touched(&self) -> BTreeSet<StoreKey> {
        self.reads
            .keys()
            .chain(self.writes.keys())
            .cloned()
            .collect()
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

    /// What the commit writes.
    pub fn writes(&self) -> Vec<KvWrite> {
        let write = |((store, key), value): (&StoreKey, &Option<Bytes>)| KvWrite {
            store: store.clone(),
            key: key.clone(),
            value: value.clone(),
        };
        self.writes.iter().map(write).collect()
    }
}
