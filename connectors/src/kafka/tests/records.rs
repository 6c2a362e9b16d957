//! What becomes of a record.

use tidemill_core::{event::Event, hold::Held, time::Timestamp};

use super::*;
use crate::kafka::{BROKEN, TOMBSTONE};

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_an_event_with_its_key_headers_and_value() {
    let lab = Lab::new(1).await;
    let fake = Fake::settling();
    let member = lab.run(&fake);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    lab.send(
        Some(b"meter-7"),
        Some(br#"{"value":41}"#),
        &[
            ("Content-Type", Some(b"application/json")),
            ("X-Unit", Some(b"kWh")),
            ("raw", Some(b"\xff\x01")),
            ("nothing", None),
            ("tidemill-hops", Some(b"3")),
            ("tidemill-method", Some(b"forged")),
            ("traceparent", Some(trace.as_bytes())),
        ],
    )
    .await;
    lab.send(Some(b"\xc3\x28"), None, &[]).await;
    lab.send(None, Some(b""), &[("tidemill-hops", Some(b"many"))])
        .await;
    let held = fake.given(3).await;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let time = Timestamp(1_700_000_000_123);
    let expected = Event {
        id: "0:0@1700000000123".into(),
        source: format!("kafka:telemetry/{}", lab.topic),
        kind: "kafka.message".into(),
        subject: Some("meter-7".into()),
        time,
        datacontenttype: Some("application/json".into()),
        traceparent: Some(trace.into()),
        hops: 3,
        headers: vec![
            header("x-unit", "kWh"),
            header("raw", "0xff01"),
            header("nothing", ""),
            header("traceparent", trace),
            header("content-type", "application/json"),
        ],
        data: br#"{"value":41}"#.as_slice().into(),
    };
    assert_eq!(held[0].event, expected);
    assert_eq!(held[0].source, lab.source());
    assert!(!held[0].stable);
    let position = held[0].position.clone().unwrap();
    assert_eq!(position.partition.partition, format!("{}/0", lab.topic));
    assert_eq!((position.offset, position.stamp), (0, time.0));
    assert_eq!(position.key.as_deref(), Some("meter-7"));

    let tombstone = &held[1].event;
    assert_eq!(tombstone.subject.as_deref(), Some("0xc328"));
    assert_eq!(tombstone.headers, [header(TOMBSTONE, "true")]);
    assert!(tombstone.data.is_empty());

    let bare = &held[2];
    assert_eq!((bare.event.subject.as_deref(), bare.event.hops), (None, 0));
    assert_eq!(bare.event.headers, []);
    assert_eq!(bare.position.as_ref().unwrap().key, None);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloudevent_keeps_its_own_attributes_and_a_broken_one_is_delivered() {
    let lab = Lab::new(1).await;
    let fake = Fake::settling();
    let member = lab.run(&fake);
    let id = ("ce_id", Some(&b"e1"[..]));
    let source = ("ce_source", Some(&b"/meters"[..]));
    let kind = ("ce_type", Some(&b"reading"[..]));
    let version = ("ce_specversion", Some(&b"1.0"[..]));
    let binary = [
        version,
        id,
        source,
        kind,
        ("ce_unit", Some(b"kWh")),
        ("other", Some(b"1")),
    ];
    lab.send(Some(b"k"), Some(b"41"), &binary).await;
    let json =
        br#"{"specversion":"1.0","id":"e2","source":"/meters","type":"reading","data":{"v":1}}"#;
    let structured = [("content-type", Some(&b"application/cloudevents+json"[..]))];
    lab.send(None, Some(json), &structured).await;
    lab.send(Some(b"k"), Some(b"42"), &[version, id]).await;
    let held = fake.given(3).await;
    let short = |held: &Held| {
        let event = &held.event;
        (
            event.id.clone(),
            event.source.clone(),
            event.kind.clone(),
            held.stable,
        )
    };
    let own = |id: &str| {
        (
            id.to_owned(),
            "/meters".to_owned(),
            "reading".to_owned(),
            true,
        )
    };
    assert_eq!(short(&held[0]), own("e1"));
    assert_eq!(held[0].event.header("ce-unit"), Some("kWh"));
    assert_eq!(held[0].event.header("other"), Some("1"));
    assert_eq!(held[0].source, lab.source());
    assert_eq!(held[0].position.as_ref().unwrap().key.as_deref(), Some("k"));
    assert_eq!(short(&held[1]), own("e2"));
    assert_eq!(held[1].event.data, br#"{"v":1}"#.as_slice());

    let broken = &held[2].event;
    assert_eq!(
        (broken.id.as_str(), broken.kind.as_str()),
        ("0:2@1700000000123", "kafka.message")
    );
    assert_eq!(broken.data, b"42".as_slice());
    assert_eq!(broken.header("ce_id"), Some("e1"));
    let why = broken.header(BROKEN).unwrap();
    assert!(why.contains("source"), "{why}");
    member
        .reached("one that is broken", |status| status.broken == 1)
        .await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_records_are_read() {
    let lab = Lab::new(1).await;
    let codecs = ["gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &lab.brokers);
        config.set("compression.type", codec);
        let producer: FutureProducer = config.create().unwrap();
        // Librdkafka sends what does not become smaller as it is.
        let value = codec.repeat(1000);
        let record = FutureRecord::<str, str>::to(&lab.topic).payload(&value);
        producer.send(record, PATIENCE).await.unwrap();
    }
    let fake = Fake::settling();
    let member = lab.run(&fake);
    let held = fake.given(codecs.len()).await;
    for (held, codec) in held.iter().zip(codecs) {
        assert_eq!(held.event.data, codec.repeat(1000).as_bytes());
    }
    member.stop().await;
}
