//! The files in config/examples, each started as it is, but for its addresses, its folders and the
//! functions that a user brings: one event goes through each to where a person would look.

use std::{fs, path::Path, process::Command};

use crate::harness::{
    Amqp, Client, Engine, Kafka, S3, Site, Sqs, amqp_url, component, files, kafka_brokers, photo,
    root, unique, wait_for, wait_until,
};

/// All there are; quickstart.toml has tests of its own.
const EXAMPLES: [&str; 9] = [
    "chain-event.toml",
    "everything.toml",
    "inbox-bucket.toml",
    "orders-amqp.toml",
    "photos-s3.toml",
    "quickstart.toml",
    "readings-kafka.toml",
    "reports-schedule.toml",
    "webhooks-http.toml",
];

#[test]
fn each_example_is_tested_and_told_of() {
    assert_eq!(files(&root().join("config/examples")), EXAMPLES);
    let readme = fs::read_to_string(root().join("README.md")).expect("it is there");
    for name in EXAMPLES {
        assert!(readme.contains(name), "the README does not name {name}");
    }
}

/// An example with its addresses and folders replaced, and whatever else is told to be.
fn example(name: &str, replaced: &[(&str, &str)]) -> Site {
    let text = fs::read_to_string(root().join("config/examples").join(name)).expect("it is there");
    let built = root().join("functions/build");
    let addresses = ["admin = \"127.0.0.1:8081\"", "http = \"127.0.0.1:8080\""];
    let own = |line: &&str| !addresses.iter().any(|address| line.starts_with(address));
    let lines: Vec<&str> = text.lines().filter(own).collect();
    let free = "[engine]\nadmin = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
    let mut text = lines.join("\n").replacen("[engine]", free, 1);
    for (from, to) in replaced {
        assert!(text.contains(from), "{name} has no {from:?} any more");
        text = text.replace(from, to);
    }
    let built = built.to_str().expect("UTF-8");
    let text = text.replace("../../functions/build", built);
    let site = Site::new(&text.replace("../../", "./"));
    for url in text.split("file:../../buckets/").skip(1) {
        site.bucket(url.split('"').next().expect("a name"));
    }
    site
}

fn start(site: &Site, env: &[(&str, &str)]) -> Engine {
    let engine = site.spawn(env);
    engine.wait_ready();
    engine
}

fn client(engine: &Engine) -> Client {
    Client::new(&engine.http().expect("it listens"))
}

/// The signature of a webhook.
fn signed(secret: &str, body: &str) -> String {
    use hmac::{KeyInit, Mac};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
    mac.update(body.as_bytes());
    let digest = mac.finalize().into_bytes();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digest}")
}

/// Waits until an object of a folder is there whose key ends so, and returns its text.
fn object(site: &Site, bucket: &str, end: &str) -> String {
    let folder = site.path("buckets").join(bucket);
    let key = wait_for(&format!("{bucket} has an object {end}"), || {
        let mut keys = files(&folder).into_iter();
        keys.find(|key| key.ends_with(end) && !key.contains('#'))
    });
    let content = fs::read(folder.join(key)).expect("it is read");
    String::from_utf8_lossy(&content).into_owned()
}

const PING: &str = r#"{ "sender": { "login": "ada" } }"#;
const HEADERS: (&str, &str) = ("X-GitHub-Event", "ping");

#[test]
fn the_inbox_is_emptied() {
    let site = example("inbox-bucket.toml", &[]);
    let engine = start(&site, &[]);
    let camera = site.path("buckets/inbox/camera");
    fs::create_dir_all(&camera).expect("it is made");
    fs::copy(photo("rocket.jpg"), camera.join("rocket.jpg")).expect("it is copied");
    fs::write(camera.join("fake.png"), "x".repeat(200)).expect("it is written");
    fs::write(camera.join("tiny.png"), "x").expect("it is written");
    object(&site, "thumbnails", "camera/rocket-64.jpg");
    object(&site, "done", "photos/camera/rocket.jpg");
    let rejected = object(&site, "rejected", "camera/fake.png.json");
    assert!(rejected.contains("rejected"), "{rejected}");
    engine.wait_idle();
    assert_eq!(
        files(&site.path("buckets/inbox")),
        ["camera/fake.png", "camera/tiny.png"]
    );
    engine.stop();
}

#[test]
fn webhooks_are_checked_and_questions_answered() {
    let site = example("webhooks-http.toml", &[]);
    let engine = start(&site, &[("HOOK_SECRET", "hunter2"), ("API_TOKEN", "open")]);
    let client = client(&engine);
    let wrong = [HEADERS, ("X-Hub-Signature-256", "sha256=00")];
    assert_eq!(client.post("/github/tide", &wrong, PING).status, 401);
    let signature = signed("hunter2", PING);
    let right = [HEADERS, ("X-Hub-Signature-256", signature.as_str())];
    assert_eq!(client.post("/github/tide", &right, PING).status, 202);
    assert_eq!(object(&site, "hooks", ".txt"), "ada: ping\n");
    assert_eq!(client.post("/github/ask", &[HEADERS], PING).status, 401);
    let asked = [HEADERS, ("Authorization", "Bearer open")];
    let replied = client.post("/github/ask", &asked, PING);
    assert!(replied.status < 300, "{replied:?}");
    wait_until("the question is announced too", || {
        files(&site.path("buckets/hooks")).len() == 2
    });
    engine.stop();
}

#[test]
fn the_nightly_report_is_made() {
    let cron = "cron = \"0 2 * * *\"                  # minute, hour, day of month, month, day of week\n\
                timezone = \"Europe/Berlin\" ";
    let now = [
        (cron, "every = \"1s\""),
        ("jitter = \"1m\" ", "jitter = \"0s\" "),
    ];
    let site = example("reports-schedule.toml", &now);
    let table = root().join("tests/data/tables/seattle-weather.csv");
    fs::copy(table, site.path("buckets/tables/seattle-weather.csv")).expect("it is copied");
    let engine = start(&site, &[]);
    let report = object(&site, "reports", "weather.json");
    assert!(report.contains("\"days\""), "{report}");
    engine.stop();
    // As it is, its time is told.
    let file = root().join("config/examples/reports-schedule.toml");
    let file = file.to_str().expect("UTF-8");
    let next = site.succeeds(&["schedule", "preview", "--next", "1", "--config", file]);
    assert!(
        next.contains("T02:00:00") && next.contains("Europe/Berlin"),
        "{next}"
    );
}

#[test]
fn a_chain_ends_in_two_places() {
    let site = example("chain-event.toml", &[]);
    let engine = start(&site, &[]);
    let replied = client(&engine).post("/hooks/github", &[HEADERS], PING);
    assert_eq!(replied.status, 202, "{replied:?}");
    assert_eq!(object(&site, "announcements", ".txt"), "ada: ping\n");
    assert_eq!(object(&site, "log", ".txt"), "ada: ping\n");
    engine.stop();
}

#[test]
fn orders_are_billed() {
    let broker = Amqp::connect(&amqp_url());
    let (orders, billed) = (unique("orders"), unique("billed"));
    broker.declare(&billed);
    let bill = component("probe");
    let site = example(
        "orders-amqp.toml",
        &[
            (
                "amqp://guest:${env:AMQP_PASSWORD}@127.0.0.1:5672/%2f",
                &amqp_url(),
            ),
            (
                "../../functions/build/bill.wasm",
                bill.to_str().expect("UTF-8"),
            ),
            ("queue = \"orders\"", &format!("queue = \"{orders}\"")),
            (
                "exchange = \"billing\", routing_key = \"order.billed\"",
                &format!("exchange = \"\", routing_key = \"{billed}\""),
            ),
        ],
    );
    let engine = start(&site, &[]);
    let order = r#"{ "order_id": "7", "customer": "ada", "do": "increment", "store": "accounts", "key": "ada" }"#;
    // Publishers send twice; by what it is, it is one order.
    let messages = ["", "other"].map(|id| (id.to_owned(), order.to_owned()));
    assert!(broker.publish(&orders, &messages));
    let reply = wait_for("the bill", || broker.take(&billed));
    assert!(
        String::from_utf8_lossy(&reply.body).contains('1'),
        "{reply:?}"
    );
    wait_until("the second one is known", || {
        engine.metric("tidemill_held", "") == 0.0 && broker.waiting(&orders) == 0
    });
    assert_eq!(site.key("accounts", "ada").as_deref(), Some("1"));
    engine.stop();
    broker.delete(&orders);
    broker.delete(&billed);
}

#[test]
fn readings_are_ingested() {
    let kafka = Kafka::connect(&kafka_brokers());
    let topics = ["readings", "alarms", "dead"].map(unique);
    for topic in &topics {
        kafka.create(topic, 1);
    }
    let [readings, alarms, dead] = &topics;
    let ingest = component("probe");
    let site = example(
        "readings-kafka.toml",
        &[
            ("127.0.0.1:9092", &kafka_brokers()),
            (
                "../../functions/build/ingest.wasm",
                ingest.to_str().expect("UTF-8"),
            ),
            (
                "topics = [\"readings\"]",
                &format!("topics = [\"{readings}\"]"),
            ),
            ("group = \"tidemill\"", &format!("group = \"{readings}\"")),
            ("topic = \"alarms\"", &format!("topic = \"{alarms}\"")),
            ("topic = \"readings-dead\"", &format!("topic = \"{dead}\"")),
        ],
    );
    let engine = start(&site, &[]);
    let reading = |sensor: &str, celsius: u32| {
        let reading = format!(
            r#"{{ "sensor": "{sensor}", "celsius": {celsius}, "do": "increment", "store": "sensors", "key": "{sensor}" }}"#
        );
        (sensor.to_owned(), reading)
    };
    let all = [
        reading("t-1", 50),
        reading("t-2", 20),
        reading("x-1", 60),
        reading("t-1", 70),
    ];
    kafka.produce(readings, &all).expect("it is produced");
    let alarms = kafka.read(alarms, 2);
    assert_eq!(alarms.len(), 2);
    assert_eq!(site.key("sensors", "t-1").as_deref(), Some("2"));
    assert_eq!(site.key("sensors", "t-2"), None, "it is not warm");
    engine.stop();
    for topic in &topics {
        kafka.delete(topic);
    }
}

#[test]
fn photos_in_an_object_store_get_thumbnails() {
    let bucket = S3::new();
    let endpoint = bucket.env()[0].1.to_owned();
    let site = example(
        "photos-s3.toml",
        &[
            ("s3://my-photos", &format!("s3://{}", bucket.name)),
            ("http://127.0.0.1:9000", &endpoint),
            ("rescan = \"30s\"", "rescan = \"1s\""),
        ],
    );
    let engine = start(&site, &[("S3_ID", "test"), ("S3_SECRET", "hunter2")]);
    bucket.put(
        "uploads/rocket.jpg",
        fs::read(photo("rocket.jpg")).expect("it is read"),
    );
    wait_until("the thumbnail is there", || {
        bucket.get("thumbnails/rocket-64.jpg").is_some()
    });
    engine.stop();
}

/// A key as Google gives them out, but for nobody.
fn service_account(path: &Path) {
    let made = Command::new("openssl")
        .args([
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ])
        .output()
        .expect("there is openssl");
    let key = String::from_utf8(made.stdout).expect("PEM");
    assert!(
        key.contains("PRIVATE KEY"),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let account = serde_json::json!({
        "type": "service_account",
        "client_email": "nobody@example.com",
        "private_key_id": "none",
        "private_key": key,
    });
    fs::write(path, account.to_string()).expect("it is written");
}

#[test]
fn everything_runs_at_once() {
    let (bucket, queue) = (S3::new(), Sqs::new());
    let (broker, kafka) = (Amqp::connect(&amqp_url()), Kafka::connect(&kafka_brokers()));
    let own = unique("everything");
    let topics = ["charts", "changes", "done", "dead"].map(|name| format!("{own}-{name}"));
    for topic in &topics {
        kafka.create(topic, 1);
    }
    let endpoint = bucket.env()[0].1.to_owned();
    let site = example(
        "everything.toml",
        &[
            ("http://127.0.0.1:9000/123456789012/uploads", &queue.url()),
            ("http://127.0.0.1:9000", &endpoint),
            ("s3://my-photos", &format!("s3://{}", bucket.name)),
            (
                "amqp://guest:${env:AMQP_PASSWORD}@127.0.0.1:5672/%2f",
                &amqp_url(),
            ),
            ("127.0.0.1:9092", &kafka_brokers()),
            ("everything-", &format!("{own}-")),
            ("group = \"tidemill", &format!("group = \"{own}")),
        ],
    );
    service_account(&site.path("google.json"));
    fs::create_dir_all(site.path(".aws")).expect("it is made");
    let profile = format!(
        "[profile work]\nregion = us-east-1\nendpoint_url = {endpoint}\n\
         aws_access_key_id = test\naws_secret_access_key = hunter2\n"
    );
    fs::write(site.path(".aws/config"), profile).expect("it is written");
    let home = site.path("");
    let env = [
        ("HOME", home.to_str().expect("UTF-8")),
        ("ADMIN_TOKEN", "open"),
        ("S3_ID", "test"),
        ("S3_SECRET", "hunter2"),
        ("S3_SESSION", "today"),
        ("AZURE_KEY", "aHVudGVyMg=="),
        ("API_KEY", "key"),
        ("NOTICE_TOKEN", "notice"),
        ("NOTICE_SECRET", "notice"),
        ("HOOK_SECRET", "hunter2"),
    ];
    let engine = start(&site, &env);
    // A webhook is announced, and what is said of it goes on.
    let signature = signed("hunter2", PING);
    let headers = [HEADERS, ("X-Hub-Signature-256", signature.as_str())];
    let replied = client(&engine).post("/hooks/tide", &headers, PING);
    assert_eq!(replied.status, 202, "{replied:?}");
    assert_eq!(
        object(&site, "results/replies/announce", ".txt"),
        "ada: ping\n"
    );
    // A photo in a folder, and one in an object store that tells of it.
    let rocket = fs::read(photo("rocket.jpg")).expect("it is read");
    fs::write(site.path("buckets/inbox/folder.jpg"), &rocket).expect("it is written");
    object(&site, "thumbnails", "folder-64.jpg");
    object(&site, "results", "done/folder.jpg");
    bucket.put("uploads/store.jpg", &rocket);
    bucket.tell(&queue);
    bucket.put("uploads/store.jpg", &rocket);
    object(&site, "thumbnails", "store-64.jpg");
    // A message, whose function replies to a queue.
    broker.declare(&format!("{own}-done"));
    let order = r#"{ "order_id": 7, "event": "order", "sender": "ada" }"#;
    let message = [(String::new(), order.to_owned())];
    assert!(broker.publish(&format!("{own}-orders"), &message));
    wait_for("the reply", || broker.take(&format!("{own}-done")));
    engine.stop();
    for name in ["done", "orders", "maps"] {
        broker.delete(&format!("{own}-{name}"));
    }
    for topic in &topics {
        kafka.delete(topic);
    }
}
