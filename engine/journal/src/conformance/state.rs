//! Cases of values, ledgers, written objects, usage and counts.

use bytes::Bytes;
use tidemill_core::{
    delivery::Cause,
    ledger::{BucketMove, BucketState, Forget, LedgerEntry, LedgerMove},
    outcome::Usage,
};

use super::{
    progress::{DAY, cursor, key, keys, offsets, remember},
    *,
};
use crate::{KvRead, KvWrite, Noted, UnitResult::*, UsageEntry, UsageFilter, WrittenObject};

fn read(key: &str, version: i64) -> KvRead {
    KvRead {
        store: "s".into(),
        key: key.into(),
        version,
    }
}

fn write(key: &str, value: Option<&str>) -> KvWrite {
    let value = value.map(|value| Bytes::from(value.to_owned()));
    KvWrite {
        store: "s".into(),
        key: key.into(),
        value,
    }
}

fn writes(writes: Vec<KvWrite>) -> Unit {
    Unit {
        writes,
        ..Unit::default()
    }
}

fn entry(key: &str, etag: Option<&str>) -> LedgerEntry {
    let etag = etag.map(str::to_owned);
    LedgerEntry {
        key: key.into(),
        etag,
        size: 5,
        modified: Timestamp(6),
        deletes: 7,
    }
}

fn ledger(from: Option<LedgerEntry>, to: LedgerEntry) -> Unit {
    Unit {
        ledger: vec![LedgerMove {
            bucket: "b".into(),
            from,
            to,
        }],
        ..Unit::default()
    }
}

/// Something of every kind, for [`refused`].
pub fn taken() -> Unit {
    Unit {
        writes: writes(vec![write("k", Some("v"))]).writes,
        ledger: ledger(None, entry("k", Some("1"))).ledger,
        event_ids: remember("known", DAY).event_ids,
        keys: vec![key("k", 0, 100)],
        cursors: cursor(None, 1).cursors,
        offsets: offsets(5, &[7]).offsets,
        ..Unit::default()
    }
}

/// After [`taken`], units that are refused, each for another part of theirs.
pub fn refused() -> Vec<(Unit, UnitResult)> {
    let conflict = Conflict {
        store: "s".into(),
        key: "k".into(),
    };
    vec![
        (
            Unit {
                reads: vec![read("k", 0)],
                ..Unit::default()
            },
            conflict,
        ),
        (ledger(None, entry("k", Some("2"))), Duplicate),
        (remember("known", DAY), Duplicate),
        (keys(vec![key("k", 99, 200)]), Duplicate),
        (cursor(None, 2), Duplicate),
        (offsets(5, &[7]), Duplicate),
    ]
}

pub async fn values_and_versions(mut store: Store) {
    let large = "x".repeat(100_000);
    let set = vec![
        write("a", Some("1")),
        write("b", Some("")),
        write("c", Some(&large)),
    ];
    store.add(writes(set)).await;
    store.reopen();
    let get = async |key: &str| store.journal().kv_get("s", key).await.unwrap();
    let a = get("a").await.unwrap();
    assert_eq!(
        (&a.value[..], &get("b").await.unwrap().value[..]),
        (&b"1"[..], &b""[..])
    );
    assert_eq!(get("c").await.unwrap().value, large);
    assert!(a.version > 0);
    assert_eq!(store.journal().kv_get("other", "a").await.unwrap(), None);

    store
        .add(writes(vec![
            write("a", Some("2")),
            write("a", Some("3")),
            write("b", None),
        ]))
        .await;
    store.add(writes(vec![write("never", None)])).await;
    let last = get("a").await.unwrap();
    assert_eq!(&last.value[..], b"3", "the last write counts");
    assert!(last.version > a.version);
    assert_eq!(get("b").await, None);
}

pub async fn reads_are_validated(store: Store) {
    store.add(writes(vec![write("a", Some("1"))])).await;
    let version = store
        .journal()
        .kv_get("s", "a")
        .await
        .unwrap()
        .unwrap()
        .version;
    let increment = |version| Unit {
        reads: vec![read("absent", 0), read("a", version)],
        writes: vec![write("a", Some("2"))],
        ..Unit::default()
    };
    let results = store
        .commit(vec![increment(version), increment(version)])
        .await;
    assert!(committed(&results[0]), "its own write is no conflict");
    assert_eq!(
        results[1],
        Conflict {
            store: "s".into(),
            key: "a".into()
        }
    );
    store.add(writes(vec![write("a", None)])).await;
    assert_eq!(store.one(increment(version)).await, results[1], "deleted");
    store.add(increment(0)).await;
    store
        .add(writes(vec![write("absent", Some("now here"))]))
        .await;
    let absent = Conflict {
        store: "s".into(),
        key: "absent".into(),
    };
    assert_eq!(store.one(increment(0)).await, absent);
}

/// Set, deleted and set again to the same value is not the same.
pub async fn a_version_never_returns(mut store: Store) {
    let mut seen = std::collections::HashSet::new();
    for _ in 0..4 {
        for key in ["a", "b"] {
            store.add(writes(vec![write(key, Some("same"))])).await;
            let version = store
                .journal()
                .kv_get("s", key)
                .await
                .unwrap()
                .unwrap()
                .version;
            assert!(seen.insert(version));
            store.add(writes(vec![write(key, None)])).await;
        }
        store.reopen();
    }
}

pub async fn keys_are_paged(store: Store) {
    let names = ["", "a", "aa", "b", "\u{e9}", "\u{20ac}"];
    store
        .add(writes(
            names
                .iter()
                .rev()
                .map(|key| write(key, Some("v")))
                .collect(),
        ))
        .await;
    let all = store.journal().kv_keys("s", None, 100).await.unwrap();
    assert_eq!(all, names);
    let page = store
        .journal()
        .kv_keys("s", Some("a".into()), 2)
        .await
        .unwrap();
    assert_eq!(page, ["aa", "b"]);
    assert_eq!(
        store.journal().kv_keys("other", None, 100).await.unwrap(),
        [""; 0]
    );
}

pub async fn objects_are_noted_if_they_are_unknown(store: Store) {
    store.add(ledger(None, entry("known", Some("1")))).await;
    for (key, etag) in [("new", "1"), ("other", "9")] {
        let written = vec![WrittenObject {
            bucket: "b".into(),
            key: key.into(),
            etag: etag.into(),
            hops: 3,
        }];
        store
            .add(Unit {
                written,
                ..Unit::default()
            })
            .await;
    }
    let objects = ["known", "new", "other"].map(|key| LedgerEntry {
        size: 77,
        ..entry(key, Some("1"))
    });
    let unit = Unit {
        noted: Some(Noted {
            bucket: "b".into(),
            objects: objects.to_vec(),
        }),
        ..Unit::default()
    };
    store.add(unit.clone()).await;
    store.add(unit).await;
    let page = store.journal().ledger_page("b", None, 9).await.unwrap();
    let known = [&entry("known", Some("1")), &objects[1], &objects[2]];
    assert_eq!(page.iter().collect::<Vec<_>>(), known);
    let hops = async |key, etag| store.journal().hops("b", key, etag).await.unwrap();
    assert_eq!(hops("new", "1").await, None, "it is noticed");
    assert_eq!(hops("other", "9").await, Some(3), "it is yet to come");
}

pub async fn ledgers_forget_what_went_long_ago(mut store: Store) {
    let went = |key: &str, at, deletes| LedgerEntry {
        etag: None,
        modified: Timestamp(at),
        deletes,
        ..entry(key, None)
    };
    for to in [
        went("a", 10, 1),
        went("b", 20, 5),
        went("c", 30, 2),
        entry("there", Some("1")),
    ] {
        store.add(ledger(None, to)).await;
    }
    assert_eq!(store.journal().bucket("b").await.unwrap(), None);
    let to = BucketState {
        began: Timestamp(7),
        complete: true,
        deletes: 4,
    };
    let step = |forget| Unit {
        buckets: vec![BucketMove {
            bucket: "b".into(),
            to,
            forget,
        }],
        ..Unit::default()
    };
    store.add(step(None)).await;
    store.reopen();
    assert_eq!(store.journal().bucket("b").await.unwrap(), Some(to));
    assert_eq!(store.journal().bucket("other").await.unwrap(), None);
    let gone = async |store: &Store, before, limit| {
        let gone = store.journal().gone("b", Timestamp(before), limit).await;
        let gone = gone.unwrap();
        (gone.keys, gone.deletes)
    };
    assert_eq!(gone(&store, 10, 9).await, (0, 0));
    assert_eq!(gone(&store, 30, 9).await, (2, 5));
    assert_eq!(gone(&store, 99, 1).await, (1, 1), "the oldest");
    let forget = |before, limit| {
        Some(Forget {
            before: Timestamp(before),
            limit,
        })
    };
    store.add(step(forget(99, 1))).await;
    assert_eq!(gone(&store, 99, 9).await, (2, 5));
    store.add(step(forget(99, 9))).await;
    assert_eq!(gone(&store, 99, 9).await, (1, 5), "one had more deletes");
    let count = store.journal().ledger_count("b").await.unwrap();
    assert_eq!((count.objects, count.gone), (1, 1));
    let count = store.journal().ledger_count("other").await.unwrap();
    assert_eq!((count.objects, count.gone), (0, 0));
}

pub async fn ledgers_move_from_where_they_stand(mut store: Store) {
    let (one, two) = (entry("k", Some("1")), entry("k", Some("2")));
    store.add(ledger(None, one.clone())).await;
    store.reopen();
    assert_eq!(store.one(ledger(None, two.clone())).await, Duplicate);
    let other = LedgerEntry {
        size: 999,
        ..one.clone()
    };
    assert_eq!(store.one(ledger(Some(other), two.clone())).await, Duplicate);
    store.add(ledger(Some(one.clone()), two.clone())).await;
    assert_eq!(store.one(ledger(Some(one), two.clone())).await, Duplicate);
    assert_eq!(
        store
            .one(ledger(Some(entry("x", None)), entry("x", None)))
            .await,
        Duplicate
    );

    let gone = entry("gone", None);
    let mut unit = ledger(None, entry("gone", Some("1")));
    unit.ledger
        .extend(ledger(Some(entry("gone", Some("1"))), gone.clone()).ledger);
    store.add(unit).await;
    store.add(ledger(None, entry("z", Some("1")))).await;
    store.add(ledger(None, entry("", Some("1")))).await;

    let asked = ["gone", "k", "unknown"].map(str::to_owned).to_vec();
    let mut found = store.journal().ledger("b", asked).await.unwrap();
    found.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(found, [gone, two.clone()]);
    let page = async |after: Option<&str>, limit| -> Answer<Vec<LedgerEntry>> {
        store
            .journal()
            .ledger_page("b", after.map(str::to_owned), limit)
            .await
    };
    let range = async |after: Option<&str>, until: Option<&str>, limit| {
        let (after, until) = (after.map(str::to_owned), until.map(str::to_owned));
        let journal = store.journal();
        let found = journal.ledger_range("b", after, until, limit).await;
        let keys = found.unwrap().into_iter().map(|entry| entry.key);
        keys.collect::<Vec<_>>()
    };
    assert_eq!(range(None, None, 9).await, ["", "gone", "k", "z"]);
    assert_eq!(range(Some(""), Some("k"), 9).await, ["gone", "k"]);
    assert_eq!(range(Some("gone"), None, 1).await, ["k"]);
    let all = [entry("", Some("1")), two, entry("z", Some("1"))];
    assert_eq!(page(None, 10).await.unwrap(), all, "what exists, by key");
    assert_eq!(page(Some(""), 1).await.unwrap(), all[1..2]);
    assert_eq!(page(Some("k"), 10).await.unwrap(), all[2..]);
    assert_eq!(
        store
            .journal()
            .ledger_page("other", None, 10)
            .await
            .unwrap(),
        []
    );
}

pub async fn hops_are_kept_until_noticed(mut store: Store) {
    let wrote = |etag: &str, hops| {
        let (bucket, key) = ("b".to_owned(), "k".to_owned());
        let written = vec![WrittenObject {
            bucket,
            key,
            etag: etag.to_owned(),
            hops,
        }];
        Unit {
            written,
            ..Unit::default()
        }
    };
    store.add(wrote("1", 4)).await;
    store.reopen();
    let hops =
        async |store: &Store, etag: &str| store.journal().hops("b", "k", etag).await.unwrap();
    assert_eq!(
        (hops(&store, "1").await, hops(&store, "2").await),
        (Some(4), None)
    );

    store.add(ledger(None, entry("k", Some("0")))).await;
    assert_eq!(
        hops(&store, "1").await,
        Some(4),
        "an older version was noticed"
    );
    store
        .add(ledger(Some(entry("k", Some("0"))), entry("k", Some("1"))))
        .await;
    assert_eq!(hops(&store, "1").await, None, "it was noticed");
    store.add(wrote("1", 4)).await;
    assert_eq!(hops(&store, "1").await, None, "it had been noticed before");
    store.add(wrote("2", 5)).await;
    store.add(wrote("3", 6)).await;
    assert_eq!(
        (hops(&store, "2").await, hops(&store, "3").await),
        (None, Some(6)),
        "the last"
    );
}

pub async fn usage_adds_up(mut store: Store) {
    let of = |function: &str, day, n| UsageEntry {
        function: function.into(),
        day,
        invocations: n,
        used: Usage {
            wall_us: 10 * n,
            busy_us: 20 * n,
            memory: 30 * n,
        },
    };
    let entry = |day, n| of("f", day, n);
    for entry in [entry(2, 1), entry(1, 2), of("e", 9, 9), entry(2, 3)] {
        store
            .add(Unit {
                usage: Some(entry),
                ..Unit::default()
            })
            .await;
    }
    store.reopen();
    let (e, f1, f2) = (of("e", 9, 9), entry(1, 2), entry(2, 4));
    let list = async |function: Option<&str>, since, until| {
        let function = function.map(str::to_owned);
        let filter = UsageFilter {
            function,
            since,
            until,
        };
        store.journal().usage(filter).await.unwrap()
    };
    assert_eq!(
        list(None, None, None).await,
        [e.clone(), f1.clone(), f2.clone()]
    );
    assert_eq!(list(Some("f"), None, None).await, [f1.clone(), f2.clone()]);
    assert_eq!(list(Some("g"), None, None).await, []);
    assert_eq!(list(None, Some(2), None).await, [e, f2.clone()]);
    assert_eq!(list(None, Some(2), Some(2)).await, [f2]);
    assert_eq!(list(None, None, Some(1)).await, [f1]);
}

pub async fn counts(mut store: Store) {
    let empty = store.journal().stats().await.unwrap();
    assert_eq!((empty.pending, empty.dead), (0, 0));
    let large = Event {
        data: vec![7; 1 << 20].into(),
        ..event("large")
    };
    let accept = vec![Accepted {
        event: large,
        deliveries: vec![new("t", "large")],
    }];
    let seq = store
        .add(Unit {
            accept,
            ..Unit::default()
        })
        .await[0]
        .seq;
    store.accept("a").await;
    let dead = Settle::Dead {
        delivery: seq,
        cause: Cause::Age,
        record: attempt(1),
    };
    store.add(settling(dead)).await;
    let full = store.journal().stats().await.unwrap();
    assert_eq!((full.pending, full.dead), (1, 1));
    assert!(full.bytes >= empty.bytes + (1 << 20));
    assert_eq!(full.bytes, store.journal().bytes());

    store.add(settling(Settle::Purge { delivery: seq })).await;
    store.reopen();
    assert!(
        store.journal().bytes() < full.bytes,
        "what is free does not count"
    );
    let stats = store.journal().stats().await.unwrap();
    assert_eq!((stats.pending, stats.dead), (1, 0));
}
