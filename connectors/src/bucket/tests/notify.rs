//! Notifications of a real server, by a real queue, and notifications that are handed over, on a store
//! in memory. The bucket is listed once, at the start.

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use rustls::RootCertStore;
use serde_json::json;
use url::form_urlencoded::Serializer;

use super::{
    remote::{Made, memory},
    *,
};
use crate::{
    bucket::{Hook, Told, Verdict, notify::Feed},
    client,
};

/// A queue made for one test.
struct Queue {
    endpoint: String,
    name: String,
}

impl Queue {
    async fn new(made: &Made) -> Queue {
        let queue = Queue {
            endpoint: made.endpoint.clone(),
            name: made.name.clone(),
        };
        let name = queue.name.clone();
        queue
            .ask(&[("Action", "CreateQueue"), ("QueueName", &name)])
            .await;
        queue
    }

    fn url(&self) -> String {
        format!("{}/123456789012/{}", self.endpoint, self.name)
    }

    async fn send(&self, body: &str) {
        let url = self.url();
        let form = [
            ("Action", "SendMessage"),
            ("QueueUrl", &url),
            ("MessageBody", body),
        ];
        self.ask(&form).await;
    }

    /// How many messages there are, those that somebody works on included.
    async fn length(&self) -> usize {
        let (free, taken) = self.lengths().await;
        free + taken
    }

    /// How many messages anybody may have, and how many somebody works on.
    async fn lengths(&self) -> (usize, usize) {
        let url = self.url();
        let form = [
            ("Action", "GetQueueAttributes"),
            ("QueueUrl", &url),
            ("AttributeName.1", "All"),
        ];
        let answer = self.ask(&form).await;
        let count = |name: &str| -> usize {
            let (_, rest) = answer
                .split_once(&format!("<Name>{name}</Name><Value>"))
                .unwrap();
            rest.split_once('<').unwrap().0.parse().unwrap()
        };
        let free = count("ApproximateNumberOfMessages");
        (free, count("ApproximateNumberOfMessagesNotVisible"))
    }

    async fn reaches(&self, length: usize) {
        let reached = async { while self.length().await != length {} };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("the queue does not come to {length} messages"));
    }

    async fn ask(&self, form: &[(&str, &str)]) -> String {
        let body = Serializer::new(String::new()).extend_pairs(form).finish();
        let request = Request::post(format!("{}/", self.endpoint))
            .header("content-type", "application/x-www-form-urlencoded")
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0",
            )
            .body(Full::from(body))
            .unwrap();
        let response = client::client(RootCertStore::empty())
            .request(request)
            .await;
        let response = response.unwrap();
        assert!(response.status().is_success(), "{response:?}");
        let answer = response.into_body().collect().await.unwrap();
        String::from_utf8(answer.to_bytes().into()).unwrap()
    }
}

/// A connector that takes the queue's notifications.
async fn start(made: &Made, prefix: &str, queue: &Queue, ledger: &Arc<Ledger>) -> Running {
    start_hiding(made, prefix, queue, ledger, Duration::from_secs(60)).await
}

/// The same, which keeps messages from others for so long at a time.
async fn start_hiding(
    made: &Made,
    prefix: &str,
    queue: &Queue,
    ledger: &Arc<Ledger>,
    hidden: Duration,
) -> Running {
    let text = made.plan(prefix);
    let text = format!(
        r#"{text}
        [functions.f]
        component = "f.wasm"
        [triggers.t]
        function = "f"
        bucket = {{ name = "b", rescan = "24h", notify = {{ sqs = {{ queue = "{}" }} }} }}
        "#,
        queue.url()
    );
    let loaded = tidemill_config::parse(Path::new("/plan/tidemill.toml"), &text).unwrap();
    let settings = Settings::of(&loaded.plan).remove(0);
    let connector = BucketConnector::new(settings.open().unwrap(), settings.rescan.unwrap());
    let mut connector = connector.notified(&settings.notify.unwrap()).unwrap();
    connector.tuning = QUICK;
    let Some(Feed::Sqs(sqs)) = &mut connector.feed else {
        panic!("it has a queue");
    };
    sqs.hidden = hidden;
    let (health, stop) = (connector.health(), CancellationToken::new());
    let task = tokio::spawn(connector.run(ledger.clone(), stop.clone()));
    let running = Running { health, stop, task };
    running
        .reached(|state, ready| ready && *state == State::Listing)
        .await;
    running
}

/// Has the server tell the queue of all that becomes of the bucket's objects.
async fn subscribe(made: &Made, queue: &Queue) {
    let name = &queue.name;
    let text = format!(
        "<NotificationConfiguration><QueueConfiguration><Id>all</Id>\
         <Queue>arn:aws:sqs:us-east-1:123456789012:{name}</Queue>\
         <Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event>\
         </QueueConfiguration></NotificationConfiguration>"
    );
    made.send(Method::PUT, "?notification", text).await;
}

fn record(bucket: &str, name: &str, key: &str) -> serde_json::Value {
    json!({
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": "2026-03-14T15:09:26.535Z",
        "eventName": name,
        "s3": { "bucket": { "name": bucket }, "object": { "key": key } },
    })
}

#[tokio::test]
async fn each_change_that_the_store_tells_of_becomes_an_event_once() {
    let made = Made::new().await;
    let queue = Queue::new(&made).await;
    let (bucket, ledger) = (made.bucket("/in"), Arc::<Ledger>::default());
    bucket.put("before", "1".into(), 0).await.unwrap();
    subscribe(&made, &queue).await;
    let running = start(&made, "/in", &queue, &ledger).await;
    ledger.expect(&["created before"]).await;

    bucket.put("d/ü b+%", "1".into(), 7).await.unwrap();
    ledger.expect(&["created d/ü b+%"]).await;
    bucket.put("d/ü b+%", "22".into(), 0).await.unwrap();
    ledger.expect(&["created d/ü b+%"]).await;
    bucket.delete("d/ü b+%", None).await.unwrap();
    ledger.expect(&["deleted d/ü b+%"]).await;
    bucket.put("d/ü b+%", "22".into(), 0).await.unwrap();
    ledger.expect(&["created d/ü b+%"]).await;
    // Of others.
    made.bucket("").put("out/a", "1".into(), 0).await.unwrap();
    // The same bytes again are no news.
    bucket.put("before", "1".into(), 0).await.unwrap();
    bucket.put("~last", "1".into(), 0).await.unwrap();
    ledger.expect(&["created ~last"]).await;
    queue.reaches(0).await;
    running.offered(6).await;
    let status = running.health.status();
    assert_eq!(
        (status.offered, status.noticed.by_notification),
        (6, 4),
        "one was listed, and one went"
    );
    let expected = Told {
        records: 6,
        elsewhere: 1,
        // With which the server tried the queue.
        others: 1,
        ..Told::default()
    };
    assert_eq!(status.told, Some(expected));
    running.stop().await;
}

#[tokio::test]
async fn a_notification_may_come_late_twice_wrongly_and_of_strangers() {
    let made = Made::new().await;
    let queue = Queue::new(&made).await;
    let (bucket, ledger) = (made.bucket(""), Arc::<Ledger>::default());
    let running = start(&made, "", &queue, &ledger).await;
    for key in ["a", "b", "c"] {
        bucket.put(key, "1".into(), 0).await.unwrap();
    }
    let created = |key| record(&made.name, "ObjectCreated:Put", key);
    let deleted = |key| record(&made.name, "ObjectRemoved:Delete", key);

    // Told of its end before its beginning, thrice, and of what never was.
    queue
        .send(&json!({ "Records": [deleted("a")] }).to_string())
        .await;
    let several =
        json!({ "Records": [created("a"), created("a"), deleted("gone"), created("never")] });
    queue.send(&several.to_string()).await;
    queue.send(&several.to_string()).await;
    ledger.expect(&["created a"]).await;

    // By SNS, and by EventBridge.
    let wrapped = json!({ "Type": "Notification", "Message": json!({ "Records": [created("b")] }).to_string() });
    queue.send(&wrapped.to_string()).await;
    ledger.expect(&["created b"]).await;
    let detail = json!({ "bucket": { "name": made.name }, "object": { "key": "c" } });
    let bridge = json!({ "detail-type": "Object Created", "source": "aws.s3", "detail": detail });
    queue.send(&bridge.to_string()).await;
    ledger.expect(&["created c"]).await;

    // Not ours, not from a store, not a key.
    bucket.delete("a", None).await.unwrap();
    queue
        .send(&json!({ "Records": [record("other", "ObjectRemoved:Delete", "a")] }).to_string())
        .await;
    queue.send("an order").await;
    queue
        .send(&json!({ "Records": [created("x//y"), created("folder/")] }).to_string())
        .await;
    bucket.put("~last", "1".into(), 0).await.unwrap();
    queue
        .send(&json!({ "Records": [created("~last")] }).to_string())
        .await;
    ledger.expect(&["created ~last"]).await;
    // What no store wrote is not ours to delete.
    queue.reaches(1).await;
    let told = running.health.status().told.unwrap();
    assert_eq!(
        (told.records, told.elsewhere, told.strange),
        (14, 1, 1),
        "{told:?}"
    );
    // The next run lists, and finds what nobody told.
    running.stop().await;
    let running = start(&made, "", &queue, &ledger).await;
    ledger.expect(&["deleted a"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_notification_waits_for_the_journal_in_its_queue() {
    let made = Made::new().await;
    let queue = Queue::new(&made).await;
    subscribe(&made, &queue).await;
    let (bucket, ledger) = (made.bucket(""), Arc::<Ledger>::default());
    let hidden = Duration::from_secs(4);
    let running = start_hiding(&made, "", &queue, &ledger, hidden).await;
    queue.reaches(0).await;
    ledger.with(|l| l.refusals = usize::MAX);
    bucket.put("a", "1".into(), 0).await.unwrap();
    ledger.wait("the journal is full", |l| l.refused > 3).await;
    // It is kept from other receivers for as long as it takes.
    let until = std::time::Instant::now() + hidden * 3 / 2;
    while std::time::Instant::now() < until {
        assert_eq!(queue.lengths().await, (0, 1));
    }
    ledger.with(|l| l.refusals = 0);
    ledger.expect(&["created a"]).await;
    queue.reaches(0).await;
    let told = running.health.status().told.unwrap();
    assert_eq!(told.records, 1, "nor did it come here again: {told:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_told_and_waited_for() {
    let made = Made::new().await;
    let absent = Queue {
        endpoint: made.endpoint.clone(),
        name: made.name.clone(),
    };
    let (bucket, ledger) = (made.bucket(""), Arc::<Ledger>::default());
    bucket.put("a", "1".into(), 0).await.unwrap();
    let running = start(&made, "", &absent, &ledger).await;
    ledger.expect(&["created a"]).await;
    let trouble = async {
        loop {
            match running.health.status().told.and_then(|told| told.trouble) {
                Some(trouble) => break trouble,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let trouble = tokio::time::timeout(PATIENCE, trouble).await.unwrap();
    assert!(trouble.contains(&absent.url()), "{trouble}");
    assert!(trouble.contains("NonExistentQueue"), "{trouble}");
    assert!(
        !trouble.contains("hunter2") && trouble.len() < 400,
        "{trouble}"
    );
    let queue = Queue::new(&made).await;
    subscribe(&made, &queue).await;
    bucket.put("b", "1".into(), 0).await.unwrap();
    ledger.expect(&["created b"]).await;
    assert_eq!(running.health.status().told.unwrap().trouble, None);
    running.stop().await;
}

/// A connector of a bucket in memory, and the hook of its notifications.
async fn hooked(bucket: &Bucket, ledger: &Arc<Ledger>) -> (Running, Hook) {
    let (mut connector, hook) = BucketConnector::new(bucket.clone(), NEVER).hooked();
    connector.tuning = QUICK;
    let (health, stop) = (connector.health(), CancellationToken::new());
    let task = tokio::spawn(connector.run(ledger.clone(), stop.clone()));
    let running = Running { health, stop, task };
    running
        .reached(|state, ready| ready && *state == State::Listing)
        .await;
    (running, hook)
}

fn message(name: &str, key: &str) -> bytes::Bytes {
    let key: String =
        url::form_urlencoded::byte_serialize(format!("in/{key}").as_bytes()).collect();
    json!({ "Records": [record("b", name, &key)] })
        .to_string()
        .into()
}

#[tokio::test]
async fn who_hands_a_notification_over_hears_what_became_of_it() {
    let (bucket, ledger) = (memory(), Arc::<Ledger>::default());
    let (running, hook) = hooked(&bucket, &ledger).await;
    bucket.put("ü b+%", "1".into(), 0).await.unwrap();
    let created = message("ObjectCreated:Put", "ü b+%");
    assert_eq!(hook.tell("1".into(), created.clone()).await, Verdict::Taken);
    ledger.expect(&["created ü b+%"]).await;
    assert_eq!(hook.tell("2".into(), created.clone()).await, Verdict::Taken);
    assert_eq!(hook.tell("3".into(), "{}".into()).await, Verdict::Strange);

    // One that the journal does not take has no verdict before the engine stops.
    bucket.delete("ü b+%", None).await.unwrap();
    ledger.with(|l| l.refusals = usize::MAX);
    let waiting = tokio::spawn({
        let hook = hook.clone();
        async move {
            hook.tell("4".into(), message("ObjectRemoved:Delete", "ü b+%"))
                .await
        }
    });
    ledger.wait("it was offered", |l| l.refused > 3).await;
    assert!(!waiting.is_finished());
    running.stop().await;
    assert_eq!(waiting.await.unwrap(), Verdict::Stopping);
    assert_eq!(hook.tell("5".into(), created).await, Verdict::Stopping);
}

/// Each change is told of once it was made, and much else is told besides: no change is an event twice,
/// and the ledger ends where the store is, though nobody looks after the last change was told.
#[tokio::test]
async fn any_notifications_in_any_order_lead_to_what_the_store_has() {
    let seed = std::env::var("TIDEMILL_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("TIDEMILL_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (bucket, ledger) = (memory(), Arc::<Ledger>::default());
    let (running, hook) = hooked(&bucket, &ledger).await;
    let names = ["ObjectCreated:Put", "ObjectRemoved:Delete"];
    let keys = ["a", "b", "c"];
    let mut told = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let changed = *random.choice(&keys).unwrap();
        let mut tells = vec![match random.u8(0..3) {
            0 => {
                bucket.delete(changed, None).await.unwrap();
                (names[1], changed)
            }
            _ => {
                let content = format!("{}", random.u8(0..3));
                bucket.put(changed, content.into(), 0).await.unwrap();
                (names[0], changed)
            }
        }];
        for _ in 0..random.u8(0..4) {
            tells.push((
                *random.choice(&names).unwrap(),
                *random.choice(&keys).unwrap(),
            ));
        }
        random.shuffle(&mut tells);
        for (name, key) in tells {
            let (hook, message) = (hook.clone(), message(name, key));
            told.spawn(async move { hook.tell("one".into(), message).await });
        }
        // The others get anywhere, or nowhere.
        for _ in 0..random.u8(0..30) {
            tokio::task::yield_now().await;
        }
        if n % 10 == 9 {
            while let Some(verdict) = told.join_next().await {
                assert_eq!(verdict.unwrap(), Verdict::Taken);
            }
            let listed = bucket.list("", None, 99).await.unwrap();
            let listed: Vec<_> = listed.into_iter().map(|o| (o.key, o.etag)).collect();
            assert_eq!(ledger.objects(), listed, "after {n} changes");
            // From time to time a receipt is lost, or the journal is full.
            let faults = usize::from(random.u8(0..5) == 0);
            ledger.with(|l| (l.refusals, l.lost) = (faults, faults));
        }
    }
    let accepted = ledger.with(|l| l.events.len());
    println!("{accepted} events");
    assert!(accepted > 20);
    running.stop().await;
}
