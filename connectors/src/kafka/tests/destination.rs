//! What is produced, and what `check` finds.

use insta::assert_snapshot;
use rdkafka::mocking::MockCluster;
use tidemill_core::{
    destination::{Destination, OutboxAction, PublishError, Role},
    event::Event,
    time::Timestamp,
};

use super::*;
use crate::{
    check::Severity,
    kafka::{KafkaDestination, check},
};

fn action() -> OutboxAction {
    OutboxAction::PublishKafka {
        trigger: "readings".into(),
        role: Role::OnSuccess,
    }
}

fn event(data: &[u8]) -> Event {
    Event {
        id: "d1.0".into(),
        source: "function:f".into(),
        kind: "billed".into(),
        subject: Some("Zürich".into()),
        time: Timestamp(1_700_000_000_000),
        datacontenttype: Some("application/json".into()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        hops: 4,
        headers: vec![
            ("ce-unit".into(), "kWh".into()),
            ("other".into(), "stays".into()),
        ],
        data: data.to_vec().into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_is_read_as_it_was() {
    let lab = Lab::new(1).await;
    let destination = KafkaDestination::new(&lab.plan()).unwrap();
    let event = event(br#"{"ok":true}"#);
    destination.publish(&action(), &event).await.unwrap();
    let fake = Fake::settling();
    let member = lab.run(&fake);
    let held = fake.given(1).await;
    let mut expected = event.clone();
    let trace = ("traceparent".to_owned(), event.traceparent.clone().unwrap());
    expected.headers = vec![trace, event.headers[0].clone()];
    assert_eq!(held[0].event, expected);
    let key = held[0].position.clone().unwrap().key;
    assert_eq!(key.as_deref(), Some("Zürich"));
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_keeps_an_event_from_a_topic() {
    let mut lab = Lab::without_topic(services::kafka_brokers());
    lab.properties =
        r#"{ "topic.metadata.refresh.interval.ms" = "500", "topic.metadata.propagation.max.ms" = "1000" }"#.into();
    let named = |text: String| text.replace(&lab.topic, "T");
    let destination = KafkaDestination::new(&lab.plan()).unwrap();
    let error = destination
        .publish(&action(), &event(b"1"))
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Failed(_)), "it may be made");
    assert_snapshot!(named(error.to_string()), @"connection `telemetry` has no topic `T`; make it, or correct `topic` in the plan");
    lab.make_topic(1).await;
    // The producer notices in a while, and the outbox tries again.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(error) = destination.publish(&action(), &event(b"1")).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
    }
    let large = event(&[b'1'; 2 << 20]);
    let error = destination.publish(&action(), &large).await.unwrap_err();
    assert!(
        matches!(error, PublishError::Rejected(_)),
        "it stays too large"
    );
    assert_snapshot!(named(error.to_string()), @"the event is too large for topic `T` of connection `telemetry` (2097152 bytes); raise `max.message.bytes` of the topic, or let the handler reply with less");
    let other = OutboxAction::PublishKafka {
        trigger: "gone".into(),
        role: Role::DeadLetter,
    };
    let error = destination.publish(&other, &event(b"1")).await.unwrap_err();
    assert_snapshot!(error, @"the plan has no `dead_letter` with `kafka` for trigger `gone` any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_may_come_back() {
    let cluster = MockCluster::new(1).unwrap();
    let mut lab = Lab::without_topic(cluster.bootstrap_servers());
    lab.properties =
        r#"{ "message.timeout.ms" = "2000", "reconnect.backoff.max.ms" = "200" }"#.into();
    cluster.create_topic(&lab.topic, 1, 1).unwrap();
    cluster.broker_down(1).unwrap();
    let destination = KafkaDestination::new(&lab.plan()).unwrap();
    let error = destination
        .publish(&action(), &event(b"1"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, PublishError::Failed(text) if text.contains(&lab.brokers)),
        "{error}"
    );
    cluster.broker_up(1).unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(error) = destination.publish(&action(), &event(b"1")).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_what_is_wrong() {
    let lab = Lab::without_topic(services::kafka_brokers());
    let shown = async |plan: &Plan| {
        let findings = check(plan).await.into_iter().map(|found| {
            assert_eq!(found.severity, Severity::Error);
            format!("{}: {}; {}", found.place, found.problem, found.help)
        });
        findings
            .collect::<Vec<_>>()
            .join("\n")
            .replace(&lab.topic, "T")
    };
    assert_snapshot!(shown(&lab.plan()).await, @r#"
triggers.readings.kafka.topics: connection `telemetry` has no topic `T`; make it, or correct `topics`: it is read as soon as it is there
triggers.readings.on_success.kafka.topic: connection `telemetry` has no topic `T`; make it, or correct `topic`; what is produced to it waits until it is there
"#);
    lab.make_topic(1).await;
    assert_eq!(check(&lab.plan()).await, []);
    let down = Lab {
        brokers: "127.0.0.1:1".into(),
        topic: lab.topic.clone(),
        group: lab.group.clone(),
        properties: "{}".into(),
        start: "earliest",
    };
    assert_snapshot!(shown(&down.plan()).await, @"connections.telemetry: no broker of connection `telemetry` answers (127.0.0.1:1): 127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused; see that one is up and can be reached from here, or correct `brokers`");
}
