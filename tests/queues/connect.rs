//! `tidemill check --connect`.

use insta::assert_snapshot;

use crate::harness::{Amqp, Kafka, Site, amqp_url, kafka_brokers, unique};

/// A file whose queue and topic have these names.
fn config(queue: &str, topic: &str) -> String {
    let (amqp, kafka) = (amqp_url(), kafka_brokers());
    format!(
        r#"
[connections.rabbit]
amqp = "{amqp}"
[connections.log]
kafka = {{ brokers = ["{kafka}"] }}
[buckets.in]
url = "file:buckets/in"
[functions.probe]
component = "PROBE"
[triggers.file]
function = "probe"
bucket = {{ name = "in" }}
[triggers.message]
function = "probe"
amqp = {{ connection = "rabbit", queue = "{queue}" }}
idempotency = {{ key = "$.id" }}
[triggers.record]
function = "probe"
kafka = {{ connection = "log", topics = ["{topic}"] }}
"#
    )
}

#[test]
fn what_is_there_is_fine() {
    let (queue, topic) = (unique("queue"), unique("topic"));
    let (rabbit, log) = (Amqp::connect(&amqp_url()), Kafka::connect(&kafka_brokers()));
    rabbit.declare(&queue);
    log.create(&topic, 1);
    let site = Site::new(&config(&queue, &topic));
    site.bucket("in");
    let said = site.succeeds(&["check", "--connect"]);
    assert!(
        said.ends_with("fine: 3 triggers, 1 function, 1 bucket, 2 connections\n"),
        "{said}"
    );
    rabbit.delete(&queue);
    log.delete(&topic);
}

#[test]
fn what_is_missing_is_named() {
    let site = Site::new(&config("no-such-queue", "no-such-topic"));
    let (code, said) = site.fails(&["check", "--connect"]);
    assert_eq!(code, 1);
    assert_snapshot!(said);
}
