//! Everything that can get in the way: restarts, overflows, a journal that is full, a folder that
//! goes away.

use std::fs;

use super::*;

#[tokio::test]
async fn a_restart_repeats_nothing_and_finds_what_changed() {
    let world = World::new();
    let running = world.start().await;
    for key in ["same", "changed", "gone", "d/same"] {
        world.write(key, "1");
    }
    world
        .expect(&[
            "created same",
            "created changed",
            "created gone",
            "created d/same",
        ])
        .await;
    running.stop().await;

    world.write("changed", "2!");
    fs::remove_file(world.path("gone")).unwrap();
    world.write("d/new", "1");
    for key in ["changed", "d/new"] {
        age(&world.path(key));
    }
    let running = world.start().await;
    world
        .expect(&["created changed", "deleted gone", "created d/new"])
        .await;
    world.agree().await;
    running.stop().await;

    let running = world.start().await;
    world.expect(&[]).await;
    assert_eq!(running.health.status().offered, 0);
    running.stop().await;
}

#[tokio::test]
async fn rescans_find_what_no_watcher_tells() {
    let world = World::new();
    let blind = Tuning {
        watch: false,
        ..QUICK
    };
    let running = world.start_with(blind, Duration::from_millis(20)).await;
    assert!(matches!(
        running.health.status().state,
        State::RescansOnly(_)
    ));
    world.write("a", "1");
    world.write("d/b", "1");
    world.expect(&["created a", "created d/b"]).await;
    world.write("a", "22");
    world.expect(&["created a"]).await;
    fs::remove_dir_all(world.path("d")).unwrap();
    world.expect(&["deleted d/b"]).await;
    world.agree().await;
    running.stop().await;
}

#[tokio::test]
async fn an_overflow_of_hints_leads_to_a_scan() {
    let world = World::new();
    let tiny = Tuning { hints: 4, ..QUICK };
    let running = world.start_with(tiny, NEVER).await;
    let keys: Vec<String> = (0..300).map(|n| format!("{}/f{n}", n % 7)).collect();
    for key in &keys {
        world.write(key, "x");
    }
    let expected: Vec<String> = keys.iter().map(|key| format!("created {key}")).collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    world.expect(&expected).await;
    world.agree().await;
    running.stop().await;
}

#[tokio::test]
async fn a_full_journal_delays_and_loses_nothing() {
    let world = World::new();
    world.ledger.with(|l| l.refusals = 40);
    for n in 0..20 {
        world.write(&format!("early{n}"), "1");
        age(&world.path(&format!("early{n}")));
    }
    let running = world.launch(QUICK, NEVER);
    world.ledger.wait("refusals", |l| l.refused >= 20).await;
    for n in 0..20 {
        world.write(&format!("late{n}"), "1");
    }
    let expected: Vec<String> = (0..20)
        .flat_map(|n| [format!("created early{n}"), format!("created late{n}")])
        .collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    world.expect(&expected).await;
    running.reached(|_, ready| ready).await;
    assert_eq!(running.health.status().waiting, 0);
    running.stop().await;
}

#[tokio::test]
async fn what_changes_while_the_journal_is_full_is_offered_as_it_is_then() {
    let world = World::new();
    let running = world.start().await;
    world.ledger.with(|l| l.refusals = usize::MAX);
    world.write("a", "1");
    world.write("b", "1");
    world.ledger.wait("refusals", |l| l.refused >= 4).await;
    assert!(running.health.status().waiting > 0);
    world.write("a", "22");
    fs::remove_file(world.path("b")).unwrap();
    world.ledger.with(|l| l.refusals = 0);
    world.drain().await;
    world
        .ledger
        .wait("a", |l| l.entries.get("a").is_some_and(|e| e.size == 2))
        .await;
    world.expect(&["created a", "created ~last"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_lost_receipt_repeats_nothing() {
    let world = World::new();
    let running = world.start().await;
    world.ledger.with(|l| l.lost = 3);
    for n in 0..10 {
        world.write(&format!("f{n}"), "1");
    }
    let expected: Vec<String> = (0..10).map(|n| format!("created f{n}")).collect();
    world
        .expect(&expected.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    world.drain().await;
    world.expect(&["created ~last"]).await;
    world.agree().await;
    running.stop().await;
}

#[tokio::test]
async fn ends_when_the_engine_stops() {
    let world = World::new();
    let running = world.start().await;
    world.ledger.with(|l| l.stopping = true);
    world.write("a", "1");
    tokio::time::timeout(PATIENCE, running.task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(running.health.status().state, State::Stopped);
}

#[tokio::test]
async fn a_missing_folder_is_no_deletion() {
    let world = World::new();
    let running = world.start().await;
    world.write("a", "1");
    world.write("d/b", "1");
    world.expect(&["created a", "created d/b"]).await;
    let (bucket, away) = (world.path(""), world.outside("away"));
    fs::rename(&bucket, &away).unwrap();
    running
        .reached(|state, _| *state == State::FolderMissing)
        .await;
    fs::write(away.join("c"), "1").unwrap();
    fs::rename(&away, &bucket).unwrap();
    running.reached(|state, _| *state == State::Watching).await;
    world.expect(&["created c"]).await;
    // And it is watched again.
    world.write("d/e", "1");
    world.expect(&["created d/e"]).await;
    world.agree().await;
    running.stop().await;
}

#[tokio::test]
async fn a_folder_made_anew_is_a_deletion() {
    let world = World::new();
    let running = world.start().await;
    world.write("a", "1");
    world.write("b", "1");
    world.expect(&["created a", "created b"]).await;
    fs::remove_dir_all(world.path("")).unwrap();
    running
        .reached(|state, _| *state == State::FolderMissing)
        .await;
    fs::create_dir(world.path("")).unwrap();
    world.write("b", "22");
    world
        .ledger
        .wait("both", |l| {
            l.entries["a"].etag.is_none() && l.entries["b"].size == 2
        })
        .await;
    running.reached(|state, _| *state == State::Watching).await;
    world.agree().await;
    running.stop().await;
}
