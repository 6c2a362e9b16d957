//! Functions that follow each other: emitted events, replies and dead letters that go on.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

use crate::harness::{Client, Site, files, wait_until};

#[test]
fn an_emitted_event_reaches_every_trigger_of_its_type_and_knows_its_parent() {
    let site = Site::new(
        r#"
[functions.first]
component = "PROBE"
allow = { emit = ["probe.made"] }
[functions.second]
component = "PROBE"
env = { ORDER = '{ "do": "event" }' }
[triggers.start]
function = "first"
http = { path = "/start" }
[triggers.one]
function = "second"
event = { type = "probe.made" }
on_success = { bucket = { name = "seen", key = "one/{subject}" } }
[triggers.two]
function = "second"
event = { type = "probe.made" }
filter = { subject = ["0"] }
on_success = { bucket = { name = "seen", key = "two/{subject}" } }
[triggers.other]
function = "second"
event = { type = "probe.other" }
on_success = { bucket = { name = "seen", key = "other/{subject}" } }
[buckets.seen]
url = "file:buckets/seen"
"#,
    );
    let seen = site.bucket("seen");
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let body = r#"{"do": "emit", "count": 3, "text": "hello"}"#;
    let replied = client.post("/start", &[("traceparent", trace)], body);
    assert_eq!(replied.status, 202);
    engine.wait_idle();
    assert_eq!(files(&seen), ["one/0", "one/1", "one/2", "two/0"]);

    let event = |name: &str| -> Value {
        let text = std::fs::read(seen.join(name)).expect("it is read");
        serde_json::from_slice(&text).expect("JSON")
    };
    let (one, two) = (event("one/0"), event("two/0"));
    assert_eq!(one["id"], two["id"], "one event for both");
    assert_ne!(one["delivery"], two["delivery"]);
    assert_eq!(one["source"], "function:first");
    let (parent, n) = one["id"]
        .as_str()
        .and_then(|id| id.rsplit_once('.'))
        .expect("parent.n");
    assert_eq!((parent.len(), n), (32, "0"));
    assert_eq!(
        event("one/2")["id"],
        format!("{parent}.2"),
        "the same parent"
    );
    assert_eq!(
        one["traceparent"].as_str().map(|t| &t[..35]),
        Some(&trace[..35]),
        "the same trace"
    );
    assert_eq!(one["data"], "hello");
    engine.stop();
}

#[test]
fn a_chain_that_feeds_itself_ends_as_a_dead_letter_after_sixteen_hops() {
    let site = Site::new(
        r#"
[functions.again]
component = "PROBE"
env = { ORDER = '{ "do": "count", "type": "again" }' }
allow = { emit = ["again"], store = ["probe"] }
[triggers.start]
function = "again"
http = { path = "/start" }
[triggers.again]
function = "again"
event = { type = "again" }
dead_letter = { event = { type = "again" } }
"#,
    );
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    assert_eq!(client.post("/start", &[], "").status, 202);
    engine.wait_idle();
    assert_eq!(
        site.key("probe", "key").as_deref(),
        Some("17"),
        "the first, and sixteen hops"
    );
    assert_eq!(site.dead_letters(), 1);
    let list = site.succeeds(&["dead-letters", "list"]);
    assert!(list.contains("came through 17 writes"), "{list}");
    engine.stop();
}

/// The requests that a server took: head, in lower case, and body.
type Taken = Arc<Mutex<Vec<(String, String)>>>;

/// A server that takes what is posted to it. The first `failures` requests get 503.
fn receiver(failures: usize) -> (String, Taken) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let sink = taken.clone();
    thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
                head.push_str(&line.to_lowercase());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body comes");
            let status = if n < failures {
                "503 Busy"
            } else {
                "204 No Content"
            };
            if n >= failures {
                let body = String::from_utf8_lossy(&body).into_owned();
                sink.lock()
                    .expect("nobody panics with it")
                    .push((head, body));
            }
            let answer =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    (address, taken)
}

#[test]
fn replies_and_dead_letters_go_where_the_trigger_says() {
    let (address, taken) = receiver(1);
    let site = Site::new(&format!(
        r#"
[functions.probe]
component = "PROBE"
[functions.listen]
component = "PROBE"
env = {{ ORDER = '{{ "do": "count", "key": "heard", "type": "" }}' }}
allow = {{ store = ["probe"] }}
[triggers.posted]
function = "probe"
http = {{ path = "/posted" }}
retry = {{ attempts = 1 }}
on_success = {{ http = {{ url = "http://{address}/ok", headers = {{ X-Key = "hush" }} }} }}
dead_letter = {{ http = {{ url = "http://{address}/dead" }} }}
[triggers.stored]
function = "probe"
http = {{ path = "/stored" }}
retry = {{ attempts = 1 }}
on_success = {{ event = {{ type = "stored" }} }}
dead_letter = {{ bucket = {{ name = "dead", key = "{{trigger}}/{{id}}.json" }} }}
[triggers.listen]
function = "listen"
event = {{ type = "stored" }}
[buckets.dead]
url = "file:buckets/dead"
"#
    ));
    let dead = site.bucket("dead");
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let send = |path: &str, body: &str| {
        assert_eq!(
            client
                .post(path, &[("Content-Type", "application/json")], body)
                .status,
            202
        );
    };
    send("/posted", r#"{"do": "status", "text": "all well"}"#);
    send("/posted", r#"{"do": "reject", "text": "no good"}"#);
    wait_until("both are posted", || {
        taken.lock().expect("nobody panics with it").len() == 2
    });
    let taken = taken.lock().expect("nobody panics with it").clone();
    let of = |path: &str| {
        taken
            .iter()
            .find(|(head, _)| head.starts_with(path))
            .expect("it came")
    };
    let (head, body) = of("post /ok ");
    assert_eq!(body, "all well");
    for line in [
        "x-key: hush",
        "ce-specversion: 1.0",
        "ce-type: tidemill.success",
        "ce-id: ",
        "tidemill-trigger: posted",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    let (head, body) = of("post /dead ");
    assert!(body.contains("no good"), "the event as it was: {body}");
    for line in [
        "ce-type: tidemill.dead-letter",
        "tidemill-cause: rejected",
        "tidemill-attempts: 1",
        "content-type: application/json",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }

    send("/stored", r#"{"do": "ok"}"#);
    send("/stored", r#"{"do": "trap", "text": "it broke"}"#);
    engine.wait_idle();
    assert_eq!(site.key("probe", "heard").as_deref(), Some("1"));
    let found = files(&dead);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("stored/"), "{found:?}");
    let letter = std::fs::read(dead.join(&found[0])).expect("it is read");
    let letter: Value = serde_json::from_slice(&letter).expect("JSON");
    assert_eq!(letter["cause"], "attempts");
    assert_eq!(letter["event"]["subject"], "/stored");
    assert!(
        letter["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("it broke")),
        "{letter}"
    );
    assert_eq!(site.dead_letters(), 2, "the journal has them too");
    engine.stop();
}
