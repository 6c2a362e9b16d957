//! `tidemill new`: a folder with a function that can be built at once. The SDK and the contract come
//! with it, so that neither a repository nor a registry is needed.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use include_dir::{Dir, include_dir};

use super::Failure;

static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../functions/templates");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../functions/wit");
static RUST_SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../functions/sdk");
static JS_SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../functions/sdk-js");
static WORKSPACE: &str = include_str!("../../../functions/Cargo.toml");

/// The folder of the SDK in a project, and the name of its crate.
const SDK: &str = "tidemill-sdk";
/// In characters. It is repeated in paths and log lines, where longer ones are no joy.
const LONGEST_NAME: usize = 40;

/// What to make.
#[derive(Debug, Args)]
pub(super) struct New {
    /// The function's name: a-z, 0-9 and `-`, a letter first. Also the name of its folder.
    name: String,
    /// The language.
    #[arg(long, value_enum)]
    lang: Language,
    /// The folder to make it in.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// A language of handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    /// Rust.
    Rust,
    /// JavaScript.
    Js,
}

impl New {
    pub(super) fn run(self) -> Result<(), Failure> {
        if !is_name(&self.name) {
            return Err(Failure::Wrong(anyhow!(
                "`{}` is no name for a function: begin with a lower-case letter and go on with a-z, 0-9 and `-`, at most {LONGEST_NAME} in all, such as `resize-photo`",
                self.name
            )));
        }
        if self.name == SDK {
            return Err(Failure::Wrong(anyhow!(
                "`{SDK}` is the name of the SDK, which is a part of the project: choose another name"
            )));
        }
        let folder = self.dir.join(&self.name);
        self.write(&folder)?;
        let shown = folder.display();
        outln!("{shown} is ready:\n");
        outln!("  cd {shown}");
        outln!("  tidemill build");
        outln!("  tidemill invoke {} --data @event.json", self.name);
        Ok(())
    }

    fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let made = fs::create_dir_all(&self.dir).and_then(|()| fs::create_dir(folder));
        if let Err(error) = made {
            let shown = folder.display();
            match error.kind() {
                ErrorKind::AlreadyExists => {
                    bail!("{shown} is there already: choose another name, or another --dir")
                }
                _ => return Err(error).with_context(|| format!("cannot make the folder {shown}")),
            }
        }
        let (template, sdk) = match self.lang {
            Language::Rust => ("rust", &RUST_SDK),
            Language::Js => ("js", &JS_SDK),
        };
        let template = TEMPLATES
            .get_dir(template)
            .context("the template is missing")?;
        copy(template, folder, &|path, text| {
            (path.replace("NAME", &self.name), self.fill_in(text))
        })?;
        let as_is = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        copy(sdk, &folder.join(SDK), &as_is)?;
        copy(&WIT, &folder.join("wit"), &as_is)
    }

    fn fill_in(&self, text: &str) -> String {
        let dependencies = section(WORKSPACE, "[workspace.dependencies]");
        // The examples' own are not for everybody.
        let needed = ["serde ", "serde_json ", "talc ", "wit-bindgen "];
        let lines = dependencies.lines();
        let lines = lines.filter(|line| needed.iter().any(|name| line.starts_with(name)));
        text.replace("DEPENDENCIES", &lines.collect::<Vec<_>>().join("\n"))
            .replace("VERSION", env!("CARGO_PKG_VERSION"))
            .replace("NAME", &self.name)
    }
}

/// The lines of a section of a TOML file.
fn section<'t>(text: &'t str, header: &str) -> &'t str {
    let start = text.find(header).map_or(text.len(), |at| at + header.len());
    let rest = &text[start..];
    &rest[..rest.find("\n[").unwrap_or(rest.len())]
}

/// It becomes the name of a folder, a crate, a function, a store and a path.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let first = name.starts_with(|c: char| c.is_ascii_lowercase());
    name.len() <= LONGEST_NAME && first && name.chars().all(plain)
}

/// Writes the files of an embedded folder, each as the function makes it.
fn copy(
    from: &Dir<'_>,
    to: &Path,
    make: &dyn Fn(&str, &str) -> (String, String),
) -> anyhow::Result<()> {
    let mut folders = vec![from];
    while let Some(folder) = folders.pop() {
        folders.extend(folder.dirs());
        for file in folder.files() {
            let path = file.path().strip_prefix(from.path())?.to_string_lossy();
            // Under its own name it would be obeyed where the templates are kept.
            let path = if path == "gitignore" {
                ".gitignore".into()
            } else {
                path
            };
            let text = file.contents_utf8().context("a template is no text")?;
            let (path, text) = make(&path, text);
            let path = to.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
