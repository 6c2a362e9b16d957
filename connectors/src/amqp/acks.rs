//! Which messages of a channel are acknowledged when. Nothing here does I/O or reads a clock.
//!
//! Messages finish in any order. An acknowledgement of all up to one is the cheapest by far, so the
//! finished ones that no unfinished one is before are acknowledged together. Those behind an unfinished
//! one wait for it a little, and are then acknowledged one by one: a slow message must not keep the
//! window of the channel full of finished ones.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// How long a finished message waits for unfinished ones before it. So long it may be delivered again
/// if the connection is lost, although it is done.
const WAIT: Duration = Duration::from_secs(1);

/// An acknowledgement to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    /// The delivery tag.
    pub tag: u64,
    /// Whether it is for all that came before, too.
    pub multiple: bool,
    /// How many messages it is for.
    pub messages: u64,
}

/// The messages of a channel that are not acknowledged.
#[derive(Debug)]
pub(super) struct Acks {
    /// By tag, whether they are finished.
    open: BTreeMap<u64, bool>,
    /// When those finished that had to wait, in this order. Some may have been acknowledged since.
    waiting: VecDeque<(Instant, u64)>,
    /// How many of `open` are finished.
    finished: usize,
    /// How many finished ones may wait.
    room: usize,
}

impl Acks {
    /// For a channel on which so many messages may be unacknowledged.
    pub(super) fn new(prefetch: u16) -> Acks {
        Acks {
            open: BTreeMap::new(),
            waiting: VecDeque::new(),
            finished: 0,
            room: usize::from(prefetch) / 2,
        }
    }

    /// A message came. Tags rise.
    pub(super) fn received(&mut self, tag: u64) {
        self.open.insert(tag, false);
    }

    /// A message is done.
    pub(super) fn finished(&mut self, tag: u64, now: Instant) {
        if let Some(finished @ false) = self.open.get_mut(&tag) {
            *finished = true;
            self.finished += 1;
            self.waiting.push_back((now, tag));
        }
    }

    /// What is to be acknowledged now, to be sent in this order. Each message is in it once in all.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Ack> {
        let mut acks: Vec<Ack> = self.prefix().into_iter().collect();
        while let Some(&(since, tag)) = self.waiting.front() {
            let is_there = self.open.contains_key(&tag);
            let due = self.finished >= self.room.max(1) || since + WAIT <= now;
            if is_there && !due {
                break;
            }
            self.waiting.pop_front();
            if is_there {
                self.open.remove(&tag);
                self.finished -= 1;
                acks.push(Ack {
                    tag,
                    multiple: false,
                    messages: 1,
                });
            }
        }
        acks
    }

    /// All that is finished: what is left when nothing more will finish.
    pub(super) fn take_all(&mut self) -> Vec<Ack> {
        self.room = 0;
        let mut acks: Vec<Ack> = self.prefix().into_iter().collect();
        let rest = self.open.extract_if(.., |_, finished| *finished);
        acks.extend(rest.map(|(tag, _)| Ack {
            tag,
            multiple: false,
            messages: 1,
        }));
        self.finished = 0;
        self.waiting.clear();
        acks
    }

    /// When there will be something to take, if nothing happens before.
    pub(super) fn next(&self) -> Option<Instant> {
        let first = self.waiting.front()?;
        Some(first.0 + WAIT)
    }

    /// The finished ones that no unfinished one is before, taken out.
    fn prefix(&mut self) -> Option<Ack> {
        let mut prefix = None;
        let mut messages = 0;
        while let Some(first) = self.open.first_entry().filter(|first| *first.get()) {
            prefix = Some(first.remove_entry().0);
            messages += 1;
        }
        self.finished -= messages;
        Some(Ack {
            tag: prefix?,
            multiple: true,
            messages: messages as u64,
        })
    }
}
