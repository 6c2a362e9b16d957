//! Listing: the first look of the engine at a large bucket, with all objects for old or as events, over a bare listing.

mod floor;

use anyhow::Result;

use crate::{
    Effort, component,
    figure::Figure,
    measure::{self, Sample},
    site::Site,
    synthetic::Synthetic,
};

/// Objects of one repetition that are for old, and those that become events.
const OLD: u64 = 400_000;
const EVENTS: u64 = 40_000;

const FLOOR: &str = "object_store's own listing of the same bucket over a bare hyper client, each page in turn: what \
    comes is counted and nothing kept. The engine compares each object with its ledger and makes it durable. The server \
    is a part of this program and makes objects up, so in the floor's CPU is the server's.";

const EVENT_FLOOR: &str = "the same. Each object that becomes an event is asked for its metadata first (one request), \
    because it may tell of hops, and is committed with its event; no trigger matches.";

/// Measures it.
pub fn run(effort: Effort) -> Result<Vec<Figure>> {
    let (old, events) = (effort.of(OLD), effort.of(EVENTS));
    let server = Synthetic::start(old, 1);
    let endpoint = server.endpoint();
    let first = measure::in_turn(
        "listing, start = \"now\"",
        effort,
        || engine(&endpoint, old, "start = \"now\""),
        || floor::run(&endpoint, old),
    )?;
    let server = Synthetic::start(events, 1);
    let endpoint = server.endpoint();
    let with_events = measure::in_turn(
        "listing, events",
        effort,
        || engine(&endpoint, events, "suffix = [\".none\"]"),
        || floor::run(&endpoint, events),
    )?;
    Ok(vec![
        Figure::rate("Listing, all for old", Some(0.7), FLOOR, &first),
        Figure::rate("Listing, all events", None, EVENT_FLOOR, &with_events),
    ])
}

/// The first scan of an engine that was never here.
fn engine(endpoint: &str, objects: u64, trigger: &str) -> Result<Sample> {
    let config = format!(
        r#"
[buckets.in]
url = "s3://synthetic"
options = {{ endpoint = "{endpoint}", access_key_id = "test", secret_access_key = "test" }}
[functions.work]
component = "{handler}"
[triggers.work]
function = "work"
bucket = {{ name = "in", rescan = "24h", {trigger} }}
"#,
        handler = component("bench-handler")?.display(),
    );
    let site = Site::start(&config)?;
    let listed = || site.metric("tidemill_bucket_objects", "bucket=\"in\"");
    let sample = measure::watch(objects, site.pid(), listed)?;
    site.stop()?;
    Ok(sample)
}
