//! Object stores: what is written is read, and every change becomes an event, once. On a store in
//! memory, on a real server that speaks S3, and what they have in common with folders on a folder.

#[path = "../../../../tests/services/synthetic.rs"]
#[allow(dead_code, reason = "not all that it can is wanted")]
mod synthetic;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use object_store::memory::InMemory;
use rustls::RootCertStore;
use tidemill_core::host::{ByteRange, HostError};

use self::synthetic::Synthetic;
use super::*;
use crate::{
    bucket::{Error, remote::Remote, store::Look},
    client, services,
};

/// A connector as tests want it: it does not wait to ask again.
const OFTEN: Duration = Duration::from_millis(20);

pub(super) fn memory() -> Bucket {
    Bucket::over(Remote::over("b", Arc::new(InMemory::new())))
}

/// The plan of a bucket of a server; `place` is what follows `s3://`.
fn plan(place: &str, endpoint: &str) -> String {
    format!(
        r#"
        [buckets.b]
        url = "s3://{place}"
        options = {{ endpoint = "{endpoint}", access_key_id = "id", secret_access_key = "hunter2" }}
        "#
    )
}

fn s3(place: &str, endpoint: &str) -> Bucket {
    let text = plan(place, endpoint);
    let loaded = tidemill_config::parse(Path::new("/plan/tidemill.toml"), &text).unwrap();
    Settings::of(&loaded.plan)[0].open().unwrap()
}

/// A bucket made for one test, on the server.
pub(super) struct Made {
    pub(super) name: String,
    pub(super) endpoint: String,
}

impl Made {
    pub(super) async fn new() -> Made {
        let made = Made::absent();
        made.send(Method::PUT, "", "").await;
        made
    }

    fn absent() -> Made {
        Made {
            name: format!("t-{:016x}", fastrand::u64(..)),
            endpoint: services::s3_endpoint(),
        }
    }

    pub(super) fn plan(&self, prefix: &str) -> String {
        plan(&format!("{}{prefix}", self.name), &self.endpoint)
    }

    pub(super) fn bucket(&self, prefix: &str) -> Bucket {
        s3(&format!("{}{prefix}", self.name), &self.endpoint)
    }

    /// A request past object_store; `path` is percent-encoded already.
    pub(super) async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) {
        let client = client::client(RootCertStore::empty());
        let uri = format!("{}/{}{path}", self.endpoint, self.name);
        let request = Request::builder().method(method).uri(uri);
        let request = request.body(Full::new(body.into())).unwrap();
        let response = client.request(request).await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
        response.into_body().collect().await.unwrap();
    }
}

/// Each kind of bucket, empty.
async fn buckets(world: &World) -> [Bucket; 4] {
    let made = Made::new().await;
    let other = Made::new().await;
    [
        world.bucket(),
        memory(),
        made.bucket(""),
        other.bucket("/in/a+b %20"),
    ]
}

fn range(offset: u64, length: u64) -> Option<ByteRange> {
    Some(ByteRange { offset, length })
}

#[tokio::test]
async fn all_kinds_read_alike() {
    let world = World::new();
    for bucket in buckets(&world).await {
        let etag = bucket.put("d/a", "0123456789".into(), 0).await.unwrap();
        let head = bucket.head("d/a").await.unwrap();
        assert_eq!(
            (head.key.as_str(), head.size, &head.etag),
            ("d/a", 10, &etag)
        );
        for (wanted, expected) in [
            (None, "0123456789"),
            (range(2, 3), "234"),
            (range(8, 100), "89"),
            (range(10, 1), ""),
            (range(99, u64::MAX), ""),
            (range(5, 0), ""),
        ] {
            let read = bucket.read("d/a", Some(&etag), wanted, 10).await.unwrap();
            assert_eq!(read, expected, "{wanted:?} of {bucket:?}");
        }
        let large = bucket.read("d/a", None, None, 9).await.unwrap_err();
        assert!(matches!(large, Error::TooLarge { size: 10, .. }));

        bucket.put("d/a", "other".into(), 0).await.unwrap();
        for wanted in [None, range(1, 2), range(99, 1), range(0, 0)] {
            let changed = bucket.read("d/a", Some(&etag), wanted, 10).await;
            let changed = HostError::from(changed.unwrap_err());
            assert_eq!(changed, HostError::Changed, "{wanted:?} of {bucket:?}");
        }
        let changed = bucket.delete("d/a", Some(&etag)).await.unwrap_err();
        assert!(matches!(changed, Error::Changed { .. }), "{changed:?}");
        assert!(bucket.delete("d/a", None).await.unwrap());
        assert!(!bucket.delete("d/a", None).await.unwrap());
        for wanted in [None, range(0, 1), range(0, 0)] {
            let none = bucket.read("d/a", None, wanted, 10).await.unwrap_err();
            assert_eq!(HostError::from(none), HostError::NotFound, "{bucket:?}");
        }
        for key in ["", "/a", "a/", "a//b", "../a", "a/../b", "a\nb"] {
            let refused = bucket.put(key, "x".into(), 0).await.unwrap_err();
            assert!(matches!(refused, Error::Refused { .. }), "{key:?}");
        }
    }
}

#[tokio::test]
async fn all_kinds_list_in_order_and_in_pages_what_head_describes() {
    let world = World::new();
    for bucket in buckets(&world).await {
        let odd = [
            "a-",
            "a/b",
            "a/bb/c",
            "a0",
            "b#x",
            "ä",
            "z/z/z",
            "z/é",
            "s p/a ce",
            "a+b",
            "100%",
            "%2E",
            "q?x=1&y",
            "a&amp;<b>",
            "日本/語.txt",
        ];
        let mut keys: Vec<String> = odd.map(str::to_owned).into();
        keys.extend((0..7).map(|n| format!("many/{n:03}")));
        for key in &keys {
            let written = bucket.put(key, key.clone().into(), 0).await;
            written.unwrap_or_else(|error| panic!("{key}: {}", error.chain()));
        }
        keys.sort();
        let listed = bucket.list("", None, 1000).await.unwrap();
        let names: Vec<_> = listed.iter().map(|object| &object.key).collect();
        assert_eq!(names, keys.iter().collect::<Vec<_>>(), "{bucket:?}");
        for object in &listed {
            assert_eq!(&bucket.head(&object.key).await.unwrap(), object);
            let read = bucket.read(&object.key, Some(&object.etag), None, 99).await;
            assert_eq!(read.unwrap(), object.key);
        }
        for prefix in ["", "a", "a/b", "many/", "many/00", "none/", "ä", "%", "日"] {
            for page in [2, 1000] {
                let (mut all, mut after) = (Vec::new(), None);
                loop {
                    let listed = bucket.list(prefix, after.as_deref(), page).await.unwrap();
                    let Some(last) = listed.last() else { break };
                    assert!(listed.len() <= page);
                    after = Some(last.key.clone());
                    all.extend(listed.into_iter().map(|o| o.key));
                }
                let expected = keys.iter().filter(|k| k.starts_with(prefix));
                let expected: Vec<_> = expected.cloned().collect();
                assert_eq!(all, expected, "{prefix:?} by {page} of {bucket:?}");
            }
        }
    }
}

#[tokio::test]
async fn large_objects_go_in_parts_and_all_carry_their_hops() {
    let made = Made::new().await;
    let content: Vec<u8> = (0..20_000_001u32).map(|n| (n % 251) as u8).collect();
    for bucket in [memory(), made.bucket("/p")] {
        bucket.put("small", "x".into(), 3).await.unwrap();
        let etag = bucket.put("large", content.clone().into(), 16).await;
        let etag = etag.unwrap();
        for (key, expected) in [("small", 3), ("large", 16)] {
            let Look::Object(_, hops) = bucket.look(key).await.unwrap() else {
                panic!("{key} is not there");
            };
            assert_eq!(hops, expected, "{key} of {bucket:?}");
        }
        let read = bucket.read("large", Some(&etag), None, 1 << 30).await;
        assert!(read.unwrap() == content);
        let copied = bucket.copy("large", &etag, &bucket, "copy", 4).await;
        assert_eq!(
            bucket.head("copy").await.unwrap().etag,
            copied.unwrap(),
            "{bucket:?}"
        );
        assert!(bucket.read("copy", None, None, 1 << 30).await.unwrap() == content);
        let Look::Object(_, 4) = bucket.look("copy").await.unwrap() else {
            panic!("a copy carries the hops that it was told");
        };
        assert!(bucket.is_same("copy", &bucket.clone(), "copy"));
        assert!(!bucket.is_same("copy", &bucket, "large"));
    }
    let whole = made.bucket("");
    assert!(whole.is_same("p/copy", &made.bucket("/p"), "copy"));
}

fn launch(bucket: &Bucket, ledger: &Arc<Ledger>) -> Running {
    let mut connector = BucketConnector::new(bucket.clone(), OFTEN);
    connector.tuning = QUICK;
    let (health, stop) = (connector.health(), CancellationToken::new());
    let task = tokio::spawn(connector.run(ledger.clone(), stop.clone()));
    Running { health, stop, task }
}

fn listing(state: &State, ready: bool) -> bool {
    ready && *state == State::Listing
}

#[tokio::test]
async fn every_change_becomes_an_event_once() {
    let made = Made::new().await;
    for bucket in [memory(), made.bucket("/in")] {
        let ledger: Arc<Ledger> = Arc::default();
        bucket.put("before", "1".into(), 0).await.unwrap();
        bucket.put("d/ü b+%", "1".into(), 7).await.unwrap();
        let running = launch(&bucket, &ledger);
        running.reached(listing).await;
        let first = ["created before", "created d/ü b+%"];
        ledger.expect(&first).await;
        let hops = ledger.with(|l| l.offers.iter().map(|event| event.hops).max());
        assert_eq!(hops, Some(7), "they travel with the object");

        bucket.put("before", "22".into(), 0).await.unwrap();
        ledger.expect(&["created before"]).await;
        bucket.delete("d/ü b+%", None).await.unwrap();
        ledger.expect(&["deleted d/ü b+%"]).await;
        bucket.put("d/ü b+%", "1".into(), 0).await.unwrap();
        ledger.expect(&["created d/ü b+%"]).await;
        running.stop().await;

        // While nobody looked, one was written, one deleted, and one stays as it is.
        bucket.put("meanwhile", "1".into(), 0).await.unwrap();
        bucket.delete("before", None).await.unwrap();
        let running = launch(&bucket, &ledger);
        ledger
            .expect(&["created meanwhile", "deleted before"])
            .await;
        bucket.put("~last", "1".into(), 0).await.unwrap();
        ledger.expect(&["created ~last"]).await;
        let listed = bucket.list("", None, 99).await.unwrap();
        let listed: Vec<_> = listed.into_iter().map(|o| (o.key, o.etag)).collect();
        assert_eq!(ledger.objects(), listed);
        running.stop().await;
    }
}

#[tokio::test]
async fn many_objects_are_compared_page_by_page() {
    let bucket = memory();
    let ledger: Arc<Ledger> = Arc::default();
    let key = |n: usize| format!("{:02}/{n:05}", n % 7);
    for n in 0..2500 {
        bucket.put(&key(n), "1".into(), 0).await.unwrap();
    }
    // The journal is full now and then, and receipts are lost.
    ledger.with(|l| (l.refusals, l.lost) = (100, 100));
    let running = launch(&bucket, &ledger);
    ledger.wait("all", |l| l.events.len() == 2500).await;
    for n in (0..2500).step_by(3) {
        bucket.delete(&key(n), None).await.unwrap();
    }
    for n in 2500..3600 {
        bucket.put(&key(n), "1".into(), 0).await.unwrap();
    }
    let changes = 2500 + 834 + 1100;
    ledger
        .wait("all changes", |l| l.events.len() == changes)
        .await;
    bucket.put("~last", "1".into(), 0).await.unwrap();
    ledger
        .wait("the last", |l| l.entries.contains_key("~last"))
        .await;
    let listed = bucket.list("", None, 9999).await.unwrap();
    let listed: Vec<_> = listed.into_iter().map(|o| (o.key, o.etag)).collect();
    assert_eq!(ledger.objects(), listed);
    assert_eq!(ledger.with(|l| l.events.len()), changes + 1, "and no more");
    running.stop().await;
}

#[tokio::test]
async fn keys_that_are_no_paths_are_reported_and_hide_nobody() {
    let made = Made::new().await;
    for path in ["/a", "/a//b", "/folder/", "/%2Fleading", "/x/../y", "/z"] {
        // Sent as they are: clients that tidy paths up would change them.
        made.send(Method::PUT, path, "x").await;
    }
    made.send(Method::PUT, "/marker/", "").await;
    let (bucket, ledger) = (made.bucket(""), Arc::<Ledger>::default());
    let running = launch(&bucket, &ledger);
    running.reached(listing).await;
    let listed = bucket.list("", None, 99).await.unwrap();
    let listed: Vec<_> = listed.into_iter().map(|o| o.key).collect();
    let expected: Vec<_> = listed.iter().map(|key| format!("created {key}")).collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    assert!(listed.contains(&"a".into()) && listed.contains(&"z".into()));
    assert!(!listed.iter().any(|key| key.contains("//")));
    ledger.expect(&expected).await;
    assert!(running.health.status().refused >= 2);
    running.stop().await;
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_waited_for() {
    let made = Made::absent();
    let (bucket, ledger) = (made.bucket(""), Arc::<Ledger>::default());
    let running = launch(&bucket, &ledger);
    running
        .reached(|state, ready| !ready && matches!(state, State::Unreachable(_)))
        .await;
    let State::Unreachable(why) = running.health.status().state else {
        panic!("it is not there yet");
    };
    let place = format!("s3://{}/", made.name);
    assert!(
        why.contains(&place) && why.contains("NoSuchBucket"),
        "{why}"
    );
    made.send(Method::PUT, "", "").await;
    made.send(Method::PUT, "/a", "x").await;
    running.reached(listing).await;
    ledger.expect(&["created a"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_so_without_secrets() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let bucket = s3("gone/p", &endpoint);
    for error in [
        bucket.list("", None, 1).await.unwrap_err(),
        bucket.head("a").await.unwrap_err(),
        bucket.put("a", "x".into(), 0).await.unwrap_err(),
    ] {
        let text = error.chain();
        assert!(text.contains("bucket `b`"), "{text}");
        assert!(text.contains("refused"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let traffic = bucket.traffic().unwrap();
    assert!(traffic.requests() >= 3 && traffic.failed() == traffic.requests());
}

#[tokio::test]
async fn a_server_that_knows_no_conditions_gives_no_other_version_than_was_asked_for() {
    // It takes no notice of If-Match.
    let bucket = s3("any", &Synthetic::start(1, 10).endpoint());
    let head = bucket.head("000000000").await.unwrap();
    for wanted in [None, range(2, 3)] {
        let read = bucket.read("000000000", Some(&head.etag), wanted, 10);
        assert!(read.await.is_ok(), "{wanted:?}");
        let other = bucket.read("000000000", Some("other"), wanted, 10).await;
        let other = HostError::from(other.unwrap_err());
        assert_eq!(other, HostError::Changed, "{wanted:?}");
    }
}
