//! Structured mode: all of an event in one JSON text.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::value::{RawValue, to_raw_value};
use tidemill_core::event::Event;

use super::{Broken, Draft, Message, STRUCTURED, header::attributes};

impl Draft {
    /// Reads a structured event. Whether it has all that an event needs, [`Draft::finish`] says.
    pub fn from_json(json: &[u8]) -> Result<Draft, Broken> {
        let members: BTreeMap<String, &RawValue> =
            serde_json::from_slice(json).map_err(|error| {
                match json.trim_ascii_start().first() {
                    Some(b'[') => Broken::Batch,
                    // It would show all of a string.
                    _ if error.is_data() => {
                        Broken::Json(format!("it is {}", kind(json.trim_ascii_start())))
                    }
                    _ => Broken::Json(error.to_string()),
                }
            })?;
        if members
            .get("specversion")
            .is_none_or(|value| value.get() == "null")
        {
            return Err(Broken::Missing("specversion"));
        }
        let mut draft = Draft::default();
        for (name, value) in &members {
            match name.as_str() {
                "data" | "data_base64" => {}
                _ => {
                    if let Some(value) = scalar(name, value)? {
                        draft.set(name, name, value)?;
                    }
                }
            }
        }
        let base64 = members
            .get("data_base64")
            .filter(|value| value.get() != "null");
        match (members.get("data"), base64) {
            (Some(_), Some(_)) => return Err(Broken::TwoData),
            (Some(data), None) => {
                let media_type = draft.datacontenttype.get_or_insert_with(|| JSON.into());
                draft.data = match is_json(media_type) {
                    true => Bytes::copy_from_slice(data.get().as_bytes()),
                    false => {
                        string("data", data, "a string, as its media type is not JSON")?.into()
                    }
                };
            }
            (None, Some(data)) => {
                let text = string("data_base64", data, BASE64)?;
                let data = BASE64_STANDARD.decode(&text);
                let data = data.map_err(|e| Broken::wrong("data_base64", e, BASE64))?;
                draft.data = data.into();
            }
            (None, None) => {}
        }
        Ok(draft)
    }
}

/// The event in structured mode: JSON. Of its headers only those go along that are attributes.
/// White space around JSON data is lost.
pub fn encode_structured(event: &Event) -> Message {
    let mut members: Vec<(&str, Box<RawValue>)> = attributes(event)
        .map(|(name, value)| (name, raw(&value)))
        .collect();
    if let Some(media_type) = &event.datacontenttype {
        members.push(("datacontenttype", raw(media_type)));
    }
    members.extend(data(event));
    let members = members
        .iter()
        .map(|(name, value)| format!("{}:{value}", raw(name)));
    let members: Vec<String> = members.collect();
    Message {
        content_type: Some(STRUCTURED.into()),
        headers: Vec::new(),
        body: format!("{{{}}}", members.join(",")).into(),
    }
}

/// The media type without its parameters, in lower case.
pub(super) fn essence(media_type: &str) -> String {
    let end = media_type.find(';').unwrap_or(media_type.len());
    media_type[..end].trim().to_ascii_lowercase()
}

const JSON: &str = "application/json";
const BASE64: &str = "a string of base64 with its padding";

fn data(event: &Event) -> Option<(&'static str, Box<RawValue>)> {
    if event.data.is_empty() {
        return None;
    }
    let text = std::str::from_utf8(&event.data).ok();
    if let (Some(media_type), Some(text)) = (&event.datacontenttype, text) {
        if !is_json(media_type) {
            return Some(("data", raw(text)));
        }
        if let Ok(json) = serde_json::from_str(text) {
            return Some(("data", json));
        }
    }
    Some(("data_base64", raw(&BASE64_STANDARD.encode(&event.data))))
}

/// Whether data of this media type is JSON.
fn is_json(media_type: &str) -> bool {
    let essence = essence(media_type);
    essence.ends_with("/json") || essence.ends_with("+json")
}

fn raw(text: &str) -> Box<RawValue> {
    to_raw_value(text).expect("a string is JSON always")
}

/// The text of an attribute, if it is set.
fn scalar(name: &str, value: &RawValue) -> Result<Option<String>, Broken> {
    let text = value.get();
    let standard = matches!(
        name,
        "specversion"
            | "id"
            | "source"
            | "type"
            | "subject"
            | "time"
            | "datacontenttype"
            | "dataschema"
    );
    match text.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => string(name, value, "a string").map(Some),
        _ if standard => Err(Broken::wrong(name, kind(text.as_bytes()), "a string")),
        Some(b't' | b'f') => Ok(Some(text.to_owned())),
        Some(b'-' | b'0'..=b'9') if !text.contains(['.', 'e', 'E']) => Ok(Some(text.to_owned())),
        _ => Err(Broken::wrong(
            name,
            kind(text.as_bytes()),
            "a string, a whole number, true or false",
        )),
    }
}

fn string(name: &str, value: &RawValue, expected: &'static str) -> Result<String, Broken> {
    let json = value.get();
    serde_json::from_str(json).map_err(|_| {
        let found = match json.starts_with('"') {
            true => "a string that is not Unicode",
            false => kind(json.as_bytes()),
        };
        Broken::wrong(name, found, expected)
    })
}

/// What a JSON text is, in words.
fn kind(json: &[u8]) -> &'static str {
    match json.first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ if json.iter().any(|b| b".eE".contains(b)) => "a number with a fraction or exponent",
        _ => "a number",
    }
}
