//! HTTP: requests that are events.
//!
//! [`HttpConnector`] is the source: it listens to one address and offers an event for each request
//! of a path of the plan. [`HttpDestination`] is the destination: it posts events to servers.
//!
//! What is promised of the source: with `mode = "async"`, a request that is answered with 202 is in
//! the journal; one with an id that came before (its `Idempotency-Key`, or that of the CloudEvent it
//! is) is answered the same way and runs nothing. With `mode = "sync"` it is answered with the
//! handler's reply, and kept by nobody: a client that leaves ends its call. A client that gets a
//! status of 500 or more, or no answer, does not know what became of its request: it sends it again
//! with the same id.
//!
//! What a user of HTTP triggers should know:
//!
//! - HTTP/1.1 is spoken, on one address, in plain text. TLS, HTTP/2, access by address and limits for
//!   each client are for a proxy in front of it.
//! - The subject of an event is the path as it was sent; the parameters of the path are decoded.
//!   A segment with `%2F` in it is one segment.
//! - Its headers are the request's, but for those about the connection, those that begin with
//!   `tidemill-`, and `Authorization` where the path's `verify` is a bearer token. All others,
//!   cookies included, are kept in the journal with the event. Values are read as UTF-8, or as
//!   Latin-1 if they are not.
//! - The id of a CloudEvent is the event's, whatever its `Idempotency-Key` says.
//! - Methods are those that the plan names: `GET` is not `HEAD`. `OPTIONS` is answered for the
//!   handler if `cors` is set and a browser asks for permission.
//! - Compressed bodies are refused (415). So are slow ones (408): those that pause for 20 s, and those
//!   that take over 60 s at less than 16 KiB a second.
//! - A connection has 10 s for its first head, and for each later one from its first byte on; between
//!   two requests it may be silent for 75 s.
//! - While 16 requests or more of one path with `mode = "async"` are under way, and other paths have some too, the
//!   connections of the one give way to those of the others.
//! - When too much is under way, requests are answered with 429 and `Retry-After`: half of all
//!   connections for one path, or 256 MiB of bodies, besides one largest body for each path.

mod body;
mod budget;
mod cors;
mod crowd;
mod destination;
mod error;
mod event;
mod handle;
mod health;
mod pace;
mod refusal;
mod reply;
mod route;
mod serve;
mod tuning;
mod verify;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustix::process::{Resource, getrlimit};
use tidemill_core::intake::Calls;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

pub use destination::{HttpDestination, Unusable};
pub use error::Error;
pub use health::{Count, Health, Status};
pub use route::{Route, source};

use budget::Budget;
use crowd::Crowd;
use handle::Server;
use route::Paths;
use tuning::Tuning;

/// The source of events that are HTTP requests.
pub struct HttpConnector {
    address: SocketAddr,
    routes: Routes,
    tuning: Tuning,
}

/// The paths that the source serves, to be changed while it runs. Clones share them.
#[derive(Clone)]
pub struct Routes {
    paths: Arc<ArcSwap<Paths>>,
    /// Of one path.
    requests: usize,
    health: Health,
}

/// Paths that can be served.
pub struct Prepared(Paths);

/// The source with its address taken. Clients connect already, and wait.
pub struct Bound {
    connector: HttpConnector,
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpConnector {
    /// A connector for these triggers. Looks up their secrets, and blocks while it does.
    pub fn new(address: SocketAddr, routes: Vec<Route>) -> Result<HttpConnector, Error> {
        let mut tuning = Tuning::STANDARD;
        // The rest of the engine needs files too.
        if let Some(files) = getrlimit(Resource::Nofile).current {
            let files = usize::try_from(files).unwrap_or(usize::MAX);
            tuning.connections = tuning.connections.min(files / 2);
        }
        HttpConnector::with(address, routes, tuning)
    }

    fn with(
        address: SocketAddr,
        routes: Vec<Route>,
        tuning: Tuning,
    ) -> Result<HttpConnector, Error> {
        let (health, requests) = (Health::default(), tuning.connections / 2);
        let paths = Paths::new(routes, requests, &health)?;
        Ok(HttpConnector {
            address,
            routes: Routes {
                paths: Arc::new(ArcSwap::from_pointee(paths)),
                requests,
                health,
            },
            tuning,
        })
    }

    /// The paths, to change them.
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// What the connector says of itself.
    pub fn health(&self) -> Health {
        self.routes.health.clone()
    }

    /// Takes the address.
    pub async fn bind(self) -> Result<Bound, Error> {
        let wrong = |error| Error::bind(self.address, error);
        let listener = TcpListener::bind(self.address).await.map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        Ok(Bound {
            connector: self,
            listener,
            address,
        })
    }
}

impl Routes {
    /// Looks whether these can be served, and their secrets up; blocks while it does.
    pub fn prepare(&self, routes: Vec<Route>) -> Result<Prepared, Error> {
        Paths::new(routes, self.requests, &self.health).map(Prepared)
    }

    /// Serves these and no others from now on. Requests under way end by the path that they came to; they
    /// do not count among those that the new paths let in.
    pub fn replace(&self, prepared: Prepared) {
        self.paths.store(Arc::new(prepared.0));
    }
}

impl Bound {
    /// The address that was taken, with its real port if the plan's is 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled. Then the address is free, and requests under way have
    /// `drain` to end before they are cut off.
    pub async fn run(self, intake: Arc<dyn Calls>, stop: CancellationToken, drain: Duration) {
        let HttpConnector { routes, tuning, .. } = self.connector;
        let server = Server {
            paths: routes.paths,
            budget: Budget::new(tuning.bodies),
            intake,
            health: routes.health,
            connections: Arc::new(Semaphore::new(tuning.connections)),
            tuning,
            crowd: Arc::new(Crowd::new()),
        };
        serve::serve(Arc::new(server), self.listener, stop, drain).await;
    }
}
