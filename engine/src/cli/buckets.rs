//! `tidemill buckets status`: what the ledgers hold, and how a running engine finds objects.

use std::{fmt::Write, time::Duration};

use anyhow::anyhow;
use clap::Subcommand;
use tidemill_config::plan::Plan;
use tidemill_journal::LockInfo;

use super::{ConfigArg, Failure, admin_token, operator::Client, reader::Reader};
use crate::buckets::{self, BucketSourceView, BucketView};

/// What to do with buckets.
#[derive(Debug, Subcommand)]
pub(super) enum Buckets {
    /// Show what the engine knows of the buckets that triggers listen to, and how it finds objects.
    Status {
        /// Of this bucket; all, if it is not given.
        bucket: Option<String>,
        /// Answer in JSON, one bucket a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

impl Buckets {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Buckets::Status {
            bucket,
            json,
            config,
        } = self;
        let plan = config.plan()?;
        let mut views = views(&plan)?;
        if let Some(bucket) = &bucket {
            views.retain(|view| view.bucket == *bucket);
            if views.is_empty() {
                let file = config.config.display();
                let why = anyhow!("no trigger of {file} listens to a bucket `{bucket}`");
                return Err(Failure::Wrong(why));
            }
        }
        if views.is_empty() && !json {
            outln!(
                "no trigger of {} listens to a bucket",
                config.config.display()
            );
        }
        for (n, view) in views.iter().enumerate() {
            match json {
                true => outln!("{}", serde_json::to_string(view)?),
                false => out!("{}{}", if n == 0 { "" } else { "\n" }, text(view)),
            }
        }
        Ok(())
    }
}

/// By name. The journal is opened to read, which needs no lock.
fn views(plan: &Plan) -> Result<Vec<BucketView>, Failure> {
    let reader = Reader::open(plan)?;
    let views = buckets::of_the_journal(plan, &reader.journal);
    let mut views = reader.runtime.block_on(views)?;
    let mut sources = running(plan)?;
    for view in &mut views {
        let own = sources
            .iter()
            .position(|source| source.bucket == view.bucket);
        view.source = own.map(|own| sources.swap_remove(own));
    }
    Ok(views)
}

/// What the running engine says; nothing, if none runs.
fn running(plan: &Plan) -> Result<Vec<BucketSourceView>, Failure> {
    let holder = LockInfo::read(&plan.engine.data)?;
    let Some(address) = holder.and_then(|holder| holder.admin) else {
        return Ok(Vec::new());
    };
    Ok(Client::new(&address, admin_token(plan)?).get("/api/buckets")?)
}

fn text(view: &BucketView) -> String {
    let mut text = format!("{}\n", view.bucket);
    let mut line = |what: &str, words: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {what:<10}{words}");
    };
    let so_far = if view.complete {
        ""
    } else {
        ", not listed to the end yet"
    };
    let (objects, gone) = (view.objects, view.gone);
    line(
        "ledger",
        format!("{objects} objects, {gone} keys that went lately{so_far}"),
    );
    line("pending", format!("{} deliveries", view.pending));
    let Some(source) = &view.source else {
        line("source", "no engine runs on this file's data".into());
        return text;
    };
    line("source", source.state.clone());
    let took = shown(source.took_ms);
    line(
        "listing",
        match &source.listed {
            Some(at) => format!("ended {at} after {took}, {} objects", source.found),
            None => format!("the first is under way, {} objects so far", source.found),
        },
    );
    line(
        "noticed",
        format!(
            "{} by notification, {} by listing, {} of them missed by notifications",
            source.by_notification, source.by_listing, source.missed
        ),
    );
    line(
        "lag",
        match source.lag_ms {
            Some(lag) => format!(
                "{} in the middle, {} at most",
                shown(lag.median),
                shown(lag.max)
            ),
            None => "nothing came since the first listing".into(),
        },
    );
    text
}

fn shown(millis: u64) -> String {
    humantime::format_duration(Duration::from_millis(millis)).to_string()
}
