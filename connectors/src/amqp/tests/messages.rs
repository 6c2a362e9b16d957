//! What becomes of messages.

use lapin::{
    BasicProperties,
    options::BasicPublishOptions,
    types::{AMQPValue, DecimalValue, FieldArray, FieldTable},
};
use tidemill_core::{event::Event, limits, time::Timestamp};

use super::{Fake, Lab, text};
use crate::{amqp::BROKEN, clock};

fn table(fields: Vec<(&str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert(name.into(), value);
    }
    table
}

/// The event that a message becomes, and whether its id is its sender's.
async fn taken(lab: &Lab, body: &[u8], properties: BasicProperties) -> (Event, bool) {
    lab.send(body, properties).await;
    let intake = Fake::settling();
    let running = lab.start(&intake);
    let held = intake.given(1).await.remove(0);
    running.reached("it", |status| status.settled == 1).await;
    running.stop().await;
    assert_eq!(held.source, format!("amqp:orders/{}", lab.queue));
    (held.event, held.stable)
}

#[tokio::test]
async fn a_message_with_all_it_can_have() {
    let lab = Lab::new().await;
    let headers = table(vec![
        ("Text", text("Grüße")),
        ("Empty", text("")),
        ("bytes", AMQPValue::LongString(vec![0xff, 0x00].into())),
        ("yes", AMQPValue::Boolean(true)),
        ("byte", AMQPValue::ShortShortInt(-8)),
        ("short", AMQPValue::ShortInt(-1600)),
        ("int", AMQPValue::LongInt(-70_000)),
        ("long", AMQPValue::LongLongInt(i64::MIN)),
        ("float", AMQPValue::Float(0.1)),
        ("double", AMQPValue::Double(1.5)),
        (
            "decimal",
            AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 5 }),
        ),
        ("when", AMQPValue::Timestamp(1_700_000_000)),
        ("nothing", AMQPValue::Void),
        (
            "list",
            AMQPValue::FieldArray(FieldArray::from(vec![
                AMQPValue::LongInt(1),
                text("two"),
                AMQPValue::FieldTable(table(vec![("three", AMQPValue::Boolean(false))])),
            ])),
        ),
        ("tidemill-key", text("forged")),
        ("tidemill-hops", text("3")),
        (
            "traceparent",
            text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ),
    ]);
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("gzip".into())
        .with_headers(headers)
        .with_priority(7)
        .with_correlation_id("correlation".into())
        .with_reply_to("answers".into())
        .with_expiration("600000".into())
        .with_message_id("order-1".into())
        .with_timestamp(1_700_000_001)
        .with_type("order.placed".into())
        .with_user_id("guest".into())
        .with_app_id("shop".into());
    let (event, stable) = taken(&lab, b"not json", properties).await;
    assert!(stable);
    assert_eq!(event.id, "order-1");
    assert_eq!(event.source, format!("amqp:orders/{}", lab.queue));
    assert_eq!(event.kind, "order.placed");
    assert_eq!(event.subject.as_deref(), Some(lab.queue.as_str()));
    assert_eq!(event.time, Timestamp(1_700_000_001_000));
    assert_eq!(event.datacontenttype.as_deref(), Some("application/json"));
    assert_eq!(event.hops, 3);
    let trace = event.traceparent.as_deref().unwrap();
    assert!(trace.starts_with("00-0af7"), "{trace}");
    assert_eq!(&event.data[..], b"not json");
    let headers: Vec<String> = event
        .headers
        .iter()
        .map(|(n, v)| format!("{n}: {v}"))
        .collect();
    insta::assert_snapshot!(lab.blank(&headers.join("\n")));
    lab.clean().await;
}

#[tokio::test]
async fn a_message_with_nothing() {
    let lab = Lab::new().await;
    let before = clock::now();
    let (event, stable) = taken(&lab, b"", BasicProperties::default()).await;
    assert!(!stable);
    assert_eq!(event.id.len(), 26);
    assert_eq!(event.kind, "amqp.message");
    assert_eq!(event.datacontenttype, None);
    assert_eq!((event.hops, event.traceparent.as_deref()), (0, None));
    assert!((before..=clock::now()).contains(&event.time));
    let names: Vec<&str> = event
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        ["amqp-exchange", "amqp-routing-key", "amqp-redelivered"]
    );
    assert_eq!(event.header("amqp-redelivered"), Some("false"));

    // Empty properties count as none; a timestamp in milliseconds is no time.
    let properties = BasicProperties::default()
        .with_message_id("".into())
        .with_type("".into())
        .with_content_type("".into())
        .with_timestamp(1_700_000_000_000)
        .with_headers(table(vec![("tidemill-hops", text("4294967295"))]));
    let (event, stable) = taken(&lab, b"", properties).await;
    assert!(!stable);
    assert_eq!(event.kind, "amqp.message");
    assert_eq!(event.datacontenttype, None);
    assert_eq!(event.hops, limits::HOPS + 1);
    assert!((before..=clock::now()).contains(&event.time));
    assert_eq!(event.header("amqp-timestamp"), Some("1700000000000"));
    lab.clean().await;
}

#[tokio::test]
async fn cloudevents_keep_their_attributes() {
    let lab = Lab::new().await;
    let attributes = table(vec![
        ("cloudEvents_specversion", text("1.0")),
        ("cloudEvents:id", text("e-1")),
        ("cloudEvents_source", text("/shop")),
        ("cloudEvents_type", text("placed")),
        ("cloudEvents_time", AMQPValue::Timestamp(1_700_000_000)),
        ("cloudEvents_attempt", AMQPValue::LongInt(4)),
        ("other", text("kept")),
    ]);
    let properties = BasicProperties::default()
        .with_headers(attributes)
        .with_message_id("another".into())
        .with_content_type("text/plain".into());
    let (event, stable) = taken(&lab, b"data", properties).await;
    assert!(stable);
    let Event {
        id, source, kind, ..
    } = &event;
    assert_eq!([id, source, kind], ["e-1", "/shop", "placed"]);
    assert_eq!(event.time, Timestamp(1_700_000_000_000));
    assert_eq!(event.datacontenttype.as_deref(), Some("text/plain"));
    assert_eq!(event.header("ce-attempt"), Some("4"));
    assert_eq!(event.header("other"), Some("kept"));
    assert_eq!(event.header("amqp-message-id"), Some("another"));

    let structured =
        br#"{"specversion":"1.0","id":"e-2","source":"/shop","type":"placed","data":{"n":1}}"#;
    let properties =
        BasicProperties::default().with_content_type("application/cloudevents+json".into());
    let (event, stable) = taken(&lab, structured, properties).await;
    assert!(stable);
    assert_eq!(
        (event.id.as_str(), &event.data[..]),
        ("e-2", &b"{\"n\":1}"[..])
    );
    lab.clean().await;
}

#[tokio::test]
async fn a_broken_cloudevent_is_a_plain_message() {
    let lab = Lab::new().await;
    let attributes = table(vec![
        ("cloudEvents_specversion", text("1.0")),
        ("cloudEvents_type", text("placed")),
    ]);
    let properties = BasicProperties::default()
        .with_headers(attributes)
        .with_message_id("m-1".into());
    lab.send(b"data", properties).await;
    let intake = Fake::settling();
    let running = lab.start(&intake);
    let status = running.reached("it", |status| status.settled == 1).await;
    assert_eq!(status.broken, 1);
    running.stop().await;
    let event = intake.given(1).await.remove(0).event;
    assert_eq!(
        (event.id.as_str(), event.kind.as_str()),
        ("m-1", "amqp.message")
    );
    assert_eq!(&event.data[..], b"data");
    let why = event.header(BROKEN).unwrap();
    assert!(why.contains("has no `id`"), "{why}");
    assert_eq!(event.header("cloudevents_type"), Some("placed"));
    lab.clean().await;
}

#[tokio::test]
async fn large_messages_and_many_headers() {
    let lab = Lab::new().await;
    let fields: Vec<(String, AMQPValue)> = (0..1000)
        .map(|n| (format!("header-{n:04}"), text(&"v".repeat(90))))
        .collect();
    let headers = table(
        fields
            .iter()
            .map(|(n, v)| (n.as_str(), v.clone()))
            .collect(),
    );
    let properties = BasicProperties::default().with_headers(headers);
    let body: Vec<u8> = (0..10_000_000_u32).map(|n| n as u8).collect();
    let (event, _) = taken(&lab, &body, properties).await;
    assert_eq!(event.data, body);
    let sent = event
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("header-"));
    assert_eq!(sent.count(), 1000);
    lab.clean().await;
}

#[tokio::test]
async fn a_quorum_queue_counts_its_deliveries() {
    let lab = Lab::without_queue().await;
    lab.make(&[("x-queue-type", "quorum")]).await;
    lab.send_some(0, 1).await;
    let intake = Fake::patient();
    let running = lab.start(&intake);
    intake.given(1).await;
    intake.release_all();
    running.stop().await;
    let intake = Fake::settling();
    let running = lab.start(&intake);
    let event = intake.given(1).await.remove(0).event;
    running.reached("it", |status| status.settled == 1).await;
    running.stop().await;
    assert_eq!(event.header("x-delivery-count"), Some("1"));
    assert_eq!(event.header("amqp-redelivered"), Some("true"));
    lab.clean().await;
}

#[tokio::test]
async fn the_exchange_and_the_routing_key_are_told() {
    let lab = Lab::new().await;
    let sent = lab.channel.queue_bind(
        lab.queue.as_str().into(),
        "amq.topic".into(),
        format!("{}.*", lab.queue).as_str().into(),
        lapin::options::QueueBindOptions::default(),
        FieldTable::default(),
    );
    sent.await.unwrap();
    let key = format!("{}.eu", lab.queue);
    let published = lab.channel.basic_publish(
        "amq.topic".into(),
        key.as_str().into(),
        BasicPublishOptions::default(),
        b"",
        BasicProperties::default(),
    );
    assert!(published.await.unwrap().await.unwrap().is_ack());
    let intake = Fake::settling();
    let running = lab.start(&intake);
    let event = intake.given(1).await.remove(0).event;
    running.stop().await;
    assert_eq!(event.subject.as_deref(), Some(key.as_str()));
    assert_eq!(event.header("amqp-exchange"), Some("amq.topic"));
    assert_eq!(event.header("amqp-routing-key"), Some(key.as_str()));
    lab.clean().await;
}
