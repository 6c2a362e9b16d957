//! What the strings of the file mean: durations, sizes, addresses, names and the like. Those of HTTP
//! are in `http`.
//!
//! Everything here is a function of the string alone. Where a value stands and how its problem is
//! shown is the business of `walk`.

use std::{net::SocketAddr, time::Duration};

use bytesize::ByteSize;

use tidemill_core::{
    limits::RATE_COUNT,
    rate::Rate,
    schedule::Cron,
    selector::{Attribute, Selector},
    time::Timestamp,
};

use crate::{
    brokers, http,
    keys::{Kind, join},
    suggest,
    words::shorten,
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
        Kind::Cron => cron(text),
        Kind::Zone => zone(text),
        Kind::ObjectKey => object_key(text),
        Kind::HostPort => http::host_port(text),
        Kind::HttpPath => http::path(text),
        Kind::HeaderName => http::header_name(text),
        Kind::Origin => http::origin(text),
        Kind::Queue | Kind::ShortString => brokers::short(kind, text),
        Kind::Broker => brokers::broker(text),
        Kind::Topic => brokers::topic(text),
        _ => Ok(()),
    }
}

/// A cron expression. The time zone has no part in what is wrong with one.
fn cron(text: &str) -> Result<(), Wrong> {
    match Cron::parse(text, "UTC") {
        Ok(_) => Ok(()),
        Err(error) => Err(Wrong::new(
            "is not a cron expression",
            Kind::Cron.expected(),
            error.to_string(),
        )),
    }
}

/// The name of a time zone.
fn zone(text: &str) -> Result<(), Wrong> {
    if Cron::zones().any(|zone| zone == text) {
        return Ok(());
    }
    // Many know the city alone.
    let named = text.trim().replace(' ', "_");
    let city = |zone: &&str| {
        let city = zone.rsplit_once('/').map(|(_, city)| city);
        city.is_some_and(|city| city.eq_ignore_ascii_case(&named))
    };
    let near = suggest::closest(text, Cron::zones()).or_else(|| Cron::zones().find(city));
    let help = match near {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "write a name such as \"Europe/Berlin\", \"America/New_York\" or \"UTC\"".into(),
    };
    Err(Wrong::new(
        "is not a time zone",
        Kind::Zone.expected(),
        help,
    ))
}

/// A place in an event.
pub(crate) fn selector(kind: Kind, text: &str) -> Result<Selector, Wrong> {
    let wrong = |help: String| Wrong::new("is not a selector", kind.expected(), help);
    match text.parse() {
        Ok(Selector::Header(name)) if http::header_name(&name).is_err() => Err(wrong(
            "behind `header:` write the name of a header, such as \"header:Order-Id\"".into(),
        )),
        Ok(selector) => Ok(selector),
        Err(_) => Err(wrong(selector_help(kind, text))),
    }
}

fn selector_help(kind: Kind, text: &str) -> String {
    let attributes = || Attribute::ALL.iter().map(|(name, _)| *name);
    if let Some(name) = text.strip_prefix("attr:") {
        return match suggest::closest(name, attributes()) {
            Some(near) => format!("did you mean \"attr:{near}\"?"),
            None => format!(
                "the attributes are {}",
                join(attributes().map(str::to_owned), "and")
            ),
        };
    }
    if let Some(path) = text.strip_prefix('$') {
        return path_help(path);
    }
    let field = format!("$.{text}");
    if attributes().any(|name| name == text) {
        format!("write \"attr:{text}\" for the attribute, or \"{field}\" for a field of the data")
    } else if field.parse::<Selector>().is_ok() {
        format!("did you mean \"{field}\"?")
    } else if kind == Kind::Order {
        "write it like \"$.customer\", \"header:Customer\" or \"attr:subject\"".into()
    } else {
        "write it like \"$.order_id\", \"header:Order-Id\" or \"attr:subject\"".into()
    }
}

/// What is wrong with a path into JSON, the `$` left out.
fn path_help(path: &str) -> String {
    let plain = |name: &str| {
        let letter = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        !name.is_empty() && name.chars().all(letter)
    };
    let bracket = path.split_once('[').map(|(_, rest)| rest);
    let end = bracket.map(|rest| rest.split_once(']'));
    if path.is_empty() {
        "name a field behind `$`, such as \"$.order_id\"".into()
    } else if path.contains("..") || path.contains(['*', '?']) {
        "a path leads to one place: leave out `..`, `*` and `?`, and name each field, or an element by \
         its number: \"$.items[0].id\""
            .into()
    } else if path.ends_with('.') {
        "leave out the `.` at its end, or name the field behind it".into()
    } else if plain(path) {
        format!("did you mean \"$.{path}\"?")
    } else if end == Some(None) {
        "close the `[` with a `]`".into()
    } else if bracket.is_some() {
        "in brackets stands the number of an element, or a name in quotes: \"$.items[0].id\", \
         '$[\"order id\"]'"
            .into()
    } else {
        let names = path.trim_start_matches('.').split('.');
        let step = |name: &str| match plain(name) {
            true => format!(".{name}"),
            false => format!("[\"{}\"]", name.escape_default()),
        };
        let steps: String = names.map(step).collect();
        format!(
            "a name of other characters than letters, digits, `_` and `-` stands in brackets: '${}'",
            shorten(&steps)
        )
    }
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

/// What the key of an object may hold in braces.
const PLACEHOLDERS: &[&str] = &["trigger", "id", "subject", "type", "date"];

/// The key of an object, of which the placeholders make another for each.
fn object_key(text: &str) -> Result<(), Wrong> {
    let wrong =
        |verdict: &str, help: &str| Err(Wrong::new(verdict, Kind::ObjectKey.expected(), help));
    if text.is_empty() {
        return wrong("is empty", "write it like \"{trigger}/{id}\"");
    }
    if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let help = "leave out `/` at both ends, `//`, and parts that are `.` or `..`";
        return wrong("is not the key of an object", help);
    }
    for part in text.split('{').skip(1) {
        let Some((name, _)) = part.split_once('}') else {
            return wrong("has a placeholder without its end", "close it with `}`");
        };
        if PLACEHOLDERS.contains(&name) {
            continue;
        }
        let help = match suggest::closest(name, PLACEHOLDERS.iter().copied()) {
            Some(near) => format!("did you mean {{{near}}}?"),
            None => {
                let all = PLACEHOLDERS.iter().map(|name| format!("{{{name}}}"));
                format!("the placeholders are {}", join(all, "and"))
            }
        };
        return wrong("has an unknown placeholder", &help);
    }
    if !text.contains("{id}") && !text.contains("{subject}") {
        let help = "add {id}, or each object would replace the one before";
        return wrong("is the same for all", help);
    }
    Ok(())
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
