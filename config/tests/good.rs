//! Files without errors: what plan they give, and what they are told all the same.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use tidemill_config::{
    Loaded, load, parse,
    plan::{
        After, Allow, AmqpDestination, AmqpSource, Connection, Cors, DestinationPlan, HttpSource,
        KafkaDestination, KafkaSource, Missing, Mode, Order, Provider, SourcePlan, Start, Store,
        TriggerPlan, Unmatched, Verify,
    },
};
use tidemill_core::{
    dispatch::Batch,
    filter::{Comparison, Pattern, Scalar},
    schedule::{CatchUp, Overlap, When},
};

fn loaded(text: &str) -> Loaded {
    parse(Path::new("/srv/tide/tidemill.toml"), text).unwrap_or_else(|invalid| panic!("{invalid}"))
}

/// The warnings, one in a line, in the order of the file.
fn warned(text: &str) -> Vec<String> {
    let warnings = loaded(text).warnings;
    warnings
        .iter()
        .map(|problem| format!("{}: {}", problem.at.line, problem.message))
        .collect()
}

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart.toml");

#[test]
fn the_quickstart() {
    let Loaded { plan, warnings } = load(Path::new(QUICKSTART)).unwrap();
    assert!(
        warnings.is_empty() && plan.not_built.is_empty(),
        "{warnings:?}"
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    assert_eq!(plan.file, Path::new(QUICKSTART));
    assert_eq!(plan.engine.data, root.join("data"));
    let store = |name: &str| plan.buckets[name].store.clone();
    assert_eq!(
        store("uploads"),
        Store::File {
            root: root.join("buckets/uploads")
        }
    );
    assert_eq!(
        store("thumbnails"),
        Store::File {
            root: root.join("buckets/thumbnails")
        }
    );
    let function = &plan.functions["thumbnail"];
    assert_eq!(
        function.component,
        root.join("functions/build/thumbnail.wasm")
    );
    assert_eq!(function.env["WIDTHS"].resolve().unwrap().expose(), "64,256");
    assert_eq!(
        function.allow,
        Allow {
            read: vec!["uploads".into()],
            write: vec!["thumbnails".into()],
            http: vec![],
            store: vec!["thumbnails".into()],
            emit: vec!["thumbnail.made".into()],
        }
    );
    let trigger = &plan.triggers["resize"];
    assert_eq!(
        (trigger.name.as_str(), trigger.function.as_str()),
        ("resize", "thumbnail")
    );
    let SourcePlan::Bucket(source) = &trigger.source else {
        panic!("{trigger:?}")
    };
    assert_eq!(source.bucket, "uploads");
    assert_eq!(source.suffix, [".jpg", ".jpeg", ".png"]);
}

/// What the examples show is there: a source of their kind, a batch, an order, and both destinations.
#[test]
fn the_examples_of_brokers() {
    let of = |name: &str, trigger: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let Loaded { plan, warnings } =
            load(&folder.join(name)).unwrap_or_else(|invalid| panic!("{invalid}"));
        assert!(
            warnings.is_empty() && plan.not_built.is_empty(),
            "{warnings:?}"
        );
        plan.triggers[trigger].as_ref().clone()
    };
    let billing = of("orders-amqp.toml", "billing");
    assert!(matches!(&billing.source, SourcePlan::Amqp(source) if source.queue == "orders"));
    assert_eq!(billing.order, Order::By("$.customer".parse().unwrap()));
    assert!(matches!(billing.on_success, Some(DestinationPlan::Amqp(_))));
    assert!(matches!(
        billing.dead_letter,
        Some(DestinationPlan::Amqp(_))
    ));
    let readings = of("readings-kafka.toml", "readings");
    assert!(matches!(&readings.source, SourcePlan::Kafka(source) if source.topics == ["readings"]));
    assert_eq!(readings.order, Order::By("$.sensor".parse().unwrap()));
    assert_eq!(readings.batch.unwrap().max, 500);
    assert!(matches!(
        readings.on_success,
        Some(DestinationPlan::Kafka(_))
    ));
    assert!(matches!(
        readings.dead_letter,
        Some(DestinationPlan::Kafka(_))
    ));
}

#[test]
fn what_is_left_out_has_its_default() {
    let plan = loaded(
        r#"
        buckets.b.url = "file:b"
        [functions.f]
        component = "f.wasm"
        [triggers.t]
        function = "f"
        bucket = { name = "b" }
        "#,
    )
    .plan;
    let engine = &plan.engine;
    assert_eq!(engine.data, Path::new("/srv/tide/data"));
    assert_eq!(engine.http, "127.0.0.1:8080".parse::<SocketAddr>().unwrap());
    assert_eq!(
        engine.admin,
        "127.0.0.1:8081".parse::<SocketAddr>().unwrap()
    );
    assert!(engine.admin_token.is_none());
    assert_eq!(engine.journal_limit, 20 << 30);
    assert_eq!(engine.drain, Duration::from_secs(30));
    assert_eq!(
        plan.buckets["b"].store,
        Store::File {
            root: "/srv/tide/b".into()
        }
    );
    let function = &plan.functions["f"];
    assert_eq!(function.component, Path::new("/srv/tide/f.wasm"));
    assert_eq!(function.memory, 128 << 20);
    assert_eq!(function.timeout, Duration::from_secs(30));
    assert_eq!(function.output, 64 << 20);
    assert_eq!(
        (function.concurrency, function.warm, function.reuse),
        (64, 0, false)
    );
    assert!(function.env.is_empty() && function.secrets.is_empty());
    assert_eq!(function.allow, Allow::default());
    let retry = plan.triggers["t"].retry;
    assert_eq!(retry.attempts, 3);
    assert_eq!(retry.first, Duration::from_secs(1));
    assert_eq!(retry.max, Duration::from_secs(5 * 60));
    assert_eq!(retry.max_age, Duration::from_secs(6 * 3600));
    let SourcePlan::Bucket(source) = &plan.triggers["t"].source else {
        panic!()
    };
    assert_eq!((source.created, source.deleted), (true, false));
    assert_eq!((source.prefix.as_str(), source.suffix.len()), ("", 0));
    assert_eq!(
        (&source.after, source.rescan),
        (&After::Keep, Duration::from_secs(60))
    );
    assert!(plan.not_built.is_empty());
}

#[test]
fn what_is_given_is_taken() {
    let plan = loaded(
        r#"
        [engine]
        data = "../state"
        http = "0.0.0.0:80"
        admin = "[::]:81"
        admin_token = "${file:token}"
        journal_limit = "1.5GiB"
        drain = "1m 30s"
        [buckets]
        in = { url = "file:///srv/in" }
        done = { url = "file:/srv/done" }
        [functions.f]
        component = "/opt/f.wasm"
        memory = "64 KiB"
        timeout = "250ms"
        output = "1MB"
        concurrency = 0x10
        env = { A = "1" }
        secrets = { B = "${env:B}" }
        allow = { read = ["@event", "in"], write = ["done"] }
        [triggers.t]
        function = "f"
        [triggers.t.bucket]
        name = "in"
        on = ["deleted", "created"]
        prefix = "a/"
        suffix = [".csv"]
        after = { move = { bucket = "done", prefix = "2026/" } }
        rescan = "1h"
        min_size = "1KiB"
        max_size = "1GB"
        missing = "dead-letter"
        start = "now"
        [triggers.t.retry]
        attempts = 1_000
        first = "0.5s"
        max = "500ms"
        max_age = "7d"
        "#,
    )
    .plan;
    let engine = &plan.engine;
    assert_eq!(engine.data, Path::new("/srv/state"));
    assert_eq!((engine.http.port(), engine.admin.port()), (80, 81));
    assert_eq!(format!("{:?}", engine.admin_token), "Some(${file:token})");
    assert_eq!(
        (engine.journal_limit, engine.drain.as_secs()),
        (3 << 29, 90)
    );
    assert_eq!(
        plan.buckets["in"].store,
        Store::File {
            root: "/srv/in".into()
        }
    );
    let function = &plan.functions["f"];
    assert_eq!(function.component, Path::new("/opt/f.wasm"));
    assert_eq!((function.memory, function.output), (65_536, 1_000_000));
    assert_eq!(
        (function.timeout.as_millis(), function.concurrency),
        (250, 16)
    );
    assert_eq!(function.allow.read, ["@event", "in"]);
    assert_eq!(format!("{:?}", function.secrets["B"]), "${env:B}");
    let trigger = &plan.triggers["t"];
    assert_eq!(
        (trigger.retry.attempts, trigger.retry.max_age.as_secs()),
        (1000, 7 * 86_400)
    );
    assert_eq!(trigger.retry.first, trigger.retry.max);
    let SourcePlan::Bucket(source) = &trigger.source else {
        panic!()
    };
    assert!(source.created && source.deleted);
    let after = After::Move {
        bucket: "done".into(),
        prefix: "2026/".into(),
    };
    assert_eq!((source.prefix.as_str(), &source.after), ("a/", &after));
    assert_eq!(source.rescan, Duration::from_secs(3600));
    assert_eq!((source.min_size, source.max_size), (1024, 1_000_000_000));
    assert_eq!(source.missing, Missing::DeadLetter);
    assert!(source.only_new);
}

#[test]
fn what_is_not_built_is_noted() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/not-built.toml"));
    let Loaded { plan, warnings } = loaded(&text.unwrap());
    assert!(warnings.is_empty(), "{warnings:?}");
    let notes: Vec<_> = plan
        .not_built
        .iter()
        .map(|part| format!("{}: {}", part.at, part.what))
        .collect();
    insta::assert_snapshot!(notes.join("\n"));
    let audit = &plan.triggers["audit"];
    assert!(matches!(&audit.source, SourcePlan::NotBuilt { key } if key == "postgres"));
}

#[test]
fn the_example_of_object_stores() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/photos-s3.toml");
    let Loaded { plan, warnings } = load(Path::new(example)).unwrap();
    assert!(
        warnings.is_empty() && plan.not_built.is_empty(),
        "{warnings:?}"
    );
    for name in ["uploads", "thumbnails"] {
        let expected = Store::Remote {
            provider: Provider::S3,
            bucket: "my-photos".into(),
            prefix: name.into(),
        };
        assert_eq!(plan.buckets[name].store, expected);
    }
}

/// Chains that come round over buckets, whichever part of the file writes.
#[test]
fn objects_that_lead_to_objects_without_end() {
    let config = |photo: &str, small: &str, more: &str| {
        format!(
            r#"
            buckets.a.url = "file:a"
            buckets.b.url = "file:b"
            functions.f = {{ component = "f", allow = {{ write = ["b"] }} }}
            functions.g = {{ component = "g" {more} }}
            [triggers.photo]
            function = "f"
            bucket = {{ name = "a" {photo} }}
            [triggers.small]
            function = "g"
            {small}
            "#
        )
    };
    let small = "bucket = { name = \"b\" }";
    let writes = ", allow = { write = [\"a\"] }";
    let endless = "8: objects of bucket `a` may lead to new ones, without end";
    let cases = [
        // f writes b, and g, which b triggers, writes a.
        (config("", small, writes), true),
        (config("", small, ""), false),
        // Its reply goes there, or what it was given up with, or its objects.
        (
            config(
                "",
                "bucket = { name = \"b\" }\non_success = { bucket = { name = \"a\" } }",
                "",
            ),
            true,
        ),
        (
            config(
                "",
                "bucket = { name = \"b\" }\ndead_letter = { bucket = { name = \"a\" } }",
                "",
            ),
            true,
        ),
        (
            config(
                "",
                "bucket = { name = \"b\", after = { move = { bucket = \"a\" } } }",
                "",
            ),
            true,
        ),
        // Whoever wrote a prefix, or listens to what goes, thought of it.
        (config(", prefix = \"in/\"", small, writes), false),
        (config(", on = [\"deleted\"]", small, writes), false),
        (
            config(
                "",
                "bucket = { name = \"b\" }\nfilter = { subject = [\"x\"] }",
                writes,
            ),
            false,
        ),
    ];
    for (text, round) in cases {
        let expected: &[&str] = if round { &[endless] } else { &[] };
        assert_eq!(warned(&text), expected, "{text}");
    }
    // Over events and objects in turn.
    let text = r#"
        buckets.a.url = "file:a"
        functions.f = { component = "f", allow = { read = ["a"], emit = ["made"] } }
        functions.g = { component = "g", allow = { write = ["a"] } }
        [triggers.photo]
        function = "f"
        bucket = { name = "a" }
        [triggers.made]
        function = "g"
        event = { type = "made" }
    "#;
    let warnings = loaded(text).warnings;
    insta::assert_snapshot!(
        warnings
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    );
    // A trigger that comes back to its own bucket is told of once.
    let text = r#"
        buckets.a.url = "file:a"
        functions.f = { component = "f", allow = { write = ["a"] } }
        [triggers.photo]
        function = "f"
        bucket = { name = "a" }
    "#;
    assert_eq!(
        warned(text),
        ["6: function `f` may write the bucket that triggers it"]
    );
}

/// The example of everything leaves out no key that the engine has.
#[test]
fn the_example_of_everything() {
    fn collect(value: &toml::Value, path: &str, found: &mut Vec<String>) {
        found.push(path.to_owned());
        if let toml::Value::Table(table) = value {
            for (name, value) in table {
                let path = [path, name].join(if path.is_empty() { "" } else { "." });
                collect(value, &path, found);
            }
        }
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/everything.toml");
    let Loaded { plan, warnings } = load(Path::new(file)).unwrap();
    assert!(
        warnings.is_empty() && plan.not_built.is_empty(),
        "{warnings:?}"
    );
    let mut found = Vec::new();
    let text = fs::read_to_string(file).unwrap();
    collect(&text.parse::<toml::Table>().unwrap().into(), "", &mut found);
    let is_there = |key: &str| {
        let parts: Vec<&str> = key.split('.').collect();
        found.iter().any(|path| {
            let path: Vec<&str> = path.splitn(parts.len(), '.').collect();
            let pairs = path.iter().zip(&parts);
            path.len() == parts.len() && pairs.into_iter().all(|(is, key)| *key == "*" || is == key)
        })
    };
    let built = tidemill_config::keys::KEYS.iter().filter(|key| key.built);
    // A part of what is not built is not built either.
    let absent: Vec<&str> = built
        .map(|key| key.path)
        .filter(|path| !path.starts_with("triggers.*.postgres") && !is_there(path))
        .collect();
    assert_eq!(absent, [""; 0]);
}

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
fn defaults_written_out_are_built() {
    let plan = loaded(
        r#"
        [engine]
        journal = "sqlite"
        [functions.f]
        component = "f.wasm"
        warm = 0
        reuse = false
        allow = { http = [] }
        [buckets.b]
        url = "file:b"
        options = {}
        "#,
    )
    .plan;
    assert_eq!(plan.not_built, []);
}

#[test]
fn warnings_do_not_stop_a_file() {
    assert_eq!(
        warned(""),
        ["0: no trigger is declared: nothing will ever run"]
    );
    let start =
        "[functions.f]\ncomponent = \"f\"\n[buckets]\na.url = \"file:a\"\nb.url = \"file:a/b\"\n";
    let feeds = "[triggers.t]\nfunction = \"f\"\nbucket = { name = \"a\" }\n";
    assert_eq!(
        warned(&format!("{start}{feeds}")),
        ["5: buckets `a` and `b` share files"]
    );
    let grant = "[functions.f]\ncomponent = \"f\"\nallow = { write = [\"a\"] }\n[buckets]\na.url = \"file:a\"\n";
    assert_eq!(
        warned(&format!("{grant}{feeds}")),
        ["8: function `f` may write the bucket that triggers it"]
    );
    let prefixed = feeds.replace("\"a\"", "\"a\", prefix = \"in/\"");
    assert!(warned(&format!("{grant}{prefixed}")).is_empty());
}

/// Whether a move within a bucket comes back: prefix of the trigger, prefix of the move.
#[test]
fn moves_within_a_bucket() {
    let cases = [
        ("in/", "done/", true),
        ("", "done/", false),
        ("in/", "", false),
        ("in/", "in/done/", false),
        ("aa", "a", false),
        ("ab", "a", true),
    ];
    for (prefix, to, fine) in cases {
        let text = format!(
            r#"
            buckets.b.url = "file:b"
            functions.f.component = "f"
            [triggers.t]
            function = "f"
            bucket = {{ name = "b", prefix = "{prefix}", after = {{ move = {{ bucket = "b", prefix = "{to}" }} }} }}
            "#
        );
        let parsed = parse(Path::new("t.toml"), &text);
        assert_eq!(parsed.is_ok(), fine, "{prefix} to {to}: {parsed:?}");
    }
}

fn trigger<'p>(plan: &'p tidemill_config::plan::Plan, name: &str) -> &'p TriggerPlan {
    &plan.triggers[name]
}

fn http(trigger: &TriggerPlan) -> &HttpSource {
    match &trigger.source {
        SourcePlan::Http(source) => source,
        other => panic!("{other:?}"),
    }
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
fn filters() {
    let plan = loaded(
        r#"
        functions.f.component = "f"
        [triggers.t]
        function = "f"
        http = { path = "/x" }
        unmatched = "dead-letter"
        [triggers.t.filter]
        type = ["push", { prefix = "pull" }, { suffix = ".x" }]
        source = [{ wildcard = "http:/*" }]
        subject = [{ ignore-case = "ABC" }]
        id = [{ exists = true }]
        datacontenttype = [{ anything-but = ["a", { prefix = "b" }] }, { anything-but = "c" }]
        headers = { X-Kind = ["a"] }
        data = { n = [5, 1_000.5, true, { numeric = [">", 0, "<=", 5] }, { numeric = ["=", -1] }], a.b."c.d" = [{ exists = false }], numeric = ["a"], prefix = [{ prefix = "b" }] }
        or = [{ subject = ["a"] }, { data = { x = ["b"] }, or = [{ id = ["c"] }] }]
        "#,
    )
    .plan;
    let t = trigger(&plan, "t");
    assert_eq!(t.unmatched, Unmatched::DeadLetter);
    let filter = t.filter.as_ref().unwrap();
    let text = |text: &str| Pattern::Equals(Scalar::String(text.into()));
    let number = |number| Pattern::Equals(Scalar::Number(number));
    let of = |place: &str| {
        let found = filter
            .conditions
            .iter()
            .find(|one| one.place.to_string() == place);
        found
            .unwrap_or_else(|| panic!("{place} in {filter:?}"))
            .patterns
            .clone()
    };
    assert_eq!(
        of("attr:type"),
        [
            text("push"),
            Pattern::Prefix("pull".into()),
            Pattern::Suffix(".x".into())
        ]
    );
    assert_eq!(of("attr:source"), [Pattern::Wildcard("http:/*".into())]);
    assert_eq!(of("attr:subject"), [Pattern::IgnoreCase("ABC".into())]);
    assert_eq!(of("attr:id"), [Pattern::Exists(true)]);
    let but = [
        Pattern::AnythingBut(vec![text("a"), Pattern::Prefix("b".into())]),
        Pattern::AnythingBut(vec![text("c")]),
    ];
    assert_eq!(of("attr:datacontenttype"), but);
    assert_eq!(of("header:x-kind"), [text("a")]);
    let numbers = [
        number(5.0),
        number(1000.5),
        Pattern::Equals(Scalar::Flag(true)),
        Pattern::Numeric(vec![
            (Comparison::Greater, 0.0),
            (Comparison::LessOrEqual, 5.0),
        ]),
        Pattern::Numeric(vec![(Comparison::Equal, -1.0)]),
    ];
    assert_eq!(of("$.n"), numbers);
    assert_eq!(of("$.a.b[\"c.d\"]"), [Pattern::Exists(false)]);
    assert_eq!(
        (of("$.numeric"), of("$.prefix")),
        (vec![text("a")], vec![Pattern::Prefix("b".into())])
    );
    assert_eq!(filter.conditions.len(), 10);
    let [first, second] = &filter.alternatives[..] else {
        panic!("{filter:?}")
    };
    assert_eq!((first.conditions.len(), first.alternatives.len()), (1, 0));
    assert_eq!((second.conditions.len(), second.alternatives.len()), (1, 1));
}

#[test]
fn the_delivery_promise() {
    let Loaded { plan, warnings } = loaded(
        r#"
        buckets.results.url = "file:results"
        [functions.f]
        component = "f"
        allow = { emit = ["made"] }
        [functions.g]
        component = "g"
        [triggers.plain]
        function = "f"
        http = { path = "/plain" }
        [triggers.one]
        function = "g"
        event = { type = "made" }
        idempotency = { key = "$.order[0].id", window = "30d" }
        order_by = "header:Customer"
        rate = "50/m"
        on_success = { bucket = { name = "results" } }
        dead_letter = { event = { type = "failed" } }
        [triggers.two]
        function = "g"
        event = { type = "failed" }
        idempotency = { key = "attr:subject" }
        on_success = { http = { url = "https://${env:HOST}/done", headers = { X-Key = "${env:KEY}" }, timeout = "5s" } }
        dead_letter = { http = { url = "${env:URL}" } }
        [triggers.stored]
        function = "g"
        bucket = { name = "results", prefix = "in/", suffix = [".json"] }
        on_success = { bucket = { name = "results", key = "in/{id}" } }
        dead_letter = { bucket = { name = "results", key = "dead/{date}/{type}/{subject}.json" } }
        "#,
    );
    assert!(
        warnings.is_empty() && plan.not_built.is_empty(),
        "{warnings:?}"
    );
    let plain = trigger(&plan, "plain");
    assert_eq!(plain.unmatched, Unmatched::Settle);
    assert!(plain.filter.is_none() && plain.idempotency.is_none() && plain.order == Order::None);
    assert!(plain.rate.is_none() && plain.on_success.is_none() && plain.dead_letter.is_none());
    let one = trigger(&plan, "one");
    assert!(matches!(&one.source, SourcePlan::Event(event) if event.kind == "made"));
    let idempotency = one.idempotency.as_ref().unwrap();
    assert_eq!(idempotency.key.to_string(), "$.order[0].id");
    assert_eq!(idempotency.window, Duration::from_secs(30 * 86_400));
    assert_eq!(one.order, Order::By("header:customer".parse().unwrap()));
    let rate = one.rate.unwrap();
    assert_eq!((rate.count, rate.per), (50, Duration::from_secs(60)));
    let Some(DestinationPlan::Bucket { bucket, key }) = &one.on_success else {
        panic!("{one:?}")
    };
    assert_eq!(
        (bucket.as_str(), key.as_str()),
        ("results", "{trigger}/{id}")
    );
    assert!(matches!(&one.dead_letter, Some(DestinationPlan::Event { kind }) if kind == "failed"));
    let two = trigger(&plan, "two");
    let window = two.idempotency.as_ref().unwrap().window;
    assert_eq!(window, Duration::from_secs(86_400));
    let Some(DestinationPlan::Http(done)) = &two.on_success else {
        panic!("{two:?}")
    };
    assert_eq!(format!("{:?}", done.headers["X-Key"]), "${env:KEY}");
    assert_eq!(done.timeout, Duration::from_secs(5));
    let Some(DestinationPlan::Http(dead)) = &two.dead_letter else {
        panic!("{two:?}")
    };
    assert_eq!(
        (dead.headers.len(), dead.timeout),
        (0, Duration::from_secs(30))
    );
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

/// Whether what a trigger writes into its own bucket is told: prefix, suffix, key.
#[test]
fn replies_into_the_bucket_they_come_from() {
    let cases = [
        ("", "", "out/{id}", true),
        ("in/", "", "out/{id}", false),
        ("in/", "", "{trigger}/{id}", false),
        ("t/", "", "{trigger}/{id}", true),
        ("in/", "", "{subject}/{id}", true),
        ("in/", "", "i{id}", false),
        ("", ".json", "out/{id}", false),
        ("", ".json", "out/{id}.json", true),
        ("", "x.json", "out/{id}.json", true),
        ("", ".x.json", "out/{id}.json", false),
        ("", ".x.json", "out/{id}{type}.json", true),
        ("", ".csv", "{subject}", true),
        ("", ".csv", "{subject}.json", false),
    ];
    for (prefix, suffix, key, loops) in cases {
        let text = format!(
            r#"
            buckets.b.url = "file:b"
            functions.f.component = "f"
            [triggers.t]
            function = "f"
            bucket = {{ name = "b", prefix = "{prefix}", suffix = ["{suffix}"] }}
            dead_letter = {{ bucket = {{ name = "b", key = "{key}" }} }}
            "#
        );
        let text = text.replace("[\"\"]", "[]");
        let told = warned(&text);
        assert_eq!(
            !told.is_empty(),
            loops,
            "{prefix}*{suffix} and {key}: {told:?}"
        );
    }
}
