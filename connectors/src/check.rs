//! What `tidemill check --connect` finds when it tries the brokers of a plan. The connectors find it;
//! nothing here connects to anything.

use serde::Serialize;

/// Something that is wrong, or may become so, with what the plan connects to. No text shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where in the plan, such as `connections.telemetry`.
    pub place: String,
    /// What is wrong, with what.
    pub problem: String,
    /// What to do next.
    pub help: String,
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It works, but not as well as one may think.
    Warning,
    /// It does not work.
    Error,
}
