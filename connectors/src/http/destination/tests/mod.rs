//! The destination against real servers, which answer with bytes written by hand.

mod answers;
mod server;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tidemill_config::reference::Text;
use tidemill_core::{limits, time::Timestamp};
use tokio_rustls::TlsAcceptor;

use super::*;
use server::Server;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A text of the plan; files in it are those of `folder`.
fn text(value: &str, folder: &Path) -> Text {
    let file = format!("[functions.f]\ncomponent = \"f.wasm\"\nenv = {{ TEXT = {value:?} }}\n");
    let loaded = tidemill_config::parse(&folder.join("tidemill.toml"), &file).unwrap();
    loaded.plan.functions["f"].env["TEXT"].clone()
}

fn plan(url: &str, headers: &[(&str, &str)]) -> plan::HttpDestination {
    plan_in(Path::new("/nowhere"), url, headers)
}

fn plan_in(folder: &Path, url: &str, headers: &[(&str, &str)]) -> plan::HttpDestination {
    let header = |(name, value): &(&str, &str)| ((*name).to_owned(), text(value, folder));
    plan::HttpDestination {
        url: text(url, folder),
        headers: headers.iter().map(header).collect(),
        timeout: PATIENCE,
    }
}

fn destination(plan: &plan::HttpDestination) -> HttpDestination {
    trusting(plan, RootCertStore::empty())
}

fn trusting(plan: &plan::HttpDestination, roots: RootCertStore) -> HttpDestination {
    let posts = [("t", Role::DeadLetter, plan)];
    match HttpDestination::with(posts, || Ok(roots)) {
        Ok(destination) => destination,
        Err(errors) => panic!("{errors:?}"),
    }
}

fn post() -> OutboxAction {
    OutboxAction::Post {
        trigger: "t".into(),
        role: Role::DeadLetter,
    }
}

fn event(headers: &[(&str, &str)]) -> Event {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Event {
        id: "5ac640a4f8616abc1987c84210046a9e.dead-letter".into(),
        source: "function:f".into(),
        kind: "tidemill.dead-letter".into(),
        subject: Some("müll eimer.jpg".into()),
        time: Timestamp(1_522_949_460_000),
        datacontenttype: Some("application/json".into()),
        traceparent: Some(TRACE.into()),
        hops: 3,
        headers: headers.iter().map(owned).collect(),
        data: "{\"a\":1}".into(),
    }
}

fn failed(text: &str) -> Result<(), PublishError> {
    Err(PublishError::Failed(text.into()))
}

fn rejected(text: &str) -> Result<(), PublishError> {
    Err(PublishError::Rejected(text.into()))
}

#[tokio::test]
async fn posts_a_cloud_event_that_can_be_known_again() {
    let server = Server::new(OK).await;
    let plan = plan(
        &format!("{}/in?key=s3cret", server.url),
        &[("X-Token", "s3cret")],
    );
    let long = format!("{}é", "x".repeat(limits::SENT_HEADER - 1));
    let event = event(&[
        ("tidemill-cause", "attempts"),
        ("tidemill-reason", "100% größer\nthan it may"),
        ("tidemill-reason", "second"),
        ("tidemill-long", &long),
        ("tidemill-not legal", "x"),
        ("tidemill-hops", "99"),
        ("ce-extra", "ä"),
        ("authorization", "not to be sent on"),
        ("x-token", "nor this"),
    ]);
    assert_eq!(destination(&plan).publish(&post(), &event).await, Ok(()));
    let [received] = &server.requests()[..] else {
        panic!("{:?}", server.requests());
    };
    assert_eq!(received.line, "POST /in?key=s3cret HTTP/1.1");
    assert_eq!(received.body, "{\"a\":1}");
    let mut headers: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in &received.headers {
        assert_eq!(headers.insert(name, value), None, "{name} comes twice");
    }
    let expected = [
        ("ce-extra", "%C3%A4"),
        ("ce-id", "5ac640a4f8616abc1987c84210046a9e.dead-letter"),
        ("ce-source", "function:f"),
        ("ce-specversion", "1.0"),
        ("ce-subject", "m%C3%BCll%20eimer.jpg"),
        ("ce-time", "2018-04-05T17:31:00.000Z"),
        ("ce-traceparent", TRACE),
        ("ce-type", "tidemill.dead-letter"),
        ("content-length", "7"),
        ("content-type", "application/json"),
        ("host", &server.url["http://".len()..]),
        (
            "idempotency-key",
            "5ac640a4f8616abc1987c84210046a9e.dead-letter",
        ),
        ("tidemill-cause", "attempts"),
        ("tidemill-hops", "3"),
        ("tidemill-long", &long[..limits::SENT_HEADER - 1]),
        ("tidemill-reason", "100%25 gr%C3%B6%C3%9Fer%0Athan it may"),
        ("traceparent", TRACE),
        (
            "user-agent",
            concat!("tidemill/", env!("CARGO_PKG_VERSION")),
        ),
        ("x-token", "s3cret"),
    ];
    assert_eq!(headers, BTreeMap::from(expected));
}

#[tokio::test]
async fn every_try_is_the_same_and_the_connection_too() {
    let server = Server::new(OK).await;
    let destination = destination(&plan(&server.url, &[]));
    let empty = Event {
        datacontenttype: None,
        data: "".into(),
        ..event(&[])
    };
    for _ in 0..3 {
        assert_eq!(destination.publish(&post(), &empty).await, Ok(()));
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| *request == requests[0]));
    assert_eq!(requests[0].header("content-length"), Some("0"));
    assert_eq!(requests[0].header("content-type"), None);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn secrets_are_sent_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("path", "T0ken/with slash\n");
    write("password", "p@ss:word");
    write("key", "k3y&more");
    // The server repeats what it is sent, as helpful ones do.
    let body = "no T0ken/with slash, T0ken%2Fwith%20slash, p@ss:word, k3y&more, k3y%26more or ";
    let basic = BASE64_STANDARD.encode("user:p@ss:word");
    let body = format!("{body}{basic} here");
    let answer = format!(
        "HTTP/1.1 404 x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let server = Server::new(answer).await;
    let host = &server.url["http://".len()..];
    let url = format!(
        "http://user:${{file:password}}@{host}/hook/${{file:path}}?a=1&key=${{file:key}}#x"
    );
    let plan = plan_in(folder.path(), &url, &[]);
    let result = destination(&plan).publish(&post(), &event(&[])).await;
    let text = format!(
        "POST http://{host}/... answered 404 Not Found, which another try would not change; it said: no ***, ***, ***, ***, *** or *** here"
    );
    assert_eq!(result, rejected(&text));
    let [received] = &server.requests()[..] else {
        panic!("{:?}", server.requests());
    };
    assert_eq!(
        received.line,
        "POST /hook/T0ken%2Fwith%20slash?a=1&key=k3y%26more HTTP/1.1"
    );
    assert_eq!(
        received.header("authorization"),
        Some(&*format!("Basic {basic}"))
    );
}

#[tokio::test]
async fn the_plan_decides_when_it_is_sent() {
    let plan = plan("http://127.0.0.1:1/", &[]);
    let destination = destination(&plan);
    for (trigger, role, key) in [
        ("gone", Role::DeadLetter, "dead_letter"),
        ("t", Role::OnSuccess, "on_success"),
    ] {
        let action = OutboxAction::Post {
            trigger: trigger.into(),
            role,
        };
        let text = format!("the plan has no `{key}` with `http` for trigger `{trigger}` any more");
        assert_eq!(
            destination.publish(&action, &event(&[])).await,
            rejected(&text)
        );
    }
    let action = OutboxAction::PutObject {
        bucket: "b".into(),
        key: "k".into(),
    };
    let text = "what is for another destination does not go to an HTTP server";
    assert_eq!(
        destination.publish(&action, &event(&[])).await,
        rejected(text)
    );
}

#[test]
fn says_at_the_start_what_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("host"), "secret host").unwrap();
    let urls = [
        (
            "example.com/hook",
            "trigger `t`: `on_success.http.url` is not an address (relative URL without a base); expected one like https://example.com/path",
        ),
        (
            "ftp://example.com",
            "trigger `t`: `on_success.http.url` is not an address (it is neither http nor https); expected one like https://example.com/path",
        ),
        (
            "http://${file:host}/",
            "trigger `t`: `on_success.http.url` is not an address (invalid international domain name); expected one like https://example.com/path",
        ),
        (
            "http://${env:TIDEMILL_TEST_UNSET}",
            "trigger `t`: cannot look up `on_success.http.url`",
        ),
    ];
    let own = "the engine sets it by itself; leave it out";
    let headers = [
        ("bad name", "x", "it is not a header's name"),
        (
            "x",
            "a\nb",
            "its value has characters that no header may have",
        ),
        ("Content-Type", "text/plain", own),
        ("ce-id", "1", own),
        ("tidemill-hops", "0", own),
        ("Idempotency-Key", "1", own),
        ("traceparent", "1", own),
    ];
    let plans = urls.map(|(url, _)| plan_in(folder.path(), url, &[]));
    let only = headers.map(|(name, value, _)| (name, value));
    let mut many = plan("http://h/", &only);
    let unset = text("${env:TIDEMILL_TEST_UNSET}", folder.path());
    many.headers.insert("y".into(), unset);
    let mut posts: Vec<_> = plans
        .iter()
        .map(|plan| ("t", Role::OnSuccess, plan))
        .collect();
    posts.push(("d", Role::DeadLetter, &many));
    let errors = HttpDestination::with(posts, || unreachable!("no https"))
        .err()
        .unwrap();
    let mut expected: Vec<String> = urls.map(|(_, text)| text.into()).into();
    let mut sorted = headers;
    sorted.sort_by_key(|header| header.0);
    expected.extend(sorted.map(|(name, _, why)| {
        format!("trigger `d`: `dead_letter.http.headers` cannot send {name:?}: {why}")
    }));
    expected.push("trigger `d`: cannot look up `dead_letter.http.headers.y`".into());
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors, expected);
}

#[test]
fn https_needs_authorities_only_if_it_is_used() {
    let (plain, safe) = (plan("http://h/", &[]), plan("https://h/", &[]));
    let none = || Err(Unusable::NoAuthorities);
    assert!(HttpDestination::with([("t", Role::OnSuccess, &plain)], none).is_ok());
    let errors = HttpDestination::with([("t", Role::OnSuccess, &safe)], none)
        .err()
        .unwrap();
    assert!(matches!(errors[..], [Unusable::NoAuthorities]));
}

#[tokio::test]
async fn https_reaches_the_right_server_only() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from(key.cert.der().to_vec());
    let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::with(OK, Some(acceptor)).await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();

    let plan_for = |url: &str| plan(&format!("{url}/in"), &[]);
    let trusted = trusting(&plan_for(&server.url), roots.clone());
    assert_eq!(trusted.publish(&post(), &event(&[])).await, Ok(()));
    assert_eq!(server.requests().len(), 1);

    let other_name = server.url.replace("localhost", "127.0.0.1");
    for (url, roots) in [(&server.url, RootCertStore::empty()), (&other_name, roots)] {
        let result = trusting(&plan_for(url), roots)
            .publish(&post(), &event(&[]))
            .await;
        let Err(PublishError::Failed(text)) = result else {
            panic!("{result:?}");
        };
        assert!(text.contains("invalid peer certificate"), "{text}");
        assert!(text.ends_with("and start the engine again"), "{text}");
    }
    assert_eq!(server.requests().len(), 1);
}
