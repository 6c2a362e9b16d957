//! Brokers that go and come back, and queues that do.

use crate::harness::{Amqp, Broker, Engine, Kafka, Site, wait_until};

const REST: &str = r#"
[functions.probe]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "n", "type": "" }' }
allow = { store = ["probe"] }
[triggers.work]
function = "probe"
"#;

/// Waits until `/readyz` says of the source that it is not ready, with these words.
fn wait_trouble(engine: &Engine, words: &str) {
    wait_until(&format!("the engine says {words:?}"), || {
        let ready = engine.get("/readyz");
        matches!(ready, Some((503, text)) if text.contains(words))
    });
}

#[test]
fn a_rabbitmq_that_is_gone_is_told_and_comes_back() {
    let broker = Broker::rabbitmq();
    let url = broker.url().to_owned();
    let site = Site::new(&format!(
        "[connections.rabbit]\namqp = \"{url}\"\n{REST}\
         amqp = {{ connection = \"rabbit\", queue = \"work\", declare = true }}\n"
    ));
    let engine = site.start();
    let client = Amqp::connect(&url);
    let message = |id: &str| vec![(id.to_owned(), "{}".to_owned())];
    assert!(client.publish("work", &message("before")));
    wait_until("it is handled", || {
        site.counters("n:").contains_key("before")
    });
    drop(client);
    broker.stop();
    wait_trouble(&engine, "rabbit");
    broker.start_again();
    engine.wait_ready();
    let client = Amqp::connect(&url);
    assert!(client.publish("work", &message("after")));
    wait_until("it is handled", || {
        site.counters("n:").contains_key("after")
    });

    // A queue that somebody deletes is made again, as `declare` says.
    client.delete("work");
    wait_until("it is there again", || {
        client.publish("work", &message("anew"))
    });
    engine.wait_ready();
    wait_until("it is handled", || {
        client.publish("work", &message("anew"));
        site.counters("n:").contains_key("anew")
    });
    assert_eq!(site.counters("n:").get("anew"), Some(&1));
    engine.stop();
}

#[test]
fn a_kafka_that_is_gone_is_told_and_comes_back() {
    let broker = Broker::kafka();
    let client = Kafka::connect(broker.url());
    client.create("work", 2);
    let site = Site::new(&format!(
        "[connections.log]\nkafka = {{ brokers = [\"{}\"] }}\n{REST}\
         kafka = {{ connection = \"log\", topics = [\"work\"] }}\n",
        broker.url()
    ));
    let engine = site.start();
    let event = |id: &str| vec![(id.to_owned(), "{}".to_owned())];
    client
        .produce_events("work", &event("before"))
        .expect("it is there");
    wait_until("it is handled", || {
        site.counters("n:").contains_key("before")
    });
    broker.kill();
    wait_trouble(&engine, "log");
    broker.start_again();
    client
        .produce_events("work", &event("after"))
        .expect("it is there");
    wait_until("it is handled", || {
        site.counters("n:").contains_key("after")
    });
    engine.wait_ready();
    engine.stop();
}
