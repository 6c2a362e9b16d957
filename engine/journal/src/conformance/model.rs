//! A store in memory that applies units field by field and takes a copy back when one does not hold,
//! and random histories to compare a store with it.
//!
//! Names come from small sets, so that units meet. What a unit refers to is made from what was known
//! before its commit, as in the engine: units of one commit overtake one another.

use std::{
    collections::{BTreeSet, HashSet, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
};

use proptest::{
    collection::vec,
    option,
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};
use tidemill_core::{
    delivery::{Cause, Redrive},
    ledger::{LedgerEntry, LedgerMove},
    outcome::Usage,
    schedule::{Cursor, CursorMove},
};

use super::{memory::Memory, *};
use crate::{
    EventId, KeyDone, KvRead, KvWrite, OffsetsMove, PartitionOf, UsageEntry, WrittenObject,
};

/// What to do to the store.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Draft>),
    Reopen,
    Run(u8),
}

/// A unit whose references are not looked up yet. `true` in a pair: refer to what is right.
#[derive(Clone, Debug)]
struct Draft {
    settle: Vec<(u8, u8)>,
    reads: Vec<(u8, bool)>,
    writes: Vec<(u8, Option<u8>)>,
    accept: Vec<Vec<DraftDelivery>>,
    ledger: Option<(u8, bool, Option<u8>)>,
    written: Option<(u8, u8)>,
    event_ids: Option<(u8, u8)>,
    keys: Option<(u8, u8, u8)>,
    cursors: Option<(bool, u8)>,
    offsets: Option<(u8, Vec<u8>)>,
    usage: bool,
}

/// Its trigger, event and kind, its lane and its key; 0 is none.
type DraftDelivery = (u8, u8, u8, u8, u8);

fn draft() -> impl Strategy<Value = Draft> {
    let deliveries = (
        prop_oneof![
            5 => Just(Vec::new()),
            4 => vec((0..5u8, any::<u8>()), 1),
            1 => vec((Just(0u8), any::<u8>()), 2..4),
        ],
        option::weighted(
            0.3,
            vec(vec((0..2u8, 0..12u8, 0..8u8, 0..3u8, 0..3u8), 0..4), 1..3),
        ),
        option::weighted(0.15, (0..12u8, 0..20u8)),
    );
    let values = (
        option::weighted(0.2, vec((0..3u8, prop::bool::weighted(0.9)), 1..3)),
        option::weighted(0.2, vec((0..3u8, option::of(0..3u8)), 1..3)),
    );
    let places = (
        option::weighted(
            0.15,
            (0..3u8, prop::bool::weighted(0.9), option::of(0..3u8)),
        ),
        option::weighted(0.1, (0..3u8, 0..3u8)),
        option::weighted(0.15, (0..2u8, 0..9u8, 0..20u8)),
        option::weighted(0.1, (prop::bool::weighted(0.9), 0..9u8)),
        option::weighted(0.15, (0..6u8, vec(0..12u8, 0..3))),
        prop::bool::weighted(0.1),
    );
    (deliveries, values, places).prop_map(|((settle, accept, event_ids), (reads, writes), rest)| {
        let (ledger, written, keys, cursors, offsets, usage) = rest;
        let (accept, reads) = (accept.unwrap_or_default(), reads.unwrap_or_default());
        let writes = writes.unwrap_or_default();
        Draft {
            settle,
            reads,
            writes,
            accept,
            ledger,
            written,
            event_ids,
            keys,
            cursors,
            offsets,
            usage,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => vec(draft(), 1..5).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        2 => (0..10u8).prop_map(Step::Run),
    ]
}

/// Runs `cases` random histories against the store and the model, or as many as PROPTEST_CASES says;
/// prints the shortest history in which they differ, and the seed, which PROPTEST_RNG_SEED takes.
pub fn compare<P: Place + 'static>(make: impl Fn() -> P, cases: u32) {
    let set = std::env::var_os("PROPTEST_CASES").is_some();
    let mut config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    config.cases = if set { config.cases } else { cases };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().build_hasher().finish(),
    };
    config.rng_seed = RngSeed::Fixed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let outcome = TestRunner::new(config).run(&vec(step(), 1..60), |steps| {
        runtime.block_on(history(Store::new(make()), steps));
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
}

async fn history(mut store: Store, steps: Vec<Step>) {
    let mut model = Memory::default();
    for step in steps {
        match step {
            Step::Commit(drafts) => {
                let units: Vec<_> = drafts
                    .into_iter()
                    .map(|draft| unit(&model, draft))
                    .collect();
                let results = store.commit(units.clone()).await;
                for (unit, found) in units.iter().zip(results) {
                    model.expect(unit, found);
                }
                let times = units
                    .iter()
                    .flat_map(|unit| &unit.keys)
                    .map(|key| key.completed);
                model.now = times
                    .chain([model.now])
                    .max()
                    .expect("at least the one before");
                model.learn_versions(&store).await;
            }
            Step::Reopen => store.reopen(),
            Step::Run(by) => {
                let by = Duration::from_millis(by.into());
                store.run(by);
                model.running += by;
            }
        }
        model.compare(&store).await;
    }
    store.reopen();
    model.compare(&store).await;
}

/// Looks up what the draft refers to.
fn unit(model: &Memory, draft: Draft) -> Unit {
    let record = attempt(1);
    let mut events = HashSet::new();
    let (mut settle, mut settled) = (Vec::new(), 0);
    for (kind, which) in draft.settle {
        // One past the end: a place that nobody has.
        let which = usize::from(which) % (model.deliveries.len() + 1);
        let known = model.deliveries.get(which);
        if !events.insert(known.map(|held| held.event)) {
            continue;
        }
        let delivery = known.map_or(Seq::MAX, |delivery| delivery.seq);
        settled = delivery;
        settle.push(match kind {
            0 => Settle::Done { delivery },
            1 => Settle::Retry {
                delivery,
                due: Timestamp(which as i64),
                record: record.clone(),
            },
            2 => Settle::Dead {
                delivery,
                cause: Cause::Attempts,
                record: record.clone(),
            },
            3 => {
                let of = known.map_or(id("t0", "0"), |delivery| delivery.new.id);
                let redrive = Some(Redrive {
                    of,
                    original: false,
                });
                let new = NewDelivery {
                    id: of.redriven(),
                    lane: known.and_then(|held| held.new.lane.clone()),
                    key: known.and_then(|held| held.new.key.clone()),
                    redrive,
                    ..new("t1", "redriven")
                };
                Settle::Redrive { delivery, new }
            }
            _ => Settle::Purge { delivery },
        });
    }
    let delivery = |(trigger, event, kind, lane, key): DraftDelivery| {
        let due = Timestamp(i64::from(event % 3));
        let named = |n: u8| (n > 0).then(|| n.to_string());
        let plain = NewDelivery {
            due,
            lane: named(lane),
            key: named(key),
            remember: event % 2 == 0,
            ..new(&format!("t{trigger}"), &event.to_string())
        };
        match kind {
            0 => NewDelivery {
                dead: Some((Cause::Loop, "loop".into())),
                ..plain
            },
            1 => NewDelivery {
                history: vec![attempt(1), attempt(2)],
                ..plain
            },
            2..=4 => NewDelivery {
                only_if_last: Some(settled),
                ..plain
            },
            _ => plain,
        }
    };
    let accept = |deliveries: Vec<DraftDelivery>| {
        let name = deliveries.first().map_or(0, |first| first.1).to_string();
        Accepted {
            event: event(&name),
            deliveries: deliveries.into_iter().map(delivery).collect(),
        }
    };
    let name = |n: u8| n.to_string();
    let (bucket, group) = ("b".to_owned(), "g".to_owned());
    Unit {
        settle,
        noted: None,
        expire: None,
        buckets: Vec::new(),
        reads: (draft.reads.into_iter())
            .map(|(key, right)| {
                let version = model.version(&name(key)) - i64::from(!right);
                KvRead {
                    store: "s".into(),
                    key: name(key),
                    version,
                }
            })
            .collect(),
        writes: (draft.writes.into_iter())
            .map(|(key, value)| {
                let value = value.map(|value| vec![value].into());
                KvWrite {
                    store: "s".into(),
                    key: name(key),
                    value,
                }
            })
            .collect(),
        accept: draft.accept.into_iter().map(accept).collect(),
        ledger: (draft.ledger.into_iter())
            .map(|(key, right, etag)| {
                let from = right
                    .then(|| model.ledger.get(&name(key)).cloned())
                    .flatten();
                let (key, etag) = (name(key), etag.map(name));
                let to = LedgerEntry {
                    key,
                    etag,
                    size: 1,
                    modified: Timestamp(2),
                    deletes: 3,
                };
                LedgerMove {
                    bucket: bucket.clone(),
                    from,
                    to,
                }
            })
            .collect(),
        written: (draft.written.into_iter())
            .map(|(key, etag)| {
                let (key, etag, hops) = (name(key), name(etag), u32::from(key + etag));
                WrittenObject {
                    bucket: bucket.clone(),
                    key,
                    etag,
                    hops,
                }
            })
            .collect(),
        event_ids: (draft.event_ids.into_iter())
            .map(|(event, window)| {
                let window = Duration::from_millis(window.into());
                EventId {
                    delivery: id("t0", &name(event)),
                    window,
                    fingerprint: (event % 2 == 0).then_some([event; 32]),
                }
            })
            .collect(),
        keys: (draft.keys.into_iter())
            .map(|(key, after, window)| {
                let completed = Timestamp(model.now.0 + i64::from(after));
                KeyDone {
                    trigger: "t0".into(),
                    key: name(key),
                    delivery: id("t0", "0"),
                    completed,
                    expires: completed.plus(Duration::from_millis(window.into())),
                    fingerprint: None,
                    reply: None,
                }
            })
            .collect(),
        cursors: (draft.cursors.into_iter())
            .map(|(right, to)| {
                let from = if right {
                    model.cursor.clone()
                } else {
                    // The same instant, of another schedule.
                    model.cursor.clone().map(|cursor| Cursor {
                        definition: "another".into(),
                        ..cursor
                    })
                };
                CursorMove {
                    schedule: "c".into(),
                    from,
                    to: Cursor {
                        at: Timestamp(to.into()),
                        definition: name(to),
                    },
                }
            })
            .collect(),
        forget: Vec::new(),
        offsets: (draft.offsets.into_iter())
            .map(|(watermark, completed)| OffsetsMove {
                of: PartitionOf {
                    trigger: "t0".into(),
                    group: group.clone(),
                    partition: "p".into(),
                },
                watermark: watermark.into(),
                stamp: Some(watermark.into()),
                completed: completed
                    .into_iter()
                    .map(i64::from)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect(),
            })
            .collect(),
        usage: draft.usage.then(|| UsageEntry {
            function: "f".into(),
            day: 1,
            invocations: 1,
            used: Usage {
                wall_us: 2,
                busy_us: 3,
                memory: 4,
            },
        }),
    }
}
