//! Buckets that are large: many objects, and objects larger than any memory that a handler has.
//! Their servers make objects up, all but one. `make test` takes a twentieth of what `make soak` does.

use std::{env, fs, thread};

use crate::harness::{
    Engine, S3, Site,
    synthetic::{self, Synthetic, Written},
    wait_until,
};

/// How much more memory a listing may take than an engine that has listed nothing, in bytes.
const MORE: u64 = 200 << 20;

const MIB: u64 = 1 << 20;

/// A count of the environment, or what `make test` takes.
fn count(name: &str, short: u64) -> u64 {
    let count = env::var(name).ok();
    count.map_or(short, |n| n.parse().expect("a number"))
}

fn start(site: &Site) -> Engine {
    spawn(
        site,
        &[
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ],
    )
}

/// Starts an engine, and waits until it can be asked how far it is.
fn spawn(site: &Site, env: &[(&str, &str)]) -> Engine {
    let engine = site.spawn(env);
    wait_until("it answers", || engine.get("/healthz").is_some());
    engine
}

/// The most memory that the engine has had so far, in bytes.
fn peak(engine: &Engine) -> u64 {
    let path = format!("/proc/{}/status", engine.pid());
    let status = fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib.expect("Linux").trim().parse().expect("a number");
    kib << 10
}

/// A plan on a server that makes objects up; `trigger` is more of the trigger.
fn plan(server: &Synthetic, trigger: &str) -> String {
    let options = format!("options = {{ endpoint = \"{}\" }}", server.endpoint());
    plan_of("synthetic", &options, trigger)
}

/// A plan on a bucket of a server.
fn plan_of(name: &str, options: &str, trigger: &str) -> String {
    format!(
        r#"
[engine]
admin = "127.0.0.1:0"
[buckets.in]
url = "s3://{name}"
{options}
[functions.probe]
component = "PROBE"
env = {{ ORDER = '{{ "do": "counter" }}' }}
allow = {{ store = ["probe"] }}
[triggers.probe]
function = "probe"
bucket = {{ name = "in", rescan = "1s"{trigger} }}
"#
    )
}

/// Waits for a count to rise so far, by parts that each take no longer than anything may.
fn wait_for_count(what: &str, total: u64, count: impl Fn() -> u64) {
    for part in 1..=100 {
        wait_until(what, || count() >= total * part / 100);
    }
}

/// What an engine takes that has listed nothing.
fn idle(trigger: &str) -> u64 {
    let site = Site::new(&plan(&Synthetic::start(0, 1), trigger));
    let engine = start(&site);
    engine.wait_ready();
    let peak = peak(&engine);
    engine.stop();
    peak
}

#[test]
fn a_large_bucket_is_listed_in_bounded_memory_and_what_is_new_is_found() {
    const NEW: u64 = 100;
    let objects = count("TIDEMILL_OBJECTS", 50_000);
    let trigger = ", start = \"now\"";
    let idle = idle(trigger);
    let server = Synthetic::start(objects, 1);
    let site = Site::new(&plan(&server, trigger));
    let engine = start(&site);
    wait_for_count("all is listed", objects / 1000, || server.asked().0);
    wait_until("the first listing is done", || {
        engine.log().contains("the first listing is done")
    });
    assert_eq!(server.asked().1, 0, "what was there is not looked at");
    let first = peak(&engine);
    server.add((0..NEW).map(|n| n * (objects / NEW)));
    let settled = || engine.metric("tidemill_deliveries_settled_total", "result=\"ok\"");
    wait_until("all that is new is handled", || settled() == NEW as f64);
    let pages = server.asked().0;
    wait_until("it is listed once more", || {
        server.asked().0 > pages + objects / 1000
    });
    assert_eq!(settled(), NEW as f64);
    for key in server.added() {
        assert_eq!(site.key("probe", &key).as_deref(), Some("1"), "{key}");
    }
    let last = peak(&engine);
    println!(
        "{objects} objects: {} MiB idle, {} after the first listing, {} at the end",
        idle / MIB,
        first / MIB,
        last / MIB
    );
    assert!(last < idle + MORE, "{} MiB", last / MIB);
    let log = engine.stop();
    assert!(
        objects < 1_000_000 || log.contains("\"message\":\"listing\""),
        "{log}"
    );
}

#[test]
fn a_large_bucket_becomes_events_in_bounded_memory() {
    // One in a thousand is for the trigger.
    let objects = count("TIDEMILL_OBJECTS", 50_000) / 5;
    let trigger = ", suffix = [\"000\"]";
    let idle = idle(trigger);
    let server = Synthetic::start(objects, 1);
    let site = Site::new(&plan(&server, trigger));
    let engine = start(&site);
    wait_for_count("all are accepted", objects, || {
        engine.metric("tidemill_events_accepted_total", "") as u64
    });
    engine.wait_idle();
    let settled = engine.metric("tidemill_deliveries_settled_total", "result=\"ok\"");
    assert_eq!(settled, (objects / 1000) as f64);
    let peak = peak(&engine);
    println!(
        "{objects} events: {} MiB idle, {} at the end",
        idle / MIB,
        peak / MIB
    );
    assert!(peak < idle + MORE, "{} MiB", peak / MIB);
    engine.stop();
}

/// Digest and length of the content of every object of such a size, and the sum of its bytes.
fn content(size: u64) -> (Written, u64) {
    let mut buffer = vec![0; 1 << 20];
    let (mut digest, mut sum, mut offset) = (0, 0, 0);
    while offset < size {
        let take = (size - offset).min(buffer.len() as u64);
        let part = &mut buffer[..take as usize];
        synthetic::fill(offset, part);
        digest = synthetic::digest(digest, part);
        sum += part.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        offset += take;
    }
    let parts = size.div_ceil(8 << 20);
    (
        Written {
            size,
            digest,
            parts,
        },
        sum,
    )
}

#[test]
fn all_objects_of_a_server_are_handled_once_and_then_what_is_new() {
    const NEW: usize = 100;
    let objects = count("TIDEMILL_PUTS", 2_500) as usize;
    let idle = idle("");
    let bucket = S3::new();
    let site = Site::new(&plan_of(&bucket.name, bucket.options(), ""));
    let put = |keys: std::ops::Range<usize>, name: &str| {
        thread::scope(|scope| {
            for part in 0..4 {
                let (bucket, keys) = (&bucket, keys.clone());
                scope.spawn(move || {
                    for n in keys.skip(part).step_by(4) {
                        bucket.put(&format!("{n:06}{name}"), "x");
                    }
                });
            }
        });
    };
    put(0..objects, "");
    let engine = spawn(&site, &bucket.env());
    let settled = || engine.metric("tidemill_deliveries_settled_total", "result=\"ok\"") as u64;
    wait_for_count("all are handled", objects as u64, settled);
    engine.wait_idle();
    assert_eq!(settled(), objects as u64);
    put(0..NEW, "-new");
    wait_for_count("what is new is handled", (objects + NEW) as u64, settled);
    engine.wait_idle();
    assert_eq!(settled(), (objects + NEW) as u64, "and nothing else");
    assert_eq!(site.count(""), objects + NEW, "each once");
    let last = peak(&engine);
    println!(
        "{objects} objects of a server: {} MiB idle, {} at the end",
        idle / MIB,
        last / MIB
    );
    assert!(last < idle + MORE, "{} MiB", last / MIB);
    engine.stop();
}

#[test]
fn an_object_goes_through_a_handler_that_has_no_room_for_it() {
    // Not a multiple of anything.
    let size = count("TIDEMILL_OBJECT_BYTES", 300_000_000) + 12_345;
    let server = Synthetic::start(1, size);
    let text = format!(
        r#"
[engine]
admin = "127.0.0.1:0"
[buckets.in]
url = "s3://synthetic"
options = {{ endpoint = "{endpoint}" }}
[buckets.done]
url = "s3://synthetic/done"
options = {{ endpoint = "{endpoint}" }}
[buckets.sums]
url = "file:buckets/sums"
[functions.probe]
component = "PROBE"
memory = "16MiB"
timeout = "15m"
env = {{ ORDER = '{{ "do": "stream", "bucket": "in", "key": "000000000" }}' }}
allow = {{ read = ["in"] }}
[triggers.probe]
function = "probe"
bucket = {{ name = "in", rescan = "1h", after = {{ move = {{ bucket = "done" }} }} }}
on_success = {{ bucket = {{ name = "sums", key = "{{subject}}" }} }}
retry = {{ attempts = 1 }}
"#,
        endpoint = server.endpoint()
    );
    let site = Site::new(&text);
    site.bucket("sums");
    let (written, sum) = content(size);
    let engine = start(&site);
    engine.wait_ready();
    let idle = peak(&engine);
    // A range has 256 KiB, and a part of the copy 8 MiB.
    let gets = size.div_ceil(256 << 10) + size.div_ceil(8 << 20);
    wait_for_count("it is read and copied", gets, || server.asked().2);
    wait_until("it is moved", || server.is_deleted("000000000"));
    engine.wait_idle();
    assert_eq!(server.written()["done/000000000"], written);
    let told = fs::read_to_string(site.path("buckets/sums/000000000")).expect("it is written");
    let expected = serde_json::json!({ "size": size, "sum": sum });
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told, expected);
    let last = peak(&engine);
    println!(
        "{} MiB: {} MiB before, {} at the end",
        size / MIB,
        idle / MIB,
        last / MIB
    );
    assert!(last < idle + 100 * MIB, "{} MiB", last / MIB);
    engine.stop();
}
