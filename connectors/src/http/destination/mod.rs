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

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::Full;
use rustls::RootCertStore;
use tidemill_config::plan::{self, DestinationPlan, TriggerPlan};
use tidemill_core::{
    BoxFuture,
    destination::{Destination, OutboxAction, PublishError, Role},
    event::Event,
};

use crate::client::{self, HttpClient};

pub use error::Unusable;

use target::Target;

/// Posts events to HTTP servers.
pub struct HttpDestination {
    targets: BTreeMap<Role, BTreeMap<String, Target>>,
    client: HttpClient<Full<Bytes>>,
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
                client: client::client(roots),
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
    client::system_roots().ok_or(Unusable::NoAuthorities)
}
