//! The event that a request becomes.
//!
//! A request that is a CloudEvent keeps the attributes it has; any other gets them from its path and
//! headers.

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode, header, http::request::Parts};
use tidemill_core::{
    event::{self, Event, Field},
    limits,
};
use ulid::Ulid;

use crate::{
    clock,
    cloudevent::{self, Binding, Broken, Decoded, Message},
};

use super::{
    refusal::Refusal,
    reply::is_of_the_connection,
    route::{Path, single},
    verify::Verifier,
};

const CONTENT_TYPE: &str = "content-type";

/// The longest id that a client may give, in bytes.
const ID: usize = 255;

/// What the engine itself needs of a request's headers.
pub(super) struct Told {
    /// The id that the client gave.
    id: Option<String>,
    hops: u32,
    parameters: Vec<Field>,
}

/// Reads and checks it, before the body is there. `parameters` are those of the path, as headers.
pub(super) fn told(headers: &HeaderMap, parameters: Vec<Field>) -> Result<Told, Refusal> {
    Ok(Told {
        id: id(headers)?,
        hops: hops(headers)?,
        parameters,
    })
}

/// The event, and whether the client gave it its id.
pub(super) fn event(
    path: &Path,
    request: &Parts,
    told: Told,
    data: Bytes,
) -> Result<(Event, bool), Refusal> {
    let value = |name: &str| single(&request.headers, name).map(|value| text(value.as_bytes()));
    let message = Message {
        content_type: value(CONTENT_TYPE),
        headers: passed_on(path, &request.headers),
        body: data,
    };
    let now = clock::now();
    let (mut event, stable) = match cloudevent::decode(Binding::HTTP, message, now)? {
        Decoded::Event(event) => (event, true),
        Decoded::Plain(message) => {
            let mut headers = message.headers;
            if let Some(content_type) = &message.content_type {
                headers.push((CONTENT_TYPE.to_owned(), content_type.clone()));
            }
            let stable = told.id.is_some();
            let event = Event {
                id: told.id.unwrap_or_else(|| Ulid::generate().to_string()),
                source: path.source.clone(),
                kind: "http.request".to_owned(),
                subject: Some(request.uri.path().to_owned()),
                time: now,
                datacontenttype: message.content_type,
                traceparent: None,
                hops: 0,
                headers,
                data: message.body,
            };
            (event, stable)
        }
    };
    event.hops = told.hops;
    if event.traceparent.is_none() {
        let given = value("traceparent");
        event.traceparent = given.filter(|text| cloudevent::traceparent(text).is_some());
    }
    let mut own = vec![(event::METHOD.to_owned(), request.method.to_string())];
    if let Some(query) = request.uri.query() {
        own.push((event::QUERY.to_owned(), query.to_owned()));
    }
    own.extend(told.parameters);
    event.headers.splice(..0, own);
    Ok((event, stable))
}

/// The headers of a request that its event has too, but for the content type.
fn passed_on(path: &Path, headers: &HeaderMap) -> Vec<Field> {
    let is_bearer = path.verifier.as_ref().is_some_and(Verifier::is_bearer);
    let mut passed = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let secret = is_bearer && name == header::AUTHORIZATION;
        let name = name.as_str();
        let stays = is_of_the_connection(name) || name.starts_with(event::OWN);
        if !secret && !stays && name != CONTENT_TYPE {
            passed.push((name.to_owned(), text(value.as_bytes())));
        }
    }
    passed
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Refusal {
        let status = match broken {
            Broken::Batch | Broken::Format(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::BAD_REQUEST,
        };
        Refusal::new(status, broken.to_string())
    }
}

/// The `Idempotency-Key`.
fn id(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    const NAME: &str = "idempotency-key";
    if !headers.contains_key(NAME) {
        return Ok(None);
    }
    let id = single(headers, NAME).map(|value| value.as_bytes().trim_ascii());
    let legal = |id: &&[u8]| (1..=ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    match id.filter(legal) {
        Some(id) => Ok(Some(text(id))),
        None => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!(
                "the header `Idempotency-Key` is not one; send it once, with 1 to {ID} visible ASCII characters"
            ),
        )),
    }
}

fn hops(headers: &HeaderMap) -> Result<u32, Refusal> {
    if !headers.contains_key(event::HOPS) {
        return Ok(0);
    }
    let hops = single(headers, event::HOPS).and_then(|value| value.to_str().ok());
    let hops = hops.and_then(|value| value.parse::<u32>().ok());
    // Beyond the last one, one is as good as another.
    hops.map(|hops| hops.min(limits::HOPS + 1)).ok_or_else(|| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("the header `{}` is not a number; leave it out", event::HOPS),
        )
    })
}

/// A header's value: UTF-8 if it is that, else Latin-1, which headers once were.
fn text(value: &[u8]) -> String {
    match str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().copied().map(char::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_of_any_bytes() {
        assert_eq!(text("Grüße".as_bytes()), "Grüße");
        assert_eq!(text(b"Gr\xfc\xdfe"), "Grüße");
    }
}
