//! Which path takes which requests. The one place of the HTTP source that reads the plan.
//!
//! Triggers of one path share what the plan makes them agree on; only their methods differ.

use std::{collections::BTreeMap, sync::Arc};

use hyper::{HeaderMap, header::HeaderValue};
use matchit::Router;
use percent_encoding::percent_decode_str;
use tidemill_config::plan::{Cors, HttpSource, Mode, Plan, SourcePlan, TriggerPlan, Verify};
use tidemill_core::{
    event::{Field, PATH_PARAMETER},
    limits,
};
use tokio::sync::Semaphore;

use crate::bucket::Hook;

use super::{
    budget::Share,
    crowd::Lately,
    error::Error,
    health::{Health, Statuses},
    tuning::Tuning,
    verify::Verifier,
};

/// A trigger that listens to HTTP.
#[derive(Clone, Debug)]
pub struct Route {
    /// The trigger's name.
    pub trigger: String,
    /// What it listens to.
    pub source: HttpSource,
    /// Who takes the bodies of its requests; absent, the engine's intake takes events.
    pub hook: Option<Hook>,
}

impl Route {
    /// The path where an object store posts the notifications of a bucket.
    pub fn hook(bucket: &str, path: &str, verify: Option<&Verify>, hook: Hook) -> Route {
        Route {
            // For errors only: no trigger has such a name.
            trigger: format!("notify of bucket {bucket}"),
            source: HttpSource {
                path: path.to_owned(),
                methods: vec!["POST".to_owned()],
                mode: Mode::Async,
                max_body: limits::NOTIFICATION,
                verify: verify.cloned(),
                cors: None,
            },
            hook: Some(hook),
        }
    }

    /// Those of the plan, by name.
    pub fn of(plan: &Plan) -> Vec<Route> {
        let route = |trigger: &Arc<TriggerPlan>| match &trigger.source {
            SourcePlan::Http(source) => Some(Route {
                trigger: trigger.name.clone(),
                source: source.clone(),
                hook: None,
            }),
            _ => None,
        };
        plan.triggers.values().filter_map(route).collect()
    }
}

/// What the triggers of a path listen to, and what their events have for a source.
pub fn source(path: &str) -> String {
    format!("http:{path}")
}

/// A path with its triggers.
pub(super) struct Path {
    /// Its place among all paths.
    pub(super) number: u32,
    /// As it stands in the plan.
    pub(super) pattern: String,
    /// See [`source`].
    pub(super) source: String,
    pub(super) mode: Mode,
    /// The trigger that a method is for; with [`Mode::Async`] it may be for others too.
    pub(super) methods: BTreeMap<String, String>,
    pub(super) max_body: usize,
    pub(super) verifier: Option<Verifier>,
    pub(super) cors: Option<Cors>,
    /// See [`Route::hook`].
    pub(super) hook: Option<Hook>,
    /// The part of the budget that is for its bodies alone.
    pub(super) share: Share,
    /// How many more requests may be under way.
    pub(super) requests: Semaphore,
    /// The most that may.
    most: usize,
    /// Many of its requests were under way.
    crowded: Lately,
    /// The answers that it gave.
    pub(super) answers: Arc<Statuses>,
}

impl Path {
    /// Whether many of its requests are under way to become durable, or were when one of the last ones came. To be
    /// called for each that comes.
    pub(super) fn is_crowded(&self, tuning: &Tuning) -> bool {
        let under_way = self.most - self.requests.available_permits();
        let many = self.mode == Mode::Async && under_way >= tuning.crowd;
        self.crowded.note(many, tuning.calm);
        self.crowded.was()
    }

    /// The `Allow` header.
    pub(super) fn allow(&self) -> HeaderValue {
        let methods: Vec<&str> = self.methods.keys().map(String::as_str).collect();
        HeaderValue::try_from(methods.join(", ")).expect("names of methods are tokens")
    }
}

/// All paths of a plan.
pub(super) struct Paths {
    router: Router<usize>,
    all: Vec<Path>,
}

impl Paths {
    /// Looks up the secrets, and blocks while it does.
    pub(super) fn new(
        routes: Vec<Route>,
        requests: usize,
        health: &Health,
    ) -> Result<Paths, Error> {
        let mut paths = Paths {
            router: Router::new(),
            all: Vec::new(),
        };
        for Route {
            trigger,
            source,
            hook,
        } in routes
        {
            let known = |path: &Path| path.pattern == source.path;
            let at = match paths.all.iter().position(known) {
                Some(at) => at,
                None => paths.add(&trigger, &source, hook, requests, health)?,
            };
            let methods = &mut paths.all[at].methods;
            for method in source.methods {
                methods.entry(method).or_insert_with(|| trigger.clone());
            }
        }
        Ok(paths)
    }

    fn add(
        &mut self,
        trigger: &str,
        plan: &HttpSource,
        hook: Option<Hook>,
        requests: usize,
        health: &Health,
    ) -> Result<usize, Error> {
        let at = self.all.len();
        let wrong = |source| Error::Path {
            trigger: trigger.to_owned(),
            path: plan.path.clone(),
            source,
        };
        self.router.insert(&plan.path, at).map_err(wrong)?;
        let verify = plan.verify.as_ref();
        let max_body = usize::try_from(plan.max_body).unwrap_or(usize::MAX);
        self.all.push(Path {
            number: at as u32,
            pattern: plan.path.clone(),
            source: source(&plan.path),
            mode: plan.mode,
            methods: BTreeMap::new(),
            max_body,
            verifier: verify
                .map(|verify| Verifier::new(trigger, verify))
                .transpose()?,
            cors: plan.cors.clone(),
            hook,
            share: Share::new(max_body),
            requests: Semaphore::new(requests),
            most: requests,
            crowded: Lately::default(),
            answers: health.of(&plan.path),
        });
        Ok(at)
    }

    /// The path that a request is for.
    pub(super) fn find(&self, path: &str) -> Option<&Path> {
        let at = *self.router.at(path).ok()?.value;
        Some(&self.all[at])
    }

    /// The path parameters of a request, decoded, as headers of its event; the error names one that
    /// is not UTF-8.
    pub(super) fn parameters(&self, path: &str) -> Result<Vec<Field>, String> {
        let Ok(found) = self.router.at(path) else {
            return Ok(Vec::new());
        };
        let decode = |(name, value): (&str, &str)| {
            let decoded = percent_decode_str(value).decode_utf8();
            let decoded = decoded.map_err(|_| name.to_owned())?.into_owned();
            Ok((
                format!("{PATH_PARAMETER}{}", name.to_ascii_lowercase()),
                decoded,
            ))
        };
        found.params.iter().map(decode).collect()
    }
}

/// The only value of a header; none if it is there twice.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
