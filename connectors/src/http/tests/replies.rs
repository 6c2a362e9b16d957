//! What clients that wait are answered.

use tidemill_core::{identity::DeliveryId, intake::Answer, outcome::Reply};

use super::*;

#[tokio::test]
async fn a_client_that_waits_gets_the_reply() {
    let world = World::new(vec![sync("one", "GET,HEAD /s"), sync("two", "POST /s")]).await;
    let headers = [
        ("Content-Type", "text/html"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
        ("Connection", "close"),
        ("Content-Length", "77"),
        ("transfer-encoding", "chunked"),
        ("tidemill-id", "x"),
        ("bad name", "x"),
        ("bad-value", "a\nb"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let reply = |status, body: &'static str| Reply {
        status,
        headers: headers.to_vec(),
        body: body.into(),
    };
    for (answer, status, body) in [
        (Answer::Replied(reply(None, "hi")), 200, "hi"),
        (Answer::Replied(reply(None, "")), 204, ""),
        (Answer::Replied(reply(Some(200), "")), 200, ""),
        (Answer::Stored(reply(Some(404), "no")), 404, "no"),
        (Answer::Replied(reply(Some(503), "oh")), 503, "oh"),
        (Answer::Replied(reply(Some(204), "lost")), 204, ""),
        (Answer::Replied(reply(Some(304), "lost")), 304, ""),
    ] {
        world.intake.inner().answer = Some(answer.clone());
        let mut client = world.connect().await;
        for (line, has_body) in [("GET /s", true), ("HEAD /s", false), ("POST /s", true)] {
            client.send(line, "").await;
            let response = client.response_to(has_body && status != 304).await;
            assert_eq!(response.status, status, "{answer:?}");
            assert_eq!(response.body, if has_body { body } else { "" }.as_bytes());
            assert_eq!(response.header("content-type"), Some("text/html"));
            assert_eq!(response.header("set-cookie"), Some("a, b"));
            for name in [
                "connection",
                "transfer-encoding",
                "tidemill-id",
                "bad name",
                "bad-value",
            ] {
                assert_eq!(response.header(name), None, "{name}");
            }
            let length = response.header("content-length").unwrap_or("0");
            assert_eq!(length, body.len().to_string(), "{answer:?} {line}");
        }
    }
    let inner = world.intake.inner();
    let triggers: Vec<_> = inner.calls[..3].iter().map(|c| &c.trigger[..]).collect();
    assert_eq!(triggers, ["one", "one", "two"]);
}

#[tokio::test]
async fn a_client_that_waits_learns_why_there_is_no_reply() {
    let world = World::new(vec![sync("s", "POST /s")]).await;
    let id = DeliveryId([7; 16]);
    let long = Duration::from_millis(1001);
    let rejected = Answer::Rejected {
        reason: "no such order".into(),
    };
    let strange = |status| {
        Answer::Replied(Reply {
            status: Some(status),
            ..Reply::default()
        })
    };
    for (answer, status, says, after) in [
        (Answer::InFlight, 409, "under way", Some("1")),
        (Answer::Reused, 422, "same id", None),
        (Answer::Retry(None), 503, "later", Some("1")),
        (Answer::Retry(Some(Duration::ZERO)), 503, "later", Some("1")),
        (Answer::Retry(Some(long)), 503, "later", Some("2")),
        (rejected, 400, "no such order", None),
        (Answer::Timeout, 504, "longer", None),
        (Answer::Failed(id), 500, "log", None),
        (strange(42), 500, "42", None),
        (strange(101), 500, "101", None),
    ] {
        world.intake.inner().answer = Some(answer.clone());
        let response = world.ask("POST /s\nIdempotency-Key: k", "x").await;
        response.refused(status, says);
        assert_eq!(response.header("retry-after"), after, "{answer:?}");
        let failed = matches!(answer, Answer::Failed(_)).then(|| id.to_string());
        assert_eq!(response.json()["id"].as_str(), failed.as_deref());
        assert!(world.intake.inner().calls.last().unwrap().stable);
    }
    world.intake.inner().answer = Some(Answer::Unmatched);
    let response = world.ask("POST /s", "x").await;
    assert_eq!((response.status, response.body.len()), (204, 0));
    assert!(!world.intake.inner().calls.last().unwrap().stable);
    assert!(world.intake.inner().offers.is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_call_along() {
    let world = World::new(vec![sync("s", "POST /s")]).await;
    world.intake.shut();
    let mut client = world.connect().await;
    client.send("POST /s", "x").await;
    world.intake.wait("the call", |i| i.calls.len() == 1).await;
    drop(client);
    world.intake.wait("its end", |i| i.left == 1).await;
}
