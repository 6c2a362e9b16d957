//! Cases of turns: who waits for whom in lanes and with keys, and who comes next.

use super::*;
use crate::UnitResult::*;
use tidemill_core::{
    delivery::{Cause, Redrive},
    turn::Turn,
};

const NOBODY: [Seq; 0] = [];

/// A delivery of the trigger "t" in a lane and with a key, where these are not empty.
fn turn(event: &str, lane: &str, key: &str) -> NewDelivery {
    let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    NewDelivery {
        lane: named(lane),
        key: named(key),
        ..new("t", event)
    }
}

/// Accepts it; gives its place and whether it is blocked.
async fn accept(store: &Store, event: &str, lane: &str, key: &str) -> (Seq, bool) {
    let added = store
        .add(accepted(event, vec![turn(event, lane, key)]))
        .await;
    (added[0].seq, added[0].blocked)
}

/// Commits the unit; gives the places that it releases.
async fn release(store: &Store, unit: Unit) -> Vec<Seq> {
    released(&store.one(unit).await)
}

fn released(result: &UnitResult) -> Vec<Seq> {
    let Committed { released, .. } = result else {
        panic!("refused: {result:?}")
    };
    released.iter().map(|pending| pending.seq).collect()
}

/// The places that may run.
async fn free(store: &Store) -> Vec<Seq> {
    let pending = store.pending("t").await;
    pending.iter().map(|pending| pending.seq).collect()
}

fn retry(delivery: Seq, due: i64) -> Unit {
    settling(Settle::Retry {
        delivery,
        due: Timestamp(due),
        record: attempt(1),
    })
}

fn dead(delivery: Seq) -> Unit {
    settling(Settle::Dead {
        delivery,
        cause: Cause::Attempts,
        record: attempt(1),
    })
}

pub async fn a_lane_is_in_order_through_a_retry(mut store: Store) {
    let (a, blocked) = accept(&store, "a", "lane", "").await;
    assert!(!blocked);
    let early = NewDelivery {
        due: Timestamp(1),
        ..turn("b", "lane", "")
    };
    let added = store.add(accepted("b", vec![early])).await;
    assert!(added[0].blocked);
    let (b, (c, _)) = (added[0].seq, accept(&store, "c", "lane", "").await);
    store.reopen();
    assert_eq!(free(&store).await, [a], "however early others are due");
    assert_eq!(release(&store, retry(a, 9999)).await, NOBODY);
    store.reopen();
    assert_eq!(free(&store).await, [a], "however late it is due");

    let result = store.one(done(a)).await;
    let pending = store.pending("t").await;
    assert_eq!(
        result,
        Committed {
            added: Vec::new(),
            released: pending.clone()
        }
    );
    assert_eq!((pending[0].seq, pending[0].due), (b, Timestamp(1)));
    assert_eq!((pending[0].id, pending.len()), (id("t", "b"), 1));
    assert_eq!(pending[0].size, event("b").size());
    store.reopen();
    assert_eq!(free(&store).await, [b]);
    assert_eq!(release(&store, done(b)).await, [c]);
    assert_eq!(release(&store, done(c)).await, NOBODY);
    assert!(
        !accept(&store, "d", "lane", "").await.1,
        "the lane is empty"
    );
}

pub async fn a_dead_letter_lets_the_next_pass(mut store: Store) {
    for (lane, key) in [("lane", ""), ("", "key")] {
        let (a, _) = accept(&store, &format!("a{lane}"), lane, key).await;
        let (b, blocked) = accept(&store, &format!("b{lane}"), lane, key).await;
        assert!(blocked);
        assert_eq!(release(&store, dead(a)).await, [b]);
        store.reopen();
        assert_eq!(free(&store).await, [b]);
        let (c, blocked) = accept(&store, &format!("c{lane}"), lane, key).await;
        assert!(blocked, "for the second, not for the dead");
        let purge = settling(Settle::Purge { delivery: a });
        assert_eq!(release(&store, purge).await, NOBODY);
        assert_eq!(release(&store, done(b)).await, [c]);
        store.add(done(c)).await;
    }
}

pub async fn a_redrive_joins_the_tail(mut store: Store) {
    let (a, _) = accept(&store, "a", "lane", "").await;
    let (b, _) = accept(&store, "b", "lane", "").await;
    let (c, _) = accept(&store, "c", "lane", "").await;
    assert_eq!(release(&store, dead(a)).await, [b]);
    let redrive = |of: &str, delivery| {
        let redrive = Some(Redrive {
            of: id("t", of),
            original: false,
        });
        let new = NewDelivery {
            id: id("t", of).redriven(),
            redrive,
            ..turn(of, "lane", "")
        };
        settling(Settle::Redrive { delivery, new })
    };
    let result = store.one(redrive("a", a)).await;
    assert_eq!(released(&result), NOBODY);
    let Committed { added, .. } = result else {
        panic!("{result:?}")
    };
    assert!(added[0].blocked && added[0].seq > c);
    store.reopen();
    assert_eq!(free(&store).await, [b]);
    assert_eq!(release(&store, done(b)).await, [c]);
    assert_eq!(release(&store, done(c)).await, [added[0].seq]);

    assert_eq!(release(&store, dead(added[0].seq)).await, NOBODY);
    let again = settling(Settle::Redrive {
        delivery: added[0].seq,
        new: turn("again", "lane", ""),
    });
    assert!(!store.add(again).await[0].blocked, "the lane is empty");
}

/// Those with both wait in two rows at once, and never for each other in a circle.
pub async fn lane_and_key_together(mut store: Store) {
    let (a, _) = accept(&store, "a", "1", "x").await;
    let (b, by_key) = accept(&store, "b", "2", "x").await;
    let (c, by_lane) = accept(&store, "c", "1", "y").await;
    let (d, by_both) = accept(&store, "d", "2", "y").await;
    assert!(by_key && by_lane && by_both);
    store.reopen();
    assert_eq!(free(&store).await, [a]);
    let both = release(&store, done(a)).await;
    assert_eq!(both.len(), 2);
    assert!(both.contains(&b) && both.contains(&c));
    store.reopen();
    assert_eq!(free(&store).await, [b, c]);
    assert_eq!(
        release(&store, done(b)).await,
        NOBODY,
        "it has the key of another"
    );
    assert_eq!(release(&store, done(c)).await, [d]);
    assert_eq!(release(&store, done(d)).await, NOBODY);
}

pub async fn one_waits_for_both(mut store: Store) {
    let (a, _) = accept(&store, "a", "1", "").await;
    let (b, _) = accept(&store, "b", "", "x").await;
    let (c, blocked) = accept(&store, "c", "1", "x").await;
    assert!(blocked);
    assert_eq!(
        release(&store, done(b)).await,
        NOBODY,
        "not first in its lane"
    );
    store.reopen();
    assert_eq!(release(&store, done(a)).await, [c]);
    // The same one is the next both in the lane and with the key.
    let (d, _) = accept(&store, "d", "1", "x").await;
    assert_eq!(release(&store, done(c)).await, [d]);
    assert_eq!(free(&store).await, [d]);
}

pub async fn two_of_a_unit(mut store: Store) {
    let mut unit = accepted(
        "a",
        vec![turn("a", "1", ""), turn("b", "1", ""), turn("c", "", "x")],
    );
    unit.accept.push(Accepted {
        event: event("d"),
        deliveries: vec![turn("d", "2", "x"), turn("e", "3", "")],
    });
    let added = store.add(unit).await;
    let blocked: Vec<_> = added.iter().map(|added| added.blocked).collect();
    assert_eq!(blocked, [false, true, false, true, false]);
    store.reopen();
    let seq = |n: usize| added[n].seq;
    assert_eq!(free(&store).await, [seq(0), seq(2), seq(4)]);
    assert_eq!(release(&store, done(seq(0))).await, [seq(1)]);
    assert_eq!(release(&store, done(seq(2))).await, [seq(3)]);
}

/// What a unit adds comes after all that was there, and the one it settles counts as gone.
pub async fn a_unit_settles_and_adds(mut store: Store) {
    let ends: [fn(Seq) -> Unit; 2] = [done, dead];
    for (n, end) in ends.into_iter().enumerate() {
        let (a, _) = accept(&store, &format!("a{n}"), "lane", "key").await;
        let (c, d) = (format!("c{n}"), format!("d{n}"));
        let unit = Unit {
            accept: accepted(&c, vec![turn(&c, "lane", "key")]).accept,
            ..end(a)
        };
        let result = store.one(unit).await;
        let Committed { added, released } = &result else {
            panic!("{result:?}")
        };
        assert_eq!((added[0].blocked, &released[..]), (false, &[][..]));

        let (b, blocked) = accept(&store, &format!("b{n}"), "lane", "key").await;
        assert!(blocked);
        let unit = Unit {
            accept: accepted(&d, vec![turn(&d, "lane", "key")]).accept,
            ..end(added[0].seq)
        };
        let result = store.one(unit).await;
        let Committed { added, released } = &result else {
            panic!("{result:?}")
        };
        assert!(added[0].blocked);
        assert_eq!(released.len(), 1);
        assert_eq!(released[0].seq, b);
        store.reopen();
        assert_eq!(free(&store).await, [b]);
        assert_eq!(release(&store, done(b)).await, [added[0].seq]);
        store.add(done(added[0].seq)).await;
    }
}

pub async fn units_of_a_commit_release_each_other(mut store: Store) {
    let (a, _) = accept(&store, "a", "lane", "").await;
    let unit = |name: &str| accepted(name, vec![turn(name, "lane", "")]);
    let results = store.commit(vec![unit("b"), done(a), unit("c")]).await;
    let seqs = free(&store).await;
    assert_eq!(released(&results[1]), seqs);
    let Committed { added, .. } = &results[0] else {
        panic!("{results:?}")
    };
    assert!(added[0].blocked, "it was, before the next unit");
    assert_eq!(seqs, [added[0].seq]);

    // One that is refused releases nobody.
    let refused = Unit {
        accept: unit("c").accept,
        ..done(seqs[0])
    };
    assert_eq!(store.one(refused).await, Duplicate);
    store.reopen();
    assert_eq!(free(&store).await, seqs);
}

pub async fn leaving_from_the_middle_frees_nobody(mut store: Store) {
    let (a, _) = accept(&store, "a", "lane", "").await;
    let (b, _) = accept(&store, "b", "lane", "key").await;
    let (c, _) = accept(&store, "c", "lane", "").await;
    let (d, blocked) = accept(&store, "d", "", "key").await;
    assert!(blocked);
    assert_eq!(release(&store, retry(b, 5)).await, NOBODY);
    assert_eq!(free(&store).await, [a], "a retry does not unblock");
    assert_eq!(release(&store, dead(b)).await, [d], "it waited for its key");
    store.reopen();
    assert_eq!(free(&store).await, [a, d]);
    assert_eq!(release(&store, done(a)).await, [c]);
    let stats = store.journal().stats().await.unwrap();
    assert_eq!((stats.pending, stats.dead), (2, 1));
}

pub async fn others_do_not_wait(store: Store) {
    accept(&store, "a", "same", "").await;
    for (n, (lane, key)) in [
        ("", "same"),
        ("other", ""),
        ("", "other"),
        ("", ""),
        ("", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let (_, blocked) = accept(&store, &n.to_string(), lane, key).await;
        assert!(!blocked, "{lane:?} {key:?}");
    }
    let other = NewDelivery {
        trigger: "u".into(),
        ..turn("u", "same", "same")
    };
    let added = store.add(accepted("u", vec![other])).await;
    assert!(!added[0].blocked, "of another trigger");
    assert_eq!(release(&store, done(added[0].seq)).await, NOBODY);
}

pub async fn the_dead_on_arrival_do_not_wait(store: Store) {
    let (a, _) = accept(&store, "a", "lane", "key").await;
    let died = NewDelivery {
        dead: Some((Cause::Loop, "17 hops".into())),
        ..turn("b", "lane", "key")
    };
    let added = store.add(accepted("b", vec![died])).await;
    assert!(!added[0].blocked);
    assert_eq!(release(&store, done(a)).await, NOBODY);
    let (_, blocked) = accept(&store, "c", "lane", "key").await;
    assert!(!blocked);
    let letter = store.journal().dead_letter(id("t", "b")).await.unwrap();
    let letter = letter.unwrap().delivery;
    assert_eq!(
        (letter.lane.as_deref(), letter.key.as_deref()),
        (Some("lane"), Some("key"))
    );
}

pub async fn who_waits_counts(mut store: Store) {
    let (a, _) = accept(&store, "a", "lane", "").await;
    let (b, _) = accept(&store, "b", "lane", "").await;
    accept(&store, "c", "lane", "").await;
    store.reopen();
    let found = store.journal().delivery(b).await.unwrap().unwrap();
    assert_eq!((found.seq, found.lane.as_deref()), (b, Some("lane")));
    let triggers = store.journal().pending_triggers().await.unwrap();
    assert_eq!(triggers, [("t".to_owned(), 3)]);
    assert_eq!(store.journal().stats().await.unwrap().pending, 3);
    let busy = async |trigger: &str| store.journal().is_busy(trigger).await.unwrap();
    assert!(busy("t").await && !busy("u").await);
    for last in [a, b] {
        store.add(done(last)).await;
    }
    assert!(store.journal().is_busy("t").await.unwrap());
    store.add(dead(free(&store).await[0])).await;
    assert!(
        !store.journal().is_busy("t").await.unwrap(),
        "dead is not busy"
    );
    assert_eq!(store.journal().pending_triggers().await.unwrap(), []);
}

pub async fn how_many_are_ahead(store: Store) {
    let (a, _) = accept(&store, "a", "lane", "").await;
    accept(&store, "b", "lane", "key").await;
    accept(&store, "c", "", "key").await;
    let ahead = async |trigger: &str, lane: &str, key: &str, limit| {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let turn = Turn {
            lane: named(lane),
            key: named(key),
        };
        store.journal().ahead(trigger, &turn, limit).await.unwrap()
    };
    assert_eq!(ahead("t", "lane", "", 9).await, 2);
    assert_eq!(ahead("t", "lane", "", 1).await, 1, "no further");
    assert_eq!(ahead("t", "other", "key", 9).await, 2);
    assert_eq!(
        ahead("t", "", "", 9).await,
        0,
        "without a turn nobody waits"
    );
    assert_eq!(ahead("t", "key", "lane", 9).await, 0, "a lane is no key");
    assert_eq!(ahead("u", "lane", "key", 9).await, 0);
    store.add(dead(a)).await;
    assert_eq!(ahead("t", "lane", "", 9).await, 1, "the dead are gone");
}
