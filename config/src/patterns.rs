//! The patterns of filters: lists of values and patterns, and trees of fields that end in such lists.

use tidemill_core::{
    filter::{Comparison, Condition, Pattern, Scalar},
    selector::{Selector, Step},
};
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use crate::{keys::Kind, sink::Span, suggest, values::Wrong};

/// The names of patterns.
const NAMES: [&str; 7] = [
    "prefix",
    "suffix",
    "anything-but",
    "numeric",
    "exists",
    "wildcard",
    "ignore-case",
];

/// A list of values and patterns, of which one must match.
pub(crate) fn list(array: &DeArray<'_>) -> Result<Vec<Pattern>, Wrong> {
    if array.is_empty() {
        let help = "an empty list matches nothing: remove the key";
        return Err(not_a_pattern(help));
    }
    array.iter().map(|element| at(element, one)).collect()
}

/// The conditions of a tree of fields.
pub(crate) fn tree(table: &DeTable<'_>) -> Result<Vec<Condition>, Wrong> {
    let mut conditions = Vec::new();
    descend(table, &[], &mut conditions)?;
    Ok(conditions)
}

fn descend(
    table: &DeTable<'_>,
    above: &[Step],
    conditions: &mut Vec<Condition>,
) -> Result<(), Wrong> {
    for (name, value) in table {
        let mut steps = above.to_vec();
        steps.push(Step::Field(name.get_ref().to_string()));
        at(value, |inner| match inner {
            DeValue::Table(table) => descend(table, &steps, conditions),
            DeValue::Array(array) => {
                let patterns = list(array)?;
                let place = Selector::Json(steps.clone());
                conditions.push(Condition { place, patterns });
                Ok(())
            }
            _ => Err(not_a_pattern("put the value in a list, such as [\"t-1\"]")),
        })?;
    }
    Ok(())
}

/// What the function makes of the value; a problem is at this value, unless it is at a part of it.
fn at<'v, T>(
    value: &'v Spanned<DeValue<'v>>,
    read: impl FnOnce(&'v DeValue<'v>) -> Result<T, Wrong>,
) -> Result<T, Wrong> {
    let span: Span = value.span();
    read(value.get_ref()).map_err(|wrong| Wrong {
        at: wrong.at.or(Some(span)),
        ..wrong
    })
}

fn one(value: &DeValue<'_>) -> Result<Pattern, Wrong> {
    if let DeValue::Table(table) = value {
        return pattern(table);
    }
    scalar(value).map(Pattern::Equals).ok_or_else(|| {
        not_a_pattern("write values, { prefix = \"t-\" } or { numeric = [\">\", 40] }")
    })
}

fn scalar(value: &DeValue<'_>) -> Option<Scalar> {
    match value {
        DeValue::String(text) => Some(Scalar::String(text.to_string())),
        DeValue::Boolean(flag) => Some(Scalar::Flag(*flag)),
        _ => number(value).map(Scalar::Number),
    }
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(n) => {
            let whole = i128::from_str_radix(n.as_str(), n.radix()).ok()?;
            Some(whole as f64)
        }
        DeValue::Float(n) => n.as_str().parse().ok(),
        _ => None,
    }
}

fn pattern(table: &DeTable<'_>) -> Result<Pattern, Wrong> {
    let mut entries = table.iter();
    let (Some((name, value)), None) = (entries.next(), entries.next()) else {
        let help = "a pattern has one name, such as { prefix = \"t-\" }; write several as several";
        return Err(not_a_pattern(help));
    };
    at(value, |value| named(name, value))
}

fn named(name: &Spanned<std::borrow::Cow<'_, str>>, value: &DeValue<'_>) -> Result<Pattern, Wrong> {
    let text = |make: fn(String) -> Pattern| match value {
        DeValue::String(text) => Ok(make(text.to_string())),
        _ => Err(not_a_pattern("its value is a string")),
    };
    match name.get_ref().as_ref() {
        "prefix" => text(Pattern::Prefix),
        "suffix" => text(Pattern::Suffix),
        "wildcard" => text(Pattern::Wildcard),
        "ignore-case" => text(Pattern::IgnoreCase),
        "exists" => match value {
            DeValue::Boolean(wanted) => Ok(Pattern::Exists(*wanted)),
            _ => Err(not_a_pattern("write exists = true or exists = false")),
        },
        "numeric" => comparisons(value).map(Pattern::Numeric).ok_or_else(|| {
            not_a_pattern(
                "write numeric = [\">\", 40] or numeric = [\">=\", 0, \"<\", 10], with <, <=, =, >= and >",
            )
        }),
        "anything-but" => but(value).map(Pattern::AnythingBut),
        unknown => {
            let near = match unknown {
                "equals-ignore-case" => Some("ignore-case"),
                _ => suggest::closest(unknown, NAMES),
            };
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the patterns are {}", NAMES.join(", ")),
            };
            let wrong = Wrong::new("has an unknown pattern", Kind::Patterns.expected(), help);
            Err(Wrong {
                at: Some(name.span()),
                ..wrong
            })
        }
    }
}

/// What is excluded: a value, several, or a pattern of text.
fn but(value: &DeValue<'_>) -> Result<Vec<Pattern>, Wrong> {
    let excluded = match value {
        DeValue::Array(array) => list(array)?,
        value => vec![one(value)?],
    };
    let nested =
        |pattern: &Pattern| matches!(pattern, Pattern::AnythingBut(_) | Pattern::Exists(_));
    if excluded.iter().any(nested) {
        let help = "anything-but takes values, prefix, suffix, wildcard, ignore-case and numeric";
        return Err(not_a_pattern(help));
    }
    Ok(excluded)
}

/// One or two pairs of a comparison and a number.
fn comparisons(value: &DeValue<'_>) -> Option<Vec<(Comparison, f64)>> {
    let DeValue::Array(array) = value else {
        return None;
    };
    let parts: Vec<_> = array.iter().map(Spanned::get_ref).collect();
    if !matches!(parts.len(), 2 | 4) {
        return None;
    }
    let pair = |pair: &[&DeValue<'_>]| {
        let comparison = match pair[0].as_str()? {
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            "=" => Comparison::Equal,
            ">=" => Comparison::GreaterOrEqual,
            ">" => Comparison::Greater,
            _ => return None,
        };
        Some((comparison, number(pair[1])?))
    };
    parts.chunks(2).map(pair).collect()
}

fn not_a_pattern(help: &str) -> Wrong {
    Wrong::new("is not a filter", Kind::Patterns.expected(), help)
}
