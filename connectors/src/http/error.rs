//! What keeps the HTTP triggers from starting, in words that say where in the file it is. What
//! clients are told is in `refusal.rs`.

use std::{io, net::SocketAddr};

use tidemill_config::reference::ReferenceError;

/// The HTTP triggers cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A secret cannot be looked up.
    #[error("cannot look up the secret of `verify` of trigger `{trigger}`")]
    Secret {
        /// The trigger.
        trigger: String,
        /// Why.
        source: ReferenceError,
    },
    /// A secret is empty: everybody knows it.
    #[error(
        "the secret of `verify` of trigger `{trigger}` is empty, so that everybody knows it; set it, or leave `verify` out to let everybody in"
    )]
    EmptySecret {
        /// The trigger.
        trigger: String,
    },
    /// Two paths stand for the same requests, or one is none.
    #[error(
        "the path \"{path}\" of trigger `{trigger}` cannot be served; write paths of the same shape with the same parameter names"
    )]
    Path {
        /// The trigger.
        trigger: String,
        /// Its path.
        path: String,
        /// Why.
        source: matchit::InsertError,
    },
    /// The address cannot be taken.
    #[error("cannot listen on engine.http = \"{address}\"; {hint}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What to do.
        hint: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn bind(address: SocketAddr, source: io::Error) -> Error {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another process has it: stop that one (`ss -ltnp` shows it), or choose another port"
            }
            io::ErrorKind::PermissionDenied => "choose a port above 1023",
            _ => "choose an address of this machine",
        };
        Error::Bind {
            address,
            hint,
            source,
        }
    }
}
