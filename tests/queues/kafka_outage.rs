//! A Kafka that falls silent, and one that shuts its users out.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::outage::{REST, wait_trouble};
use crate::harness::{Broker, Engine, Kafka, Proxy, Site, free_port, wait_until};

const PARTITIONS: i32 = 2;

/// How long the engine may take to notice that nobody answers: three heartbeats, and to ask.
const NOTICED: Duration = Duration::from_secs(30);

/// A site whose trigger listens to the topic `work` of these brokers.
fn site(brokers: &str, properties: &str) -> Site {
    Site::new(&format!(
        "[connections.log]\nkafka = {{ brokers = [\"{brokers}\"], properties = {{ {properties} }} }}\n\
         {REST}kafka = {{ connection = \"log\", topics = [\"work\"] }}\n"
    ))
}

fn produce(client: &Kafka, ids: &[String]) {
    let events: Vec<_> = ids.iter().map(|id| (id.clone(), "{}".to_owned())).collect();
    client.produce_events("work", &events).expect("it has them");
}

fn handled(site: &Site, ids: &[String]) -> bool {
    let counts = site.counters("n:");
    ids.iter().all(|id| counts.contains_key(id))
}

fn is_source_ready(engine: &Engine) -> bool {
    engine.metric("tidemill_source_ready", "log") == 1.0
}

#[test]
fn a_kafka_that_falls_silent_is_noticed_and_nothing_is_lost_or_run_twice() {
    let port = free_port();
    let proxy = Proxy::new(&format!("127.0.0.1:{port}"));
    // Whoever comes through the proxy is sent through it again.
    let broker = Broker::kafka_with(&format!(
        "listeners=PROXIED://127.0.0.1:{port}\nadvertised.listeners=PROXIED://{}\n",
        proxy.address()
    ));
    let client = Kafka::connect(broker.url());
    client.create("work", PARTITIONS);
    let site = site(&proxy.address().to_string(), "");
    let engine = site.start();
    let ids = |round: &str| -> Vec<String> { (0..100).map(|n| format!("{round}-{n}")).collect() };
    produce(&client, &ids("before"));
    wait_until("they are handled", || handled(&site, &ids("before")));
    assert!(is_source_ready(&engine));

    for (round, restarts) in [("first", false), ("second", true)] {
        if restarts {
            broker.stop();
            wait_trouble(&engine, "no broker of connection `log` answers");
            broker.start_again();
            engine.wait_ready();
        }
        // In the middle of records that come.
        produce(&client, &ids(round));
        proxy.silence(true);
        let since = Instant::now();
        // And not what they said when they were gone.
        wait_trouble(&engine, "Timed out");
        let noticed = since.elapsed();
        println!("noticed after {noticed:?}");
        assert!(noticed < NOTICED, "noticed after {noticed:?}");
        assert!(!is_source_ready(&engine));
        let late = format!("{round}-late");
        produce(&client, &ids(&late));

        proxy.silence(false);
        engine.wait_ready();
        assert!(is_source_ready(&engine));
        wait_until("all are handled", || {
            handled(&site, &ids(round)) && handled(&site, &ids(&late))
        });
    }
    wait_until("all are committed", || {
        let committed = client.committed("tidemill", "work", PARTITIONS);
        committed.is_some_and(|offsets| offsets.iter().sum::<i64>() == 500)
    });
    engine.stop();
    let counts = site.counters("n:");
    assert_eq!(counts.len(), 500);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

/// A listener for users with passwords, and its only user.
fn plain(port: u16, user: &str, password: &str) -> String {
    format!(
        "listeners=SASL_PLAINTEXT://127.0.0.1:{port}\n\
         advertised.listeners=SASL_PLAINTEXT://127.0.0.1:{port}\n\
         sasl.enabled.mechanisms=PLAIN\n\
         listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}=\"{password}\";\n"
    )
}

/// The properties of the user.
fn login(user: &str, password: &str) -> String {
    format!(
        r#""security.protocol" = "sasl_plaintext", "sasl.mechanism" = "PLAIN", "sasl.username" = "{user}", "sasl.password" = "{password}""#
    )
}

#[test]
fn a_user_of_kafka_who_is_shut_out_is_told_and_let_in_again() {
    let port = free_port();
    let broker = Broker::kafka_with(&plain(port, "miller", "old-password"));
    let change = |user: &str, password: &str| {
        broker.stop();
        let more = broker.dir().join("more.properties");
        fs::write(more, plain(port, user, password)).expect("it is written");
        broker.start_again();
    };
    let client = Kafka::connect(broker.url());
    client.create("work", PARTITIONS);
    let address = format!("127.0.0.1:{port}");
    let site = site(&address, &login("miller", "old-password"));
    site.succeeds(&["check", "--connect"]);
    let engine = site.start();
    let works = |id: &str| {
        let ids = [id.to_owned()];
        produce(&client, &ids);
        wait_until("it is handled", || handled(&site, &ids));
        engine.wait_ready();
        assert!(is_source_ready(&engine));
    };
    works("before");

    for (user, password) in [("miller", "new-password"), ("reeve", "old-password")] {
        change(user, password);
        wait_trouble(&engine, "refuse the login");
        assert!(!is_source_ready(&engine));
        let (code, said) = site.fails(&["check", "--connect"]);
        assert_eq!(code, 1);
        println!("{said}");
        assert!(said.contains("refuse the login"), "{said}");
        assert!(said.contains("look at `sasl.username`"), "{said}");
        assert!(!said.contains("-password"), "{said}");
        change("miller", "old-password");
        works(&format!("after {user}"));
    }
    assert!(!engine.stop().contains("-password"), "its secret is kept");
    assert!(site.counters("n:").values().all(|count| *count == 1));
}
