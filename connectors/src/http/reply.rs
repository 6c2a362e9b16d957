//! What a client that waits is answered: the handler's reply, or why there is none.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use tidemill_core::{event, intake::Answer, outcome::Reply};

use super::refusal::{self, Refusal};

/// Headers that belong to one connection and not to the message, besides those that begin with
/// `proxy-`.
const HOP_BY_HOP: [&str; 6] = [
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The response to a request for `trigger`.
pub(super) fn answer(trigger: &str, answer: Answer) -> Result<Response<Full<Bytes>>, Refusal> {
    Err(match answer {
        Answer::Replied(reply) | Answer::Stored(reply) => return replied(trigger, reply),
        Answer::Unmatched => return replied(trigger, Reply::default()),
        Answer::InFlight => Refusal::new(
            StatusCode::CONFLICT,
            "a request with the same id is under way; send this one again when that is over",
        )
        .after(1),
        Answer::Reused => refusal::reused(),
        Answer::Retry(after) => {
            let seconds = after.map_or(1, |after| after.as_millis().div_ceil(1000).max(1));
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the handler cannot answer now; send the request again later",
            )
            .after(u64::try_from(seconds).unwrap_or(u64::MAX))
        }
        Answer::Rejected { reason } => Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("the handler rejects the request: {reason}"),
        ),
        Answer::Timeout => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            "the handler took longer than it may",
        ),
        Answer::Failed(id) => Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the handler failed; the engine's log says how, under this id",
        )
        .about(id),
    })
}

fn replied(trigger: &str, reply: Reply) -> Result<Response<Full<Bytes>>, Refusal> {
    let status = match reply.status {
        None if reply.body.is_empty() => StatusCode::NO_CONTENT,
        None => StatusCode::OK,
        Some(code) => {
            let status = StatusCode::from_u16(code).ok();
            let last = |status: &StatusCode| !status.is_informational();
            status.filter(last).ok_or_else(|| {
                tracing::warn!(
                    trigger,
                    code,
                    "the handler replied with a status that is none"
                );
                Refusal::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!(
                        "the handler did its work, but replied with status {code}, which is none"
                    ),
                )
            })?
        }
    };
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if bodiless { Bytes::new() } else { reply.body };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    for (name, value) in reply.headers {
        let name = name.to_ascii_lowercase();
        if is_of_the_connection(&name) || name.starts_with(event::OWN) {
            continue;
        }
        match (HeaderName::try_from(&name), HeaderValue::try_from(&value)) {
            (Ok(name), Ok(value)) => {
                response.headers_mut().append(name, value);
            }
            // The value may be a secret.
            _ => tracing::warn!(
                trigger,
                name,
                "the handler replied with a header that is none; it is left out"
            ),
        }
    }
    Ok(response)
}

/// Whether a header is about the connection, or about how the body went through it.
pub(super) fn is_of_the_connection(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
        || name.starts_with("proxy-")
        || name == header::CONTENT_LENGTH
        || name == header::EXPECT
}
