//! The HTTP under object_store: it sends each request with the client of the other connectors,
//! limits how long an answer may take, and counts. It retries nothing: object_store does, by the
//! kind of failure that is told here.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use object_store::{
    ClientOptions,
    client::{
        HttpClient as StoreClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
        HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
    },
};

use crate::client::HttpClient;

/// How long the head of an answer may take: a part has to be sent until then, 8 MiB at 1 Mbit/s.
const ANSWER: Duration = Duration::from_secs(70);

/// How long an answer's body may stand still.
const STALL: Duration = Duration::from_secs(30);

/// What the requests to an object store came to so far.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    failed: AtomicU64,
    timeouts: AtomicU64,
}

impl Traffic {
    /// All requests that were sent, each try counted.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Those that broke, ran out of time, or were answered with 429 or 5xx: they are tried again.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Those of the failed that ran out of time.
    pub fn timeouts(&self) -> u64 {
        self.timeouts.load(Relaxed)
    }
}

/// Gives object_store its client.
#[derive(Clone, Debug)]
pub(in crate::bucket) struct Calls {
    client: HttpClient<HttpRequestBody>,
    traffic: Arc<Traffic>,
}

impl Calls {
    pub(super) fn new(client: HttpClient<HttpRequestBody>, traffic: Arc<Traffic>) -> Calls {
        Calls { client, traffic }
    }

    /// The same client, with a count of its own.
    pub(super) fn apart(&self) -> Calls {
        Calls::new(self.client.clone(), Arc::default())
    }

    /// Sends one request, once.
    pub(in crate::bucket) async fn send(
        &self,
        request: HttpRequest,
    ) -> Result<HttpResponse, HttpError> {
        self.traffic.requests.fetch_add(1, Relaxed);
        let answer = tokio::time::timeout(ANSWER, self.client.request(request)).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                self.traffic.failed.fetch_add(1, Relaxed);
                return Err(HttpError::new(kind(&error), error));
            }
            Err(_) => return Err(self.too_late(ANSWER)),
        };
        let status = response.status();
        if status.is_server_error() || status.as_u16() == 429 {
            self.traffic.failed.fetch_add(1, Relaxed);
        }
        let (parts, incoming) = response.into_parts();
        Ok(HttpResponse::from_parts(parts, self.body(incoming)))
    }

    fn body(&self, incoming: Incoming) -> HttpResponseBody {
        let calls = self.clone();
        let frames = stream::unfold(Some(incoming), move |incoming| {
            let calls = calls.clone();
            async move {
                let mut incoming = incoming?;
                match tokio::time::timeout(STALL, incoming.frame()).await {
                    Ok(frame) => match frame? {
                        Ok(frame) => Some((Ok(frame), Some(incoming))),
                        Err(error) => {
                            let error = HttpError::new(HttpErrorKind::Interrupted, error);
                            Some((Err(error), None))
                        }
                    },
                    Err(_) => Some((Err(calls.too_late(STALL)), None)),
                }
            }
        });
        HttpResponseBody::new(StreamBody::new(frames.fuse()))
    }

    fn too_late(&self, limit: Duration) -> HttpError {
        self.traffic.failed.fetch_add(1, Relaxed);
        self.traffic.timeouts.fetch_add(1, Relaxed);
        HttpError::new(HttpErrorKind::Timeout, TooLate(limit))
    }
}

/// The server took too long.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
struct TooLate(Duration);

impl HttpService for Calls {
    // What #[async_trait] makes of an async function.
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> BoxFuture<'async_trait, Result<HttpResponse, HttpError>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.send(request))
    }
}

impl HttpConnector for Calls {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<StoreClient> {
        Ok(StoreClient::new(self.clone()))
    }
}

/// What object_store goes by when it decides about another try.
fn kind(error: &hyper_util::client::legacy::Error) -> HttpErrorKind {
    if error.is_connect() {
        return HttpErrorKind::Connect;
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_closed() || error.is_canceled())
        {
            return HttpErrorKind::Request;
        }
        if error.is::<std::io::Error>() {
            return HttpErrorKind::Interrupted;
        }
        cause = error.source();
    }
    HttpErrorKind::Unknown
}
