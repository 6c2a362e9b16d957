//! Cases of what goes with time, and of what is there in all.

use tidemill_core::{delivery::Cause, ledger::LedgerCount, outcome::Usage};

use super::{
    progress::{DAY, key, keys, remember},
    *,
};
use crate::{DeliveriesOf, Expire, KvWrite, StoreOf, UsageEntry, UsageFilter};

fn expiring(now: i64, usage_before: i64, limit: usize) -> Unit {
    Unit {
        expire: Some(Expire {
            now: Timestamp(now),
            usage_before,
            limit,
        }),
        ..Unit::default()
    }
}

fn used(day: i64) -> Unit {
    Unit {
        usage: Some(UsageEntry {
            function: "f".into(),
            day,
            invocations: 1,
            used: Usage::default(),
        }),
        ..Unit::default()
    }
}

pub async fn what_has_expired_goes_in_parts(store: Store) {
    const KEYS: usize = 500;
    let journal = store.journal();
    let has = async |now, day| journal.has_expired(Timestamp(now), day).await.unwrap();
    assert!(!has(i64::MAX, i64::MAX).await, "there is nothing");
    for n in 0..KEYS {
        store.add(keys(vec![key(&n.to_string(), 1, 100)])).await;
    }
    store.add(keys(vec![key("stays", 1, 101)])).await;
    for day in [4, 5] {
        store.add(used(day)).await;
    }
    assert!(!has(99, 4).await);
    assert!(has(100, 4).await && has(99, 5).await);

    let left = async || {
        let mut left = 0;
        for n in 0..KEYS {
            // At a time when it was remembered.
            let done = journal.key_done("t", &n.to_string(), Timestamp(2));
            left += usize::from(done.await.unwrap().is_some());
        }
        left
    };
    store.add(expiring(100, 5, 100)).await;
    let some = left().await;
    assert!(
        some < KEYS && some > 0,
        "a part goes at a time: {some} are left"
    );
    let usage = journal.usage(UsageFilter::default()).await.unwrap();
    assert_eq!(usage.iter().map(|entry| entry.day).collect::<Vec<_>>(), [5]);
    while has(100, 5).await {
        store.add(expiring(100, 5, 100)).await;
    }
    assert_eq!(left().await, 0);
    let stays = journal.key_done("t", "stays", Timestamp(100)).await;
    assert!(stays.unwrap().is_some());
}

pub async fn all_is_counted(mut store: Store) {
    assert!(
        store
            .journal()
            .contents()
            .await
            .unwrap()
            .deliveries
            .is_empty()
    );
    store.accept("a").await;
    let dead = store.accept("b").await;
    let dead = Settle::Dead {
        delivery: dead,
        cause: Cause::Age,
        record: attempt(1),
    };
    store.add(settling(dead)).await;
    store.add(keys(vec![key("k", 1, 100)])).await;
    store.add(remember("x", DAY)).await;
    store.add(used(4)).await;
    let write = KvWrite {
        store: "s".into(),
        key: "ä".into(),
        value: Some(b"1234".as_slice().into()),
    };
    store
        .add(Unit {
            writes: vec![write],
            ..Unit::default()
        })
        .await;
    store.reopen();
    let contents = store.journal().contents().await.unwrap();
    let [deliveries] = &contents.deliveries[..] else {
        panic!("{contents:?}");
    };
    assert!(deliveries.bytes > 0 && deliveries.oldest.is_some() && deliveries.died.is_some());
    let expected = DeliveriesOf {
        trigger: "t".into(),
        pending: 1,
        dead: 1,
        ..deliveries.clone()
    };
    assert_eq!(*deliveries, expected);
    assert_eq!(contents.keys, [("t".to_owned(), 1)]);
    let stored = StoreOf {
        store: "s".into(),
        keys: 1,
        bytes: 6,
    };
    assert_eq!(contents.stores, [stored]);
    assert_eq!((contents.event_ids, contents.usage), (1, 1));
    assert_eq!(contents.ledgers, Vec::<(String, LedgerCount)>::new());
    assert!(contents.file > contents.unused);
}
