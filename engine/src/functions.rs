//! Deployed functions: a component's bytes read, kept by digest, compiled and bound to its settings.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tidemill_config::plan::FunctionPlan;
use tidemill_sandbox::{Function, Keep, Limits, LoadError, Sandbox};

use crate::{dispatcher::Computes, metrics::AttemptCounts};

/// The largest component that is read; compiled code is about ten times as large.
const COMPONENT_BYTES: u64 = 256 << 20;

/// A function that can run.
pub struct Deployed {
    /// Its plan.
    pub plan: Arc<FunctionPlan>,
    /// Its compiled component.
    pub component: Function,
    /// Whether its last attempts computed.
    pub computes: Arc<Computes>,
    /// Where its attempts are counted.
    pub counts: AttemptCounts,
}

/// Why a function cannot be deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The component's file cannot be read.
    #[error("function `{function}`: cannot read component {}: {cause}; {hint}", path.display())]
    Read {
        /// The function.
        function: String,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// It is too large.
    #[error(
        "function `{function}`: component {} has {bytes} bytes; the most is {COMPONENT_BYTES}: \
         strip it and build it for release", path.display()
    )]
    TooLarge {
        /// The function.
        function: String,
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The sandbox does not take it.
    #[error("component {}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<LoadError>,
    },
    /// A setting cannot be resolved.
    #[error("function `{function}`: {key}: {reason}")]
    Setting {
        /// The function.
        function: String,
        /// The key in the file.
        key: String,
        /// Why.
        reason: String,
    },
    /// The bytes cannot be kept.
    #[error("function `{function}`: cannot keep its component in {}", path.display())]
    Keep {
        /// The function.
        function: String,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads, keeps and compiles one function; what is the same as before is not compiled again. Blocks.
pub fn deploy(
    sandbox: &Sandbox,
    data: &Path,
    payload: u64,
    plan: &Arc<FunctionPlan>,
    before: Option<&Deployed>,
) -> Result<Deployed, DeployError> {
    let bytes = read(plan)?;
    let limits = Limits {
        memory: plan.memory,
        timeout: plan.timeout,
        output: plan.output,
        payload,
    };
    let settings = settings(plan)?;
    let keep = Keep {
        warm: plan.warm,
        reuse: plan.reuse,
    };
    if let Some(before) = before
        && let component = &before.component
        && component.is_made_of(&bytes, limits, &settings)
    {
        return Ok(Deployed {
            plan: plan.clone(),
            computes: before.computes.clone(),
            counts: AttemptCounts::default(),
            component: match component.keeps() == keep {
                true => component.clone(),
                false => component.keeping(keep),
            },
        });
    }
    let component = sandbox
        .load(&plan.name, &bytes, limits, settings)
        .map_err(|source| DeployError::Load {
            path: plan.component.clone(),
            source: Box::new(source),
        })?;
    store(data, component.digest(), &bytes).map_err(|source| DeployError::Keep {
        function: plan.name.clone(),
        path: data.to_owned(),
        source,
    })?;
    Ok(Deployed {
        plan: plan.clone(),
        component: component.keeping(keep),
        computes: Arc::default(),
        counts: AttemptCounts::default(),
    })
}

impl Deployed {
    /// Makes the instances that are to be ready before an event comes.
    pub async fn warm_up(&self) -> Result<(), DeployError> {
        let warm = self.component.warm_up().await;
        warm.map_err(|problem| DeployError::Load {
            path: self.plan.component.clone(),
            source: Box::new(LoadError {
                function: self.plan.name.clone(),
                problem,
            }),
        })
    }
}

fn read(plan: &FunctionPlan) -> Result<Vec<u8>, DeployError> {
    let failed = |cause: io::Error| {
        let hint = match cause.kind() {
            io::ErrorKind::NotFound => {
                "build it (`make functions` builds the examples), or correct `component`"
            }
            io::ErrorKind::PermissionDenied => "let the user that runs the engine read it",
            _ => "correct `component`",
        };
        DeployError::Read {
            function: plan.name.clone(),
            path: plan.component.clone(),
            cause,
            hint,
        }
    };
    let bytes = fs::metadata(&plan.component).map_err(failed)?.len();
    if bytes > COMPONENT_BYTES {
        let (function, path) = (plan.name.clone(), plan.component.clone());
        return Err(DeployError::TooLarge {
            function,
            path,
            bytes,
        });
    }
    fs::read(&plan.component).map_err(failed)
}

/// What the handler reads as configuration: `env` and `secrets`, resolved.
fn settings(plan: &FunctionPlan) -> Result<Vec<(String, String)>, DeployError> {
    let sections: [(&str, &BTreeMap<_, _>); 2] = [("env", &plan.env), ("secrets", &plan.secrets)];
    let mut settings = BTreeMap::new();
    for (section, values) in sections {
        for (name, text) in values {
            let value = text.resolve().map_err(|error| DeployError::Setting {
                function: plan.name.clone(),
                key: format!("{section}.{name}"),
                reason: error.to_string(),
            })?;
            settings.insert(name.clone(), value.expose().to_owned());
        }
    }
    Ok(settings.into_iter().collect())
}

/// Keeps the bytes by their digest, so that what ran can be told and run again.
fn store(data: &Path, digest: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = data.join("components");
    let path = folder.join(format!("{digest}.wasm"));
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    // Functions with the same component are deployed at the same time: each writes its own file.
    let new = folder.join(format!("{digest}.{:016x}.new", fastrand::u64(..)));
    fs::write(&new, bytes)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, &path)
}
