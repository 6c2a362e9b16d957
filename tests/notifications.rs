//! Notifications of object stores, as a user has them: by a real queue, from a real server. Where they
//! come by another way, the tests carry them there from that queue.

use std::thread;

use crate::harness::{
    Amqp, Client, Engine, Kafka, Proxy, S3, Site, Sqs, amqp_url, kafka_brokers, unique, wait_for,
    wait_until,
};

/// A plan whose bucket is told of by `notify`; `more` is put before it.
fn plan(on: &S3, notify: &str, more: &str) -> String {
    let name = &on.name;
    format!(
        r#"{more}
[buckets.in]
url = "s3://{name}/in"
[functions.probe]
component = "PROBE"
env = {{ ORDER = '{{ "do": "count", "key": "all", "type": "" }}' }}
allow = {{ store = ["probe"] }}
[triggers.created]
function = "probe"
bucket = {{ name = "in", rescan = "1h", notify = {{ {notify} }} }}
[triggers.deleted]
function = "probe"
bucket = {{ name = "in", on = ["deleted"], rescan = "1h", notify = {{ {notify} }} }}
"#
    )
}

#[test]
fn what_the_store_tells_of_is_handled_long_before_the_next_listing() {
    let (bucket, queue) = (S3::new(), Sqs::new());
    let notify = format!("sqs = {{ queue = \"{}\" }}", queue.url());
    let site = Site::new(&plan(&bucket, &notify, ""));
    bucket.put("in/before", "x");
    bucket.tell(&queue);
    let engine = site.spawn(&bucket.env());
    engine.wait_ready();
    let handled = |count: &str| {
        wait_until(&format!("{count} are handled"), || {
            site.key("probe", "all").as_deref() == Some(count)
        });
    };
    handled("1");
    bucket.put("in/a", "x");
    handled("2");
    bucket.put("in/a", "y");
    handled("3");
    bucket.delete("in/a");
    handled("4");
    bucket.put("in/a", "y");
    handled("5");
    bucket.put("elsewhere", "x");
    queue.send(&["an order".into()]);
    engine.wait_log("is from no object store");
    wait_until("what was told is deleted", || queue.length() == 1);
    let noticed = |by| engine.metric("tidemill_objects_noticed_total", by);
    assert_eq!(noticed("by=\"listing\""), 1.0);
    assert_eq!(
        noticed("by=\"notification\""),
        3.0,
        "all but the one that went"
    );
    let delayed = |by| engine.metric("tidemill_objects_delayed_total", by);
    assert_eq!(delayed("by=\"listing\""), 0.0, "it was there before");
    assert_eq!(
        delayed("by=\"notification\""),
        3.0,
        "all but the one that went"
    );
    assert!(
        engine.metric(
            "tidemill_objects_delay_seconds_total",
            "by=\"notification\""
        ) < 60.0
    );
    let told = |result| engine.metric("tidemill_notifications_total", result);
    assert_eq!(told("result=\"taken\""), 4.0);
    assert_eq!(told("result=\"elsewhere\""), 1.0);
    assert_eq!(told("result=\"strange\""), 1.0);
    let log = engine.stop();
    assert!(!log.contains("hunter2"), "{log}");
    let events = site.counters("all:");
    assert_eq!(events.len(), 5, "{events:?}");
    assert!(events.values().all(|count| *count == 1), "{events:?}");
}

/// Carries what the store told the queue to where the engine takes it, and waits until all is handled:
/// an object that comes, one that changes and one that goes.
fn carried(bucket: &S3, site: &Site, engine: &Engine, mut carry: impl FnMut(&str)) {
    let told = Sqs::new();
    bucket.tell(&told);
    let steps: [&dyn Fn(); 3] = [
        &|| bucket.put("in/a", "x"),
        &|| bucket.put("in/a", "y"),
        &|| bucket.delete("in/a"),
    ];
    for (n, step) in steps.iter().enumerate() {
        step();
        let messages = wait_for("the store tells", || {
            Some(told.take()).filter(|messages| !messages.is_empty())
        });
        // Each twice.
        for message in messages.iter().chain(&messages) {
            carry(message);
        }
        let handled = (n + 1).to_string();
        wait_until(&format!("{handled} are handled"), || {
            site.key("probe", "all").as_ref() == Some(&handled)
        });
    }
    let noticed = engine.metric("tidemill_objects_noticed_total", "by=\"notification\"");
    assert_eq!(noticed, 2.0, "all but the one that went");
}

#[test]
fn a_store_may_post_its_notifications() {
    let bucket = S3::new();
    let notify = r#"webhook = { path = "/notices", verify = { bearer = "hunter2" } }"#;
    let site = Site::new(&plan(&bucket, notify, ""));
    let engine = site.spawn(&bucket.env());
    engine.wait_ready();
    let client = Client::new(&engine.http().expect("an address"));
    let token = [("Authorization", "Bearer hunter2")];
    carried(&bucket, &site, &engine, |message| {
        let replied = client.post("/notices", &token, message);
        assert_eq!(replied.status, 200, "{replied:?}");
    });
    assert_eq!(client.post("/notices", &[], "{}").status, 401);
    let strange = client.post("/notices", &token, "{}");
    assert_eq!(strange.status, 400);
    assert!(strange.body.contains("no event records"), "{strange:?}");
    engine.stop();
}

#[test]
fn a_store_may_send_its_notifications_to_rabbitmq() {
    let (bucket, queue) = (S3::new(), unique("notices"));
    let broker = Amqp::connect(&amqp_url());
    broker.declare(&queue);
    let notify = format!("amqp = {{ connection = \"broker\", queue = \"{queue}\" }}");
    let connection = format!("[connections.broker]\namqp = \"{}\"", amqp_url());
    let site = Site::new(&plan(&bucket, &notify, &connection));
    let engine = site.spawn(&bucket.env());
    engine.wait_ready();
    carried(&bucket, &site, &engine, |message| {
        assert!(broker.publish(&queue, &[(String::new(), message.to_owned())]));
    });
    assert!(broker.publish(&queue, &[("an-order".into(), "{}".into())]));
    engine.wait_log("message an-order of amqp:broker/");
    engine.stop();
    // What is not acknowledged would be back.
    assert_eq!(broker.waiting(&queue), 0);
    broker.delete(&queue);
}

#[test]
fn a_store_may_send_its_notifications_to_kafka() {
    let (bucket, topic) = (S3::new(), unique("notices"));
    let broker = Kafka::connect(&kafka_brokers());
    broker.create(&topic, 2);
    let notify = format!(
        "kafka = {{ connection = \"log\", topics = [\"{topic}\"], group = \"{topic}\", start = \"earliest\" }}"
    );
    let connection = format!(
        "[connections.log]\nkafka = {{ brokers = [\"{}\"] }}",
        kafka_brokers()
    );
    let site = Site::new(&plan(&bucket, &notify, &connection));
    let engine = site.spawn(&bucket.env());
    engine.wait_ready();
    carried(&bucket, &site, &engine, |message| {
        broker
            .produce(&topic, &[(String::new(), message.to_owned())])
            .expect("the broker has it");
    });
    broker
        .produce(&topic, &[(String::new(), "an order".into())])
        .expect("the broker has it");
    engine.wait_log("is from no object store");
    engine.stop();
    let ends = broker.ends(&topic, 2);
    assert_eq!(broker.committed(&topic, &topic, 2), Some(ends));
    broker.delete(&topic);
}

#[test]
fn check_tries_where_notifications_come_by() {
    let bucket = S3::new();
    let [(_, endpoint), ..] = bucket.env();
    let broker = format!(
        "[connections.broker]\namqp = \"{}\"\n[connections.log]\nkafka = {{ brokers = [\"{}\"] }}",
        amqp_url(),
        kafka_brokers()
    );
    let site = Site::new("");
    for (notify, place, says) in [
        (
            format!("sqs = {{ queue = \"{endpoint}/123456789012/no-such-queue\" }}"),
            "buckets.in",
            "NonExistentQueue",
        ),
        (
            "amqp = { connection = \"broker\", queue = \"no-such-queue\" }".into(),
            "triggers.created.bucket.notify.amqp.queue",
            "no-such-queue",
        ),
        (
            "kafka = { connection = \"log\", topics = [\"no-such-topic\"], group = \"g\" }".into(),
            "triggers.created.bucket.notify.kafka.topics",
            "no-such-topic",
        ),
    ] {
        let options = format!(
            "options = {{ endpoint = \"{endpoint}\", access_key_id = \"a\", secret_access_key = \"${{file:./key}}\" }}"
        );
        let text = plan(&bucket, &notify, &broker);
        site.configure(&text.replace("/in\"", &format!("/in\"\n{options}")));
        std::fs::write(site.path("key"), "hunter2").expect("it is written");
        site.succeeds(&["check"]);
        let (code, error) = site.fails(&["check", "--connect"]);
        assert_eq!(code, 1);
        assert!(error.contains(place) && error.contains(says), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

/// A server like that of a bucket, behind a proxy that can be cut.
fn proxied(on: &S3) -> (Proxy, String) {
    let [(_, endpoint), ..] = on.env();
    let address = endpoint.strip_prefix("http://").expect("no TLS");
    let proxy = Proxy::new(address);
    let endpoint = format!("http://{}", proxy.address());
    (proxy, endpoint)
}

#[test]
fn a_notification_of_a_store_that_is_gone_waits_where_it_came_by() {
    let (bucket, queue) = (S3::new(), Sqs::new());
    let (proxy, endpoint) = proxied(&bucket);
    let notify = format!("sqs = {{ queue = \"{}\" }}", queue.url());
    let plan = plan(&bucket, &notify, "");
    let there = format!("/in\"\noptions = {{ endpoint = \"{endpoint}\" }}");
    let site = Site::new(&plan.replace("/in\"", &there));
    let engine = site.spawn(&bucket.env());
    engine.wait_ready();
    bucket.tell(&queue);
    proxy.cut(true);
    bucket.put("in/a", "x");
    engine.wait_log("until the store answers, its notifications wait");
    assert!(queue.length() > 0, "what it tells of is not durable yet");
    assert_eq!(site.key("probe", "all"), None);
    let (_, text) = wait_for("the admin address", || engine.get("/readyz"));
    assert!(text.contains("cannot look at object `a`"), "{text}");
    proxy.cut(false);
    wait_until("it is handled", || {
        site.key("probe", "all").as_deref() == Some("1")
    });
    wait_until("what was told is deleted", || queue.length() == 0);
    engine.stop();
}

#[test]
fn a_store_that_posts_to_an_engine_that_stops_is_told_to_post_again() {
    let bucket = S3::new();
    let (proxy, endpoint) = proxied(&bucket);
    let plan = plan(&bucket, r#"webhook = { path = "/notices" }"#, "");
    let there = format!("/in\"\noptions = {{ endpoint = \"{endpoint}\" }}");
    let site = Site::new(&plan.replace("/in\"", &there));
    let engine = site.spawn(&bucket.env());
    engine.wait_ready();
    let told = Sqs::new();
    bucket.tell(&told);
    proxy.cut(true);
    bucket.put("in/a", "x");
    let message = wait_for("the store tells", || {
        told.take()
            .into_iter()
            .find(|told| told.contains("ObjectCreated:Put"))
    });
    let client = Client::new(&engine.http().expect("an address"));
    let posted = thread::spawn({
        let message = message.clone();
        move || client.post("/notices", &[], &message)
    });
    engine.wait_log("until the store answers, its notifications wait");
    assert!(!posted.is_finished(), "it is not durable yet");
    engine.terminate();
    let posted = posted.join().expect("it is answered");
    assert_eq!(posted.status, 503, "{posted:?}");
    proxy.cut(false);
    engine.wait();

    // And so it does.
    let engine = site.spawn(&bucket.env());
    engine.wait_ready();
    let client = Client::new(&engine.http().expect("an address"));
    assert_eq!(client.post("/notices", &[], &message).status, 200);
    wait_until("it is handled", || {
        site.key("probe", "all").as_deref() == Some("1")
    });
    engine.stop();
}
