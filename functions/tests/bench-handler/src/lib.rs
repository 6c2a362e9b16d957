//! The least that a handler can do: it is given an event, or a batch of them, parses nothing, and answers ok. What a
//! benchmark measures with it is the engine's work and not the handler's.

use tidemill_sdk::{Event, Failure, batch_handler};

fn handle(_: Event) -> Result<(), Failure> {
    Ok(())
}

batch_handler!(each = handle, arena = 1 << 20);
