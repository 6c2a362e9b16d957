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

/// A folder with a configuration. Deleted when dropped.
pub struct Place {
    dir: TempDir,
}

/// A running engine. Killed when dropped.
pub struct Site {
    process: Process,
    agent: ureq::Agent,
    admin: String,
    place: Place,
}

impl Place {
    /// One with this configuration, `[engine]` put before it.
    pub fn new(config: &str) -> Result<Place> {
        let dir = folder()?;
        let engine = "[engine]\nadmin = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n";
        fs::write(
            dir.path().join("tidemill.toml"),
            format!("{engine}{config}"),
        )?;
        Ok(Place { dir })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts an engine in it, and waits until that answers.
    pub fn start(self) -> Result<Site> {
        let log = fs::File::create(self.path().join("log"))?;
        let binary = beside("tidemill")?;
        let child = Command::new(&binary)
            .arg("run")
            .current_dir(self.path())
            .env_remove("TIDEMILL_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let mut site = Site {
            process: Process(child),
            agent: ureq::Agent::new_with_defaults(),
            admin: String::new(),
            place: self,
        };
        site.admin = site.wait_for(|site| admin(site.place.path(), site.pid()))?;
        Ok(site)
    }
}

impl Site {
    /// Starts an engine in a place of its own.
    pub fn start(config: &str) -> Result<Site> {
        Place::new(config)?.start()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Where its HTTP triggers listen, once they do.
    pub fn http(&mut self) -> Result<String> {
        self.wait_for(|site| {
            let ready = format!("http://{}/readyz", site.admin);
            let mut ready = site.agent.get(ready).call().ok()?;
            let ready: serde_json::Value = ready.body_mut().read_json().ok()?;
            let mut sources = ready["sources"].as_array()?.iter();
            let http = sources.find(|source| source["source"] == "http")?;
            let address = http["state"].as_str()?.strip_prefix("listening on ")?;
            Some(address.to_owned())
        })
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

    /// The deliveries of a trigger that ended well.
    pub fn settled(&self, trigger: &str) -> Result<u64> {
        let series = format!("trigger=\"{trigger}\",result=\"ok\"");
        self.metric("tidemill_deliveries_settled_total", &series)
    }

    /// Waits until it says that it is ready.
    pub fn wait_ready(&mut self) -> Result<()> {
        self.wait_for(|site| {
            let ready = format!("http://{}/readyz", site.admin);
            site.agent.get(ready).call().is_ok().then_some(())
        })
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) -> Result<Place> {
        self.process.0.kill()?;
        self.process.0.wait()?;
        Ok(self.place)
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> Result<Place> {
        let pid = self.pid().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status()?;
        ensure!(asked.success(), "the engine cannot be told to stop");
        let status = {
            let start = Instant::now();
            loop {
                if let Some(status) = self.process.0.try_wait()? {
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
        Ok(self.place)
    }

    fn wait_for<T>(&mut self, look: impl Fn(&Site) -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if let Some(status) = self.process.0.try_wait()? {
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
        fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
    }
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A program that was built together with this one.
pub fn beside(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    ensure!(
        program.exists(),
        "{} is missing: run `cargo build --release --package {name}`",
        program.display()
    );
    Ok(program)
}

/// The admin address, once it listens.
fn admin(dir: &Path, pid: u32) -> Option<String> {
    let lock = fs::read_to_string(dir.join("data/lock")).ok()?;
    let lock: serde_json::Value = serde_json::from_str(&lock).ok()?;
    (lock.get("pid")?.as_u64()? == u64::from(pid)).then_some(())?;
    Some(lock.get("admin")?.as_str()?.to_owned())
}
