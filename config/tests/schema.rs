//! The JSON Schema of the file.

use std::{fs, path::Path};

use jsonschema::Validator;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn validator() -> Validator {
    jsonschema::validator_for(&tidemill_config::schema()).unwrap()
}

/// As tools for TOML see it: dates are strings.
fn json(toml: toml::Value) -> Value {
    match toml {
        toml::Value::Datetime(at) => at.to_string().into(),
        toml::Value::Array(array) => array.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            let entries = table.into_iter().map(|(key, value)| (key, json(value)));
            Value::Object(entries.collect())
        }
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
    }
}

fn wrong(validator: &Validator, text: &str) -> Vec<String> {
    let file = json(toml::from_str(text).unwrap());
    let errors = validator.iter_errors(&file);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn the_committed_one_is_current() {
    let committed = fs::read_to_string(root().join("tidemill.schema.json")).unwrap();
    let current = format!("{:#}\n", tidemill_config::schema());
    assert!(
        committed == current,
        "run `cargo run --package tidemill -- schema > config/tidemill.schema.json`"
    );
}

#[test]
fn takes_the_examples() {
    let validator = validator();
    let examples = fs::read_dir(root().join("examples")).unwrap();
    let mut count = 0;
    for example in examples {
        let text = fs::read_to_string(example.unwrap().path()).unwrap();
        assert_eq!(wrong(&validator, &text), [""; 0], "{text}");
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn names_what_is_wrong_with_one_value() {
    let validator = validator();
    let trigger = "[functions.f]\ncomponent = \"f.wasm\"\n[triggers.t]\nfunction = \"f\"\n";
    let schedule = "schedule = { every = \"5m\" }\n";
    let cases = [
        ("", true),
        ("retry = { attempts = 3, first = \"1m 30s\" }\n", true),
        (
            "idempotency = { key = \"$.id\", window = \"1.5h\" }\n",
            true,
        ),
        (
            "filter = { data = { a = { b = [1, { prefix = \"x\" }] } } }\n",
            true,
        ),
        (
            "filter = { or = [{ type = [\"a\"] }, { id = [\"b\"] }] }\n",
            true,
        ),
        ("retries = 3\n", false),
        ("retry = { attempts = \"3\" }\n", false),
        ("retry = { attempts = 0 }\n", false),
        ("retry = { first = \"1 fortnight\" }\n", false),
        ("event = { type = \"a\" }\n", false),
        ("unmatched = \"drop\"\n", false),
        ("filter = { type = \"a\" }\n", false),
        ("on_success = {}\n", false),
    ];
    for (more, fine) in cases {
        let text = format!("{trigger}{schedule}{more}");
        let wrong = wrong(&validator, &text);
        assert_eq!(wrong.is_empty(), fine, "{more}: {wrong:?}");
        let parsed = tidemill_config::parse(Path::new("/tidemill.toml"), &text);
        assert_eq!(parsed.is_ok(), fine, "{more}");
    }
    assert_eq!(wrong(&validator, trigger).len(), 1, "no source");
}
