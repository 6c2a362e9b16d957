//! Cases of pending deliveries.

use super::*;
use crate::{KvWrite, UnitResult::*};
use tidemill_core::{
    delivery::{Cause, Delivery, Redrive},
    destination::OutboxAction,
};

const NOTHING: UnitResult = Committed {
    added: Vec::new(),
    released: Vec::new(),
};

pub async fn accept_and_done(mut store: Store) {
    let seq = store.accept("a").await;
    store.reopen();
    let pending = store.pending("t").await;
    assert_eq!(pending.len(), 1);
    let found = &pending[0];
    assert_eq!(
        (found.seq, found.id, found.due),
        (seq, id("t", "a"), Timestamp(10))
    );
    assert_eq!(found.size, event("a").size());
    let triggers = store.journal().pending_triggers().await.unwrap();
    assert_eq!(triggers, [("t".to_owned(), 1)]);

    assert!(committed(&store.one(done(seq)).await));
    store.reopen();
    assert_eq!(store.pending("t").await, []);
    assert_eq!(store.journal().delivery(seq).await.unwrap(), None);
    assert_eq!(store.journal().pending_triggers().await.unwrap(), []);
}

pub async fn every_field_comes_back(mut store: Store) {
    let action = OutboxAction::MoveObject {
        bucket: "b".into(),
        key: "k".into(),
        etag: "e".into(),
        to_bucket: "c".into(),
        to_key: "l".into(),
    };
    let rich = NewDelivery {
        work: Work::Outbox(action.clone()),
        accepted: Timestamp(-5),
        due: Timestamp(77),
        lane: Some("lane".into()),
        key: Some("key".into()),
        remember: true,
        history: vec![attempt(1), attempt(2)],
        redrive: Some(Redrive {
            of: id("x", "y"),
            original: true,
        }),
        ..new("rich", "a")
    };
    let bare = Event {
        subject: None,
        datacontenttype: None,
        traceparent: None,
        headers: Vec::new(),
        data: Vec::new().into(),
        ..event("b")
    };
    let mut unit = accepted("a", vec![rich]);
    unit.accept.push(Accepted {
        event: bare.clone(),
        deliveries: vec![new("bare", "b")],
    });
    let added = store.add(unit).await;
    store.reopen();

    let found = store
        .journal()
        .delivery(added[0].seq)
        .await
        .unwrap()
        .unwrap();
    let expected = Delivery {
        seq: added[0].seq,
        id: id("rich", "a"),
        trigger: "rich".into(),
        work: Work::Outbox(action),
        attempts: 2,
        accepted: Timestamp(-5),
        due: Timestamp(77),
        lane: Some("lane".into()),
        key: Some("key".into()),
        remember: true,
        redrive: Some(Redrive {
            of: id("x", "y"),
            original: true,
        }),
        event: event("a"),
    };
    assert_eq!(found, expected);
    let found = store
        .journal()
        .delivery(added[1].seq)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.event, found.work, found.redrive),
        (bare, Work::Handle, None)
    );
    assert_eq!((found.lane, found.key, found.remember), (None, None, false));
}

pub async fn pending_is_ordered_and_paged(store: Store) {
    let dues = [30, 10, 20, 10, 30, 10, i64::MAX, i64::MIN, 10];
    for (n, due) in dues.into_iter().enumerate() {
        let id = n.to_string();
        let one = NewDelivery {
            due: Timestamp(due),
            ..new("t", &id)
        };
        store.add(accepted(&id, vec![one, new("other", &id)])).await;
    }
    let all = store.pending("t").await;
    assert_eq!(all.len(), dues.len());
    assert!(all.is_sorted_by(|a, b| (a.due, a.seq) < (b.due, b.seq)));
    for limit in 1..=dues.len() + 1 {
        let mut paged: Vec<Pending> = Vec::new();
        loop {
            let after = paged.last().map(|last| (last.due, last.seq));
            let page = store.journal().pending("t", after, limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all, "in pages of {limit}");
    }
    assert_eq!(store.journal().pending("t", None, 0).await.unwrap(), []);
}

pub async fn a_retry_moves_and_keeps_history(mut store: Store) {
    let (first, second) = (store.accept("a").await, store.accept("b").await);
    let retry = Settle::Retry {
        delivery: first,
        due: Timestamp(99),
        record: attempt(1),
    };
    store.add(settling(retry)).await;
    store.reopen();
    let order: Vec<_> = store
        .pending("t")
        .await
        .iter()
        .map(|p| (p.seq, p.due))
        .collect();
    assert_eq!(order, [(second, Timestamp(10)), (first, Timestamp(99))]);
    assert_eq!(
        store
            .journal()
            .delivery(first)
            .await
            .unwrap()
            .unwrap()
            .attempts,
        1
    );

    let dead = Settle::Dead {
        delivery: first,
        cause: Cause::Age,
        record: attempt(2),
    };
    store.add(settling(dead)).await;
    let letter = store
        .journal()
        .dead_letter(id("t", "a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(letter.history, [attempt(1), attempt(2)]);
    assert_eq!(letter.delivery.attempts, 2);
}

pub async fn duplicates_are_refused(store: Store) {
    let seq = store.accept("pending").await;
    assert_eq!(store.one(accepting("pending")).await, Duplicate);
    let dead = Settle::Dead {
        delivery: seq,
        cause: Cause::Rejected,
        record: attempt(1),
    };
    store.add(settling(dead)).await;
    assert_eq!(store.one(accepting("pending")).await, Duplicate, "dead");

    let twice = accepted("twice", vec![new("t", "twice"), new("t", "twice")]);
    assert_eq!(store.one(twice).await, Duplicate, "twice in a unit");
    let seq = store.accept("again").await;
    store.add(done(seq)).await;
    let seq = store.accept("again").await;
    let replaced = Unit {
        settle: vec![Settle::Done { delivery: seq }],
        ..accepting("again")
    };
    assert_ne!(
        store.add(replaced).await[0].seq,
        seq,
        "the unit itself made room"
    );
}

pub async fn settling_needs_the_right_state(store: Store) {
    let all = |delivery| {
        let record = attempt(1);
        [
            Settle::Done { delivery },
            Settle::Retry {
                delivery,
                due: Timestamp(1),
                record: record.clone(),
            },
            Settle::Dead {
                delivery,
                cause: Cause::Attempts,
                record,
            },
            Settle::Redrive {
                delivery,
                new: new("t", "redriven"),
            },
            Settle::Purge { delivery },
        ]
    };
    for settle in all(12345) {
        assert_eq!(store.one(settling(settle)).await, Gone, "unknown");
    }
    let seq = store.accept("a").await;
    for settle in all(seq).into_iter().skip(3) {
        assert_eq!(store.one(settling(settle)).await, Gone, "pending");
    }
    let dead = Settle::Dead {
        delivery: seq,
        cause: Cause::Rejected,
        record: attempt(1),
    };
    store.add(settling(dead)).await;
    for settle in all(seq).into_iter().take(3) {
        assert_eq!(store.one(settling(settle)).await, Gone, "dead");
    }
}

pub async fn places_are_never_used_twice(mut store: Store) {
    let mut last = 0;
    for round in 0..4 {
        for n in 0..3 {
            let seq = store.accept(&format!("{round}-{n}")).await;
            assert!(seq > last);
            last = seq;
            store.add(done(seq)).await;
        }
        store.reopen();
    }
}

pub async fn units_are_independent(mut store: Store) {
    let seq = store.accept("a").await;
    let results = store.commit(vec![
        accepting("b"),
        accepting("a"),
        done(999),
        done(seq),
        accepting("c"),
    ]);
    let results = results.await;
    assert!(committed(&results[0]) && committed(&results[3]) && committed(&results[4]));
    assert_eq!(results[1..3], [Duplicate, Gone]);
    store.reopen();
    assert_eq!(store.pending_ids("t").await, [id("t", "b"), id("t", "c")]);
    assert_eq!(store.commit(Vec::new()).await, []);
    assert_eq!(store.one(Unit::default()).await, NOTHING);
}

pub async fn units_of_a_commit_see_each_other(store: Store) {
    let results = store.commit(vec![accepting("a"), accepting("a")]).await;
    assert!(committed(&results[0]));
    assert_eq!(results[1], Duplicate);
    let seq = store.pending("t").await[0].seq;
    let results = store
        .commit(vec![done(seq), done(seq), accepting("a")])
        .await;
    assert!(committed(&results[0]) && committed(&results[2]));
    assert_eq!(results[1], Gone);
}

/// Each last part fails in turn; nothing of the first parts may remain.
pub async fn a_refused_unit_leaves_nothing(mut store: Store) {
    let seq = store.accept("a").await;
    store.add(state::taken()).await;
    let before = store.journal().stats().await.unwrap();
    for (refused, expected) in state::refused() {
        let full = Unit {
            settle: vec![Settle::Done { delivery: seq }],
            writes: vec![KvWrite {
                store: "s".into(),
                key: "new".into(),
                value: Some("v".into()),
            }],
            accept: accepting("new").accept,
            ..refused
        };
        assert_eq!(store.one(full).await, expected);
        store.reopen();
        assert_eq!(store.pending_ids("t").await, [id("t", "a")]);
        assert_eq!(store.journal().kv_get("s", "new").await.unwrap(), None);
        let after = store.journal().stats().await.unwrap();
        assert_eq!((after.pending, after.dead), (before.pending, before.dead));
    }
}

pub async fn bodies_are_shared(mut store: Store) {
    let unit = accepted("a", vec![new("t", "a"), new("u", "a"), new("v", "a")]);
    let added = store.add(unit).await;
    assert_eq!(added.len(), 3);
    for n in 0..added.len() {
        store.reopen();
        for left in &added[n..] {
            let found = store.journal().delivery(left.seq).await.unwrap().unwrap();
            assert_eq!((found.event, found.id), (event("a"), left.id));
        }
        store.add(done(added[n].seq)).await;
    }
}

fn follow(after: Seq, id: &str) -> Unit {
    let new = NewDelivery {
        only_if_last: Some(after),
        ..new("after", id)
    };
    Unit {
        settle: vec![Settle::Done { delivery: after }],
        ..accepted(id, vec![new])
    }
}

pub async fn only_if_last_waits_for_all(mut store: Store) {
    let single = store.accept("single").await;
    assert_eq!(
        store.add(follow(single, "1")).await.len(),
        1,
        "the only one"
    );

    let added = store
        .add(accepted(
            "a",
            vec![new("t", "a"), new("u", "a"), new("v", "a")],
        ))
        .await;
    assert_eq!(
        store.add(follow(added[0].seq, "2")).await,
        [],
        "two are pending"
    );
    let dead = Settle::Dead {
        delivery: added[1].seq,
        cause: Cause::Age,
        record: attempt(1),
    };
    store.add(settling(dead)).await;
    store.reopen();
    assert_eq!(
        store.add(follow(added[2].seq, "3")).await,
        [],
        "one is dead"
    );

    let redrive = Settle::Redrive {
        delivery: added[1].seq,
        new: new("u", "redriven"),
    };
    let redriven = store.add(settling(redrive)).await[0].seq;
    store.reopen();
    let mut unit = follow(redriven, "4");
    unit.accept[0].deliveries.push(new("always", "4"));
    assert_eq!(store.add(unit).await.len(), 2, "the dead one was made good");

    let added = store
        .add(accepted("b", vec![new("t", "b"), new("u", "b")]))
        .await;
    let results = store
        .commit(vec![follow(added[0].seq, "5"), follow(added[1].seq, "6")])
        .await;
    assert_eq!(results[0], NOTHING, "in one commit: not the first");
    assert!(
        matches!(&results[1], Committed { added, .. } if added.len() == 1),
        "but the last"
    );
}

pub async fn only_if_last_wants_done(store: Store) {
    let follow_after = |settle, after| Unit {
        settle: vec![settle],
        ..follow(after, "f")
    };
    let seq = store.accept("a").await;
    let other = store.accept("b").await;
    assert_eq!(
        store
            .add(follow_after(Settle::Done { delivery: other }, seq))
            .await,
        [],
        "other"
    );
    let retry = Settle::Retry {
        delivery: seq,
        due: Timestamp(1),
        record: attempt(1),
    };
    assert_eq!(store.add(follow_after(retry, seq)).await, []);
    let dead = Settle::Dead {
        delivery: seq,
        cause: Cause::Age,
        record: attempt(2),
    };
    assert_eq!(store.add(follow_after(dead, seq)).await, []);
    assert_eq!(
        store
            .add(follow_after(Settle::Purge { delivery: seq }, seq))
            .await,
        []
    );
    assert_eq!(
        store
            .add(Unit {
                settle: Vec::new(),
                ..follow(seq, "f")
            })
            .await,
        [],
        "nothing settled"
    );
    assert_eq!(store.pending("after").await, []);
}
