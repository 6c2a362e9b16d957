//! One request, from its head to its answer, in one straight line. Everything that can be checked is
//! checked before the body is read, and the signature before anything is offered.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, Version, body::Incoming, header, http::request::Parts};
use serde::Serialize;
use tidemill_config::plan::Mode;
use tidemill_core::intake::{Call, Calls, Mark, Offer, Receipt};
use tokio::{sync::Semaphore, time::Instant};

use crate::bucket::{Hook, Verdict};

use super::{
    body::Inbound,
    budget::Budget,
    cors,
    crowd::{Crowd, Seat},
    event::{self, Told},
    health::Health,
    refusal::{self, Refusal},
    reply,
    route::{Path, Paths, single},
    tuning::Tuning,
};

/// What a client is told whose event is durable.
#[derive(Serialize)]
struct Accepted<'a> {
    id: &'a str,
}

/// What all connections have in common.
pub(super) struct Server {
    /// Those of the plan; each request goes by those that were there when it came.
    pub(super) paths: Arc<ArcSwap<Paths>>,
    pub(super) budget: Budget,
    pub(super) intake: Arc<dyn Calls>,
    pub(super) health: Health,
    pub(super) tuning: Tuning,
    /// How many more connections may open.
    pub(super) connections: Arc<Semaphore>,
    pub(super) crowd: Arc<Crowd>,
}

impl Server {
    pub(super) async fn respond(
        &self,
        request: Request<Incoming>,
        seat: &Seat,
    ) -> Response<Full<Bytes>> {
        let start = Instant::now();
        let (head, body) = request.into_parts();
        let mut body = Inbound::new(body, head.headers.contains_key(header::EXPECT));
        let paths = self.paths.load_full();
        let found = paths.find(head.uri.path());
        let answer = match found {
            None => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "no trigger listens to this path",
            )),
            Some(path) => {
                let crowded = path.is_crowded(&self.tuning);
                let way = self
                    .crowd
                    .gives_way(path.number, crowded, start, &self.tuning);
                seat.gives_way.note(way, self.tuning.calm);
                self.take(&paths, path, &head, &mut body).await
            }
        };
        let mut response = answer.unwrap_or_else(Refusal::into_response);
        if let Some(cors) = found.and_then(|path| path.cors.as_ref()) {
            cors::mark(cors, &head.headers, response.headers_mut());
        }
        if body.finish(&self.tuning) || self.is_crowded() {
            response
                .headers_mut()
                .insert(header::CONNECTION, refusal::CLOSE);
        }
        let status = response.status();
        let counts = found.map(|path| &*path.answers);
        self.health.answered(counts, status);
        // The query may hold secrets.
        tracing::debug!(
            method = %head.method,
            path = head.uri.path(),
            status = status.as_u16(),
            elapsed_ms = start.elapsed().as_millis() as u64,
            "answered"
        );
        response
    }

    async fn take(
        &self,
        paths: &Paths,
        path: &Path,
        head: &Parts,
        body: &mut Inbound,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        if let Some(cors) = &path.cors
            && cors::is_preflight(head)
        {
            return Ok(cors::preflight(path, cors, &head.headers));
        }
        let Some(trigger) = path.methods.get(head.method.as_str()) else {
            let error = "no trigger of this path listens to this method";
            let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error);
            return Err(refusal.with(header::ALLOW, path.allow()));
        };
        check_form(head)?;
        let verifier = path.verifier.as_ref();
        let signature = match verifier {
            Some(verifier) => verifier.check_head(&head.headers)?,
            None => None,
        };
        body.check(path.max_body)?;
        let told = told(paths, head)?;
        let _turn = path.requests.try_acquire().map_err(|_| refusal::busy())?;
        let mut room = self.budget.room(&path.share);
        let data = body.read(path.max_body, &mut room, &self.tuning).await?;
        if let Some(verifier) = verifier {
            verifier.check_body(signature.as_ref(), &data)?;
        }
        if let Some(hook) = &path.hook {
            return self.notify(hook, path, data).await;
        }
        let (event, stable) = event::event(path, head, told, data)?;
        match path.mode {
            Mode::Async => {
                let id = event.id.clone();
                let offer = Offer {
                    source: path.source.clone(),
                    event,
                    mark: if stable { Mark::Id } else { Mark::Fresh },
                    due: None,
                };
                match self.intake.offer(offer).await? {
                    Receipt::Accepted { .. } | Receipt::Duplicate => Ok(refusal::json_response(
                        StatusCode::ACCEPTED,
                        &Accepted { id: &id },
                    )),
                    Receipt::Reused => Err(refusal::reused()),
                }
            }
            Mode::Sync => {
                let call = Call {
                    trigger: trigger.clone(),
                    event,
                    stable,
                };
                reply::answer(trigger, self.intake.call(call).await?)
            }
        }
    }

    /// Hands a notification over, and answers when all it tells of is durable. One that takes long is
    /// sent again by the store, and known then.
    async fn notify(
        &self,
        hook: &Hook,
        path: &Path,
        body: Bytes,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let from = format!("to {}", path.pattern);
        let verdict = tokio::time::timeout(self.tuning.notification, hook.tell(from, body)).await;
        match verdict {
            Ok(Verdict::Taken) => Ok(Response::new(Full::default())),
            Ok(Verdict::Strange) => Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "the body has no event records of an object store",
            )),
            Ok(Verdict::Stopping) | Err(_) => Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the notification cannot be taken now; send it again later",
            )
            .after(1)),
        }
    }

    /// Whether so many connections are open that none is kept for its next request.
    fn is_crowded(&self) -> bool {
        self.connections.available_permits() < self.tuning.connections / 4
    }
}

fn told(paths: &Paths, head: &Parts) -> Result<Told, Refusal> {
    let parameters = paths.parameters(head.uri.path()).map_err(|name| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("`{name}` of the path is not UTF-8; percent-encode its UTF-8 bytes"),
        )
    })?;
    event::told(&head.headers, parameters)
}

/// Whether the request is one that this server understands.
fn check_form(head: &Parts) -> Result<(), Refusal> {
    if head.version == Version::HTTP_11 && single(&head.headers, "host").is_none() {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "the header `Host` is missing, or there twice; HTTP/1.1 asks for it once",
        )
        .closing());
    }
    let mut codings = head.headers.get_all(header::CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "compressed bodies are not taken; send the body without `Content-Encoding`",
        ));
    }
    Ok(())
}
