//! How much memory there is for handlers.

use std::{fs, path::Path};

/// What is left of it for the engine itself and for the page cache of its journal: a quarter.
const SHARE: (u64, u64) = (3, 4);

/// Where neither Linux nor its control groups say anything.
const UNKNOWN: u64 = 1 << 30;

/// Three quarters of what the machine has, or of what its control group may have.
pub fn budget() -> u64 {
    let machine = total(&read("/proc/meminfo"));
    let group = group();
    let least = machine.into_iter().chain(group).min();
    least.map_or(UNKNOWN, |bytes| bytes / SHARE.1 * SHARE.0)
}

/// The smallest limit of the control groups that this process is in, of version 2.
fn group() -> Option<u64> {
    let own = read("/proc/self/cgroup");
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let groups = Path::new(own).ancestors().map(|group| root.join(group));
    let limits = groups.filter_map(|group| limit(&read(group.join("memory.max"))));
    limits.min()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The bytes of `MemTotal`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The limit of a control group: bytes, or `max`.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_says_is_understood() {
        let meminfo = "MemTotal:       24689028 kB\nMemFree:         1000000 kB\n";
        assert_eq!(total(meminfo), Some(24_689_028 << 10));
        assert_eq!((total(""), total("MemTotal: many")), (None, None));
        assert_eq!((limit("max\n"), limit("1048576\n")), (None, Some(1 << 20)));
        let budget = budget();
        assert!(budget > 16 << 20, "{budget}");
    }
}
