//! `tidemill invoke`: one attempt of a function, by hand.

use std::{fs, io::Read, sync::Arc};

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::value::RawValue;
use tidemill_config::plan::Plan;
use tidemill_connectors::cloudevent::encode_structured;
use tidemill_core::event::Event;
use tidemill_sandbox::Compiler;
use tokio_util::sync::CancellationToken;

use super::{ConfigArg, Failure, known_function, operator::Operator, run::refuse_not_built};
use crate::{
    assemble::{self, Assembled, Selection},
    by_hand,
    logging::{self, LogFormat},
    views::{Data, InvokedView},
};

/// What to run, with what.
#[derive(Debug, Args)]
pub(super) struct Invoke {
    /// The function.
    function: String,
    /// The event: a CloudEvent in JSON, or plain data. `@FILE` reads a file, `-` standard input.
    #[arg(long, default_value = "")]
    data: String,
    /// The event's type.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// The event's source.
    #[arg(long)]
    source: Option<String>,
    /// The event's subject, such as the key of an object.
    #[arg(long)]
    subject: Option<String>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

impl Invoke {
    pub(super) fn run(self, log: LogFormat) -> Result<(), Failure> {
        let plan = self.config.plan()?;
        refuse_not_built(&plan)?;
        known_function(&plan, &self.function)?;
        let text = read(&self.data).map_err(Failure::Wrong)?;
        let (function, json) = (self.function, self.json);
        let made = by_hand::from_text(&text, self.kind, self.source, self.subject);
        let event = made.context("--data").map_err(Failure::Wrong)?;
        let invoked = match Operator::find(&plan)? {
            Operator::There(engine) => {
                let body = encode_structured(&event).body;
                let body: Box<RawValue> = serde_json::from_slice(&body)?;
                engine.post(&format!("/api/invoke/{function}"), &body)?
            }
            here => {
                // The assembly opens the journal itself; the lock stays.
                let Operator::Here { journal, _lock } = here else {
                    unreachable!("matched above")
                };
                journal.close();
                logging::start(log);
                invoke_here(&plan, &function, event)?
            }
        };
        show(&invoked, json)?;
        if invoked.outcome == "ok" {
            return Ok(());
        }
        let reason = invoked.reason.unwrap_or(invoked.outcome);
        Err(Failure::Failed(anyhow!("function `{function}`: {reason}")))
    }
}

fn invoke_here(plan: &Plan, function: &str, event: Event) -> Result<InvokedView, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let selection = Selection::Only(function.to_owned());
        let assembled = assemble::assemble(plan, selection, Compiler::Here, &stop).await;
        let Assembled {
            dispatcher,
            journal,
            ..
        } = assembled.map_err(assemble::StartErrors::into_error)?;
        let invoked = Arc::clone(&dispatcher).invoke(function, event).await;
        journal.close();
        let invoked = invoked.context("the function was not deployed")?;
        Ok(invoked.into())
    })
}

fn read(data: &str) -> anyhow::Result<String> {
    if data == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(text);
    }
    match data.strip_prefix('@') {
        Some(file) => {
            fs::read_to_string(file).with_context(|| format!("cannot read --data {data}"))
        }
        None => Ok(data.to_owned()),
    }
}

fn show(invoked: &InvokedView, json: bool) -> anyhow::Result<()> {
    if json {
        outln!("{}", serde_json::to_string_pretty(invoked)?);
        return Ok(());
    }
    if let Some(reply) = &invoked.reply {
        match &reply.data {
            Data::Data(text) => outln!("{text}"),
            Data::DataHex(hex) => outln!("{hex}"),
        }
    }
    let (ms, kib) = (invoked.wall_us as f64 / 1000.0, invoked.memory / 1024);
    eprintln!("{} in {ms:.1} ms, {kib} KiB of memory", invoked.outcome);
    if invoked.emitted > 0 {
        eprintln!("events emitted: {}", invoked.emitted);
    }
    for (bucket, key) in &invoked.written {
        eprintln!("wrote {bucket}/{key}");
    }
    Ok(())
}
