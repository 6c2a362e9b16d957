//! What is no HTTP, or pretends to be. Others must not notice.

use super::*;

#[tokio::test]
async fn nonsense_is_refused_and_hurts_nobody() {
    let world = World::new(vec![route("t", "POST /a")]).await;
    let mut good = world.connect().await;
    let long = format!("POST /a HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    let many = format!(
        "POST /a HTTP/1.1\r\nhost: t\r\n{}\r\n",
        "x: y\r\n".repeat(101)
    );
    let path = format!("GET /{} HTTP/1.1\r\nhost: t\r\n\r\n", "y".repeat(40_000));
    let head = "POST /a HTTP/1.1\r\nhost: t\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    let closed = "";
    for (request, status) in [
        ("\x16\x03\x01\x02\x00\x01\x00", "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", closed),
        ("\0\0\0\0\r\n\r\n", "400"),
        ("POST\r\n\r\n", "400"),
        ("POST /a HTTP/1.1\r\n\r\n", "400"),
        ("POST /a HTTP/9.9\r\n\r\n", "400"),
        ("POST /a b HTTP/1.1\r\nhost: t\r\n\r\n", "400"),
        ("POST /a HTTP/1.1\r\nhost: t\r\nhost: u\r\n\r\n", "400"),
        ("POST /a HTTP/1.1\r\nhost : t\r\n\r\n", "400"),
        ("POST /a HTTP/1.1\r\nhost: t\r\n folded: x\r\n\r\n", "400"),
        ("POST /a HTTP/1.1\r\nhost: t\r\nx: a\0b\r\n\r\n", "400"),
        (&long, "431"),
        (&many, "431"),
        (&path, "431"),
        (&format!("{head}content-length: x\r\n\r\n"), "400"),
        (&format!("{head}content-length: -1\r\n\r\n"), "400"),
        (&format!("{head}content-length: +1\r\n\r\n"), "400"),
        (
            &format!("{head}content-length: 99999999999999999999\r\n\r\n"),
            "400",
        ),
        (
            &format!("{head}content-length: 1\r\ncontent-length: 2\r\n\r\nab"),
            "400",
        ),
        (&format!("{head}transfer-encoding: gzip\r\n\r\n"), "400"),
        (
            &format!("{head}transfer-encoding: chunked, gzip\r\n\r\n"),
            "400",
        ),
        (
            "POST /a HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (&format!("{chunked}nonsense\r\n"), "400"),
        (&format!("{chunked}-1\r\n"), "400"),
        (&format!("{chunked}fffffffffffffffff\r\n"), "400"),
        (&format!("{chunked}1\r\nabc\r\n"), "400"),
        (&format!("{chunked}0\r\nbad trailer\r\n\r\n"), "400"),
    ] {
        let mut client = world.connect().await;
        // Some are refused before they are sent.
        let _ = client.0.write_all(request.as_bytes()).await;
        let answer = client.rest().await;
        let start: String = request.chars().take(80).collect();
        let refusal = answer.strip_prefix("HTTP/1.1 ").unwrap_or(&answer);
        assert!(refusal.starts_with(status), "{start:?}: {answer:?}");
        assert_eq!(
            refusal.is_empty(),
            status.is_empty(),
            "{start:?}: {answer:?}"
        );
        good.send("POST /a", "good").await;
        assert_eq!(good.response().await.status, 202);
    }
    let inner = world.intake.inner();
    assert!(inner.offers.iter().all(|offer| offer.event.data == "good"));
}

#[tokio::test]
async fn damaged_requests_hurt_nobody() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let world = World::new(vec![route("t", "POST /a"), route("good", "POST /good")]).await;
    let mut good = world.connect().await;
    let requests = [
        "POST /a?b HTTP/1.1\r\nhost: t\r\nidempotency-key: k\r\ncontent-length: 3\r\n\r\nabc",
        "POST /a HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: t\r\nce-specversion: 1.0\r\nce-id: 1\r\nce-source: s\r\nce-type: t\r\n\r\n",
    ];
    for _ in 0..300 {
        let mut bytes = random.choice(requests).unwrap().as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, random.u8(..)),
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let mut client = world.connect().await;
        client.raw(&bytes).await;
        client.0.shutdown().await.unwrap();
        client.rest().await;
        good.send("POST /good", &bytes).await;
        assert_eq!(good.response().await.status, 202);
    }
    world.connections(1).await;
    let inner = world.intake.inner();
    let good = inner.offers.iter().filter(|o| o.source == "http:/good");
    assert_eq!(good.count(), 300);
}

#[tokio::test]
async fn a_body_that_breaks_off_makes_no_event() {
    let world = World::new(vec![route("t", "POST /a"), sync("s", "POST /s")]).await;
    for path in ["/a", "/s"] {
        for rest in [
            "content-length: 10\r\n\r\nabc",
            "transfer-encoding: chunked\r\n\r\n3\r\nab",
        ] {
            let mut client = world.connect().await;
            client
                .raw(format!("POST {path} HTTP/1.1\r\nhost: t\r\n{rest}"))
                .await;
            client.0.shutdown().await.unwrap();
            let answer = client.rest().await;
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
                "{answer}"
            );
        }
    }
    world.stop.cancel();
    world.task.await.unwrap();
    let inner = world.intake.inner();
    assert_eq!((inner.offers.len(), inner.calls.len()), (0, 0));
}

#[tokio::test]
async fn a_length_told_twice_smuggles_nothing() {
    let world = World::new(vec![route("t", "POST /a"), route("u", "POST /b")]).await;
    for lengths in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
    ] {
        let mut client = world.connect().await;
        let hidden = "POST /b HTTP/1.1\r\nhost: t\r\n\r\n";
        client
            .raw(format!(
                "POST /a HTTP/1.1\r\nhost: t\r\n{lengths}\r\n\r\n0\r\n\r\n{hidden}"
            ))
            .await;
        let answer = client.rest().await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    let inner = world.intake.inner();
    assert!(inner.offers.iter().all(|offer| offer.source == "http:/a"));
}

#[tokio::test]
async fn old_clients_are_served_once() {
    let world = World::new(vec![route("t", "POST /a")]).await;
    let mut client = world.connect().await;
    client
        .raw("POST /a HTTP/1.0\r\ncontent-length: 2\r\n\r\nhi")
        .await;
    assert_eq!(client.response().await.status, 202);
    assert_eq!(client.rest().await, "");
}
