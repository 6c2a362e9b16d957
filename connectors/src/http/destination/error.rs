//! What keeps a destination from being used, found before anything runs.

use tidemill_config::reference::ReferenceError;
use tidemill_core::destination::Role;

/// An HTTP destination of the plan cannot be used. The text says what to do, and shows no secret.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A reference stands for nothing.
    #[error("trigger `{trigger}`: cannot look up `{key}.http.{part}`")]
    Reference {
        /// The trigger.
        trigger: String,
        /// The key of the destination in the trigger.
        key: &'static str,
        /// The key in the destination.
        part: String,
        /// Why.
        source: ReferenceError,
    },
    /// The address is none.
    #[error(
        "trigger `{trigger}`: `{key}.http.url` is not an address ({why}); expected one like https://example.com/path"
    )]
    Address {
        /// The trigger.
        trigger: String,
        /// The key of the destination in the trigger.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The name or the value of a header is not one.
    #[error("trigger `{trigger}`: `{key}.http.headers` cannot send {header:?}: {why}")]
    Header {
        /// The trigger.
        trigger: String,
        /// The key of the destination in the trigger.
        key: &'static str,
        /// The header's name.
        header: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system has no certificates of authorities.
    #[error(
        "the plan posts to https addresses, but the system has no certificates to tell their servers by; install the package ca-certificates, or name a file with SSL_CERT_FILE"
    )]
    NoAuthorities,
}

/// The key of a destination in its trigger.
pub(super) fn key(role: Role) -> &'static str {
    match role {
        Role::OnSuccess => "on_success",
        Role::DeadLetter => "dead_letter",
    }
}
