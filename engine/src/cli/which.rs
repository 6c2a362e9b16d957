//! Which dead letters a command is about: by what they are, or by their ids.

use anyhow::anyhow;
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use tidemill_config::plan::Plan;
use tidemill_core::{delivery::Cause, identity::DeliveryId, time::Timestamp};

use super::{Failure, known_trigger, reader::Reader};
use crate::{
    admin::ListQuery,
    clock, operations,
    views::{DeadLetterDetail, DeadLetterView},
};

/// Dead letters by what they are.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Of this trigger; its outbox is `NAME/outbox`. May be given several times.
    #[arg(long = "trigger", value_name = "NAME")]
    triggers: Vec<String>,
    /// Given up for this cause. May be given several times.
    #[arg(long = "cause", value_name = "CAUSE", value_parser = cause_parser())]
    causes: Vec<Cause>,
    /// Whose reason contains this text.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Given up at this instant or after it, such as `2027-03-28T00:00:00Z`, or so long ago, such as
    /// `2h`.
    #[arg(long, value_name = "WHEN", value_parser = instant)]
    since: Option<Timestamp>,
    /// Given up before this instant, or so long ago or more.
    #[arg(long, value_name = "WHEN", value_parser = instant)]
    until: Option<Timestamp>,
}

fn cause_parser() -> impl TypedValueParser<Value = Cause> {
    let names = PossibleValuesParser::new(Cause::ALL.map(Cause::as_str));
    names.map(|name| Cause::from_name(&name).expect("it is one of the names"))
}

/// An instant, or how long ago it was.
fn instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ago = humantime::parse_duration(text).map_err(|_| {
        "expected an instant such as `2027-03-28T00:00:00Z`, or how long ago it was, such as `2h`"
    })?;
    Ok(clock::now().minus(ago))
}

impl Which {
    /// What to ask for, once it is sure that it makes sense.
    pub(super) fn query(&self, plan: &Plan, reader: &Reader) -> Result<ListQuery, Failure> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            return Err(Failure::Wrong(anyhow!(
                "nothing is given up from {since} on (--since) and before {until} (--until): \
                 exchange them"
            )));
        }
        for name in &self.triggers {
            known(name, plan, reader)?;
        }
        Ok(ListQuery {
            trigger: self.triggers.clone(),
            cause: self.causes.clone(),
            reason: self.reason.clone(),
            since: self.since.map(|at| at.0),
            until: self.until.map(|at| at.0),
            ..ListQuery::default()
        })
    }

    fn is_all(&self) -> bool {
        let Which {
            triggers,
            causes,
            reason,
            since,
            until,
        } = self;
        triggers.is_empty()
            && causes.is_empty()
            && reason.is_none()
            && since.is_none()
            && until.is_none()
    }
}

/// A trigger of the plan, or one of before that left dead letters.
fn known(name: &str, plan: &Plan, reader: &Reader) -> Result<(), Failure> {
    let Err(unknown) = known_trigger(plan, name) else {
        return Ok(());
    };
    let any = ListQuery {
        trigger: vec![name.to_owned()],
        limit: Some(1),
        ..ListQuery::default()
    };
    let page = operations::list(&reader.journal, &any);
    if !reader.runtime.block_on(page)?.dead_letters.is_empty() {
        return Ok(());
    }
    Err(unknown)
}

/// Dead letters, one by one or by what they are.
#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// Their ids.
    ids: Vec<DeliveryId>,
    /// All there are.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    which: Which,
}

impl Chosen {
    /// The dead letters, as they are now. They are listed before anything is done, so that one that
    /// dies again meanwhile is not taken twice.
    pub(super) fn list(
        &self,
        plan: &Plan,
        reader: &Reader,
        mut each: impl FnMut(DeadLetterView) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.check()?;
        if self.ids.is_empty() {
            return reader.pages(self.which.query(plan, reader)?, usize::MAX, each);
        }
        self.ids
            .iter()
            .try_for_each(|id| each(reader.show(*id)?.line))
    }

    /// Their ids: those that were given are not looked up.
    pub(super) fn ids(&self, plan: &Plan, reader: &Reader) -> Result<Vec<DeliveryId>, Failure> {
        self.check()?;
        let mut ids = self.ids.clone();
        if ids.is_empty() {
            self.list(plan, reader, |line| {
                ids.push(line.id);
                Ok(())
            })?;
        }
        Ok(ids)
    }

    fn check(&self) -> Result<(), Failure> {
        let by_what = self.all || !self.which.is_all();
        match (self.ids.is_empty(), by_what) {
            (true, false) => Err(Failure::Wrong(anyhow!(
                "which ones? Name them by their ids, or by --trigger, --cause, --reason, --since or \
                 --until, or say --all"
            ))),
            (false, true) => Err(Failure::Wrong(anyhow!(
                "name dead letters by their ids or by what they are, not by both"
            ))),
            _ => Ok(()),
        }
    }
}

impl Reader {
    /// The first `limit` of those that match, the oldest first.
    pub(super) fn pages(
        &self,
        mut query: ListQuery,
        limit: usize,
        mut each: impl FnMut(DeadLetterView) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut left = limit;
        while left > 0 {
            query.limit = Some(left);
            let page = operations::list(&self.journal, &query);
            let page = self.runtime.block_on(page)?;
            left = left.saturating_sub(page.dead_letters.len());
            page.dead_letters.into_iter().try_for_each(&mut each)?;
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        Ok(())
    }

    pub(super) fn show(&self, id: DeliveryId) -> anyhow::Result<DeadLetterDetail> {
        Ok(self.runtime.block_on(operations::show(&self.journal, id))?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_instant_is_told_or_counted_back() {
        assert_eq!(instant("1970-01-01T00:00:01Z"), Ok(Timestamp(1000)));
        let (before, two_hours) = (clock::now(), Duration::from_secs(7200));
        let at = instant("2h").expect("a duration");
        assert!(at >= before.minus(two_hours) && at <= clock::now().minus(two_hours));
        for wrong in ["", "yesterday", "2", "2027-03-28"] {
            instant(wrong).expect_err(wrong);
        }
    }
}
