//! What pages of other origins may do, told to their browsers. It keeps nobody out who is no
//! browser: that is what `verify` is for.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    header::{self, HeaderValue},
    http::request::Parts,
};
use tidemill_config::plan::Cors;

use super::route::Path;

/// Whether a browser asks if it may send a request.
pub(super) fn is_preflight(request: &Parts) -> bool {
    request.method == Method::OPTIONS
        && request.headers.contains_key(header::ORIGIN)
        && request
            .headers
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight, but for the origin, which [`mark`] adds.
pub(super) fn preflight(path: &Path, cors: &Cors, asked: &HeaderMap) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let names =
        HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers");
    headers.insert(header::VARY, names);
    if allowed(cors, asked).is_none() {
        return response;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, path.allow());
    // A `*` of ours would leave out `authorization`, so what was asked for is said again.
    let names = if cors.headers == ["*"] {
        asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned()
    } else {
        HeaderValue::try_from(cors.headers.join(", ")).ok()
    };
    if let Some(names) = names.filter(|names| !names.is_empty()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    let seconds = HeaderValue::from(cors.max_age.as_secs());
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, seconds);
    response
}

/// Says in a response whether the page that sent the request may read it.
pub(super) fn mark(cors: &Cors, asked: &HeaderMap, response: &mut HeaderMap) {
    if cors.origins != ["*"] {
        // Others get other answers.
        response.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    response.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    response.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
    let Some(origin) = allowed(cors, asked) else {
        return;
    };
    response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if cors.credentials {
        let yes = HeaderValue::from_static("true");
        response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    }
}

/// The origin to allow: that of the request, if it is one of the plan's.
fn allowed(cors: &Cors, asked: &HeaderMap) -> Option<HeaderValue> {
    let origin = asked.get(header::ORIGIN)?;
    if cors.origins == ["*"] {
        return Some(HeaderValue::from_static("*"));
    }
    let known = |allowed: &String| allowed.as_bytes() == origin.as_bytes();
    cors.origins.iter().any(known).then(|| origin.clone())
}
