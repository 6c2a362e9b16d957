//! kill -9 at random moments while requests, files and ticks come together.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{kills, seed};
use crate::harness::{Client, Site, files, free_port, wait_until, wait_until_none_left};

/// Each source has its own counters, and each of its events emits one that is counted too.
const CONFIG: &str = r#"
[engine]
admin = "127.0.0.1:0"
http = "127.0.0.1:PORT"
[buckets.in]
url = "file:buckets/in"
[functions.web]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "web" }' }
allow = { store = ["probe"], emit = ["probe.made"] }
[functions.file]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "file" }' }
allow = { store = ["probe"], emit = ["probe.made"] }
[functions.tick]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "tick" }' }
allow = { store = ["probe"], emit = ["probe.made"] }
[functions.child]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "child", "type": "" }' }
allow = { store = ["probe"] }
[triggers.web]
function = "web"
http = { path = "/web" }
[triggers.file]
function = "file"
bucket = { name = "in", rescan = "1s" }
[triggers.tick]
function = "tick"
schedule = { cron = "* * * * * *", catch_up = "all", overlap = "allow" }
[triggers.child]
function = "child"
event = { type = "probe.made" }
"#;

/// How many clients send at a time.
const SENDERS: usize = 4;

#[test]
fn requests_files_and_ticks_take_effect_exactly_once_whenever_the_engine_dies() {
    let kills = kills();
    let mut random = fastrand::Rng::with_seed(seed());
    let port = free_port();
    let site = Site::new(&CONFIG.replace("PORT", &port.to_string()));
    let inbox = site.bucket("in");
    let stop = Arc::new(AtomicBool::new(false));
    let dropped = Arc::new(AtomicUsize::new(0));

    // Each client sends an event until it is acknowledged, and then the next one.
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let stop = stop.clone();
            let client = Client::new(&format!("127.0.0.1:{port}"));
            let mut random = random.fork();
            thread::spawn(move || {
                let mut acknowledged = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let id = format!("{sender}-{}", acknowledged.len());
                    let key = [("Idempotency-Key", id.as_str())];
                    let replied = client.try_post("/web", &key, &id, Duration::from_secs(5));
                    match replied {
                        Ok(replied) if replied.status == 202 => {
                            acknowledged.push(id);
                            // The pace of the arrivals, not a wait for anything.
                            thread::park_timeout(Duration::from_millis(random.u64(1..30)));
                        }
                        Ok(replied) => assert_eq!(replied.status, 503, "{replied:?}"),
                        // It is dead, or died with the answer on its lips.
                        Err(_) => thread::park_timeout(Duration::from_millis(5)),
                    }
                }
                acknowledged
            })
        })
        .collect();
    let uploader = {
        let (stop, dropped, inbox) = (stop.clone(), dropped.clone(), inbox.clone());
        let mut random = random.fork();
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let n = dropped.fetch_add(1, Ordering::Relaxed);
                fs::write(inbox.join(n.to_string()), "x").expect("it is written");
                // The pace of the arrivals, not a wait for anything.
                thread::park_timeout(Duration::from_millis(random.u64(1..30)));
            }
        })
    };

    for _ in 0..kills {
        let engine = site.spawn(&[]);
        thread::park_timeout(Duration::from_millis(random.u64(10..1500)));
        engine.kill();
    }
    let engine = site.start();
    let ticks = |site: &Site| site.counters("").get("tick").copied().unwrap_or(0);
    wait_until("the clock ticks", || ticks(&site) > 0);
    stop.store(true, Ordering::Relaxed);
    uploader.join().expect("all files were dropped");
    let mut ids: Vec<String> = Vec::new();
    for sender in senders {
        ids.extend(sender.join().expect("all was sent"));
    }
    let dropped = dropped.load(Ordering::Relaxed);
    let handled = |site: &Site| site.counters("").get("file").copied().unwrap_or(0);
    wait_until_none_left("every file was handled", || {
        dropped - handled(&site) as usize
    });
    engine.stop();
    // The last request of a client may have been acknowledged after it stopped to listen; a drain
    // ends attempts, not what waits. What is left runs without new ticks.
    site.configure(
        &CONFIG
            .replace("PORT", &port.to_string())
            .replace("cron = \"* * * * * *\"", "cron = \"0 0 1 1 *\""),
    );
    let engine = site.start();
    engine.wait_idle();

    let all = site.counters("");
    let count = |key: &str| all.get(key).copied().unwrap_or(0);
    let of = |prefix: &str| -> Vec<(&str, u64)> {
        let own = all
            .iter()
            .filter_map(|(key, count)| Some((key.strip_prefix(prefix)?, *count)));
        own.collect()
    };
    // Requests: every acknowledged one once; the rest are the last ones of each client.
    for id in &ids {
        assert_eq!(count(&format!("web:{id}")), 1, "request {id}");
    }
    let web = of("web:");
    assert!(web.iter().all(|(_, count)| *count == 1), "{web:?}");
    assert_eq!(count("web"), web.len() as u64);
    assert!((ids.len()..=ids.len() + SENDERS).contains(&web.len()));
    // Files.
    for key in files(&inbox) {
        assert_eq!(count(&format!("file@{key}")), 1, "file {key}");
    }
    assert_eq!(count("file"), dropped as u64);
    // Ticks: every second from the first one to the last one, once.
    let instants: Vec<i64> = of("tick:")
        .into_iter()
        .map(|(at, count)| {
            assert_eq!(count, 1, "tick {at}");
            chrono::DateTime::parse_from_rfc3339(at)
                .expect("an instant")
                .timestamp()
        })
        .collect();
    let (first, last) = (instants[0], instants[instants.len() - 1]);
    assert_eq!(instants, (first..=last).collect::<Vec<_>>());
    // Emitted events: each has one parent, and each parent one child.
    let parents = count("web") + count("file") + count("tick");
    assert_eq!(count("child"), parents);
    assert_eq!(of("child:").len() as u64, parents);
    let mut children = 0;
    for source in ["web:", "file:", "tick:"] {
        for (parent, _) in of(source) {
            assert_eq!(
                count(&format!("child@{parent}")),
                1,
                "the child of {source}{parent}"
            );
            children += 1;
        }
    }
    assert_eq!(children, parents);
    assert_eq!(site.dead_letters(), 0);
    println!(
        "{} requests, {dropped} files, {} ticks, {kills} kills",
        web.len(),
        instants.len()
    );
    engine.stop();
}
