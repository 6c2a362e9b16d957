//! Kafka: the records of topics are events, held by their log until they are settled, and topics are
//! destinations.

use tidemill_config::plan::KafkaSource;

/// What the triggers of a consumer listen to. Its events name the topic alone: `kafka:<connection>/<topic>`.
pub fn source(plan: &KafkaSource) -> String {
    let topics = plan.topics.join(",");
    format!("kafka:{}/{topics}@{}", plan.connection, plan.group)
}
