//! What is acknowledged, and when.

use tidemill_core::hold::Settlement::{Release, Settle};

use super::{Fake, Lab};

#[tokio::test]
async fn what_is_not_settled_stays_in_the_queue() {
    let lab = Lab::new().await;
    lab.send_some(0, 10).await;
    let intake = Fake::patient();
    let running = lab.start(&intake);
    let given = intake.given(10).await;
    assert!(given.iter().all(|held| held.stable));
    intake.answer(Settle, |n| n % 2 == 0);
    intake.release_all();
    running.stop().await;
    lab.has_ready(5).await;

    // It comes again, and nothing else.
    let intake = Fake::settling();
    let running = lab.start(&intake);
    intake.given(5).await;
    let status = running.reached("five", |status| status.settled == 5).await;
    assert_eq!((status.redelivered, status.offered), (5, 5));
    assert_eq!(intake.ids(), ["1", "3", "5", "7", "9"]);
    running.stop().await;
    assert_eq!(lab.ready().await, 0);
    lab.clean().await;
}

#[tokio::test]
async fn a_stop_waits_for_what_is_held() {
    let lab = Lab::new().await;
    lab.send_some(0, 3).await;
    let intake = Fake::patient();
    let running = lab.start(&intake);
    intake.given(3).await;
    running.stop.cancel();
    // Nothing new is taken, while it waits.
    lab.has_ready(0).await;
    intake.answer(Settle, |n| n == 1);
    running.reached("one", |status| status.held == 2).await;
    lab.send_some(3, 1).await;
    intake.answer(Settle, |n| n == 0);
    intake.answer(Release, |n| n == 2);
    let stopped = running.stop();
    stopped.await;
    assert_eq!(intake.ids().len(), 3);
    lab.has_ready(2).await;
    lab.clean().await;
}

#[tokio::test]
async fn finished_messages_do_not_wait_for_a_slow_one() {
    let mut lab = Lab::new().await;
    lab.prefetch = 10;
    lab.send_some(0, 12).await;
    let intake = Fake::patient();
    let running = lab.start(&intake);
    intake.given(10).await;
    // Half the window: acknowledged at once, one by one, and so two more come.
    intake.answer(Settle, |n| (1..=5).contains(&n));
    intake.given(12).await;
    // Fewer: after a second.
    intake.answer(Settle, |n| n == 6);
    running
        .reached("the single one", |status| status.settled == 6)
        .await;
    // All that is left, with the first.
    intake.settle_all();
    running.reached("all", |status| status.settled == 12).await;
    running.stop().await;
    assert_eq!(lab.ready().await, 0);
    assert_eq!(intake.with(|inner| inner.withdrawn.len()), 0);
    lab.clean().await;
}

#[tokio::test]
async fn no_more_is_held_than_the_window() {
    let mut lab = Lab::new().await;
    lab.prefetch = 7;
    lab.send_some(0, 100).await;
    let intake = Fake::patient();
    let running = lab.start(&intake);
    for n in 0..100 {
        intake.given(n + 1).await;
        intake.answer(Settle, |place| place == n);
    }
    running.reached("all", |status| status.settled == 100).await;
    assert_eq!(intake.with(|inner| inner.most), 7);
    running.stop().await;
    assert_eq!(lab.ready().await, 0);
    lab.clean().await;
}

#[tokio::test]
async fn many_messages_in_any_order() {
    let lab = Lab::new().await;
    lab.send_some(0, 5000).await;
    let intake = Fake::patient();
    let running = lab.start(&intake);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut open: Vec<usize> = Vec::new();
    let mut given = 0;
    while given < 5000 || !open.is_empty() {
        if given < 5000 {
            let now = intake.given(given + 1).await.len();
            open.extend(given..now);
            given = now;
        }
        random.shuffle(&mut open);
        let some: Vec<usize> = open.split_off(open.len() / 2);
        intake.answer(Settle, |n| some.contains(&n));
    }
    running
        .reached("all", |status| status.settled == 5000)
        .await;
    running.stop().await;
    assert_eq!(lab.ready().await, 0);
    let mut ids: Vec<usize> = intake.ids().iter().map(|id| id.parse().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids, (0..5000).collect::<Vec<_>>());
    lab.clean().await;
}

#[tokio::test]
async fn a_queue_is_made_if_the_plan_says_so() {
    let mut lab = Lab::without_queue().await;
    lab.declare = true;
    let intake = Fake::settling();
    let running = lab.start(&intake);
    running.ready().await;
    lab.send_some(0, 1).await;
    running.reached("one", |status| status.settled == 1).await;
    running.stop().await;

    // What is refused goes to the queue of dead letters.
    lab.send_some(1, 1).await;
    let options = lapin::options::BasicGetOptions { no_ack: false };
    let got = lab
        .channel
        .basic_get(lab.queue.as_str().into(), options)
        .await;
    let refuse = lapin::options::BasicRejectOptions { requeue: false };
    assert!(got.unwrap().unwrap().reject(refuse).await.unwrap());
    let dead = format!("{}.dead", lab.queue);
    let wait = async {
        loop {
            if let Some(message) = lab.get(&dead).await {
                break message;
            }
        }
    };
    let message = tokio::time::timeout(super::PATIENCE, wait).await.unwrap();
    assert_eq!(message.properties.message_id(), &Some("1".into()));

    // It is there now.
    let running = lab.start(&intake);
    running.ready().await;
    running.stop().await;
    lab.clean().await;
}

#[tokio::test]
async fn a_queue_that_is_there_is_taken_as_it_is() {
    let mut lab = Lab::new().await;
    lab.declare = true;
    lab.send_some(0, 1).await;
    let intake = Fake::settling();
    let running = lab.start(&intake);
    running.reached("one", |status| status.settled == 1).await;
    running.stop().await;
    lab.clean().await;
}
