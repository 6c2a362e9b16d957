//! What is committed, and what runs again.

use tidemill_core::{hold::Settlement, watermark::Progress};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_completed_without_a_gap_is_committed_and_the_rest_runs_again() {
    let lab = Lab::new(1).await;
    lab.produce(0, 0..10).await;
    let fake = Fake::patient();
    let member = lab.run(&fake);
    fake.given(10).await;
    // All but the fourth and the eighth, backwards.
    for n in (0..10).rev().filter(|n| ![3, 7].contains(n)) {
        fake.answer(Settlement::Settle, |open| open == n);
    }
    lab.commits(3).await;
    fake.answer(Settlement::Settle, |open| open == 3);
    lab.commits(7).await;
    member.stop().await;
    assert_eq!(lab.committed(1).await, [Some(7)]);

    let fake = Fake::settling();
    let member = lab.run(&fake);
    fake.given(3).await;
    lab.produce(0, 10..11).await;
    fake.given(4).await;
    assert_eq!(fake.places(), ["0:7", "0:8", "0:9", "0:10"]);
    lab.commits(11).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_has_does_not_run_again() {
    let lab = Lab::new(1).await;
    lab.produce(0, 0..1).await;
    let first = Fake::settling();
    let member = lab.run(&first);
    let stamp = first.given(1).await[0].position.clone().unwrap().stamp;
    lab.commits(1).await;
    member.stop().await;

    // The journal was ahead of the group when the machine died.
    lab.produce(0, 1..8).await;
    let stamps = stamps(&lab, 8).await;
    assert_eq!(stamps[0], stamp);
    let fake = Fake::settling();
    let kept = Progress {
        watermark: 3,
        stamp: Some(stamps[2]),
        completed: vec![4, 6],
    };
    fake.with(|inner| inner.kept.insert(lab.partition(0), kept));
    let member = lab.run(&fake);
    lab.commits(8).await;
    assert_eq!(fake.places(), ["0:3", "0:5", "0:7"]);
    assert_eq!(fake.with(|inner| inner.forgotten.clone()), []);
    member.stop().await;
    assert_eq!(fake.with(|inner| inner.let_go.clone()), [lab.partition(0)]);
}

/// The brokers' timestamps of the first records, read by another group.
async fn stamps(lab: &Lab, count: usize) -> Vec<i64> {
    let other = Lab {
        brokers: lab.brokers.clone(),
        topic: lab.topic.clone(),
        group: format!("{}-other", lab.group),
        properties: lab.properties.clone(),
        start: "earliest",
    };
    let fake = Fake::settling();
    let member = other.run(&fake);
    let held = fake.given(count).await;
    member.stop().await;
    let stamp = |held: &tidemill_core::hold::Held| held.position.as_ref().unwrap().stamp;
    held.iter().map(stamp).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_while_nobody_read_it_is_read_from_its_first_record() {
    let lab = Lab::new(1).await;
    lab.produce(0, 0..5).await;
    let fake = Fake::settling();
    let member = lab.run(&fake);
    fake.given(5).await;
    lab.commits(5).await;
    member.stop().await;
    let kept = Progress {
        watermark: 5,
        stamp: fake.with(|inner| inner.held[4].position.as_ref().map(|p| p.stamp)),
        completed: vec![],
    };
    // Deleting a topic deletes what its groups have committed; the journal does not hear of it.
    lab.make_anew(1).await;
    for (written, what) in [(2, "a shorter log"), (8, "a longer log")] {
        lab.produce(0, if written == 2 { 0..2 } else { 2..8 }).await;
        let again = Lab {
            group: format!("{}-{written}", lab.group),
            brokers: lab.brokers.clone(),
            topic: lab.topic.clone(),
            properties: lab.properties.clone(),
            start: "latest",
        };
        let fake = Fake::settling();
        fake.with(|inner| inner.kept.insert(again.partition(0), kept.clone()));
        let member = again.run(&fake);
        let held = fake.given(written).await;
        assert_eq!(held[0].position.as_ref().unwrap().offset, 0, "{what}");
        again.commits(written as i64).await;
        assert_eq!(fake.places().len(), written, "{what}");
        let forgotten = fake.with(|inner| inner.forgotten.clone());
        assert_eq!(forgotten, [again.partition(0)], "{what}");
        member
            .reached("one topic made anew", |status| status.anew == 1)
            .await;
        member.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_while_it_is_read_loses_nothing() {
    let lab = Lab::new(1).await;
    lab.produce(0, 0..5).await;
    let fake = Fake::settling();
    let member = lab.run(&fake);
    fake.given(5).await;
    lab.make_anew(1).await;
    lab.produce(0, 100..103).await;
    let held = fake.given(8).await;
    let values: Vec<_> = held[5..]
        .iter()
        .map(|held| held.event.subject.clone().unwrap())
        .collect();
    assert_eq!(values, ["100", "101", "102"]);
    // Though five were committed of the old one.
    lab.commits(3).await;
    member.stop().await;
    assert_eq!(lab.committed(1).await, [Some(3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_begins_at_the_end_stays_there() {
    let mut lab = Lab::new(1).await;
    lab.start = "latest";
    lab.produce(0, 0..3).await;
    let fake = Fake::settling();
    let member = lab.run(&fake);
    member
        .reached("its partition", |status| {
            status.ready && status.partitions == 1
        })
        .await;
    lab.commits(3).await;
    member.stop().await;
    // While it was away.
    lab.produce(0, 3..5).await;
    let member = lab.run(&fake);
    fake.given(2).await;
    assert_eq!(fake.places(), ["0:3", "0:4"]);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_wait_for_the_journal() {
    let lab = Lab::new(2).await;
    lab.produce(1, 0..1).await;
    let fake = Fake::settling();
    fake.with(|inner| inner.failures = 2);
    let member = lab.run(&fake);
    member
        .reached("trouble", |status| {
            let trouble = status.trouble.as_deref().unwrap_or_default();
            !status.ready
                && trouble == "new partitions wait: the journal failed: the disk is on fire"
        })
        .await;
    fake.given(1).await;
    member
        .reached("health", |status| status.ready && status.partitions == 2)
        .await;
    member.stop().await;
}
