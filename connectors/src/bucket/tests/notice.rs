//! Every way in which an object can come, change and go while the connector runs.

use std::{fs, io::Write};

use tidemill_core::ledger;

use super::*;

#[tokio::test]
async fn a_file_that_was_there_before_the_start() {
    let world = World::new();
    world.write("old", "1");
    world.write("deep/down/old", "1");
    age(&world.path("old"));
    age(&world.path("deep/down/old"));
    let running = world.start().await;
    world
        .expect(&["created old", "created deep/down/old"])
        .await;
    let status = running.health.status();
    assert_eq!((status.objects, status.offered, status.ready), (2, 2, true));
    assert!(status.last_scan.is_some());
    assert_eq!(status.state, State::Watching);
    assert_eq!(status.noticed.by_notification, 0, "the scan found both");

    world.write("new", "1");
    world.expect(&["created new"]).await;
    running.offered(3).await;
    assert_eq!(running.health.status().noticed.by_notification, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_file_written_just_before_the_start_has_to_stand_still() {
    let world = World::new();
    world.write("new", "1");
    let running = world.start().await;
    world.expect(&["created new"]).await;
    running.stop().await;
}

#[tokio::test]
async fn copied_in_renamed_in_and_renamed_inside() {
    let world = World::new();
    let running = world.start().await;
    world.write("copied", "1");
    world.expect(&["created copied"]).await;

    fs::write(world.outside("moved"), "1").unwrap();
    fs::rename(world.outside("moved"), world.path("moved")).unwrap();
    world.expect(&["created moved"]).await;

    // The temporary name is gone before it is looked at.
    world.write(".x.tmp", "1");
    fs::rename(world.path(".x.tmp"), world.path("x")).unwrap();
    world.expect(&["created x"]).await;

    fs::rename(world.path("x"), world.path("y")).unwrap();
    world.expect(&["deleted x", "created y"]).await;
    world.agree().await;
    running.stop().await;
}

#[tokio::test]
async fn the_event_is_an_s3_record_of_the_object() {
    let world = World::new();
    let running = world.start().await;
    world.write("a/b.txt", "four");
    world.expect(&["created a/b.txt"]).await;
    let event = world.ledger.with(|l| l.offers[0].clone());
    let object = world.bucket().head("a/b.txt").await.unwrap();
    assert_eq!(ledger::etag(&event), Some(object.etag.clone()));
    assert_eq!(event.id, format!("created:a/b.txt@{}.0", object.etag));
    assert_eq!((object.size, object.modified), (4, event.time));
    running.stop().await;
}

#[tokio::test]
async fn overwritten_deleted_and_made_again() {
    let world = World::new();
    let running = world.start().await;
    world.write("a", "1");
    world.expect(&["created a"]).await;
    world.write("a", "2");
    world.expect(&["created a"]).await;
    fs::remove_file(world.path("a")).unwrap();
    world.expect(&["deleted a"]).await;
    world.write("a", "2");
    world.expect(&["created a"]).await;
    fs::hard_link(world.path("a"), world.outside("kept")).unwrap();
    fs::remove_file(world.path("a")).unwrap();
    world.expect(&["deleted a"]).await;
    // The same file, to the last bit of its metadata.
    fs::rename(world.outside("kept"), world.path("a")).unwrap();
    world.expect(&["created a"]).await;
    world.agree().await;
    running.stop().await;
}

#[tokio::test]
async fn an_older_version_put_back_is_a_new_event() {
    let world = World::new();
    let running = world.start().await;
    world.write("a", "first");
    world.expect(&["created a"]).await;
    fs::hard_link(world.path("a"), world.outside("first")).unwrap();
    fs::write(world.outside("second"), "second").unwrap();
    fs::rename(world.outside("second"), world.path("a")).unwrap();
    world.expect(&["created a"]).await;
    fs::rename(world.outside("first"), world.path("a")).unwrap();
    world.expect(&["created a"]).await;
    world.agree().await;
    running.stop().await;
}

#[tokio::test]
async fn a_hard_link_is_created_whole() {
    let world = World::new();
    let running = world.start().await;
    fs::write(world.outside("a"), "1").unwrap();
    fs::hard_link(world.outside("a"), world.path("a")).unwrap();
    world.expect(&["created a"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_slow_writer_makes_one_event() {
    let world = World::new();
    let running = world.start().await;
    let mut file = fs::File::create(world.path("slow")).unwrap();
    // An empty file, then a half one, each for longer than stillness takes.
    for round in ["1", "2", "3"] {
        world.stillness(round).await;
        file.write_all(b"part").unwrap();
    }
    world.stillness("4").await;
    drop(file);
    world.expect(&["created slow"]).await;
    assert_eq!(world.ledger.with(|l| l.entries["slow"].size), 12);
    running.stop().await;
}

#[tokio::test]
async fn folders_made_and_filled_at_once() {
    let world = World::new();
    let running = world.start().await;
    let keys: Vec<String> = (0..200).map(|n| format!("r{n}/x/y/f")).collect();
    for key in &keys {
        world.write(key, "x");
    }
    let expected: Vec<String> = keys.iter().map(|key| format!("created {key}")).collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    world.expect(&expected).await;
    // All of them are watched by now, without any scan.
    for key in &keys {
        world.write(key, "y!");
    }
    world.expect(&expected).await;
    world.agree().await;
    running.stop().await;
}

#[tokio::test]
async fn folders_moved_in_around_and_out() {
    let world = World::new();
    let running = world.start().await;
    fs::create_dir_all(world.outside("d/sub")).unwrap();
    fs::write(world.outside("d/one"), "1").unwrap();
    fs::write(world.outside("d/sub/two"), "2").unwrap();
    fs::rename(world.outside("d"), world.path("d")).unwrap();
    world.expect(&["created d/one", "created d/sub/two"]).await;

    world.write("d/sub/three", "3");
    world.expect(&["created d/sub/three"]).await;

    fs::rename(world.path("d"), world.path("e")).unwrap();
    world
        .expect(&[
            "deleted d/one",
            "deleted d/sub/two",
            "deleted d/sub/three",
            "created e/one",
            "created e/sub/two",
            "created e/sub/three",
        ])
        .await;
    world.write("e/sub/four", "4");
    world.expect(&["created e/sub/four"]).await;

    fs::rename(world.path("e/sub"), world.outside("gone")).unwrap();
    world
        .expect(&[
            "deleted e/sub/two",
            "deleted e/sub/three",
            "deleted e/sub/four",
        ])
        .await;
    fs::remove_dir_all(world.path("e")).unwrap();
    world.expect(&["deleted e/one"]).await;
    world.agree().await;
    running.stop().await;
}

#[tokio::test]
async fn a_file_becomes_a_folder_and_back() {
    let world = World::new();
    let running = world.start().await;
    world.write("a", "1");
    world.expect(&["created a"]).await;
    fs::remove_file(world.path("a")).unwrap();
    world.write("a/b", "1");
    world.expect(&["deleted a", "created a/b"]).await;
    fs::remove_dir_all(world.path("a")).unwrap();
    world.write("a", "1");
    world.expect(&["deleted a/b", "created a"]).await;
    world.agree().await;
    running.stop().await;
}
