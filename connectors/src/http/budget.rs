//! How many bytes of bodies are in memory. Each path has a share that no other can take, large
//! enough for one largest body of it; what is beyond, all have in common.
//!
//! Nobody waits for room: who finds none is told to come again.

use tokio::sync::{Semaphore, SemaphorePermit};

/// What all paths have in common.
pub(super) struct Budget(Semaphore);

/// What a path has for itself.
pub(super) struct Share(Semaphore);

/// The room of one body, given back when it is dropped.
pub(super) struct Room<'a> {
    budget: &'a Budget,
    share: &'a Share,
    own: Option<SemaphorePermit<'a>>,
    common: Option<SemaphorePermit<'a>>,
}

impl Budget {
    /// So many bytes.
    pub(super) fn new(bytes: usize) -> Budget {
        Budget(semaphore(bytes))
    }

    /// Room for a body of a path, empty at first.
    pub(super) fn room<'a>(&'a self, share: &'a Share) -> Room<'a> {
        Room {
            budget: self,
            share,
            own: None,
            common: None,
        }
    }
}

impl Share {
    /// So many bytes.
    pub(super) fn new(bytes: usize) -> Share {
        Share(semaphore(bytes))
    }
}

impl Room<'_> {
    /// Makes it larger by so many bytes; false if there is no room.
    #[must_use]
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else {
            return false;
        };
        for (from, mine) in [
            (&self.share.0, &mut self.own),
            (&self.budget.0, &mut self.common),
        ] {
            if let Ok(more) = from.try_acquire_many(bytes) {
                match mine {
                    Some(mine) => mine.merge(more),
                    None => *mine = Some(more),
                }
                return true;
            }
        }
        false
    }
}

fn semaphore(bytes: usize) -> Semaphore {
    Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_what_is_common_but_never_the_share_of_another() {
        let budget = Budget::new(10);
        let (greedy, other) = (Share::new(5), Share::new(5));
        let mut all = budget.room(&greedy);
        assert!((0..15).all(|_| all.grow(1)));
        assert!(!all.grow(1));
        let mut one = budget.room(&other);
        assert!(one.grow(5));
        assert!(!one.grow(1));
        drop(all);
        assert!(one.grow(10));
        assert!(!one.grow(1));
        assert!(!one.grow(usize::MAX));
    }
}
