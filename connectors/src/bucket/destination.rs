//! What is done in buckets after a commit: an object that was handled is deleted or moved, if it is
//! still the version that was handled, and replies and dead letters become objects. An object that
//! changed since has an event of its own and is left alone.
//!
//! The check and the deletion are two steps: a file that is replaced between them, within
//! microseconds in a folder and a round trip in an object store, is lost with the version it
//! replaced. object_store has no conditional deletes that would close the gap.

use std::{collections::BTreeMap, sync::Arc};

use tidemill_core::{
    BoxFuture,
    destination::{Destination, OutboxAction, PublishError},
    event::Event,
};

use super::{error::Error, store::Bucket};

/// Is told of every write before it begins: bucket, key, and the hops of the event that the write
/// will cause.
pub type BeforeWrite = Arc<dyn Fn(&str, &str, u32) + Send + Sync>;

/// The destination of all actions that end in a bucket.
pub struct BucketDestination {
    buckets: BTreeMap<String, Bucket>,
    before_write: BeforeWrite,
}

impl BucketDestination {
    /// Acts on these buckets, by their names in the plan.
    pub fn new(
        buckets: impl IntoIterator<Item = Bucket>,
        before_write: BeforeWrite,
    ) -> BucketDestination {
        let named = |bucket: Bucket| (bucket.name().to_owned(), bucket);
        BucketDestination {
            buckets: buckets.into_iter().map(named).collect(),
            before_write,
        }
    }

    fn bucket(&self, name: &str) -> Result<&Bucket, PublishError> {
        let unknown =
            || PublishError::Rejected(format!("the plan has no bucket `{name}` any more"));
        self.buckets.get(name).ok_or_else(unknown)
    }

    async fn carry_out(&self, action: &OutboxAction, event: &Event) -> Result<(), PublishError> {
        match action {
            OutboxAction::DeleteObject { bucket, key, etag } => {
                self.delete(self.bucket(bucket)?, key, etag).await
            }
            OutboxAction::MoveObject {
                bucket,
                key,
                etag,
                to_bucket,
                to_key,
            } => {
                let (from, to) = (self.bucket(bucket)?, self.bucket(to_bucket)?);
                if from.is_same(key, to, to_key) {
                    let text =
                        format!("object `{key}` of bucket `{bucket}` cannot move onto itself");
                    return Err(PublishError::Rejected(text));
                }
                match from.head(key).await {
                    Ok(object) if object.etag == *etag => {}
                    // Moved by an earlier attempt, deleted, or changed and on its way again.
                    Ok(_) | Err(Error::NotFound { .. }) => {
                        tracing::debug!(bucket, key, etag, "nothing to move: gone or changed");
                        return Ok(());
                    }
                    Err(error) => return Err(publish_error(error)),
                }
                let hops = event.hops.saturating_add(1);
                (self.before_write)(to_bucket, to_key, hops);
                match from.copy(key, etag, to, to_key, hops).await {
                    Ok(_) => self.delete(from, key, etag).await,
                    Err(error) if is_gone_or_changed(&error, bucket, key) => {
                        tracing::debug!(bucket, key, etag, "not moved: gone or changed meanwhile");
                        Ok(())
                    }
                    Err(error) => Err(publish_error(error)),
                }
            }
            OutboxAction::PutObject { bucket, key } => {
                let to = self.bucket(bucket)?;
                (self.before_write)(bucket, key, event.hops);
                let written = to.put(key, event.data.clone(), event.hops).await;
                written.map(drop).map_err(publish_error)
            }
            OutboxAction::Post { trigger, .. }
            | OutboxAction::PublishAmqp { trigger, .. }
            | OutboxAction::PublishKafka { trigger, .. } => Err(PublishError::Rejected(format!(
                "what trigger `{trigger}` sends does not go to a bucket"
            ))),
        }
    }

    async fn delete(&self, bucket: &Bucket, key: &str, etag: &str) -> Result<(), PublishError> {
        match bucket.delete(key, Some(etag)).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(Error::Changed { .. }) => {
                tracing::debug!(
                    bucket = bucket.name(),
                    key,
                    etag,
                    "not deleted: gone or changed"
                );
                Ok(())
            }
            Err(error) => Err(publish_error(error)),
        }
    }
}

/// Whether it is the object itself, and not its target, that went or changed.
fn is_gone_or_changed(error: &Error, of: &str, at: &str) -> bool {
    matches!(
        error,
        Error::NotFound { bucket, key } | Error::Changed { bucket, key } if bucket == of && key == at
    )
}

fn publish_error(error: Error) -> PublishError {
    match error {
        Error::Refused { .. } | Error::TooLarge { .. } => PublishError::Rejected(error.chain()),
        _ => PublishError::Failed(error.chain()),
    }
}

impl Destination for BucketDestination {
    fn publish<'a>(
        &'a self,
        action: &'a OutboxAction,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.carry_out(action, event))
    }
}
