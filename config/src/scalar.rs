//! The values of the file that are no tables of keys: strings, numbers, patterns.

use toml::de::{DeArray, DeTable, DeValue};

use crate::{
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
            values::string(kind, &at.to_string()).map(|()| Value::Checked)
        }
        (Kind::Patterns, DeValue::Array(array)) => patterns(array).map(|()| Value::Checked),
        (Kind::PatternTree, DeValue::Table(table)) => pattern_tree(table).map(|()| Value::Checked),
        (Kind::Any, _) => Ok(Value::Checked),
        (Kind::Table | Kind::Named | Kind::Map | Kind::Flag | Kind::Whole(..), _) => return None,
        (Kind::List(..) | Kind::Patterns | Kind::PatternTree, _) => return None,
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
    if matches!(kind, Kind::Text | Kind::Secret | Kind::Journal) {
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

fn pattern_tree(table: &DeTable<'_>) -> Result<(), Wrong> {
    table.values().try_for_each(|value| {
        let checked = match value.get_ref() {
            DeValue::Table(table) => pattern_tree(table),
            DeValue::Array(array) => patterns(array),
            _ => Err(not_a_pattern("put the value in a list, such as [\"t-1\"]")),
        };
        checked.map_err(|wrong| at(wrong, value.span()))
    })
}

/// The problem at this part of the value, unless it is at a part of that already.
fn at(wrong: Wrong, span: Span) -> Wrong {
    Wrong {
        at: wrong.at.or(Some(span)),
        ..wrong
    }
}

fn patterns(array: &DeArray<'_>) -> Result<(), Wrong> {
    if array.is_empty() {
        return Err(not_a_pattern(
            "an empty list matches nothing: remove the key",
        ));
    }
    array.iter().try_for_each(|element| {
        let checked = match element.get_ref() {
            DeValue::Table(table) => pattern(table),
            DeValue::Array(_) | DeValue::Datetime(_) => Err(not_a_pattern(
                "write values, { prefix = \"t-\" } or { numeric = [\">\", 40] }",
            )),
            _ => Ok(()),
        };
        checked.map_err(|wrong| at(wrong, element.span()))
    })
}

fn pattern(table: &DeTable<'_>) -> Result<(), Wrong> {
    let mut entries = table
        .iter()
        .map(|(name, value)| (name.get_ref().as_ref(), value.get_ref()));
    match (entries.next(), entries.next()) {
        (Some(("prefix", DeValue::String(_))), None) => Ok(()),
        (Some(("numeric", DeValue::Array(array))), None) if numeric(array) => Ok(()),
        (Some(("numeric", _)), None) => Err(not_a_pattern(
            "write numeric = [\">\", 40] or numeric = [\">=\", 0, \"<\", 10], with <, <=, =, >= and >",
        )),
        _ => Err(not_a_pattern(
            "a pattern is { prefix = \"t-\" } or { numeric = [\">\", 40] }",
        )),
    }
}

/// Whether it is one or two pairs of a comparison and a number.
fn numeric(array: &DeArray<'_>) -> bool {
    let pairs: Vec<_> = array.iter().collect();
    let pair = |pair: &[&toml::Spanned<DeValue<'_>>]| {
        let operator = pair[0].get_ref().as_str();
        let number = pair[1].get_ref();
        operator.is_some_and(|text| ["<", "<=", "=", ">=", ">"].contains(&text))
            && (number.is_integer() || number.is_float())
    };
    matches!(pairs.len(), 2 | 4) && pairs.chunks(2).all(pair)
}

fn not_a_pattern(help: &str) -> Wrong {
    Wrong::new("is not a filter", Kind::Patterns.expected(), help)
}
