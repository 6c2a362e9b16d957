//! Objects: what is written is read, and nothing leads out.

use std::{fs, os::unix::fs::symlink};

use tidemill_core::host::{ByteRange, HostError};

use super::*;
use crate::bucket::{Error, Refusal};

fn range(offset: u64, length: u64) -> Option<ByteRange> {
    Some(ByteRange { offset, length })
}

#[tokio::test]
async fn reads_whole_and_in_part() {
    let world = World::new();
    let bucket = world.bucket();
    let etag = bucket.put("d/a", "0123456789".into(), 0).await.unwrap();
    let head = bucket.head("d/a").await.unwrap();
    assert_eq!(
        (head.key.as_str(), head.size, &head.etag),
        ("d/a", 10, &etag)
    );
    for (wanted, expected) in [
        (None, "0123456789"),
        (range(2, 3), "234"),
        (range(8, 100), "89"),
        (range(10, 1), ""),
        (range(99, u64::MAX), ""),
        (range(5, 0), ""),
    ] {
        let read = bucket.read("d/a", Some(&etag), wanted, 10).await.unwrap();
        assert_eq!(read, expected, "{wanted:?}");
    }
    let large = bucket.read("d/a", None, None, 9).await.unwrap_err();
    assert!(matches!(
        large,
        Error::TooLarge {
            size: 10,
            limit: 9,
            ..
        }
    ));
    assert_eq!(
        HostError::from(large).to_string(),
        "object `d/a` of bucket `b`: 10 bytes are more than the 9 allowed"
    );
    assert_eq!(
        bucket.read("d/a", None, range(0, 4), 4).await.unwrap(),
        "0123"
    );

    world.write("d/a", "other");
    let changed = bucket.read("d/a", Some(&etag), None, 10).await.unwrap_err();
    assert_eq!(HostError::from(changed), HostError::Changed);
    let changed = bucket.delete("d/a", Some(&etag)).await.unwrap_err();
    assert!(matches!(changed, Error::Changed { .. }));
    assert!(bucket.delete("d/a", None).await.unwrap());
    assert!(!bucket.delete("d/a", None).await.unwrap());
    for key in ["d/a", "d", "d/a/b", "nothing"] {
        let none = bucket.read(key, None, None, 10).await.unwrap_err();
        assert_eq!(HostError::from(none), HostError::NotFound, "{key}");
        assert!(
            matches!(bucket.head(key).await, Err(Error::NotFound { .. })),
            "{key}"
        );
    }
}

#[tokio::test]
async fn lists_in_order_and_in_pages_what_head_describes() {
    let world = World::new();
    let bucket = world.bucket();
    let odd = ["a-", "a/b", "a/bb/c", "a0", "b#x", "ä", "z/z/z", "z/é"];
    let mut keys: Vec<String> = odd.map(str::to_owned).into();
    keys.extend((0..50).map(|n| format!("many/{n:03}")));
    for key in &keys {
        bucket.put(key, key.clone().into(), 0).await.unwrap();
    }
    keys.sort();
    let listed = bucket.list("", None, 1000).await.unwrap();
    assert_eq!(
        listed.iter().map(|o| &o.key).collect::<Vec<_>>(),
        keys.iter().collect::<Vec<_>>()
    );
    for object in &listed {
        assert_eq!(&bucket.head(&object.key).await.unwrap(), object);
    }
    for prefix in [
        "",
        "a",
        "a/",
        "a/b",
        "many/",
        "many/01",
        "z/z",
        "none",
        "none/none",
        "ä",
    ] {
        for page in [1, 3, 1000] {
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let listed = bucket.list(prefix, after.as_deref(), page).await.unwrap();
                let Some(last) = listed.last() else { break };
                assert!(listed.len() <= page);
                after = Some(last.key.clone());
                all.extend(listed.into_iter().map(|o| o.key));
            }
            let expected: Vec<_> = keys
                .iter()
                .filter(|k| k.starts_with(prefix))
                .cloned()
                .collect();
            assert_eq!(all, expected, "{prefix:?} by {page}");
        }
    }
}

#[tokio::test]
async fn nothing_leads_out() {
    let world = World::new();
    let bucket = world.bucket();
    fs::write(world.outside("secret"), "secret").unwrap();
    symlink(world.outside(""), world.path("out")).unwrap();
    symlink(world.outside("secret"), world.path("leak")).unwrap();
    let is_out = |error: Error| {
        matches!(
            error,
            Error::Refused {
                why: Refusal::LeadsOut(_),
                ..
            }
        )
    };
    for key in ["out/secret", "leak", "out/new"] {
        assert!(is_out(bucket.head(key).await.unwrap_err()), "{key}");
        assert!(
            is_out(bucket.read(key, None, None, 9).await.unwrap_err()),
            "{key}"
        );
        assert!(
            is_out(bucket.put(key, "x".into(), 0).await.unwrap_err()),
            "{key}"
        );
        assert!(is_out(bucket.delete(key, None).await.unwrap_err()), "{key}");
    }
    assert!(is_out(bucket.list("out/", None, 9).await.unwrap_err()));
    assert_eq!(bucket.list("", None, 9).await.unwrap(), []);
    for prefix in ["../outside/", "a/../", "/", "//", "./"] {
        assert!(bucket.list(prefix, None, 9).await.is_err(), "{prefix}");
    }
    for key in [
        "../outside/secret",
        "/etc/passwd",
        "a/../../outside/secret",
        "a#1",
        "a\0b",
        "",
    ] {
        let denied: HostError = bucket.put(key, "x".into(), 0).await.unwrap_err().into();
        assert!(matches!(denied, HostError::Denied(_)), "{key:?}");
        assert!(bucket.read(key, None, None, 9).await.is_err(), "{key:?}");
    }
    assert_eq!(
        fs::read_to_string(world.outside("secret")).unwrap(),
        "secret"
    );
    assert_eq!(fs::read_dir(world.outside("")).unwrap().count(), 1);
}

#[tokio::test]
async fn writes_are_whole_and_need_the_folder() {
    let world = World::new();
    let bucket = world.bucket();
    let first = bucket.put("d/e/a", "1".into(), 0).await.unwrap();
    let second = bucket.put("d/e/a", "2".into(), 0).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(fs::read_dir(world.path("d/e")).unwrap().count(), 1);
    let folder = bucket.put("d", "x".into(), 0).await.unwrap_err();
    assert!(matches!(
        folder,
        Error::Refused {
            why: Refusal::Folder,
            ..
        }
    ));
    let below = bucket.put("d/e/a/b", "x".into(), 0).await.unwrap_err();
    assert!(
        matches!(
            below,
            Error::Refused {
                why: Refusal::BelowAFile,
                ..
            }
        ),
        "{below:?}"
    );
    fs::remove_dir_all(world.path("")).unwrap();
    for result in [
        bucket.put("a", "x".into(), 0).await.map(drop),
        bucket.head("a").await.map(drop),
        bucket.list("", None, 1).await.map(drop),
        bucket.list("d/", None, 1).await.map(drop),
    ] {
        assert!(
            matches!(result, Err(Error::FolderMissing { .. })),
            "{result:?}"
        );
    }
    assert!(!world.path("").exists());
}

#[tokio::test]
async fn a_reader_never_sees_half_of_a_write() {
    let world = World::new();
    let bucket = world.bucket();
    let (ones, twos) = (vec![1u8; 300_000], vec![2u8; 300_000]);
    bucket.put("a", ones.clone().into(), 0).await.unwrap();
    let writer = {
        let bucket = bucket.clone();
        tokio::spawn(async move {
            for n in 0..40 {
                let content = if n % 2 == 0 {
                    twos.clone()
                } else {
                    ones.clone()
                };
                bucket.put("a", content.into(), 0).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        match bucket.read("a", None, None, 1 << 20).await {
            Ok(read) => assert!(read.len() == 300_000 && read.iter().all(|b| *b == read[0])),
            Err(error) => assert!(matches!(error, Error::Changed { .. }), "{error:?}"),
        }
    }
    writer.await.unwrap();
}
