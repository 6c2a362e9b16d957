//! The end.

use super::*;

#[tokio::test]
async fn requests_under_way_end_before_the_server_does() {
    let world = World::new(vec![route("t", "POST /a"), sync("s", "POST /s")]).await;
    let mut fresh = world.connect().await;
    let mut idle = world.connect().await;
    idle.send("POST /a", "x").await;
    assert_eq!(idle.response().await.status, 202);
    world.intake.shut();
    let mut waiting = world.connect().await;
    waiting.send("POST /s", "x").await;
    world.intake.wait("the call", |i| i.calls.len() == 1).await;
    world.stop.cancel();
    assert_eq!(fresh.rest().await, "");
    assert_eq!(idle.rest().await, "");
    let refused = async {
        while TcpStream::connect(world.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused)
        .await
        .expect("the address is free");
    assert!(!world.task.is_finished());
    world.intake.open();
    let response = waiting.response().await;
    assert_eq!(
        (response.status, response.header("connection")),
        (204, Some("close"))
    );
    assert_eq!(waiting.rest().await, "");
    world.stop().await;
}

#[tokio::test]
async fn requests_that_do_not_end_are_cut_off() {
    let drain = Duration::from_millis(200);
    let world = World::with(vec![sync("s", "POST /s")], Tuning::STANDARD, drain).await;
    world.intake.shut();
    let mut waiting = world.connect().await;
    waiting.send("POST /s", "x").await;
    world.intake.wait("the call", |i| i.calls.len() == 1).await;
    let mut slow = world.connect().await;
    slow.raw("POST /s HTTP/1.1\r\ncontent-le").await;
    let intake = world.intake.clone();
    world.stop().await;
    assert_eq!(waiting.rest().await, "");
    assert_eq!(slow.rest().await, "");
    assert_eq!(intake.inner().left, 1);
}
