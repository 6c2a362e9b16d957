//! `tidemill run`: the engine, from its start to the end of its drain.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::anyhow;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidemill_config::plan::Plan;
use tidemill_core::limits;
use tidemill_journal::DataLock;
use tidemill_sandbox::Compiler;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Failure, admin_token, load};
use crate::{
    admin::{self, Admin},
    assemble::{self, Assembled, Selection},
    clock,
    dispatcher::Dispatcher,
    logging::{self, LogFormat},
    reload::{self, Reloader, Seen, Status, components},
    retention,
    roster::Roster,
};

/// The stack of the engine's own threads, in bytes; those of libraries have more.
const WORKER_STACK: usize = 2 << 20;

/// After how many tasks a thread that has more of them looks at its sockets and timers: whoever has just come then
/// stands behind so many at most, besides those that came before. What a look costs was too little to be measured.
const LOOK: u32 = 16;

pub(super) fn run(file: &Path, log: LogFormat) -> Result<(), Failure> {
    let mut seen = Seen::default();
    // Before they are read, so that no change is missed.
    seen.look(file);
    let plan = load(file)?;
    components(&plan).for_each(|component| seen.look(&component));
    refuse_not_built(&plan)?;
    logging::start(log);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(WORKER_STACK)
        .event_interval(LOOK)
        .enable_all()
        .build()?;
    let done = runtime.block_on(engine(file, &plan, seen));
    // Whatever still blocks a thread has nothing left to do.
    runtime.shutdown_background();
    done
}

/// A file that asks for what this engine does not have starts nothing: half of it would run.
pub(super) fn refuse_not_built(plan: &Plan) -> Result<(), Failure> {
    for part in &plan.not_built {
        eprintln!(
            "error: {}: {} is not built yet: take it out of the file",
            part.at, part.what
        );
    }
    if plan.not_built.is_empty() {
        Ok(())
    } else {
        Err(Failure::Shown)
    }
}

/// Lets this process open as many files as the system allows: each client of an HTTP trigger takes
/// one, and many systems begin with a thousand.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit on open files: fewer clients at a time");
    }
}

async fn engine(file: &Path, plan: &Plan, seen: Seen) -> Result<(), Failure> {
    let hangups = reload::hangups()?;
    let mut lock = DataLock::acquire(&plan.engine.data, clock::now())?;
    let listener = admin::bind(plan.engine.admin).await?;
    let address = listener.local_addr()?;
    let token = admin_token(plan)?;
    let stop = CancellationToken::new();
    // Signals count from here on: a stop during a long start is a stop.
    let signalled = tokio::spawn(until_signalled(stop.clone())?);
    let Assembled {
        dispatcher,
        units,
        routes,
        journal,
        metrics,
        builder,
        built,
    } = assemble::assemble(
        plan,
        Selection::All,
        Compiler::Apart(&[super::COMPILE]),
        &stop,
    )
    .await
    .map_err(assemble::StartErrors::into_error)?;

    let mut roster = Roster::new(dispatcher.clone(), stop.clone());
    let mut http = None;
    if !routes.is_empty() {
        let (source, routes) = assemble::http_source(&plan.engine, routes).await?;
        roster.start_http(source);
        http = Some(routes);
    }
    // Before anybody can ask whether all are ready.
    roster.start(units);
    let status = Status::new(clock::now());
    let admin_stopped = CancellationToken::new();
    let admin = Admin {
        dispatcher: dispatcher.clone(),
        metrics: metrics.clone(),
        sandbox: builder.sandbox().clone(),
        sources: roster.healths(),
        plan: status.clone(),
        token,
        stop: stop.clone(),
    };
    let serving = tokio::spawn(admin::serve(
        listener,
        Arc::new(admin),
        admin_stopped.clone(),
    ));
    lock.set_admin(address.to_string())?;

    tracing::info!(
        data = %plan.engine.data.display(), admin = %address,
        triggers = plan.triggers.len(), functions = plan.functions.len(), "tidemill runs"
    );
    let keeping = tokio::spawn(retention::keep(
        journal.clone(),
        metrics.clone(),
        plan.engine.retention,
        stop.clone(),
    ));
    let watching = tokio::spawn(until_broken(dispatcher.clone(), stop.clone()));
    let reloader = Reloader {
        file: file.to_owned(),
        plan: plan.clone(),
        builder,
        built,
        roster,
        http,
        dispatcher: dispatcher.clone(),
        metrics,
        status,
    };
    let reloading = tokio::spawn(reloader.run(hangups, seen, stop.clone()));
    // A task of its own: waking it from the others is then no matter of the kernel, and it is woken by
    // every event.
    let (driver, drain) = (dispatcher.clone(), plan.engine.drain);
    let drained = tokio::spawn(async move { driver.drive(drain).await }).await?;
    let roster = reloading.await?;
    if tokio::time::timeout(limits::SOURCE_STOP, roster.ended())
        .await
        .is_err()
    {
        tracing::warn!("a source did not stop in time; it loses nothing");
    }
    admin_stopped.cancel();
    // A client that keeps its connection does not keep the engine.
    tokio::time::timeout(Duration::from_secs(1), serving)
        .await
        .ok();
    signalled.abort();
    watching.abort();
    keeping.await?;
    journal.close();
    if let Some(reason) = dispatcher.broken() {
        return Err(Failure::Failed(
            anyhow!(reason).context("stopped, nothing acknowledged is lost"),
        ));
    }
    match drained.cut_off {
        0 => tracing::info!("stopped; nothing was running any more"),
        n => tracing::warn!(
            attempts = n,
            "stopped; attempts still running after engine.drain were cut off and run again at the next start"
        ),
    }
    Ok(())
}

/// Cancels `stop` if the engine cannot go on.
async fn until_broken(dispatcher: Arc<Dispatcher>, stop: CancellationToken) {
    dispatcher.until_broken().await;
    stop.cancel();
}

/// Cancels `stop` at the first SIGTERM or SIGINT; the second one ends the process at once.
fn until_signalled(stop: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(async move {
        for round in 0.. {
            let name = tokio::select! {
                _ = term.recv() => "SIGTERM",
                _ = int.recv() => "SIGINT",
            };
            if round > 0 {
                tracing::warn!(
                    "{name} again: stopping at once; what was running runs again at the next start"
                );
                std::process::exit(1);
            }
            tracing::info!("{name}: no new work; finishing what runs");
            stop.cancel();
        }
    })
}
