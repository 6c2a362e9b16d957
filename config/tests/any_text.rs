//! Whatever a file holds, it is checked without a panic, and every problem can be shown.

use std::path::Path;

use proptest::{prelude::*, sample::select};
use tidemill_config::parse;

fn check(text: &str) {
    let problems = match parse(Path::new("t.toml"), text) {
        Ok(loaded) => loaded.warnings,
        Err(invalid) => {
            assert!(!invalid.to_string().is_empty());
            invalid.problems
        }
    };
    for problem in problems {
        let span = &problem.at.span;
        assert!(text.get(span.clone()).is_some(), "{span:?} of {text:?}");
        assert!(!problem.render(true).is_empty());
    }
}

/// Pieces of files, good and bad, so that chance gets past the first line.
const PIECES: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "\n",
    "\r\n",
    "\r",
    "#",
    "\"",
    "\"\"\"",
    "'",
    " ",
    "\\",
    "\\u00e9",
    "é",
    "𐄁",
    "\u{feff}",
    "\0",
    "*",
    "${",
    "$${",
    "env:",
    "file:",
    "x",
    "1",
    "-1",
    "1.5",
    "true",
    "2027-01-01",
    "\"5s\"",
    "\"5MiB\"",
    "\"name\"",
    "\"uploads\"",
    "\"@event\"",
    "engine",
    "buckets",
    "functions",
    "triggers",
    "connections",
    "[engine]\n",
    "[buckets.uploads]\n",
    "[functions.f]\n",
    "[triggers.t]\n",
    "data = ",
    "admin = \"0.0.0.0:1\"\n",
    "secrets = ",
    "url = ",
    "\"file:.\"\n",
    "\"s3://x\"\n",
    "component = ",
    "allow = { read = [",
    "function = \"f\"\n",
    "bucket = { name = \"uploads\"",
    "after = ",
    "{ move = { bucket = \"uploads\" } }",
    "retry = { first = ",
    "schedule = ",
    "schedule = { every = \"1m\", jitter = ",
    "schedule = { cron = \"* * * * *\", timezone = ",
    "filter = { data = ",
    "filter = { or = [{ type = [",
    "{ numeric = [\">\", 1, ",
    "{ anything-but = ",
    "[triggers.u]\nfunction = \"f\"\n",
    "http = { path = ",
    "\"/a/{b}\"",
    "\"/a/{*c}\"",
    "mode = \"sync\", ",
    "event = { type = \"name\" }\n",
    "allow = { emit = [\"name\"] }\n",
    "on_success = { event = { type = \"name\" } }\n",
    "dead_letter = { bucket = { name = \"uploads\", key = ",
    "order_by = \"header:x\"\n",
    "amqp = { connection = \"x\" }\n",
    "kafka = { connection = \"x\", topics = [\"a\"], start = ",
    "[connections.x]\n",
    "amqp = \"amqp://",
    "%2f",
    "@",
    "kafka.brokers = [\"h:1\"]\n",
    "kafka.properties = { acks = ",
    "memroy",
    "\u{1b}[31m",
    "://a:b@c",
];

/// `PROPTEST_CASES` if set, so that a soak can ask for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(2_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn any_pieces(pieces in proptest::collection::vec(select(PIECES), 0..60)) {
        check(&pieces.concat());
    }

    /// A good file with a part cut out and a piece put in.
    #[test]
    fn any_slip(
        which in 0..4usize,
        from in any::<proptest::sample::Index>(),
        length in 0..20usize,
        piece in select(PIECES),
    ) {
        let good = [
            include_str!("../examples/quickstart.toml"),
            include_str!("../examples/orders-amqp.toml"),
            include_str!("../examples/readings-kafka.toml"),
            include_str!("../examples/photos-s3.toml"),
            include_str!("not-built.toml"),
        ][which];
        let start = good.floor_char_boundary(from.index(good.len()));
        let end = good.ceil_char_boundary((start + length).min(good.len()));
        check(&format!("{}{piece}{}", &good[..start], &good[end..]));
    }

    #[test]
    fn any_value(key in select(&["memory", "timeout", "concurrency", "component", "env", "x"][..]), value in "\\PC{0,20}") {
        check(&format!("[functions.f]\n{key} = {value}\n"));
        check(&format!("[functions.f]\n{key} = '{value}'\n"));
    }

    #[test]
    fn any_paths(paths in proptest::collection::vec("(/([a-c.:*]|\\{[a-c*]{0,2}\\}){0,2}){1,4}", 1..4)) {
        let triggers = paths.iter().enumerate().map(|(n, path)| {
            format!("[triggers.t{n}]\nfunction = \"f\"\nhttp = {{ path = \"{path}\" }}\n")
        });
        check(&format!("functions.f.component = \"f\"\n{}", triggers.collect::<String>()));
    }
}
