//! The plan changes while the engine runs.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use serde_json::Value;

use crate::harness::{
    Amqp, Client, Engine, Kafka, Site, amqp_url, component, kafka_brokers, unique, wait_for,
    wait_until,
};

/// Which plan runs, as `/readyz` says.
fn plan(engine: &Engine) -> Value {
    let (_, ready) = engine.get("/readyz").expect("it answers");
    let ready: Value = serde_json::from_str(&ready).expect("it is JSON");
    ready["plan"].clone()
}

/// Why the file does not run, once it was looked at.
fn refused(engine: &Engine) -> String {
    wait_for("the file is refused", || {
        Some(plan(engine)["refused"]["error"].as_str()?.to_owned())
    })
}

/// Replaces the configuration, and waits until that runs.
fn change(site: &Site, engine: &Engine, config: &str) {
    let before = plan(engine)["since"].clone();
    site.configure(config);
    wait_until("the new plan runs", || {
        let plan = plan(engine);
        assert_eq!(plan["refused"], Value::Null, "{}", engine.log());
        plan["since"] != before
    });
}

/// A function that answers with this, at a path.
fn answers(text: &str) -> String {
    format!(
        r#"
[functions.probe]
component = "PROBE"
env = {{ V = "{text}" }}
allow = {{ store = ["probe"] }}
[triggers.ask]
function = "probe"
http = {{ path = "/ask", mode = "sync" }}
"#
    )
}

const V: &str = r#"{ "do": "config", "key": "V" }"#;

#[test]
fn the_file_is_what_runs_soon_after_it_has_changed() {
    let site = Site::new(&answers("one"));
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    assert_eq!(client.post("/ask", &[], V).json(), "one");
    change(&site, &engine, &answers("two"));
    assert_eq!(client.post("/ask", &[], V).json(), "two");

    // Another path, and the one from before is gone.
    change(&site, &engine, &answers("three").replace("/ask", "/asked"));
    wait_until("the path is gone", || {
        client.post("/ask", &[], V).status == 404
    });
    assert_eq!(client.post("/asked", &[], V).json(), "three");

    // As editors write: another file takes its place.
    let config = fs::read_to_string(site.path("tidemill.toml")).unwrap();
    fs::write(site.path("new.toml"), config.replace("three", "four")).unwrap();
    fs::rename(site.path("new.toml"), site.path("tidemill.toml")).unwrap();
    wait_until("it runs", || client.post("/asked", &[], V).json() == "four");
    engine.stop();
}

#[test]
fn sighup_loads_what_the_file_refers_to_anew() {
    let site = Site::new(&answers("${file:text}"));
    fs::write(site.path("text"), "one").unwrap();
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    assert_eq!(client.post("/ask", &[], V).json(), "one");
    fs::write(site.path("text"), "two").unwrap();
    engine.hang_up();
    wait_until("it runs", || client.post("/ask", &[], V).json() == "two");
    // What it refers to is gone: the plan runs on.
    fs::remove_file(site.path("text")).unwrap();
    engine.hang_up();
    let why = refused(&engine);
    assert!(why.contains("function `probe`: env.V: "), "{why}");
    assert_eq!(client.post("/ask", &[], V).json(), "two");
    engine.stop();
}

#[test]
fn a_file_that_cannot_run_is_told_of_and_the_plan_runs_on() {
    let site = Site::new(&answers("one"));
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let since = plan(&engine)["since"].clone();
    site.configure(&answers("two").replace("sync", "synk"));
    let why = refused(&engine);
    assert!(
        why.contains("tidemill.toml:") && why.contains("synk"),
        "{why}"
    );
    let told = format!(
        "the file cannot run, the plan of {} runs on",
        since.as_str().unwrap()
    );
    engine.wait_log(&told);
    assert_eq!(plan(&engine)["since"], since);
    assert_eq!(engine.get("/readyz").unwrap().0, 200);
    assert_eq!(client.post("/ask", &[], V).json(), "one");

    // What only shows when it is built.
    fs::write(site.path("empty.wasm"), "").unwrap();
    site.configure(&answers("two").replace("PROBE", "empty.wasm"));
    wait_until("it was looked at", || refused(&engine).contains("is empty"));
    assert_eq!(client.post("/ask", &[], V).json(), "one");

    // It is mended where it is.
    fs::copy(component("probe"), site.path("new.wasm")).unwrap();
    fs::rename(site.path("new.wasm"), site.path("empty.wasm")).unwrap();
    wait_until("it runs", || client.post("/ask", &[], V).json() == "two");
    wait_until("it is told", || plan(&engine)["refused"] == Value::Null);
    engine.stop();
}

#[test]
fn a_component_that_is_built_anew_runs() {
    let site = Site::new(
        r#"
[functions.probe]
component = "f.wasm"
[triggers.work]
function = "probe"
http = { path = "/work" }
"#,
    );
    let mut bytes = fs::read(component("probe")).unwrap();
    fs::write(site.path("f.wasm"), &bytes).unwrap();
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    // Its attempts are known by the digest of what ran.
    let digests = || -> Vec<String> {
        let (_, page) = engine.get("/api/dead-letters").expect("it answers");
        let page: Value = serde_json::from_str(&page).expect("it is JSON");
        let all = page["dead_letters"].as_array().expect("a list").iter();
        let digest = |dead: &Value| {
            let path = format!("/api/dead-letters/{}", dead["id"].as_str().expect("an id"));
            let (_, shown) = engine.get(&path).expect("it answers");
            let shown: Value = serde_json::from_str(&shown).expect("it is JSON");
            let attempt = &shown["history"][0];
            attempt["digest"].as_str().expect("a digest").to_owned()
        };
        all.map(digest).collect()
    };
    let rejected = r#"{ "do": "reject" }"#;
    assert_eq!(client.post("/work", &[], rejected).status, 202);
    wait_until("it is dead", || site.dead_letters() == 1);
    let since = plan(&engine)["since"].clone();
    // A custom section that says nothing, written in pieces, as linkers do.
    bytes.extend([0, 2, 1, b'x']);
    fs::write(site.path("f.wasm"), &bytes[..1000]).unwrap();
    fs::write(site.path("f.wasm"), &bytes).unwrap();
    wait_until("the new one runs", || plan(&engine)["since"] != since);
    assert_eq!(client.post("/work", &[], rejected).status, 202);
    wait_until("it is dead", || site.dead_letters() == 2);
    let digests = digests();
    assert_ne!(digests[0], digests[1]);
    engine.stop();
}

#[test]
fn what_runs_ends_on_the_component_it_began_with() {
    let site = Site::new(&answers("one"));
    let engine = site.start();
    let address = engine.http().expect("an address");
    thread::scope(|scope| {
        let client = Client::new(&address);
        let asked = scope.spawn(move || {
            let order = r#"{ "do": "sleep", "ms": 3000 }"#;
            client.post("/ask", &[], order).status
        });
        wait_until("it runs", || {
            engine.metric("tidemill_attempts_running", "") == 1.0
        });
        // Its trigger goes, and its function has no time for what runs.
        let other = answers("two").replace("/ask", "/other");
        let other = other.replace("triggers.ask", "triggers.other");
        change(
            &site,
            &engine,
            &other.replace("env", "timeout = \"1s\"\nenv"),
        );
        assert!(!asked.is_finished(), "it ended early");
        let client = Client::new(&address);
        assert_eq!(client.post("/other", &[], V).json(), "two");
        assert_eq!(
            client
                .post("/other", &[], r#"{ "do": "sleep", "ms": 3000 }"#)
                .status,
            504
        );
        assert_eq!(asked.join().expect("it is answered"), 204);
    });
    engine.stop();
}

#[test]
fn a_trigger_that_comes_back_finds_what_waits_for_it() {
    let with = |rest: &str| {
        format!(
            r#"
[functions.probe]
component = "PROBE"
allow = {{ store = ["probe"] }}
[triggers.other]
function = "probe"
http = {{ path = "/other" }}
{rest}
"#
        )
    };
    let work = r#"
[functions.one]
component = "PROBE"
concurrency = 1
allow = { store = ["probe"] }
[triggers.work]
function = "one"
http = { path = "/work" }
[triggers.tick]
function = "one"
schedule = { every = "1h" }
"#;
    let site = Site::new(&with(work));
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let order = |n: u32| format!(r#"{{ "do": "append", "count": {n} }}"#);
    assert_eq!(engine.metric("tidemill_source_ready", "schedule:tick"), 1.0);
    let slow = r#"{ "do": "sleep", "ms": 2000 }"#;
    assert_eq!(client.post("/work", &[], slow).status, 202);
    for n in 1..=2 {
        assert_eq!(client.post("/work", &[], order(n)).status, 202);
    }
    wait_until("the first one runs", || {
        engine.metric("tidemill_attempts_running", "") == 1.0
    });
    change(&site, &engine, &with(""));
    engine.wait_log("the journal holds deliveries of a trigger that is not in the file");
    wait_until("the path is gone", || {
        client.post("/work", &[], order(9)).status == 404
    });
    wait_until("the first one has ended", || {
        engine.metric("tidemill_attempts_running", "") == 0.0
    });
    assert_eq!(client.post("/other", &[], order(3)).status, 202);
    assert_eq!(engine.metric("tidemill_source_ready", "schedule:tick"), 0.0);
    wait_until("only what waits is left", || {
        site.key("probe", "key").as_deref() == Some("3 ")
            && engine.metric("tidemill_deliveries_pending", "") == 2.0
    });
    change(&site, &engine, &with(work));
    wait_until("both have run", || {
        site.key("probe", "key").as_deref() == Some("3 1 2 ")
    });
    engine.stop();
}

#[test]
fn keys_that_need_a_restart_are_named_and_the_rest_is_taken() {
    let site = Site::new(&answers("one"));
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let fixed = "[engine]\ndata = \"./elsewhere\"\nadmin = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:1\"\n\
                 drain = \"31s\"\njournal_limit = \"1GiB\"\n";
    change(&site, &engine, &format!("{fixed}{}", answers("two")));
    for key in ["data", "http", "drain"] {
        engine.wait_log(&format!("engine.{key} has changed, which needs a restart"));
    }
    assert!(!engine.log().contains("engine.admin has"), "it is the same");
    assert_eq!(client.post("/ask", &[], V).json(), "two");
    let limit = engine.metric("tidemill_journal_limit_bytes", "");
    assert_eq!(limit, f64::from(1 << 30));
    assert!(!site.path("elsewhere").exists());
    engine.stop();
}

/// How often the file is written during a burst.
const CHANGES: usize = 50;

#[test]
fn every_event_of_a_burst_takes_effect_once_while_the_file_is_written_many_times() {
    let (broker, log) = (Amqp::connect(&amqp_url()), Kafka::connect(&kafka_brokers()));
    let (queue, topic) = (unique("reload"), unique("reload"));
    broker.declare(&queue);
    log.create(&topic, 2);
    let (rabbit, brokers) = (amqp_url(), kafka_brokers());
    // All but what Kafka's source depends on is other in every second one.
    let config = |n: usize| {
        let odd = n % 2 == 1;
        let prefetch = if odd { 10 } else { 100 };
        let (rescan, methods) = if odd {
            ("1s", r#"["POST", "PUT"]"#)
        } else {
            ("2s", r#"["POST"]"#)
        };
        let concurrency = if odd { 3 } else { 30 };
        let more = match odd {
            true => "[triggers.more]\nfunction = \"count\"\nevent = { type = \"made\" }\n",
            false => "[triggers.less]\nfunction = \"count\"\nschedule = { every = \"1h\" }\n",
        };
        format!(
            r#"
[connections.rabbit]
amqp = "{rabbit}"
[connections.log]
kafka = {{ brokers = ["{brokers}"] }}
[buckets.in]
url = "file:buckets/in"
[functions.count]
component = "PROBE"
concurrency = {concurrency}
env = {{ ORDER = '{{ "do": "count", "key": "", "type": "" }}', N = "{n}" }}
allow = {{ store = ["probe"] }}
[triggers.request]
function = "count"
http = {{ path = "/count", methods = {methods} }}
[triggers.call]
function = "count"
http = {{ path = "/call", mode = "sync", methods = {methods} }}
[triggers.object]
function = "count"
bucket = {{ name = "in", rescan = "{rescan}" }}
[triggers.message]
function = "count"
amqp = {{ connection = "rabbit", queue = "{queue}", prefetch = {prefetch} }}
[triggers.record]
function = "count"
kafka = {{ connection = "log", topics = ["{topic}"], group = "{topic}" }}
retry = {{ attempts = {} }}
{more}
"#,
            n + 3
        )
    };
    let site = Site::new(&config(0));
    let objects = site.bucket("in");
    let engine = site.start();
    let address = engine.http().expect("an address");
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let post = |path: &'static str, status: u16| {
            let (address, done) = (&address, &done);
            scope.spawn(move || {
                let (client, mut n) = (Client::new(address), 0);
                while !done.load(Relaxed) {
                    let id = format!("{path}-{n}");
                    let replied = client.post(path, &[("Idempotency-Key", &id)], "");
                    assert_eq!(replied.status, status, "{replied:?}");
                    n += 1;
                }
                n
            })
        };
        let senders = [post("/count", 202), post("/call", 204)];
        let written = scope.spawn(|| {
            let mut n = 0;
            // Not so many that all else waits for them.
            while !done.load(Relaxed) && n < 50 * CHANGES {
                let (new, file) = (site.path("new"), objects.join(n.to_string()));
                fs::write(&new, "an object").expect("it is written");
                fs::rename(new, file).expect("it is moved");
                n += 1;
            }
            n
        });
        let published = scope.spawn(|| {
            let mut n = 0;
            while !done.load(Relaxed) && n < 100 * CHANGES {
                let batch = (n..n + 50).map(|n| (format!("message-{n}"), "x".to_owned()));
                assert!(broker.publish(&queue, &batch.collect::<Vec<_>>()));
                n += 50;
            }
            n
        });
        let produced = scope.spawn(|| {
            let mut n = 0;
            while !done.load(Relaxed) {
                let batch = (n..n + 50).map(|n| (format!("key-{n}"), "x".to_owned()));
                let batch: Vec<_> = batch.collect();
                log.produce(&topic, &batch).expect("the broker has them");
                n += 50;
            }
            n
        });
        for n in 1..=CHANGES {
            let before = plan(&engine)["since"].clone();
            site.configure(&config(n));
            engine.hang_up();
            wait_until("the new plan runs", || {
                let plan = plan(&engine);
                assert_eq!(plan["refused"], Value::Null, "{}", engine.log());
                plan["since"] != before
            });
        }
        done.store(true, Relaxed);
        let mut sent: Vec<usize> = senders.map(|one| one.join().expect("it sent")).into();
        for one in [written, published, produced] {
            sent.push(one.join().expect("it sent"));
        }
        sent
    });
    println!("sent in {CHANGES} plans: {sent:?}");
    assert!(sent.iter().all(|one| *one > 0), "{sent:?}");
    let counters = || site.counters(":");
    let all = sent.iter().sum::<usize>();
    wait_until("all have run", || counters().len() >= all);
    engine.wait_idle();
    wait_until("the queue is empty", || broker.waiting(&queue) == 0);
    let text = engine.stop();
    let counters = counters();
    let twice: Vec<_> = counters.iter().filter(|(_, count)| **count != 1).collect();
    assert_eq!(twice, [], "run twice");
    assert_eq!(counters.len(), all);
    assert_eq!(site.dead_letters(), 0);
    let ended = |source: &str| {
        let lines = text
            .lines()
            .filter(|line| line.contains("for the plan has changed"));
        lines.filter(|line| line.contains(source)).count()
    };
    assert!(ended("amqp:rabbit") >= CHANGES, "it changed every time");
    assert_eq!(ended("kafka:"), 0, "it never changed");
    broker.delete(&queue);
    log.delete(&topic);
}

#[test]
fn a_log_is_taken_up_anew_when_another_trigger_listens() {
    let log = Kafka::connect(&kafka_brokers());
    let (topic, brokers) = (unique("reload"), kafka_brokers());
    log.create(&topic, 2);
    let config = |triggers: &[&str]| {
        let mut config = format!(
            r#"
[connections.log]
kafka = {{ brokers = ["{brokers}"] }}
"#
        );
        for name in triggers {
            config += &format!(
                r#"
[functions.{name}]
component = "PROBE"
env = {{ ORDER = '{{ "do": "count", "key": "{name}", "type": "" }}' }}
allow = {{ store = ["probe"] }}
[triggers.{name}]
function = "{name}"
kafka = {{ connection = "log", topics = ["{topic}"], group = "{topic}" }}
"#
            );
        }
        config
    };
    let site = Site::new(&config(&["one"]));
    let engine = site.start();
    let mut n = 0;
    let mut produce = |count: usize| {
        let batch = (n..n + count).map(|n| (format!("key-{n}"), "x".to_owned()));
        log.produce(&topic, &batch.collect::<Vec<_>>())
            .expect("the broker has them");
        n += count;
    };
    produce(200);
    wait_until("all have run", || site.counters("one:").len() == 200);
    change(&site, &engine, &config(&["one", "two"]));
    engine.wait_ready();
    produce(200);
    wait_until("all have run for both", || {
        site.counters("one:").len() == 400 && site.counters("two:").len() >= 200
    });
    change(&site, &engine, &config(&["two"]));
    engine.wait_ready();
    produce(200);
    wait_until("all have run for the other", || {
        site.counters("two:").len() >= 400
    });
    engine.stop();
    for name in ["one:", "two:"] {
        let counts = site.counters(name);
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    }
    assert_eq!(site.counters("one:").len(), 400, "it listened no more");
    log.delete(&topic);
}

#[test]
fn a_queue_that_is_taken_up_anew_waits_for_what_runs_of_it() {
    let broker = Amqp::connect(&amqp_url());
    let (queue, url) = (unique("reload"), amqp_url());
    broker.declare(&queue);
    let config = |prefetch: u32| {
        format!(
            r#"
[connections.rabbit]
amqp = "{url}"
[functions.probe]
component = "PROBE"
concurrency = 2
allow = {{ store = ["probe"] }}
[triggers.work]
function = "probe"
amqp = {{ connection = "rabbit", queue = "{queue}", prefetch = {prefetch} }}
"#
        )
    };
    let site = Site::new(&config(10));
    let engine = site.start();
    // Without ids nobody knows them again.
    let slow = r#"{ "do": "sleep", "ms": 3000 }"#;
    let orders = [slow, slow].into_iter().map(str::to_owned);
    let appends = (1..=5).map(|n| format!(r#"{{ "do": "append", "count": {n} }}"#));
    let messages = orders.chain(appends).map(|order| (String::new(), order));
    assert!(broker.publish(&queue, &messages.collect::<Vec<_>>()));
    wait_until("two run", || {
        engine.metric("tidemill_attempts_running", "") == 2.0
    });
    change(&site, &engine, &config(20));
    wait_until("all are done", || {
        site.key("probe", "key")
            .is_some_and(|list| list.split_whitespace().count() >= 5)
    });
    engine.wait_ready();
    wait_until("the queue is empty", || broker.waiting(&queue) == 0);
    // What a handler wrote is there a little before it counts as settled.
    let settled = || engine.metric("tidemill_deliveries_settled_total", "");
    wait_until("all are settled", || settled() >= 7.0);
    let settled = settled();
    engine.stop();
    assert_eq!(settled, 7.0);
    let list = site.key("probe", "key").unwrap_or_default();
    let mut numbers: Vec<&str> = list.split_whitespace().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["1", "2", "3", "4", "5"]);
    assert_eq!(broker.waiting(&queue), 0);
    broker.delete(&queue);
}

#[test]
fn an_engine_without_requests_takes_them_when_its_plan_does() {
    let site = Site::new("[functions.probe]\ncomponent = \"PROBE\"\n");
    let engine = site.start();
    assert_eq!(engine.http(), None);
    change(&site, &engine, &answers("one"));
    let address = wait_for("it listens", || engine.http());
    let client = Client::new(&address);
    assert_eq!(client.post("/ask", &[], V).json(), "one");
    // The address is kept, though nothing is at it.
    change(&site, &engine, "[functions.probe]\ncomponent = \"PROBE\"\n");
    wait_until("the path is gone", || {
        client.post("/ask", &[], V).status == 404
    });
    change(&site, &engine, &answers("two"));
    wait_until("the path is back", || {
        client.post("/ask", &[], V).status == 200
    });
    assert_eq!(client.post("/ask", &[], V).json(), "two");
    engine.stop();
}
