//! A disk that is full, or that cannot sync, under the journal: a library put before the C library
//! makes the system calls on the journal's files fail on command.

use std::{fs, path::PathBuf, process::Command, sync::OnceLock};

use crate::harness::{Site, files, wait_until};

const CONFIG: &str = r#"
[buckets.in]
url = "file:buckets/in"
[buckets.out]
url = "file:buckets/out"
[functions.tally]
component = "PROBE"
env = { ORDER = '{ "do": "tally", "key": "all", "bucket": "out" }' }
allow = { read = ["in"], write = ["out"], store = ["probe"] }
[triggers.tally]
function = "tally"
bucket = { name = "in", rescan = "1s" }
"#;

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
        let site = Site::new(CONFIG);
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
