//! What is measured on, and what a process has used of it.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result};

/// The clock ticks of a second that Linux counts CPU time in, on every machine of today.
const TICKS: u64 = 100;

/// The CPU time that a process has used so far.
pub fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name, in parentheses, may hold anything.
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' '));
    let used: Option<u64> = fields.and_then(|mut fields| {
        let user: u64 = fields.nth(11)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(user + system)
    });
    let used = used.with_context(|| format!("{path} has no CPU time: {stat}"))?;
    Ok(Duration::from_millis(used * 1000 / TICKS))
}

/// The memory of a process that is resident now, in MiB.
pub fn resident(pid: u32) -> Result<f64> {
    status(pid, "VmRSS:")
}

/// The same, with pages that are mapped several times counted once. It looks at every mapping.
pub fn proportional(pid: u32) -> Result<f64> {
    field(pid, "smaps_rollup", "Pss:")
}

/// The most of it that was resident at a time, in MiB.
pub fn peak(pid: u32) -> Result<f64> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, name: &str) -> Result<f64> {
    field(pid, "status", name)
}

/// A number of KiB, in MiB.
fn field(pid: u32, file: &str, name: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/{file}");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let mut lines = status.lines().filter_map(|line| line.strip_prefix(name));
    let kib = lines
        .next()
        .and_then(|rest| rest.trim().strip_suffix(" kB"));
    let kib: f64 = kib
        .and_then(|kib| kib.parse().ok())
        .with_context(|| format!("{path} has no {name}"))?;
    Ok(kib / 1024.0)
}

/// Lines that describe this machine, the day and the commit.
pub fn description() -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        (
            "machine",
            format!("{}, {cores} cores, {}", cpu_name(), memory()),
        ),
        ("kernel", output("uname", &["-sr"])),
        ("date", output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        (
            "commit",
            output("git", &["describe", "--always", "--dirty"]),
        ),
        ("load before", load()),
    ]
}

fn cpu_name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name"));
    let name = name.and_then(|line| line.split_once(": "));
    name.map_or("unknown processor", |(_, name)| name)
        .to_owned()
}

fn memory() -> String {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = info
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.map_or_else(
        || "unknown memory".to_owned(),
        |kib| format!("{} GiB", (kib + (1 << 19)) >> 20),
    )
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(crate::root())
        .output();
    let text = output.ok().filter(|output| output.status.success());
    text.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
