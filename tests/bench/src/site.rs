//! The engine as its users have it: the binary, a folder and a configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::root;

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder on the disk that the engine's data are on too. Deleted when dropped.
pub fn folder() -> Result<TempDir> {
    let parent = root().join("target/bench");
    fs::create_dir_all(&parent)?;
    Ok(tempfile::tempdir_in(parent)?)
}

/// A running engine. Killed when dropped.
pub struct Site {
    child: Child,
    agent: ureq::Agent,
    admin: String,
    dir: TempDir,
}

impl Site {
    /// Starts the engine with this configuration, `[engine]` put before it, and waits until it answers.
    pub fn start(config: &str) -> Result<Site> {
        let dir = folder()?;
        let engine = "[engine]\nadmin = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n";
        fs::write(
            dir.path().join("tidemill.toml"),
            format!("{engine}{config}"),
        )?;
        let log = fs::File::create(dir.path().join("log"))?;
        let binary = binary()?;
        let child = Command::new(&binary)
            .arg("run")
            .current_dir(dir.path())
            .env_remove("TIDEMILL_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let mut site = Site {
            child,
            agent: ureq::Agent::new_with_defaults(),
            admin: String::new(),
            dir,
        };
        site.admin = site.wait_for(|site| admin(site.dir.path(), site.pid()))?;
        Ok(site)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The sum of a counter over the series that have this label.
    pub fn metric(&self, name: &str, label: &str) -> Result<u64> {
        let mut response = self
            .agent
            .get(format!("http://{}/metrics", self.admin))
            .call()?;
        let text = response.body_mut().read_to_string()?;
        let series = text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label));
        let values = series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        Ok(values.sum())
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        let pid = self.pid().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status()?;
        ensure!(asked.success(), "the engine cannot be told to stop");
        let status = {
            let start = Instant::now();
            loop {
                if let Some(status) = self.child.try_wait()? {
                    break status;
                }
                ensure!(start.elapsed() < PATIENCE, "the engine does not stop");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        ensure!(
            status.success(),
            "the engine ended with {status}; its log:\n{}",
            self.log()
        );
        Ok(())
    }

    fn wait_for<T>(&mut self, look: impl Fn(&Site) -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the engine ended with {status}; its log:\n{}", self.log());
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "the engine does not start; its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The engine that was built together with this program.
fn binary() -> Result<PathBuf> {
    let binary = std::env::current_exe()?.with_file_name("tidemill");
    ensure!(
        binary.exists(),
        "{} is missing: run `cargo build --release --package tidemill`",
        binary.display()
    );
    Ok(binary)
}

/// The admin address, once it listens.
fn admin(dir: &Path, pid: u32) -> Option<String> {
    let lock = fs::read_to_string(dir.join("data/lock")).ok()?;
    let lock: serde_json::Value = serde_json::from_str(&lock).ok()?;
    (lock.get("pid")?.as_u64()? == u64::from(pid)).then_some(())?;
    Some(lock.get("admin")?.as_str()?.to_owned())
}
