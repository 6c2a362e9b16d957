//! What a client is told when it does not get what it wants: a status and a sentence, as JSON.
//! What is wrong inside the engine is not for clients: it is in the log.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use serde::Serialize;
use serde_json::json;
use tidemill_core::{identity::DeliveryId, intake::IntakeError};

/// That the connection ends with this answer.
pub(super) const CLOSE: HeaderValue = HeaderValue::from_static("close");

#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: Cow<'static, str>,
    id: Option<DeliveryId>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// With a sentence that says what to do.
    pub(super) fn new(status: StatusCode, error: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            status,
            error: error.into(),
            id: None,
            headers: Vec::new(),
        }
    }

    /// With a header besides.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Refusal {
        self.headers.push((name, value));
        self
    }

    /// To come again after so many seconds.
    pub(super) fn after(self, seconds: u64) -> Refusal {
        self.with(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// As the last answer of its connection.
    pub(super) fn closing(self) -> Refusal {
        self.with(header::CONNECTION, CLOSE)
    }

    /// With the delivery to look for in the log.
    pub(super) fn about(mut self, id: DeliveryId) -> Refusal {
        self.id = Some(id);
        self
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut body = json!({ "error": self.error });
        if let Some(id) = self.id {
            body["id"] = json!(id);
        }
        let mut response = json_response(self.status, &body);
        let headers = self.headers.into_iter();
        response
            .headers_mut()
            .extend(headers.map(|(name, value)| (Some(name), value)));
        response
    }
}

/// A response with a JSON body.
pub(super) fn json_response(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_string(body).expect("texts and numbers become JSON");
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// There is too much under way.
pub(super) fn busy() -> Refusal {
    let error = "too many requests are under way; send this one again a little later";
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, error).after(1)
}

impl From<IntakeError> for Refusal {
    fn from(error: IntakeError) -> Refusal {
        match error {
            IntakeError::Stopping => Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the engine is stopping; send the request again when it is back",
            )
            .after(5)
            .closing(),
            IntakeError::Full(_) => Refusal::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "the engine has no room left for events; send the request again when its operator has made some",
            ),
            IntakeError::Busy => busy(),
            IntakeError::Failed(_) => Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the engine cannot keep events at the moment, and says why in its log; send the request again later",
            )
            .after(5),
        }
    }
}

/// The id that the client gave belongs to another event.
pub(super) fn reused() -> Refusal {
    Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "another request came with the same id before; give each request an id of its own, and send it again unchanged",
    )
}
