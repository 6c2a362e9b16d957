//! Batches: several deliveries of one trigger in one call of its handler, each settled by itself.
//!
//! What of a batch is ok becomes durable in one commit. One that broke as a whole is split, around the
//! event that its handler was at, until the culprit stands alone; no event pays for another one.

use std::collections::{HashSet, VecDeque};

use tidemill_core::{
    delivery::Seq,
    dispatch::{Start, Waiting},
};

use super::{
    Dispatcher, Queue, Trigger,
    attempt::{Broke, Running},
    complete::Ran,
    held::HeldDelivery,
    member::Member,
};

impl Dispatcher {
    /// Runs these deliveries of a queue together. Which of them took part, and which of these are to
    /// run again.
    pub(super) async fn run_batch(
        &self,
        start: Start,
        seqs: Vec<Seq>,
        trigger: &Trigger,
    ) -> (Vec<Seq>, Vec<Waiting>) {
        let held = Queue::is_held(start.queue);
        let seqs = match held {
            true => self.take_together(Queue::trigger(start.queue), &seqs),
            false => seqs,
        };
        let mut again = Vec::new();
        let members = match held {
            true => self.gather_held(&seqs, &mut again).await,
            false => self.gather(trigger, &seqs, &mut again).await,
        };
        let mut parts = VecDeque::from([members]);
        while let Some(part) = parts.pop_front() {
            let part = self.still_to_run(part).await;
            if part.is_empty() {
                continue;
            }
            let runs = part.iter().map(|member| member.running(start, trigger));
            let runs: Vec<Running<'_>> = runs.collect();
            match self.run_to_commit(&runs, None).await {
                Ok(ran) => {
                    let rest = self.settle_members(trigger, part, ran, &mut again).await;
                    parts.push_front(rest);
                }
                Err(Broke { at }) => {
                    for member in &part {
                        self.rest(member).await;
                    }
                    for part in split(part, at).into_iter().rev() {
                        parts.push_front(part);
                    }
                }
            }
        }
        (seqs, again)
    }

    async fn gather(
        &self,
        trigger: &Trigger,
        seqs: &[Seq],
        again: &mut Vec<Waiting>,
    ) -> Vec<Member> {
        let mut members = Vec::with_capacity(seqs.len());
        for taken in self.take_all(seqs).await {
            match taken {
                Ok(mut delivery) => {
                    if let Some(pinned) = self.prepare(trigger, &mut delivery).await {
                        members.push(Member::Journaled(Box::new(delivery), pinned));
                    }
                }
                Err(later) => again.extend(later),
            }
        }
        members
    }

    async fn gather_held(&self, seqs: &[Seq], again: &mut Vec<Waiting>) -> Vec<Member> {
        let mut members: Vec<Member> = Vec::with_capacity(seqs.len());
        let mut put_off = HashSet::new();
        for &place in seqs {
            let Some(held) = self.begin_held(place).await else {
                continue;
            };
            let lane = &held.delivery.lane;
            if lane.as_ref().is_some_and(|lane| put_off.contains(lane)) {
                self.pause(&held);
                again.push(held.look_again());
                continue;
            }
            match self.prepare_held(&held, false).await {
                Ok(()) => members.push(Member::Held(held)),
                Err(later) => {
                    if later.is_some() {
                        put_off.extend(lane.clone());
                    }
                    again.extend(later);
                }
            }
        }
        members
    }

    /// Leaves out those that were parked, or given up by their sources, while others ran.
    async fn still_to_run(&self, part: Vec<Member>) -> Vec<Member> {
        let mut still = Vec::with_capacity(part.len());
        for member in part {
            let runs = match &member {
                Member::Journaled(..) => true,
                Member::Held(held) => self.go_on(held).await,
            };
            if runs {
                still.push(member);
            }
        }
        still
    }

    /// It waits for its next run within the batch, and may be parked meanwhile.
    async fn rest(&self, member: &Member) {
        if let Member::Held(held) = member {
            self.rest_held(held).await;
        }
    }

    /// Settles those that have come to an end, the ones that are done first. The rest is to run again
    /// at once, in its order.
    async fn settle_members(
        &self,
        trigger: &Trigger,
        part: Vec<Member>,
        ran: Vec<Ran>,
        again: &mut Vec<Waiting>,
    ) -> Vec<Member> {
        let (mut done, mut rest, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        for (member, ran) in part.into_iter().zip(ran) {
            match (member, ran) {
                (member, Ran::Again) => {
                    self.rest(&member).await;
                    rest.push(member);
                }
                (Member::Held(held), Ran::Committed(_)) => done.push(held),
                (member, ran) => ended.push((member, ran)),
            }
        }
        let done: Vec<&HeldDelivery> = done.iter().map(|held| &**held).collect();
        self.completed_held(&done);
        for (member, ran) in ended {
            again.extend(self.settle_member(trigger, &member, ran).await);
        }
        rest
    }
}

/// A batch that broke, in two or three: what came before the event that its handler was at, that event
/// alone, and what comes after.
fn split<T>(mut part: Vec<T>, at: Option<usize>) -> Vec<Vec<T>> {
    let mut parts = match at.filter(|at| *at < part.len()) {
        Some(at) => {
            let after = part.split_off(at + 1);
            let alone = part.split_off(at);
            vec![part, alone, after]
        }
        None => {
            let half = part.split_off(part.len() / 2);
            vec![part, half]
        }
    };
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_batch_is_split_around_the_culprit() {
        let part = || vec![1, 2, 3, 4];
        assert_eq!(split(part(), Some(2)), [vec![1, 2], vec![3], vec![4]]);
        assert_eq!(split(part(), Some(0)), [vec![1], vec![2, 3, 4]]);
        assert_eq!(split(part(), Some(3)), [vec![1, 2, 3], vec![4]]);
        assert_eq!(split(part(), None), [vec![1, 2], vec![3, 4]]);
        // One that is not there.
        assert_eq!(split(part(), Some(4)), [vec![1, 2], vec![3, 4]]);
        assert_eq!(split(vec![1, 2, 3], None), [vec![1], vec![2, 3]]);
    }
}
