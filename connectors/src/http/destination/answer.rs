//! What a server's answer, or its silence, means for the event, in words for whoever reads the history
//! of a delivery. A server is not trusted: what it says is read within limits and shown in part.

use std::{error::Error, fmt::Write, io, time::Duration};

use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName},
};
use tidemill_core::{destination::PublishError, limits};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::target::Target;

/// How much of an answer is shown, in bytes.
const SHOWN: usize = 200;

/// How long the rest of an answer is waited for when its status is known.
const REST: Duration = Duration::from_secs(5);

/// What the status says. The body is read to be shown, and so that the connection can be used again.
pub(super) async fn judge(
    target: &Target,
    response: Response<Incoming>,
    deadline: Instant,
) -> Result<(), PublishError> {
    let (head, body) = response.into_parts();
    let start = timeout_at(deadline.min(Instant::now() + REST), start(body));
    let (status, shown) = (head.status, &target.shown);
    if status.is_success() {
        // It has the event, whatever else it says.
        _ = start.await;
        return Ok(());
    }
    let start = start.await.unwrap_or_default();
    let mut text = format!("POST {shown} answered {status}");
    let passes = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    let field = |name| excerpt(target, value(&head.headers, name).as_bytes());
    if passes {
        let after = field(header::RETRY_AFTER);
        if !after.is_empty() {
            _ = write!(text, " (Retry-After: {after})");
        }
    } else if status.is_redirection() {
        text.push_str("; redirects are not followed");
        if let Some(to) = moved_to(target, value(&head.headers, header::LOCATION)) {
            _ = write!(text, ": if {to} is right, write it into the plan");
        }
    } else {
        text.push_str(", which another try would not change");
    }
    let said = excerpt(target, &start);
    if !said.is_empty() {
        _ = write!(text, "; it said: {said}");
    }
    Err(match passes {
        true => PublishError::Failed(text),
        false => PublishError::Rejected(text),
    })
}

/// No answer came in time.
pub(super) fn none(target: &Target) -> PublishError {
    PublishError::Failed(format!(
        "POST {} was not answered within {:?}; the server may have the event nevertheless, and gets it again under the same id",
        target.shown, target.timeout
    ))
}

/// The connection failed.
pub(super) fn broken(target: &Target, error: &(dyn Error + 'static)) -> PublishError {
    let mut text = format!("POST {} failed", target.shown);
    let mut untrusted = false;
    let mut cause = Some(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            _ = write!(text, ": {words}");
        }
        untrusted |= is_untrusted(error);
        cause = error.source();
    }
    if untrusted {
        text.push_str(
            "; if the server is the right one, add the authority of its certificate to the system's and start the engine again",
        );
    }
    PublishError::Failed(target.without_secrets(&text))
}

/// Whether the server's certificate was refused.
fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    // What is inside of an input or output error is not its source.
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(inner) => is_untrusted(inner),
        None => matches!(
            error.downcast_ref(),
            Some(rustls::Error::InvalidCertificate(_))
        ),
    }
}

/// The start of a body, to its end if it is short enough.
async fn start(mut body: Incoming) -> Vec<u8> {
    let mut start = Vec::new();
    while start.len() < limits::ANSWER {
        let Some(Ok(frame)) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame.into_data() {
            start.extend_from_slice(&data);
        }
    }
    start
}

fn value(headers: &HeaderMap, name: HeaderName) -> &str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// What of a text from outside is shown: its start, on one line, without the plan's secrets.
fn excerpt(target: &Target, text: &[u8]) -> String {
    let text = target.without_secrets(&String::from_utf8_lossy(text));
    let hidden = |c: char| c.is_control() || c.is_whitespace();
    let words = text.split(hidden).filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > SHOWN {
            line.truncate(line.floor_char_boundary(SHOWN));
            line.push_str("...");
            break;
        }
    }
    line
}

/// The address that a redirect leads to, without what may be secret in it.
fn moved_to(target: &Target, location: &str) -> Option<String> {
    let from = Url::parse(&target.uri.to_string()).ok()?;
    let to = from.join(location).ok().filter(|_| !location.is_empty())?;
    let origin = to.origin().ascii_serialization();
    let to = format!("{origin}{}", to.path());
    Some(excerpt(target, to.as_bytes()))
}
