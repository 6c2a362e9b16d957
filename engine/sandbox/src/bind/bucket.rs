//! `tidemill:function/bucket`: objects.

use bytes::Bytes;
use tidemill_core::{
    host::{ByteRange, HostError},
    ledger,
};

use super::{
    generated::tidemill::function::bucket::{Error, Host, Object, Range},
    name,
};
use crate::state::State;

impl Host for State {
    async fn head(
        &mut self,
        bucket: String,
        key: String,
    ) -> wasmtime::Result<Result<Object, Error>> {
        if let Err(refused) = names(&bucket, &key) {
            return Ok(Err(refused));
        }
        Ok(self
            .host
            .object_head(&bucket, &key)
            .await
            .map(object)
            .map_err(error))
    }

    async fn read(
        &mut self,
        bucket: String,
        key: String,
        range: Option<Range>,
    ) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        if let Err(refused) = names(&bucket, &key) {
            return Ok(Err(refused));
        }
        let range = range.map(|Range { offset, length }| ByteRange { offset, length });
        // More could never be handed to the guest.
        let limit = self.limits.memory;
        let read = self.host.object_read(&bucket, &key, range, limit).await;
        Ok(read.map(Vec::from).map_err(error))
    }

    fn write(
        &mut self,
        bucket: String,
        key: String,
        content: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        if let Err(refused) = names(&bucket, &key) {
            return Ok(Err(refused));
        }
        self.spend(key.len() + content.len())?;
        Ok(self
            .host
            .object_write(&bucket, &key, Some(Bytes::from(content)))
            .map_err(error))
    }

    fn delete(&mut self, bucket: String, key: String) -> wasmtime::Result<Result<(), Error>> {
        if let Err(refused) = names(&bucket, &key) {
            return Ok(Err(refused));
        }
        self.spend(key.len())?;
        Ok(self.host.object_write(&bucket, &key, None).map_err(error))
    }

    async fn list(
        &mut self,
        bucket: String,
        prefix: String,
        after: Option<String>,
    ) -> wasmtime::Result<Result<Vec<Object>, Error>> {
        let refused = names(&bucket, &prefix)
            .and_then(|()| name("key", after.as_deref().unwrap_or("")).map_err(Error::TooLarge));
        if let Err(refused) = refused {
            return Ok(Err(refused));
        }
        let listed = self
            .host
            .object_list(&bucket, &prefix, after.as_deref())
            .await;
        Ok(listed
            .map(|objects| objects.into_iter().map(object).collect())
            .map_err(error))
    }
}

fn names(bucket: &str, key: &str) -> Result<(), Error> {
    name("bucket", bucket)
        .and_then(|()| name("key", key))
        .map_err(Error::TooLarge)
}

fn object(object: ledger::Object) -> Object {
    Object {
        key: object.key,
        size: object.size,
        etag: object.etag,
        modified_ms: u64::try_from(object.modified.0).unwrap_or(0),
    }
}

fn error(error: HostError) -> Error {
    match error {
        HostError::NotFound => Error::NotFound,
        HostError::Changed => Error::Changed,
        HostError::Denied(text) => Error::Denied(text),
        HostError::TooLarge(text) => Error::TooLarge(text),
        HostError::Failed(text) => Error::Failed(text),
    }
}
