//! `tidemill check`: all that is wrong with a file, without starting anything, and if asked for, with
//! what it connects to.

use std::path::Path;

use anyhow::anyhow;
use serde_json::json;
use tidemill_config::{
    Loaded,
    plan::{NotBuilt, Plan},
};
use tidemill_connectors::{
    amqp,
    bucket::{self, Bucket, BucketConnector},
    check::{Finding, Severity},
    kafka,
};

use super::{Failure, counted, load};

pub(super) fn check(file: &Path, connect: bool, json: bool) -> Result<(), Failure> {
    if json {
        return check_json(file, connect);
    }
    let plan = load(file)?;
    for note in notes(&plan) {
        outln!("note: {note}");
    }
    if connect {
        let findings = try_out(&plan)?;
        for finding in &findings {
            show(finding);
        }
        verdict(&findings)?;
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
    let parts = parts.map(|(n, what)| counted(n as u64, what));
    let parts: Vec<_> = parts.collect();
    outln!("{}: fine: {}", file.display(), parts.join(", "));
    Ok(())
}

/// The same for programs: one object, whatever was found.
fn check_json(file: &Path, connect: bool) -> Result<(), Failure> {
    let (plan, problems) = match tidemill_config::load(file) {
        Ok(Loaded { plan, warnings }) => (Some(plan), warnings),
        Err(invalid) => (None, invalid.problems),
    };
    let findings = match plan.as_ref().filter(|_| connect) {
        Some(plan) => try_out(plan)?,
        None => Vec::new(),
    };
    let notes = plan.as_ref().map(notes).unwrap_or_default();
    let tried = verdict(&findings);
    let fine = plan.is_some() && tried.is_ok();
    let all = json!({ "fine": fine, "problems": problems, "notes": notes, "findings": findings });
    outln!("{all}");
    match plan {
        Some(_) => tried,
        None => Err(Failure::Shown),
    }
}

/// What a user may want to know of a plan that is fine.
fn notes(plan: &Plan) -> Vec<String> {
    let not_built = plan.not_built.iter().map(|NotBuilt { at, what }| {
        format!("{at}: {what} is not built yet: `run` will refuse it")
    });
    let functions = plan.functions.values();
    let absent = functions.filter(|function| !function.component.exists());
    let absent = absent.map(|function| {
        let (name, path) = (&function.name, function.component.display());
        format!("function `{name}`: its component {path} is not there yet")
    });
    not_built.chain(absent).collect()
}

/// Tries everything that the plan connects to: what is wrong there.
fn try_out(plan: &Plan) -> Result<Vec<Finding>, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    let all = async { tokio::join!(buckets(plan), amqp::check(plan), kafka::check(plan)) };
    let (buckets, amqp, kafka) = runtime.block_on(all);
    // A client that still tries to connect is not waited for.
    runtime.shutdown_background();
    Ok([buckets, amqp, kafka].concat())
}

fn show(finding: &Finding) {
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

fn verdict(findings: &[Finding]) -> Result<(), Failure> {
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
