//! `tidemill check`: all that is wrong with a file, without starting anything, and if asked for, with
//! what it connects to.

use std::path::Path;

use anyhow::anyhow;
use tidemill_config::plan::Plan;
use tidemill_connectors::{
    amqp, bucket,
    check::{Finding, Severity},
    kafka,
};

use super::{Failure, load};

pub(super) fn check(file: &Path, connect: bool) -> Result<(), Failure> {
    let plan = load(file)?;
    for part in &plan.not_built {
        println!(
            "note: {}: {} is not built yet: `run` will refuse it",
            part.at, part.what
        );
    }
    for function in plan
        .functions
        .values()
        .filter(|function| !function.component.exists())
    {
        let (name, path) = (&function.name, function.component.display());
        println!("note: function `{name}`: its component {path} is not there yet");
    }
    if connect {
        try_out(&plan)?;
    }
    let parts = [
        (plan.triggers.len(), "trigger"),
        (plan.functions.len(), "function"),
        (plan.buckets.len(), "bucket"),
        (plan.connections.len(), "connection"),
    ];
    let parts = parts
        .into_iter()
        .filter(|(n, what)| *n > 0 || *what != "connection");
    let parts = parts.map(|(n, what)| format!("{n} {what}{}", if n == 1 { "" } else { "s" }));
    let parts: Vec<_> = parts.collect();
    println!("{}: fine: {}", file.display(), parts.join(", "));
    Ok(())
}

/// Tries everything that the plan connects to, and says what is wrong there.
fn try_out(plan: &Plan) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    let brokers = async { tokio::join!(amqp::check(plan), kafka::check(plan)) };
    let (amqp, kafka) = runtime.block_on(brokers);
    // A client that still tries to connect is not waited for.
    runtime.shutdown_background();
    let findings: Vec<Finding> = buckets(plan).chain(amqp).chain(kafka).collect();
    for finding in &findings {
        let word = match finding.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let Finding {
            place,
            problem,
            help,
            ..
        } = finding;
        eprintln!("{word}: {place}: {problem}");
        eprintln!("  help: {help}");
    }
    let wrong = findings.iter().filter(|f| f.severity == Severity::Error);
    match wrong.count() {
        0 => Ok(()),
        1 => Err(Failure::Failed(anyhow!("one thing does not work"))),
        n => Err(Failure::Failed(anyhow!("{n} things do not work"))),
    }
}

fn buckets(plan: &Plan) -> impl Iterator<Item = Finding> {
    bucket::Settings::of(plan)
        .into_iter()
        .filter_map(|settings| {
            let error = anyhow::Error::from(settings.open().err()?);
            Some(Finding {
                severity: Severity::Error,
                place: format!("buckets.{}", settings.name),
                problem: format!("{error:#}"),
                help: "make the folder, or correct `url`".to_owned(),
            })
        })
}
