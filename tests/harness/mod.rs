//! A site: a folder with a configuration, buckets and data, and the engine that runs on it.

mod amqp;
mod client;
mod engine;
mod journal;
mod kafka;
mod proxy;
mod s3;
mod services;
mod sqs;
mod store;
#[path = "../services/synthetic.rs"]
pub mod synthetic;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

pub use amqp::Amqp;
pub use client::Client;
pub use engine::Engine;
pub use kafka::Kafka;
pub use proxy::Proxy;
pub use s3::{S3, Server};
pub use services::{
    Broker, amqp_url, free_port, kafka_brokers, root, s3_endpoint, second_s3_endpoint,
};
pub use sqs::Sqs;
pub use store::{Kind, Store};
use tempfile::TempDir;

/// How long anything may take before a test gives up. Generous: machines stall.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How many lines are shown of each engine's log when a test fails.
const LINES: usize = 200;

/// The components that `make functions` builds; in a configuration, in capitals, they stand for
/// their files.
const COMPONENTS: [&str; 7] = [
    // Before `probe`, which is a part of its name.
    "batch-probe",
    "probe",
    "debezium",
    "thumbnail",
    "github-hook",
    "announce",
    "weather-report",
];

/// A folder of its own for one engine.
pub struct Site {
    dir: TempDir,
    /// Of each engine that ran there, in turn. Printed when a test fails.
    logs: Mutex<Vec<engine::Log>>,
}

impl Site {
    /// A site with this configuration. `[engine]` is put before it: data in the folder, and
    /// addresses with free ports. `PROBE` and the like stand for the
    /// built components.
    pub fn new(config: &str) -> Site {
        let site = Site {
            dir: tempfile::tempdir().expect("a temporary folder"),
            logs: Mutex::default(),
        };
        site.configure(config);
        site
    }

    /// Replaces the configuration.
    pub fn configure(&self, config: &str) {
        let mut config = config.to_owned();
        for name in COMPONENTS {
            let placeholder = name.to_uppercase();
            if config.contains(&placeholder) {
                config = config.replace(&placeholder, component(name).to_str().expect("UTF-8"));
            }
        }
        let engine = match config.contains("[engine]") {
            true => "",
            false => "[engine]\nadmin = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n",
        };
        fs::write(self.path("tidemill.toml"), format!("{engine}{config}")).expect("it is written");
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a bucket's folder, and returns it.
    pub fn bucket(&self, name: &str) -> PathBuf {
        let path = self.path("buckets").join(name);
        fs::create_dir_all(&path).expect("it is made");
        path
    }

    /// Starts the engine, and waits until it is ready.
    pub fn start(&self) -> Engine {
        let engine = self.spawn(&[]);
        engine.wait_ready();
        engine
    }

    /// Starts the engine with these environment variables, without waiting.
    pub fn spawn(&self, env: &[(&str, &str)]) -> Engine {
        let log = Arc::default();
        let mut logs = self.logs.lock().expect("nothing panics with it");
        logs.push(Arc::clone(&log));
        Engine::spawn(self.dir.path(), env, log)
    }

    /// A command of the binary, run in the folder. One that does not end is killed and fails.
    pub fn tidemill(&self, args: &[&str]) -> Output {
        let mut command = tidemill(self.dir.path());
        command.args(args).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the binary runs");
        let pid = child.id().cast_signed();
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || ended.send(child.wait_with_output()));
        if let Ok(output) = end.recv_timeout(PATIENCE) {
            return output.expect("its output is read");
        }
        // SAFETY: kill touches no memory; the child is ours and not waited for yet.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        panic!("{args:?} did not end within {PATIENCE:?}");
    }

    /// The standard output of a command that must end well.
    pub fn succeeds(&self, args: &[&str]) -> String {
        let output = self.tidemill(args);
        let (out, err) = texts(&output);
        assert!(
            output.status.success(),
            "{args:?}: {}\n{out}{err}",
            output.status
        );
        out
    }

    /// The exit code and standard error of a command that must not, the folder shown as `SITE`.
    pub fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.tidemill(args);
        let (out, err) = texts(&output);
        assert!(!output.status.success(), "{args:?} ended well\n{out}{err}");
        (output.status.code().unwrap_or(-1), self.anonymous(&err))
    }

    /// The same of `run`, which is to refuse its plan: the code, and what it says besides how far it is.
    pub fn refuses_to_run(&self) -> (i32, String) {
        let (code, text) = self.fails(&["run", "--log", "human"]);
        let told = text.lines().filter(|line| !line.contains(" INFO "));
        (code, told.collect::<Vec<_>>().join("\n"))
    }

    /// The text with the folder of this site shown as `SITE`.
    pub fn anonymous(&self, text: &str) -> String {
        let real = self.dir.path().canonicalize().expect("it exists");
        text.replace(real.to_str().expect("UTF-8"), "SITE")
            .replace(self.dir.path().to_str().expect("UTF-8"), "SITE")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // What a failed test leaves behind is worth a look.
        self.dir.disable_cleanup(true);
        println!("the site is kept: {}", self.dir.path().display());
        // Whoever reads the output of a failed test on another machine has only this.
        let logs = self.logs.get_mut().expect("nothing panics with it");
        for (n, log) in logs.iter().enumerate() {
            let log = log.lock().expect("nothing panics with it");
            let lines: Vec<&str> = log.lines().collect();
            println!("the log of its engine {n}, of {} lines:", lines.len());
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                println!("{line:.400}");
            }
        }
    }
}

/// The binary, to be run in this folder. Root's power to pass permissions is taken from it, so that
/// the tests see the same whoever runs them.
pub fn tidemill(dir: &Path) -> Command {
    /// From linux/capability.h.
    const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command
        .current_dir(dir)
        .env_remove("TIDEMILL_LOG")
        .env_remove("COLUMNS")
        .env("NO_COLOR", "1");
    // SAFETY: between fork and exec, one system call that touches no memory. It fails for all but
    // root, who alone has the power.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0);
            Ok(())
        });
    }
    command
}

/// A component that `make functions` built.
pub fn component(name: &str) -> PathBuf {
    let path = root().join(format!("functions/build/{name}.wasm"));
    assert!(
        path.exists(),
        "{} is missing: run `make functions`",
        path.display()
    );
    path
}

/// A photograph of the tests' data.
pub fn photo(name: &str) -> PathBuf {
    root().join("tests/data/images").join(name)
}

/// Waits until the condition holds, and fails with `what` if it takes too long.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain until {what}"
        );
        // Between two looks at another process there is nothing to wait on.
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Waits until there is something, and returns it.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_until(what, || {
        found = look();
        found.is_some()
    });
    found.expect("it was waited for")
}

/// A name that no other test, and no other run, uses.
pub fn unique(what: &str) -> String {
    format!("{what}-{:016x}", fastrand::u64(..))
}

/// Waits until nothing is left, however much there was; fails if it is not less for too long.
pub fn wait_until_none_left(what: &str, mut left: impl FnMut() -> usize) {
    let mut least = left();
    while least > 0 {
        let before = least;
        wait_until(&format!("{what}; left: {before}"), || {
            least = left();
            least < before
        });
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// All files below a folder, by their path from it, sorted.
pub fn files(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let name = path.strip_prefix(root).expect("it is below");
                found.push(name.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// A folder that nobody may write to, until it is dropped.
pub struct ReadOnly(PathBuf);

impl ReadOnly {
    /// Locks the folder.
    pub fn new(folder: &Path) -> ReadOnly {
        set_mode(folder, 0o555);
        ReadOnly(folder.to_owned())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        set_mode(&self.0, 0o755);
    }
}

fn set_mode(folder: &Path, mode: u32) {
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(folder, permissions).expect("it is ours");
}
