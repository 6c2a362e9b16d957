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
//! - When too much is under way, requests are answered with 429 and `Retry-After`: half of all
//!   connections for one path, or 256 MiB of bodies, besides one largest body for each path.

mod body;
mod budget;
mod cors;
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

use rustix::process::{Resource, getrlimit};
use tidemill_core::intake::Calls;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

pub use destination::{HttpDestination, Unusable};
pub use error::Error;
pub use health::{Count, Health, Status};
pub use route::{Route, source};

use budget::Budget;
use handle::Server;
use route::Paths;
use tuning::Tuning;

/// The source of events that are HTTP requests.
pub struct HttpConnector {
    address: SocketAddr,
    paths: Paths,
    tuning: Tuning,
    health: Health,
}

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
        let paths = Paths::new(routes, tuning.connections / 2)?;
        Ok(HttpConnector {
            address,
            health: Health::new(paths.patterns()),
            paths,
            tuning,
        })
    }

    /// What the connector says of itself.
    pub fn health(&self) -> Health {
        self.health.clone()
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

impl Bound {
    /// The address that was taken, with its real port if the plan's is 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled. Then the address is free, and requests under way have
    /// `drain` to end before they are cut off.
    pub async fn run(self, intake: Arc<dyn Calls>, stop: CancellationToken, drain: Duration) {
        let HttpConnector {
            paths,
            tuning,
            health,
            ..
        } = self.connector;
        let server = Server {
            paths,
            budget: Budget::new(tuning.bodies),
            intake,
            health,
            connections: Arc::new(Semaphore::new(tuning.connections)),
            tuning,
        };
        serve::serve(Arc::new(server), self.listener, stop, drain).await;
    }
}
