//! Notifications by a queue of SQS.
//!
//! A message is deleted when all it tells of is in the ledger and the journal; until then it is kept
//! from other receivers, half a minute at a time, so that one of an engine that died comes back soon.
//! A message that no object store wrote is left in the queue, and told about once: it is not ours to
//! delete. The queue's own redrive policy puts it aside, or its retention ends it.

use std::{fmt, pin::pin, time::Duration};

use aws_sdk_sqs::{
    Client,
    error::ProvideErrorMetadata,
    types::{DeleteMessageBatchRequestEntry, Message, QueueAttributeName},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tidemill_config::reference::Text;
use tidemill_core::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{MESSAGES, Notices, Taken, aws};
use crate::bucket::{open::OpenError, remote::Remote, tuning::UNREACHABLE};

/// The most messages that one request may fetch or delete.
const BATCH: i32 = 10;

/// How long a request waits for messages, in seconds: the longest there is, so that an idle bucket costs
/// three requests a minute.
const LONG_POLL: i32 = 20;

/// How long a message is kept from other receivers. It is said again when half of it is over.
const HIDDEN: Duration = Duration::from_secs(60);

/// How long deletions may take after the engine was told to stop.
const FLUSH: Duration = Duration::from_secs(2);

/// The first wait before a queue that does not answer is asked again.
const FIRST: Duration = Duration::from_secs(1);

/// A queue.
pub(in crate::bucket) struct Sqs {
    client: Client,
    queue: String,
    /// Its URL without what may be a secret.
    shown: String,
    /// How long a message is kept from other receivers, in whole seconds.
    pub(in crate::bucket) hidden: Duration,
}

impl fmt::Debug for Sqs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sqs").field(&self.shown).finish()
    }
}

impl Sqs {
    /// The queue that a bucket's notifications come by. Asks nobody.
    pub(in crate::bucket) fn new(
        remote: &Remote,
        queue: &Text,
        region: Option<&Text>,
    ) -> Result<Sqs, OpenError> {
        let bucket = remote.name();
        let resolve = |text: &Text, key| match text.resolve() {
            Ok(secret) => Ok(secret.expose().trim().to_owned()),
            Err(source) => Err(OpenError::NoNotify {
                bucket: bucket.to_owned(),
                key,
                source,
            }),
        };
        let unusable = |why: &str| OpenError::Unnotified {
            bucket: bucket.to_owned(),
            why: why.to_owned(),
        };
        let queue = resolve(queue, "sqs.queue")?;
        let region = region.map(|region| resolve(region, "sqs.region"));
        let url = url::Url::parse(&queue)
            .ok()
            .filter(|url| url.has_host() && url.path().len() > 1)
            .ok_or_else(|| unusable("`sqs.queue` is not the URL of a queue"))?;
        let (calls, own_region, credentials) = remote
            .aws()
            .ok_or_else(|| unusable("a queue of SQS needs credentials, and the bucket has none"))?;
        let region = match region.transpose()? {
            Some(region) => region,
            None => region_of(url.host_str().unwrap_or_default()).map_or(own_region, str::to_owned),
        };
        let endpoint = url.origin().ascii_serialization();
        Ok(Sqs {
            shown: format!("{endpoint}{}", url.path()),
            client: Client::from_conf(aws::config(calls, credentials, endpoint, region)),
            queue,
            hidden: HIDDEN,
        })
    }

    /// The same in the words of a request.
    fn hidden_secs(&self) -> i32 {
        i32::try_from(self.hidden.as_secs()).unwrap_or(i32::MAX)
    }

    /// Asks the queue how it is; an error is in words.
    pub(in crate::bucket) async fn try_out(&self) -> Result<(), String> {
        let request = self.client.get_queue_attributes();
        let request = request.queue_url(&self.queue);
        let request = request.attribute_names(QueueAttributeName::ApproximateNumberOfMessages);
        match request.send().await {
            Ok(_) => Ok(()),
            // It may be used, and not looked at.
            Err(error) if error.code() == Some("AccessDenied") => Ok(()),
            Err(error) => Err(format!(
                "cannot use the queue {}: {}",
                self.shown,
                aws::words(&error)
            )),
        }
    }

    pub(super) async fn run(&self, notices: &Notices, stop: CancellationToken) {
        let (done, finished) = mpsc::channel(MESSAGES);
        let mut deletions = pin!(self.delete(finished));
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.receive(notices, done) => {}
            () = &mut deletions => {}
        }
        // What is not deleted comes back, and is known then.
        let _ = tokio::time::timeout(FLUSH, deletions).await;
    }

    /// Fetches messages and has them taken, until the engine stops.
    async fn receive(&self, notices: &Notices, done: mpsc::Sender<String>) {
        let mut working = FuturesUnordered::new();
        let mut fetching: BoxFuture<'_, _> = Box::pin(self.fetch(notices));
        loop {
            tokio::select! {
                messages = &mut fetching, if working.len() < MESSAGES => {
                    for message in messages {
                        let take: BoxFuture<'_, _> = Box::pin(self.take(notices, message, &done));
                        working.push(take);
                    }
                    fetching = Box::pin(self.fetch(notices));
                }
                Some(goes_on) = working.next() => if !goes_on { break },
            }
        }
    }

    /// The next messages, however long the queue does not answer.
    async fn fetch(&self, notices: &Notices) -> Vec<Message> {
        let mut wait = FIRST;
        loop {
            let request = self.client.receive_message().queue_url(&self.queue);
            let request = request.max_number_of_messages(BATCH);
            let request = request.wait_time_seconds(LONG_POLL);
            match request.visibility_timeout(self.hidden_secs()).send().await {
                Ok(answer) => {
                    notices.tally().they_come(notices.bucket());
                    return answer.messages.unwrap_or_default();
                }
                Err(error) => {
                    let why = aws::words(&error);
                    let why = format!("cannot receive from {}: {why}", self.shown);
                    notices.tally().none_come(notices.bucket(), &why);
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(UNREACHABLE);
        }
    }

    /// Takes a message, and keeps it from others until it is done. False, if the engine is stopping.
    async fn take(&self, notices: &Notices, message: Message, done: &mpsc::Sender<String>) -> bool {
        let Some(receipt) = message.receipt_handle else {
            return true;
        };
        let body = message.body.unwrap_or_default();
        let mut taking = pin!(notices.take(body.as_bytes()));
        let taken = loop {
            tokio::select! {
                taken = &mut taking => break taken,
                () = tokio::time::sleep(self.hidden / 2) => self.hide(&receipt).await,
            }
        };
        match taken {
            Taken::Done => done.send(receipt).await.is_ok(),
            Taken::Strange(why) => {
                let id = message.message_id.unwrap_or_default();
                let from = format!("{id} of {}", self.shown);
                let fate = "it stays in the queue, whose redrive policy should put it aside";
                notices.tell_strange(&from, &why, fate);
                true
            }
            Taken::Stopping => false,
        }
    }

    async fn hide(&self, receipt: &str) {
        let request = self.client.change_message_visibility();
        let request = request.queue_url(&self.queue).receipt_handle(receipt);
        if let Err(error) = request.visibility_timeout(self.hidden_secs()).send().await {
            // Then another receiver gets it too, which does no harm.
            let why = aws::words(&error);
            tracing::debug!(queue = self.shown, "a message is not kept: {why}");
        }
    }

    /// Deletes what is done: one request for all that came while the last one was under way.
    async fn delete(&self, mut finished: mpsc::Receiver<String>) {
        let mut receipts = Vec::new();
        while finished.recv_many(&mut receipts, BATCH as usize).await > 0 {
            let entries = receipts.drain(..).enumerate().filter_map(|(n, receipt)| {
                let entry = DeleteMessageBatchRequestEntry::builder();
                entry.id(n.to_string()).receipt_handle(receipt).build().ok()
            });
            let request = self.client.delete_message_batch();
            let request = request.queue_url(&self.queue);
            let request = request.set_entries(Some(entries.collect()));
            let failed = match request.send().await {
                Ok(answer) => answer.failed.first().map(|failed| failed.code.clone()),
                Err(error) => Some(aws::words(&error)),
            };
            if let Some(why) = failed {
                let queue = &self.shown;
                tracing::warn!(
                    queue,
                    "messages are not deleted, and will come again: {why}"
                );
            }
        }
    }
}

/// The region in the name of an AWS server: `sqs.eu-west-1.amazonaws.com`.
fn region_of(host: &str) -> Option<&str> {
    if !host.contains(".amazonaws.") && !host.contains(".api.aws") {
        return None;
    }
    let mut labels = host.split('.');
    labels.find(|label| matches!(*label, "sqs" | "sqs-fips"))?;
    labels.next()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bucket::{BucketConnector, Settings};

    fn opened(queue: &str) -> Result<Sqs, String> {
        let text = format!(
            r#"
            [buckets.b]
            url = "s3://photos"
            options = {{ region = "eu-west-1", access_key_id = "id", secret_access_key = "hunter2" }}
            [functions.f]
            component = "f.wasm"
            [triggers.t]
            function = "f"
            bucket = {{ name = "b", notify = {{ sqs = {{ queue = "{queue}" }} }} }}
            "#
        );
        let loaded = tidemill_config::parse(Path::new("/plan/tidemill.toml"), &text).unwrap();
        let settings = Settings::of(&loaded.plan).remove(0);
        let connector = BucketConnector::new(settings.open().unwrap(), HIDDEN);
        match connector.notified(&settings.notify.unwrap()) {
            Ok(connector) => match connector.feed {
                Some(crate::bucket::notify::Feed::Sqs(sqs)) => Ok(sqs),
                _ => panic!("it has a queue"),
            },
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_region_is_that_of_the_queue_or_of_the_bucket() {
        for (queue, region) in [
            ("https://sqs.us-west-2.amazonaws.com/1/q", "us-west-2"),
            (
                "https://sqs-fips.us-gov-east-1.amazonaws.com/1/q",
                "us-gov-east-1",
            ),
            ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
            ("https://sqs.eu-north-1.api.aws/1/q", "eu-north-1"),
            (
                "https://vpce-1.sqs.us-east-2.vpce.amazonaws.com/1/q",
                "us-east-2",
            ),
            ("https://us-east-2.queue.amazonaws.com/1/q", "eu-west-1"),
            ("http://sqs.local:4566/1/q", "eu-west-1"),
            ("http://127.0.0.1:5000/1/q", "eu-west-1"),
        ] {
            let sqs = opened(queue).unwrap();
            let found = sqs.client.config().region().map(ToString::to_string);
            assert_eq!(found.as_deref(), Some(region), "{queue}");
            assert_eq!(sqs.shown, queue);
            assert!(!format!("{sqs:?}").contains("hunter2"));
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_queue() {
        for (queue, expected) in [
            (
                "${env:TIDEMILL_NO_SUCH_QUEUE}",
                "bucket `b`: `notify.sqs.queue` cannot be looked up",
            ),
            (
                "https://sqs.us-west-2.amazonaws.com/",
                "bucket `b`: its notifications cannot be taken as the plan has it: `sqs.queue` is not the URL of a queue",
            ),
        ] {
            assert_eq!(opened(queue).unwrap_err(), expected);
        }
    }
}
