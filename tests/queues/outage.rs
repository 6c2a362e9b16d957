//! Brokers that go and come back, and queues that do.

use crate::harness::{
    Amqp, Broker, Engine, Kafka, Proxy, Site, amqp_url, kafka_brokers, unique, wait_until,
};

pub(super) const REST: &str = r#"
[functions.probe]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "n", "type": "" }' }
allow = { store = ["probe"] }
[triggers.work]
function = "probe"
"#;

/// Waits until `/readyz` says of the source that it is not ready, with these words.
pub(super) fn wait_trouble(engine: &Engine, words: &str) {
    let mut said = None;
    wait_until(&format!("the engine says {words:?}"), || {
        let ready = engine.get("/readyz");
        let found = matches!(&ready, Some((503, text)) if text.contains(words));
        if ready != said {
            // For whoever looks why it was in vain.
            println!("{ready:?}");
            said = ready;
        }
        found
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

#[test]
fn a_user_of_rabbitmq_who_is_shut_out_is_told_and_let_in_again() {
    let broker = Broker::rabbitmq();
    broker.rabbitmqctl(&["add_user", "miller", "old-password"]);
    let allow = ["set_permissions", "miller", ".*", ".*", ".*"];
    broker.rabbitmqctl(&allow);
    let url = broker.url().replace("guest:guest", "miller:old-password");
    let site = Site::new(&format!(
        "[connections.rabbit]\namqp = \"{url}\"\n{REST}\
         amqp = {{ connection = \"rabbit\", queue = \"work\" }}\n"
    ));
    let client = Amqp::connect(broker.url());
    client.declare("work");
    let engine = site.start();
    let close = || {
        // A connection stays as it began: a broker that shuts somebody out closes it by hand.
        broker.rabbitmqctl(&["close_all_connections", "--vhost", "/", "by hand"]);
    };
    let password = |password| broker.rabbitmqctl(&["change_password", "miller", password]);
    let handled = |id: &str| {
        let client = Amqp::connect(broker.url());
        assert!(client.publish("work", &[(id.to_owned(), "{}".to_owned())]));
        wait_until("it is handled", || site.counters("n:").contains_key(id));
        assert_eq!(engine.metric("tidemill_source_ready", "rabbit"), 1.0);
    };
    handled("before");

    password("new-password");
    close();
    wait_trouble(&engine, "refuses the user `miller`");
    assert_eq!(engine.metric("tidemill_source_ready", "rabbit"), 0.0);
    password("old-password");
    engine.wait_ready();
    handled("after the password");

    broker.rabbitmqctl(&["clear_permissions", "miller"]);
    close();
    wait_trouble(&engine, "does not let the user `miller` use");
    broker.rabbitmqctl(&allow);
    engine.wait_ready();
    handled("after the permissions");
    assert!(!engine.stop().contains("-password"), "its secret is kept");
}

#[test]
fn a_broker_that_falls_silent_is_noticed_by_its_heartbeat() {
    let (queue, client) = (unique("work"), Amqp::connect(&amqp_url()));
    client.declare(&queue);
    let url = amqp_url();
    let (user, host) = url.rsplit_once('@').expect("a user");
    let (host, path) = host.split_once('/').expect("a virtual host");
    let proxy = Proxy::new(host);
    let url = format!("{user}@{}/{path}?heartbeat=1", proxy.address());
    let site = Site::new(&format!(
        "[connections.rabbit]\namqp = \"{url}\"\n{REST}\
         amqp = {{ connection = \"rabbit\", queue = \"{queue}\" }}\n"
    ));
    let engine = site.start();
    let handled = |id: &str| {
        assert!(client.publish(&queue, &[(id.to_owned(), "{}".to_owned())]));
        wait_until("it is handled", || site.counters("n:").contains_key(id));
    };
    handled("before");
    proxy.silence(true);
    wait_trouble(&engine, "rabbit");
    assert_eq!(engine.metric("tidemill_source_ready", "rabbit"), 0.0);
    proxy.silence(false);
    engine.wait_ready();
    handled("after");
    assert_eq!(engine.metric("tidemill_source_ready", "rabbit"), 1.0);
    assert!(site.counters("n:").values().all(|count| *count == 1));
    engine.stop();
    client.delete(&queue);
}

#[test]
fn a_topic_without_records_is_fine_and_may_grow() {
    let (topic, broker) = (unique("work"), Kafka::connect(&kafka_brokers()));
    broker.create(&topic, 1);
    let site = Site::new(&format!(
        "[connections.log]\n\
         kafka = {{ brokers = [\"{}\"], properties = {{ \"topic.metadata.refresh.interval.ms\" = \"500\" }} }}\n\
         {REST}kafka = {{ connection = \"log\", topics = [\"{topic}\"], group = \"{topic}\" }}\n",
        kafka_brokers()
    ));
    let engine = site.start();
    assert_eq!(engine.metric("tidemill_source_ready", "log"), 1.0);
    assert_eq!(engine.metric("tidemill_events_accepted_total", ""), 0.0);
    broker.grow(&topic, 3);
    for partition in (0..3).rev() {
        broker.produce_raw(&topic, partition, &[], b"{}");
    }
    // `start` says the earliest: what was produced before the engine knew the partitions comes too.
    wait_until("all are handled", || site.counters("n:").len() == 3);
    wait_until("all are committed", || {
        broker.committed(&topic, &topic, 3) == Some(vec![1; 3])
    });
    engine.wait_ready();
    engine.stop();
    broker.delete(&topic);
}
