//! What is left out, given, and given as it would be anyway.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use tidemill_config::{
    Loaded,
    plan::{After, Allow, Missing, SourcePlan, Store},
};

use crate::loaded;

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
