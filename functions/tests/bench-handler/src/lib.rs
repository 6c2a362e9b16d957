//! The least that a handler can do: it is given an event, parses nothing, and answers ok. What a benchmark
//! measures with it is the engine's work and not the handler's.

use tidemill_sdk::{Event, Failure, handler};

fn handle(_: Event) -> Result<(), Failure> {
    Ok(())
}

handler!(handle);
