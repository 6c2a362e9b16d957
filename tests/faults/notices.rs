//! Notifications that are lost, doubled, late and out of order, and an engine that is killed while
//! they come. The listing at its start finds what nobody told.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{kills, seed};
use crate::harness::{S3, Site, Sqs, wait_until_none_left};

const CONFIG: &str = r#"
[buckets.in]
url = "s3://BUCKET"
[functions.probe]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "all", "type": "" }' }
allow = { store = ["probe"] }
[triggers.work]
function = "probe"
bucket = { name = "in", on = ["created", "deleted"], rescan = "1h", notify = { sqs = { queue = "QUEUE" } } }
"#;

/// Each version of each object takes effect once: a tenth of the kills of the other faults.
#[test]
fn each_version_takes_effect_exactly_once_whatever_becomes_of_notifications() {
    let kills = (kills() / 10).max(2);
    let uploads = kills * 500;
    let mut random = fastrand::Rng::with_seed(seed());
    let (bucket, told, passed_on) = (S3::new(), Sqs::new(), Sqs::new());
    bucket.tell(&told);
    let config = CONFIG.replace("BUCKET", &bucket.name);
    let site = Site::new(&config.replace("QUEUE", &passed_on.url()));
    let mut objects = Objects {
        bucket: &bucket,
        site: &site,
        events: BTreeMap::new(),
    };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let relay = random.fork();
        scope.spawn(|| pass_on(&told, &passed_on, relay, &ended));
        let _end = End(&ended);
        // All but one while they come, the last one while they change.
        for round in 0..kills - 1 {
            let engine = site.spawn(&bucket.env());
            for n in (round..uploads).step_by(kills - 1) {
                objects.put(n, "first");
            }
            thread::park_timeout(Duration::from_millis(random.u64(0..1500)));
            engine.kill();
        }
        objects.are_handled();
        let engine = site.spawn(&bucket.env());
        for n in (0..uploads).step_by(10) {
            objects.put(n, "second");
            objects.delete(n + 1);
        }
        thread::park_timeout(Duration::from_millis(random.u64(0..1500)));
        engine.kill();
        objects.are_handled();
        // What went comes back as it was.
        for n in (0..uploads).step_by(10) {
            objects.put(n + 1, "first");
        }
        objects.are_handled();
    });
    let events = site.counters("all:");
    let wrong = events.iter().find(|(_, count)| **count != 1);
    assert_eq!(wrong, None, "an event took effect more than once");
    assert_eq!(events.len() as u64, objects.events.values().sum::<u64>());
    assert_eq!(site.counters("all@"), objects.events);
    assert_eq!(site.dead_letters(), 0);
}

/// What the oracle did with the objects.
struct Objects<'a> {
    bucket: &'a S3,
    site: &'a Site,
    /// How many events each key must have had.
    events: BTreeMap<String, u64>,
}

impl Objects<'_> {
    fn put(&mut self, n: usize, content: &str) {
        let key = self.changes(n);
        self.bucket.put(&key, format!("{content} {n}"));
    }

    fn delete(&mut self, n: usize) {
        let key = self.changes(n);
        self.bucket.delete(&key);
    }

    fn changes(&mut self, n: usize) -> String {
        let key = format!("{}/{n:05}", n % 7);
        *self.events.entry(key.clone()).or_default() += 1;
        key
    }

    /// An engine handles what there is, and stops.
    fn are_handled(&self) {
        let engine = self.site.spawn(&self.bucket.env());
        let all = self.events.values().sum::<u64>() as usize;
        wait_until_none_left("every version was handled", || {
            all.saturating_sub(self.site.count("all:"))
        });
        engine.wait_idle();
        engine.stop();
    }
}

/// Between the queue that the store fills and the one that the engine empties: loses a tenth of the
/// messages, doubles a fifth, and delays a third, each by up to three seconds.
fn pass_on(from: &Sqs, to: &Sqs, mut random: fastrand::Rng, ended: &AtomicBool) {
    let mut held: Vec<(Instant, String)> = Vec::new();
    let mut fates = [0; 3];
    while !ended.load(Ordering::Relaxed) {
        for message in from.take() {
            let copies = match random.u8(0..10) {
                0 => 0,
                1 | 2 => 2,
                _ => 1,
            };
            fates[copies] += 1;
            for _ in 0..copies {
                let delay = match random.u8(0..3) {
                    0 => random.u64(0..3000),
                    _ => 0,
                };
                let due = Instant::now() + Duration::from_millis(delay);
                held.push((due, message.clone()));
            }
        }
        random.shuffle(&mut held);
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = held.drain(..).partition(|(due, _)| *due <= now);
        held = later;
        let due: Vec<String> = due.into_iter().map(|(_, message)| message).collect();
        due.chunks(10).for_each(|some| to.send(some));
    }
    let [lost, once, twice] = fates;
    println!("notifications: {lost} lost, {once} passed on, {twice} doubled");
}

/// Ends what waits for it, also when a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
