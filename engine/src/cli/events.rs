//! `tidemill events tail`: the attempts of a running engine as they end.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    thread,
};

use anyhow::{Context, anyhow};
use clap::{
    Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tidemill_config::plan::Plan;
use tidemill_core::outcome::OutcomeName;
use tidemill_journal::LockInfo;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::{
    ConfigArg, Failure, admin_token, known_function, known_trigger, operator::Client,
    reader::runtime,
};
use crate::views::{AttemptView, LeftOutView};

/// What to do with events.
#[derive(Debug, Subcommand)]
pub(super) enum Events {
    /// Follow a running engine: a line for each attempt as it ends, and for each delivery that is given
    /// up.
    ///
    /// Ends with Ctrl-C, or when the engine stops. The engine does not wait for a slow terminal; what
    /// was left out is told.
    Tail {
        /// Of this trigger; its outbox is `NAME/outbox`. May be given several times.
        #[arg(long = "trigger", value_name = "NAME")]
        triggers: Vec<String>,
        /// Of this function. May be given several times.
        #[arg(long = "function", value_name = "NAME")]
        functions: Vec<String>,
        /// Of events of this type.
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// Of events of this source, such as `bucket:uploads`.
        #[arg(long)]
        source: Option<String>,
        /// That ended so; `dead` is a delivery that was given up. May be given several times.
        #[arg(long = "outcome", value_name = "OUTCOME", value_parser = outcomes())]
        outcomes: Vec<String>,
        /// Answer in JSON, one attempt a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

fn outcomes() -> impl TypedValueParser<Value = String> {
    let names = OutcomeName::ALL.map(OutcomeName::as_str);
    PossibleValuesParser::new(names.into_iter().chain([AttemptView::DEAD]))
}

impl Events {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Events::Tail {
            triggers,
            functions,
            kind,
            source,
            outcomes,
            json,
            config,
        } = self;
        let plan = config.plan()?;
        for name in &triggers {
            known_trigger(&plan, name)?;
        }
        for name in &functions {
            known_function(&plan, name)?;
        }
        let wanted = [
            ("trigger", Some(triggers.join(","))),
            ("function", Some(functions.join(","))),
            ("outcome", Some(outcomes.join(","))),
            ("type", kind),
            ("source", source),
        ];
        let path = path(&wanted);
        let (client, address) = engine(&plan)?;
        // Before the engine is asked: a Ctrl-C from here on is an end.
        let runtime = runtime()?;
        let guard = runtime.enter();
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        drop(guard);
        let lines = client.follow(&path)?;
        eprintln!("following the engine at {address}; Ctrl-C ends it");
        // The thread reads until there is nothing more, or until the process ends.
        let (ended, mut end) = oneshot::channel();
        thread::spawn(move || ended.send(show(lines, json)));
        runtime.block_on(async {
            tokio::select! {
                end = &mut end => end.unwrap_or_else(|_| Err(anyhow!("the reader of its lines broke"))),
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
            }
        })?;
        Ok(())
    }
}

/// What to ask for: empty parts match all.
fn path(wanted: &[(&str, Option<String>)]) -> String {
    let parts = wanted.iter().filter_map(|(name, value)| {
        let value = value.as_ref().filter(|value| !value.is_empty())?;
        // The commas between names stay as they are.
        let value = value
            .split(',')
            .map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string());
        Some(format!("{name}={}", value.collect::<Vec<_>>().join(",")))
    });
    format!("/api/events/tail?{}", parts.collect::<Vec<_>>().join("&"))
}

/// The engine that runs on the data of this plan.
fn engine(plan: &Plan) -> Result<(Client, String), Failure> {
    let holder = LockInfo::read(&plan.engine.data)?;
    let Some(holder) = holder else {
        return Err(Failure::Failed(anyhow!(
            "no engine runs on {}: start it with `tidemill run {}`",
            plan.engine.data.display(),
            plan.file.display()
        )));
    };
    let address = holder.admin.ok_or_else(|| {
        let (data, pid) = (plan.engine.data.display(), holder.pid);
        anyhow!(
            "process {pid} holds {data}, and is still starting or is another command: try again"
        )
    })?;
    Ok((Client::new(&address, admin_token(plan)?), address))
}

/// Shows the lines until there are no more: the engine has stopped, or nobody reads what is shown.
fn show(lines: impl Read, json: bool) -> anyhow::Result<()> {
    for line in BufReader::new(lines).lines() {
        let line = line.context("the engine is gone without a word: its log says why")?;
        // Only a sign of life.
        if line.is_empty() {
            continue;
        }
        let shown = if json { line } else { text(&line)? };
        match writeln!(io::stdout(), "{shown}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            done => done?,
        }
    }
    eprintln!("the engine has stopped");
    Ok(())
}

fn text(line: &str) -> anyhow::Result<String> {
    if let Ok(LeftOutView { left_out }) = serde_json::from_str(line) {
        let s = if left_out == 1 { " was" } else { "s were" };
        return Ok(format!(
            "{left_out} line{s} left out: this terminal is too slow"
        ));
    }
    let view: AttemptView =
        serde_json::from_str(line).context("the engine's answer is not understood")?;
    let subject = view.subject.as_deref().unwrap_or("-");
    let mut text = format!(
        "{}  {}  {}  {} {subject}  #{}  {}",
        view.time, view.trigger, view.delivery, view.kind, view.attempt, view.outcome
    );
    if let Some(ms) = view.ms {
        text.push_str(&format!("  {ms:.1} ms"));
    }
    if let Some(reason) = &view.reason {
        text.push_str(&format!("  {}", reason.replace('\n', " ")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_encoded() {
        let some = |text: &str| Some(text.to_owned());
        let wanted = [
            ("trigger", some("a-b,c/outbox")),
            ("type", some("x&y=é")),
            ("source", None),
            ("outcome", some("")),
        ];
        assert_eq!(
            path(&wanted),
            "/api/events/tail?trigger=a%2Db,c%2Foutbox&type=x%26y%3D%C3%A9"
        );
    }

    #[test]
    fn lines_are_shown_in_words() {
        let line = r#"{"time":"2027-03-28T00:00:00.000Z","trigger":"resize","function":"thumbnail",
            "delivery":"000102030405060708090a0b0c0d0e0f","source":"bucket:in","type":"object.created",
            "subject":"a.jpg","attempt":2,"outcome":"trap","ms":1.25,"reason":"the handler broke:\nhere"}"#;
        assert_eq!(
            text(line).expect("a line"),
            "2027-03-28T00:00:00.000Z  resize  000102030405060708090a0b0c0d0e0f  object.created a.jpg  \
             #2  trap  1.2 ms  the handler broke: here"
        );
        assert_eq!(
            text(r#"{"left_out":37}"#).expect("a line"),
            "37 lines were left out: this terminal is too slow"
        );
        text("{}").expect_err("no line");
    }
}
