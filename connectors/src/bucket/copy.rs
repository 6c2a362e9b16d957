//! Copying and moving an object from bucket to bucket, by way of this process: a hard link would
//! be faster, but a later write into the one file would then change the other.

use object_store::MultipartUpload;
use tidemill_core::host::ByteRange;

use super::{
    error::Error,
    store::{self, Bucket},
};

/// The bytes that a copy keeps in memory at a time.
const CHUNK: u64 = 8 << 20;

/// The most parts that S3 takes: objects of more chunks are copied in larger ones.
const PARTS: u64 = 10_000;

impl Bucket {
    /// Copies the version `etag` of an object and returns the etag of the copy, which carries `hops`. Whatever was at
    /// `to_key` is replaced at once, when all of the copy is durable; no other version is ever
    /// copied.
    pub async fn copy(
        &self,
        key: &str,
        etag: &str,
        to: &Bucket,
        to_key: &str,
        hops: u32,
    ) -> Result<String, Error> {
        let object = self.head(key).await?;
        if object.etag != etag {
            return Err(self.changed(key));
        }
        if object.size <= CHUNK {
            let content = self.read(key, Some(etag), None, CHUNK).await?;
            return to.put(to_key, content, hops).await;
        }
        let mut upload = to.upload(to_key, hops).await?;
        match self
            .fill(&object.key, etag, object.size, upload.as_mut(), to, to_key)
            .await
        {
            Ok(()) => {
                let put = upload.complete().await;
                put.map(store::etag).map_err(|e| to.failed_write(to_key, e))
            }
            Err(error) => {
                // What is left of a failed abort is named as an unfinished write, and reported.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }

    async fn fill(
        &self,
        key: &str,
        etag: &str,
        size: u64,
        upload: &mut dyn MultipartUpload,
        to: &Bucket,
        to_key: &str,
    ) -> Result<(), Error> {
        let length = CHUNK.max(size.div_ceil(PARTS));
        let mut offset = 0;
        while offset < size {
            let range = ByteRange { offset, length };
            let part = self.read(key, Some(etag), Some(range), length).await?;
            offset += part.len() as u64;
            let put = upload.put_part(part.into()).await;
            put.map_err(|e| to.failed_write(to_key, e))?;
        }
        Ok(())
    }
}
