//! `tidemill dead-letters`: list, show, redrive, purge.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    time::Duration,
};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tidemill_core::{delivery::Cause, identity::DeliveryId};
use tidemill_journal::{SqliteJournal, SqliteOptions};
use tokio::runtime::Runtime;

use super::{ConfigArg, Failure, load, operator::Operator};
use crate::{
    admin::ListQuery,
    assemble, clock,
    dispatcher::redrive::{purge, redrive},
    operations,
    views::{Data, DeadLetterDetail, DeadLetterPage, DeadLetterView, RedrivenView},
};

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(super) enum DeadLetters {
    /// List them, the oldest first.
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
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
        /// Their ids.
        ids: Vec<DeliveryId>,
        /// All that match instead.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        #[command(flatten)]
        which: Which,
        /// The object as it was when the event came, in place of as it is now.
        #[arg(long)]
        original: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Throw them away.
    Purge {
        /// Their ids.
        ids: Vec<DeliveryId>,
        /// All that match instead.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        #[command(flatten)]
        which: Which,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// Which dead letters.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Of this trigger; its outbox is `NAME/outbox`.
    #[arg(long)]
    trigger: Option<String>,
    /// Whose reason contains this text.
    #[arg(long)]
    reason: Option<String>,
    /// Given up within this time, such as `2h`.
    #[arg(long, value_parser = humantime::parse_duration)]
    within: Option<Duration>,
}

impl Which {
    fn query(&self) -> ListQuery {
        let back = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        ListQuery {
            trigger: self.trigger.clone(),
            reason: self.reason.clone(),
            since: self.within.map(|d| clock::now().0.saturating_sub(back(d))),
            ..ListQuery::default()
        }
    }
}

impl DeadLetters {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            DeadLetters::List {
                which,
                limit,
                json,
                config,
            } => list(&Reader::open(&config)?, which.query(), limit, json),
            DeadLetters::Show { id, json, config } => show(&Reader::open(&config)?.show(id)?, json),
            DeadLetters::Redrive {
                ids,
                all,
                which,
                original,
                config,
            } => {
                let ids = Reader::open(&config)?.chosen(ids, all, &which)?;
                let desk = Desk::find(&config)?;
                each(&ids, "redriven", |id| desk.redrive(id, original).map(drop))
            }
            DeadLetters::Purge {
                ids,
                all,
                which,
                yes,
                config,
            } => {
                let ids = Reader::open(&config)?.chosen(ids, all, &which)?;
                let desk = Desk::find(&config)?;
                if !yes && !confirmed(ids.len())? {
                    return Ok(());
                }
                each(&ids, "purged", |id| desk.purge(id))
            }
        }
    }
}

/// The journal, opened to read: that needs no lock, whether an engine runs on it or not.
struct Reader {
    journal: SqliteJournal,
    runtime: Runtime,
}

impl Reader {
    fn open(config: &ConfigArg) -> Result<Reader, Failure> {
        let plan = load(&config.config)?;
        let options = SqliteOptions {
            read_only: true,
            ..SqliteOptions::default()
        };
        let journal = SqliteJournal::open(&assemble::journal_path(&plan.engine), options)?;
        Ok(Reader {
            journal,
            runtime: runtime()?,
        })
    }

    fn list(&self, query: &ListQuery) -> anyhow::Result<DeadLetterPage> {
        Ok(self
            .runtime
            .block_on(operations::list(&self.journal, query))?)
    }

    fn show(&self, id: DeliveryId) -> anyhow::Result<DeadLetterDetail> {
        Ok(self.runtime.block_on(operations::show(&self.journal, id))?)
    }

    /// The ids named, or all that match. Listed before anything is done, so that a dead letter that
    /// dies again meanwhile is not taken twice.
    fn chosen(
        &self,
        ids: Vec<DeliveryId>,
        all: bool,
        which: &Which,
    ) -> Result<Vec<DeliveryId>, Failure> {
        let filtered = which.trigger.is_some() || which.reason.is_some() || which.within.is_some();
        if !all && (ids.is_empty() || filtered) {
            return Err(Failure::Wrong(anyhow!(
                "name the dead letters by their ids, or say --all, with --trigger, --reason or \
                 --within to narrow it"
            )));
        }
        if !all {
            return Ok(ids);
        }
        let (mut query, mut ids) = (which.query(), Vec::new());
        loop {
            let page = self.list(&query)?;
            ids.extend(page.dead_letters.iter().map(|line| line.id));
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(ids),
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
    fn find(config: &ConfigArg) -> Result<Desk, Failure> {
        Ok(Desk {
            operator: Operator::find(&load(&config.config)?)?,
            runtime: runtime()?,
        })
    }

    fn redrive(&self, id: DeliveryId, original: bool) -> anyhow::Result<DeliveryId> {
        match &self.operator {
            Operator::Here { journal, .. } => {
                Ok(self.runtime.block_on(redrive(&**journal, id, original))?.id)
            }
            Operator::There(engine) => {
                let path = format!("/api/dead-letters/{id}/redrive?original={original}");
                Ok(engine.post::<RedrivenView>(&path, &())?.id)
            }
        }
    }

    fn purge(&self, id: DeliveryId) -> anyhow::Result<()> {
        match &self.operator {
            Operator::Here { journal, .. } => Ok(self.runtime.block_on(purge(&**journal, id))?),
            Operator::There(engine) => engine.delete(&format!("/api/dead-letters/{id}")),
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn list(reader: &Reader, mut query: ListQuery, limit: usize, json: bool) -> Result<(), Failure> {
    let mut left = limit;
    let mut shown = 0;
    while left > 0 {
        query.limit = Some(left);
        let page = reader.list(&query)?;
        for line in &page.dead_letters {
            if json {
                println!("{}", serde_json::to_string(line)?);
            } else {
                print_line(line);
            }
        }
        shown += page.dead_letters.len();
        left = left.saturating_sub(page.dead_letters.len());
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    if !json {
        match shown {
            0 => println!("no dead letters"),
            n if n == limit => println!("the first {n}; --limit shows more"),
            n => {
                println!("{n} in all; `tidemill dead-letters show ID` shows one with its attempts")
            }
        }
    }
    Ok(())
}

fn print_line(line: &DeadLetterView) {
    let subject = line.subject.as_deref().unwrap_or("-");
    println!("{}  {}  {}  {subject}", line.id, line.died, line.trigger);
    println!("    {}: {}", given_up(line), line.reason);
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
    let s = if line.attempts == 1 { "" } else { "s" };
    format!("{why} after {} attempt{s}", line.attempts)
}

fn show(detail: &DeadLetterDetail, json: bool) -> Result<(), Failure> {
    if json {
        println!("{}", serde_json::to_string_pretty(detail)?);
        return Ok(());
    }
    let (line, event) = (&detail.line, &detail.event);
    println!("dead letter  {}", line.id);
    println!("trigger      {}", line.trigger);
    println!("given up     {} ({})", line.died, given_up(line));
    println!("reason       {}", line.reason);
    println!("accepted     {}", detail.accepted);
    println!("event        {} {}", event.kind, event.id);
    println!("source       {}", event.source);
    println!("subject      {}", event.subject.as_deref().unwrap_or("-"));
    println!(
        "trace        {}",
        event.traceparent.as_deref().unwrap_or("-")
    );
    println!("attempts");
    for attempt in &detail.history {
        println!(
            "  {}  {}  {}",
            attempt.attempt, attempt.started, attempt.reason
        );
    }
    match &event.data {
        Data::Data(text) => println!("data\n{text}"),
        Data::DataHex(hex) => println!("data (hexadecimal)\n{hex}"),
    }
    Ok(())
}

/// Does it for each, shows progress if it is long work for a person, and counts what failed.
fn each(
    ids: &[DeliveryId],
    done: &str,
    mut act: impl FnMut(DeliveryId) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}  {eta}")?;
    let bar = ProgressBar::new(ids.len() as u64)
        .with_style(style)
        .with_message(done.to_owned());
    let mut failed = 0;
    for id in ids {
        if let Err(error) = act(*id) {
            bar.suspend(|| eprintln!("{id}: {error:#}"));
            failed += 1;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("{} {done}", ids.len() - failed);
    match failed {
        0 => Ok(()),
        n => Err(Failure::Failed(anyhow!("{n} not {done}"))),
    }
}

fn confirmed(count: usize) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Wrong(anyhow!(
            "purging {count} dead letters for ever: say --yes"
        )));
    }
    print!("Throw {count} dead letters away for ever? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
