//! `tidemill functions list`: what the plan declares, what the files hold, and what ran today.

use std::{fmt::Write, fs, io, path::Path, time::Duration};

use clap::Subcommand;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tidemill_config::plan::{FunctionPlan, Plan};
use tidemill_journal::{Journal, UsageFilter};
use wit_component::DecodedWasm;

use super::{ConfigArg, Failure, counted, known_function, reader::Reader};
use crate::{assemble, clock, views::UsageView};

/// What to do with functions.
#[derive(Debug, Subcommand)]
pub(super) enum Functions {
    /// Show the functions of the plan: their components, limits and triggers, and what they used today.
    List {
        /// This one; all, if it is not given.
        function: Option<String>,
        /// Answer in JSON, one function a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

impl Functions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Functions::List {
            function,
            json,
            config,
        } = self;
        let plan = config.plan()?;
        if let Some(name) = &function {
            known_function(&plan, name)?;
        }
        if plan.functions.is_empty() && !json {
            outln!("no functions in {}", config.config.display());
        }
        let mut today = today(&plan)?;
        let chosen = plan.functions.iter();
        let chosen = chosen.filter(|(name, _)| function.as_ref().is_none_or(|one| one == *name));
        for (n, (name, function)) in chosen.enumerate() {
            let usage = today.iter().position(|usage| usage.function == *name);
            let usage = usage.map(|at| today.swap_remove(at));
            let view = view(&plan, function, usage);
            match json {
                true => outln!("{}", serde_json::to_string(&view)?),
                false => out!("{}{}", if n == 0 { "" } else { "\n" }, text(&view)),
            }
        }
        Ok(())
    }
}

/// A function of the plan.
#[derive(Serialize)]
struct FunctionView {
    function: String,
    /// The file of its component.
    component: String,
    /// The SHA-256 of the file, in hexadecimal; absent, it cannot be read.
    digest: Option<String>,
    /// The interfaces that it exports.
    exports: Vec<String>,
    /// Why it cannot run, as far as its file shows.
    problem: Option<String>,
    /// Bytes.
    memory: u64,
    timeout_ms: u128,
    concurrency: usize,
    triggers: Vec<TriggerView>,
    /// Absent, if nothing ran today.
    today: Option<UsageView>,
}

/// A trigger of a function.
#[derive(Serialize)]
struct TriggerView {
    trigger: String,
    /// The key of its source.
    source: String,
}

/// What was used today; nothing, if there is no journal yet.
fn today(plan: &Plan) -> Result<Vec<UsageView>, Failure> {
    if !assemble::journal_path(&plan.engine).exists() {
        return Ok(Vec::new());
    }
    let reader = Reader::open(plan)?;
    let today = clock::now().day();
    let usage = reader.journal.usage(UsageFilter {
        function: None,
        since: Some(today),
        until: Some(today),
    });
    let usage = reader.runtime.block_on(usage)?;
    Ok(usage.into_iter().map(UsageView::from).collect())
}

fn view(plan: &Plan, function: &FunctionPlan, today: Option<UsageView>) -> FunctionView {
    let found = look(&function.component);
    let (digest, found) = match found {
        Ok((digest, found)) => (Some(digest), found),
        Err(problem) => (None, Err(problem)),
    };
    let (exports, problem) = match found {
        Ok(exports) => (exports, None),
        Err(problem) => (Vec::new(), Some(problem)),
    };
    let triggers = plan.triggers.values();
    let triggers = triggers.filter(|trigger| trigger.function == function.name);
    FunctionView {
        function: function.name.clone(),
        component: function.component.display().to_string(),
        digest,
        exports,
        problem,
        memory: function.memory,
        timeout_ms: function.timeout.as_millis(),
        concurrency: function.concurrency,
        triggers: triggers
            .map(|trigger| TriggerView {
                trigger: trigger.name.clone(),
                source: trigger.source.key().to_owned(),
            })
            .collect(),
        today,
    }
}

/// The digest of a component, and what it exports or why it is no component.
type Looked = (String, Result<Vec<String>, String>);

fn look(component: &Path) -> Result<Looked, String> {
    let bytes = fs::read(component).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "it is not there: build it".to_owned(),
        _ => format!("it cannot be read: {error}"),
    })?;
    let digest = Sha256::digest(&bytes);
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((digest, exports(&bytes)))
}

fn exports(bytes: &[u8]) -> Result<Vec<String>, String> {
    if !is_component(bytes) {
        return Err("it is no WebAssembly component: build it with `tidemill build`".to_owned());
    }
    match wit_component::decode(bytes) {
        Ok(DecodedWasm::Component(resolve, world)) => {
            let exports = resolve.worlds[world].exports.keys();
            Ok(exports.map(|key| resolve.name_world_key(key)).collect())
        }
        Ok(DecodedWasm::WitPackage(..)) => Err("it holds interfaces alone, and no code".to_owned()),
        Err(error) => Err(format!("it is damaged: {error:#}")),
    }
}

/// Whether the bytes begin as a component does: `\0asm`, a version, and layer 1 in place of 0.
fn is_component(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm") && bytes.get(6..8) == Some(&[1, 0])
}

fn text(view: &FunctionView) -> String {
    let mut text = format!("{}\n", view.function);
    let mut line = |what: &str, words: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {what:<11}{words}");
    };
    line("component", view.component.clone());
    if let Some(digest) = &view.digest {
        line("digest", digest.clone());
    }
    match &view.problem {
        Some(problem) => line("problem", problem.clone()),
        None => line("exports", view.exports.join(", ")),
    }
    let timeout = Duration::from_millis(u64::try_from(view.timeout_ms).unwrap_or(u64::MAX));
    line(
        "limits",
        format!(
            "{} of memory, {} for an attempt, {} at a time",
            size(view.memory),
            humantime::format_duration(timeout),
            view.concurrency
        ),
    );
    let triggers = view.triggers.iter();
    let triggers = triggers.map(|trigger| format!("{} ({})", trigger.trigger, trigger.source));
    let triggers: Vec<String> = triggers.collect();
    line(
        "triggers",
        match triggers.is_empty() {
            true => "none: only `tidemill invoke` runs it".to_owned(),
            false => triggers.join(", "),
        },
    );
    line(
        "today",
        match &view.today {
            Some(used) => format!(
                "{}, {:.3} GB-s, {:.3} s of wall time, {:.3} s of CPU time",
                counted(used.invocations, "invocation"),
                used.gb_seconds,
                used.wall_seconds,
                used.cpu_seconds
            ),
            None => "nothing ran".to_owned(),
        },
    );
    text
}

fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}
