//! From TOML to a validated plan.
//!
//! ```text
//! text -> toml (syntax) -> walk (every value by itself, against the table of keys)
//!      -> rules (values together) -> build (the plan)
//! ```
//!
//! Every step goes on after a problem, so that a file's problems are all told at once. Nothing here
//! needs a broker, a secret, or anything that the file names to exist: the one file read is the TOML
//! file itself.

mod brokers;
mod build;
mod hide;
mod http;
pub mod keys;
mod mismatch;
mod nesting;
mod paths;
mod patterns;
pub mod plan;
mod problem;
pub mod reference;
pub mod reserved;
mod rules;
mod scalar;
mod schema;
mod sink;
mod suggest;
mod syntax;
mod tree;
mod values;
mod walk;
mod words;

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::de::DeTable;

use plan::Plan;
pub use problem::{Invalid, Place, Problem, Related, Severity};
pub use schema::schema;
use sink::Sink;
pub use suggest::closest;

/// The largest file, in bytes: a hundred times what a person writes, and little enough to check in a
/// blink.
pub const FILE_LIMIT: u64 = 1 << 20;

/// How many names of a folder are looked at for one that was meant.
const NEIGHBOURS: usize = 1000;

/// A file that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it declares.
    pub plan: Plan,
    /// What is probably not meant so, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a file.
pub fn load(file: &Path) -> Result<Loaded, Invalid> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|open| open.take(FILE_LIMIT + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(unreadable(file, &error));
    }
    if bytes.len() as u64 > FILE_LIMIT {
        let message = format!("the file is larger than {} MiB", FILE_LIMIT >> 20);
        let help = "is it the right file? Name another one";
        return Err(Invalid {
            problems: vec![whole(file, Severity::Error, message, help)],
        });
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse(file, &text),
        Err(error) => Err(not_utf8(
            file,
            error.utf8_error().valid_up_to(),
            error.as_bytes(),
        )),
    }
}

/// Checks the text of a file, which need not exist; paths in it start from its folder.
pub fn parse(file: &Path, text: &str) -> Result<Loaded, Invalid> {
    let base: Arc<Path> = paths::base(file).into();
    let mut sink = Sink::new(file, text);
    if !nesting::check(&mut sink) {
        return Err(Invalid {
            problems: sink.finish().0,
        });
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    syntax::report(&mut sink, errors);
    let root = walk::document(&mut sink, &base, document.get_ref());
    rules::check(&mut sink, &root);
    let (problems, not_built) = sink.finish();
    if problems
        .iter()
        .any(|problem| problem.severity == Severity::Error)
    {
        return Err(Invalid { problems });
    }
    let plan = build::plan(file, &root, not_built);
    let mut warnings = problems;
    if plan.triggers.is_empty() {
        let help = "add a [triggers.NAME] with a function and a source";
        let idle = whole(
            file,
            Severity::Warning,
            "no trigger is declared: nothing will ever run",
            help,
        );
        warnings.insert(0, idle);
    }
    Ok(Loaded { plan, warnings })
}

fn unreadable(file: &Path, error: &io::Error) -> Invalid {
    let near = near(file);
    let meant = near.map(|near| format!("did you mean `{}`?", near.display()));
    let (message, help) = match error.kind() {
        io::ErrorKind::NotFound => (
            "there is no such file".to_owned(),
            meant
                .as_deref()
                .unwrap_or("name the file, or run this in its folder"),
        ),
        io::ErrorKind::IsADirectory => (
            "this is a folder, not a file".to_owned(),
            "name the TOML file in it",
        ),
        io::ErrorKind::PermissionDenied => (
            "the file may not be read".to_owned(),
            "let this user read it: chmod u+r",
        ),
        _ => (
            format!("the file cannot be read: {error}"),
            "name a TOML file",
        ),
    };
    Invalid {
        problems: vec![whole(file, Severity::Error, message, help)],
    }
}

/// The TOML file beside it whose name is closest, if one is.
fn near(file: &Path) -> Option<PathBuf> {
    let folder = match file.parent()? {
        folder if folder.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    let names = fs::read_dir(folder).ok()?.take(NEIGHBOURS).flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let names: Vec<String> = names.filter(|name| name.ends_with(".toml")).collect();
    let near = closest(
        file.file_name()?.to_str()?,
        names.iter().map(String::as_str),
    )?;
    Some(file.with_file_name(near))
}

/// A problem of the file as a whole.
fn whole(file: &Path, severity: Severity, message: impl Into<String>, help: &str) -> Problem {
    Problem {
        severity,
        at: Place {
            file: file.to_owned(),
            line: 0,
            column: 0,
            span: 0..0,
        },
        message: message.into(),
        label: String::new(),
        help: help.to_owned(),
        related: Vec::new(),
        text: "".into(),
    }
}

fn not_utf8(file: &Path, at: usize, bytes: &[u8]) -> Invalid {
    let text = String::from_utf8_lossy(bytes);
    let mut sink = Sink::new(file, &text);
    hide::secrets(&mut sink);
    let found = format!(
        "expected UTF-8, found the byte 0x{:02x}",
        bytes.get(at).unwrap_or(&0)
    );
    let help = "save the file as UTF-8";
    sink.add(sink::Draft::error(
        at..at + 1,
        "the file is not UTF-8",
        found,
        help,
    ));
    Invalid {
        problems: sink.finish().0,
    }
}
