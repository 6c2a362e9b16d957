//! Crowded paths.

use tidemill_core::intake::Offer;

use super::{super::crowd::NAME, *};

/// Three are many, for this request and the next one.
const TUNING: Tuning = Tuning {
    crowd: 3,
    calm: 2,
    beside: 3600,
    ..Tuning::STANDARD
};

async fn world() -> World {
    let routes = vec![route("a", "POST /a"), route("b", "POST /b")];
    World::with(routes, TUNING, PATIENCE).await
}

/// Four requests that are under way together, each on a connection of its own, the one after the other; answered.
async fn crowd(world: &World) -> Vec<Client> {
    let before = world.intake.inner().came;
    world.intake.shut();
    let mut clients = Vec::new();
    for n in 1..=4 {
        let mut client = world.connect().await;
        client.send("POST /a", n.to_string()).await;
        clients.push(client);
        world
            .intake
            .wait("the request", |i| i.came == before + n)
            .await;
    }
    world.intake.open();
    for client in &mut clients {
        assert_eq!(client.response().await.status, 202);
    }
    clients
}

/// The bodies that were taken in threads for crowds.
fn taken_behind(world: &World) -> Vec<String> {
    let inner = world.intake.inner();
    assert_eq!(inner.offers.len(), inner.threads.len());
    let all = inner.offers.iter().zip(&inner.threads);
    let behind = all.filter(|(_, thread)| *thread == NAME);
    let body = |offer: &Offer| String::from_utf8(offer.event.data.to_vec()).unwrap();
    behind.map(|(offer, _)| body(offer)).collect()
}

#[tokio::test]
async fn a_crowd_gives_way_until_it_is_none() {
    let world = world().await;
    assert_eq!(world.ask("POST /b", "other").await.status, 202);
    let mut clients = crowd(&world).await;
    assert_eq!(taken_behind(&world), ["4"], "it found three there");

    // Over there its requests are read as they come.
    let fourth = &mut clients[3];
    fourth
        .raw("POST /a HTTP/1.1\r\nhost: test\r\ncontent-le")
        .await;
    tokio::task::yield_now().await;
    let large = "x".repeat(500_000);
    fourth.raw("ngth: 500000\r\n\r\n").await;
    fourth.raw(&large).await;
    assert_eq!(fourth.response().await.status, 202);
    assert_eq!(taken_behind(&world)[1..], [large]);

    // And after a while at home again.
    let mut behind = taken_behind(&world).len();
    for n in 0.. {
        assert!(n < 10, "it never comes back");
        fourth.send("POST /a", "again").await;
        assert_eq!(fourth.response().await.status, 202);
        let now = taken_behind(&world).len();
        if std::mem::replace(&mut behind, now) == now {
            break;
        }
    }
    fourth.send("POST /a", "at home").await;
    assert_eq!(fourth.response().await.status, 202);
    assert_eq!(taken_behind(&world).len(), behind);
    world.stop().await;
}

#[tokio::test]
async fn with_nobody_beside_it_a_crowd_gives_way_to_nobody() {
    let world = world().await;
    crowd(&world).await;
    assert_eq!(taken_behind(&world), [""; 0]);
    world.stop().await;
}

#[tokio::test]
async fn who_gave_way_ends_with_the_server() {
    let world = world().await;
    assert_eq!(world.ask("POST /b", "other").await.status, 202);
    let mut clients = crowd(&world).await;
    world.intake.shut();
    clients[3].send("POST /a", "last").await;
    world.intake.wait("the last one", |i| i.came == 6).await;
    world.stop.cancel();
    assert_eq!(clients[0].rest().await, "");
    assert!(!world.task.is_finished());
    world.intake.open();
    assert_eq!(clients[3].response().await.status, 202);
    assert_eq!(clients[3].rest().await, "");
    assert_eq!(taken_behind(&world), ["4", "last"]);
    world.stop().await;
}
