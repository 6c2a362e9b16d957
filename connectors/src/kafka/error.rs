//! What keeps a connection to Kafka from being used, found before anything runs.

use tidemill_config::reference::ReferenceError;

/// A Kafka connection of the plan cannot be used. The text says what to do, and shows no secret.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The plan has no such connection to Kafka.
    #[error("connection `{0}` does not lead to Kafka; give it `kafka = {{ brokers = [...] }}`")]
    NotKafka(String),
    /// A reference stands for nothing.
    #[error("cannot look up `connections.{connection}.kafka.properties.\"{property}\"`")]
    Reference {
        /// The connection.
        connection: String,
        /// The property.
        property: String,
        /// Why.
        source: ReferenceError,
    },
    /// librdkafka has no such property.
    #[error(
        "`connections.{connection}.kafka.properties` has \"{property}\", which librdkafka does not know; its CONFIGURATION.md lists all it does"
    )]
    Unknown {
        /// The connection.
        connection: String,
        /// The property.
        property: String,
    },
    /// librdkafka does not take the value of a property.
    #[error(
        "`connections.{connection}.kafka.properties.\"{property}\"` has a value that librdkafka does not take; its CONFIGURATION.md says which it does"
    )]
    Value {
        /// The connection.
        connection: String,
        /// The property.
        property: String,
    },
    /// A property asks for what this engine was built without.
    #[error(
        "`connections.{connection}.kafka.properties.\"{property}\"` asks for {what}, which this engine was built without; build it with `cargo build --release --features {feature}`"
    )]
    NotBuiltIn {
        /// The connection.
        connection: String,
        /// The property.
        property: String,
        /// What it asks for.
        what: String,
        /// The cargo feature that has it.
        feature: &'static str,
    },
    /// A file that a property names cannot be read.
    #[error(
        "cannot read {path}, which `connections.{connection}.kafka.properties.\"{property}\"` names"
    )]
    File {
        /// The connection.
        connection: String,
        /// The property.
        property: String,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// librdkafka does not start with these properties.
    #[error(
        "`connections.{connection}.kafka`: librdkafka cannot work with these properties: {why}"
    )]
    Client {
        /// The connection.
        connection: String,
        /// In librdkafka's words.
        why: String,
    },
}
