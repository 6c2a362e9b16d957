//! Copying and moving an object from bucket to bucket, by way of this process: a hard link would
//! be faster, but a later write into the one file would then change the other.

use object_store::{MultipartUpload, ObjectStoreExt};
use tidemill_core::host::ByteRange;

use super::{error::Error, key, store::Bucket};

/// The bytes that a copy keeps in memory at a time.
const CHUNK: u64 = 8 << 20;

impl Bucket {
    /// Copies the version `etag` of an object and returns the etag of the copy. Whatever was at
    /// `to_key` is replaced at once, when all of the copy is durable; no other version is ever
    /// copied.
    pub async fn copy(
        &self,
        key: &str,
        etag: &str,
        to: &Bucket,
        to_key: &str,
    ) -> Result<String, Error> {
        let object = self.head(key).await?;
        if object.etag != etag {
            return Err(self.changed(key));
        }
        if object.size <= CHUNK {
            let content = self.read(key, Some(etag), None, CHUNK).await?;
            return to.put(to_key, content).await;
        }
        let path = to.pass_to_write(to_key).await?;
        let failed = |e| to.failed_write(to_key, e);
        let mut upload = to.store().put_multipart(&path).await.map_err(failed)?;
        match self
            .fill(&object.key, etag, object.size, upload.as_mut(), to, to_key)
            .await
        {
            Ok(()) => {
                let put = upload.complete().await.map_err(failed)?;
                Ok(key::plain(&put.e_tag.unwrap_or_default()))
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
        let mut offset = 0;
        while offset < size {
            let range = ByteRange {
                offset,
                length: CHUNK,
            };
            let part = self.read(key, Some(etag), Some(range), CHUNK).await?;
            offset += part.len() as u64;
            let put = upload.put_part(part.into()).await;
            put.map_err(|e| to.failed_write(to_key, e))?;
        }
        Ok(())
    }

    /// Whether the two keys are one and the same file.
    pub(super) fn same_file(&self, key: &str, to: &Bucket, to_key: &str) -> bool {
        self.root().join(key) == to.root().join(to_key)
    }
}
