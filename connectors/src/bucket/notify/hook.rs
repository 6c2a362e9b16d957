//! Notifications that other connectors of the engine receive: requests of a path, messages of a queue,
//! records of a topic. They are handed over here, and answered when all they tell of is durable.
//!
//! A notification that no object store wrote is answered as such to a client of HTTP. That of a queue
//! or topic is settled, and told about: there it would come again and again.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tidemill_core::{
    BoxFuture,
    hold::{Held, Holds, Partition, Settlement, Settlements, Ticket},
    intake::{Intake, IntakeError, Offer, Receipt},
    watermark::Progress,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{MESSAGES, Notices, Taken};

/// Hands notifications to the source of a bucket. Clones share it.
#[derive(Clone, Debug)]
pub struct Hook(mpsc::Sender<Handed>);

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All it tells of is in the ledger and the journal.
    Taken,
    /// No object store wrote it.
    Strange,
    /// The engine is stopping.
    Stopping,
}

/// A notification that waits for its verdict.
#[derive(Debug)]
struct Handed {
    /// Where it is from and which one it is, for a person.
    from: String,
    body: Bytes,
    answer: oneshot::Sender<Verdict>,
}

/// The other end of a [`Hook`].
#[derive(Debug)]
pub(in crate::bucket) struct Catch(mpsc::Receiver<Handed>);

/// A hook, and what takes what is handed over.
pub(in crate::bucket) fn hook() -> (Hook, Catch) {
    // Those who wait to hand over keep what they have.
    let (sender, receiver) = mpsc::channel(1);
    (Hook(sender), Catch(receiver))
}

impl Hook {
    /// Hands a notification over, and waits until all it tells of is durable.
    pub async fn tell(&self, from: String, body: Bytes) -> Verdict {
        let (answer, verdict) = oneshot::channel();
        let handed = Handed { from, body, answer };
        if self.0.send(handed).await.is_err() {
            return Verdict::Stopping;
        }
        verdict.await.unwrap_or(Verdict::Stopping)
    }
}

impl Catch {
    pub(super) async fn run(mut self, notices: &Notices, stop: CancellationToken) {
        let mut working = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                handed = self.0.recv(), if working.len() < MESSAGES => match handed {
                    Some(handed) => {
                        let take: BoxFuture<'_, bool> = Box::pin(take(notices, handed));
                        working.push(take);
                    }
                    None => break,
                },
                Some(goes_on) = working.next() => if !goes_on { break },
            }
        }
    }
}

/// False, if the engine is stopping.
async fn take(notices: &Notices, handed: Handed) -> bool {
    let taken = notices.take(&handed.body).await;
    let verdict = match taken {
        Taken::Done => Verdict::Taken,
        Taken::Strange(why) => {
            notices.tell_strange(&handed.from, &why, "it is let go");
            Verdict::Strange
        }
        Taken::Stopping => Verdict::Stopping,
    };
    // Who does not wait any more hands it over again.
    let _ = handed.answer.send(verdict);
    taken != Taken::Stopping
}

impl Intake for Hook {
    /// Nothing is offered to it: notifications are held.
    fn offer(&self, _: Offer) -> BoxFuture<'_, Result<Receipt, IntakeError>> {
        let why = "a notification is held, not offered".to_owned();
        Box::pin(async { Err(IntakeError::Failed(why)) })
    }
}

impl Holds for Hook {
    fn hold_all(&self, all: Vec<(u64, Held)>, settlements: &Arc<Settlements>) -> Vec<Ticket<'_>> {
        let tells = all.into_iter().map(|(number, held)| {
            let (hook, settlements) = (self.clone(), settlements.clone());
            let tells = tokio::spawn(async move {
                let from = format!("{} of {}", held.event.id, held.source);
                let settlement = match hook.tell(from, held.event.data).await {
                    Verdict::Taken | Verdict::Strange => Settlement::Settle,
                    Verdict::Stopping => Settlement::Release,
                };
                settlements.tell(number, settlement);
            });
            Ticket::new(AbortOnDropHandle::new(tells))
        });
        tells.collect()
    }

    /// A partition is read where its group stands: what comes twice is known.
    fn take_up(&self, _: &Partition) -> BoxFuture<'_, Result<Option<Progress>, IntakeError>> {
        Box::pin(async { Ok(None) })
    }

    fn forget(&self, _: &Partition) -> BoxFuture<'_, Result<(), IntakeError>> {
        Box::pin(async { Ok(()) })
    }

    fn let_go(&self, _: &Partition) {}
}
