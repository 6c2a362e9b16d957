//! HTTP: requests made durable and answered with 202, and requests answered by a handler, both over bare servers.

pub mod floor;

use anyhow::Result;

use crate::{
    Effort, component,
    figure::Figure,
    floors::{Floor, Role},
    load::Load,
    measure,
    site::Site,
};

/// Bytes of a request's body.
const BYTES: usize = 1024;

/// Connections, the requests of one repetition over them, and how the figure is called.
const ACCEPTS: [(usize, u64, &str); 3] = [
    (1, 4000, "HTTP accepts, 1 connection"),
    (32, 40_000, "HTTP accepts, 32 connections"),
    (256, 40_000, "HTTP accepts, 256 connections"),
];

/// Requests of one repetition that are answered by a handler, and their connections.
const CALLS: u64 = 40_000;
const CALLERS: usize = 32;

const FLOOR: &str = "a bare axum server with one route that takes the body, inserts it with an id and a time into a SQLite file (WAL, \
    synchronous=FULL, greedy group commit), and then answers 202. The engine keeps the request's headers too, and one \
    row more for the delivery, which waits: a rate lets one event in an hour through.";

const SERVE: &str = "`wasmtime serve`, as its release comes: a fresh instance for each request. Its handler is a Rust component of \
    wasi:http, the engine's one of its own contract: both take the whole body in and answer 204.";

/// Measures it.
pub fn run(effort: Effort) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (connections, requests, name) in ACCEPTS {
        let requests = effort.of(requests);
        let samples = measure::in_turn(
            name,
            effort,
            || engine("async", "rate = \"1/h\"", 202, requests, connections),
            || floor(Floor::own(Role::Accepts, 0)?, 202, requests, connections),
        )?;
        figures.push(Figure::rate(name, Some(0.8), FLOOR, &samples));
        figures.push(Figure::cpu(&format!("{name}, CPU"), None, FLOOR, &samples));
    }
    let requests = effort.of(CALLS);
    let proxy = component("bench-proxy")?;
    let name = "HTTP calls, 32 connections";
    let samples = measure::in_turn(
        name,
        effort,
        || engine("sync", "", 204, requests, CALLERS),
        || floor(Floor::wasmtime(&proxy)?, 204, requests, CALLERS),
    )?;
    figures.push(Figure::rate(name, Some(4.0), SERVE, &samples));
    figures.push(Figure::cpu(&format!("{name}, CPU"), None, SERVE, &samples));
    Ok(figures)
}

fn engine(
    mode: &str,
    more: &str,
    status: u16,
    requests: u64,
    connections: usize,
) -> Result<measure::Sample> {
    let config = format!(
        r#"
[functions.work]
component = "{handler}"
[triggers.work]
function = "work"
http = {{ path = "/work", methods = ["POST"], mode = "{mode}" }}
{more}
"#,
        handler = component("bench-handler")?.display(),
    );
    let mut site = Site::start(&config)?;
    let load = Load::post(&site.http()?, "/work", &[b'x'; BYTES], status);
    let sample = load.run(requests, connections, site.pid())?;
    site.stop()?;
    Ok(sample)
}

fn floor(
    mut floor: Floor,
    status: u16,
    requests: u64,
    connections: usize,
) -> Result<measure::Sample> {
    let load = Load::post(&floor.address()?, "/work", &[b'x'; BYTES], status);
    load.run(requests, connections, floor.pid())
}
