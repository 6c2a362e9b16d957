//! `tidemill dead-letters`: list, show, redrive, purge.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::anyhow;
use clap::Subcommand;
use serde::Serialize;
use tidemill_config::plan::Plan;
use tidemill_core::{delivery::Cause, identity::DeliveryId, rate::Rate};
use tokio::runtime::Runtime;

use super::{
    ConfigArg, Failure, counted,
    operator::Operator,
    progress::{Pace, Progress},
    reader::{Reader, runtime},
    which::{Chosen, Which},
};
use crate::{
    admin::ListQuery,
    dispatcher::redrive::{purge, redrive},
    views::{Data, DeadLetterDetail, DeadLetterView, FailedView, PurgedView, RedrivenView},
};

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(super) enum DeadLetters {
    /// List them, the oldest first.
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many.
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = count)]
        limit: usize,
        /// Answer in JSON, one dead letter a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show one with its event and every attempt.
    Show {
        /// Its id.
        id: DeliveryId,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Make new deliveries of them: the current function, attempts from zero.
    Redrive {
        #[command(flatten)]
        chosen: Chosen,
        /// The object as it was when the event came, in place of as it is now.
        #[arg(long)]
        original: bool,
        /// No faster than so: a count, and s, m or h, such as `50/s`.
        #[arg(long)]
        rate: Option<Rate>,
        /// Show which they would be, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Answer in JSON, one dead letter a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Throw them away.
    Purge {
        #[command(flatten)]
        chosen: Chosen,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Show which they would be, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Answer in JSON, one dead letter a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

impl DeadLetters {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            DeadLetters::List {
                which,
                limit,
                json,
                config,
            } => {
                let plan = config.plan()?;
                let reader = Reader::open(&plan)?;
                list(&reader, which.query(&plan, &reader)?, limit, json)
            }
            DeadLetters::Show { id, json, config } => {
                show(&Reader::open(&config.plan()?)?.show(id)?, json)
            }
            DeadLetters::Redrive {
                chosen,
                original,
                rate,
                dry_run,
                json,
                config,
            } => {
                let plan = config.plan()?;
                let reader = Reader::open(&plan)?;
                if dry_run {
                    return would(&chosen, &plan, &reader, "redriven", json);
                }
                let ids = chosen.ids(&plan, &reader)?;
                let desk = Desk::find(&plan)?;
                each(&ids, Pace::new(rate), "redriven", json, |id| {
                    desk.redrive(id, original)
                })
            }
            DeadLetters::Purge {
                chosen,
                yes,
                dry_run,
                json,
                config,
            } => {
                let plan = config.plan()?;
                let reader = Reader::open(&plan)?;
                if dry_run {
                    return would(&chosen, &plan, &reader, "purged", json);
                }
                let ids = chosen.ids(&plan, &reader)?;
                let desk = Desk::find(&plan)?;
                if !yes && !confirmed(ids.len())? {
                    return Ok(());
                }
                each(&ids, Pace::new(None), "purged", json, |id| desk.purge(id))
            }
        }
    }
}

/// Who changes the journal, with the calls of this command.
struct Desk {
    operator: Operator,
    runtime: Runtime,
}

impl Desk {
    fn find(plan: &Plan) -> Result<Desk, Failure> {
        Ok(Desk {
            operator: Operator::find(plan)?,
            runtime: runtime()?,
        })
    }

    fn redrive(&self, id: DeliveryId, original: bool) -> anyhow::Result<RedrivenView> {
        match &self.operator {
            Operator::Here { journal, .. } => {
                let redriven = redrive(&**journal, id, original);
                let new = self.runtime.block_on(redriven)?.id;
                Ok(RedrivenView { of: id, id: new })
            }
            Operator::There(engine) => {
                let path = format!("/api/dead-letters/{id}/redrive?original={original}");
                engine.post(&path, &())
            }
        }
    }

    fn purge(&self, id: DeliveryId) -> anyhow::Result<PurgedView> {
        match &self.operator {
            Operator::Here { journal, .. } => self.runtime.block_on(purge(&**journal, id))?,
            Operator::There(engine) => engine.delete(&format!("/api/dead-letters/{id}"))?,
        }
        Ok(PurgedView { id })
    }
}

fn list(reader: &Reader, query: ListQuery, limit: usize, json: bool) -> Result<(), Failure> {
    let mut shown = 0;
    reader.pages(query, limit, |line| {
        shown += 1;
        print_line(&line, json)
    })?;
    if !json {
        match shown {
            0 => outln!("no dead letters"),
            n if n == limit => outln!("the first {n}; --limit shows more"),
            n => {
                outln!("{n} in all; `tidemill dead-letters show ID` shows one with its attempts")
            }
        }
    }
    Ok(())
}

/// What would be done, and to which.
fn would(
    chosen: &Chosen,
    plan: &Plan,
    reader: &Reader,
    done: &str,
    json: bool,
) -> Result<(), Failure> {
    let mut count = 0;
    chosen.list(plan, reader, |line| {
        count += 1;
        print_line(&line, json)
    })?;
    if !json {
        outln!("{count} would be {done}");
    }
    Ok(())
}

fn print_line(line: &DeadLetterView, json: bool) -> Result<(), Failure> {
    if json {
        outln!("{}", serde_json::to_string(line)?);
        return Ok(());
    }
    let subject = line.subject.as_deref().unwrap_or("-");
    outln!("{}  {}  {}  {subject}", line.id, line.died, line.trigger);
    outln!("    {}: {}", given_up(line), line.reason);
    Ok(())
}

fn given_up(line: &DeadLetterView) -> String {
    let why = match line.cause {
        Cause::Rejected => "rejected",
        Cause::Attempts => "given up",
        Cause::Age => "grown too old",
        Cause::Loop => "part of a loop, given up",
        Cause::Unmatched => "not for any trigger, given up",
        Cause::TooLarge => "too large, given up",
    };
    format!("{why} after {}", counted(line.attempts, "attempt"))
}

fn show(detail: &DeadLetterDetail, json: bool) -> Result<(), Failure> {
    if json {
        outln!("{}", serde_json::to_string_pretty(detail)?);
        return Ok(());
    }
    let (line, event) = (&detail.line, &detail.event);
    outln!("dead letter  {}", line.id);
    outln!("trigger      {}", line.trigger);
    outln!("given up     {} ({})", line.died, given_up(line));
    outln!("reason       {}", line.reason);
    outln!("accepted     {}", detail.accepted);
    outln!("event        {} {}", event.kind, event.id);
    outln!("source       {}", event.source);
    outln!("subject      {}", event.subject.as_deref().unwrap_or("-"));
    outln!(
        "trace        {}",
        event.traceparent.as_deref().unwrap_or("-")
    );
    outln!("attempts");
    for attempt in &detail.history {
        outln!(
            "  {}  {}  {}",
            attempt.attempt,
            attempt.started,
            attempt.reason
        );
    }
    match &event.data {
        Data::Data(text) => outln!("data\n{text}"),
        Data::DataHex(hex) => outln!("data (hexadecimal)\n{hex}"),
    }
    Ok(())
}

/// Does it for each, no faster than told, and counts what failed.
fn each<T: Serialize>(
    ids: &[DeliveryId],
    mut pace: Pace,
    done: &'static str,
    json: bool,
    mut act: impl FnMut(DeliveryId) -> anyhow::Result<T>,
) -> Result<(), Failure> {
    let mut progress = Progress::new(ids.len(), done)?;
    let mut failed = 0;
    for (n, &id) in ids.iter().enumerate() {
        pace.pause();
        let acted = act(id);
        failed += usize::from(acted.is_err());
        match acted {
            Ok(view) if json => outln!("{}", serde_json::to_string(&view)?),
            Ok(_) => {}
            Err(error) if json => {
                let error = format!("{error:#}");
                outln!("{}", serde_json::to_string(&FailedView { id, error })?);
            }
            Err(error) => progress.say(&named(id, &format!("{error:#}"))),
        }
        progress.at(n + 1);
    }
    progress.end();
    if !json {
        outln!("{} {done}", ids.len() - failed);
    }
    match failed {
        0 => Ok(()),
        n => Err(Failure::Failed(anyhow!("{n} not {done}"))),
    }
}

/// An error with the dead letter that it is about.
fn named(id: DeliveryId, error: &str) -> String {
    match error.contains(&id.to_string()) {
        true => error.to_owned(),
        false => format!("{id}: {error}"),
    }
}

fn count(text: &str) -> Result<usize, &'static str> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or("expected a count from 1 on")
}

fn confirmed(count: usize) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Wrong(anyhow!(
            "to throw {count} away for ever, say --yes; --dry-run shows which"
        )));
    }
    out!("Throw {count} dead letters away for ever? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
