//! The command line.

/// Prints to standard output, as `print!` does, and ends the process in peace if nobody reads on.
macro_rules! out {
    ($($text:tt)*) => { $crate::cli::put(format_args!($($text)*)) };
}

/// The same with an end of line.
macro_rules! outln {
    ($($text:tt)*) => { $crate::cli::put(format_args!("{}\n", format_args!($($text)*))) };
}

mod buckets;
mod build;
mod check;
mod dead_letters;
mod events;
mod functions;
mod invoke;
mod journal;
mod new;
mod operator;
mod progress;
mod reader;
mod run;
mod schedule;
mod table;
mod usage;
mod which;

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use anyhow::{Context, anyhow};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tidemill_config::{Loaded, plan::Plan, reference::Secret};

use crate::{dispatcher::step_back, logging::LogFormat};

/// The work failed.
const FAILED: u8 = 1;
/// The arguments or the file are wrong.
const WRONG: u8 = 2;

/// A self-hosted serverless engine: uploads, requests, ticks and other functions run functions in WebAssembly.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How log lines look: `human`, `json`, or `auto`, which is for people at a terminal and JSON
    /// otherwise.
    #[arg(
        long,
        value_name = "FORMAT",
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    log: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the engine.
    Run {
        /// The configuration.
        #[arg(default_value = "tidemill.toml")]
        file: PathBuf,
    },
    /// Tell all that is wrong with a configuration. Needs neither secrets nor running services.
    Check {
        /// The configuration.
        #[arg(default_value = "tidemill.toml")]
        file: PathBuf,
        /// Try brokers and buckets too: whether they are there, and are as the file needs them.
        #[arg(long)]
        connect: bool,
        /// Answer in JSON, one object: `fine`, and all that was found.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration, by which editors complete it.
    Schema,
    /// Print what a shell needs to complete this command line.
    ///
    /// For bash: `tidemill completions bash > ~/.local/share/bash-completion/completions/tidemill`.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Begin a function: a folder that can be built at once.
    New(new::New),
    /// Build a function to the component that the engine runs.
    Build(build::Build),
    /// Run a function once, with an event made by hand.
    Invoke(invoke::Invoke),
    /// Look into dead letters, run them again, or throw them away.
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// Follow what happens in a running engine.
    #[command(subcommand)]
    Events(events::Events),
    /// Look into how buckets are listened to.
    #[command(subcommand)]
    Buckets(buckets::Buckets),
    /// Look into functions: what they are, and what they did today.
    #[command(subcommand)]
    Functions(functions::Functions),
    Usage(usage::Usage),
    /// Look into the journal.
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Tell when schedules tick.
    #[command(subcommand)]
    Schedule(schedule::Schedules),
    /// Compile the component on standard input. The engine runs this itself, beside it.
    #[command(hide = true, name = COMPILE)]
    Compile,
}

/// The command that the engine compiles by.
const COMPILE: &str = "compile";

fn compile() -> Result<(), Failure> {
    // Events go on meanwhile.
    step_back();
    let (input, output) = (io::stdin().lock(), io::stdout().lock());
    match tidemill_sandbox::serve_compiler(input, output, io::stderr().lock()) {
        true => Ok(()),
        false => Err(Failure::Shown),
    }
}

fn completions(shell: Shell) -> Result<(), Failure> {
    // Into memory first: the generator panics if its output cannot be written.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidemill", &mut script);
    out!("{}", String::from_utf8_lossy(&script));
    Ok(())
}

/// Where a command that is about a plan finds it.
#[derive(Debug, Args)]
struct ConfigArg {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "tidemill.toml")]
    config: PathBuf,
}

impl ConfigArg {
    /// The plan. What is probably not meant so is told by `run` and `check`, not here each time.
    fn plan(&self) -> Result<Plan, Failure> {
        Ok(read(&self.config)?.plan)
    }
}

/// Why a command did not do its work, with the exit code that says so.
#[derive(Debug)]
enum Failure {
    /// The file is wrong; what is wrong has been shown.
    Shown,
    /// The arguments are wrong.
    Wrong(anyhow::Error),
    /// The work failed.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Failed(error.into())
    }
}

/// Does what the arguments ask for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Run { file } => run::run(&file, cli.log),
        Command::Check {
            file,
            connect,
            json,
        } => check::check(&file, connect, json),
        Command::Schema => {
            outln!("{:#}", tidemill_config::schema());
            Ok(())
        }
        Command::Completions { shell } => completions(shell),
        Command::New(new) => new.run(),
        Command::Build(build) => build.run(),
        Command::Invoke(invoke) => invoke.run(cli.log),
        Command::DeadLetters(dead_letters) => dead_letters.run(),
        Command::Events(events) => events.run(),
        Command::Buckets(buckets) => buckets.run(),
        Command::Journal(journal) => journal.run(),
        Command::Functions(functions) => functions.run(),
        Command::Usage(usage) => usage.run(),
        Command::Schedule(schedules) => schedules.run(),
        Command::Compile => compile(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Shown) => ExitCode::from(WRONG),
        Err(Failure::Wrong(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(WRONG)
        }
        Err(Failure::Failed(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// Looks whether the plan has a function.
fn known_function(plan: &Plan, name: &str) -> Result<(), Failure> {
    known("function", name, plan, &plan.functions, name)
}

/// Looks whether the plan has a trigger, or the trigger of an outbox, `NAME/outbox`.
fn known_trigger(plan: &Plan, name: &str) -> Result<(), Failure> {
    let own = name.strip_suffix("/outbox").unwrap_or(name);
    known("trigger", name, plan, &plan.triggers, own)
}

fn known<T>(
    what: &str,
    name: &str,
    plan: &Plan,
    all: &BTreeMap<String, T>,
    key: &str,
) -> Result<(), Failure> {
    match all.contains_key(key) {
        true => Ok(()),
        false => {
            let names = all.keys().map(String::as_str);
            Err(unknown(what, name, &plan.file, names))
        }
    }
}

/// That the plan has no such thing, with what was probably meant.
fn unknown<'a>(
    what: &str,
    name: &str,
    file: &Path,
    known: impl IntoIterator<Item = &'a str>,
) -> Failure {
    let known: Vec<&str> = known.into_iter().collect();
    let file = file.display();
    Failure::Wrong(
        match tidemill_config::closest(name, known.iter().copied()) {
            Some(near) => {
                anyhow!("there is no {what} `{name}` in {file}: did you mean `{near}`?")
            }
            None if known.is_empty() => {
                anyhow!("there is no {what} `{name}` in {file}: it has none")
            }
            None => anyhow!(
                "there is no {what} `{name}` in {file}; there are: {}",
                known.join(", ")
            ),
        },
    )
}

/// Prints. The end of `tidemill dead-letters list | head -1` is no failure.
fn put(text: fmt::Arguments<'_>) {
    match io::stdout().write_fmt(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            eprintln!("error: cannot write to standard output: {error}");
            process::exit(i32::from(FAILED));
        }
        Ok(()) => {}
    }
}

/// How many there are of something, in words.
fn counted(n: impl Into<u64>, what: &str) -> String {
    match n.into() {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// What a client of the admin address must show, looked up.
fn admin_token(plan: &Plan) -> anyhow::Result<Option<Secret>> {
    let token = plan.engine.admin_token.as_ref();
    let token = token.map(|text| text.resolve()).transpose();
    token.context("engine.admin_token")
}

/// Loads the plan, and shows what is wrong with the file, or probably not meant so.
fn load(file: &Path) -> Result<Plan, Failure> {
    let Loaded { plan, warnings } = read(file)?;
    let colour = io::stderr().is_terminal();
    for warning in &warnings {
        eprintln!("{}\n", warning.render(colour));
    }
    Ok(plan)
}

/// Loads the file, and shows what is wrong with it.
fn read(file: &Path) -> Result<Loaded, Failure> {
    tidemill_config::load(file).map_err(|invalid| {
        eprintln!("{}", invalid.render(io::stderr().is_terminal()));
        Failure::Shown
    })
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    /// The paths of all commands that have none below them.
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        let below: Vec<_> = command.get_subcommands().collect();
        if below.is_empty() {
            found.push((path.trim().to_owned(), command.clone()));
        }
        for command in below {
            leaves(command, &format!("{path} {}", command.get_name()), found);
        }
    }

    #[test]
    fn what_tells_something_tells_programs_too() {
        Cli::command().debug_assert();
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        let mute: Vec<String> = found
            .into_iter()
            .filter_map(|(path, command)| {
                let json = command.get_arguments().find(|arg| arg.get_id() == "json");
                match json.and_then(|json| json.get_help()) {
                    Some(help) => {
                        let help = help.to_string();
                        assert!(help.starts_with("Answer in JSON"), "{path}: {help}");
                        None
                    }
                    None => Some(path),
                }
            })
            .collect();
        assert_eq!(
            mute,
            ["run", "schema", "completions", "new", "build", COMPILE]
        );
    }

    #[test]
    fn shells_complete_every_command() {
        let names: Vec<String> = Cli::command()
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect();
        assert!(names.contains(&"dead-letters".to_owned()));
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "tidemill", &mut script);
            let script = String::from_utf8(script).expect("UTF-8");
            for name in names
                .iter()
                .map(String::as_str)
                .chain(["redrive", "--dry-run"])
            {
                // Fish and elvish leave the dashes of options out.
                let word = name.trim_start_matches('-');
                assert!(script.contains(word), "{shell} does not know {name}");
            }
        }
    }
}
