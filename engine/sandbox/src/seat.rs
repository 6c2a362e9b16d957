//! What an attempt takes of what all attempts share, and may leave behind for the next one.
//!
//! Attempts that run one after the other would give all of it back and take it again each time; where another
//! core does the same, every count that both change has to be fetched from that core, which costs more than
//! the counting.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

use crate::{budget::Room, run::Config, ticker::Running, turns::Turn};

/// What an attempt has, from before its instance is made until after that is gone.
pub(crate) struct Seat {
    pub(crate) _running: Running,
    pub(crate) _slots: OwnedSemaphorePermit,
}

/// What it has besides, which is in the store of the instance while there is one.
pub(crate) struct Share {
    pub(crate) config: Config,
    pub(crate) turn: Turn,
    pub(crate) room: Room,
}

/// Where an attempt leaves its seat for the next one of the same function, if that is to run right after it. To be
/// emptied when none is: a seat counts as an attempt that runs.
#[derive(Default)]
pub struct Spare(Mutex<Left>);

#[derive(Default)]
enum Left {
    /// Nobody leaves anything.
    #[default]
    Closed,
    Open(Option<(Box<Seat>, Share)>),
}

impl Spare {
    /// One that takes a seat; the default one takes none.
    pub fn open() -> Spare {
        Spare(Mutex::new(Left::Open(None)))
    }

    /// Gives back what was left.
    pub fn empty(&self) {
        self.take();
    }

    /// The same, and takes nothing more.
    pub fn close(&self) {
        let left = std::mem::take(&mut *self.lock());
        drop(left);
    }

    pub(crate) fn take(&self) -> Option<(Box<Seat>, Share)> {
        match &mut *self.lock() {
            Left::Closed => None,
            Left::Open(seat) => seat.take(),
        }
    }

    /// The store it was in is gone.
    pub(crate) fn leave(&self, seat: Box<Seat>, mut share: Share) {
        if let Left::Open(left @ None) = &mut *self.lock()
            && share.room.hand_on()
        {
            share.turn.renew();
            *left = Some((seat, share));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
