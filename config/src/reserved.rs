//! Names that the engine keeps for itself: a file that sets them is refused by `check`, and
//! connectors may rely on that.

use tidemill_core::event;

/// Properties of librdkafka that a connection may not set, each with why.
const KAFKA_PROPERTIES: &[(&str, &str)] = &[
    ("bootstrap.servers", BROKERS),
    ("metadata.broker.list", BROKERS),
    ("group.id", "the group is `group` of the trigger"),
    (
        "auto.offset.reset",
        "where a group begins is `start` of the trigger",
    ),
    ("enable.auto.offset.store", OFFSETS),
    ("enable.auto.commit", OFFSETS),
    ("auto.commit.enable", OFFSETS),
    ("offset.store.method", OFFSETS),
    ("enable.partition.eof", UNUSED),
    ("enable.idempotence", LOSSLESS),
    ("acks", LOSSLESS),
    ("request.required.acks", LOSSLESS),
    ("transactional.id", UNUSED),
    ("log.queue", "the engine reads librdkafka's log by itself"),
];
const BROKERS: &str = "the brokers are `brokers` of the connection";
const OFFSETS: &str = "an offset is committed when all records below it are settled";
const LOSSLESS: &str = "what is published must not be lost, nor doubled by a retry";
const UNUSED: &str = "the engine does not use it";

/// How the headers begin that carry the attributes of a CloudEvent.
const CLOUDEVENT: &str = "ce-";

/// Headers of requests, lower-case, that say what the engine knows better.
const HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "expect",
    "idempotency-key",
    "te",
    "trailer",
    "traceparent",
    "transfer-encoding",
    "upgrade",
];

/// Why a connection may not set this property of librdkafka, if it may not.
pub fn kafka_property(name: &str) -> Option<&'static str> {
    let found = KAFKA_PROPERTIES.iter().find(|(ours, _)| *ours == name);
    found.map(|(_, why)| *why)
}

/// Whether the engine sets this header of the requests to a destination; case does not count.
pub fn http_header(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    HEADERS.contains(&lower.as_str())
        || lower.starts_with(CLOUDEVENT)
        || lower.starts_with(event::OWN)
}
