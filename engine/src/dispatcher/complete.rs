//! From attempts to the commit of what they did and completed. A run whose reads were overtaken is
//! repeated, uncounted.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use tidemill_core::{
    delivery::Delivery,
    event::Event,
    limits,
    outcome::{Outcome, Reply, Usage},
    time::Timestamp,
};
use tidemill_journal::{Unit, UnitResult, WrittenObject};
use tidemill_sandbox::{Answered, Spare};
use tokio::sync::MutexGuard;

use super::{
    Dispatcher, Trigger,
    attempt::{Attempt, Broke, Running},
    call::Identity,
    effects::ObjectKey,
    held::{HeldDelivery, Stage},
    settle::usage,
};
use crate::clock;

/// The most bytes that an attempt may reply and emit, if it shares a commit with those of its row.
const LITTLE: usize = 64 << 10;

/// What an event that ends ok completes.
#[derive(Clone, Copy)]
pub(super) enum Completes<'a> {
    /// A delivery that the journal keeps.
    Delivery(&'a Trigger, &'a Delivery),
    /// A request whose client waits, and what it is known by when it comes again.
    Call(&'a Trigger, Option<&'a Identity>),
    /// A delivery that its source keeps, unless it was parked meanwhile.
    Held(&'a Trigger, &'a HeldDelivery),
    /// Nothing: somebody invoked the function by hand.
    Nothing,
}

/// How running an event to the commit ended.
pub(super) enum Ran {
    /// Not ok; nothing of it is durable, but for objects that were written.
    Failed(Ended),
    /// Ok, and all of it that is to be durable is.
    Committed(Ended),
    /// Ok, but it leans on another event of its batch that is not: it is to run again, uncounted.
    Again,
    /// Ok, but another one of its idempotency key was completed before: nothing of it is durable.
    Duplicate,
    /// Ok, but the journal does not take it: the engine stops, or it was settled elsewhere.
    Refused,
}

/// The end of an attempt for one event.
pub(super) struct Ended {
    /// How.
    pub outcome: Outcome,
    /// The handler's answer.
    pub reply: Option<Reply>,
    /// What the attempt used.
    pub used: Usage,
    /// Whether that is in the account of its function already.
    pub accounted: bool,
    /// How many events it emitted.
    pub emitted: usize,
    /// The objects it wrote.
    pub written: Vec<ObjectKey>,
    /// The object that triggered is gone or is another one now.
    pub superseded: bool,
    /// When it began.
    pub started: Timestamp,
}

impl Ended {
    /// One without a run of a handler behind it.
    pub fn without_effects(outcome: Outcome, started: Timestamp) -> Ended {
        Ended {
            outcome,
            reply: None,
            used: Usage::default(),
            accounted: true,
            emitted: 0,
            written: Vec::new(),
            superseded: false,
            started,
        }
    }
}

impl Attempt {
    /// Whether its one event ended ok, and what it did is little and depends on no others.
    pub(super) fn is_plain(&self) -> bool {
        let [Answered { outcome, reply }] = &self.answers[..] else {
            return false;
        };
        let reply = reply.as_ref().map_or(0, |reply| reply.body.len());
        let emitted = self.effects.emitted(0).iter().map(Event::size);
        *outcome == Outcome::Ok
            && self.effects.is_without_keys()
            && self.effects.is_without_objects()
            && reply + emitted.sum::<usize>() <= LITTLE
    }

    /// The events that ended ok and lean on none that did not: by what they read, or by their lane.
    fn sound(&self, runs: &[Running<'_>]) -> BTreeSet<usize> {
        let ok = self.answers.iter().enumerate();
        let ok = ok.filter(|(_, answered)| answered.outcome == Outcome::Ok);
        let mut ok: BTreeSet<usize> = ok.map(|(event, _)| event).collect();
        // There is nobody else to lean on.
        if runs.len() == 1 {
            return ok;
        }
        loop {
            let before = ok.len();
            self.effects.keep_sound(&mut ok);
            let mut broken = HashSet::new();
            for (event, run) in runs.iter().enumerate() {
                let Some(lane) = run.completes.lane() else {
                    continue;
                };
                if broken.contains(lane) {
                    ok.remove(&event);
                } else if !ok.contains(&event) {
                    broken.insert(lane);
                }
            }
            if ok.len() == before {
                return ok;
            }
        }
    }

    /// What became of each event, once these are committed.
    pub(super) fn end(self, committed: &BTreeSet<usize>, mut accounted: bool) -> Vec<Ran> {
        let (effects, started, used) = (&self.effects, self.started, self.usage);
        let mut written: BTreeMap<usize, Vec<ObjectKey>> = BTreeMap::new();
        for (place, event, content) in effects.objects(committed) {
            if content.is_some() {
                written.entry(event).or_default().push(place.clone());
            }
        }
        let ran = |(event, Answered { outcome, reply })| {
            let ok = outcome == Outcome::Ok;
            if ok && !committed.contains(&event) {
                return Ran::Again;
            }
            let ended = Ended {
                outcome,
                reply,
                used,
                // The first of a batch carries the account of all.
                accounted: std::mem::replace(&mut accounted, true),
                emitted: if ok { effects.emitted(event).len() } else { 0 },
                written: written.remove(&event).unwrap_or_default(),
                superseded: effects.is_superseded(event),
                started,
            };
            if ok {
                Ran::Committed(ended)
            } else {
                Ran::Failed(ended)
            }
        };
        self.answers.into_iter().enumerate().map(ran).collect()
    }
}

impl Dispatcher {
    /// Runs one event by itself.
    pub(super) async fn run_one(&self, run: Running<'_>) -> Ran {
        self.run_first(run, None).await
    }

    /// The same from here on, if its handler has run for the first time.
    pub(super) async fn run_on(&self, run: Running<'_>, first: Attempt) -> Ran {
        self.run_first(run, Some(first)).await
    }

    async fn run_first(&self, run: Running<'_>, first: Option<Attempt>) -> Ran {
        let ran = self.run_to_commit(&[run], first).await;
        let ran = ran.ok().and_then(|all| all.into_iter().next());
        ran.unwrap_or(Ran::Refused)
    }

    /// Runs the handler until it fails or its effects are committed, together with what they complete.
    /// What of a batch is ok becomes durable in one commit.
    ///
    /// # Errors
    /// [`Broke`], of several events alone.
    pub(super) async fn run_to_commit(
        &self,
        runs: &[Running<'_>],
        first: Option<Attempt>,
    ) -> Result<Vec<Ran>, Broke> {
        let ran = self.run_and_commit(runs, first).await?;
        self.tell_ran(runs, &ran);
        Ok(ran)
    }

    async fn run_and_commit(
        &self,
        runs: &[Running<'_>],
        mut first: Option<Attempt>,
    ) -> Result<Vec<Ran>, Broke> {
        let function = &runs[0].function.plan.name;
        let (mut wanted, mut last) = (BTreeSet::new(), None);
        for _ in 0..=limits::CONFLICT_RERUNS {
            let mut attempt = match first.take() {
                Some(first) => first,
                None => {
                    let tools = self.tools(runs[0].function, Spare::default());
                    let attempt = self.attempt(tools, runs, wanted).await?;
                    self.count(runs, &attempt);
                    attempt
                }
            };
            if matches!(runs[0].completes, Completes::Call(..)) && is_server_error(&attempt) {
                // The handler says itself that it failed, and its client hears it.
                let used = usage(function, attempt.started, attempt.usage);
                self.spare_usage.add(used);
                attempt.effects.discard(0);
                return Ok(attempt.end(&BTreeSet::from([0]), true));
            }
            let mut ok = attempt.sound(runs);
            let written = loop {
                match self.write_objects(runs, &attempt, &ok).await {
                    Ok(written) => break written,
                    Err((event, reason)) => {
                        attempt.answers[event].outcome = Outcome::EffectFailed { reason };
                        ok = attempt.sound(runs);
                    }
                }
            };
            // Without keys there is nothing to rerun for. With them it keeps its place: others who read
            // the same would only be overtaken.
            if let Some(start) = runs[0].start
                && attempt.effects.is_without_keys()
                && (ok.len() == runs.len() || runs.len() == 1)
            {
                self.make_room([start]);
            }
            if ok.is_empty() {
                return Ok(attempt.end(&ok, false));
            }
            let mut decisions = Vec::with_capacity(ok.len());
            for &event in &ok {
                decisions.push(runs[event].completes.decide().await);
            }
            let used = usage(function, attempt.started, attempt.usage);
            let mut unit = Unit {
                reads: attempt.effects.reads(),
                writes: attempt.effects.writes(&ok),
                written,
                usage: Some(used.clone()),
                ..Unit::default()
            };
            let mut held = Vec::new();
            for (&event, decision) in ok.iter().zip(&decisions) {
                let completes = runs[event].completes.now(decision);
                if let Completes::Held(_, one) = completes {
                    held.push(one);
                }
                let reply = attempt.answers[event].reply.as_ref();
                let emitted = attempt.effects.emitted(event);
                self.complete(&mut unit, &runs[event], completes, reply, emitted);
            }
            unit.offsets = self.offsets_steps(&held);
            let kept_elsewhere = |event: &usize| runs[*event].completes.is_kept_elsewhere();
            if ok.iter().all(kept_elsewhere) && !unit.is_durable_matter() {
                self.spare_usage.add(used);
                decisions.iter_mut().for_each(Decision::completed);
                return Ok(attempt.end(&ok, true));
            }
            let result = self.commit_effects(unit).await;
            match result {
                Some(UnitResult::Committed { .. }) => {
                    decisions.iter_mut().for_each(Decision::completed);
                    return Ok(attempt.end(&ok, true));
                }
                Some(UnitResult::Conflict { store, key }) => {
                    let delivery = runs[0].delivery;
                    tracing::debug!(%delivery, store, key, "a read was overtaken");
                    self.metrics.conflict(function);
                    wanted = attempt.effects.touched();
                    last = Some((attempt.started, attempt.usage));
                }
                None => return Ok(runs.iter().map(|_| Ran::Refused).collect()),
                // Which one it is shows when they run by themselves.
                Some(_) if runs.len() > 1 => return Err(Broke { at: None }),
                Some(UnitResult::Duplicate) if runs[0].completes.has_key() => {
                    return Ok(vec![Ran::Duplicate]);
                }
                Some(result) => {
                    tracing::warn!(
                        delivery = %runs[0].delivery, ?result,
                        "settled elsewhere: its effects are thrown away"
                    );
                    return Ok(vec![Ran::Refused]);
                }
            }
        }
        if runs.len() > 1 {
            return Err(Broke { at: None });
        }
        let times = limits::CONFLICT_RERUNS + 1;
        let reason = format!("other attempts changed the keys it read, {times} times in a row");
        let overtaken = Outcome::Retry {
            after: None,
            reason,
        };
        let (started, used) = last.unwrap_or_else(|| (clock::now(), Usage::default()));
        let ended = Ended {
            used,
            accounted: false,
            ..Ended::without_effects(overtaken, started)
        };
        Ok(vec![Ran::Failed(ended)])
    }

    /// Writes the objects of the events that are ok. They are not taken back if one fails or the commit
    /// does: objects are effects outside, at least once. Which event's could not be written, and why.
    async fn write_objects(
        &self,
        runs: &[Running<'_>],
        attempt: &Attempt,
        ok: &BTreeSet<usize>,
    ) -> Result<Vec<WrittenObject>, (usize, String)> {
        let mut written = Vec::new();
        for ((bucket, key), event, content) in attempt.effects.objects(ok) {
            let hops = runs[event].event.hops + 1;
            let feeds_back = attempt.tools.objects.feeds_back(bucket);
            if feeds_back {
                self.hops.announce(bucket, key, hops);
            }
            let done = match content {
                Some(content) => attempt
                    .tools
                    .objects
                    .put(bucket, key, content.clone(), hops)
                    .await
                    .map(Some),
                None => attempt
                    .tools
                    .objects
                    .delete(bucket, key)
                    .await
                    .map(|()| None),
            };
            if let Some(etag) = done.map_err(|error| (event, error.chain()))?
                && feeds_back
            {
                let (bucket, key) = (bucket.clone(), key.clone());
                written.push(WrittenObject {
                    bucket,
                    key,
                    etag,
                    hops,
                });
            }
        }
        Ok(written)
    }
}

/// Whether the handler replied with a status of 500 or more, or with one that no client may get.
fn is_server_error(attempt: &Attempt) -> bool {
    let Answered { outcome, reply } = &attempt.answers[0];
    let status = reply.as_ref().and_then(|reply| reply.status);
    *outcome == Outcome::Ok && status.is_some_and(|status| !(200..500).contains(&status))
}

/// The decision on a held delivery, while it is being made.
pub(super) struct Decision<'a> {
    stage: Option<MutexGuard<'a, Stage>>,
    /// If the journal has taken the delivery over.
    parked: Option<Delivery>,
}

impl<'a> Completes<'a> {
    fn lane(&self) -> Option<&'a str> {
        match self {
            Completes::Delivery(_, delivery) => delivery.lane.as_deref(),
            Completes::Held(_, held) => held.delivery.lane.as_deref(),
            Completes::Call(..) | Completes::Nothing => None,
        }
    }

    fn has_key(&self) -> bool {
        match self {
            Completes::Delivery(_, delivery) => delivery.key.is_some(),
            Completes::Call(_, identity) => identity.is_some(),
            // By its id or its offset.
            Completes::Held(..) => true,
            Completes::Nothing => false,
        }
    }

    /// Whether all that it completes is kept elsewhere, so that without effects there is nothing to
    /// commit.
    fn is_kept_elsewhere(&self) -> bool {
        matches!(self, Completes::Call(..) | Completes::Held(..))
    }

    /// Nobody else decides on what it completes until the decision is dropped.
    pub(super) async fn decide(self) -> Decision<'a> {
        let Completes::Held(_, held) = self else {
            return Decision {
                stage: None,
                parked: None,
            };
        };
        let stage = held.stage.lock().await;
        let parked = match *stage {
            Stage::Parked { seq, .. } => Some(held.parked(seq)),
            _ => None,
        };
        let stage = Some(stage);
        Decision { stage, parked }
    }

    /// What it completes as things are.
    fn now<'b>(self, decision: &'b Decision<'_>) -> Completes<'b>
    where
        'a: 'b,
    {
        match (self, &decision.parked) {
            (Completes::Held(trigger, _), Some(delivery)) => Completes::Delivery(trigger, delivery),
            _ => self,
        }
    }
}

impl Decision<'_> {
    /// The journal has taken it over.
    pub(super) fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    pub(super) fn completed(&mut self) {
        if let Some(stage) = &mut self.stage {
            **stage = Stage::Over;
        }
    }
}
