//! Syntax errors: what the TOML parser says, in words that tell the next step, and what else they
//! make doubtful.

use toml::de::Error;

use crate::{
    hide::{self, is_header, lines},
    sink::{Draft, Sink, Span},
    suggest,
    words::shorten,
};

/// The most syntax errors that are looked at. Past so many this is no TOML, and to find the first of
/// two keys takes a look through the file.
const ERRORS: usize = 100;

/// How the parser's messages about numbers and the like begin.
const NUMBERS: &[&str] = &[
    "invalid mantissa",
    "invalid fraction",
    "invalid exponent",
    "invalid value",
    "invalid integer",
    "invalid float",
    "invalid date",
    "invalid time",
    "unexpected leading zero",
    "unexpected sign",
    "redundant ",
    "integers with",
    "radix must",
    "`_` may",
];

/// How much of the file an error makes doubtful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// What follows up to the next header, and that too: a list or a table did not end.
    Header,
    /// What follows up to the next header.
    Section,
    /// Its line, which may have held a key.
    Key,
    /// Its line.
    Line,
}

/// Adds the parser's errors.
pub(crate) fn report(sink: &mut Sink<'_>, errors: Vec<Error>) {
    if errors.is_empty() {
        return;
    }
    hide::secrets(sink);
    let end = sink.text().len();
    let mut explained: Vec<_> = errors
        .into_iter()
        .take(ERRORS)
        .map(|error| {
            let span = error.span().unwrap_or(end..end);
            let span = span.start.min(end)..span.end.min(end);
            let (draft, reach) = explain(sink, error.message(), span.clone());
            (sink.lines_of(&span), reach, draft)
        })
        .collect();
    // Of the errors of a line, the one that reaches farthest explains the others.
    explained.sort_by_key(|(line, reach, draft)| (line.start, *reach, draft.span.start));
    let text = sink.text();
    let headers: Vec<_> = lines(text).filter(|(_, line)| is_header(line)).collect();
    for (line, reach, draft) in explained {
        let next = headers.get(headers.partition_point(|(start, _)| *start < line.end));
        let end = match (reach, next) {
            (Reach::Line | Reach::Key, _) => line.end,
            (Reach::Section, Some((start, _))) => *start,
            (Reach::Header, Some((start, header))) => start + header.len(),
            (_, None) => usize::MAX,
        };
        sink.syntax(draft, line.start..end, reach != Reach::Line);
    }
}

/// The error in better words, and how far it reaches.
fn explain(sink: &Sink<'_>, message: &str, span: Span) -> (Draft, Reach) {
    let text = sink.text();
    let start = text[..span.start].rfind('\n').map_or(0, |n| n + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let found = text.get(span.clone()).unwrap_or_default();
    let error =
        |message: &str, label: &str, help: &str| Draft::error(span.clone(), message, label, help);
    let (description, expected) = message
        .split_once(", expected ")
        .unwrap_or((message, "valid TOML"));
    match description {
        "string values must be quoted" | "invalid boolean" => {
            (unquoted(sink, span, found), Reach::Line)
        }
        "duplicate key" => {
            let name = shorten(found);
            let label = "expected another key, found one that is there already";
            let draft = error(
                &format!("`{name}` is there twice"),
                label,
                "remove one of the two, or rename it",
            );
            match first_of(text, span.start) {
                Some(first) => (draft.with(first, "the first one is here"), Reach::Line),
                None => (draft, Reach::Line),
            }
        }
        "invalid basic string" | "invalid literal string" => {
            let (label, help) = if description.contains("basic") {
                (
                    "expected \", found the end of the line",
                    "end the string with \"",
                )
            } else {
                (
                    "expected ', found the end of the line",
                    "end the string with '",
                )
            };
            (error("a string has no end", label, help), Reach::Line)
        }
        "unclosed table" | "unclosed array table" => {
            let help = "end the header with `]`, such as [functions.thumbnail]";
            (
                error("a table header has no end", "expected `]`", help),
                Reach::Section,
            )
        }
        "key with no value" => {
            let help = match (line.contains(':'), line.contains('=')) {
                (true, false) => "write `=` in place of `:`",
                (_, true) => "put a key with spaces or other signs in quotes",
                _ => "write key = value",
            };
            (
                error("a key has no value", "expected `=`", help),
                Reach::Key,
            )
        }
        "unexpected `=` in array" => {
            let help = "close the list with `]` before this key";
            (
                error("a list has no end", "expected `,` or `]`, found `=`", help),
                Reach::Header,
            )
        }
        "unclosed array" => (
            error(
                "a list has no end",
                "expected `]`",
                "close the list with `]`",
            ),
            Reach::Header,
        ),
        "missing comma between array elements" => {
            let help = "write a `,` between the elements, or close the list with `]`";
            (
                error("a list is broken", "expected `,` or `]`", help),
                Reach::Header,
            )
        }
        "unclosed inline table" => (
            error(
                "a table has no end",
                "expected `}`",
                "close the table with `}`",
            ),
            Reach::Header,
        ),
        "missing comma between key-value pairs"
        | "extra assignment between key-value pairs"
        | "missing assignment between key-value pairs" => {
            let help = "write a `,` between the keys, or close the table with `}`";
            (
                error("a table is broken", "expected `,` or `}`", help),
                Reach::Header,
            )
        }
        "unexpected key or value" => {
            let help = "remove the rest of the line, or put the whole value in quotes";
            (
                error(
                    "something follows the value",
                    "expected the end of the line",
                    help,
                ),
                Reach::Line,
            )
        }
        "missing escaped value" | "too few unicode value digits" => {
            let help = "write `\\\\` for a backslash, or put the string in single quotes";
            (
                error(
                    "a backslash means nothing here",
                    &format!("expected {expected}"),
                    help,
                ),
                Reach::Line,
            )
        }
        "extra comma in array" | "extra comma in inline table" => (
            error(
                "a comma too many",
                "expected a value or a key",
                "remove the comma",
            ),
            Reach::Line,
        ),
        _ if NUMBERS.iter().any(|start| description.starts_with(start)) => {
            let help = "mend the number, or put it in quotes if it is text";
            let message = format!("a value is broken: {description}");
            (
                error(
                    &message,
                    "expected a number, a date or a string in quotes",
                    help,
                ),
                Reach::Line,
            )
        }
        _ => {
            let help = "https://toml.io tells what may stand here";
            (
                error(description, &format!("expected {expected}"), help),
                Reach::Section,
            )
        }
    }
}

/// A word without quotes where a value should be, or nothing at all.
fn unquoted(sink: &Sink<'_>, span: Span, found: &str) -> Draft {
    let before = &sink.text()[..span.start];
    let line = before.rsplit('\n').next().unwrap_or_default();
    // The key in front of it; an element of a list has none.
    let key = line
        .trim_end()
        .strip_suffix('=')
        .and_then(|line| line.rsplit(['{', ',']).next());
    let written = key.map_or(String::new(), |key| format!("{} = ", shorten(key.trim())));
    let secret = sink.is_secret(span.start) || suggest::userinfo(found).next().is_some();
    let word = shorten(found);
    let lower = found.trim().to_lowercase();
    let (message, label, help) = match lower.as_str() {
        "" => {
            let help = match key {
                Some(key) => format!("write the value of `{}`", shorten(key.trim())),
                None => "write the value".into(),
            };
            (
                "a value is missing",
                "expected a value, found nothing".into(),
                help,
            )
        }
        _ if secret => {
            let help = "put the value in quotes".into();
            (
                "a string has no quotes",
                "expected a string in quotes".into(),
                help,
            )
        }
        "true" | "false" => (
            "not a value",
            format!("expected true or false, found {word}"),
            format!("write {written}{lower}"),
        ),
        "yes" | "no" | "on" | "off" => {
            let flag = matches!(lower.as_str(), "yes" | "on");
            let help = format!("write {written}{flag}, or put it in quotes if it is text");
            (
                "not a value",
                format!("expected true or false, found {word}"),
                help,
            )
        }
        _ => {
            let label = format!("expected a string in quotes, found {word}");
            (
                "a string has no quotes",
                label,
                format!("write {written}\"{word}\""),
            )
        }
    };
    Draft::error(span, message, label, help)
}

/// The key that the one at `second` repeats: the same header, or the same key below the same header.
/// The parser knows, but does not tell.
fn first_of(text: &str, second: usize) -> Option<Span> {
    let start = text[..second].rfind('\n').map_or(0, |n| n + 1);
    let line = text[start..].lines().next()?;
    let header = is_header(line);
    let name = |line: &'_ str| {
        let end = if header {
            line.find('#')
        } else {
            line.find('=')
        };
        line[..end.unwrap_or(line.len())].trim().to_owned()
    };
    let wanted = name(line);
    let inside = line[..second - start].contains(['{', '=']);
    if wanted.is_empty() || inside {
        return None;
    }
    let from = match header {
        true => 0,
        false => lines(&text[..start])
            .filter(|(_, line)| is_header(line))
            .last()
            .map_or(0, |(at, _)| at),
    };
    let (at, first) = lines(&text[from..start]).find(|(_, line)| name(line) == wanted)?;
    let at = from + at + first.len() - first.trim_start().len();
    Some(at..at + wanted.len())
}
