//! The destination: posts events to HTTP servers.
//!
//! Each event is a CloudEvent in binary mode: its attributes are headers, its data is the body.
//! [`HttpDestination`] decides by the status what follows: 2xx is done; 408, 425, 429, 5xx and
//! whatever the network does may pass, and are tried again; anything else stays as it is until a
//! person changes something.
//!
//! What is promised: an event arrives at least once, under the same `ce-id` and `Idempotency-Key` each
//! time. A server that answers too late, or not at all, may have taken it, and gets it again.
//!
//! What a user of HTTP destinations should know:
//!
//! - HTTP/1.1 is spoken, with TLS for `https:` addresses. A server's certificate must come from an
//!   authority that the system trusts when the engine starts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name
//!   others).
//! - Redirects are not followed: what the plan says is where events go, and nowhere else. For the same
//!   reason proxies that the environment names are not used.
//! - Headers that begin with `tidemill-` go along (why a dead letter died, where a reply comes from);
//!   what a header cannot hold is percent-encoded in them, and values are cut at 4 KiB.
//! - `tidemill-hops` counts the writes of this engine that led to the event; an engine that gets it
//!   ends what goes round in circles.
//! - A user and password in the address become `Authorization: Basic`.
//!
//! Secrets of the plan are in no error: an address is shown without its user, password and query, and
//! without its path if it refers to the environment or a file; in what a server answers they are blanked
//! out.

mod answer;
mod error;
mod request;
mod target;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tidemill_config::plan::{self, DestinationPlan, TriggerPlan};
use tidemill_core::{
    BoxFuture,
    destination::{Destination, OutboxAction, PublishError, Role},
    event::Event,
    limits,
};

pub use error::Unusable;

use target::Target;

/// How long a connection is kept that nothing is sent on: less than servers commonly keep theirs, so
/// that few events meet one that is just being closed.
const IDLE: Duration = Duration::from_secs(30);

/// How long to connect may take, over all addresses of a server, if the plan's timeout is not shorter.
const CONNECT: Duration = Duration::from_secs(10);

/// Posts events to HTTP servers.
pub struct HttpDestination {
    targets: BTreeMap<Role, BTreeMap<String, Target>>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpDestination {
    /// A destination for all that these triggers post. Looks up addresses, secrets and the system's
    /// certificates, and blocks while it does.
    pub fn new<'a>(
        triggers: impl IntoIterator<Item = &'a TriggerPlan>,
    ) -> Result<HttpDestination, Vec<Unusable>> {
        HttpDestination::with(triggers.into_iter().flat_map(posts), system_roots)
    }

    fn with<'a>(
        posts: impl IntoIterator<Item = (&'a str, Role, &'a plan::HttpDestination)>,
        roots: impl FnOnce() -> Result<RootCertStore, Unusable>,
    ) -> Result<HttpDestination, Vec<Unusable>> {
        let mut targets: BTreeMap<Role, BTreeMap<String, Target>> = BTreeMap::new();
        let mut errors = Vec::new();
        for (trigger, role, plan) in posts {
            match Target::new(trigger, role, plan) {
                Ok(target) => {
                    let of_role = targets.entry(role).or_default();
                    of_role.insert(trigger.to_owned(), target);
                }
                Err(more) => errors.extend(more),
            }
        }
        let mut all = targets.values().flat_map(BTreeMap::values);
        let roots = match all.any(Target::is_https) {
            true => roots(),
            false => Ok(RootCertStore::empty()),
        };
        match roots {
            Ok(roots) if errors.is_empty() => Ok(HttpDestination {
                targets,
                client: client(roots),
            }),
            roots => {
                errors.extend(roots.err());
                Err(errors)
            }
        }
    }

    async fn carry_out(&self, action: &OutboxAction, event: &Event) -> Result<(), PublishError> {
        let OutboxAction::Post { trigger, role } = action else {
            let text = "what is for another destination does not go to an HTTP server".to_owned();
            return Err(PublishError::Rejected(text));
        };
        let targets = self.targets.get(role);
        let Some(target) = targets.and_then(|targets| targets.get(trigger)) else {
            return Err(PublishError::Rejected(format!(
                "the plan has no `{}` with `http` for trigger `{trigger}` any more",
                error::key(*role)
            )));
        };
        let request = request::request(target, event);
        let deadline = tokio::time::Instant::now() + target.timeout;
        let response = tokio::time::timeout_at(deadline, self.client.request(request)).await;
        match response {
            Err(_) => Err(answer::none(target)),
            Ok(Err(error)) => Err(answer::broken(target, &error)),
            Ok(Ok(response)) => answer::judge(target, response, deadline).await,
        }
    }
}

impl Destination for HttpDestination {
    fn publish<'a>(
        &'a self,
        action: &'a OutboxAction,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.carry_out(action, event))
    }
}

/// What a trigger posts.
fn posts(trigger: &TriggerPlan) -> impl Iterator<Item = (&str, Role, &plan::HttpDestination)> {
    let destinations = [
        (Role::OnSuccess, &trigger.on_success),
        (Role::DeadLetter, &trigger.dead_letter),
    ];
    destinations.into_iter().filter_map(|(role, destination)| {
        let Some(DestinationPlan::Http(plan)) = destination else {
            return None;
        };
        Some((&*trigger.name, role, plan))
    })
}

fn system_roots() -> Result<RootCertStore, Unusable> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Unusable::NoAuthorities);
    }
    // One that cannot be read matters only to servers that need it.
    for error in found.errors {
        tracing::debug!("a certificate of the system is left out: {error}");
    }
    Ok(roots)
}

fn client(roots: RootCertStore) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(limits::IDLE_CONNECTIONS)
        .http1_max_buf_size(limits::ANSWER)
        .build(connector)
}
