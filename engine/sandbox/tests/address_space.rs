//! A process whose address space is limited (containers, `ulimit -v`) runs with fewer instances.
//!
//! The limit is the process's own, so each case is this test again in a process of its own.

mod common;

use std::process::Command;

use common::*;
use tidemill_core::outcome::Outcome;
use tidemill_sandbox::{Compiler, Sandbox, Settings};

const CASE: &str = "TIDEMILL_TEST_ADDRESS_SPACE";

/// Runs a test of this file with a limit in KiB; gives whether it passed and what it said.
fn limited(test: &str, limit: u64) -> (bool, String) {
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -v \"$0\" && exec \"$1\" --exact \"$2\" --nocapture",
        ])
        .args([
            &limit.to_string(),
            std::env::current_exe().unwrap().to_str().unwrap(),
            test,
        ])
        .env(CASE, "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn fewer_instances_where_there_is_room_for_some() {
    if std::env::var_os(CASE).is_none() {
        let (passed, said) = limited("fewer_instances_where_there_is_room_for_some", 40 << 20);
        assert!(passed, "{said}");
        return;
    }
    let rig = rig_with(1000);
    let instances = rig.sandbox.instances();
    assert!(
        (2..=9).contains(&instances),
        "{instances} instances in 40 GiB"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let function = rig.load(&component(OK));
    let (finished, _) = runtime.block_on(run(&function, &event("any", "")));
    assert_eq!(finished.outcome, Outcome::Ok);
}

#[test]
fn a_clear_error_where_there_is_room_for_none() {
    if std::env::var_os(CASE).is_none() {
        let (passed, said) = limited("a_clear_error_where_there_is_room_for_none", 3 << 20);
        assert!(passed, "{said}");
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let settings = Settings {
        memory: 1 << 40,
        instances: 1000,
        cache: cache.path().to_owned(),
        compiler: Compiler::Here,
    };
    let Err(error) = Sandbox::new(settings) else {
        panic!("4 GiB in 3")
    };
    assert!(
        error
            .to_string()
            .starts_with("there is no address space for even one"),
        "{error:?}"
    );
}
