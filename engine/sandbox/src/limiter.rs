//! Counts and bounds the memory of one attempt.
//!
//! A denied growth is an answer to the guest, not yet an outcome: only if the guest breaks of it
//! is the attempt out of memory.

use wasmtime::ResourceLimiterAsync;

use crate::budget::Room;

/// The memory of one attempt.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// The most bytes of all linear memories together.
    limit: u64,
    total: u64,
    largest: u64,
    denied: bool,
    /// Where the memory comes from.
    room: Room,
}

impl Limiter {
    pub(crate) fn new(limit: u64, room: Room) -> Limiter {
        Limiter {
            limit,
            total: 0,
            largest: 0,
            denied: false,
            room,
        }
    }

    /// The largest linear memory so far, in bytes.
    pub(crate) fn largest(&self) -> u64 {
        self.largest
    }

    /// All linear memories together now, in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Another attempt begins in the same memory.
    pub(crate) fn renew(&mut self) {
        self.denied = false;
        self.room.resume();
    }

    /// The memory stays as it is until there is another attempt.
    pub(crate) fn rest(&mut self) {
        self.room.rest();
    }

    /// What its memory came from, when that is gone.
    pub(crate) fn into_room(self) -> Room {
        self.room
    }

    /// Whether the guest was refused memory.
    pub(crate) fn denied(&self) -> bool {
        self.denied
    }
}

#[async_trait::async_trait]
impl ResourceLimiterAsync for Limiter {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let total = self.total + more;
        if total > self.limit {
            self.denied = true;
            return Ok(false);
        }
        if maximum.is_none_or(|maximum| desired <= maximum) {
            self.room.take(more).await;
            self.total = total;
            self.largest = self.largest.max(desired as u64);
        }
        Ok(true)
    }

    async fn table_growing(
        &mut self,
        _current: usize,
        _desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // The pool bounds every table.
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    async fn limiter(limit: u64) -> Limiter {
        Limiter::new(limit, Budget::new(u64::MAX).enter().await)
    }

    #[tokio::test]
    async fn all_memories_share_the_limit() {
        let mut limiter = limiter(100).await;
        assert!(limiter.memory_growing(0, 40, None).await.unwrap());
        assert!(limiter.memory_growing(0, 50, None).await.unwrap());
        assert!(!limiter.denied());
        assert!(
            !limiter.memory_growing(40, 51, None).await.unwrap(),
            "101 bytes in all"
        );
        assert!(limiter.denied());
        assert!(
            limiter.memory_growing(40, 50, None).await.unwrap(),
            "exactly 100 bytes"
        );
        assert_eq!(limiter.largest(), 50);
    }

    #[tokio::test]
    async fn growth_beyond_the_memory_s_own_maximum_counts_nothing() {
        let mut limiter = limiter(100).await;
        limiter.memory_growing(0, 90, Some(60)).await.unwrap();
        assert!(!limiter.denied());
        assert_eq!(limiter.largest(), 0);
    }
}
