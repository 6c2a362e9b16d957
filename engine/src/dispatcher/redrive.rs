//! Redrive and purge: what a person does with dead letters.

use tidemill_core::{
    delivery::{DeadLetter, Delivery, Redrive},
    dispatch::Waiting,
    identity::DeliveryId,
    ledger,
    turn::Turn,
};
use tidemill_journal::{Journal, JournalError, NewDelivery, Settle, Unit, UnitResult};

use super::{Dispatcher, settle::remembered};
use crate::clock;

/// Why a dead letter was not redriven or purged.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// There is no such dead letter.
    #[error("there is no dead letter {0}: `tidemill dead-letters list` shows those there are")]
    Unknown(DeliveryId),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A delivery made from a dead letter.
#[derive(Clone, Debug)]
pub struct Redriven {
    /// Its identity.
    pub id: DeliveryId,
    /// Its trigger.
    pub trigger: String,
    /// How it waits: due exactly as the journal has it, by which the dispatch knows its place. Absent,
    /// if others of its lane or key come first.
    pub waiting: Option<Waiting>,
}

/// Replaces a dead letter by a new delivery: the current function, attempts from zero, and unless
/// `original`, the object as it is then.
pub async fn redrive(
    journal: &dyn Journal,
    id: DeliveryId,
    original: bool,
) -> Result<Redriven, RedriveError> {
    let dead = find(journal, id).await?;
    let now = clock::now();
    // It joins the tail of its lane. The id of its event stays with the dead letter that it replaces.
    let new = NewDelivery {
        redrive: Some(Redrive { of: id, original }),
        lane: dead.delivery.lane.clone(),
        key: dead.delivery.key.clone(),
        ..NewDelivery::new(
            id.redriven(),
            &dead.delivery.trigger,
            dead.delivery.work.clone(),
            now,
        )
    };
    let settle = Settle::Redrive {
        delivery: dead.delivery.seq,
        new,
    };
    let added = match settle_one(journal, settle, &dead.delivery).await? {
        Some(UnitResult::Committed { added, .. }) => added.into_iter().next(),
        _ => None,
    };
    let added = added.ok_or(RedriveError::Unknown(id))?;
    Ok(Redriven {
        id: added.id,
        trigger: dead.delivery.trigger,
        waiting: (!added.blocked).then(|| Waiting {
            seq: added.seq,
            due: now,
            size: dead.delivery.event.size(),
        }),
    })
}

/// Throws a dead letter away.
pub async fn purge(journal: &dyn Journal, id: DeliveryId) -> Result<(), RedriveError> {
    let dead = find(journal, id).await?;
    let settle = Settle::Purge {
        delivery: dead.delivery.seq,
    };
    match settle_one(journal, settle, &dead.delivery).await? {
        Some(UnitResult::Committed { .. }) => Ok(()),
        _ => Err(RedriveError::Unknown(id)),
    }
}

async fn find(journal: &dyn Journal, id: DeliveryId) -> Result<DeadLetter, RedriveError> {
    journal
        .dead_letter(id)
        .await?
        .ok_or(RedriveError::Unknown(id))
}

/// Settles a dead letter, which leaves the journal.
async fn settle_one(
    journal: &dyn Journal,
    settle: Settle,
    dead: &Delivery,
) -> Result<Option<UnitResult>, JournalError> {
    let unit = Unit {
        settle: vec![settle],
        event_ids: remembered(dead).into_iter().collect(),
        ..Unit::default()
    };
    Ok(journal.commit([unit].into()).await?.into_iter().next())
}

impl Dispatcher {
    /// As [`redrive`], for a running engine: nobody who is held passes the new delivery.
    pub async fn redrive(&self, id: DeliveryId, original: bool) -> Result<Redriven, RedriveError> {
        let dead = find(&*self.journal, id).await?.delivery;
        let turn = Turn {
            lane: dead.lane,
            key: dead.key,
        };
        let _reserved = self.make_way(&dead.trigger, &turn).await;
        let redriven = redrive(&*self.journal, id, original).await?;
        self.redriven(&redriven);
        Ok(redriven)
    }

    /// Tells the dispatch of a delivery made by [`redrive`].
    fn redriven(&self, redriven: &Redriven) {
        let queue = self.table.load().queue(&redriven.trigger);
        if let (Some(queue), Some(waiting)) = (queue, redriven.waiting) {
            self.lock().arrived(queue, waiting);
            self.wake.notify_one();
        }
    }

    /// Brings the event of a redriven delivery to the object as it is now. Whether reads of the
    /// object insist on the version in the event: not if a person asked for what is there.
    pub(super) async fn refresh(&self, delivery: &mut Delivery) -> bool {
        let asked = delivery.redrive.is_some_and(|redrive| !redrive.original);
        if !asked || delivery.event.kind != ledger::CREATED {
            return true;
        }
        let event = &mut delivery.event;
        let bucket = event.source.strip_prefix("bucket:").map(str::to_owned);
        if let (Some(bucket), Some(key)) = (bucket, event.subject.clone())
            && let Ok(object) = self.objects().head(&bucket, &key).await
        {
            event.time = object.modified;
            event.data = ledger::record(&bucket, ledger::CREATED, &key, Some(&object), event.time);
        }
        false
    }
}
