//! Connections that are lost, and queues that go away.

use std::collections::BTreeSet;

use tidemill_core::hold::Settlement::Settle;

use super::{Fake, Lab, proxy::Proxy};
use crate::amqp::check;

/// The lab's broker through the proxy, with a heartbeat of this many seconds.
fn through(lab: &mut Lab, proxy: &Proxy, heartbeat: u8) {
    lab.url = format!("{}?heartbeat={heartbeat}", proxy.through(&lab.url));
}

#[tokio::test]
async fn a_cut_connection_heals_and_nothing_is_lost() {
    let mut lab = Lab::new().await;
    let proxy = Proxy::new(&lab.url).await;
    through(&mut lab, &proxy, 10);
    lab.prefetch = 100;
    lab.send_some(0, 140).await;
    let intake = Fake::patient();
    let running = lab.start(&intake);
    intake.given(100).await;
    intake.answer(Settle, |n| n < 40);
    // That as many more come shows that the broker knows of these.
    intake.given(140).await;
    proxy.cut();
    let trouble = running.trouble().await;
    assert!(trouble.contains("connection `orders`"), "{trouble}");
    lab.has_ready(100).await;
    assert_eq!(intake.with(|inner| inner.withdrawn.len()), 100);
    proxy.open();
    running
        .reached("the second session", |status| status.sessions == 2)
        .await;
    intake.given(240).await;
    intake.settle_all();
    running.reached("all", |status| status.settled == 140).await;
    running.stop().await;
    assert_eq!(lab.ready().await, 0);
    let again = intake.ids().split_off(140);
    let expected: Vec<String> = (40..140).map(|n| n.to_string()).collect();
    assert_eq!(again, expected);
    lab.clean().await;
}

#[tokio::test]
async fn cuts_at_any_moment_lose_nothing() {
    let mut lab = Lab::new().await;
    let proxy = Proxy::new(&lab.url).await;
    through(&mut lab, &proxy, 10);
    let intake = Fake::settling();
    let running = lab.start(&intake);
    for round in 0..4 {
        running.ready().await;
        let sending = lab.send_some(round * 500, 500);
        let cutting = async {
            intake.given(round * 500 + 1 + fastrand::usize(..400)).await;
            proxy.cut();
            running.reached("trouble", |status| !status.ready).await;
            proxy.open();
        };
        tokio::join!(sending, cutting);
    }
    let wait = async {
        loop {
            let ids: BTreeSet<String> = intake.ids().into_iter().collect();
            if ids.len() == 2000 {
                break;
            }
            intake.given(intake.ids().len() + 1).await;
        }
    };
    tokio::time::timeout(super::PATIENCE, wait).await.unwrap();
    running
        .reached("acknowledgements", |status| status.held == 0)
        .await;
    running.stop().await;
    lab.has_ready(0).await;
    lab.clean().await;
}

#[tokio::test]
async fn a_connection_that_is_silent_is_given_up() {
    let mut lab = Lab::new().await;
    let proxy = Proxy::new(&lab.url).await;
    through(&mut lab, &proxy, 1);
    lab.send_some(0, 1).await;
    let intake = Fake::patient();
    let running = lab.start(&intake);
    intake.given(1).await;
    proxy.freeze();
    let trouble = running.trouble().await;
    assert!(trouble.contains("silent for too long"), "{trouble}");
    // The broker has noticed, too.
    lab.has_ready(1).await;
    proxy.open();
    intake.settle_all();
    running
        .reached("the message", |status| status.settled == 1)
        .await;
    running.stop().await;
    lab.clean().await;
}

#[tokio::test]
async fn a_broker_that_does_not_greet_is_left_for_good() {
    let mut lab = Lab::new().await;
    let proxy = Proxy::new(&lab.url).await;
    through(&mut lab, &proxy, 1);
    lab.url += "&connection_timeout=300";
    proxy.freeze();
    let intake = Fake::settling();
    let running = lab.start(&intake);
    let trouble = running.trouble().await;
    assert!(trouble.contains("did not answer within 300ms"), "{trouble}");
    // Nothing is left of the try, although the peer keeps its end open.
    proxy.has(0).await;
    proxy.open();
    running.ready().await;
    // And a stop in the middle of one leaves nothing either.
    proxy.freeze();
    running.reached("silence", |status| !status.ready).await;
    proxy.has(1).await;
    running.stop().await;
    proxy.has(0).await;
    lab.clean().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_broker_that_is_silent() {
    let mut lab = Lab::new().await;
    let proxy = Proxy::new(&lab.url).await;
    through(&mut lab, &proxy, 0);
    let intake = Fake::settling();
    let running = lab.start(&intake);
    running.ready().await;
    proxy.freeze();
    running.stop().await;
    proxy.has(0).await;
    lab.clean().await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_and_made_again_is_consumed_again() {
    let lab = Lab::new().await;
    let intake = Fake::settling();
    let running = lab.start(&intake);
    running.ready().await;
    lab.delete().await;
    let trouble = running.trouble().await;
    assert!(trouble.contains(&lab.queue), "{trouble}");
    let gone = |status: &super::Status| {
        let trouble = status.trouble.as_deref().unwrap_or_default();
        trouble.contains("there is no queue")
    };
    running.reached("the missing queue", gone).await;
    lab.make(&[]).await;
    running.ready().await;
    lab.send_some(0, 3).await;
    running.reached("three", |status| status.settled == 3).await;
    running.stop().await;
    lab.clean().await;
}

#[tokio::test]
async fn a_broker_is_reached_by_its_ipv6_address() {
    let mut lab = Lab::new().await;
    let proxy = match Proxy::on_ipv6(&lab.url).await {
        Ok(proxy) => proxy,
        Err(error) => {
            println!("skipped: this machine has no ::1 to listen on ({error})");
            return lab.clean().await;
        }
    };
    lab.url = proxy.through(&lab.url);
    assert!(lab.url.contains("@[::1]:"), "{}", lab.url);
    lab.send_some(0, 3).await;
    let running = lab.start(&Fake::settling());
    running.reached("three", |status| status.settled == 3).await;
    assert_eq!(check(&lab.plan()).await, []);
    // The tests' own client is another.
    proxy.has(1).await;
    running.stop().await;
    proxy.has(0).await;
    lab.clean().await;
}
