//! What follows from what a server answers, or does not.

use tokio::net::TcpListener;

use super::*;

/// What follows when a server answers this; addresses in the texts are `http://test`.
async fn answered(answer: impl AsRef<[u8]>) -> Result<(), PublishError> {
    let server = Server::new(answer).await;
    let plan = plan(
        &format!("{}/in", server.url),
        &[("authorization", "Bearer s3cret-token")],
    );
    let result = destination(&plan).publish(&post(), &event(&[])).await;
    let named = |text: String| text.replace(&server.url, "http://test");
    result.map_err(|error| match error {
        PublishError::Failed(text) => PublishError::Failed(named(text)),
        PublishError::Rejected(text) => PublishError::Rejected(named(text)),
    })
}

#[tokio::test]
async fn the_status_decides_what_follows() {
    for status in [200, 201, 202, 204, 299] {
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(answered(answer).await, Ok(()), "{status}");
    }
    for status in [408, 425, 429, 500, 502, 503, 504, 599] {
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        let Err(PublishError::Failed(text)) = answered(answer).await else {
            panic!("{status} may pass");
        };
        let start = format!("POST http://test/in answered {status} ");
        assert!(text.starts_with(&start), "{text}");
    }
    for status in [300, 304, 400, 401, 403, 404, 409, 410, 413, 422, 431] {
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        let Err(PublishError::Rejected(text)) = answered(answer).await else {
            panic!("{status} stays");
        };
        let start = format!("POST http://test/in answered {status} ");
        assert!(text.starts_with(&start), "{text}");
    }
}

#[tokio::test]
async fn says_what_the_server_said() {
    let answer = "HTTP/1.1 503 x\r\nretry-after: 120\r\ncontent-length: 19\r\n\r\ncome  back\r\n later\x07\n";
    let text = "POST http://test/in answered 503 Service Unavailable (Retry-After: 120); it said: come back later";
    assert_eq!(answered(answer).await, failed(text));

    let answer = "HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n";
    let text = "POST http://test/in answered 404 Not Found, which another try would not change";
    assert_eq!(answered(answer).await, rejected(text));

    let answer = "HTTP/1.1 401 x\r\ncontent-length: 23\r\n\r\nwho is \"s3cret-token\"?!";
    let text = "POST http://test/in answered 401 Unauthorized, which another try would not change; it said: who is \"***\"?!";
    assert_eq!(answered(answer).await, rejected(text));

    // Cut between characters.
    let body = "ü".repeat(300);
    let answer = format!("HTTP/1.1 500 x\r\ncontent-length: 600\r\n\r\n{body}");
    let Err(PublishError::Failed(text)) = answered(answer).await else {
        panic!("500 may pass");
    };
    let said = format!("it said: {}...", "ü".repeat(100));
    assert!(text.ends_with(&said), "{text}");
}

#[tokio::test]
async fn redirects_are_named_and_not_followed() {
    let other = Server::new(OK).await;
    let answer = format!(
        "HTTP/1.1 307 x\r\nlocation: {}/there?token=1\r\ncontent-length: 0\r\n\r\n",
        other.url
    );
    let text = format!(
        "POST http://test/in answered 307 Temporary Redirect; redirects are not followed: if {}/there is right, write it into the plan",
        other.url
    );
    assert_eq!(answered(answer).await, rejected(&text));
    assert_eq!(other.connections(), 0);

    let answer = "HTTP/1.1 302 x\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n";
    let text = "POST http://test/in answered 302 Found; redirects are not followed: if http://test/login is right, write it into the plan";
    assert_eq!(answered(answer).await, rejected(text));
}

#[tokio::test]
async fn huge_answers_are_read_in_part() {
    // So long that no server of a test could send it, and none needs to.
    let head =
        |status: u16| format!("HTTP/1.1 {status} x\r\ncontent-length: 1000000000000\r\n\r\n");
    let part = "y".repeat(2 * limits::ANSWER);
    assert_eq!(answered(head(200) + &part).await, Ok(()));
    let Err(PublishError::Failed(text)) = answered(head(500) + &part).await else {
        panic!("500 may pass");
    };
    assert!(text.ends_with("yyy...") && text.len() < 300, "{text}");

    // Headers without end.
    let answer = format!("HTTP/1.1 200 x\r\nx: {}", "y".repeat(2 * limits::ANSWER));
    let Err(PublishError::Failed(text)) = answered(answer).await else {
        panic!("it is no answer");
    };
    assert!(text.starts_with("POST http://test/in failed: "), "{text}");
}

#[tokio::test]
async fn what_is_not_http_may_pass() {
    for answer in [
        "SSH-2.0-OpenSSH_9.2p1\r\n",
        "HTTP/9 hello\r\n\r\n",
        "\r\n\r\n\r\n\r\n{}",
    ] {
        let Err(PublishError::Failed(text)) = answered(answer).await else {
            panic!("{answer}");
        };
        assert!(text.starts_with("POST http://test/in failed: "), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_may_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let plan = plan(&format!("http://{address}/"), &[]);
    let result = destination(&plan).publish(&post(), &event(&[])).await;
    let Err(PublishError::Failed(text)) = result else {
        panic!("{result:?}");
    };
    let start = format!("POST http://{address}/ failed: ");
    assert!(text.starts_with(&start), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
}

#[tokio::test]
async fn silence_ends_with_the_timeout_and_with_the_connection() {
    // A status decides, even if the rest of the answer is late.
    let partial = "HTTP/1.1 200 x\r\ncontent-length: 5\r\n\r\nabc";
    for (answer, done) in [("", false), ("HTTP/1.1 200", false), (partial, true)] {
        let server = Server::new(answer).await;
        let mut plan = plan(&server.url, &[]);
        plan.timeout = Duration::from_secs(1);
        let result = destination(&plan).publish(&post(), &event(&[])).await;
        let text = format!(
            "POST {}/ was not answered within 1s; the server may have the event nevertheless, and gets it again under the same id",
            server.url
        );
        assert_eq!(result, if done { Ok(()) } else { failed(&text) });
        assert_eq!(server.requests().len(), 1);
        let closed = server.closed();
        tokio::time::timeout(PATIENCE, closed)
            .await
            .expect("the connection is closed");
    }
}
