//! A delivery that takes part in a batch or in a row, whoever keeps it.

use std::sync::Arc;

use tidemill_core::{
    delivery::Delivery,
    dispatch::{Start, Waiting},
};

use super::{
    Dispatcher, Trigger,
    attempt::Running,
    complete::{Completes, Ran},
    deliver::running,
    held::{HeldDelivery, running_held},
};

/// A delivery that has begun.
pub(super) enum Member {
    /// The journal keeps it; whether its attempt insists on the object that its event tells of.
    Journaled(Box<Delivery>, bool),
    /// Its source does.
    Held(Arc<HeldDelivery>),
}

impl Member {
    /// As it runs.
    pub(super) fn running<'a>(&'a self, start: Start, trigger: &'a Trigger) -> Running<'a> {
        match self {
            Member::Journaled(delivery, pinned) => running(start, trigger, delivery, *pinned),
            Member::Held(held) => running_held(start, trigger, held),
        }
    }

    /// What it completes.
    pub(super) fn completes<'a>(&'a self, trigger: &'a Trigger) -> Completes<'a> {
        match self {
            Member::Journaled(delivery, _) => Completes::Delivery(trigger, delivery),
            Member::Held(held) => Completes::Held(trigger, held),
        }
    }

    /// If its source keeps it.
    pub(super) fn held(&self) -> Option<&HeldDelivery> {
        match self {
            Member::Journaled(..) => None,
            Member::Held(held) => Some(held),
        }
    }
}

impl Dispatcher {
    /// Settles one after its attempt; what is returned is to run again.
    pub(super) async fn settle_member(
        &self,
        trigger: &Trigger,
        member: &Member,
        ran: Ran,
    ) -> Option<Waiting> {
        match member {
            Member::Journaled(delivery, _) => self.settle(trigger, delivery, ran).await,
            Member::Held(held) => self.settle_held(trigger, held, ran).await,
        }
    }
}
