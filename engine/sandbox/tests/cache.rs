//! A component is compiled once; what is wrong with a file of the cache costs a compilation and
//! nothing else.

mod common;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use common::*;
use tidemill_core::outcome::Outcome;
use tidemill_sandbox::{Compiler, Sandbox, Settings};

fn open(cache: &Path) -> Sandbox {
    Sandbox::new(Settings {
        memory: 1 << 40,
        instances: 4,
        cache: cache.to_owned(),
        compiler: Compiler::Here,
    })
    .unwrap()
}

fn files(cache: &Path) -> Vec<PathBuf> {
    fs::read_dir(cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// Loads the component and runs it; tells how often this sandbox compiled.
async fn works(sandbox: &Sandbox) -> u64 {
    let function = sandbox
        .load("test", &component(OK), limits(), Vec::new())
        .unwrap();
    let (finished, _) = run(&function, &event("any", "")).await;
    assert_eq!(finished.outcome, Outcome::Ok);
    sandbox.compiled()
}

#[tokio::test]
async fn a_second_load_does_not_compile() {
    let cache = tempfile::tempdir().unwrap();
    let sandbox = open(cache.path());
    assert_eq!(works(&sandbox).await, 1);
    assert_eq!(works(&sandbox).await, 1, "the same sandbox");
    assert_eq!(works(&open(cache.path())).await, 0, "after a restart");
    assert_eq!(files(cache.path()).len(), 1);
}

#[tokio::test]
async fn a_flipped_byte_anywhere_recompiles() {
    let cache = tempfile::tempdir().unwrap();
    works(&open(cache.path())).await;
    let [file] = &files(cache.path())[..] else {
        panic!("one file")
    };
    let whole = fs::read(file).unwrap();
    let places = (0..whole.len())
        .step_by(whole.len() / 20)
        .chain([whole.len() - 40, whole.len() - 1]);
    for place in places {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x40;
        // Like a disk would, and not into the file that an earlier sandbox may still map.
        fs::remove_file(file).unwrap();
        fs::write(file, damaged).unwrap();
        assert_eq!(works(&open(cache.path())).await, 1, "byte {place} flipped");
        assert_eq!(works(&open(cache.path())).await, 0, "byte {place} healed");
    }
}

#[tokio::test]
async fn a_file_cut_short_recompiles() {
    let cache = tempfile::tempdir().unwrap();
    works(&open(cache.path())).await;
    let [file] = &files(cache.path())[..] else {
        panic!("one file")
    };
    let whole = fs::read(file).unwrap();
    for length in [0, 1, 39, 40, whole.len() / 2, whole.len() - 1] {
        fs::remove_file(file).unwrap();
        fs::write(file, &whole[..length]).unwrap();
        assert_eq!(works(&open(cache.path())).await, 1, "{length} bytes left");
    }
}

#[tokio::test]
async fn other_engines_files_are_swept_and_strangers_are_left() {
    let cache = tempfile::tempdir().unwrap();
    let digest = "ab".repeat(32);
    let ours = [
        format!("{digest}-0123456789abcdef.cwasm"),
        format!("{digest}.77.0.tmp"),
    ];
    let strangers = ["notes.tmp", "notes.txt", "old.cwasm"];
    for name in ours.iter().map(String::as_str).chain(strangers) {
        fs::write(cache.path().join(name), "x").unwrap();
    }
    open(cache.path());
    let mut left = files(cache.path());
    left.sort();
    assert_eq!(left, strangers.map(|name| cache.path().join(name)));
}

#[tokio::test]
async fn the_directory_is_private() {
    let parent = tempfile::tempdir().unwrap();
    let cache = parent.path().join("a/cache");
    open(&cache);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&cache), 0o700);
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    open(&cache);
    assert_eq!(mode(&cache), 0o700, "made private again");
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_costs_a_compilation_each_time() {
    let cache = tempfile::tempdir().unwrap();
    let sandbox = open(cache.path());
    fs::remove_dir(cache.path()).unwrap();
    assert_eq!(works(&sandbox).await, 1);
    assert_eq!(works(&sandbox).await, 2);
}

#[test]
fn a_cache_that_is_a_file_is_an_error() {
    let parent = tempfile::tempdir().unwrap();
    let cache = parent.path().join("cache");
    fs::write(&cache, "").unwrap();
    let Err(error) = Sandbox::new(Settings {
        memory: 1 << 40,
        instances: 1,
        cache: cache.clone(),
        compiler: Compiler::Here,
    }) else {
        panic!("a sandbox without a cache")
    };
    let expected = format!(
        "the cache of compiled components {} cannot be used; it must be a directory that this user owns",
        cache.display()
    );
    assert_eq!(error.to_string(), expected);
}
