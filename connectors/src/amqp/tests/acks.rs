//! Which messages are acknowledged when, without a broker.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use crate::amqp::acks::{Ack, Acks};

const SECOND: Duration = Duration::from_secs(1);

fn multiple(tag: u64, messages: u64) -> Ack {
    Ack {
        tag,
        multiple: true,
        messages,
    }
}

fn single(tag: u64) -> Ack {
    Ack {
        tag,
        multiple: false,
        messages: 1,
    }
}

fn received(prefetch: u16, count: u64) -> Acks {
    let mut acks = Acks::new(prefetch);
    (1..=count).for_each(|tag| acks.received(tag));
    acks
}

#[test]
fn a_finished_beginning_is_acknowledged_at_once() {
    let (mut acks, now) = (received(100, 5), Instant::now());
    assert_eq!(acks.take(now), []);
    for tag in [2, 1, 3, 5] {
        acks.finished(tag, now);
    }
    assert_eq!(acks.take(now), [multiple(3, 3)]);
    assert_eq!(acks.take(now), []);
    acks.finished(4, now);
    assert_eq!(acks.take(now), [multiple(5, 2)]);
    assert_eq!(acks.take(now + SECOND), []);
    assert_eq!(acks.take_all(), []);
}

#[test]
fn behind_an_unfinished_one_each_waits_a_second() {
    let (mut acks, now) = (received(100, 5), Instant::now());
    assert_eq!(acks.next(), None);
    acks.finished(3, now);
    acks.finished(2, now + SECOND / 2);
    assert_eq!(acks.next(), Some(now + SECOND));
    assert_eq!(acks.take(now + SECOND / 2), []);
    assert_eq!(acks.take(now + SECOND), [single(3)]);
    assert_eq!(acks.next(), Some(now + SECOND * 3 / 2));
    assert_eq!(acks.take(now + SECOND * 3 / 2), [single(2)]);
    assert_eq!(acks.next(), None);
    // What was acknowledged in between is not counted again.
    acks.finished(1, now);
    acks.finished(4, now);
    assert_eq!(acks.take(now), [multiple(4, 2)]);
}

#[test]
fn half_the_window_does_not_wait() {
    let (mut acks, now) = (received(6, 6), Instant::now());
    acks.finished(6, now);
    acks.finished(4, now);
    assert_eq!(acks.take(now), []);
    acks.finished(5, now);
    assert_eq!(acks.take(now), [single(6)]);
    acks.finished(3, now);
    acks.finished(2, now);
    assert_eq!(acks.take(now), [single(4), single(5)]);
    assert_eq!(acks.take_all(), [single(2), single(3)]);
}

#[test]
fn a_window_of_one() {
    let (mut acks, now) = (received(1, 1), Instant::now());
    acks.finished(1, now);
    assert_eq!(acks.take(now), [multiple(1, 1)]);
}

#[test]
fn an_answer_counts_once() {
    let (mut acks, now) = (received(100, 3), Instant::now());
    acks.finished(2, now);
    acks.finished(2, now);
    acks.finished(9, now);
    assert_eq!(acks.take_all(), [single(2)]);
    acks.finished(2, now);
    assert_eq!(acks.take_all(), []);
}

/// A broker that takes acknowledgements and objects to wrong ones.
#[derive(Default)]
struct Broker {
    open: BTreeSet<u64>,
    finished: BTreeSet<u64>,
}

impl Broker {
    fn take(&mut self, acks: Vec<Ack>) {
        for ack in acks {
            let tags: Vec<u64> = match ack.multiple {
                true => self.open.range(..=ack.tag).copied().collect(),
                false => self.open.get(&ack.tag).copied().into_iter().collect(),
            };
            assert_eq!(tags.len() as u64, ack.messages);
            assert_eq!(tags.last(), Some(&ack.tag));
            for tag in tags {
                assert!(self.finished.remove(&tag), "{tag} is not finished");
                self.open.remove(&tag);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Receive,
    /// Which of the open ones.
    Finish(prop::sample::Index),
    Pass(u64),
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Receive),
        3 => any::<prop::sample::Index>().prop_map(Step::Finish),
        1 => (0_u64..800).prop_map(Step::Pass),
        2 => Just(Step::Take),
    ]
}

proptest! {
    #[test]
    fn every_finished_message_is_acknowledged_once_and_no_other(
        prefetch in 1_u16..20,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let (mut acks, mut broker) = (Acks::new(prefetch), Broker::default());
        let (mut now, mut last) = (Instant::now(), 0);
        let mut since = std::collections::BTreeMap::new();
        for step in steps {
            match step {
                Step::Receive if broker.open.len() < usize::from(prefetch) => {
                    last += 1;
                    acks.received(last);
                    broker.open.insert(last);
                }
                Step::Finish(which) if !broker.open.is_empty() => {
                    let open: Vec<u64> = broker.open.iter().copied().collect();
                    let tag = *which.get(&open);
                    if broker.finished.insert(tag) {
                        since.insert(tag, now);
                    }
                    acks.finished(tag, now);
                }
                Step::Pass(millis) => now += Duration::from_millis(millis),
                Step::Take => {
                    broker.take(acks.take(now));
                    let first = broker.open.first();
                    prop_assert!(first.is_none_or(|tag| !broker.finished.contains(tag)));
                    prop_assert!(broker.finished.len() < usize::from(prefetch / 2).max(1));
                    let late = |tag: &u64| since[tag] + SECOND <= now;
                    prop_assert!(!broker.finished.iter().any(late));
                    let next = broker.finished.iter().map(|tag| since[tag] + SECOND).min();
                    prop_assert!(next.is_none() || acks.next().is_some_and(|at| at <= next.unwrap()));
                }
                _ => {}
            }
        }
        broker.take(acks.take_all());
        prop_assert!(broker.finished.is_empty());
    }
}
