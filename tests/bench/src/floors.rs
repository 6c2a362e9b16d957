//! Floors in a process of their own, so that their CPU and their memory are counted as the engine's are.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::{coldstart, http, site};

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
    output: BufReader<ChildStdout>,
    _dir: TempDir,
}

impl Floor {
    /// This program in that role, in a folder of its own.
    pub fn own(role: Role, count: u64) -> Result<Floor> {
        let name = role.to_possible_value().context("a role without name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--floor", name.get_name(), "--count", &count.to_string()]);
        Floor::spawn(command)
    }

    /// The host of wasi:http, a program of its own, with this component.
    pub fn host(component: &Path) -> Result<Floor> {
        let mut command = Command::new(site::beside("tidemill-bench-host")?);
        command.arg(component);
        Floor::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Floor> {
        let dir = site::folder()?;
        let mut child = command
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        Ok(Floor {
            child,
            output: BufReader::new(output),
            _dir: dir,
        })
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
