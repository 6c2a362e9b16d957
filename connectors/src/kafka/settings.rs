//! The properties that librdkafka is given: what the engine relies on, which no plan sets
//! ([`tidemill_config::reserved`]), what it would have otherwise than librdkafka does, and what the plan
//! says. Nothing here connects to anything.

use std::{collections::BTreeMap, sync::Arc};

use rdkafka::{ClientConfig, consumer::BaseConsumer, error::KafkaError, types::RDKafkaConfRes};
use tidemill_config::plan::{Connection, Plan};

use super::error::Unusable;

/// Texts shorter than this are not blanked out: they would be found everywhere.
const SHORTEST_SECRET: usize = 6;

/// For each consumer. The plan may say otherwise.
const CONSUMER: [(&str, &str); 5] = [
    // So much may be read twice after a crash of the machine that has the journal; a journal that is
    // there knows better.
    ("auto.commit.interval.ms", "1000"),
    ("isolation.level", "read_committed"),
    // What is fetched and not yet taken: 32 MiB, and not librdkafka's 64 of each consumer.
    ("queued.max.messages.kbytes", "32768"),
    // How long a partition rests when that is full. A second, as it is by default, would be felt
    // whenever the intake has room again.
    ("fetch.queue.backoff.ms", "20"),
    ("fetch.error.backoff.ms", "500"),
];

/// For each consumer of a group whose members divide the partitions themselves, and not the broker.
const CLASSIC: [(&str, &str); 2] = [
    // A member that comes or goes moves the partitions that must move; the others are read on.
    ("partition.assignment.strategy", "cooperative-sticky"),
    // How long the partitions of a node that died are read by nobody. Three heartbeats.
    ("session.timeout.ms", "10000"),
];

/// For each producer.
const PRODUCER: [(&str, &str); 3] = [
    ("message.timeout.ms", "30000"),
    // The broker and the topic say how large a record may be, not the client.
    ("message.max.bytes", "67108864"),
    // What waits to be sent: 64 MiB, and not librdkafka's 1 GiB.
    ("queue.buffering.max.kbytes", "65536"),
];

/// For every client.
const CLIENT: [(&str, &str); 4] = [
    ("client.id", "tidemill"),
    ("socket.keepalive.enable", "true"),
    // Topics that come to be and partitions that are added are noticed within this; by default, in
    // five minutes.
    ("topic.metadata.refresh.interval.ms", "30000"),
    // Brokers close idle connections every ten minutes, which is nothing to log.
    ("log.connection.close", "false"),
];

/// For every client of a build that has TLS: its OpenSSL was not made for this system, and knows not where
/// the system has its certificates.
const TLS: [(&str, &str); 1] = [("ssl.ca.location", PROBE)];

/// Stands for wherever systems have the certificates that they trust.
const PROBE: &str = "probe";

/// The settings of a connection.
pub(super) struct Settings {
    /// Its name in the plan.
    pub connection: String,
    /// `host:port` of its brokers, as the plan has them.
    pub brokers: String,
    /// What may not be shown.
    pub secrets: Arc<Secrets>,
    properties: BTreeMap<String, String>,
}

impl Settings {
    /// Looks the properties up and has librdkafka check them. Reads the environment and files, and
    /// blocks while it does.
    pub(super) fn new(plan: &Plan, connection: &str) -> Result<Settings, Unusable> {
        let to = plan.connections.get(connection).map(|plan| &plan.to);
        let Some(Connection::Kafka {
            brokers,
            properties,
        }) = to
        else {
            return Err(Unusable::NotKafka(connection.to_owned()));
        };
        let mut values = BTreeMap::new();
        let mut secrets = Vec::new();
        for (property, text) in properties {
            let value = text.resolve().map_err(|source| Unusable::Reference {
                connection: connection.to_owned(),
                property: property.clone(),
                source,
            })?;
            let value = value.expose();
            if text.has_reference() || speaks_of_secrets(property) {
                secrets.push(value.to_owned());
            }
            values.insert(property.clone(), value.to_owned());
        }
        let settings = Settings {
            connection: connection.to_owned(),
            brokers: brokers.join(","),
            secrets: Arc::new(Secrets::new(secrets)),
            properties: values,
        };
        settings.check()?;
        Ok(settings)
    }

    /// For a consumer of a group.
    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client(&CONSUMER);
        if self.properties.get("group.protocol").map(String::as_str) != Some("consumer") {
            self.add(&mut config, &CLASSIC);
        }
        config
            .set("group.id", group)
            .set("enable.auto.commit", "true")
            .set("enable.auto.offset.store", "false")
            // Where to begin is decided for each partition before it is read. This is for what is
            // gone from the log by then: the oldest that is left comes next.
            .set("auto.offset.reset", "earliest");
        config
    }

    /// For a producer.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client(&PRODUCER);
        config.set("enable.idempotence", "true").set("acks", "all");
        config
    }

    /// For whoever only asks.
    pub(super) fn admin(&self) -> ClientConfig {
        self.client(&[])
    }

    fn client(&self, more: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        for (property, value) in &self.properties {
            config.set(property, value);
        }
        self.add(&mut config, &CLIENT);
        if cfg!(feature = "kafka-tls") {
            self.add(&mut config, &TLS);
        }
        self.add(&mut config, more);
        config
    }

    fn add(&self, config: &mut ClientConfig, defaults: &[(&str, &str)]) {
        for (property, value) in defaults {
            if !self.properties.contains_key(*property) {
                config.set(*property, *value);
            }
        }
    }

    fn check(&self) -> Result<(), Unusable> {
        let connection = || self.connection.clone();
        self.check_features()?;
        self.check_files()?;
        let mut config = self.consumer("");
        // Without a group it looks for no broker.
        config.remove("group.id");
        let consumer: Result<BaseConsumer, KafkaError> = config.create();
        match consumer {
            Ok(_) => Ok(()),
            Err(KafkaError::ClientConfig(result, _, property, _)) => Err(match result {
                RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN => Unusable::Unknown {
                    connection: connection(),
                    property,
                },
                _ => Unusable::Value {
                    connection: connection(),
                    property,
                },
            }),
            Err(KafkaError::ClientCreation(why)) => Err(Unusable::Client {
                connection: connection(),
                why: self.secrets.blank(&why),
            }),
            Err(other) => Err(Unusable::Client {
                connection: connection(),
                why: self.secrets.blank(&other.to_string()),
            }),
        }
    }

    /// OpenSSL would speak of its own routines.
    fn check_files(&self) -> Result<(), Unusable> {
        for (property, path) in &self.properties {
            let is_file = property.starts_with("ssl.") && property.ends_with(".location");
            if is_file && path != PROBE {
                std::fs::File::open(path).map_err(|source| Unusable::File {
                    connection: self.connection.clone(),
                    property: property.clone(),
                    path: self.secrets.blank(path),
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// librdkafka would speak of its own build options, which nobody sees.
    fn check_features(&self) -> Result<(), Unusable> {
        let config = ClientConfig::new().create_native_config();
        let built_in = config.and_then(|config| config.get("builtin.features"));
        let built_in = built_in.unwrap_or_default();
        let has = |feature: &str| built_in.split(',').any(|built| built.trim() == feature);
        for (property, value) in &self.properties {
            let upper = value.to_ascii_uppercase();
            let needs = match property.as_str() {
                "security.protocol" if upper.ends_with("SSL") => Some(("ssl", "kafka-tls")),
                "security.protocol" => None,
                "sasl.mechanisms" | "sasl.mechanism" => match upper.as_str() {
                    "GSSAPI" => Some(("sasl_gssapi", "kafka-gssapi")),
                    "OAUTHBEARER" => Some(("sasl_oauthbearer", "kafka-tls")),
                    scram if scram.starts_with("SCRAM") => Some(("sasl_scram", "kafka-tls")),
                    _ => None,
                },
                name if name.starts_with("ssl.") => Some(("ssl", "kafka-tls")),
                _ => None,
            };
            if let Some((needed, feature)) = needs.filter(|(needed, _)| !has(needed)) {
                let what = match needed {
                    "ssl" => "TLS".to_owned(),
                    _ => upper,
                };
                return Err(Unusable::NotBuiltIn {
                    connection: self.connection.clone(),
                    property: property.clone(),
                    what,
                    feature,
                });
            }
        }
        Ok(())
    }
}

/// Texts that may not be shown.
#[derive(Debug, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    fn new(mut secrets: Vec<String>) -> Secrets {
        secrets.retain(|secret| secret.len() >= SHORTEST_SECRET);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Secrets(secrets)
    }

    /// The text without them.
    pub(super) fn blank(&self, text: &str) -> String {
        let blank = |text: String, secret: &String| text.replace(secret, "***");
        self.0.iter().fold(text.to_owned(), blank)
    }
}

fn speaks_of_secrets(property: &str) -> bool {
    let words = [
        "password",
        "secret",
        "key",
        "token",
        "credential",
        "sasl.oauthbearer.config",
    ];
    words.iter().any(|word| property.contains(word))
}
