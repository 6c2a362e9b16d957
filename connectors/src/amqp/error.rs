//! What keeps AMQP from being used: parts of a plan that can never work, and brokers that refuse, in
//! words for whoever has to mend it. No text shows a secret.

use std::{error::Error, fmt, io};

use lapin::{ErrorKind, protocol::AMQPError};
use tidemill_config::reference::ReferenceError;

/// An AMQP connection or destination of the plan cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The plan has no such connection to an AMQP broker.
    #[error("connection `{0}` does not lead to an AMQP broker; give it `amqp = \"amqp://...\"`")]
    NotAmqp(String),
    /// A reference stands for nothing.
    #[error("cannot look up `connections.{connection}.amqp`")]
    Reference {
        /// The connection.
        connection: String,
        /// Why.
        source: ReferenceError,
    },
    /// The address is none.
    #[error(
        "`connections.{connection}.amqp` is not the address of a broker ({why}); expected one like amqp://user:password@host:5672/%2f"
    )]
    Address {
        /// The connection.
        connection: String,
        /// What is wrong with it.
        why: String,
    },
    /// The name of a queue that is to be made is too long for what belongs to it.
    #[error(
        "the queue `{0}` cannot be declared: with `.dead` behind it, for its dead letters, its name is longer than the 255 bytes of AMQP; shorten it, or make the queue yourself and remove `declare`"
    )]
    TooLong(String),
}

/// A broker cannot be used at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What is wrong, with what.
    pub problem: String,
    /// What to do next.
    pub help: String,
}

impl Trouble {
    pub(super) fn new(problem: impl Into<String>, help: impl Into<String>) -> Trouble {
        Trouble {
            problem: problem.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.help)
    }
}

/// What the broker said, if it is the broker who ended it.
pub(super) fn said(error: &lapin::Error) -> Option<&AMQPError> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error),
        _ => None,
    }
}

/// The code by which the broker ended it; zero, if it is not the broker who did.
pub(super) fn code(error: &lapin::Error) -> u16 {
    said(error).map_or(0, AMQPError::get_id)
}

/// What went wrong, with its causes, each once.
pub(super) fn words(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => chain(&**error),
        ErrorKind::MissingHeartbeatError => "the broker was silent for too long".to_owned(),
        ErrorKind::InvalidConnectionState(_) => "the connection is closed".to_owned(),
        ErrorKind::InvalidChannelState(..) => "the channel is closed".to_owned(),
        _ => error.to_string(),
    }
}

/// What TLS did not like, if it was that.
pub(super) fn tls(error: &lapin::Error) -> Option<&rustls::Error> {
    let ErrorKind::IOError(error) = error.kind() else {
        return None;
    };
    let mut cause: Option<&(dyn Error + 'static)> = Some(&**error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        cause = inside(error);
    }
    None
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = inside(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inside(error);
    }
    text
}

/// The cause of an error. What is inside of an input or output error is not its source.
fn inside<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}
