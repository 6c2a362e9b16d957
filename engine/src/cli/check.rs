//! `tidemill check`: all that is wrong with a file, without starting anything, and if asked for, with
//! what it connects to.

use std::path::Path;

use anyhow::anyhow;
use tidemill_config::plan::Plan;
use tidemill_connectors::{
    amqp,
    bucket::{self, Bucket, BucketConnector},
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
    let all = async { tokio::join!(buckets(plan), amqp::check(plan), kafka::check(plan)) };
    let (buckets, amqp, kafka) = runtime.block_on(all);
    // A client that still tries to connect is not waited for.
    runtime.shutdown_background();
    let findings: Vec<Finding> = [buckets, amqp, kafka].concat();
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

/// Asks the queue that a bucket's notifications come by how it is.
async fn queue(settings: &bucket::Settings, bucket: Bucket) -> Option<Finding> {
    let (rescan, notify) = (settings.rescan?, settings.notify.as_ref()?);
    let problem = match BucketConnector::new(bucket, rescan).notified(notify) {
        Ok(connector) => connector.try_out().await.err()?,
        Err(error) => format!("{:#}", anyhow::Error::from(error)),
    };
    Some(Finding {
        severity: Severity::Error,
        place: format!("buckets.{}", settings.name),
        problem,
        help: "correct `notify` in the triggers of the bucket, or make the queue".to_owned(),
    })
}

/// Opens each bucket, and asks those of object stores for an object.
async fn buckets(plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    for settings in bucket::Settings::of(plan) {
        let problem = match settings.open() {
            Ok(bucket) if bucket.traffic().is_some() => match bucket.list("", None, 1).await {
                Ok(_) => {
                    findings.extend(queue(&settings, bucket).await);
                    continue;
                }
                Err(error) => error.chain(),
            },
            Ok(_) => continue,
            Err(error) => format!("{:#}", anyhow::Error::from(error)),
        };
        let help = match settings.place {
            bucket::Place::Folder(_) => "make the folder, or correct `url`",
            bucket::Place::Remote(_) => "correct `url` and `options`",
        };
        findings.push(Finding {
            severity: Severity::Error,
            place: format!("buckets.{}", settings.name),
            problem,
            help: help.to_owned(),
        });
    }
    findings
}
