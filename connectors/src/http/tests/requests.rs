//! What requests become, and what is answered.

use tidemill_core::{
    intake::{IntakeError, Mark},
    limits,
};

use super::*;

#[tokio::test]
async fn a_request_becomes_an_event() {
    let world = World::new(vec![route("t", "POST /hooks/{Name}/{*rest}")]).await;
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let head = format!(
        "POST /hooks/gr%C3%BCn%2Fgelb/a/b%20c?q=1&r=%20
        Content-Type: text/plain
        X-Twice: one
        x-twice: two
        X-Latin: \u{e9}
        Authorization: Basic abc
        Cookie: a=b
        Connection: keep-alive, x-thing
        Proxy-Authorization: no
        TE: trailers
        Tidemill-Method: DELETE
        Tidemill-Cause: me
        Tidemill-Hops: 3
        Traceparent: {context}"
    );
    let response = world.ask(&head, "hello").await;
    assert_eq!(response.status, 202);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let inner = world.intake.inner();
    let [offer] = &inner.offers[..] else {
        panic!("{:?}", inner.offers);
    };
    let event = &offer.event;
    assert_eq!(response.json(), serde_json::json!({ "id": event.id }));
    assert!(event.id.parse::<ulid::Ulid>().is_ok(), "{}", event.id);
    assert_eq!(offer.source, "http:/hooks/{Name}/{*rest}");
    assert_eq!(event.source, offer.source);
    assert!(matches!(offer.mark, Mark::Fresh), "{:?}", offer.mark);
    assert_eq!(event.kind, "http.request");
    let subject = event.subject.as_deref();
    assert_eq!(subject, Some("/hooks/gr%C3%BCn%2Fgelb/a/b%20c"));
    assert_eq!(event.datacontenttype.as_deref(), Some("text/plain"));
    assert_eq!(event.traceparent.as_deref(), Some(context));
    assert_eq!((event.hops, &event.data[..]), (3, &b"hello"[..]));
    let mut headers = event.headers.clone();
    headers.sort();
    let expected = [
        ("authorization", "Basic abc"),
        ("content-type", "text/plain"),
        ("cookie", "a=b"),
        ("host", "test"),
        ("tidemill-method", "POST"),
        ("tidemill-path-name", "grün/gelb"),
        ("tidemill-path-rest", "a/b c"),
        ("tidemill-query", "q=1&r=%20"),
        ("traceparent", context),
        ("x-latin", "é"),
        ("x-twice", "one"),
        ("x-twice", "two"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn a_cloud_event_keeps_what_it_says_of_itself() {
    let world = World::new(vec![route("t", "POST /a/{x}")]).await;
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let structured = "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/shop\",\"type\":\"sold\",\
        \"time\":\"2026-01-02T03:04:05Z\",\"datacontenttype\":\"text/plain\",\"colour\":\"red\",\
        \"data\":\"hello\"}";
    let common = format!(
        "Idempotency-Key: other
        X-Mine: 1
        Tidemill-Hops: 2
        Traceparent: {context}"
    );
    let binary = "Content-Type: text/plain
        ce-specversion: 1.0
        ce-id: 7
        ce-source: /shop
        ce-type: sold
        ce-time: 2026-01-02T03:04:05Z
        ce-colour: red";
    let json = "Content-Type: application/cloudevents+json; charset=utf-8";
    for (headers, body) in [(binary, "hello"), (json, structured)] {
        let head = format!("POST /a/b?q\n{headers}\n{common}");
        let response = world.ask(&head, body).await;
        assert_eq!(response.status, 202, "{response:?}");
        assert_eq!(response.json(), serde_json::json!({ "id": "7" }));
        let offer = world.intake.inner().offers.pop().unwrap();
        let event = offer.event;
        assert_eq!(offer.source, "http:/a/{x}");
        assert!(matches!(offer.mark, Mark::Id));
        assert_eq!(
            (
                &*event.id,
                &*event.source,
                &*event.kind,
                event.subject.as_deref()
            ),
            ("7", "/shop", "sold", None)
        );
        assert_eq!(event.time.to_string(), "2026-01-02T03:04:05.000Z");
        assert_eq!(event.datacontenttype.as_deref(), Some("text/plain"));
        assert_eq!(event.traceparent.as_deref(), Some(context));
        assert_eq!((event.hops, &event.data[..]), (2, &b"hello"[..]));
        let mut headers = event.headers;
        headers.sort();
        let expected = [
            ("ce-colour", "red"),
            ("host", "test"),
            ("idempotency-key", "other"),
            ("tidemill-method", "POST"),
            ("tidemill-path-x", "b"),
            ("tidemill-query", "q"),
            ("traceparent", context),
            ("x-mine", "1"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(headers, expected);
    }
    for (headers, body, status, says) in [
        (json, "{\"specversion\":\"1.0\"}", 400, "has no `id`"),
        (json, "nonsense", 400, "not a JSON object"),
        ("ce-specversion: 1.0\nce-id: 1", "x", 400, "has no `source`"),
        (
            "Content-Type: application/cloudevents-batch+json",
            "[]",
            415,
            "batches",
        ),
        (
            "Content-Type: application/cloudevents+avro",
            "x",
            415,
            "avro",
        ),
    ] {
        let response = world.ask(&format!("POST /a/b\n{headers}"), body).await;
        response.refused(status, says);
    }
    assert!(world.intake.inner().offers.is_empty());
}

#[tokio::test]
async fn the_same_request_again_is_answered_the_same() {
    let world = World::new(vec![route("t", "POST,PUT /a")]).await;
    for _ in 0..3 {
        let response = world.ask("POST /a\nIdempotency-Key:  k-1 ", "x").await;
        assert_eq!(response.status, 202);
        assert_eq!(response.json(), serde_json::json!({ "id": "k-1" }));
    }
    assert!(matches!(world.intake.inner().offers[0].mark, Mark::Id));
    let other = world.ask("POST /a\nIdempotency-Key: k-1", "y").await;
    other.refused(422, "same id");
    let other = world.ask("PUT /a\nIdempotency-Key: k-1", "x").await;
    other.refused(422, "same id");
    let long = format!("Idempotency-Key: {}", "k".repeat(256));
    for bad in [
        "Idempotency-Key: ",
        "Idempotency-Key: a b",
        "Idempotency-Key: \u{fc}",
        "Idempotency-Key: a\nIdempotency-Key: b",
        &long,
    ] {
        let response = world.ask(&format!("POST /a\n{bad}"), "x").await;
        response.refused(400, "Idempotency-Key");
    }
    assert_eq!(world.intake.inner().offers.len(), 5);
}

#[tokio::test]
async fn hops_are_a_number_and_end_somewhere() {
    let world = World::new(vec![route("t", "POST /a")]).await;
    for (hops, taken) in [("0", 0), ("17", 17), ("4000000000", limits::HOPS + 1)] {
        let response = world
            .ask(&format!("POST /a\nTidemill-Hops: {hops}"), "")
            .await;
        assert_eq!(response.status, 202);
        assert_eq!(
            world.intake.inner().offers.last().unwrap().event.hops,
            taken
        );
    }
    for bad in ["-1", "x", "99999999999999999999", ""] {
        let response = world
            .ask(&format!("POST /a\nTidemill-Hops: {bad}"), "")
            .await;
        response.refused(400, "tidemill-hops");
    }
}

#[tokio::test]
async fn paths_and_methods_that_nobody_listens_to() {
    let routes = vec![
        route("a", "POST /a"),
        route("b", "GET,PUT /a"),
        route("c", "GET /a/{id}"),
        route("d", "GET /a/me"),
    ];
    let world = World::new(routes).await;
    for path in ["/", "/b", "/a/", "/a/1/2", "/%61", "*"] {
        world
            .ask(&format!("GET {path}"), "")
            .await
            .refused(404, "no trigger");
    }
    for method in ["DELETE", "HEAD", "OPTIONS", "post", "BREW"] {
        let mut client = world.connect().await;
        client.send(&format!("{method} /a"), "").await;
        let response = client.response_to(method != "HEAD").await;
        assert_eq!(response.status, 405, "{method}");
        assert_eq!(response.header("allow"), Some("GET, POST, PUT"));
    }
    let response = world.ask("GET /a/%ff", "").await;
    response.refused(400, "`id` of the path is not UTF-8");
    assert!(world.intake.inner().offers.is_empty());
    for (line, source) in [
        ("PUT /a", "http:/a"),
        ("GET /a?x", "http:/a"),
        ("GET /a/you", "http:/a/{id}"),
        ("GET /a/me", "http:/a/me"),
        ("GET http://elsewhere/a/me", "http:/a/me"),
    ] {
        assert_eq!(world.ask(line, "").await.status, 202, "{line}");
        assert_eq!(world.intake.inner().offers.last().unwrap().source, source);
    }
    let status = world.health.status();
    let count = |path: Option<&str>, status: u16| super::super::Count {
        path: path.map(str::to_owned),
        status,
        requests: match (path, status) {
            (Some("/a"), 202) | (Some("/a/me"), 202) => 2,
            (Some("/a"), 405) => 5,
            (None, 404) => 6,
            _ => 1,
        },
    };
    let expected = [
        count(Some("/a"), 202),
        count(Some("/a"), 405),
        count(Some("/a/me"), 202),
        count(Some("/a/{id}"), 202),
        count(Some("/a/{id}"), 400),
        count(None, 404),
    ];
    assert_eq!(status.requests, expected);
    world.stop().await;
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let world = World::new(vec![route("t", "GET,POST /a"), sync("s", "GET /s")]).await;
    let mut client = world.connect().await;
    for n in 0..20 {
        client.send("POST /a", format!("{n}")).await;
        assert_eq!(client.response().await.status, 202);
        client.send("GET /nowhere", "").await;
        assert_eq!(client.response().await.status, 404);
    }
    // Sent at once, answered one after another.
    client.send("GET /a", "").await;
    client.send("POST /a", "last").await;
    client.send("GET /s", "").await;
    for status in [202, 202, 204] {
        assert_eq!(client.response().await.status, status);
    }
    let inner = world.intake.inner();
    let data: Vec<_> = inner.offers.iter().map(|o| o.event.data.clone()).collect();
    let mut expected: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    expected.extend(["".into(), "last".into()]);
    assert_eq!(data, expected);
}

#[tokio::test]
async fn troubles_of_the_intake() {
    let world = World::new(vec![route("a", "POST /a"), sync("s", "POST /s")]).await;
    for (trouble, status, after) in [
        (IntakeError::Busy, 429, Some("1")),
        (IntakeError::Full("/var/secret is full".into()), 507, None),
        (
            IntakeError::Failed("/var/secret broke".into()),
            503,
            Some("5"),
        ),
        (IntakeError::Stopping, 503, Some("5")),
    ] {
        world.intake.inner().trouble = Some(trouble.clone());
        for path in ["/a", "/s"] {
            let response = world.ask(&format!("POST {path}"), "x").await;
            response.refused(status, "again");
            assert_eq!(response.header("retry-after"), after, "{response:?}");
            assert!(!response.json().to_string().contains("secret"));
            let stopping = trouble == IntakeError::Stopping;
            let close = stopping.then_some("close");
            assert_eq!(response.header("connection"), close);
        }
    }
}

#[tokio::test]
async fn bodies_of_any_size_up_to_the_largest() {
    let mut large = route("t", "POST /a");
    large.source.max_body = 100_000;
    let world = World::new(vec![large]).await;
    let mut client = world.connect().await;
    for size in [0, 1, 65_536, 99_999, 100_000] {
        let body: Vec<u8> = (0..size).map(|n| n as u8).collect();
        assert_eq!(world.ask("POST /a", &body).await.status, 202);
        assert_eq!(world.intake.inner().offers.last().unwrap().event.data, body);
        client
            .raw("POST /a HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for piece in body.chunks(7001) {
            client.raw(format!("{:x}\r\n", piece.len())).await;
            client.raw(piece).await;
            client.raw("\r\n").await;
        }
        client.raw("0\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!(response.status, 202);
        assert_eq!(response.header("connection"), None);
        let last = world.intake.inner().offers.last().unwrap().event.clone();
        assert_eq!(
            (&last.data[..], last.header("transfer-encoding")),
            (&body[..], None)
        );
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_the_refusal_read() {
    let mut small = route("t", "POST /a");
    small.source.max_body = 10;
    let world = World::new(vec![small]).await;
    // Far more than the buffers between the two hold: the client writes it all before it reads.
    let body = vec![0; 12 << 20];
    let response = world.ask("POST /a", &body).await;
    response.refused(413, "10 bytes");
    assert_eq!(response.header("connection"), Some("close"));
    let mut client = world.connect().await;
    client
        .raw("POST /a HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    client.raw("6\r\nabcdef\r\n6\r\nghijkl\r\n0\r\n\r\n").await;
    client.response().await.refused(413, "10 bytes");
    // Who asks first need not send it.
    let mut client = world.connect().await;
    let head = "POST /a HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\n";
    client
        .raw(format!("{head}content-length: 11\r\n\r\n"))
        .await;
    client.response().await.refused(413, "10 bytes");
    assert_eq!(client.rest().await, "");
    let mut client = world.connect().await;
    client
        .raw(format!("{head}content-length: 10\r\n\r\n"))
        .await;
    assert_eq!(client.response().await.status, 100);
    client.raw("0123456789").await;
    assert_eq!(client.response().await.status, 202);
    assert_eq!(world.intake.inner().offers.len(), 1);
}

#[tokio::test]
async fn compressed_bodies_are_not_taken() {
    let world = World::new(vec![route("t", "POST /a")]).await;
    let response = world.ask("POST /a\nContent-Encoding: gzip", "x").await;
    response.refused(415, "compressed");
    let response = world.ask("POST /a\nContent-Encoding: Identity", "x").await;
    assert_eq!(response.status, 202);
}

#[tokio::test]
async fn what_cannot_be_served_does_not_start() {
    let start = |address: SocketAddr, routes| async move {
        match HttpConnector::new(address, routes) {
            Ok(connector) => connector.bind().await.err().map(|e| e.to_string()),
            Err(error) => Some(error.to_string()),
        }
    };
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let routes = vec![route("a", "POST /a/{x}"), route("b", "GET /a/{y}")];
    let error = start(any, routes).await.unwrap();
    assert!(error.contains("\"/a/{y}\" of trigger `b`"), "{error}");
    let taken = tokio::net::TcpListener::bind(any).await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = start(address, Vec::new()).await.unwrap();
    assert!(
        error.contains(&format!("engine.http = \"{address}\"")),
        "{error}"
    );
    assert!(error.contains("another process"), "{error}");
}
