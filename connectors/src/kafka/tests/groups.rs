//! Members that come and go, room in the intake, and the end.

use std::{collections::BTreeSet, time::Instant};

use tidemill_core::{hold::Settlement, limits};

use super::*;

/// Waits until two members share all partitions.
async fn share(members: [&Member; 2], partitions: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let parts = members.map(|member| member.health.status());
        let ready = parts.iter().all(|part| part.ready && part.partitions > 0);
        if ready && parts.iter().map(|part| part.partitions).sum::<usize>() == partitions {
            return;
        }
        assert!(Instant::now() < deadline, "they do not share: {parts:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_and_no_record_is_lost() {
    let lab = Lab::new(4).await;
    let fake = Fake::settling();
    let first = lab.run(&fake);
    let mut given = 0;
    let mut more = async |count: usize| {
        for partition in 0..4 {
            lab.produce(partition, given..given + count).await;
        }
        given += count;
    };
    more(50).await;
    fake.given(100).await;
    let second = lab.run(&fake);
    more(50).await;
    share([&first, &second], 4).await;
    more(50).await;
    fake.given(500).await;
    // The first one alone stops; the intake lives on.
    first.stop.cancel();
    first.task.await.unwrap();
    more(50).await;
    let all: BTreeSet<String> = (0..4)
        .flat_map(|partition| (0..200).map(move |offset| format!("{partition}:{offset}")))
        .collect();
    let seen = || fake.places().into_iter().collect::<BTreeSet<String>>();
    fake.wait("all records", |inner| inner.held.len() >= 800)
        .await;
    let deadline = Instant::now() + PATIENCE;
    while seen() != all {
        assert!(Instant::now() < deadline, "{} of 800", seen().len());
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.places().len(), 800, "and none came twice");
    second.stop().await;
    assert_eq!(lab.committed(4).await, [Some(200); 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_given_up_when_its_records_are_settled() {
    let lab = Lab::new(2).await;
    let first_fake = Fake::patient();
    let first = lab.run(&first_fake);
    for partition in 0..2 {
        lab.produce(partition, 0..5).await;
    }
    first_fake.given(10).await;
    let second_fake = Fake::settling();
    let second = lab.run(&second_fake);
    // Nobody reads the partition while its records run.
    first
        .reached("the revocation", |status| status.partitions == 2)
        .await;
    first_fake.answer(Settlement::Settle, |_| true);
    share([&first, &second], 2).await;
    let let_go = first_fake.with(|inner| inner.let_go.clone());
    assert_eq!(let_go.len(), 1, "{let_go:?}");
    for partition in 0..2 {
        lab.produce(partition, 5..6).await;
    }
    second_fake.given(1).await;
    assert_eq!(
        second_fake.places().len(),
        1,
        "what was settled does not come again"
    );
    first_fake.settle_all();
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_given_up_in_time_though_its_records_still_run() {
    let lab = Lab::new(2).await;
    let first_fake = Fake::patient();
    let first = lab.run(&first_fake);
    for partition in 0..2 {
        lab.produce(partition, 0..5).await;
    }
    first_fake.given(10).await;
    let second_fake = Fake::settling();
    let second = lab.run(&second_fake);
    first_fake
        .wait("what is withdrawn", |inner| inner.withdrawn.len() == 5)
        .await;
    second_fake.given(5).await;
    share([&first, &second], 2).await;
    // The other one goes on.
    assert_eq!(first.health.status().held, 5);
    first_fake.settle_all();
    first
        .reached("the rest", |status| status.settled == 5)
        .await;
    second.stop().await;
    first.stop().await;
    assert_eq!(lab.committed(2).await, [Some(5), Some(5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_held_than_there_is_room_for() {
    let count = 3 * limits::KAFKA_HELD;
    let lab = Lab::new(2).await;
    for partition in 0..2 {
        lab.produce(partition, 0..count / 2).await;
    }
    let fake = Fake::patient();
    let member = lab.run(&fake);
    fake.given(limits::KAFKA_HELD).await;
    member.reached("no room", |status| status.full).await;
    // It stays a member meanwhile, and fetches nothing.
    let pause = tokio::time::timeout(
        Duration::from_secs(3),
        member.health.reached(|status| !status.full),
    );
    assert!(pause.await.is_err());
    assert_eq!(fake.with(|inner| inner.most), limits::KAFKA_HELD);
    fake.answer(Settlement::Settle, |n| n < limits::KAFKA_HELD / 2 + 1);
    fake.given(limits::KAFKA_HELD + 1).await;
    fake.settle_all();
    fake.given(count).await;
    member
        .reached("the end", |status| {
            status.settled == count as u64 && !status.full
        })
        .await;
    let all: BTreeSet<String> = fake.places().into_iter().collect();
    assert_eq!(
        (all.len(), fake.places().len()),
        (count, count),
        "each came once"
    );
    assert_eq!(fake.with(|inner| inner.most), limits::KAFKA_HELD);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_went_while_there_was_no_room_is_read_when_it_comes_back() {
    let lab = Lab::new(2).await;
    for partition in 0..2 {
        lab.produce(partition, 0..limits::KAFKA_HELD).await;
    }
    let first_fake = Fake::patient();
    let first = lab.run(&first_fake);
    first_fake.given(limits::KAFKA_HELD).await;
    first.reached("no room", |status| status.full).await;
    let second_fake = Fake::patient();
    let second = lab.run(&second_fake);
    share([&first, &second], 2).await;
    first_fake.settle_all();
    first.reached("room", |status| !status.full).await;
    second.stop().await;
    first
        .reached("both partitions", |status| status.partitions == 2)
        .await;
    let all = [Some(limits::KAFKA_HELD as i64); 2];
    let commits = async { while lab.committed(2).await != all {} };
    let waited = tokio::time::timeout(PATIENCE, commits).await;
    assert!(waited.is_ok(), "{:?}", lab.committed(2).await);
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_quickly_while_another_member_lives() {
    let lab = Lab::new(2).await;
    let fake = Fake::settling();
    let (first, second) = (lab.run(&fake), lab.run(&fake));
    share([&first, &second], 2).await;
    let begin = Instant::now();
    first.stop.cancel();
    first.task.await.unwrap();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    // The other one takes over at once, not when a session ends.
    second
        .reached("all partitions", |status| status.partitions == 2)
        .await;
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(9), "{took:?}");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_while_the_group_changes() {
    let lab = Lab::new(2).await;
    let fake = Fake::patient();
    let first = lab.run(&fake);
    lab.produce(0, 0..1).await;
    lab.produce(1, 0..1).await;
    fake.given(2).await;
    // Its coming waits for the records of the first.
    let second_fake = Fake::settling();
    let second = lab.run(&second_fake);
    let begin = Instant::now();
    second.stop().await;
    first.stop().await;
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_are_read() {
    let lab = Lab::new(1).await;
    let fake = Fake::settling();
    let member = lab.run(&fake);
    member
        .reached("its partition", |status| status.partitions == 1)
        .await;
    let options = AdminOptions::new();
    let more = rdkafka::admin::NewPartitions::new(&lab.topic, 3);
    let made = lab.admin().create_partitions(&[more], &options).await;
    made.unwrap().remove(0).unwrap();
    member
        .reached("the others", |status| status.partitions == 3)
        .await;
    lab.produce(2, 0..1).await;
    fake.given(1).await;
    assert_eq!(fake.places(), ["2:0"]);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_come_later() {
    let lab = Lab::without_topic(services::kafka_brokers());
    let fake = Fake::settling();
    let member = lab.run(&fake);
    let expected = format!(
        "connection `telemetry` has no topic `{}`; make it, or correct `topics`: it is read as soon as it is there",
        lab.topic
    );
    let trouble = |status: &Status| status.trouble.as_deref() == Some(&expected) && !status.ready;
    member.reached("trouble", trouble).await;
    lab.make_topic(1).await;
    member
        .reached("health", |status| status.ready && status.partitions == 1)
        .await;
    lab.produce(0, 0..1).await;
    fake.given(1).await;
    member.stop().await;
}
