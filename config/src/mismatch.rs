//! Values of the wrong type: what was found, and the line to write instead.

use toml::de::DeValue;

use crate::{
    keys::{Key, Kind},
    sink::{Draft, Span},
    suggest,
    words::{describe, shorten},
};

/// The value has not the type of its key.
pub(crate) fn problem(
    key: &Key,
    kind: Kind,
    trail: &[String],
    span: Span,
    value: &DeValue<'_>,
) -> Draft {
    let message = format!("{} has the wrong type", describe(trail));
    let label = format!("expected {}, found {}", kind.expected(), found(kind, value));
    Draft::error(span, message, label, help(key, kind, trail, value))
}

/// What was found, for a person; a secret is not shown.
pub(crate) fn found(kind: Kind, value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.is_empty() => "an empty string".into(),
        DeValue::String(_) if kind.is_secret() => "another string".into(),
        DeValue::String(url) if suggest::userinfo(url).next().is_some() => "another URL".into(),
        DeValue::Array(array) if array.is_empty() => "an empty list".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
        _ if kind.is_secret() => "something else".into(),
        DeValue::String(text) => format!("\"{}\"", shorten(text)),
        DeValue::Integer(n) => format!("the number {}", shorten(&n.to_string())),
        DeValue::Float(n) => format!("the number {}", shorten(&n.to_string())),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date or time".into(),
    }
}

fn help(key: &Key, kind: Kind, trail: &[String], value: &DeValue<'_>) -> String {
    let scalar = match value {
        DeValue::Integer(n) => Some(shorten(&n.to_string())),
        DeValue::Float(n) => Some(shorten(&n.to_string())),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    };
    match (kind, value, scalar) {
        (Kind::Duration(..), DeValue::Integer(_), Some(n)) => {
            format!("add the unit, and quotes: \"{n}s\" for seconds, \"{n}ms\", \"{n}m\"")
        }
        (Kind::Size(..), DeValue::Integer(_), Some(n)) => {
            format!("add the unit, and quotes: \"{n}MiB\" or \"{n}KiB\"; bytes are \"{n}B\"")
        }
        (Kind::Secret, _, Some(_)) => "put it in quotes, or refer to it: \"${env:NAME}\"".into(),
        (Kind::Whole(..), DeValue::String(text), _) if text.parse::<u64>().is_ok() => {
            format!("remove the quotes: {} = {text}", key.name())
        }
        (Kind::Flag, DeValue::String(text), _) if matches!(text.as_ref(), "true" | "false") => {
            format!("remove the quotes: {} = {text}", key.name())
        }
        (Kind::List(..) | Kind::Patterns, DeValue::String(text), _) => {
            let (name, text) = (last(trail), shorten(text));
            format!("put it in brackets: {name} = [\"{text}\"]")
        }
        (Kind::Patterns, _, Some(scalar)) => {
            format!("put it in brackets: {} = [{scalar}]", last(trail))
        }
        (Kind::Patterns, DeValue::Datetime(at), _) => {
            format!(
                "put it in quotes and brackets: {} = [\"{at}\"]",
                last(trail)
            )
        }
        (Kind::Patterns, DeValue::Table(_), _) => {
            format!("put the pattern in brackets: {} = [{{ ... }}]", last(trail))
        }
        (Kind::Table | Kind::Named, DeValue::Array(array), _)
            if array.iter().all(|item| item.get_ref().is_table()) =>
        {
            format!("write [{}] with single brackets", trail.join("."))
        }
        (
            Kind::Text | Kind::Filled | Kind::Name | Kind::Queue | Kind::ShortString,
            _,
            Some(text),
        ) => {
            format!("put it in quotes: \"{text}\"")
        }
        // A key that the user chose, or an element of a list, has no line of its own.
        _ if key.name() == "*" => format!("write {} = {}", last(trail), key.example_value()),
        _ => format!("write {}", key.example()),
    }
}

fn last(trail: &[String]) -> String {
    trail.last().map(|name| shorten(name)).unwrap_or_default()
}
