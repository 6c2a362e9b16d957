//! Clients that are slow, or too many. Others must not notice.

use super::*;

const MOMENT: Duration = Duration::from_millis(250);

/// Clients that take longer than a moment are slow.
const HASTY: Tuning = Tuning {
    head: MOMENT,
    pause: MOMENT,
    unread: MOMENT,
    ..Tuning::STANDARD
};

#[tokio::test]
async fn slow_heads_are_cut_off() {
    let world = World::with(vec![route("t", "POST /a")], HASTY, PATIENCE).await;
    for start in ["", "P", "POST /a HTTP/1.1\r\nhost: t\r\n"] {
        let mut client = world.connect().await;
        client.raw(start).await;
        assert_eq!(client.rest().await, "", "{start}");
    }
    // One that goes on and on is no better.
    let mut client = world.connect().await;
    client.raw("POST /a HTTP/1.1\r\n").await;
    while client.0.write_all(b"x: y\r\n").await.is_ok() {
        tokio::task::yield_now().await;
        if client.0.try_read(&mut [0; 99]).is_ok() {
            break;
        }
    }
    // A second head is no better than the first.
    let mut client = world.connect().await;
    client.send("POST /a", "x").await;
    assert_eq!(client.response().await.status, 202);
    client.raw("POST").await;
    assert_eq!(client.rest().await, "");
    world.stop().await;
}

#[tokio::test]
async fn silence_between_requests_is_longer_but_ends() {
    let tuning = Tuning {
        idle: 4 * MOMENT,
        ..HASTY
    };
    let world = World::with(vec![route("t", "POST /a")], tuning, PATIENCE).await;
    let mut client = world.connect().await;
    // Each silence is measured by itself, and these together are longer than one may be.
    for _ in 0..3 {
        client.send("POST /a", "x").await;
        assert_eq!(client.response().await.status, 202);
        tokio::time::sleep(2 * MOMENT).await;
    }
    client.send("POST /a", "x").await;
    assert_eq!(client.response().await.status, 202);
    let start = std::time::Instant::now();
    assert_eq!(client.rest().await, "");
    assert!(start.elapsed() >= 3 * MOMENT, "{:?}", start.elapsed());
}

#[tokio::test]
async fn slow_bodies_are_refused() {
    let world = World::with(vec![route("t", "POST /a")], HASTY, PATIENCE).await;
    for lengths in ["content-length: 10", "transfer-encoding: chunked"] {
        let mut client = world.connect().await;
        client
            .raw(format!(
                "POST /a HTTP/1.1\r\nhost: t\r\n{lengths}\r\n\r\n1\r\n"
            ))
            .await;
        let response = client.response().await;
        response.refused(408, "slowly");
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(client.rest().await, "");
    }
    let drip = Tuning {
        pause: PATIENCE,
        slow: (3 * MOMENT, 1_000_000),
        ..HASTY
    };
    let world = World::with(vec![route("t", "POST /a")], drip, PATIENCE).await;
    let mut client = world.connect().await;
    client
        .raw("POST /a HTTP/1.1\r\nhost: t\r\ncontent-length: 1000000\r\n\r\n")
        .await;
    let (mut read, mut write) = client.0.into_split();
    let dripping = tokio::spawn(async move {
        let mut tick = tokio::time::interval(MOMENT / 10);
        while write.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    });
    let mut answer = [0; 12];
    let answered = timeout(PATIENCE, read.read_exact(&mut answer)).await;
    answered.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    drop(read);
    timeout(PATIENCE, dripping).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_does_not_read_is_cut_off() {
    let world = World::with(vec![sync("s", "GET /s")], HASTY, PATIENCE).await;
    world.intake.inner().answer = Some(tidemill_core::intake::Answer::Replied(
        tidemill_core::outcome::Reply {
            body: vec![0; 32 << 20].into(),
            ..Default::default()
        },
    ));
    let mut client = world.connect().await;
    client.send("GET /s", "").await;
    world.intake.wait("the call", |i| i.calls.len() == 1).await;
    world.connections(0).await;
    drop(client);
}

#[tokio::test]
async fn slow_clients_and_slow_handlers_delay_nobody() {
    let routes = vec![route("t", "POST /a"), sync("s", "POST /s")];
    let world = World::with(routes, Tuning::STANDARD, MOMENT).await;
    let mut slow = Vec::new();
    for n in 0..100 {
        let mut client = world.connect().await;
        let start = [
            "",
            "POS",
            "POST /a HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\nx",
        ][n % 3];
        client.raw(start).await;
        slow.push(client);
    }
    let start = std::time::Instant::now();
    for n in 0..100 {
        let response = world.ask("POST /a", format!("{n}")).await;
        assert_eq!(response.status, 202);
    }
    assert!(
        start.elapsed() < Duration::from_secs(9),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(world.intake.inner().offers.len(), 100);
    // The slow ones are all there.
    world.connections(100).await;
    // They are cut off at the end.
    world.stop().await;
}

#[tokio::test]
async fn bodies_have_bounded_room_and_each_path_its_own() {
    let tuning = Tuning {
        bodies: 1 << 20,
        ..Tuning::STANDARD
    };
    let routes = vec![route("t", "POST /a"), route("u", "POST /b")];
    let world = World::with(routes, tuning, PATIENCE).await;
    let head = |path| format!("POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: 1048576\r\n\r\n");
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut client = world.connect().await;
        client
            .raw(format!(
                "{}expect",
                head("/a").replace("host", "expect: 100-continue\r\nhost")
            ))
            .await;
        assert_eq!(client.response().await.status, 100);
        waiting.push(client);
    }
    for lengths in ["content-length: 1", "transfer-encoding: chunked"] {
        let mut client = world.connect().await;
        client
            .raw(format!(
                "POST /a HTTP/1.1\r\nhost: t\r\n{lengths}\r\n\r\n1\r\nx\r\n0\r\n\r\n"
            ))
            .await;
        let response = client.response().await;
        response.refused(429, "again");
        assert_eq!(response.header("retry-after"), Some("1"));
    }
    // Nothing needs no room, and the other path has its own.
    assert_eq!(world.ask("POST /a", "").await.status, 202);
    assert_eq!(world.ask("POST /b", "x").await.status, 202);
    let mut other = world.connect().await;
    other
        .raw(head("/b").replace("host", "expect: 100-continue\r\nhost"))
        .await;
    assert_eq!(other.response().await.status, 100);
    world.ask("POST /b", "x").await.refused(429, "again");
    // Who leaves makes room.
    drop(waiting);
    let again = async {
        while world.ask("POST /a", "x").await.status != 202 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("there is room again");
}

#[tokio::test]
async fn a_path_has_half_of_the_connections_and_the_rest_is_told() {
    let tuning = Tuning {
        connections: 8,
        ..Tuning::STANDARD
    };
    let routes = vec![sync("s", "POST /s"), sync("u", "POST /u")];
    let world = World::with(routes, tuning, PATIENCE).await;
    world.intake.shut();
    let mut waiting = Vec::new();
    for n in 0..4 {
        let mut client = world.connect().await;
        client.send("POST /s", "x").await;
        let calls = n + 1;
        world
            .intake
            .wait("the calls", |i| i.calls.len() == calls)
            .await;
        waiting.push(client);
    }
    world.ask("POST /s", "x").await.refused(429, "again");
    world.connections(4).await;
    for n in 4..8 {
        let mut client = world.connect().await;
        client.send("POST /u", "x").await;
        let calls = n + 1;
        world
            .intake
            .wait("the calls", |i| i.calls.len() == calls)
            .await;
        waiting.push(client);
    }
    let mut client = world.connect().await;
    client.send("POST /u", "x").await;
    let response = client.response().await;
    response.refused(503, "too many clients");
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(client.rest().await, "");
    assert_eq!(world.health.status().turned_away, 1);
    world.intake.open();
    let mut last = 0;
    for client in &mut waiting {
        let response = client.response().await;
        assert_eq!(response.status, 204);
        last += usize::from(response.header("connection") == Some("close"));
    }
    // Until a quarter is free, none is kept for its next request.
    assert!(last >= 2, "{last}");
}
