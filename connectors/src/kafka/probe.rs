//! Whether the brokers answer and have the topics. librdkafka tells of errors, but not when they are
//! over, and of topics that it waits for not at all; so while anything is wrong, it is asked.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
};

use super::assign::{Consumer, blocking};

/// How long brokers may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How OpenSSL says that a certificate is not trusted, or not for the name of its broker.
const UNVERIFIED: &str = "certificate verify failed";

/// What was found, in words for whoever runs the engine; absent, nothing is wrong.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Of the brokers.
    pub brokers: Option<String>,
    /// Of the topics. Not known, if the brokers do not answer.
    pub topics: Option<String>,
}

/// Asks once.
pub(super) async fn probe(
    consumer: Arc<Consumer>,
    connection: String,
    brokers: String,
    topics: Vec<String>,
) -> Found {
    let context = consumer.context().clone();
    let answer = blocking(move || {
        let mut missing = Vec::new();
        for topic in topics {
            let metadata = consumer.fetch_metadata(Some(&topic), ANSWER)?;
            let error = metadata.topics().first().and_then(|topic| topic.error());
            if let Some(error) = error {
                missing.push((topic, RDKafkaErrorCode::from(error)));
            }
        }
        Ok(missing)
    });
    match answer.await {
        Ok(missing) => {
            context.forget_error();
            Found {
                brokers: None,
                topics: unreadable(&connection, &missing),
            }
        }
        Err(error) => {
            let last = context.last_error();
            let (problem, help) = unreachable(&connection, &brokers, &error, last);
            let help = help.unwrap_or("it is tried until one does");
            Found {
                brokers: Some(format!("{problem}; {help}")),
                topics: None,
            }
        }
    }
}

/// Why the brokers do not answer, and what to do, if it is more than to wait for them. `last` is what
/// librdkafka said last.
pub(super) fn unreachable(
    connection: &str,
    brokers: &str,
    error: &KafkaError,
    last: Option<(RDKafkaErrorCode, String)>,
) -> (String, Option<&'static str>) {
    let (code, reason) = match last {
        Some((code, reason)) => (Some(code), reason),
        None => (error.rdkafka_error_code(), error.to_string()),
    };
    match code {
        Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => (
            format!(
                "the brokers of connection `{connection}` ({brokers}) refuse the login: {reason}"
            ),
            Some("look at `sasl.username` and the other properties of the connection"),
        ),
        // librdkafka tells some of these as if the broker had gone.
        Some(code) if code == RDKafkaErrorCode::SSL || reason.contains(UNVERIFIED) => (
            format!("no TLS with the brokers of connection `{connection}` ({brokers}): {reason}"),
            Some(match reason.contains(UNVERIFIED) {
                true => {
                    "see that `ssl.ca.location` has the CA of the brokers' certificates, and that these are for the names in `brokers`"
                }
                false => "look at `security.protocol` and the `ssl.` properties of the connection",
            }),
        ),
        // Nothing that listens, and no name, has a reason of its own.
        Some(RDKafkaErrorCode::AllBrokersDown) => (
            format!(
                "no broker of connection `{connection}` answers ({brokers}): they end the connection and do not say why; they may want TLS or a login (`security.protocol`)"
            ),
            None,
        ),
        _ => (
            format!("no broker of connection `{connection}` answers ({brokers}): {reason}"),
            None,
        ),
    }
}

/// Which topics cannot be read, if any.
pub(super) fn unreadable(
    connection: &str,
    missing: &[(String, RDKafkaErrorCode)],
) -> Option<String> {
    let (topic, code) = missing.first()?;
    let more = match missing.len() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    Some(match code {
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => format!(
            "connection `{connection}` has no topic `{topic}`{more}; make it, or correct `topics`: it is read as soon as it is there"
        ),
        RDKafkaErrorCode::TopicAuthorizationFailed => format!(
            "connection `{connection}` does not let us read topic `{topic}`{more}; allow its user to describe and read it, and to read the group"
        ),
        code => {
            format!(
                "topic `{topic}` of connection `{connection}` cannot be read{more}: {code}; it is tried until it can"
            )
        }
    })
}
