//! What the strings of the file mean: durations, sizes, addresses, names and the like.
//!
//! Everything here is a function of the string alone. Where a value stands and how its problem is
//! shown is the business of `walk`.

use std::{net::SocketAddr, ops::Range, time::Duration};

use bytesize::ByteSize;

use crate::keys::Kind;

/// A value that its key does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// What is wrong, after the name of the key: `is out of range`.
    pub verdict: String,
    /// What was expected, after the word "expected".
    pub expected: String,
    /// The next step.
    pub help: String,
    /// The part of the value that is wrong, if it is not all of it.
    pub at: Option<Range<usize>>,
}

impl Wrong {
    pub(crate) fn new(
        verdict: impl Into<String>,
        expected: impl Into<String>,
        help: impl Into<String>,
    ) -> Wrong {
        Wrong {
            verdict: verdict.into(),
            expected: expected.into(),
            help: help.into(),
            at: None,
        }
    }

    fn out_of_range(least: impl AsRef<str>, most: impl AsRef<str>) -> Wrong {
        let (least, most) = (least.as_ref(), most.as_ref());
        let help = format!("choose a value from {least} to {most}");
        Wrong::new("is out of range", format!("{least} to {most}"), help)
    }
}

/// The most characters of a name.
const NAME_LENGTH: usize = 64;

/// The units of durations; months and years have no fixed length, and `M` is too close to `m`.
const TIME_UNITS: &[&str] = &["us", "ms", "s", "m", "h", "d"];

/// The units of sizes, in lower case; others, such as `M`, mean different things to different tools.
const SIZE_UNITS: &[&str] = &["b", "kb", "kib", "mb", "mib", "gb", "gib", "tb", "tib"];

/// A duration between `least` and `most`.
pub(crate) fn duration(text: &str, least: &str, most: &str) -> Result<Duration, Wrong> {
    let value = parse_duration(text)?;
    let within = parse_duration(least)?..=parse_duration(most)?;
    if within.contains(&value) {
        Ok(value)
    } else {
        Err(Wrong::out_of_range(least, most))
    }
}

fn parse_duration(text: &str) -> Result<Duration, Wrong> {
    let trimmed = text.trim();
    let wrong = |help: String| {
        Wrong::new(
            "is not a duration",
            "a number with its unit: us, ms, s, m, h or d",
            help,
        )
    };
    if !trimmed.is_empty() && trimmed.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong(format!(
            "add the unit: \"{trimmed}s\" for seconds, \"{trimmed}ms\", \"{trimmed}m\""
        )));
    }
    let units = trimmed
        .split(|c: char| !c.is_alphabetic())
        .filter(|unit| !unit.is_empty());
    let known = units.into_iter().all(|unit| TIME_UNITS.contains(&unit));
    let parsed = humantime::parse_duration(trimmed).ok().filter(|_| known);
    parsed.ok_or_else(|| wrong("write it like \"500ms\", \"10s\", \"5m\" or \"1h 30m\"".into()))
}

/// A number of bytes between `least` and `most`.
pub(crate) fn size(text: &str, least: &str, most: &str) -> Result<u64, Wrong> {
    let value = parse_size(text)?;
    let within = parse_size(least)?..=parse_size(most)?;
    if within.contains(&value) {
        Ok(value)
    } else {
        Err(Wrong::out_of_range(least, most))
    }
}

fn parse_size(text: &str) -> Result<u64, Wrong> {
    let trimmed = text.trim();
    let wrong = |help: String| {
        Wrong::new(
            "is not a size",
            "a number with its unit: B, KiB, MiB, GiB or TiB (KB, MB, GB, TB)",
            help,
        )
    };
    let number = trimmed.trim_end_matches(|c: char| c.is_alphabetic() || c.is_whitespace());
    let unit = trimmed[number.len()..].trim().to_ascii_lowercase();
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match unit.as_str() {
        "" if digits => Err(wrong(format!(
            "add the unit: \"{number}MiB\" or \"{number}KiB\"; bytes are \"{number}B\""
        ))),
        "k" | "m" | "g" | "t" | "ki" | "mi" | "gi" | "ti" if digits => {
            let letter = unit[..1].to_ascii_uppercase();
            Err(wrong(format!(
                "write \"{number}{letter}iB\" (1024) or \"{number}{letter}B\" (1000)"
            )))
        }
        unit if digits && SIZE_UNITS.contains(&unit) => {
            let parsed = trimmed.parse::<ByteSize>().map(|size| size.as_u64());
            parsed.map_err(|_| wrong("write it like \"128MiB\" or \"1.5GiB\"".into()))
        }
        _ => Err(wrong(
            "write it like \"64KiB\", \"128MiB\" or \"4GiB\"".into(),
        )),
    }
}

/// A whole number between the two.
pub(crate) fn whole(digits: &str, radix: u32, least: u64, most: u64) -> Result<u64, Wrong> {
    let value = i128::from_str_radix(digits, radix)
        .ok()
        .and_then(|n| u64::try_from(n).ok());
    value
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| Wrong::out_of_range(least.to_string(), most.to_string()))
}

/// Checks a name: of a bucket, function, trigger, connection or store.
pub(crate) fn name(text: &str) -> Result<(), Wrong> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let expected = format!("1 to {NAME_LENGTH} of the characters a-z A-Z 0-9 _ . -");
    let help = match text {
        "" => "give it a name",
        "." | ".." => "add a letter or a digit",
        _ if !text.bytes().all(allowed) => "rename it; `-` is a good word separator",
        _ if text.len() > NAME_LENGTH => "shorten it",
        _ => return Ok(()),
    };
    Err(Wrong::new("is not a name", expected, help))
}

/// An IP address and a port.
pub(crate) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
        let help = match (port, text.rsplit_once(':')) {
            (Some(port), Some(("", _)) | None) => {
                format!("write \"127.0.0.1:{port}\" for this machine only, or \"0.0.0.0:{port}\" for all its networks")
            }
            (Some(port), Some(("localhost", _))) => format!("write \"127.0.0.1:{port}\""),
            (Some(_), Some(_)) => "write the IP address in place of the host name".into(),
            _ => "write it like \"127.0.0.1:8080\" or \"[::1]:8080\"".into(),
        };
        Wrong::new("is not an address", "an IP address with a port from 0 to 65535", help)
    })
}

/// Checks the strings that stay strings in the plan, or have no place in it yet.
pub(crate) fn string(kind: Kind, text: &str) -> Result<(), Wrong> {
    let wrong = |verdict: &str, help: &str| Err(Wrong::new(verdict, kind.expected(), help));
    match kind {
        Kind::Name => name(text),
        Kind::Filled if text.is_empty() => Err(Wrong::new(
            "is empty",
            "a string that is not empty",
            "fill it in",
        )),
        Kind::Suffix if text.is_empty() => wrong(
            "is empty",
            "every key ends with nothing: remove the empty string",
        ),
        Kind::Selector if !selector(text) => wrong(
            "is not a selector",
            "write it like \"$.order_id\", \"header:Order-Id\" or \"attr:subject\"",
        ),
        Kind::Order if !selector(text) && !matches!(text, "partition" | "none") => wrong(
            "is not a selector",
            "write it like \"$.customer\", \"header:Customer\" or \"attr:subject\"",
        ),
        Kind::Rate if !rate(text) => wrong(
            "is not a rate",
            "write it like \"200/s\", \"50/m\" or \"1000/h\"",
        ),
        Kind::Cron if text.split_whitespace().count() != 5 => wrong(
            "is not a cron expression",
            "give minute, hour, day of month, month and day of week, such as \"0 2 * * *\" for two o'clock every night",
        ),
        Kind::HostPort if !host_port(text) => wrong(
            "is not a host with a port",
            "write it like \"api.example.com:443\"",
        ),
        Kind::HttpPath if !text.starts_with('/') => wrong(
            "is not a path",
            "begin it with `/`, such as \"/hooks/github\"",
        ),
        Kind::Instant if !instant(text) => wrong(
            "is not an instant",
            "write it like \"2027-01-01T00:00:00Z\" or \"2027-01-01T00:00:00+01:00\"",
        ),
        _ => Ok(()),
    }
}

/// The attributes that `attr:` may name.
const ATTRIBUTES: &[&str] = &[
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "traceparent",
];

fn selector(text: &str) -> bool {
    if let Some(path) = text.strip_prefix("$.") {
        return path.split('.').all(|field| !field.is_empty());
    }
    match text.split_once(':') {
        Some(("header", name)) => !name.is_empty(),
        Some(("attr", name)) => ATTRIBUTES.contains(&name),
        _ => false,
    }
}

fn rate(text: &str) -> bool {
    let parts = text.split_once('/');
    parts.is_some_and(|(n, unit)| {
        n.trim().parse::<u32>().is_ok_and(|n| n > 0) && matches!(unit.trim(), "s" | "m" | "h")
    })
}

fn host_port(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| {
        let plain = !host.is_empty() && !host.contains([':', '/', '@', ' ']);
        let bracketed = host.starts_with('[') && host.ends_with(']');
        (plain || bracketed) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn instant(text: &str) -> bool {
    let parsed = text.parse::<toml::value::Datetime>();
    parsed.is_ok_and(|at| at.date.is_some() && at.time.is_some() && at.offset.is_some())
}

/// Checks a name that only the handler or a library sees: a variable, an option.
pub(crate) fn free_name(text: &str) -> Result<(), Wrong> {
    if !text.is_empty() && !text.contains(['=', '\0']) {
        return Ok(());
    }
    Err(Wrong::new(
        "is not a name",
        "a name that is not empty and has no `=`",
        "rename it",
    ))
}
