//! Cases of what must happen once: steps of cursors and offsets, idempotency keys, event ids.

use bytes::Bytes;
use tidemill_core::{
    delivery::Cause,
    outcome::Reply,
    schedule::{Cursor, CursorMove},
};

use super::*;
use crate::{EventId, Found, KeyDone, OffsetsMove, PartitionOf, UnitResult::*};

pub const DAY: Duration = Duration::from_secs(24 * 3600);

pub fn key(key: &str, completed: i64, expires: i64) -> KeyDone {
    KeyDone {
        trigger: "t".into(),
        key: key.into(),
        delivery: id("t", "x"),
        completed: Timestamp(completed),
        expires: Timestamp(expires),
        fingerprint: None,
        reply: None,
    }
}

pub fn keys(keys: Vec<KeyDone>) -> Unit {
    Unit {
        keys,
        ..Unit::default()
    }
}

pub fn remember(event: &str, window: Duration) -> Unit {
    Unit {
        event_ids: vec![EventId {
            delivery: id("t", event),
            window,
            fingerprint: None,
        }],
        ..Unit::default()
    }
}

fn at(at: i64) -> Cursor {
    Cursor {
        at: Timestamp(at),
        definition: "every 5m".into(),
    }
}

pub fn cursor(from: Option<i64>, to: i64) -> Unit {
    let (from, to) = (from.map(at), at(to));
    Unit {
        cursors: vec![CursorMove {
            schedule: "c".into(),
            from,
            to,
        }],
        ..Unit::default()
    }
}

pub fn partition(group: &str) -> PartitionOf {
    PartitionOf {
        trigger: "t".into(),
        group: group.into(),
        partition: "p/0".into(),
    }
}

pub fn offsets(watermark: i64, completed: &[i64]) -> Unit {
    let step = OffsetsMove {
        of: partition("g"),
        watermark,
        stamp: Some(watermark * 10),
        completed: completed.to_vec(),
    };
    Unit {
        offsets: vec![step],
        ..Unit::default()
    }
}

pub async fn cursors_move_from_where_they_stand(mut store: Store) {
    assert_eq!(store.journal().cursor("c").await.unwrap(), None);
    assert_eq!(store.one(cursor(Some(0), 1)).await, Duplicate);
    store.add(cursor(None, 5)).await;
    store.reopen();
    assert_eq!(store.journal().cursor("c").await.unwrap(), Some(at(5)));
    let results = store
        .commit(vec![cursor(Some(5), 9), cursor(Some(5), 9)])
        .await;
    assert!(committed(&results[0]));
    assert_eq!(results[1], Duplicate);
    let mut twice = cursor(Some(9), 10);
    twice.cursors.extend(cursor(Some(10), 11).cursors);
    store.add(twice).await;
    assert_eq!(store.journal().cursor("c").await.unwrap(), Some(at(11)));
}

pub async fn cursors_know_their_definition(mut store: Store) {
    let move_from = |from: Cursor, definition: &str| Unit {
        cursors: vec![CursorMove {
            schedule: "c".into(),
            from: Some(from),
            to: Cursor {
                definition: definition.into(),
                ..at(7)
            },
        }],
        ..Unit::default()
    };
    store.add(cursor(None, 5)).await;
    let other = Cursor {
        definition: "every 6m".into(),
        ..at(5)
    };
    assert_eq!(
        store.one(move_from(other.clone(), "every 7m")).await,
        Duplicate,
        "it stands there, but as another schedule"
    );
    store.add(move_from(at(5), "every 6m")).await;
    store.reopen();
    let now = store.journal().cursor("c").await.unwrap();
    assert_eq!(
        now,
        Some(Cursor {
            at: Timestamp(7),
            ..other
        })
    );
    let mut twice = move_from(now.unwrap(), "every 8m");
    twice.cursors.extend(move_from(at(7), "every 9m").cursors);
    assert_eq!(store.one(twice).await, Duplicate, "the step before counts");
}

pub async fn offsets_complete_out_of_order(mut store: Store) {
    let get = async |store: &Store| {
        let found = store.journal().progress(&partition("g")).await.unwrap();
        found.map(|found| {
            assert_eq!(
                found.stamp,
                Some(found.watermark * 10),
                "they move together"
            );
            (found.watermark, found.completed)
        })
    };
    assert_eq!(get(&store).await, None);
    store.add(offsets(3, &[5])).await;
    store.add(offsets(3, &[9, 7])).await;
    store.reopen();
    assert_eq!(get(&store).await, Some((3, vec![5, 7, 9])));
    store.add(offsets(6, &[3])).await;
    assert_eq!(
        get(&store).await,
        Some((6, vec![7, 9])),
        "what is below is forgotten"
    );
    store.add(offsets(4, &[8])).await;
    assert_eq!(
        get(&store).await,
        Some((6, vec![7, 8, 9])),
        "the watermark never goes back"
    );
    store.add(offsets(20, &[])).await;
    assert_eq!(get(&store).await, Some((20, Vec::new())));
    assert_eq!(
        store.journal().progress(&partition("other")).await.unwrap(),
        None
    );
}

pub async fn a_partition_made_anew_begins_anew(mut store: Store) {
    store.add(offsets(6, &[8])).await;
    let mut other = offsets(6, &[8]);
    other.offsets[0].of = partition("other");
    store.add(other).await;
    let mut anew = offsets(0, &[8]);
    anew.forget = vec![partition("g")];
    store.add(anew).await;
    store.reopen();
    let get = async |group| store.journal().progress(&partition(group)).await.unwrap();
    assert_eq!(get("g").await.unwrap().watermark, 0);
    assert_eq!(get("g").await.unwrap().completed, [8]);
    assert_eq!(get("other").await.unwrap().watermark, 6, "not of others");
    assert_eq!(store.one(offsets(0, &[8])).await, Duplicate);
    store
        .add(Unit {
            forget: vec![partition("g")],
            ..Unit::default()
        })
        .await;
    assert_eq!(get("g").await, None);
}

pub async fn offsets_are_completed_once(store: Store) {
    store.add(offsets(3, &[5])).await;
    assert_eq!(
        store.one(offsets(3, &[5])).await,
        Duplicate,
        "above the watermark"
    );
    assert_eq!(store.one(offsets(3, &[6, 2])).await, Duplicate, "below it");
    assert_eq!(
        store.one(offsets(3, &[6, 6])).await,
        Duplicate,
        "twice in a step"
    );
    assert_eq!(store.one(offsets(3, &[])).await, Duplicate, "no step");
    let mut twice = offsets(3, &[6]);
    twice.offsets.extend(offsets(3, &[6]).offsets);
    assert_eq!(store.one(twice).await, Duplicate, "twice in a unit");
    store.add(offsets(6, &[])).await;
    store.add(offsets(7, &[6])).await;
    assert_eq!(store.one(offsets(7, &[6])).await, Duplicate);
}

pub async fn idempotency_keys_expire(mut store: Store) {
    let reply = Reply {
        status: Some(201),
        headers: vec![("a".into(), "b".into())],
        body: Bytes::from_static(b"\0body"),
    };
    let full = KeyDone {
        fingerprint: Some([9; 32]),
        reply: Some(reply),
        ..key("k", 50, 100)
    };
    let empty = KeyDone {
        reply: Some(Reply::default()),
        ..key("empty", 50, 100)
    };
    store
        .add(keys(vec![
            full.clone(),
            empty.clone(),
            key("none", 50, 100),
        ]))
        .await;
    store.reopen();
    let get = async |store: &Store, key: &str, now| {
        store
            .journal()
            .key_done("t", key, Timestamp(now))
            .await
            .unwrap()
    };
    assert_eq!(get(&store, "k", 99).await, Some(full));
    assert_eq!(get(&store, "empty", 99).await, Some(empty));
    assert_eq!(get(&store, "none", 99).await, Some(key("none", 50, 100)));
    assert_eq!(get(&store, "k", 100).await, None);
    assert_eq!(
        store
            .journal()
            .key_done("u", "k", Timestamp(99))
            .await
            .unwrap(),
        None
    );

    assert_eq!(store.one(keys(vec![key("k", 99, 300)])).await, Duplicate);
    assert_eq!(
        store
            .one(keys(vec![key("n", 99, 300), key("n", 99, 300)]))
            .await,
        Duplicate
    );
    store.add(keys(vec![key("k", 100, 300)])).await;
    assert_eq!(
        get(&store, "k", 200).await,
        Some(key("k", 100, 300)),
        "used anew"
    );
}

pub async fn event_ids_expire_by_running_time(mut store: Store) {
    store.add(remember("a", DAY)).await;
    store.run(DAY / 2);
    assert_eq!(store.one(remember("a", DAY)).await, Duplicate);
    assert_eq!(store.one(accepting("a")).await, Duplicate);
    store.reopen();
    assert_eq!(
        store.one(accepting("a")).await,
        Duplicate,
        "half a day has run"
    );
    store.run(DAY / 2);
    let seq = store.accept("a").await;
    store
        .add(Unit {
            event_ids: remember("a", DAY).event_ids,
            ..done(seq)
        })
        .await;
    assert_eq!(
        store.one(accepting("a")).await,
        Duplicate,
        "remembered anew"
    );
    for n in 0..300 {
        store.add(remember(&format!("b{n}"), DAY)).await;
    }
    store.run(DAY);
    for _ in 0..10 {
        store.add(Unit::default()).await;
    }
    store.accept("b0").await;
    store.accept("b299").await;
}

pub async fn event_ids_of_deliveries_under_way(store: Store) {
    let seq = store.accept("a").await;
    assert_eq!(
        store.one(remember("a", DAY)).await,
        Duplicate,
        "pending, and not of this unit"
    );
    let unit = Unit {
        event_ids: remember("b", DAY).event_ids,
        ..accepting("b")
    };
    let b = store.add(unit).await[0].seq;
    store.add(done(b)).await;
    assert_eq!(
        store.one(accepting("b")).await,
        Duplicate,
        "remembered since its acceptance"
    );
    let dead = Settle::Dead {
        delivery: seq,
        cause: Cause::Rejected,
        record: attempt(1),
    };
    store
        .add(Unit {
            event_ids: remember("a", DAY).event_ids,
            ..settling(dead)
        })
        .await;
    let purged = Unit {
        event_ids: remember("c", DAY).event_ids,
        ..settling(Settle::Purge { delivery: seq })
    };
    store.add(purged).await;
    assert_eq!(
        store.one(accepting("a")).await,
        Duplicate,
        "remembered since its death"
    );
    let mut twice = remember("d", DAY);
    twice.event_ids.extend(remember("d", DAY).event_ids);
    assert_eq!(store.one(twice).await, Duplicate);
}

pub async fn finds_what_it_knows(mut store: Store) {
    let kept = |name: &str| Some(Found::Kept(Box::new(event(name))));
    let find = async |store: &Store, event: &str| {
        let found = store.journal().find(id("t", event)).await;
        found.unwrap()
    };
    assert_eq!(find(&store, "a").await, None);
    let a = store.accept("a").await;
    let b = store.accept("b").await;
    let dead = Settle::Dead {
        delivery: b,
        cause: Cause::Rejected,
        record: attempt(1),
    };
    store.add(settling(dead)).await;
    store.reopen();
    assert_eq!(find(&store, "a").await, kept("a"), "pending");
    assert_eq!(find(&store, "b").await, kept("b"), "a dead letter");

    let leave = |delivery, name: &str, fingerprint| {
        let mut event_ids = remember(name, DAY).event_ids;
        event_ids[0].fingerprint = fingerprint;
        Unit {
            event_ids,
            ..done(delivery)
        }
    };
    store.add(leave(a, "a", Some([7; 32]))).await;
    let c = store.accept("c").await;
    store.add(leave(c, "c", None)).await;
    let d = store.accept("d").await;
    store.add(done(d)).await;
    store.run(DAY / 2);
    store.reopen();
    let remembered = |fingerprint| Some(Found::Remembered(fingerprint));
    assert_eq!(find(&store, "a").await, remembered(Some([7; 32])));
    assert_eq!(find(&store, "c").await, remembered(None));
    assert_eq!(find(&store, "d").await, None, "nobody asked to remember it");
    let both = Unit {
        event_ids: remember("e", DAY).event_ids,
        ..accepting("e")
    };
    store.add(both).await;
    assert_eq!(find(&store, "e").await, kept("e"), "kept says more");

    store.run(DAY / 2);
    assert_eq!(
        find(&store, "a").await,
        None,
        "expired, with no commit since"
    );
    let a = store.accept("a").await;
    store.add(leave(a, "a", Some([8; 32]))).await;
    assert_eq!(find(&store, "a").await, remembered(Some([8; 32])), "anew");
}
