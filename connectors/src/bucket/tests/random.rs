//! Random operations on files while the connector runs, restarts and is refused; whenever they
//! pause, the ledger comes to agree with the folder, and no event was offered twice (the ledger of
//! these tests sees to that).

use std::{collections::BTreeSet, fs};

use super::*;
use crate::bucket::{key, walk::Step, walk::Walk};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn folder(&mut self) -> String {
        ["", "d/", "d/e/", "d/e/f/", "g/", "g/h/"][self.next(6) as usize].to_owned()
    }

    fn key(&mut self) -> String {
        let folder = self.folder();
        format!("{folder}file{}", self.next(5))
    }
}

/// One operation. Those that fail, because nothing is there, are no operations.
fn operate(world: &World, random: &mut Random, n: usize) {
    let content = "x".repeat(1 + random.next(40) as usize);
    let key = random.key();
    let path = world.path(&key);
    let make_room = || {
        let _ = fs::create_dir_all(path.parent().unwrap());
    };
    let _ = match random.next(12) {
        0..=3 => {
            make_room();
            fs::write(&path, content)
        }
        4 => {
            make_room();
            let new = world.outside(&format!("new{n}"));
            fs::write(&new, content).unwrap();
            fs::rename(&new, &path)
        }
        5 => fs::remove_file(&path),
        6 => fs::rename(&path, world.path(&random.key())),
        // Only one name stays: what is written by another name is left to rescans.
        7 => {
            make_room();
            let new = world.outside(&format!("new{n}"));
            fs::write(&new, content).unwrap();
            let linked = fs::hard_link(&new, &path);
            fs::remove_file(&new).unwrap();
            linked
        }
        8 => fs::rename(
            world.path(random.folder().trim_end_matches('/')),
            world.path(random.folder().trim_end_matches('/')),
        ),
        9 => {
            let folder = random.folder();
            if folder.is_empty() {
                return;
            }
            fs::remove_dir_all(world.path(&folder))
        }
        10 => fs::rename(world.path("d"), world.outside("away")),
        _ => fs::rename(world.outside("away"), world.path("g/back")),
    };
}

fn listing(bucket: &Bucket) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for step in Walk::new(bucket.folder().unwrap(), bucket.folder().unwrap().root()) {
        if let Step::File { key, file } = step {
            let object = key::object(key, &fs::metadata(file).unwrap());
            all.insert((object.key, object.etag));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_follows_whatever_happens() {
    let seed = match std::env::var("TIDEMILL_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::process::id().into(),
    };
    println!("TIDEMILL_SEED={seed}");
    let rounds = std::env::var("TIDEMILL_ROUNDS").map_or(20, |n| n.parse().unwrap());
    let mut random = Random(seed);
    let world = World::new();
    let bucket = world.bucket();
    let mut running = Some(world.start().await);
    let mut versions = 0;
    for round in 0..rounds {
        // At times nobody is there to see it.
        let asleep = random.next(4) == 0;
        if asleep && let Some(running) = running.take() {
            running.stop().await;
        }
        if random.next(3) == 0 {
            let refusals = random.next(50) as usize;
            world.ledger.with(|l| l.refusals = refusals);
        }
        if random.next(3) == 0 {
            let lost = random.next(20) as usize;
            world.ledger.with(|l| l.lost = lost);
        }
        for n in 0..random.next(80) as usize {
            operate(&world, &mut random, n);
            if random.next(10) == 0 {
                tokio::task::yield_now().await;
            }
        }
        let tuning = Tuning {
            hints: if random.next(3) == 0 { 8 } else { QUICK.hints },
            ..QUICK
        };
        if running.is_none() {
            running = Some(world.start_with(tuning, NEVER).await);
        }
        let there = listing(&bucket);
        versions += there.len();
        let differences = |l: &fake::Inner| {
            let live = l
                .entries
                .values()
                .filter_map(|e| Some((e.key.clone(), e.etag.clone()?)));
            let live: BTreeSet<_> = live.collect();
            let only = |one: &BTreeSet<_>, two| one.difference(two).cloned().collect::<Vec<_>>();
            (only(&there, &live), only(&live, &there))
        };
        let agreed = |l: &fake::Inner| differences(l) == (Vec::new(), Vec::new());
        let agreed = world.ledger.wait("agreement", agreed);
        if tokio::time::timeout(PATIENCE / 2, agreed).await.is_err() {
            let (folder, ledger) = world.ledger.with(|l| differences(l));
            let state = running.unwrap().health.status();
            panic!(
                "round {round}, only in the folder: {folder:?}, in the ledger: {ledger:?}; {state:?}"
            );
        }
    }
    assert!(versions > 0);
    running.unwrap().stop().await;
    // A new connector has nothing to add.
    let offers = world.ledger.with(|l| l.events.len());
    world.start().await.stop().await;
    assert_eq!(world.ledger.with(|l| l.events.len()), offers);
}
