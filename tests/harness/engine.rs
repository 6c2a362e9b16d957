//! The engine's process.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use super::{tidemill, wait_until, wait_until_none_left};

/// What an engine has logged.
pub(super) type Log = Arc<Mutex<String>>;

/// A running engine. Killed when dropped.
pub struct Engine {
    child: Child,
    dir: PathBuf,
    log: Log,
    reader: Option<JoinHandle<()>>,
}

impl Engine {
    pub(super) fn spawn(dir: &Path, env: &[(&str, &str)], log: Log) -> Engine {
        let mut command = tidemill(dir);
        command
            .args(["run", "--log", "json"])
            .envs(env.iter().copied());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let stderr = child.stderr.take().expect("it is piped");
        let sink = log.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = sink.lock().expect("no test panics while holding it");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Engine {
            child,
            dir: dir.to_owned(),
            log,
            reader: Some(reader),
        }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log
            .lock()
            .expect("no test panics while holding it")
            .clone()
    }

    /// The admin address, once it listens.
    pub fn admin(&self) -> Option<String> {
        let lock = std::fs::read_to_string(self.dir.join("data/lock")).ok()?;
        let lock: serde_json::Value = serde_json::from_str(&lock).ok()?;
        // The lock of an engine that was killed is still there until the next one takes it.
        (lock.get("pid")?.as_u64()? == u64::from(self.pid())).then_some(())?;
        Some(lock.get("admin")?.as_str()?.to_owned())
    }

    /// The status and body of a path of the admin address.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build();
        let agent = ureq::Agent::new_with_config(config);
        let mut response = agent
            .get(format!("http://{}{path}", self.admin()?))
            .call()
            .ok()?;
        let body = response.body_mut().read_to_string().ok()?;
        Some((response.status().as_u16(), body))
    }

    /// Where its HTTP triggers listen.
    pub fn http(&self) -> Option<String> {
        let (_, ready) = self.get("/readyz")?;
        let ready: serde_json::Value = serde_json::from_str(&ready).ok()?;
        let mut sources = ready.get("sources")?.as_array()?.iter();
        let http = sources.find(|source| source["source"] == "http")?;
        let address = http["state"].as_str()?.strip_prefix("listening on ")?;
        Some(address.to_owned())
    }

    /// The value of a metric, summed over all of its labels that contain `label`.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let (_, text) = self.get("/metrics").expect("metrics");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.filter_map(|line| line.rsplit_once(' '));
        let matching = lines.filter(|(series, _)| {
            let rest = series.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
                && series.contains(label)
        });
        matching
            .map(|(_, value)| value.parse::<f64>().expect("a number"))
            .sum()
    }

    /// Waits until `/readyz` says so.
    pub fn wait_ready(&self) {
        wait_until("the engine is ready", || {
            assert!(self.is_alive(), "it has ended: {}", self.log());
            matches!(self.get("/readyz"), Some((200, _)))
        });
    }

    fn is_alive(&self) -> bool {
        // Ended and not waited for, it is a zombie.
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        status.is_ok_and(|status| !status.contains(") Z "))
    }

    /// Waits until all that was accepted is settled.
    pub fn wait_idle(&self) {
        // What is done is not pending any more, and counted before it runs no more.
        wait_until_none_left("nothing is pending or runs", || {
            let pending = self.metric("tidemill_deliveries_pending", "");
            (pending + self.metric("tidemill_attempts_running", "")) as usize
        });
    }

    /// Waits until the log has this text.
    pub fn wait_log(&self, text: &str) {
        wait_until(
            &format!("the log says {text:?}; it says {}", self.log()),
            || self.log().contains(text),
        );
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        let status = self.child.wait().expect("it has ended");
        assert_eq!(
            status.signal(),
            Some(9),
            "it ended by itself: {}",
            self.log()
        );
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        // SAFETY: kill has no memory effects; the child is ours and not waited for yet.
        unsafe { libc::kill(self.pid().cast_signed(), libc::SIGTERM) };
    }

    /// Asks it to load its file anew.
    pub fn hang_up(&self) {
        // SAFETY: as above.
        unsafe { libc::kill(self.pid().cast_signed(), libc::SIGHUP) };
    }

    /// Waits until it has ended, and returns how and all that it logged.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_until("the engine has ended", || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log is read to its end");
        }
        (status.expect("it has ended"), self.log())
    }

    /// Asks it to stop, and checks that it ends well.
    pub fn stop(self) -> String {
        self.terminate();
        let (status, log) = self.wait();
        assert!(status.success(), "{status}: {log}");
        log
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
