//! Triggers, by what they listen to.

use std::time::Duration;

use tidemill_config::{
    Loaded,
    plan::{
        AmqpDestination, AmqpSource, Connection, Cors, DestinationPlan, KafkaDestination,
        KafkaSource, Mode, Order, Provider, SourcePlan, Start, Store, Verify,
    },
};
use tidemill_core::{
    dispatch::Batch,
    schedule::{CatchUp, Overlap, When},
};

use crate::{http, loaded, trigger, warned};

#[test]
fn object_stores_and_their_options() {
    let text = r#"
        [buckets.archive]
        url = "s3://my-archive/2026/"
        options = { endpoint = "http://127.0.0.1:9000", region = "eu-west-1", access_key_id = "${env:ID}", secret_access_key = "${env:KEY}" }
        [buckets.host]
        url = "s3://my-archive"
        options = { path_style = false, anonymous = true }
        [buckets.google]
        url = "gs://photos"
        options = { service_account = "${file:/run/secrets/google.json}" }
        [buckets.azure]
        url = "az://photos/a b"
        options = { account = "tide", access_key = "${env:AZURE}" }
    "#;
    let plan = loaded(text).plan;
    assert_eq!(plan.not_built, []);
    let archive = &plan.buckets["archive"];
    assert_eq!(
        archive.store,
        Store::Remote {
            provider: Provider::S3,
            bucket: "my-archive".into(),
            prefix: "2026".into()
        }
    );
    let shown = format!("{:?}", archive.options);
    assert!(archive.options.path_style && !archive.options.anonymous);
    assert!(archive.options.secret_access_key.is_some() && !shown.contains("9000"));
    let host = &plan.buckets["host"].options;
    assert!(!host.path_style && host.anonymous && host.endpoint.is_none());
    assert!(plan.buckets["google"].options.service_account.is_some());
    assert!(plan.buckets["azure"].options.access_key.is_some());
}

#[test]
fn requests() {
    let Loaded { plan, warnings } = loaded(
        r#"
        functions.f.component = "f"
        [triggers.plain]
        function = "f"
        http = { path = "/plain" }
        [triggers.hook]
        function = "f"
        http = { path = "/hooks/{name}/{*rest}", methods = ["GET", "PUT"], max_body = "1GiB", verify = { hmac_sha256 = { header = "X-Signature", secret = "${env:S}" } } }
        [triggers.call]
        function = "f"
        [triggers.call.http]
        path = "/call"
        mode = "sync"
        verify.bearer = "${env:T}"
        [triggers.call.http.cors]
        origins = ["https://a.example.com", "http://localhost:3000", "http://[::1]:81"]
        headers = ["X-Key"]
        credentials = true
        max_age = "1h"
        [triggers.other-method]
        function = "f"
        http = { path = "/call", methods = ["DELETE"], mode = "sync", verify = { bearer = "${env:T}" }, cors = { origins = ["https://a.example.com", "http://localhost:3000", "http://[::1]:81"], headers = ["X-Key"], credentials = true, max_age = "1h" } }
        [triggers.open]
        function = "f"
        http = { path = "/open", cors = { origins = ["*"], headers = ["*"] } }
        [triggers.open-too]
        function = "f"
        http = { path = "/open", cors = { headers = ["*"], origins = ["*"], max_age = "300s" } }
        "#,
    );
    assert!(
        warnings.is_empty() && plan.not_built.is_empty(),
        "{warnings:?}"
    );
    let plain = http(trigger(&plan, "plain"));
    assert_eq!(
        (plain.path.as_str(), &plain.methods[..]),
        ("/plain", &["POST".to_owned()][..])
    );
    assert_eq!((plain.mode, plain.max_body), (Mode::Async, 6 << 20));
    assert!(plain.verify.is_none() && plain.cors.is_none());
    let hook = http(trigger(&plan, "hook"));
    assert_eq!(hook.path, "/hooks/{name}/{*rest}");
    assert_eq!(
        (&hook.methods[..], hook.max_body),
        (&["GET".to_owned(), "PUT".into()][..], 1 << 30)
    );
    let Some(Verify::HmacSha256 { header, secret }) = &hook.verify else {
        panic!("{hook:?}")
    };
    assert_eq!(
        (header.as_str(), format!("{secret:?}")),
        ("x-signature", "${env:S}".into())
    );
    let call = http(trigger(&plan, "call"));
    assert_eq!(call.mode, Mode::Sync);
    assert!(
        matches!(&call.verify, Some(Verify::Bearer(token)) if format!("{token:?}") == "${env:T}")
    );
    let cors = Cors {
        origins: [
            "https://a.example.com",
            "http://localhost:3000",
            "http://[::1]:81",
        ]
        .map(String::from)
        .into(),
        headers: vec!["x-key".into()],
        credentials: true,
        max_age: Duration::from_secs(3600),
    };
    assert_eq!(call.cors, Some(cors));
    let open = http(trigger(&plan, "open")).cors.as_ref().unwrap();
    assert_eq!(
        (open.credentials, open.max_age),
        (false, Duration::from_secs(300))
    );
}

#[test]
fn schedules() {
    let Loaded { plan, warnings } = loaded(
        r#"
        functions.f.component = "f"
        [triggers.nightly]
        function = "f"
        schedule = { cron = "0 2 * * mon-fri", timezone = "Europe/Berlin", catch_up = "all", overlap = "queue", jitter = "1h" }
        [triggers.seconds]
        function = "f"
        schedule = { cron = "*/10 * * * * *" }
        [triggers.often]
        function = "f"
        schedule = { every = "5m", catch_up = "none", overlap = "allow", jitter = "299s" }
        [triggers.once]
        function = "f"
        schedule = { at = 2027-01-01T00:00:00+01:00 }
        [triggers.once-more]
        function = "f"
        schedule = { at = "2026-12-31T23:00:00Z" }
        "#,
    );
    assert!(
        warnings.is_empty() && plan.not_built.is_empty(),
        "{warnings:?}"
    );
    let schedule = |name: &str| match &trigger(&plan, name).source {
        SourcePlan::Schedule(schedule) => schedule.clone(),
        other => panic!("{other:?}"),
    };
    let nightly = schedule("nightly");
    let When::Cron(cron) = &nightly.when else {
        panic!("{nightly:?}")
    };
    assert_eq!(
        (cron.expression(), cron.zone()),
        ("0 2 * * MON-FRI", "Europe/Berlin")
    );
    assert_eq!(nightly.jitter, Duration::from_secs(3600));
    assert_eq!(
        (nightly.catch_up, nightly.overlap),
        (CatchUp::All, Overlap::Queue)
    );
    let seconds = schedule("seconds");
    assert_eq!(seconds.definition(), "cron */10 * * * * * UTC");
    assert_eq!(
        (seconds.catch_up, seconds.overlap),
        (CatchUp::Latest, Overlap::Skip)
    );
    let often = schedule("often");
    assert_eq!(often.when, When::Every(Duration::from_secs(300)));
    assert_eq!(
        (often.catch_up, often.overlap),
        (CatchUp::None, Overlap::Allow)
    );
    let once = "2026-12-31T23:00:00Z".parse().unwrap();
    assert_eq!(schedule("once").when, When::At(once));
    assert_eq!(schedule("once-more").when, When::At(once));
}

#[test]
fn queues_and_topics() {
    let Loaded { plan, warnings } = loaded(
        r#"
        functions.f.component = "f"
        connections.whole.amqp = "${env:AMQP_URL}"
        connections.host.amqp = "amqps://guest:${env:AMQP_PASSWORD}@${env:AMQP_HOST}"
        connections.vhost.amqp = "amqp://guest:p%2Fw@[::1]:5672/a%2Fb?heartbeat=10"
        connections.plain.amqp = "amqp://rabbit"
        [connections.k.kafka]
        brokers = ["k1.example.com:9092", "[::1]:9093"]
        [connections.k.kafka.properties]
        "security.protocol" = "SASL_SSL"
        "sasl.password" = "${file:/run/secrets/kafka}"
        [triggers.plain]
        function = "f"
        amqp = { connection = "plain", queue = "orders" }
        idempotency = { key = "$.id" }
        batch = { max = 1 }
        [triggers.given]
        function = "f"
        amqp = { connection = "vhost", queue = "Bestellungen für heute", prefetch = 10, max_payload = "6MiB", declare = true }
        idempotency = { key = "$.id" }
        order_by = "$.customer"
        batch = { max = 10, wait = "0s", bytes = "64KiB" }
        on_success = { amqp = { connection = "vhost", exchange = "billed" } }
        dead_letter = { amqp = { connection = "vhost", exchange = "", routing_key = "dead" } }
        [triggers.defaults]
        function = "f"
        kafka = { connection = "k", topics = ["b", "a"] }
        [triggers.same-consumer]
        function = "f"
        kafka = { connection = "k", topics = ["a", "b"], group = "tidemill", start = "earliest" }
        order_by = "partition"
        [triggers.latest]
        function = "f"
        kafka = { connection = "k", topics = ["c"], start = "latest" }
        order_by = "none"
        on_success = { kafka = { connection = "k", topic = "done" } }
        [triggers.instant]
        function = "f"
        kafka = { connection = "k", topics = ["a"], group = "replay", start = "1970-01-01T01:00:01+01:00" }
        order_by = "header:Customer"
        batch = {}
        [triggers.date]
        function = "f"
        kafka = { connection = "k", topics = ["a"], group = "replay-2", start = 1970-01-01T00:00:02Z }
        [triggers.hook]
        function = "f"
        http = { path = "/hook" }
        batch = { max = 10_000, wait = "5m", bytes = "64MiB" }
        "#,
    );
    assert!(
        warnings.is_empty() && plan.not_built.is_empty(),
        "{warnings:?}"
    );
    let address = |name: &str| match &plan.connections[name].to {
        Connection::Amqp(url) => format!("{url:?}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(address("whole"), "${env:AMQP_URL}");
    let host = "***${env:AMQP_PASSWORD}***${env:AMQP_HOST}";
    assert_eq!(address("host"), host);
    assert_eq!(
        (address("plain"), address("vhost")),
        ("***".into(), "***".into())
    );
    let Connection::Kafka {
        brokers,
        properties,
    } = &plan.connections["k"].to
    else {
        panic!("{:?}", plan.connections["k"])
    };
    assert_eq!(brokers[..], ["k1.example.com:9092", "[::1]:9093"]);
    assert_eq!(
        format!("{properties:?}"),
        r#"{"sasl.password": ${file:/run/secrets/kafka}, "security.protocol": ***}"#
    );
    let amqp = |name: &str| match &trigger(&plan, name).source {
        SourcePlan::Amqp(source) => source.clone(),
        other => panic!("{other:?}"),
    };
    let expected = AmqpSource {
        connection: "plain".into(),
        queue: "orders".into(),
        prefetch: 256,
        max_payload: 32 << 20,
        declare: false,
    };
    assert_eq!(amqp("plain"), expected);
    let expected = AmqpSource {
        connection: "vhost".into(),
        queue: "Bestellungen für heute".into(),
        prefetch: 10,
        max_payload: 6 << 20,
        declare: true,
    };
    assert_eq!(amqp("given"), expected);
    let given = trigger(&plan, "given");
    assert_eq!(given.order, Order::By("$.customer".parse().unwrap()));
    let batch = Batch {
        max: 10,
        wait: Duration::ZERO,
        bytes: 64 << 10,
    };
    assert_eq!(given.batch, Some(batch));
    let publishes = |to: &Option<DestinationPlan>| match to {
        Some(DestinationPlan::Amqp(to)) => to.clone(),
        other => panic!("{other:?}"),
    };
    let to = |exchange: &str, routing_key: &str| AmqpDestination {
        connection: "vhost".into(),
        exchange: exchange.into(),
        routing_key: routing_key.into(),
    };
    assert_eq!(publishes(&given.on_success), to("billed", ""));
    assert_eq!(publishes(&given.dead_letter), to("", "dead"));
    let kafka = |name: &str| match &trigger(&plan, name).source {
        SourcePlan::Kafka(source) => source.clone(),
        other => panic!("{other:?}"),
    };
    let expected = KafkaSource {
        connection: "k".into(),
        topics: vec!["a".into(), "b".into()],
        group: "tidemill".into(),
        start: Start::Earliest,
        max_payload: 32 << 20,
    };
    assert_eq!(kafka("defaults"), expected);
    assert_eq!(kafka("same-consumer"), expected);
    let starts = ["latest", "instant", "date"].map(|name| kafka(name).start);
    assert_eq!(starts, [Start::Latest, Start::At(1_000), Start::At(2_000)]);
    let orders = ["defaults", "same-consumer", "latest", "instant"];
    let orders = orders.map(|name| trigger(&plan, name).order.clone());
    let by = Order::By("header:customer".parse().unwrap());
    assert_eq!(
        orders,
        [Order::MessageKey, Order::Partition, Order::None, by]
    );
    let batch = Batch {
        max: 500,
        wait: Duration::from_millis(200),
        bytes: 4 << 20,
    };
    assert_eq!(trigger(&plan, "instant").batch, Some(batch));
    assert_eq!(trigger(&plan, "latest").batch, None);
    let to = KafkaDestination {
        connection: "k".into(),
        topic: "done".into(),
    };
    assert!(
        matches!(&trigger(&plan, "latest").on_success, Some(DestinationPlan::Kafka(k)) if *k == to)
    );
    assert!(trigger(&plan, "hook").batch.is_some());
}

#[test]
fn what_queues_and_batches_do_not_do() {
    let start = "connections.q.amqp = \"amqp://h\"\nfunctions.f.component = \"f\"\n";
    let listens =
        "[triggers.t]\nfunction = \"f\"\namqp = { connection = \"q\", queue = \"orders\" }\n";
    let told = |more: &str| warned(&format!("{start}{listens}{more}"));
    let known = "idempotency = { key = \"$.id\" }\n";
    assert!(told(known).is_empty());
    assert_eq!(
        told(""),
        ["5: messages without a message-id are not de-duplicated in trigger `t`"]
    );
    assert_eq!(
        told(&listens.replace("triggers.t", "triggers.u")),
        ["5: messages without a message-id are not de-duplicated in triggers `t` and `u`"]
    );
    let ordered = format!("{known}order_by = \"$.customer\"\n");
    assert!(told(&ordered).is_empty());
    let nodes = "[engine]\njournal = \"postgres://h/db\"\n";
    assert_eq!(
        told(&format!("{ordered}{nodes}")),
        ["7: several nodes keep no order in trigger `t`"]
    );
    assert!(told(&format!("{known}{nodes}")).is_empty());
    assert_eq!(
        told(&format!("{known}batch = {{}}\n")),
        ["7: a batch of trigger `t` waits for more messages than it can hold"]
    );
    assert!(told(&format!("{known}batch = {{ max = 256 }}\n")).is_empty());
    let small = "[functions.g]\ncomponent = \"g\"\nmemory = \"4MiB\"\n[triggers.u]\nfunction = \"g\"\nhttp = { path = \"/u\" }\n";
    assert_eq!(
        told(&format!("{known}{small}batch = {{ max = 2 }}\n")),
        ["13: a batch of trigger `u` may be larger than the memory of function `g`"]
    );
    let less = "batch = { max = 2, bytes = \"3MiB\" }\n";
    assert!(told(&format!("{known}{small}{less}")).is_empty());
}
