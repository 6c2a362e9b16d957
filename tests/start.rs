//! What keeps the engine from starting, and what it says of it.

use std::{fs, net::TcpListener, os::unix::fs::symlink};

use crate::harness::{Site, component};

const CONFIG: &str = r#"
[buckets.in]
url = "file:buckets/in"

[functions.probe]
component = "PROBE"
allow = { read = ["in"] }

[triggers.arrived]
function = "probe"
bucket = { name = "in" }
"#;

/// The exit code and the message of a start that fails, without what differs from run to run.
fn refusal(site: &Site) -> String {
    let (code, error) = site.refuses_to_run();
    format!("exit code {code}\n{error}")
}

macro_rules! assert_refused {
    ($site:expr) => {
        insta::assert_snapshot!(refusal(&$site))
    };
}

/// A site whose component has these bytes.
fn with_component(bytes: &[u8]) -> Site {
    let site = Site::new(&CONFIG.replace("PROBE", "function.wasm"));
    site.bucket("in");
    fs::write(site.path("function.wasm"), bytes).expect("it is written");
    site
}

#[test]
fn a_broken_file_starts_nothing() {
    let site =
        Site::new("[buckets.in]\nurl = \"file:in\"\nurll = 1\n\n[triggers.t]\nfunction = \"f\"\n");
    assert_refused!(site);
    assert!(!site.path("data").exists(), "nothing was started");
}

#[test]
fn no_file() {
    let site = Site::new("");
    fs::remove_file(site.path("tidemill.toml")).expect("it is removed");
    assert_refused!(site);
}

#[test]
fn a_source_that_is_not_built_yet() {
    let config = CONFIG.replace(
        "bucket = { name = \"in\" }",
        "postgres = { connection = \"shop\", publication = \"p\", slot = \"s\" }",
    );
    let connection = "[connections.shop]\npostgres = \"postgres://127.0.0.1/shop\"\n";
    let site = Site::new(&(config + connection));
    assert_refused!(site);
    let checked = site.succeeds(&["check"]);
    assert!(checked.contains("not built yet"), "{checked}");
}

#[test]
fn no_component() {
    let site = Site::new(&CONFIG.replace("PROBE", "functions/absent.wasm"));
    site.bucket("in");
    assert_refused!(site);
}

#[test]
fn a_component_that_is_not_wasm() {
    assert_refused!(with_component(b"#!/bin/sh\necho hello\n"));
}

#[test]
fn a_component_that_is_empty() {
    assert_refused!(with_component(b""));
}

#[test]
fn a_component_that_is_cut_short() {
    let whole = fs::read(component("probe")).expect("it is built");
    let refused = refusal(&with_component(&whole[..whole.len() / 2]));
    // Its size depends on the compiler.
    let places = regex_lite::Regex::new(r"\d{4,}").expect("a pattern");
    insta::assert_snapshot!(places.replace_all(&refused, "N"));
}

#[test]
fn a_core_module() {
    assert_refused!(with_component(
        &wat::parse_str("(module)").expect("it is WAT")
    ));
}

#[test]
fn a_component_without_the_export() {
    assert_refused!(with_component(
        &wat::parse_str("(component)").expect("it is WAT")
    ));
}

#[test]
fn no_bucket_folder() {
    assert_refused!(Site::new(CONFIG));
}

#[test]
fn several_things_at_once() {
    assert_refused!(Site::new(&CONFIG.replace("PROBE", "functions/absent.wasm")));
}

#[test]
fn a_bucket_folder_that_leads_out() {
    let site = Site::new(CONFIG);
    fs::create_dir_all(site.path("elsewhere")).expect("it is made");
    fs::create_dir_all(site.path("buckets")).expect("it is made");
    symlink(site.path("elsewhere"), site.path("buckets/in")).expect("it is linked");
    assert_refused!(site);
}

#[test]
fn a_bucket_folder_that_is_read_only() {
    let site = Site::new(&CONFIG.replace("read = [\"in\"]", "write = [\"in\"]"));
    let folder = site.bucket("in");
    let locked = crate::harness::ReadOnly::new(&folder);
    assert_refused!(site);
    drop(locked);
}

#[test]
fn a_taken_port() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let site = Site::new(&format!("[engine]\nadmin = \"{address}\"\n{CONFIG}"));
    site.bucket("in");
    insta::assert_snapshot!(refusal(&site).replace(&address, "ADDRESS"));
}

#[test]
fn an_unset_secret() {
    let config = CONFIG.replace(
        "allow",
        "secrets = { KEY = \"${env:TIDEMILL_TEST_UNSET}\" }\nallow",
    );
    let site = Site::new(&config);
    site.bucket("in");
    assert_refused!(site);
    site.succeeds(&["check"]);
}

#[test]
fn a_second_engine_on_the_same_data() {
    let site = Site::new(CONFIG);
    site.bucket("in");
    let engine = site.start();
    let (pid, admin) = (
        engine.pid().to_string(),
        engine.admin().expect("an address"),
    );
    let refusal = refusal(&site)
        .replace(&pid, "PID")
        .replace(&admin, "ADDRESS");
    let time = regex_lite::Regex::new(r"\d{4}-\d\d-\d\dT[\d:.]+Z").expect("a pattern");
    insta::assert_snapshot!(time.replace_all(&refusal, "TIME"));
    assert!(
        matches!(engine.get("/healthz"), Some((200, _))),
        "the first one is unharmed"
    );
    engine.stop();
}

#[test]
fn a_journal_of_a_newer_version() {
    let site = Site::new(CONFIG);
    site.bucket("in");
    site.start().stop();
    let journal = rusqlite::Connection::open(site.path("data/journal.db")).expect("it opens");
    journal
        .pragma_update(None, "user_version", 999)
        .expect("it is set");
    drop(journal);
    assert_refused!(site);
}

#[test]
fn a_corrupt_journal() {
    let site = Site::new(CONFIG);
    site.bucket("in");
    site.start().stop();
    let path = site.path("data/journal.db");
    let mut bytes = fs::read(&path).expect("it is read");
    bytes[100..4096].fill(0xA5);
    fs::write(&path, bytes).expect("it is written");
    assert_refused!(site);
}

#[test]
fn a_journal_that_is_none() {
    let site = Site::new(CONFIG);
    site.bucket("in");
    fs::create_dir_all(site.path("data")).expect("it is made");
    fs::write(
        site.path("data/journal.db"),
        "once upon a time ".repeat(1000),
    )
    .expect("it is written");
    assert_refused!(site);
}

#[test]
fn an_admin_address_for_all_without_a_token() {
    let site = Site::new(&format!("[engine]\nadmin = \"0.0.0.0:0\"\n{CONFIG}"));
    site.bucket("in");
    assert_refused!(site);
}
