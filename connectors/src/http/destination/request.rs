//! The request that an event becomes.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request,
    header::{self, HeaderName, HeaderValue},
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tidemill_core::{
    event::{self, Event},
    limits,
};

use crate::cloudevent::{self, Binding};

use super::target::Target;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const TRACEPARENT: &str = "traceparent";

/// What a header cannot hold, besides all that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

pub(super) fn request(target: &Target, event: &Event) -> Request<Full<Bytes>> {
    let message = cloudevent::encode_binary(Binding::HTTP, event);
    let mut headers = target.headers.clone();
    let agent = HeaderValue::from_static(concat!("tidemill/", env!("CARGO_PKG_VERSION")));
    headers.entry(header::USER_AGENT).or_insert(agent);
    for (name, value) in &message.headers {
        put(&mut headers, name, value);
    }
    if let Some(media_type) = &message.content_type {
        put(&mut headers, header::CONTENT_TYPE.as_str(), media_type);
    }
    if let Some(traceparent) = &event.traceparent {
        put(&mut headers, TRACEPARENT, traceparent);
    }
    // The client leaves it out if the body is empty, and then some servers refuse.
    headers.insert(header::CONTENT_LENGTH, message.body.len().into());
    put(&mut headers, IDEMPOTENCY_KEY, &encoded(&event.id));
    put(&mut headers, event::HOPS, &event.hops.to_string());
    let own = |(name, _): &&event::Field| name.starts_with(event::OWN);
    for (name, value) in event.headers.iter().filter(own) {
        put(&mut headers, name, &encoded(cut(value)));
    }
    let mut request = Request::new(Full::new(message.body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.uri.clone();
    *request.headers_mut() = headers;
    request
}

/// Adds a header, if it is a legal one and is not there.
fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        headers.entry(name).or_insert(value);
    }
}

fn encoded(value: &str) -> String {
    utf8_percent_encode(value, ENCODED).to_string()
}

/// The start of a value that is not too long to be sent.
fn cut(value: &str) -> &str {
    let mut sent = 0;
    for (at, c) in value.char_indices() {
        let mut utf8 = [0; 4];
        sent += encoded(c.encode_utf8(&mut utf8)).len();
        if sent > limits::SENT_HEADER {
            return &value[..at];
        }
    }
    value
}
