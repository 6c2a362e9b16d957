//! The values of the file without parts: strings, numbers, dates. The patterns of filters are in `patterns`.

use toml::de::DeValue;

use crate::{
    brokers, http,
    keys::{Key, Kind, quoted_list},
    paths,
    reference::Text,
    sink::{Draft, Span},
    suggest,
    tree::Value,
    values::{self, Wrong},
    walk::Walk,
};

/// The value of this kind, or what is wrong with it; nothing, if it has another type altogether.
pub(crate) fn convert(
    walk: &mut Walk<'_, '_>,
    key: &Key,
    kind: Kind,
    span: &Span,
    value: &DeValue<'_>,
) -> Option<Result<Value, Wrong>> {
    Some(match (kind, value) {
        (Kind::Flag, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
        (Kind::Whole(least, most), DeValue::Integer(n)) => {
            values::whole(n.as_str(), n.radix(), least, most).map(Value::Whole)
        }
        (Kind::Instant, DeValue::Datetime(at)) => {
            values::instant(&at.to_string()).map(Value::Instant)
        }
        (Kind::Start, DeValue::Datetime(at)) => brokers::start(&at.to_string()),
        (Kind::Table | Kind::Named | Kind::Map | Kind::Headers, _) => return None,
        (Kind::List(..) | Kind::Patterns | Kind::PatternTree | Kind::Filters, _) => return None,
        (Kind::Flag | Kind::Whole(..), _) => return None,
        (_, DeValue::String(text)) => string(walk, key, kind, span, text),
        _ => return None,
    })
}

fn string(
    walk: &mut Walk<'_, '_>,
    key: &Key,
    kind: Kind,
    span: &Span,
    text: &str,
) -> Result<Value, Wrong> {
    if matches!(
        kind,
        Kind::Text | Kind::Secret | Kind::Journal | Kind::HttpUrl | Kind::AmqpUrl
    ) {
        return reference(walk, key, kind, span, text);
    }
    if text.contains("${env:") || text.contains("${file:") {
        return Err(Wrong::new(
            "takes no references",
            format!("{}, written out", kind.expected()),
            "write the value itself: `${env:}` and `${file:}` are for env, secrets, admin_token and connections",
        ));
    }
    match kind {
        Kind::Duration(least, most) => values::duration(text, least, most).map(Value::Duration),
        Kind::Size(least, most) => values::size(text, least, most).map(Value::Whole),
        Kind::Word(words) | Kind::WordOrTable(words) => word(words, text),
        Kind::Path => paths::resolve(&walk.base, text).map(Value::Path),
        Kind::BucketUrl => paths::store(&walk.base, text).map(Value::Store),
        Kind::Address => values::address(text).map(Value::Address),
        Kind::Instant => values::instant(text).map(Value::Instant),
        Kind::Rate => values::rate(text).map(Value::Rate),
        Kind::Start => brokers::start(text),
        Kind::Order if matches!(text, "partition" | "none") => Ok(Value::String(text.to_owned())),
        Kind::Selector | Kind::Order => values::selector(kind, text).map(Value::Selector),
        _ => {
            taken_literally(walk, kind, span, text);
            values::string(kind, text).map(|()| Value::String(text.to_owned()))
        }
    }
}

fn word(words: &[&str], text: &str) -> Result<Value, Wrong> {
    if words.contains(&text) {
        return Ok(Value::String(text.to_owned()));
    }
    let all = quoted_list(words.iter(), "or");
    let help = match suggest::closest(text, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write {all}"),
    };
    Err(Wrong::new("has an unknown value", all, help))
}

/// A string with references. Whatever of it stands in the file is kept from being shown if it is, or
/// may hold, a secret.
fn reference(
    walk: &mut Walk<'_, '_>,
    key: &Key,
    kind: Kind,
    span: &Span,
    text: &str,
) -> Result<Value, Wrong> {
    if kind == Kind::Journal && text == "sqlite" {
        return Ok(Value::String(text.to_owned()));
    }
    let parsed = Text::parse(text, &walk.base);
    if kind != Kind::Text && parsed.as_ref().map_or(true, Text::has_literal) {
        walk.sink.secret(span.clone());
    }
    let parsed = parsed.map_err(|malformed| {
        let at = text[..malformed.span.start].chars().count() + 1;
        let verdict = format!("holds {} (at its character {at})", malformed.found);
        Wrong::new(verdict, "${env:NAME} or ${file:PATH}", malformed.help)
    })?;
    // What the user named may well be empty; a token or a key that is empty lets everybody in.
    if kind == Kind::Secret && key.name() != "*" && parsed.is_empty() {
        let help = "write it, or refer to it: \"${env:NAME}\" or \"${file:/run/secrets/name}\"";
        return Err(Wrong::new("is empty", "a secret", help));
    }
    if kind == Kind::Journal
        && !["postgres://", "postgresql://"]
            .iter()
            .any(|s| text.starts_with(s))
    {
        let help = "write \"sqlite\", or \"postgres://user@host/db\" for several nodes";
        return Err(Wrong::new("is not a journal", kind.expected(), help));
    }
    if kind == Kind::HttpUrl {
        http::url(text)?;
    }
    if kind == Kind::AmqpUrl {
        brokers::amqp_url(&parsed)?;
    }
    Ok(Value::Text(parsed))
}

/// Warns of starts and ends of keys that look as if they meant something else.
fn taken_literally(walk: &mut Walk<'_, '_>, kind: Kind, span: &Span, text: &str) {
    let (what, plain) = match kind {
        Kind::Prefix => ("prefix", text.trim_start_matches('/').trim_end_matches('*')),
        Kind::Suffix => ("suffix", text.trim_start_matches('*')),
        _ => return,
    };
    if text.contains('*') {
        let message = format!("`*` in a {what} stands for itself");
        let label = format!("expected a plain {what}, found what looks like a pattern");
        let help = if plain.is_empty() || plain.contains('*') {
            format!("write a plain {what}; the other end is free by itself")
        } else {
            format!("write \"{plain}\"; the other end is free by itself")
        };
        walk.sink
            .add(Draft::error(span.clone(), message, label, help).warning());
    } else if kind == Kind::Prefix && text.starts_with('/') {
        let message = "object keys do not start with `/`";
        let label = "expected the start of a key, found `/`";
        let help = format!("write \"{plain}\"");
        walk.sink
            .add(Draft::error(span.clone(), message, label, help).warning());
    }
}
