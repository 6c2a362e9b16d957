//! What files are told that are good all the same.

use std::path::Path;

use tidemill_config::parse;

use crate::{loaded, warned};

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
