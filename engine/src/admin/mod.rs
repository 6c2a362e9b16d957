//! The admin address: health, metrics, and the API that the command line uses.
//!
//! It listens on loopback unless the file gives a token; with a token, all but `/healthz` and
//! `/readyz` ask for it.

mod api;
mod tail;

pub use api::ListQuery;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tidemill_config::reference::Secret;
use tidemill_sandbox::Sandbox;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    dispatcher::Dispatcher,
    metrics::Metrics,
    reload::{PlanStatus, Status},
    roster::Healths,
    sources::SourceHealth,
    views::Refusal,
};

/// The largest body of a request: an event of the largest payload, as JSON.
const BODY: usize = 16 << 20;

/// What the admin address shows and does.
pub struct Admin {
    /// The dispatcher.
    pub dispatcher: Arc<Dispatcher>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Where handlers run.
    pub sandbox: Sandbox,
    /// The sources, for `/readyz`.
    pub sources: Healths,
    /// The plan that runs.
    pub plan: Status,
    /// What clients must show.
    pub token: Option<Secret>,
    /// The engine is stopping.
    pub stop: CancellationToken,
}

/// The admin address cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on engine.admin = \"{address}\": {cause}; {hint}")]
pub struct BindError {
    address: SocketAddr,
    cause: std::io::Error,
    hint: &'static str,
}

/// Takes the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|cause| {
        let hint = match cause.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another process has it: stop that one (`ss -ltnp` shows it), or choose another port"
            }
            std::io::ErrorKind::PermissionDenied => "choose a port above 1023",
            _ => "choose an address of this machine",
        };
        BindError { address, cause, hint }
    })
}

/// Serves until `stopped`.
pub async fn serve(
    listener: TcpListener,
    admin: Arc<Admin>,
    stopped: CancellationToken,
) -> std::io::Result<()> {
    let ending = stopped.clone();
    let tail = move |state, query| tail::tail(state, query, ending.clone());
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/api/dead-letters", get(api::list))
        .route("/api/dead-letters/{id}", get(api::show))
        .route("/api/dead-letters/{id}", delete(api::purge))
        .route("/api/dead-letters/{id}/redrive", post(api::redrive))
        .route("/api/buckets", get(api::buckets))
        .route("/api/events/tail", get(tail))
        .route("/api/invoke/{function}", post(api::invoke))
        .layer(DefaultBodyLimit::max(BODY))
        .route_layer(middleware::from_fn_with_state(admin.clone(), guard));
    let app = guarded
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .with_state(admin);
    axum::serve(listener, app)
        .with_graceful_shutdown(stopped.cancelled_owned())
        .await
}

/// Lets in who shows the token, and no page of a browser that belongs elsewhere.
async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    if let Some(token) = &admin.token
        && !shows(request.headers(), token.expose())
    {
        return refusal(
            StatusCode::UNAUTHORIZED,
            "show engine.admin_token as a bearer token",
        );
    }
    if is_foreign(request.headers()) {
        return refusal(
            StatusCode::FORBIDDEN,
            "requests of pages from elsewhere are refused",
        );
    }
    next.run(request).await
}

fn shows(headers: &HeaderMap, token: &str) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    // Digests compare in the same time wherever the texts differ.
    given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(token))
}

/// Whether a page that was not served here sent it: such a page can reach a loopback address too.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .map(|value: &header::HeaderValue| value.as_bytes())
    };
    match (text(header::ORIGIN), text(header::HOST)) {
        (None, _) => false,
        (Some(origin), Some(host)) => origin.strip_prefix(b"http://") != Some(host),
        (Some(_), None) => true,
    }
}

fn refusal(status: StatusCode, error: &str) -> Response {
    (
        status,
        Json(Refusal {
            error: error.to_owned(),
        }),
    )
        .into_response()
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    stopping: bool,
    journal_full: bool,
    plan: PlanStatus,
    sources: Vec<SourceState>,
}

#[derive(Serialize)]
struct SourceState {
    source: String,
    ready: bool,
    state: String,
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let source = |health: &SourceHealth| {
        let (ready, state) = health.look();
        SourceState {
            source: health.source.clone(),
            ready,
            state,
        }
    };
    let sources: Vec<SourceState> = admin.sources.all().iter().map(source).collect();
    let (stopping, journal_full) = (admin.stop.is_cancelled(), admin.dispatcher.is_full());
    let ready = !stopping && !journal_full && sources.iter().all(|source| source.ready);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(Readiness {
            ready,
            stopping,
            journal_full,
            plan: admin.plan.get(),
            sources,
        }),
    )
        .into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let metrics = &admin.metrics;
    match admin.dispatcher.journal().stats().await {
        Ok(stats) => {
            metrics.pending.set(stats.pending.cast_signed());
            metrics.dead.set(stats.dead.cast_signed());
            metrics.journal_bytes.set(stats.bytes.cast_signed());
        }
        Err(error) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
    metrics
        .running
        .set(i64::try_from(admin.dispatcher.running()).unwrap_or(i64::MAX));
    metrics.memory.set(admin.sandbox.memory().cast_signed());
    let waiting = i64::try_from(admin.sandbox.waiting());
    metrics.memory_waiting.set(waiting.unwrap_or(i64::MAX));
    for source in admin.sources.all().iter() {
        metrics.source_ready(&source.source, source.look().0);
        source.measure(metrics);
    }
    for bucket in admin.dispatcher.objects().all() {
        if let Some(traffic) = bucket.traffic() {
            metrics.store(bucket.name(), traffic);
        }
    }
    match metrics.render() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
