//! Buckets of object stores: what works on folders works there, on a real server that speaks S3.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use crate::harness::{Engine, S3, Server, Site, photo, root, wait_for, wait_until};

/// The tests that take a server, on each of them.
macro_rules! on_each_server {
    ($($test:ident)*) => {
        mod moto {
            $(#[test] fn $test() { super::$test(super::Server::Moto) })*
        }
        mod s3s {
            $(#[test] fn $test() { super::$test(super::Server::S3s) })*
        }
    };
}

on_each_server! {
    the_quickstart_runs_when_only_its_urls_are_others
    a_function_that_feeds_its_own_trigger_ends_in_the_dead_letters
    objects_are_moved_or_deleted_when_they_were_handled
    large_objects_are_written_when_the_attempt_ended_ok_only
    every_object_takes_effect_exactly_once_whenever_the_engine_dies
    only_what_comes_later_runs_even_if_the_engine_dies_in_its_first_listing
    the_state_of_buckets_is_told_with_and_without_a_running_engine
}

/// A site whose plan is `text`, with `in` and `out` of a plan on the bucket, and its engine.
fn start(site: &Site, bucket: &S3) -> Engine {
    let engine = site.spawn(&bucket.env());
    engine.wait_ready();
    engine
}

fn the_quickstart_runs_when_only_its_urls_are_others(server: Server) {
    let bucket = S3::on(server);
    let plan = root().join("config/examples/quickstart.toml");
    let plan = fs::read_to_string(plan).expect("the quickstart is there");
    let built = root().join("functions/build");
    let plan = plan
        .replace("../../functions/build", built.to_str().expect("UTF-8"))
        .replace("../../data", "./data")
        .replace(
            "[engine]",
            "[engine]\nadmin = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"",
        )
        .replace("every = \"1m\"", "every = \"1h\"");
    let urls = format!("{}\nurl = \"s3://{}/", bucket.options(), bucket.name);
    let site = Site::new(&plan.replace("url = \"file:../../buckets/", &urls));
    for name in ["rocket.jpg", "astronaut.png", "chelsea.png"] {
        let content = fs::read(photo(name)).expect("it is read");
        bucket.put(&format!("uploads/a%20b/{name}"), content);
    }
    bucket.put("uploads/notes.txt", "not a photo");
    bucket.put("elsewhere/rocket.jpg", "not in the bucket of the plan");
    let engine = start(&site, &bucket);
    for (stem, extension) in [("rocket", "jpg"), ("astronaut", "png"), ("chelsea", "png")] {
        for width in [64, 256] {
            let key = format!("thumbnails/a%20b/{stem}-{width}.{extension}");
            let made = wait_for(&format!("{key} is there"), || bucket.get(&key));
            let size = imagesize::blob_size(&made).expect("an image");
            assert_eq!(size.width, width);
        }
    }
    engine.wait_idle();
    let thumbnails = bucket.keys();
    let thumbnails = thumbnails.iter().filter(|key| key.starts_with("thumb"));
    assert_eq!(thumbnails.count(), 6, "and nothing else");
    assert_eq!(site.key("thumbnails", "made").as_deref(), Some("3"));
    assert_eq!(site.dead_letters(), 0);
    assert!(engine.metric("tidemill_store_requests_total", "result=\"sent\"") > 6.0);
    let log = engine.stop();
    assert!(!log.contains("hunter2"), "{log}");

    // A restart repeats nothing.
    let engine = start(&site, &bucket);
    engine.wait_idle();
    assert_eq!(engine.metric("tidemill_attempts_total", ""), 0.0);
    engine.stop();
}

/// A plan with one bucket, `in`, that one function handles; `bucket` is more of the trigger.
fn plan(on: &S3, order: &str, bucket: &str) -> String {
    let (name, options) = (&on.name, on.options());
    format!(
        r#"
[engine]
admin = "127.0.0.1:0"
[buckets.in]
url = "s3://{name}/in"
{options}
[buckets.out]
url = "s3://{name}/out"
{options}
[functions.probe]
component = "PROBE"
env = {{ ORDER = '{order}' }}
allow = {{ read = ["in"], write = ["in", "out"], store = ["probe"] }}
[triggers.probe]
function = "probe"
bucket = {{ name = "in", rescan = "1s"{bucket} }}
retry = {{ attempts = 2, first = "10ms" }}
"#
    )
}

fn a_function_that_feeds_its_own_trigger_ends_in_the_dead_letters(server: Server) {
    let bucket = S3::on(server);
    let order = r#"{ "do": "again", "bucket": "in" }"#;
    let site = Site::new(&plan(&bucket, order, ""));
    let engine = start(&site, &bucket);
    bucket.put("in/0", "x");
    wait_until("the loop is cut", || site.dead_letters() == 1);
    engine.wait_idle();
    let list = site.succeeds(&["dead-letters", "list"]);
    assert!(list.contains("came through 17 writes"), "{list}");
    // The first object, and one for each of the sixteen hops that were run.
    assert_eq!(bucket.keys().len(), 18);
    let hops = bucket.header("in/17", "x-amz-meta-tidemillhops");
    assert_eq!(hops.as_deref(), Some("17"));
    engine.stop();
}

fn objects_are_moved_or_deleted_when_they_were_handled(server: Server) {
    let bucket = S3::on(server);
    let order = r#"{ "do": "follow" }"#;
    let after = r#", after = { move = { bucket = "out", prefix = "2026/" } }"#;
    let site = Site::new(&plan(&bucket, order, after));
    let engine = start(&site, &bucket);
    bucket.put("in/a/good", r#"{"do": "ok"}"#);
    bucket.put("in/bad", r#"{"do": "reject"}"#);
    wait_until("the good one is moved", || {
        bucket.keys() == ["in/bad", "out/2026/a/good"]
    });
    wait_until("the bad one is given up", || site.dead_letters() == 1);
    let hops = bucket.header("out/2026/a/good", "x-amz-meta-tidemillhops");
    assert_eq!(hops.as_deref(), Some("1"));
    engine.stop();

    site.configure(&plan(&bucket, order, ", after = \"delete\""));
    let engine = start(&site, &bucket);
    bucket.put("in/b", r#"{"do": "ok", "count": 1}"#);
    bucket.put("in/bad", r#"{"do": "ok"}"#);
    wait_until("both are gone", || bucket.keys() == ["out/2026/a/good"]);
    engine.wait_idle();
    engine.stop();
}

fn large_objects_are_written_when_the_attempt_ended_ok_only(server: Server) {
    let bucket = S3::on(server);
    let site = Site::new(&plan(&bucket, r#"{ "do": "follow" }"#, ""));
    let engine = start(&site, &bucket);
    let order = r#"{"do": "write-big", "bucket": "out", "key": "large", "bytes": 9000000}"#;
    bucket.put("in/order", order);
    let large = wait_for("it is written", || bucket.get("out/large"));
    assert_eq!(large.len(), 9_000_000);
    engine.wait_idle();
    assert_eq!(bucket.open_uploads(), 0, "no parts are left behind");
    engine.stop();
}

fn every_object_takes_effect_exactly_once_whenever_the_engine_dies(server: Server) {
    const KILLS: usize = 4;
    let seed = std::env::var("TIDEMILL_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("TIDEMILL_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let bucket = S3::on(server);
    let order = r#"{ "do": "tally", "key": "all", "bucket": "out" }"#;
    let site = Site::new(&plan(&bucket, order, ""));
    let mut expected = BTreeSet::new();
    for kill in 0..KILLS {
        let engine = site.spawn(&bucket.env());
        for n in 0..15 {
            bucket.put(&format!("in/{kill}-{n}"), "x");
            expected.insert(format!("{kill}-{n}"));
        }
        // Any moment of its life.
        thread::park_timeout(Duration::from_millis(random.u64(10..1500)));
        engine.kill();
    }
    let engine = start(&site, &bucket);
    let written = || -> BTreeSet<String> {
        let keys = bucket.keys();
        let out = keys.iter().filter_map(|key| key.strip_prefix("out/"));
        out.map(str::to_owned).collect()
    };
    wait_until("every object was handled", || written() == expected);
    engine.wait_idle();
    assert_eq!(site.key("probe", "all"), Some(expected.len().to_string()));
    for key in &expected {
        let count = site.key("probe", key);
        assert_eq!(count.as_deref(), Some("1"), "{key} took effect once");
    }
    assert_eq!(site.dead_letters(), 0);
    engine.stop();
}

#[test]
fn a_store_that_cannot_be_used_is_told_by_check_and_by_readiness() {
    let bucket = S3::new();
    let text = plan(&bucket, "{}", "").replace(&bucket.name, "no-such-bucket");
    let text = text.replace(
        "/in\"",
        "/in\"\noptions = { endpoint = \"${env:WHERE}\", access_key_id = \"a\", secret_access_key = \"${env:KEY}\" }",
    );
    let site = Site::new(&text);
    site.succeeds(&["check"]);
    let (code, error) = site.fails(&["check", "--connect"]);
    assert_eq!(code, 1);
    assert!(
        error.contains("`options.endpoint` cannot be looked up: the environment variable WHERE"),
        "{error}"
    );
    let [(_, endpoint), ..] = bucket.env();
    let engine = site.spawn(&[("WHERE", endpoint), ("KEY", "hunter2")]);
    engine.wait_log("NoSuchBucket");
    let (status, text) = wait_for("the admin address", || engine.get("/readyz"));
    assert!(status == 503 && text.contains("NoSuchBucket"), "{text}");
    assert!(!engine.log().contains("hunter2"));
    engine.stop();
}

fn only_what_comes_later_runs_even_if_the_engine_dies_in_its_first_listing(server: Server) {
    const OLD: usize = 40;
    let bucket = S3::on(server);
    let order = r#"{ "do": "tally", "key": "all", "bucket": "out" }"#;
    let site = Site::new(&plan(&bucket, order, ", start = \"now\""));
    for n in 0..OLD {
        bucket.put(&format!("in/{n:02}"), "x");
    }
    // The store tells times by the second.
    let last = bucket.header(&format!("in/{:02}", OLD - 1), "last-modified");
    let now = || bucket.header("in/00", "date");
    wait_until("what was put is older than now", || now() > last);
    // A first listing that is cut short, wherever it is.
    for wait in [20, 80, 300] {
        let engine = site.spawn(&bucket.env());
        thread::park_timeout(Duration::from_millis(wait));
        engine.kill();
    }
    let engine = start(&site, &bucket);
    engine.wait_idle();
    bucket.put("in/new", "x");
    wait_until("what is new was handled", || {
        site.key("probe", "new").as_deref() == Some("1")
    });
    bucket.put("in/07", "changed");
    wait_until("what changed was handled", || {
        site.key("probe", "07").as_deref() == Some("1")
    });
    engine.wait_idle();
    assert_eq!(site.key("probe", "all").as_deref(), Some("2"));
    engine.stop();
}

#[test]
fn keys_region_and_endpoint_come_from_a_profile() {
    let bucket = S3::new();
    let order = r#"{ "do": "tally", "key": "all", "bucket": "out" }"#;
    let text = plan(&bucket, order, "");
    let profile = "/in\"\noptions = { profile = \"tide\" }";
    let site = Site::new(&text.replace("/in\"", profile));
    let [(_, endpoint), ..] = bucket.env();
    let config = format!("[profile tide]\nregion = us-east-1\nendpoint_url = {endpoint}\n");
    fs::write(site.path("config"), config).expect("it is written");
    let keys = "[tide]\naws_access_key_id = test\naws_secret_access_key = hunter2\n";
    fs::write(site.path("credentials"), keys).expect("it is written");
    let (config, keys) = (site.path("config"), site.path("credentials"));
    let env = [
        ("AWS_CONFIG_FILE", config.to_str().expect("UTF-8")),
        ("AWS_SHARED_CREDENTIALS_FILE", keys.to_str().expect("UTF-8")),
        // Of the bucket `out`, whose plan names none.
        ("AWS_PROFILE", "tide"),
        // What the plan names comes before the environment.
        ("AWS_REGION", "eu-west-1"),
    ];
    let engine = site.spawn(&env);
    engine.wait_ready();
    bucket.put("in/a", "x");
    wait_until("it is written to the other bucket", || {
        bucket.get("out/a").is_some()
    });
    let log = engine.stop();
    assert!(!log.contains("hunter2"), "{log}");

    fs::write(&keys, "[tide]\nrole_arn = arn:aws:iam::1:role/tide\n").expect("it is written");
    let engine = site.spawn(&env);
    let (_, log) = engine.wait();
    assert!(
        log.contains("profile `tide`") && log.contains("`role_arn`"),
        "{log}"
    );
}

fn the_state_of_buckets_is_told_with_and_without_a_running_engine(server: Server) {
    let bucket = S3::on(server);
    let order = r#"{ "do": "follow" }"#;
    let site = Site::new(&plan(&bucket, order, ""));
    bucket.put("in/before", r#"{"do": "ok"}"#);
    let engine = start(&site, &bucket);
    engine.wait_idle();
    bucket.put("in/after", r#"{"do": "ok"}"#);
    bucket.put("in/later", r#"{"do": "retry"}"#);
    wait_until("all are noticed", || {
        engine.metric("tidemill_objects_noticed_total", "by=\"listing\"") == 3.0
    });
    let status = |json: &str| -> serde_json::Value {
        serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"))
    };
    let found = status(&site.succeeds(&["buckets", "status", "in", "--json"]));
    assert_eq!(found["bucket"], "in");
    assert_eq!((&found["objects"], &found["gone"]), (&3.into(), &0.into()));
    let source = &found["source"];
    assert_eq!(source["by_listing"], 3);
    assert_eq!(source["by_notification"], 0);
    assert_eq!(
        (&source["missed"], &source["ready"]),
        (&0.into(), &true.into())
    );
    // Of the two that came later; the store tells times by the second.
    let lag = source["lag_ms"]["max"].as_u64().expect("a lag");
    assert!(lag < 60_000, "{lag}");
    let text = site.succeeds(&["buckets", "status"]);
    assert!(
        text.contains("3 by listing") && text.contains("found by listing"),
        "{text}"
    );
    engine.kill();

    let found = status(&site.succeeds(&["buckets", "status", "--json"]));
    assert_eq!(found["objects"], 3);
    assert_eq!(
        (&found["complete"], &found["source"]),
        (&true.into(), &serde_json::Value::Null)
    );
    let text = site.succeeds(&["buckets", "status"]);
    assert!(text.contains("no engine runs"), "{text}");
    let (code, error) = site.fails(&["buckets", "status", "elsewhere"]);
    assert!(
        code == 2 && error.contains("a bucket `elsewhere`"),
        "{error}"
    );
}
