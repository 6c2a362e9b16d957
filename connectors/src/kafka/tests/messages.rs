//! What is said when something is wrong. No secret is in any of it.

use std::error::Error;

use insta::assert_snapshot;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::*;
use crate::kafka::{
    Unusable,
    probe::{unreachable, unreadable},
};

pub(super) fn unusable(properties: &str) -> String {
    let mut lab = Lab::without_topic("127.0.0.1:1".into());
    lab.properties = properties.to_owned();
    let error: Unusable = connector(&lab.plan()).err().unwrap();
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text.push_str(&format!(": {source}"));
    }
    text
}

#[test]
fn properties_that_cannot_be_used() {
    assert_snapshot!(unusable(r#"{ "fetch.max.byte" = "1" }"#), @r#"`connections.telemetry.kafka.properties` has "fetch.max.byte", which librdkafka does not know; its CONFIGURATION.md lists all it does"#);
    assert_snapshot!(unusable(r#"{ "fetch.max.bytes" = "hunter2-hunter2" }"#), @r#"`connections.telemetry.kafka.properties."fetch.max.bytes"` has a value that librdkafka does not take; its CONFIGURATION.md says which it does"#);
    assert_snapshot!(unusable(r#"{ "sasl.password" = "${env:TIDEMILL_NOT_SET}" }"#), @r#"cannot look up `connections.telemetry.kafka.properties."sasl.password"`: the environment variable TIDEMILL_NOT_SET is not set"#);
    assert_snapshot!(unusable(r#"{ "session.timeout.ms" = "600000" }"#), @"`connections.telemetry.kafka`: librdkafka cannot work with these properties: `max.poll.interval.ms`must be >= `session.timeout.ms`");
}

#[cfg(not(feature = "kafka-tls"))]
#[test]
fn what_needs_another_build() {
    assert_snapshot!(unusable(r#"{ "security.protocol" = "ssl" }"#), @r#"`connections.telemetry.kafka.properties."security.protocol"` asks for TLS, which this engine was built without; build it with `cargo build --release --features kafka-tls`"#);
    assert_snapshot!(unusable(r#"{ "sasl.mechanisms" = "SCRAM-SHA-512" }"#), @r#"`connections.telemetry.kafka.properties."sasl.mechanisms"` asks for SCRAM-SHA-512, which this engine was built without; build it with `cargo build --release --features kafka-tls`"#);
}

#[test]
fn brokers_and_topics_that_cannot_be_used() {
    let brokers = |code, reason: &str| {
        let error = KafkaError::MetadataFetch(Code::BrokerTransportFailure);
        let last = Some((code, reason.to_owned()));
        let (problem, help) = unreachable("telemetry", "kafka:9092", &error, last);
        format!("{problem}; {}", help.unwrap_or("it is waited for"))
    };
    let refused = "kafka:9092/bootstrap: Connect to ipv4#10.0.0.1:9092 failed: Connection refused";
    assert_snapshot!(brokers(Code::BrokerTransportFailure, refused), @"no broker of connection `telemetry` answers (kafka:9092): kafka:9092/bootstrap: Connect to ipv4#10.0.0.1:9092 failed: Connection refused; it is waited for");
    let login = "sasl_plaintext://kafka:9092/bootstrap: SASL authentication error: Invalid username or password";
    assert_snapshot!(brokers(Code::Authentication, login), @"the brokers of connection `telemetry` (kafka:9092) refuse the login: sasl_plaintext://kafka:9092/bootstrap: SASL authentication error: Invalid username or password; look at `sasl.username` and the other properties of the connection");
    let tls = "ssl://kafka:9092/bootstrap: SSL handshake failed: certificate verify failed";
    assert_snapshot!(brokers(Code::SSL, tls), @"no TLS with the brokers of connection `telemetry` (kafka:9092): ssl://kafka:9092/bootstrap: SSL handshake failed: certificate verify failed; see that `ssl.ca.location` has the CA of the brokers' certificates, and that these are for the names in `brokers`");
    let topics = |codes: &[Code]| {
        let named = |code: &Code| ("readings".to_owned(), *code);
        let missing: Vec<(String, Code)> = codes.iter().map(named).collect();
        unreadable("telemetry", &missing).unwrap()
    };
    assert_snapshot!(topics(&[Code::UnknownTopicOrPartition, Code::UnknownTopicOrPartition]), @"connection `telemetry` has no topic `readings` (and 1 more); make it, or correct `topics`: it is read as soon as it is there");
    assert_snapshot!(topics(&[Code::TopicAuthorizationFailed]), @"connection `telemetry` does not let us read topic `readings`; allow its user to describe and read it, and to read the group");
    assert_snapshot!(topics(&[Code::LeaderNotAvailable]), @"topic `readings` of connection `telemetry` cannot be read: LeaderNotAvailable (Broker: Leader not available); it is tried until it can");
    assert!(unreadable("telemetry", &[]).is_none());
}
