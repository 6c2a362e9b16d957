//! Instances that are kept, in a running engine.

use serde_json::Value;

use crate::harness::{Client, Engine, Site, wait_until};

fn config(keys: &str) -> String {
    format!(
        r#"
[functions.probe]
component = "PROBE"
{keys}
[triggers.ask]
function = "probe"
http = {{ path = "/ask", mode = "sync" }}
"#
    )
}

/// The pages of memory that the instance has which answers next.
fn pages(client: &Client) -> u64 {
    let answer = client.post("/ask", &[], r#"{ "do": "memory" }"#).json();
    answer["before"].as_u64().expect("a number")
}

/// Has an instance grow by 16 MiB.
fn grow(client: &Client) {
    let order = r#"{ "do": "allocate", "bytes": 16777216 }"#;
    assert_eq!(client.post("/ask", &[], order).status, 204);
}

fn client(engine: &Engine) -> Client {
    Client::new(&engine.http().expect("an address"))
}

#[test]
fn what_a_reused_instance_keeps_lasts_until_it_breaks_or_the_plan_changes_it() {
    let site = Site::new(&config("reuse = true"));
    let engine = site.start();
    let client = client(&engine);
    let small = pages(&client);
    grow(&client);
    let grown = pages(&client);
    assert!(grown >= small + 256, "{small} pages, then {grown}");
    // Who rejects has answered.
    assert_eq!(
        client.post("/ask", &[], r#"{ "do": "reject" }"#).status,
        400
    );
    assert!(pages(&client) >= grown);
    assert_eq!(client.post("/ask", &[], r#"{ "do": "trap" }"#).status, 500);
    assert_eq!(pages(&client), small);

    // A plan that asks for the same of it goes on with it, and one that does not has another one.
    let runs = |keys: &str| {
        let plan = || {
            let (_, ready) = engine.get("/readyz").expect("it answers");
            let ready: Value = serde_json::from_str(&ready).expect("it is JSON");
            ready["plan"]["since"].clone()
        };
        let before = plan();
        site.configure(&config(keys));
        wait_until("the new plan runs", || plan() != before);
    };
    grow(&client);
    runs("reuse = true\nconcurrency = 7");
    assert!(pages(&client) >= grown);
    runs("reuse = true\ntimeout = \"7s\"");
    assert_eq!(pages(&client), small);
    grow(&client);
    runs("timeout = \"7s\"");
    assert_eq!(pages(&client), small);
    grow(&client);
    assert_eq!(pages(&client), small, "each event has its own");
    engine.stop();
}

#[test]
fn warm_instances_serve_one_event_each_unless_they_are_reused() {
    let site = Site::new(&config("warm = 3\nreuse = true"));
    let engine = site.start();
    let client = client(&engine);
    for _ in 0..20 {
        assert!(pages(&client) > 0);
    }
    engine.stop();
    let site = Site::new(&config("warm = 3"));
    let engine = site.start();
    let client = self::client(&engine);
    let small = pages(&client);
    for _ in 0..20 {
        grow(&client);
        assert_eq!(pages(&client), small);
    }
    engine.stop();
}

/// A field of what the kernel tells of each thread of this name; the first one is its number.
fn threads(engine: &Engine, name: &str, field: usize) -> Vec<i64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", engine.pid())).expect("it runs");
    let read = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("stat")).ok();
    let stats = tasks.filter_map(|task| read(task.ok()?));
    let fields = stats.filter_map(|stat| {
        let (named, rest) = stat.rsplit_once(") ")?;
        let value = rest.split(' ').nth(field - 3)?.parse().ok();
        value.filter(|_| named.ends_with(&format!("({name}")))
    });
    fields.collect()
}

/// How far behind others the kernel puts the threads for those that compute.
fn computing(engine: &Engine) -> Vec<i64> {
    const NICE: usize = 19;
    threads(engine, "computing", NICE)
}

#[test]
fn handlers_that_compute_do_so_behind_all_others() {
    let site = Site::new(&config(""));
    let engine = site.start();
    let client = client(&engine);
    assert_eq!(client.post("/ask", &[], r#"{ "do": "ok" }"#).status, 204);
    assert!(computing(&engine).is_empty(), "nobody has computed");
    for _ in 0..3 {
        let order = r#"{ "do": "busy", "ms": 50 }"#;
        assert_eq!(client.post("/ask", &[], order).status, 204);
    }
    let nice = computing(&engine);
    assert!(
        !nice.is_empty() && nice.iter().all(|nice| *nice == 10),
        "{nice:?}"
    );
    // Whatever computes or does not, all of it is answered.
    for _ in 0..20 {
        assert_eq!(client.post("/ask", &[], r#"{ "do": "ok" }"#).status, 204);
    }
    engine.stop();
}

/// However short they are: many of them keep others waiting as one long one does.
#[test]
fn handlers_that_compute_for_less_than_a_tick_do_so_behind_all_others() {
    const USER: usize = 14;
    let site = Site::new(&config(""));
    let engine = site.start();
    let client = client(&engine);
    let used = |name| threads(&engine, name, USER).iter().sum::<i64>();
    let [home, away] = ["tokio-rt-worker", "computing"].map(|name| move || used(name));
    let before = home();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..40 {
                    let order = r#"{ "do": "compute", "count": 800 }"#;
                    assert_eq!(client.post("/ask", &[], order).status, 204);
                }
            });
        }
    });
    let (home, away) = (home() - before, away());
    assert!(
        away > home,
        "{away} ticks of a clock there, and {home} among all others"
    );
    engine.stop();
}
