//! Greets whoever asks, and counts how often.

use serde::Deserialize;
use tidemill_sdk::{Event, Failure, handler, kv, log};

#[derive(Deserialize)]
struct Ask {
    name: String,
}

fn handle(event: Event) -> Result<String, Failure> {
    // Data of another shape are rejected: an error of the sender, which no retry mends.
    let ask: Ask = event.json()?;
    // Takes effect once for each event, whatever happens in between.
    let count = kv::open("NAME")?.increment(&ask.name, 1)?;
    log::info!("greeted"; name = ask.name, count = count);
    Ok(greeting(&ask.name, count))
}

fn greeting(name: &str, count: i64) -> String {
    format!("Hello, {name}! ({count})\n")
}

handler!(handle);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greets() {
        assert_eq!(greeting("mill", 2), "Hello, mill! (2)\n");
    }
}
