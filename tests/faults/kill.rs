//! kill -9 at random moments while files arrive.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{TALLY, kills, seed};
use crate::harness::{Site, files, wait_until_none_left};

#[test]
fn every_object_takes_effect_exactly_once_whenever_the_engine_dies() {
    let kills = kills();
    let mut random = fastrand::Rng::with_seed(seed());
    let site = Site::new(TALLY);
    let (inbox, outbox) = (site.bucket("in"), site.bucket("out"));

    // Somebody drops files, in every way there is, until all kills are done.
    let (stop, dropped) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let uploader = {
        let (stop, dropped) = (stop.clone(), dropped.clone());
        let (inbox, aside) = (inbox.clone(), site.path("aside"));
        let mut random = random.fork();
        thread::spawn(move || {
            fs::create_dir_all(&aside).expect("it is made");
            while !stop.load(Ordering::Relaxed) {
                let n = dropped.load(Ordering::Relaxed);
                match random.u8(..3) {
                    0 => fs::write(inbox.join(format!("{n}")), "x").expect("it is written"),
                    1 => {
                        fs::write(aside.join("file"), "x").expect("it is written");
                        fs::rename(aside.join("file"), inbox.join(format!("{n}")))
                            .expect("it is renamed");
                    }
                    _ => {
                        let folder = inbox.join(format!("d{n}/e"));
                        fs::create_dir_all(&folder).expect("it is made");
                        fs::write(folder.join(format!("{n}")), "x").expect("it is written");
                    }
                }
                dropped.fetch_add(1, Ordering::Relaxed);
                // The pace of the arrivals, not a wait for anything.
                thread::park_timeout(Duration::from_millis(random.u64(1..8)));
            }
        })
    };

    for _ in 0..kills {
        let engine = site.spawn(&[]);
        // Any moment of its life: while it starts, while it scans, in the middle of its work.
        thread::park_timeout(Duration::from_millis(random.u64(10..800)));
        engine.kill();
    }
    stop.store(true, Ordering::Relaxed);
    uploader.join().expect("all files were dropped");
    let all = dropped.load(Ordering::Relaxed);

    // A write that a kill cut off leaves its staging file, `<name>#<n>`, which no list shows.
    let written = || -> BTreeSet<String> {
        files(&outbox)
            .into_iter()
            .filter(|name| !name.contains('#'))
            .collect()
    };
    let engine = site.start();
    wait_until_none_left("every file was handled", || all - written().len());
    engine.wait_idle();
    let expected: BTreeSet<String> = files(&inbox).into_iter().collect();
    assert_eq!(expected.len(), all);
    assert_eq!(written(), expected);
    assert_eq!(
        site.key("probe", "all"),
        Some(all.to_string()),
        "the counter of the handler"
    );
    for key in &expected {
        assert_eq!(
            site.key("probe", key).as_deref(),
            Some("1"),
            "{key} took effect once"
        );
    }
    assert_eq!(site.dead_letters(), 0);
    println!("{all} files, {kills} kills");
    engine.stop();
}
