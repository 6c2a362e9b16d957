//! Cases of dead letters.

use super::*;
use crate::{DeadLetterFilter, UnitResult::*};
use tidemill_core::delivery::{Cause, Redrive};

async fn kill(store: &Store, event: &str) -> Seq {
    let seq = store.accept(event).await;
    let dead = Settle::Dead {
        delivery: seq,
        cause: Cause::Attempts,
        record: attempt(1),
    };
    store.add(settling(dead)).await;
    seq
}

pub async fn a_dead_letter_keeps_all(mut store: Store) {
    let seq = kill(&store, "a").await;
    store.reopen();
    assert_eq!(store.pending("t").await, []);
    assert_eq!(
        store.journal().delivery(seq).await.unwrap(),
        None,
        "it is not pending"
    );
    let letter = store
        .journal()
        .dead_letter(id("t", "a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (letter.delivery.seq, letter.delivery.event),
        (seq, event("a"))
    );
    assert_eq!(
        (letter.cause, letter.reason.as_str()),
        (Cause::Attempts, "reason 1")
    );
    assert_eq!(
        (letter.died, letter.history),
        (Timestamp(150), vec![attempt(1)])
    );
    store.accept("pending").await;
    assert_eq!(
        store
            .journal()
            .dead_letter(id("t", "pending"))
            .await
            .unwrap(),
        None
    );
}

pub async fn dead_on_arrival(store: Store) {
    let dead = Some((Cause::Loop, "17 hops".to_owned()));
    let fresh = NewDelivery {
        dead: dead.clone(),
        ..new("t", "a")
    };
    let parked = NewDelivery {
        dead,
        history: vec![attempt(1), attempt(2)],
        ..new("u", "a")
    };
    store.add(accepted("a", vec![fresh, parked])).await;
    assert_eq!(store.pending("t").await, []);
    let letter = store
        .journal()
        .dead_letter(id("t", "a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (letter.cause, letter.reason.as_str()),
        (Cause::Loop, "17 hops")
    );
    assert_eq!((letter.died, letter.history.len()), (Timestamp(10), 0));
    let letter = store
        .journal()
        .dead_letter(id("u", "a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((letter.died, letter.history.len()), (Timestamp(250), 2));
}

pub async fn lists_are_filtered_and_paged(store: Store) {
    for n in 0..6u32 {
        let name = n.to_string();
        let trigger = if n % 2 == 0 { "even" } else { "odd" };
        let seq = store.add(accepted(&name, vec![new(trigger, &name)])).await[0].seq;
        let dead = Settle::Dead {
            delivery: seq,
            cause: match n {
                0 | 5 => Cause::TooLarge,
                _ => Cause::Rejected,
            },
            record: attempt(n),
        };
        store.add(settling(dead)).await;
        store.accept(&format!("pending {n}")).await;
    }
    let list = async |filter: DeadLetterFilter| -> Vec<String> {
        let lines = store
            .journal()
            .dead_letters(filter, None, 100)
            .await
            .unwrap();
        lines.into_iter().map(|line| line.reason).collect()
    };
    let all = DeadLetterFilter::default();
    let odd = DeadLetterFilter {
        triggers: vec!["odd".into()],
        ..all.clone()
    };
    let several = DeadLetterFilter {
        triggers: vec!["even".into(), "odd".into(), "it's \"odd\"".into()],
        since: Some(Timestamp(350)),
        ..all.clone()
    };
    let caused = |causes: &[Cause]| DeadLetterFilter {
        causes: causes.to_vec(),
        ..all.clone()
    };
    let text = DeadLetterFilter {
        reason: Some("son 4".into()),
        ..all.clone()
    };
    let wild = DeadLetterFilter {
        reason: Some("%".into()),
        ..all.clone()
    };
    let since = DeadLetterFilter {
        since: Some(Timestamp(450)),
        ..all.clone()
    };
    let until = DeadLetterFilter {
        until: Some(Timestamp(150)),
        ..all.clone()
    };
    assert_eq!(list(odd).await, ["reason 1", "reason 3", "reason 5"]);
    assert_eq!(
        list(several).await,
        ["reason 3", "reason 4", "reason 5"],
        "any of them"
    );
    assert_eq!(
        list(caused(&[Cause::TooLarge])).await,
        ["reason 0", "reason 5"]
    );
    let both = caused(&[Cause::TooLarge, Cause::Rejected]);
    assert_eq!(list(both).await.len(), 6);
    assert_eq!(list(caused(&[Cause::Age])).await, [""; 0]);
    assert_eq!(list(text).await, ["reason 4"]);
    assert_eq!(list(wild).await, [""; 0], "a text, not a pattern");
    assert_eq!(list(since).await, ["reason 4", "reason 5"]);
    assert_eq!(list(until).await, ["reason 0"]);

    let lines = store
        .journal()
        .dead_letters(all.clone(), None, 100)
        .await
        .unwrap();
    assert_eq!(lines.len(), 6);
    let line = &lines[1];
    assert_eq!(
        (line.id, line.trigger.as_str(), line.attempts),
        (id("odd", "1"), "odd", 1)
    );
    assert_eq!(
        (line.source.as_str(), line.subject.as_deref()),
        ("http:/hook", Some("subject"))
    );
    assert_eq!((line.cause, line.died), (Cause::Rejected, Timestamp(150)));
    let mut paged = Vec::new();
    for _ in 0..3 {
        let after = paged.last().map(|line: &crate::DeadLetterLine| line.seq);
        paged.extend(
            store
                .journal()
                .dead_letters(all.clone(), after, 2)
                .await
                .unwrap(),
        );
    }
    assert_eq!(paged, lines);
}

pub async fn a_redrive_replaces(mut store: Store) {
    let seq = kill(&store, "a").await;
    let of = id("t", "a");
    let redrive = Some(Redrive {
        of,
        original: false,
    });
    let next = NewDelivery {
        id: of.redriven(),
        due: Timestamp(5),
        redrive,
        ..new("t", "a")
    };
    let unit = settling(Settle::Redrive {
        delivery: seq,
        new: next,
    });
    let added = store.add(unit.clone()).await;
    assert_eq!(store.one(unit).await, Gone, "only once");
    store.reopen();
    assert_eq!(store.journal().dead_letter(of).await.unwrap(), None);
    let found = store
        .journal()
        .delivery(added[0].seq)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.event, found.attempts, found.id),
        (event("a"), 0, of.redriven())
    );
    assert_eq!(found.redrive, redrive);
    assert!(added[0].seq > seq, "it joins the tail");

    let dead = Settle::Dead {
        delivery: found.seq,
        cause: Cause::Age,
        record: attempt(7),
    };
    store.add(settling(dead)).await;
    let letter = store
        .journal()
        .dead_letter(of.redriven())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(letter.history, [attempt(7)], "the history began anew");
}

pub async fn a_redrive_may_be_a_duplicate(store: Store) {
    let seq = kill(&store, "a").await;
    store.accept("b").await;
    let redrive = |new| settling(Settle::Redrive { delivery: seq, new });
    assert_eq!(store.one(redrive(new("t", "b"))).await, Duplicate);
    let twice = Unit {
        accept: accepting("c").accept,
        ..redrive(new("t", "c"))
    };
    assert_eq!(store.one(twice).await, Duplicate, "twice in a unit");
    assert!(
        store
            .journal()
            .dead_letter(id("t", "a"))
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(
        store.add(redrive(new("t", "a"))).await.len(),
        1,
        "its own identity is free"
    );
}

pub async fn a_purge_spoils(mut store: Store) {
    let added = store
        .add(accepted(
            "a",
            vec![new("t", "a"), new("u", "a"), new("v", "a")],
        ))
        .await;
    let dead = Settle::Dead {
        delivery: added[0].seq,
        cause: Cause::Age,
        record: attempt(1),
    };
    store.add(settling(dead)).await;
    store
        .add(settling(Settle::Purge {
            delivery: added[0].seq,
        }))
        .await;
    store.reopen();
    assert_eq!(
        store.journal().dead_letter(id("t", "a")).await.unwrap(),
        None
    );
    store.add(done(added[1].seq)).await;
    let last = added[2].seq;
    assert_eq!(
        store.journal().delivery(last).await.unwrap().unwrap().event,
        event("a")
    );
    let follow = NewDelivery {
        only_if_last: Some(last),
        ..new("after", "f")
    };
    let unit = Unit {
        settle: done(last).settle,
        ..accepted("f", vec![follow])
    };
    assert_eq!(store.add(unit).await, []);

    let seq = kill(&store, "b").await;
    store.add(settling(Settle::Purge { delivery: seq })).await;
    let stats = store.journal().stats().await.unwrap();
    assert_eq!((stats.pending, stats.dead), (0, 0));
}
