//! The way in from the engine and out again: one call of the handler, for one event or for a batch. A panic becomes a line in the
//! engine's log before the trap, because a trap by itself says nothing but `unreachable`.

use std::{panic, sync::Once};

use crate::{
    Batch, Event, Failure, IntoReply,
    bindings::{batch::tidemill::function::batch, tidemill::function::types},
    log::{self, Level},
};

/// The answer to one event, as the engine takes it.
pub type RawAnswer = Result<Option<types::Reply>, types::Failure>;

/// Runs `handler` for `event`.
///
/// # Errors
///
/// What the handler failed with.
pub fn run<R: IntoReply>(
    handler: impl FnOnce(Event) -> Result<R, Failure>,
    event: types::Event,
) -> RawAnswer {
    report_panics();
    let reply = handler(event.into())?;
    Ok(reply.into_reply().map(Into::into))
}

/// Runs `handler` for one event of a batch after the other.
pub fn run_each<R: IntoReply>(
    handler: impl Fn(Event) -> Result<R, Failure>,
    events: Vec<types::Event>,
) -> Vec<RawAnswer> {
    let one = |(index, event)| {
        batch::begin(index);
        // Later events are not to see what a failed one did.
        run(&handler, event).inspect_err(|_| batch::discard(index))
    };
    (0..).zip(events).map(one).collect()
}

/// Runs `handler` for a batch as a whole.
pub fn run_whole(
    handler: impl FnOnce(&mut Batch) -> Result<(), Failure>,
    events: Vec<types::Event>,
) -> Vec<RawAnswer> {
    report_panics();
    let mut batch = Batch::new(events);
    let done = handler(&mut batch);
    batch.into_answers(done)
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
