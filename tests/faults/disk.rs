//! A disk that is full, or that cannot sync, under the journal: a library put before the C library
//! makes the system calls on the journal's files fail on command.

use std::{fs, path::PathBuf, process::Command, sync::OnceLock};

use super::TALLY;
use crate::harness::{Site, files, wait_until};

/// The library, compiled once.
fn library() -> PathBuf {
    static LIBRARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LIBRARY.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("faulty_disk.so");
        let source = crate::harness::root().join("tests/faults/faulty_disk.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&path)
            .arg(source)
            .arg("-ldl");
        assert!(cc.status().expect("a C compiler").success());
        (dir, path)
    });
    path.clone()
}

struct Disk {
    site: Site,
    command: PathBuf,
}

impl Disk {
    fn new() -> Disk {
        let site = Site::new(TALLY);
        site.bucket("in");
        site.bucket("out");
        let command = site.path("fault");
        Disk { site, command }
    }

    fn engine(&self) -> crate::harness::Engine {
        let library = library();
        let engine = self.site.spawn(&[
            ("LD_PRELOAD", library.to_str().expect("UTF-8")),
            ("FAULTY_DISK", self.command.to_str().expect("UTF-8")),
        ]);
        engine.wait_ready();
        engine
    }

    /// From now on, calls fail this way.
    fn fail(&self, how: &str) {
        fs::write(&self.command, how).expect("it is written");
    }

    fn heal(&self) {
        fs::remove_file(&self.command).expect("it is removed");
    }

    fn drop_files(&self, names: std::ops::Range<usize>) {
        for name in names {
            fs::write(self.site.path(&format!("buckets/in/{name}")), "x").expect("it is written");
        }
    }

    fn assert_all_once(&self, count: usize) {
        let out = self.site.path("buckets/out");
        wait_until("every file was handled", || files(&out).len() == count);
        wait_until("every effect is durable", || {
            self.site.key("probe", "all") == Some(count.to_string())
        });
        for name in 0..count {
            assert_eq!(
                self.site.key("probe", &name.to_string()).as_deref(),
                Some("1"),
                "{name}"
            );
        }
        assert_eq!(self.site.dead_letters(), 0);
    }
}

#[test]
fn a_full_disk_stops_the_intake_and_heals_by_itself() {
    let disk = Disk::new();
    let engine = disk.engine();
    disk.drop_files(0..20);
    disk.assert_all_once(20);

    disk.fail("full");
    disk.drop_files(20..40);
    engine.wait_log("no space left for");
    assert!(matches!(engine.get("/healthz"), Some((200, _))), "it lives");
    disk.heal();
    disk.assert_all_once(40);
    engine.stop();
}

#[test]
fn a_disk_that_cannot_sync_stops_the_engine_and_loses_nothing() {
    let disk = Disk::new();
    let engine = disk.engine();
    disk.drop_files(0..20);
    disk.assert_all_once(20);

    disk.fail("sync");
    disk.drop_files(20..40);
    let (status, log) = engine.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("check the disk, then start the engine again"),
        "{log}"
    );
    disk.heal();
    let engine = disk.engine();
    disk.assert_all_once(40);
    engine.stop();
}

#[test]
fn a_journal_at_its_limit_stops_the_intake_until_there_is_room() {
    // Rejected events stay as dead letters, each with its reason, until the limit is reached.
    let config = TALLY
        .replace("[engine]", "[engine]\njournal_limit = \"40MiB\"")
        .replace(
            r#""do": "tally", "key": "all", "bucket": "out""#,
            r#""do": "follow""#,
        );
    let site = Site::new(&config);
    let folder = site.bucket("in");
    site.bucket("out");
    let engine = site.start();
    let order = format!(r#"{{"do": "reject", "text": "{}"}}"#, "no ".repeat(1300));
    let is_full = || matches!(engine.get("/readyz"), Some((503, body)) if body.contains("\"journal_full\":true"));
    let mut dropped = 0_u32;
    while !is_full() {
        for _ in 0..200 {
            fs::write(folder.join(format!("{dropped}")), &order).expect("it is written");
            dropped += 1;
        }
        wait_until("they are taken, or the journal is full", || {
            engine.metric("tidemill_events_accepted_total", "") == f64::from(dropped) || is_full()
        });
    }
    engine.wait_log("has reached engine.journal_limit");
    // What was taken before becomes dead letters too, however slow the machine is.
    engine.wait_idle();
    fs::write(
        folder.join("last"),
        r#"{"do": "kv-set", "key": "last", "text": "handled"}"#,
    )
    .expect("it is written");

    site.succeeds(&["dead-letters", "purge", "--all", "--yes"]);
    wait_until("what waited is taken", || {
        site.key("probe", "last").is_some()
    });
    engine.stop();
}
