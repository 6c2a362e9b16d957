//! The host side of one attempt: reads go to the journal and the buckets, writes stay here until
//! the attempt has ended, and reads see them.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tidemill_config::plan::Allow;
use tidemill_core::{
    BoxFuture,
    event::{Event, Field, OWN},
    host::{BatchCalls, ByteRange, HostCalls, HostError, LogLevel, NewEvent},
    identity::DeliveryId,
    ledger::Object,
};
use tidemill_journal::Journal;
use tidemill_sandbox::Spare;

use super::{
    effects::Effects,
    locks::{KeyLocks, StoreKey},
};
use crate::{clock, functions::Deployed, objects::Objects, trace};

/// How many keys or objects one call lists at most.
const PAGE: usize = 1000;

/// The object that triggered an attempt.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// The bucket's name.
    pub bucket: String,
    /// The object's key.
    pub key: String,
    /// The version that the event tells of; reads of another one fail.
    pub etag: Option<String>,
}

/// What attempts of a function work with.
pub struct Tools {
    pub(super) function: Arc<Deployed>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) objects: Arc<Objects>,
    pub(super) locks: KeyLocks,
    /// What one that has ended leaves for the next one.
    pub(super) spare: Spare,
}

/// The host of one attempt.
pub struct AttemptHost {
    pub(super) tools: Arc<Tools>,
    /// The keys whose locks this attempt holds, after a conflict.
    pub(super) held: BTreeSet<StoreKey>,
    /// Its events, at least one.
    pub(super) events: Vec<HostEvent>,
    pub(super) effects: Mutex<Effects>,
}

/// What the host must know of an event.
pub struct HostEvent {
    pub(super) delivery: DeliveryId,
    pub(super) attempt: u32,
    pub(super) traceparent: Option<String>,
    pub(super) hops: u32,
    pub(super) trigger: Option<Trigger>,
}

impl AttemptHost {
    /// What the attempt did, once its handler has ended.
    pub fn take_effects(&self) -> Effects {
        std::mem::take(&mut *self.effects())
    }

    fn effects(&self) -> MutexGuard<'_, Effects> {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allow(&self) -> &Allow {
        &self.tools.function.plan.allow
    }

    /// The refusal that names the line which would give the grant.
    fn denied(&self, act: &str, what: &str, grant: &str) -> HostError {
        let function = &self.tools.function.plan.name;
        HostError::Denied(format!(
            "function `{function}` may not {act} `{what}`: to let it, add \"{what}\" to \
             allow.{grant} of [functions.{function}]"
        ))
    }

    /// The event that the handler is at; none, if it is at none of its batch yet.
    fn event(&self) -> Option<&HostEvent> {
        let current = self.effects().current()?;
        self.events.get(current)
    }

    /// The object that triggered, if this is one.
    fn triggering<'a>(&'a self, bucket: &str, key: &str) -> Option<&'a Trigger> {
        let is_it = |trigger: &&'a Trigger| trigger.bucket == bucket && trigger.key == key;
        let of = |event: &'a HostEvent| event.trigger.as_ref().filter(is_it);
        match self.event() {
            Some(event) => of(event),
            // Before any event is begun, what is read is read for all.
            None => self.events.iter().find_map(of),
        }
    }

    fn may_read(&self, bucket: &str, key: &str) -> Result<(), HostError> {
        let read = &self.allow().read;
        let granted = read.iter().any(|name| name == bucket)
            || (read.iter().any(|name| name == "@event") && self.triggering(bucket, key).is_some());
        if granted {
            Ok(())
        } else {
            Err(self.denied("read bucket", bucket, "read"))
        }
    }

    /// The version to insist on, if this is the object that triggered.
    fn pinned(&self, bucket: &str, key: &str) -> Option<&str> {
        self.triggering(bucket, key)?.etag.as_deref()
    }

    /// Takes note if the object that triggered is not the one of the event any more.
    fn note_superseded(&self, pinned: bool, error: HostError) -> HostError {
        if pinned && matches!(error, HostError::NotFound | HostError::Changed) {
            self.effects().supersede();
        }
        error
    }

    async fn read_key(&self, store: &str, key: &str) -> Result<Option<Bytes>, HostError> {
        let place = (store.to_owned(), key.to_owned());
        if let Some(value) = self.effects().known_key(&place) {
            return Ok(value);
        }
        if !self.held.contains(&place) {
            self.tools.locks.until_free(store, key).await;
        }
        let found = self
            .tools
            .journal
            .kv_get(store, key)
            .await
            .map_err(failed)?;
        let (version, value) = match found {
            Some(found) => (found.version, Some(found.value)),
            None => (0, None),
        };
        self.effects().read_key(place, version, value.clone());
        Ok(value)
    }

    /// What the journal has and this attempt did not delete, and what it wrote itself.
    async fn list_keys(&self, store: &str, after: Option<&str>) -> Result<Vec<String>, HostError> {
        let mut keys = BTreeSet::new();
        let mut from = after.map(str::to_owned);
        let end = loop {
            let stored = self.tools.journal.kv_keys(store, from, PAGE).await;
            let stored = stored.map_err(failed)?;
            let last = stored.last().filter(|_| stored.len() == PAGE).cloned();
            keys.extend(stored);
            for (key, there) in self.effects().written_keys(store) {
                if !there {
                    keys.remove(&key);
                }
            }
            if last.is_none() || keys.len() >= PAGE {
                break last;
            }
            from = last;
        };
        for (key, there) in self.effects().written_keys(store) {
            let follows = after.is_none_or(|after| key.as_str() > after);
            if there && follows && end.as_ref().is_none_or(|end| key <= *end) {
                keys.insert(key);
            }
        }
        Ok(keys.into_iter().take(PAGE).collect())
    }

    async fn read_object(
        &self,
        bucket: &str,
        key: &str,
        range: Option<ByteRange>,
        limit: u64,
    ) -> Result<Bytes, HostError> {
        self.may_read(bucket, key)?;
        let own = self
            .effects()
            .own_object(&(bucket.to_owned(), key.to_owned()));
        if let Some(own) = own {
            return own.map(|content| slice(content, range));
        }
        let pinned = self.pinned(bucket, key);
        let read = self
            .tools
            .objects
            .read(bucket, key, range, pinned, limit)
            .await;
        read.map_err(|error| self.note_superseded(pinned.is_some(), error))
    }

    async fn describe_object(&self, bucket: &str, key: &str) -> Result<Object, HostError> {
        self.may_read(bucket, key)?;
        let own = self
            .effects()
            .own_object(&(bucket.to_owned(), key.to_owned()));
        if let Some(own) = own {
            return own.map(|content| Object {
                key: key.to_owned(),
                etag: String::new(),
                size: content.len() as u64,
                modified: clock::now(),
            });
        }
        let pinned = self.pinned(bucket, key);
        let found = self.tools.objects.head(bucket, key).await;
        let found = found.and_then(|object| match pinned {
            Some(etag) if etag != object.etag => Err(HostError::Changed),
            _ => Ok(object),
        });
        found.map_err(|error| self.note_superseded(pinned.is_some(), error))
    }
}

impl HostCalls for AttemptHost {
    fn kv_open(&self, store: &str) -> Result<(), HostError> {
        let granted = self.allow().store.iter().any(|name| name == store);
        if granted {
            Ok(())
        } else {
            Err(self.denied("use store", store, "store"))
        }
    }

    fn kv_get<'a>(
        &'a self,
        store: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, HostError>> {
        Box::pin(self.read_key(store, key))
    }

    fn kv_set(&self, store: &str, key: &str, value: Option<Bytes>) -> Result<(), HostError> {
        let place = (store.to_owned(), key.to_owned());
        self.effects().write_key(place, value);
        Ok(())
    }

    fn kv_keys<'a>(
        &'a self,
        store: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<String>, HostError>> {
        Box::pin(self.list_keys(store, after))
    }

    fn object_head<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Object, HostError>> {
        Box::pin(self.describe_object(bucket, key))
    }

    fn object_read<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        range: Option<ByteRange>,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, HostError>> {
        Box::pin(self.read_object(bucket, key, range, limit))
    }

    fn object_write(
        &self,
        bucket: &str,
        key: &str,
        content: Option<Bytes>,
    ) -> Result<(), HostError> {
        if !self.allow().write.iter().any(|name| name == bucket) {
            return Err(self.denied("write bucket", bucket, "write"));
        }
        self.tools.objects.check_key(bucket, key)?;
        let place = (bucket.to_owned(), key.to_owned());
        self.effects().write_object(place, content);
        Ok(())
    }

    fn object_list<'a>(
        &'a self,
        bucket: &'a str,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Object>, HostError>> {
        Box::pin(async move {
            // A list shows every key, so the grant of the one object that triggered is not enough.
            if !self.allow().read.iter().any(|name| name == bucket) {
                return Err(self.denied("list bucket", bucket, "read"));
            }
            self.tools.objects.list(bucket, prefix, after, PAGE).await
        })
    }

    fn emit(&self, event: NewEvent) -> Result<String, HostError> {
        if !self.allow().emit.contains(&event.kind) {
            return Err(self.denied("emit", &event.kind, "emit"));
        }
        let mut effects = self.effects();
        let begun = effects.current();
        let Some((begun, parent)) = begun.and_then(|n| Some((n, self.events.get(n)?))) else {
            let text = "an event of the batch must be begun first".to_owned();
            return Err(HostError::Denied(text));
        };
        let count = u32::try_from(effects.emitted(begun).len()).unwrap_or(u32::MAX);
        let id = parent.delivery.emitted(count);
        effects.emit(Event {
            id: id.clone(),
            source: format!("function:{}", self.tools.function.plan.name),
            kind: event.kind,
            subject: event.subject,
            time: clock::now(),
            datacontenttype: event.datacontenttype,
            traceparent: parent.traceparent.clone(),
            hops: parent.hops + 1,
            headers: event
                .headers
                .into_iter()
                .filter(|(name, _)| !name.starts_with(OWN))
                .collect(),
            data: event.data,
        });
        Ok(id)
    }

    fn log(&self, level: LogLevel, message: &str, fields: &[Field]) {
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let function = &self.tools.function.plan.name;
        // What is said before any event of a batch is begun is said of the first one, too.
        let event = self.event().unwrap_or(&self.events[0]);
        let (delivery, attempt) = (event.delivery, event.attempt);
        let trace = trace::trace_id(event.traceparent.as_deref());
        let fields = fields.join(" ");
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: "handler", %function, %delivery, attempt, trace, fields, "{message}")
            };
        }
        match level {
            LogLevel::Trace => line!(trace),
            LogLevel::Debug => line!(debug),
            LogLevel::Info => line!(info),
            LogLevel::Warn => line!(warn),
            LogLevel::Error => line!(error),
        }
    }
}

impl BatchCalls for AttemptHost {
    fn begin(&self, event: usize) {
        self.effects().begin(event);
    }

    fn discard(&self, event: usize) {
        self.effects().discard(event);
    }
}

fn failed(error: tidemill_journal::JournalError) -> HostError {
    HostError::Failed(error.to_string())
}

fn slice(content: Bytes, range: Option<ByteRange>) -> Bytes {
    let Some(range) = range else { return content };
    let end = range
        .offset
        .saturating_add(range.length)
        .min(content.len() as u64);
    let start = range.offset.min(end);
    content.slice(start as usize..end as usize)
}
