//! HTTP triggers from outside: webhooks that are accepted, calls that are answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
};

use serde_json::Value;

use crate::harness::{Client, Site, root, wait_until};

/// The secret of the webhooks' signatures.
const SECRET: &str = "It's a Secret to Everybody";

/// A real webhook: its event's name and its body.
fn webhooks() -> Vec<(String, String)> {
    let file = root().join("tests/data/webhooks/github.jsonl");
    let text = fs::read_to_string(file).expect("the webhooks are there");
    let webhook = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let event = line["event"].as_str().expect("a name").to_owned();
        (event, line["payload"].to_string())
    };
    text.lines().map(webhook).collect()
}

fn signature(body: &str) -> String {
    use hmac::{KeyInit, Mac};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key");
    mac.update(body.as_bytes());
    let hex = mac.finalize().into_bytes();
    let hex: String = hex.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

#[test]
fn every_webhook_is_handled_once_however_often_it_is_sent() {
    let site = Site::new(&format!(
        r#"
[functions.hook]
component = "GITHUB-HOOK"
allow = {{ emit = ["github.event"] }}
[functions.listen]
component = "PROBE"
env = {{ ORDER = '{{ "do": "count", "key": "heard", "type": "" }}' }}
allow = {{ store = ["probe"] }}
[triggers.hook]
function = "hook"
http = {{ path = "/hooks/github", verify = {{ hmac_sha256 = {{ header = "X-Hub-Signature-256", secret = "{SECRET}" }} }} }}
[triggers.listen]
function = "listen"
event = {{ type = "github.event" }}
"#
    ));
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let all = webhooks();
    assert_eq!(all.len(), 220);

    let post = |n: usize, body: &str, signature: &str| {
        let id = format!("hook-{n}");
        let headers = [
            ("X-GitHub-Event", all[n].0.as_str()),
            ("X-Hub-Signature-256", signature),
            ("Content-Type", "application/json"),
            ("Idempotency-Key", id.as_str()),
        ];
        client.post("/hooks/github", &headers, body)
    };
    let first: Vec<_> = (0..all.len())
        .map(|n| post(n, &all[n].1, &signature(&all[n].1)))
        .collect();
    assert!(
        first.iter().all(|replied| replied.status == 202),
        "{first:?}"
    );
    engine.wait_idle();
    let counts = || {
        let settled = |trigger: &str| {
            let label = format!("trigger=\"{trigger}\",result=\"ok\"");
            engine.metric("tidemill_deliveries_settled_total", &label)
        };
        (
            settled("hook"),
            settled("listen"),
            site.key("probe", "heard"),
        )
    };
    let expected = (220.0, 220.0, Some("220".to_owned()));
    assert_eq!(counts(), expected);
    assert_eq!(site.dead_letters(), 0);

    // Sent again: the same reply, and nothing happens.
    for (n, before) in first.iter().enumerate() {
        let again = post(n, &all[n].1, &signature(&all[n].1));
        assert_eq!((again.status, &again.body), (202, &before.body));
    }
    // The same key with another body, and the right key with a wrong signature.
    let other = post(0, &all[1].1, &signature(&all[1].1));
    assert_eq!(other.status, 422, "{other:?}");
    let forged = post(0, &all[0].1, &signature(&all[1].1));
    assert_eq!(forged.status, 401, "{forged:?}");
    let headers = [("X-GitHub-Event", "push"), ("Idempotency-Key", "new")];
    assert_eq!(client.post("/hooks/github", &headers, "{}").status, 401);
    engine.wait_idle();
    assert_eq!(counts(), expected, "nothing of it took effect");

    // A restart forgets none of it.
    engine.stop();
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let headers = [
        ("X-GitHub-Event", all[7].0.as_str()),
        ("X-Hub-Signature-256", &signature(&all[7].1)),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "hook-7"),
    ];
    let again = client.post("/hooks/github", &headers, &all[7].1);
    assert_eq!((again.status, &again.body), (202, &first[7].body));
    engine.wait_idle();
    assert_eq!(site.key("probe", "heard").as_deref(), Some("220"));
    engine.stop();
}

/// A probe behind a path whose handler does what the body says.
const CALLS: &str = r#"
[functions.probe]
component = "PROBE"
timeout = "500ms"
allow = { store = ["probe"], emit = ["probe.made"] }
[functions.listen]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "heard", "type": "" }' }
allow = { store = ["probe"] }
[triggers.call]
function = "probe"
http = { path = "/call/{name}", methods = ["POST", "GET", "PUT"], mode = "sync", max_body = "1KiB" }
[triggers.order]
function = "probe"
http = { path = "/order", mode = "sync" }
idempotency = { key = "$.order", window = "1h" }
[triggers.listen]
function = "listen"
event = { type = "probe.made" }
"#;

#[test]
fn a_client_that_waits_gets_what_the_handler_replies() {
    let site = Site::new(CALLS);
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let call = |body: &str| client.post("/call/it", &[], body);

    let made = call(r#"{"do": "status", "status": 201, "text": "made"}"#);
    assert_eq!((made.status, &*made.body), (201, "made"));
    assert_eq!(made.header("x-probe"), Some("1"));
    let nothing = call(r#"{"do": "ok"}"#);
    assert_eq!((nothing.status, &*nothing.body), (204, ""));
    let busy = call(r#"{"do": "retry-after", "ms": 2500}"#);
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("3")));
    assert_eq!(call(r#"{"do": "retry"}"#).status, 503);
    assert_eq!(call(r#"{"do": "spin"}"#).status, 504);
    assert_eq!(call(r#"{"do": "trap"}"#).status, 500);
    let rejected = call(r#"{"do": "reject", "text": "no such order"}"#);
    assert_eq!(rejected.status, 400);
    assert!(rejected.body.contains("no such order"), "{rejected:?}");
    assert_eq!(call(&" ".repeat(2000)).status, 413);
    assert_eq!(client.post("/nowhere", &[], "").status, 404);
    let wrong = client.send("DELETE", "/call/it", &[], "");
    assert_eq!(
        (wrong.status, wrong.header("allow")),
        (405, Some("GET, POST, PUT"))
    );

    // What the handler sees of the request.
    let path = "/call/a%20name?page=2&q=a%26b";
    let headers = [
        ("X-Color", "blue"),
        ("Content-Type", "application/json"),
        ("tidemill-hops", "3"),
    ];
    let seen = client
        .send("PUT", path, &headers, r#"{"do": "event"}"#)
        .json();
    assert_eq!(seen["type"], "http.request");
    assert_eq!(seen["source"], "http:/call/{name}");
    assert_eq!(seen["subject"], "/call/a%20name");
    assert_eq!(seen["datacontenttype"], "application/json");
    let headers: Vec<(String, String)> =
        serde_json::from_value(seen["headers"].clone()).expect("pairs");
    let headers: BTreeMap<String, String> = headers.into_iter().collect();
    assert_eq!(headers["tidemill-method"], "PUT");
    assert_eq!(headers["tidemill-query"], "page=2&q=a%26b");
    assert_eq!(headers["tidemill-path-name"], "a name");
    assert_eq!(headers["x-color"], "blue");
    assert_eq!(headers.get("tidemill-hops"), None);

    // Effects of a reply below 500 are kept, those of another are not.
    let emits = |status: u16| {
        let body = format!(r#"{{"do": "emit-status", "status": {status}}}"#);
        call(&body).status
    };
    assert_eq!((emits(200), emits(404), emits(500)), (200, 404, 500));
    engine.wait_idle();
    assert_eq!(site.key("probe", "heard").as_deref(), Some("2"));
    assert_eq!(
        site.dead_letters(),
        0,
        "a client that waits is told, nobody else"
    );
    engine.stop();
}

#[test]
fn a_call_with_an_idempotency_key_runs_once() {
    // However busy the machine is, the slow call ends in time.
    let site = Site::new(&CALLS.replace("500ms", "10s"));
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let count = r#"{"do": "counter", "key": "called"}"#;
    let key = [("Idempotency-Key", "one")];
    let first = client.post("/call/it", &key, count);
    assert_eq!((first.status, &*first.body), (200, "1"));
    assert_eq!(client.post("/call/it", &key, count), first);
    assert_eq!(
        client
            .post("/call/it", &[("Idempotency-Key", "two")], count)
            .body,
        "2"
    );
    let reused = client.post("/call/it", &key, r#"{"do": "ok"}"#);
    assert_eq!(reused.status, 422, "{reused:?}");

    // A meaning of the body: whoever sends it, with whatever else in it.
    let order = |more: &str| {
        let body = format!(r#"{{"do": "counter", "order": 7, "more": "{more}"}}"#);
        client.post("/order", &[], body)
    };
    assert_eq!((order("a").body, order("b").body), ("1".into(), "1".into()));

    // One at a time.
    let slow = r#"{"do": "sleep", "ms": 300}"#;
    let statuses: BTreeSet<u16> = thread::scope(|scope| {
        let send = || {
            client
                .post("/call/it", &[("Idempotency-Key", "slow")], slow)
                .status
        };
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(send)).collect();
        calls
            .into_iter()
            .map(|call| call.join().expect("it is answered"))
            .collect()
    });
    assert_eq!(statuses, BTreeSet::from([204, 409]));

    // Whoever has an answer is under way no more, wherever its handler ran.
    let busy = r#"{"do": "busy", "ms": 3}"#;
    for n in 0..50 {
        let name = format!("busy-{n}");
        let key = [("Idempotency-Key", &*name)];
        let first = client.post("/call/it", &key, busy);
        assert_eq!(first.status, 204);
        let again = client.post("/call/it", &key, busy);
        assert_eq!(again.status, 204, "call {n}: {again:?}");
    }

    engine.stop();
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    assert_eq!(
        client.post("/call/it", &key, count).body,
        "1",
        "remembered over a restart"
    );
    engine.stop();
}

#[test]
fn an_id_is_known_while_its_event_waits_is_dead_or_gone() {
    let site = Site::new(
        r#"
[functions.probe]
component = "PROBE"
allow = { store = ["probe"] }
[triggers.take]
function = "probe"
http = { path = "/take" }
"#,
    );
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let take = |id: &str, body: &str| {
        let replied = client.post("/take", &[("Idempotency-Key", id)], body);
        (replied.status, replied.body)
    };
    let slow = r#"{"do": "sleep", "ms": 1000}"#;
    let accepted = (202, r#"{"id":"slow"}"#.to_owned());
    assert_eq!(take("slow", slow), accepted);
    assert_eq!(take("slow", slow), accepted);
    assert_eq!(take("slow", "{}").0, 422);
    engine.wait_idle();
    assert_eq!(take("slow", slow), accepted);
    assert_eq!(take("slow", "{}").0, 422);

    let bad = r#"{"do": "reject"}"#;
    let again = |step: &str, dead: usize| {
        assert_eq!(take("bad", bad).0, 202, "{step}");
        assert_eq!(take("bad", "{}").0, 422, "{step}");
        engine.wait_idle();
        assert_eq!(site.dead_letters(), dead, "{step}");
    };
    take("bad", bad);
    engine.wait_idle();
    again("dead", 1);
    site.succeeds(&["dead-letters", "redrive", "--all"]);
    engine.wait_idle();
    again("redriven, and dead again", 1);
    site.succeeds(&["dead-letters", "purge", "--all", "--yes"]);
    again("purged", 0);
    let attempts = engine.metric("tidemill_attempts_total", "");
    assert_eq!(attempts, 3.0, "one of the slow one, two of the bad one");
    engine.stop();
}

#[test]
fn a_stop_lets_calls_finish_and_takes_no_more() {
    let site = Site::new(&CALLS.replace("500ms", "30s"));
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let waiting = {
        let client = client.clone();
        thread::spawn(move || client.post("/call/it", &[], r#"{"do": "sleep", "ms": 700}"#))
    };
    wait_until("it runs", || {
        engine.metric("tidemill_attempts_running", "") == 1.0
    });
    engine.terminate();
    assert_eq!(waiting.join().expect("it is answered").status, 204);
    let (status, _) = engine.wait();
    assert!(status.success());
}
