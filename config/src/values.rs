//! What the strings of the file mean: durations, sizes, addresses, names and the like.
//!
//! Everything here is a function of the string alone. Where a value stands and how its problem is
//! shown is the business of `walk`.

use std::{net::SocketAddr, ops::Range, time::Duration};

use bytesize::ByteSize;

use tidemill_core::{limits::RATE_COUNT, rate::Rate, selector::Selector, time::Timestamp};

use crate::{
    keys::{Kind, quoted_list},
    suggest,
};

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
        Kind::Cron if !matches!(text.split_whitespace().count(), 5 | 6) => wrong(
            "is not a cron expression",
            "give minute, hour, day of month, month and day of week, such as \"0 2 * * *\" for two o'clock every night; a sixth field, the seconds, may come first",
        ),
        Kind::Origin if !origin(text) => wrong(
            "is not an origin",
            "write it as browsers do: \"https://app.example.com\", with the port if it has one, without a path; or \"*\"",
        ),
        Kind::ObjectKey => object_key(text),
        Kind::HostPort if !host_port(text) => wrong(
            "is not a host with a port",
            "write it like \"api.example.com:443\"",
        ),
        Kind::HttpPath => http_path(text),
        _ => Ok(()),
    }
}

/// A place in an event.
pub(crate) fn selector(kind: Kind, text: &str) -> Result<Selector, Wrong> {
    text.parse().map_err(|_| {
        let help = match kind {
            Kind::Order => "write it like \"$.customer\", \"header:Customer\" or \"attr:subject\"",
            _ => "write it like \"$.order_id\", \"header:Order-Id\" or \"attr:subject\"",
        };
        Wrong::new("is not a selector", kind.expected(), help)
    })
}

/// So many in a while.
pub(crate) fn rate(text: &str) -> Result<Rate, Wrong> {
    text.parse().map_err(|_| {
        let expected = format!("a number from 1 to {RATE_COUNT} per s, m or h");
        let help = "write it like \"200/s\", \"50/m\" or \"1000/h\"";
        Wrong::new("is not a rate", expected, help)
    })
}

/// An instant.
pub(crate) fn instant(text: &str) -> Result<Timestamp, Wrong> {
    text.parse().map_err(|_| {
        Wrong::new(
            "is not an instant",
            Kind::Instant.expected(),
            "write it like \"2027-01-01T00:00:00Z\" or \"2027-01-01T00:00:00+01:00\"",
        )
    })
}

fn origin(text: &str) -> bool {
    let host = |rest: &str| !rest.is_empty() && !rest.contains(['/', '?', '#', ' ', '@', '*']);
    text == "*"
        || text
            .split_once("://")
            .is_some_and(|(s, rest)| !s.is_empty() && host(rest))
}

/// What the key of an object may hold in braces.
const PLACEHOLDERS: &[&str] = &["trigger", "id", "subject", "type", "date"];

fn object_key(text: &str) -> Result<(), Wrong> {
    let wrong =
        |verdict: String, help: String| Err(Wrong::new(verdict, Kind::ObjectKey.expected(), help));
    let all = quoted_list(PLACEHOLDERS.iter().map(|name| format!("{{{name}}}")), "and");
    if text.is_empty() {
        return wrong("is empty".into(), "write it like \"{trigger}/{id}\"".into());
    }
    for part in text.split('{').skip(1) {
        let name = part.split('}').next().unwrap_or_default();
        if !part.contains('}') || !PLACEHOLDERS.contains(&name) {
            let near = suggest::closest(name, PLACEHOLDERS.iter().copied());
            let help = match near.filter(|_| part.contains('}')) {
                Some(near) => format!("did you mean {{{near}}}?"),
                None => format!("the placeholders are {all}"),
            };
            return wrong(format!("has an unknown placeholder `{{{name}`"), help);
        }
    }
    if !text.contains("{id}") && !text.contains("{subject}") {
        let help = "add {id}, or each object would replace the one before".to_owned();
        return wrong("is the same for all".into(), help);
    }
    Ok(())
}

/// A path of segments, `{name}` for any one of them and `{*name}` for all at the end.
fn http_path(text: &str) -> Result<(), Wrong> {
    let wrong =
        |verdict: &str, help: &str| Err(Wrong::new(verdict, Kind::HttpPath.expected(), help));
    let Some(rest) = text.strip_prefix('/') else {
        return wrong(
            "is not a path",
            "begin it with `/`, such as \"/hooks/github\"",
        );
    };
    if text.contains(['?', '#']) {
        return wrong(
            "has more than a path",
            "leave out `?`, `#` and what follows: events carry the query",
        );
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return wrong(
            "is not a path",
            "percent-encode what is no visible ASCII character, such as %20 for a space",
        );
    }
    let segments: Vec<&str> = rest.split('/').collect();
    let mut names: Vec<String> = Vec::new();
    for (n, segment) in segments.iter().enumerate() {
        let is_last = n + 1 == segments.len();
        if segment.is_empty() && !is_last {
            return wrong("has an empty segment", "leave one `/` between two segments");
        }
        if !segment.contains(['{', '}']) {
            continue;
        }
        let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
        let Some(name) = name else {
            return wrong(
                "has braces inside a segment",
                "let a parameter be a whole segment, such as \"/orders/{id}\"",
            );
        };
        let plain = match name.strip_prefix('*') {
            Some(_) if !is_last => {
                return wrong("goes on after all the rest", "put {*name} at the end");
            }
            Some(name) => name,
            None => name,
        };
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if plain.is_empty() || !plain.bytes().all(allowed) {
            return wrong(
                "has a parameter without a proper name",
                "name it with letters, digits, `_` and `-`, such as {id}",
            );
        }
        // It becomes the name of a header, where case does not count.
        if names.contains(&plain.to_ascii_lowercase()) {
            return wrong(
                "names two parameters the same",
                "give each its own name; case does not count",
            );
        }
        names.push(plain.to_ascii_lowercase());
    }
    Ok(())
}

fn host_port(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| {
        let plain = !host.is_empty() && !host.contains([':', '/', '@', ' ']);
        let bracketed = host.starts_with('[') && host.ends_with(']');
        (plain || bracketed) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
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
