//! Secrets in a file that does not parse. There the walk does not see all of them, so whatever looks
//! like one is kept from being shown, line by line; too much rather than too little.

use crate::{sink::Sink, suggest};

/// In a file that does not parse, whatever looks like a secret is kept from being shown.
pub(crate) fn secrets(sink: &mut Sink<'_>) {
    // Whether the section is about secrets, and what ends a value of many lines that is.
    let mut section = false;
    let mut until: Option<&str> = None;
    for (start, line) in lines(sink.text()) {
        if let Some(end) = until {
            sink.secret(start..start + line.len());
            if line.contains(end) {
                until = None;
            }
            continue;
        }
        if is_header(line) {
            section = suggest::speaks_of_secrets(line.split(']').next().unwrap_or_default());
        }
        let Some(at) = line
            .find('=')
            .filter(|_| section || suggest::speaks_of_secrets(line))
        else {
            continue;
        };
        let value = line[at + 1..].trim_start();
        sink.secret(start + line.len() - value.len()..start + line.trim_end().len());
        let opens = |quote: &str| value.matches(quote).count() % 2 == 1;
        until = match value {
            _ if opens("\"\"\"") => Some("\"\"\""),
            _ if opens("'''") => Some("'''"),
            _ if value.contains('{') && !value.contains('}') => Some("}"),
            _ if value.contains('[') && !value.contains(']') => Some("]"),
            _ => None,
        };
    }
}

/// The lines of the text with their newlines, each with its first byte.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |start, line| {
        let at = *start;
        *start += line.len();
        Some((at, line))
    })
}

pub(crate) fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}
