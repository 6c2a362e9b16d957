//! Schedules from outside: ticks that come, and what becomes of those that could not.

use std::collections::BTreeMap;

use chrono::Timelike;

use crate::harness::{Site, wait_until};

/// A probe that sleeps longer than its schedule's interval.
fn slow(overlap: &str) -> Site {
    Site::new(&format!(
        r#"
[functions.slow]
component = "PROBE"
env = {{ ORDER = '{{ "do": "sleep", "ms": 2500 }}' }}
[triggers.slow]
function = "slow"
schedule = {{ every = "1s", overlap = "{overlap}" }}
"#
    ))
}

/// The most attempts seen running at a time, until so many are settled.
fn watch(overlap: &str, settled: f64) -> f64 {
    let site = slow(overlap);
    let engine = site.start();
    let mut most = 0.0_f64;
    wait_until("it ticked", || {
        most = most.max(engine.metric("tidemill_attempts_running", ""));
        engine.metric("tidemill_deliveries_settled_total", "trigger=\"slow\"") >= settled
    });
    engine.stop();
    most
}

#[test]
fn ticks_overlap_only_if_they_may() {
    assert!(watch("allow", 2.0) > 1.0);
}

#[test]
fn a_tick_during_the_one_before_is_left_out() {
    assert_eq!(watch("skip", 2.0), 1.0);
}

#[test]
fn a_tick_during_the_one_before_waits_for_it() {
    assert_eq!(watch("queue", 2.0), 1.0);
}

#[test]
fn a_schedule_catches_up_as_it_says() {
    let config = |cron: &str| {
        let one = |name: &str, catch_up: &str| {
            format!(
                r#"
[functions.{name}]
component = "PROBE"
env = {{ ORDER = '{{ "do": "count", "key": "{name}", "type": "" }}' }}
allow = {{ store = ["probe"] }}
[triggers.{name}]
function = "{name}"
schedule = {{ cron = "{cron}", catch_up = "{catch_up}", overlap = "allow" }}
"#
            )
        };
        one("none", "none") + &one("latest", "latest") + &one("all", "all")
    };
    // Started once, so that the cursors stand; then left alone, and the clock goes on by hand: the
    // cursors are set back by two hours and a half.
    let now = chrono::Utc::now();
    let far = |minutes: u32| format!("{} * * * *", (now.minute() + minutes) % 60);
    let site = Site::new(&config(&far(30)));
    site.start().stop();
    let journal = rusqlite::Connection::open(site.path("data/journal.db")).expect("it opens");
    journal
        .execute("UPDATE cursors SET at = at - 9000000", [])
        .expect("it is written");
    drop(journal);
    let engine = site.start();
    engine.wait_idle();
    let counts = || -> BTreeMap<&str, String> {
        let names = ["none", "latest", "all"];
        let count = |name| Some((name, site.key("probe", name)?));
        names.into_iter().filter_map(count).collect()
    };
    // In two and a half hours it ticks twice, or three times; half an hour off from now.
    wait_until("all are caught up on", || {
        matches!(counts().get("all").map(String::as_str), Some("2" | "3"))
    });
    engine.wait_idle();
    let counts = counts();
    assert_eq!(
        counts.get("latest").map(String::as_str),
        Some("1"),
        "{counts:?}"
    );
    assert_eq!(counts.get("none"), None, "{counts:?}");
    engine.stop();

    // A changed schedule begins now.
    site.configure(&config(&far(40)));
    let engine = site.start();
    engine.wait_idle();
    assert_eq!(site.key("probe", "latest").as_deref(), Some("1"));
    engine.stop();
}

#[test]
fn a_preview_shows_what_will_come_around_a_change_of_the_clocks() {
    let site = Site::new(
        r#"
[functions.probe]
component = "PROBE"
[triggers.nightly]
function = "probe"
schedule = { cron = "30 2 * * *", timezone = "Europe/Berlin" }
[triggers.often]
function = "probe"
schedule = { every = "6h", jitter = "10m" }
[triggers.once]
function = "probe"
schedule = { at = "2026-10-25T12:00:00Z" }
"#,
    );
    let from = ["--next", "3", "--from", "2026-10-24T00:00:00Z"];
    let preview = |more: &[&str]| {
        let args = [&["schedule", "preview"], more, &from].concat();
        site.succeeds(&args)
    };
    insta::assert_snapshot!(preview(&[]));
    insta::assert_snapshot!(preview(&["nightly", "--json"]));
    let (code, error) = site.fails(&["schedule", "preview", "nightyl"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(error);
}
