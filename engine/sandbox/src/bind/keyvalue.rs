//! `wasi:keyvalue`: the stores of the engine. A bucket of that package is a store here.
//!
//! Increment and compare-and-set are a read and a write of the attempt: the commit validates the version
//! of every key read, so they are atomic without a lock.

use bytes::Bytes;
use tidemill_core::host::{HostError, LogLevel};
use wasmtime::component::Resource;

use super::{
    generated::wasi::keyvalue::{
        atomics::{self, CasError},
        batch,
        store::{self, Error, KeyResponse},
    },
    name,
};
use crate::state::State;

/// How many keys the engine lists at a time. Fewer are the last ones.
const PAGE: usize = 1000;

/// A store that a guest has opened.
pub struct Store {
    name: String,
}

/// A key as a guest saw it, to be swapped if it has not changed.
pub struct Cas {
    store: String,
    key: String,
    current: Option<Bytes>,
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl State {
    async fn get(&mut self, store: &str, key: &str) -> Answer<Option<Bytes>> {
        if let Err(refused) = name("key", key) {
            return Ok(Err(Error::Other(refused)));
        }
        let read = self.host.kv_get(store, key).await;
        self.told(read)
    }

    /// Sets or deletes a key.
    fn put(&mut self, store: &str, key: &str, value: Option<Bytes>) -> Answer<()> {
        if let Err(refused) = name("key", key) {
            return Ok(Err(Error::Other(refused)));
        }
        self.spend(key.len() + value.as_ref().map_or(0, Bytes::len))?;
        let written = self.host.kv_set(store, key, value);
        self.told(written)
    }

    fn name_of(&self, store: &Resource<Store>) -> wasmtime::Result<String> {
        Ok(self.table.get(store)?.name.clone())
    }

    /// The engine's answer in the words of the interface. `access-denied` has no room for the line that
    /// would give the grant, so that goes to the log.
    fn told<T>(&self, answer: Result<T, HostError>) -> Answer<T> {
        Ok(match answer {
            Ok(value) => Ok(value),
            Err(HostError::NotFound) => Err(Error::NoSuchStore),
            Err(HostError::Denied(text)) => {
                self.output.log(LogLevel::Warn, &text, &[])?;
                Err(Error::AccessDenied)
            }
            Err(other) => Err(Error::Other(other.to_string())),
        })
    }
}

impl store::Host for State {
    fn open(&mut self, identifier: String) -> Answer<Resource<Store>> {
        if let Err(refused) = name("store", &identifier) {
            return Ok(Err(Error::Other(refused)));
        }
        let opened = self.host.kv_open(&identifier);
        match self.told(opened)? {
            Ok(()) => Ok(Ok(self.table.push(Store { name: identifier })?)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl store::HostBucket for State {
    async fn get(&mut self, store: Resource<Store>, key: String) -> Answer<Option<Vec<u8>>> {
        let store = self.name_of(&store)?;
        Ok(State::get(self, &store, &key)
            .await?
            .map(|value| value.map(Vec::from)))
    }

    fn set(&mut self, store: Resource<Store>, key: String, value: Vec<u8>) -> Answer<()> {
        let store = self.name_of(&store)?;
        self.put(&store, &key, Some(value.into()))
    }

    fn delete(&mut self, store: Resource<Store>, key: String) -> Answer<()> {
        let store = self.name_of(&store)?;
        self.put(&store, &key, None)
    }

    async fn exists(&mut self, store: Resource<Store>, key: String) -> Answer<bool> {
        let store = self.name_of(&store)?;
        Ok(State::get(self, &store, &key)
            .await?
            .map(|value| value.is_some()))
    }

    async fn list_keys(
        &mut self,
        store: Resource<Store>,
        cursor: Option<String>,
    ) -> Answer<KeyResponse> {
        if let Err(refused) = name("cursor", cursor.as_deref().unwrap_or("")) {
            return Ok(Err(Error::Other(refused)));
        }
        let store = self.name_of(&store)?;
        let listed = self.host.kv_keys(&store, cursor.as_deref()).await;
        Ok(self.told(listed)?.map(|keys| KeyResponse {
            cursor: if keys.len() < PAGE {
                None
            } else {
                keys.last().cloned()
            },
            keys,
        }))
    }

    fn drop(&mut self, store: Resource<Store>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

impl atomics::HostCas for State {
    async fn new(&mut self, store: Resource<Store>, key: String) -> Answer<Resource<Cas>> {
        let store = self.name_of(&store)?;
        match State::get(self, &store, &key).await? {
            Ok(current) => Ok(Ok(self.table.push(Cas {
                store,
                key,
                current,
            })?)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn current(&mut self, cas: Resource<Cas>) -> Answer<Option<Vec<u8>>> {
        Ok(Ok(self.table.get(&cas)?.current.clone().map(Vec::from)))
    }

    fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl atomics::Host for State {
    async fn increment(&mut self, store: Resource<Store>, key: String, delta: i64) -> Answer<i64> {
        let store = self.name_of(&store)?;
        let current = match State::get(self, &store, &key).await? {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        };
        let sum = match add(current.as_deref(), delta) {
            Ok(sum) => sum,
            Err(why) => return Ok(Err(Error::Other(format!("the key `{key}` {why}")))),
        };
        let written = self.put(&store, &key, Some(sum.to_string().into()))?;
        Ok(written.map(|()| sum))
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), CasError>> {
        let Cas {
            store,
            key,
            current: seen,
        } = self.table.delete(cas)?;
        let current = match State::get(self, &store, &key).await? {
            Ok(value) => value,
            Err(error) => return Ok(Err(CasError::StoreError(error))),
        };
        if current != seen {
            let now = self.table.push(Cas {
                store,
                key,
                current,
            })?;
            return Ok(Err(CasError::CasFailed(now)));
        }
        Ok(self
            .put(&store, &key, Some(value.into()))?
            .map_err(CasError::StoreError))
    }
}

impl batch::Host for State {
    async fn get_many(
        &mut self,
        store: Resource<Store>,
        keys: Vec<String>,
    ) -> Answer<Vec<(String, Option<Vec<u8>>)>> {
        let store = self.name_of(&store)?;
        let mut values = Vec::new();
        let mut size = 0;
        for key in keys {
            let value = match State::get(self, &store, &key).await? {
                Ok(value) => value,
                Err(error) => return Ok(Err(error)),
            };
            size += key.len() + value.as_ref().map_or(0, Bytes::len);
            if size as u64 > self.limits.memory {
                let text = "the values are larger than the memory of the function".to_owned();
                return Ok(Err(Error::Other(text)));
            }
            values.push((key, value.map(Vec::from)));
        }
        Ok(Ok(values))
    }

    fn set_many(&mut self, store: Resource<Store>, values: Vec<(String, Vec<u8>)>) -> Answer<()> {
        let store = self.name_of(&store)?;
        for (key, value) in values {
            if let Err(error) = self.put(&store, &key, Some(value.into()))? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn delete_many(&mut self, store: Resource<Store>, keys: Vec<String>) -> Answer<()> {
        let store = self.name_of(&store)?;
        for key in keys {
            if let Err(error) = self.put(&store, &key, None)? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }
}

/// Numbers are kept as decimal text, so that every tool can read them. An absent key counts as zero.
fn add(current: Option<&[u8]>, delta: i64) -> Result<i64, &'static str> {
    let current = match current {
        None => 0,
        Some(value) => std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .ok_or("does not hold a decimal number")?,
    };
    current
        .checked_add(delta)
        .ok_or("would pass the range of a 64-bit number")
}
