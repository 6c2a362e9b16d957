//! Floors in a process of their own, so that their CPU and their memory are counted as the engine's are.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::{coldstart, http, root, site};

/// Where `make bench` installs wasmtime's own program.
const WASMTIME: &str = "target/wasmtime/bin/wasmtime";

/// What this program can be instead of a benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Makes requests durable.
    Accepts,
    /// Starts handlers that sleep.
    Asleep,
}

impl Role {
    /// Plays it, at most until standard input ends. `count` is how many, if that matters.
    pub fn play(self, count: u64) -> Result<()> {
        std::thread::spawn(|| {
            std::io::stdin().read_to_end(&mut Vec::new()).ok();
            std::process::exit(0);
        });
        match self {
            Role::Accepts => http::floor::serve(),
            Role::Asleep => coldstart::asleep::serve(count),
        }
    }
}

/// A running floor. Ended when dropped.
pub struct Floor {
    child: Child,
    output: BufReader<Box<dyn Read>>,
    _dir: TempDir,
}

impl Floor {
    /// This program in that role, in a folder of its own.
    pub fn own(role: Role, count: u64) -> Result<Floor> {
        let name = role.to_possible_value().context("a role without name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--floor", name.get_name(), "--count", &count.to_string()])
            .stdout(Stdio::piped());
        Floor::spawn(command)
    }

    /// `wasmtime serve` with this component.
    pub fn wasmtime(component: &Path) -> Result<Floor> {
        let binary = root().join(WASMTIME);
        ensure!(
            binary.exists(),
            "{} is missing: `make bench` installs it",
            binary.display()
        );
        let mut command = Command::new(binary);
        command
            .args(["serve", "--addr", "127.0.0.1:0"])
            .arg(component)
            .stderr(Stdio::piped());
        Floor::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Floor> {
        let dir = site::folder()?;
        let mut child = command
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .spawn()?;
        let output: Box<dyn Read> = match (child.stdout.take(), child.stderr.take()) {
            (Some(output), _) => Box::new(output),
            (None, Some(errors)) => Box::new(errors),
            (None, None) => bail!("nobody hears what the floor says"),
        };
        Ok(Floor {
            child,
            output: BufReader::new(output),
            _dir: dir,
        })
    }

    /// The address that it says it serves at.
    pub fn address(&mut self) -> Result<String> {
        let line = self.line()?;
        let address = line.trim_start_matches("Serving HTTP on http://");
        Ok(address.trim_end_matches('/').to_owned())
    }

    /// What it says next: a server begins with its address.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the floor has ended, and said nothing");
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
