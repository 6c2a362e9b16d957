//! The way in from the engine and out again: one call of the handler for one event. A panic becomes a line in the
//! engine's log before the trap, because a trap by itself says nothing but `unreachable`.

use std::{panic, sync::Once};

use crate::{
    Event, Failure, IntoReply,
    bindings::tidemill::function::types,
    log::{self, Level},
};

/// Runs `handler` for `event`.
///
/// # Errors
///
/// What the handler failed with.
pub fn run<R: IntoReply>(
    handler: impl FnOnce(Event) -> Result<R, Failure>,
    event: types::Event,
) -> Result<Option<types::Reply>, types::Failure> {
    report_panics();
    let reply = handler(event.into())?;
    Ok(reply.into_reply().map(Into::into))
}

fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let text = info.payload_as_str().unwrap_or("a value that is no text");
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            log::write(
                Level::Error,
                &format!("the handler panicked: {text}"),
                &[("at", &place)],
            );
        }));
    });
}
