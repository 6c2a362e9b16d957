//! Faults: kills at random moments, a full disk, a disk that cannot sync. The counts are taken from
//! outside: by the files there are, and by plain SQL on the journal's file.

mod account;
mod disk;
mod group;
mod kill;
mod lanes;
mod notices;
mod poison;
mod queues;
mod storm;

/// The seed of the moments: printed, and taken from the environment to repeat a run.
fn seed() -> u64 {
    let given = std::env::var("TIDEMILL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("TIDEMILL_SEED={seed}");
    seed
}

/// How often the engine is killed.
fn kills() -> usize {
    let given = std::env::var("TIDEMILL_KILLS").ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(20)
}

/// Counts each object once in a counter of its own and once in one for all, and writes one to `out`.
const TALLY: &str = r#"
[engine]
admin = "127.0.0.1:0"
[buckets.in]
url = "file:buckets/in"
[buckets.out]
url = "file:buckets/out"
[functions.tally]
component = "PROBE"
env = { ORDER = '{ "do": "tally", "key": "all", "bucket": "out" }' }
allow = { read = ["in"], write = ["out"], store = ["probe"] }
[triggers.tally]
function = "tally"
bucket = { name = "in", rescan = "1s" }
"#;
