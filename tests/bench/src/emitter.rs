//! Where many accepted events come from at once: a function of the engine that emits as many as a request asks for, all
//! of them durable before the request is answered.

use anyhow::Result;
use serde_json::json;

use crate::{component, load::Load};

/// The most events that one request emits: its commit is to be no larger than one of the journal's is.
const AT_A_TIME: u64 = 1000;

/// The configuration of an emitter of events of this type.
pub fn config(kind: &str) -> Result<String> {
    Ok(format!(
        r#"
[functions.emitter]
component = "{probe}"
allow = {{ emit = ["{kind}"] }}
[triggers.emitter]
function = "emitter"
http = {{ path = "/emit", methods = ["POST"], mode = "sync" }}
"#,
        probe = component("probe")?.display(),
    ))
}

/// Has the engine at `address` emit so many events, of this type and with this text as data.
pub fn emit(address: &str, kind: &str, text: &str, events: u64) -> Result<()> {
    let order = |count: u64| {
        let order = json!({ "do": "emit", "count": count, "type": kind, "text": text });
        Load::post(address, "/emit", order.to_string().as_bytes(), 200)
    };
    order(AT_A_TIME).send(events / AT_A_TIME, 1)?;
    match events % AT_A_TIME {
        0 => Ok(()),
        rest => order(rest).send(1, 1),
    }
}
