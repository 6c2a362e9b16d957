//! The plan changes while the engine runs: on SIGHUP, and when the file or a component of it has changed.
//!
//! The new plan is loaded, checked and built beside the old one, which runs on meanwhile, and for good if
//! the new one cannot run. Then sources that are not the same any more end, the dispatcher and the paths
//! go by the new plan, and new sources begin. What runs ends as it began; nothing is lost or doubled.

mod watch;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, anyhow};
use serde::Serialize;
use tidemill_config::{
    Loaded,
    plan::{EnginePlan, NotBuilt, Plan},
};
use tidemill_connectors::http;
use tidemill_core::time::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    assemble::{self, Builder, Built, New, Selection},
    clock,
    dispatcher::Dispatcher,
    metrics::Metrics,
    roster::Roster,
};

pub use watch::Seen;

use watch::Watch;

/// What changes the plan of a running engine.
pub struct Reloader {
    /// The configuration.
    pub file: PathBuf,
    /// The plan that runs; of what cannot change, as it was at the start.
    pub plan: Plan,
    /// What builds the next one.
    pub builder: Builder,
    /// What the next one takes over.
    pub built: Built,
    /// The sources.
    pub roster: Roster,
    /// The paths, if any were served ever.
    pub http: Option<http::Routes>,
    /// What the plan is for.
    pub dispatcher: Arc<Dispatcher>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What others are told.
    pub status: Status,
}

/// Which plan runs, for others to see. Clones share it.
#[derive(Clone)]
pub struct Status(Arc<Mutex<PlanStatus>>);

/// Which plan runs.
#[derive(Clone, Debug, Serialize)]
pub struct PlanStatus {
    /// Since when it runs, RFC 3339.
    pub since: String,
    /// A newer one that cannot run; absent, the file is what runs.
    pub refused: Option<Refused>,
}

/// A plan that cannot run.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// When it was looked at, RFC 3339.
    pub at: String,
    /// What is wrong with it.
    pub error: String,
}

impl Status {
    /// A plan runs since then.
    pub fn new(since: Timestamp) -> Status {
        Status(Arc::new(Mutex::new(PlanStatus {
            since: since.to_string(),
            refused: None,
        })))
    }

    /// As it is now.
    pub fn get(&self) -> PlanStatus {
        let status = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        status.clone()
    }

    fn set(&self, status: PlanStatus) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// Of SIGHUP. It is heard from here on, and does not end the process any more.
pub fn hangups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

impl Reloader {
    /// Reloads whenever there is a reason to, until the engine stops. `seen` is how the files were that the
    /// plan is made of.
    pub async fn run(mut self, mut hangups: Signal, seen: Seen, stop: CancellationToken) -> Roster {
        let mut watch = Watch::new(seen);
        loop {
            let why = tokio::select! {
                () = stop.cancelled() => return self.roster,
                _ = hangups.recv() => "SIGHUP",
                () = watch.changed() => "a file has changed",
            };
            tracing::info!("{why}: loading {}", self.file.display());
            let reloaded = stop.run_until_cancelled(self.reload(&mut watch)).await;
            match reloaded {
                None => return self.roster,
                Some(Ok(())) => {
                    let (triggers, functions) =
                        (self.plan.triggers.len(), self.plan.functions.len());
                    tracing::info!(triggers, functions, "the plan of the file runs");
                    self.status.set(PlanStatus {
                        since: clock::now().to_string(),
                        refused: None,
                    });
                }
                Some(Err(error)) => {
                    let PlanStatus { since, .. } = self.status.get();
                    let error = format!("{error:#}");
                    tracing::error!("the file cannot run, the plan of {since} runs on: {error}");
                    let at = clock::now().to_string();
                    let refused = Some(Refused { at, error });
                    self.status.set(PlanStatus { since, refused });
                }
            }
        }
    }

    async fn reload(&mut self, watch: &mut Watch) -> anyhow::Result<()> {
        watch.look(&self.file).await;
        let file = self.file.clone();
        let loaded = tokio::task::spawn_blocking(move || tidemill_config::load(&file)).await?;
        let Loaded { plan, warnings } =
            loaded.map_err(|invalid| anyhow!("{}", invalid.render(false)))?;
        for warning in &warnings {
            tracing::warn!("{}", warning.render(false));
        }
        // Of the old plan too: whoever mends a component that is refused may do so by the old name.
        let components = [&self.plan, &plan].into_iter().flat_map(components);
        watch.follow(&self.file, components.collect()).await;
        if !plan.not_built.is_empty() {
            let told = |part: &NotBuilt| format!("{}: {} is not built yet", part.at, part.what);
            let parts: Vec<String> = plan.not_built.iter().map(told).collect();
            return Err(anyhow!("{}: take it out of the file", parts.join("; ")));
        }
        let fixed = fixed(&self.plan.engine, &plan.engine, self.http.is_some());
        for key in &fixed {
            tracing::warn!("engine.{key} has changed, which needs a restart: it stays as it was");
        }
        self.change(plan).await
    }

    async fn change(&mut self, plan: Plan) -> anyhow::Result<()> {
        let built = self.builder.build(&plan, &Selection::All, &self.built);
        let New {
            view,
            units,
            routes,
            built,
        } = built
            .await
            .map_err(|errors| errors.keep("the new plan from running"))?;
        let engine = EnginePlan {
            journal_limit: plan.engine.journal_limit,
            http: match self.http {
                Some(_) => self.plan.engine.http,
                None => plan.engine.http,
            },
            ..self.plan.engine.clone()
        };
        let (mut prepared, mut listener) = (None, None);
        match &self.http {
            Some(http) => prepared = Some((http.clone(), http.prepare(routes)?)),
            None if routes.is_empty() => {}
            None => listener = Some(assemble::http_source(&engine, routes).await?),
        }
        // From here on nothing fails, and nothing is waited for.
        self.roster.end_all_but(&units);
        let limit = view.journal_limit;
        self.metrics.journal_limit.set(limit.cast_signed());
        let before = self.dispatcher.queue_names();
        let old_view = self.dispatcher.swap(view);
        if let Some((http, prepared)) = prepared {
            http.replace(prepared);
        }
        if let Some((source, routes)) = listener {
            self.roster.start_http(source);
            self.http = Some(routes);
        }
        self.roster.start(units);
        self.metrics.forget_sources();
        let old = (old_view, std::mem::replace(&mut self.built, built));
        tokio::task::spawn_blocking(move || drop(old));
        self.plan = Plan { engine, ..plan };
        let gone = |trigger: &str| before.contains(trigger);
        let strays = assemble::warn_of_strays(&self.dispatcher, gone).await;
        if let Err(error) = strays.context("cannot tell what waits for triggers that are gone") {
            tracing::warn!("{error:#}");
        }
        Ok(())
    }
}

/// The files of a plan's components.
pub fn components(plan: &Plan) -> impl Iterator<Item = PathBuf> {
    plan.functions.values().map(|one| one.component.clone())
}

/// The keys of `[engine]` that differ and cannot change while it runs.
fn fixed(old: &EnginePlan, new: &EnginePlan, listens: bool) -> Vec<&'static str> {
    let keys = [
        ("data", old.data != new.data),
        ("http", listens && old.http != new.http),
        ("admin", old.admin != new.admin),
        ("admin_token", old.admin_token != new.admin_token),
        ("drain", old.drain != new.drain),
        ("memory", old.memory != new.memory),
        ("retention", old.retention != new.retention),
    ];
    let differ = keys.into_iter().filter(|(_, differs)| *differs);
    differ.map(|(key, _)| key).collect()
}
