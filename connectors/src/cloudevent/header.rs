//! Binary mode: attributes as headers.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use tidemill_core::{
    event::{Event, Field},
    time::Timestamp,
};

use super::{Binding, Broken, Draft, EXTENSION, Message, broken::Shown, draft::is_name};

/// What a header of HTTP cannot hold as it is, besides all that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The attributes of a message, and the headers that are none.
pub(super) fn decode(binding: Binding, message: Message) -> Result<(Draft, Vec<Field>), Broken> {
    let mut draft = Draft {
        data: message.body,
        ..Draft::default()
    };
    let mut others = Vec::new();
    let mut versioned = false;
    for (at, value) in message.headers {
        let name = binding.attribute(&at);
        versioned |= name.as_deref() == Some("specversion");
        match name.as_deref() {
            None => others.push((at, value)),
            // The content type says it.
            Some("datacontenttype") => {}
            Some(name) if binding.percent => draft.set(name, &at, unescape(&at, &value)?)?,
            Some(name) => draft.set(name, &at, value)?,
        }
    }
    if !versioned {
        return Err(Broken::Missing("specversion"));
    }
    if let Some(content_type) = message.content_type {
        draft.set("datacontenttype", "content-type", content_type)?;
    }
    Ok((draft, others))
}

/// The attributes of an event but for its content type.
pub(super) fn encode(binding: Binding, event: &Event) -> Vec<Field> {
    let prefix = binding.prefixes[0];
    let header = |(name, value): (&str, Cow<'_, str>)| {
        let value = match binding.percent {
            true => utf8_percent_encode(&value, ENCODED).to_string(),
            false => value.into_owned(),
        };
        (format!("{prefix}{name}"), value)
    };
    attributes(event).map(header).collect()
}

/// All attributes of an event but for its content type, each once.
pub(super) fn attributes(event: &Event) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let known = [
        ("specversion", Some("1.0".into())),
        ("id", Some(event.id.as_str().into())),
        ("source", Some(event.source.as_str().into())),
        ("type", Some(event.kind.as_str().into())),
        ("subject", event.subject.as_deref().map(Cow::from)),
        ("time", written(event.time).map(Cow::from)),
        ("traceparent", event.traceparent.as_deref().map(Cow::from)),
    ];
    let known = known
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut seen = Vec::new();
    let extensions = event.headers.iter().filter_map(move |(name, value)| {
        let name = name.strip_prefix(EXTENSION)?;
        let hidden = name == "traceparent" && event.traceparent.is_some();
        if !is_name(name) || hidden || seen.contains(&name) {
            return None;
        }
        seen.push(name);
        Some((name, value.as_str().into()))
    });
    known.chain(extensions)
}

/// The time, if RFC 3339 has a way to write it: its years have four digits.
fn written(time: Timestamp) -> Option<String> {
    let text = time.to_string();
    let year = text.split('-').next().unwrap_or_default();
    (year.len() == 4 && text.ends_with('Z')).then_some(text)
}

/// The text in the value of a header: quotes, which older senders write, and then percent signs are
/// resolved.
fn unescape(at: &str, value: &str) -> Result<String, Broken> {
    let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    let text = match quoted {
        None => Cow::Borrowed(value),
        Some(quoted) => {
            let mut text = String::with_capacity(quoted.len());
            let mut chars = quoted.chars();
            while let Some(c) = chars.next() {
                text.extend(if c == '\\' { chars.next() } else { Some(c) });
            }
            Cow::Owned(text)
        }
    };
    match percent_decode_str(&text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(Broken::wrong(
            at,
            Shown(value),
            "percent-encoded UTF-8, such as \"caf%C3%A9\"",
        )),
    }
}
