//! Odd names, symlinks and things that are not files: each is an object that can be read by its
//! key, or reported.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
};

use super::*;

#[tokio::test]
async fn every_file_is_an_object_or_reported() {
    let world = World::new();
    let good = [
        "a b",
        "ä ö",
        "日本",
        "100%",
        "%41",
        "%2F",
        "a+b",
        "a#b",
        "#",
        "1#",
        "?x=1&y=2",
        "a\\b",
        "\"q\"",
        "'",
        "*",
        "<|>",
        "`^{}[]",
        "~",
        "x~",
        ".hidden",
        "x.tmp",
        "x.part",
        "-rf",
        "...",
        "c:d",
        " ",
        "é",
        "e\u{301}",
        "\u{202e}rtl",
        "\u{85}",
        "file:",
        "dir#1/x",
        "d%20d/x",
        "$HOME/${x}",
    ];
    let good = good.map(|key| key.replace("file:", "file:x"));
    let bad: [&[u8]; 9] = [
        b"new\nline",
        b"tab\tbed",
        b"bell\x07",
        b"del\x7f",
        b"latin\xe9",
        b"dir\xe9/x",
        b"c:",
        b"x#1",
        b"a#b#2",
    ];
    for key in &good {
        world.write(key, key);
        age(&world.path(key));
    }
    for name in bad {
        let path = world.path("").join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        age(&path);
    }
    let running = world.start().await;
    let expected: Vec<String> = good.iter().map(|key| format!("created {key}")).collect();
    world
        .expect(&expected.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    assert_eq!(running.health.status().refused, bad.len() as u64);
    let bucket = world.bucket();
    for key in &good {
        let etag = world.ledger.with(|l| l.entries[key].etag.clone());
        let read = bucket.read(key, etag.as_deref(), None, 100).await.unwrap();
        assert_eq!(read, key.as_bytes(), "{key}");
    }
    // The same by the watcher.
    for key in &good {
        world.write(key, "again");
    }
    world
        .expect(&expected.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let deleted: Vec<String> = good.iter().map(|key| format!("deleted {key}")).collect();
    for key in &good {
        assert!(bucket.delete(key, None).await.unwrap(), "{key}");
    }
    world
        .expect(&deleted.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    running.stop().await;
}

#[tokio::test]
async fn the_watcher_reports_bad_names_too() {
    let world = World::new();
    let running = world.start().await;
    fs::write(world.path("").join(OsStr::from_bytes(b"latin\xe9")), "").unwrap();
    fs::write(world.path("new\nline"), "").unwrap();
    let long = format!("{0}/{0}/{0}/{0}/{0}", "n".repeat(250));
    world.write(&long, "");
    world.drain().await;
    world.expect(&["created ~last"]).await;
    running.refused(3).await;
    running.stop().await;
}

#[tokio::test]
async fn unfinished_writes_make_no_events() {
    let world = World::new();
    let running = world.start_with(QUICK, Duration::from_millis(1)).await;
    let bucket = world.bucket();
    let mut expected = Vec::new();
    for n in 0..50 {
        let key = format!("d{n}/a#b{n}");
        bucket
            .put(&key, vec![b'x'; 100_000].into(), 0)
            .await
            .unwrap();
        expected.push(format!("created {key}"));
    }
    world
        .expect(&expected.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    assert_eq!(running.health.status().refused, 0);
    running.stop().await;
}

#[tokio::test]
async fn symlinks_stay_inside_and_loops_end() {
    let world = World::new();
    fs::write(world.outside("secret"), "secret").unwrap();
    world.write("d/real", "1");
    age(&world.path("d/real"));
    symlink(world.outside("secret"), world.path("leak")).unwrap();
    symlink(world.outside(""), world.path("out")).unwrap();
    symlink(world.path("d/real"), world.path("alias")).unwrap();
    symlink(world.path(""), world.path("d/loop")).unwrap();
    symlink(world.path("d/nowhere"), world.path("dangling")).unwrap();
    let running = world.start().await;
    world.expect(&["created d/real", "created alias"]).await;
    assert_eq!(
        running.health.status().refused,
        4,
        "leak, out, d/loop, dangling"
    );

    symlink(world.path("d/real"), world.path("later")).unwrap();
    world.expect(&["created later"]).await;
    symlink(world.outside("secret"), world.path("d/leak")).unwrap();
    fs::write(world.outside("new secret"), "secret").unwrap();
    world.drain().await;
    world.expect(&["created ~last"]).await;
    running.refused(5).await;
    running.stop().await;
}

#[tokio::test]
async fn sockets_are_no_objects() {
    let world = World::new();
    let _socket = UnixListener::bind(world.path("socket")).unwrap();
    let running = world.start().await;
    assert_eq!(running.health.status().refused, 1);
    let error = world
        .bucket()
        .read("socket", None, None, 1)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    running.stop().await;
}
