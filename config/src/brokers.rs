//! What brokers ask of strings: the addresses of AMQP, the names of queues and topics, and where a
//! group begins.
//!
//! Like `values`, everything here is a function of the string alone.

use crate::{
    http,
    keys::Kind,
    reference::Text,
    suggest,
    tree::Value,
    values::{self, Wrong},
};

/// AMQP writes the length of a name into one byte.
const SHORT_STRING: usize = 255;

/// Kafka makes file names of its topics, and puts the partition's number behind.
const TOPIC: usize = 249;

/// The address of an AMQP broker. What it refers to is not known here: behind a reference at its
/// beginning, or in place of the host, anything goes.
pub(crate) fn amqp_url(text: &Text) -> Result<(), Wrong> {
    let wrong = |verdict: &str, help: &str| {
        let expected = "amqp://user:password@host:port/vhost, percent-encoded";
        Err(Wrong::new(verdict, expected, help))
    };
    let outline = text.outline();
    let rest = ["amqp://", "amqps://"]
        .iter()
        .find_map(|scheme| outline.strip_prefix(scheme));
    let Some(rest) = rest else {
        return match outline.starts_with(Text::REFERENCE) {
            true => Ok(()),
            false => Err(Wrong::new(
                "is not the URL of an AMQP broker",
                Kind::AmqpUrl.expected(),
                "write it like \"amqp://user:${env:AMQP_PASSWORD}@host:5672/%2f\"",
            )),
        };
    };
    if rest.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        let help = "percent-encode it: %23 for `#`, %20 for a space; or put the password elsewhere and refer to it: ${env:NAME}";
        return wrong("has a `#` or a space", help);
    }
    // What was meant for a password would be taken for the port, and the user for the host.
    let behind = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
    if behind.contains('@') {
        let help = "percent-encode `/` and `?` in user and password as %2F and %3F, and an `@` behind the host as %40";
        return wrong("has an `@` behind its host", help);
    }
    let (address, _) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, vhost) = match address.split_once('/') {
        Some((authority, vhost)) => (authority, Some(vhost)),
        None => (address, None),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.contains(Text::REFERENCE) {
        // The reference may well bring the port and the virtual host along.
        return Ok(());
    }
    if host.is_empty() {
        return wrong("has no host", "write it like \"amqp://host:5672/%2f\"");
    }
    if !is_host(host) {
        let help = "write \"host:5672\" or \"[::1]:5672\": the port is from 1 to 65535, and an IPv6 address stands in brackets";
        return wrong("has a host or port that cannot be", help);
    }
    match vhost {
        None => Ok(()),
        Some("") => wrong(
            "names a virtual host without a name",
            "leave the `/` at the end out for the default one, or write it: /%2f",
        ),
        Some("/") => wrong(
            "has a `/` in its virtual host",
            "percent-encode it: the default virtual host is written /%2f",
        ),
        Some(vhost) if vhost.contains('/') => wrong(
            "has a `/` in its virtual host",
            "a URL names one virtual host behind the address: percent-encode a `/` in it as %2F",
        ),
        Some(vhost) if !is_encoded(vhost) => wrong(
            "has a `%` that encodes nothing",
            "write %25 for a percent sign; two hexadecimal digits follow every `%`",
        ),
        Some(_) => Ok(()),
    }
}

/// A host name or address, perhaps with a port.
fn is_host(text: &str) -> bool {
    http::is_host_port(text) || http::is_host_port(&format!("{text}:1"))
}

fn is_encoded(text: &str) -> bool {
    let encodes = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    text.split('%').skip(1).all(encodes)
}

/// The address of a Kafka broker.
pub(crate) fn broker(text: &str) -> Result<(), Wrong> {
    if http::is_host_port(text) {
        return Ok(());
    }
    let help = match text.split_once("://") {
        Some(_) => "leave the scheme out, as in \"127.0.0.1:9092\"; TLS and SASL are `properties`",
        None if text.contains(',') => "write each broker in quotes of its own",
        None if !text.is_empty() && http::is_host_port(&format!("{text}:9092")) => {
            &format!("add the port: \"{text}:9092\"")
        }
        None => "write it like \"127.0.0.1:9092\"",
    };
    Err(wrong(Kind::Broker, "is not a host with a port", help))
}

/// The name of a queue, an exchange or a routing key.
pub(crate) fn short(kind: Kind, text: &str) -> Result<(), Wrong> {
    if text.is_empty() && kind == Kind::Queue {
        return Err(wrong(kind, "is empty", "fill it in"));
    }
    if text.len() <= SHORT_STRING {
        return Ok(());
    }
    let help = format!(
        "shorten it: it has {} bytes, and AMQP takes {SHORT_STRING}",
        text.len()
    );
    Err(wrong(kind, "is too long", &help))
}

/// The name of a topic.
pub(crate) fn topic(text: &str) -> Result<(), Wrong> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let help = match text {
        "" => "fill it in".to_owned(),
        // librdkafka takes such a name for a regular expression.
        _ if text.starts_with('^') || text.contains('*') => {
            "write each topic by its name: patterns are not taken".to_owned()
        }
        "." | ".." => "write the name that the topic has in Kafka".to_owned(),
        _ if !text.bytes().all(allowed) => {
            "write the name that the topic has in Kafka: it holds nothing else".to_owned()
        }
        _ if text.len() > TOPIC => format!("it has {} characters: shorten it", text.len()),
        _ => return Ok(()),
    };
    Err(wrong(Kind::Topic, "is not the name of a topic", &help))
}

/// Where a group without offsets begins: a word, or an instant.
pub(crate) fn start(text: &str) -> Result<Value, Wrong> {
    const WORDS: [&str; 2] = ["earliest", "latest"];
    if WORDS.contains(&text) {
        return Ok(Value::String(text.to_owned()));
    }
    let expected = Kind::Start.expected();
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let instant = values::instant(text).map(Value::Instant);
        return instant.map_err(|wrong| Wrong { expected, ..wrong });
    }
    let meant = match text {
        "beginning" | "oldest" | "smallest" | "first" => Some(WORDS[0]),
        "end" | "newest" | "largest" | "last" => Some(WORDS[1]),
        _ => suggest::closest(text, WORDS),
    };
    let help = match meant {
        Some(word) => format!("did you mean \"{word}\"?"),
        None => {
            "write \"earliest\", \"latest\" or an instant such as \"2027-01-01T00:00:00Z\"".into()
        }
    };
    Err(Wrong::new("has an unknown value", expected, help))
}

fn wrong(kind: Kind, verdict: &str, help: &str) -> Wrong {
    Wrong::new(verdict, kind.expected(), help)
}
