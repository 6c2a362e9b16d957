//! A JSON Schema of the file, made from the table of keys, by which editors complete and check it.
//!
//! It says what can be said of a value by itself, and takes every file that `parse` takes. What several
//! values mean together, and what strings mean, only `parse` tells.

use serde_json::{Map, Value, json};

use crate::keys::{Key, Kind, Need, children};

/// The schema, in draft 7, which the tools for TOML read.
pub fn schema() -> Value {
    let mut root = table("", "");
    root.insert(
        "$schema".into(),
        "http://json-schema.org/draft-07/schema#".into(),
    );
    root.insert("title".into(), "tidemill.toml".into());
    root.insert(
        "definitions".into(),
        json!({
            "filter": table("triggers.*.filter", "A filter."),
            "patterns": { "type": "array", "minItems": 1 },
            "patternTree": {
                "type": "object",
                "additionalProperties": {
                    "anyOf": [reference("patterns"), reference("patternTree")],
                },
            },
        }),
    );
    Value::Object(root)
}

fn reference(definition: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{definition}") })
}

/// A table with the keys of the table of keys.
fn table(path: &str, meaning: &str) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut one_of = Vec::new();
    for key in children(path) {
        properties.insert(key.name().into(), property(key));
        match key.need {
            Need::Required(_) => required.push(key.name()),
            Need::OneOf(_) => one_of.push(json!({ "required": [key.name()] })),
            Need::Default(_) | Need::Optional => {}
        }
    }
    let mut schema = Map::new();
    if !meaning.is_empty() {
        schema.insert("description".into(), meaning.into());
    }
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), properties.into());
    schema.insert("additionalProperties".into(), false.into());
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    if !one_of.is_empty() {
        schema.insert("oneOf".into(), one_of.into());
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = of_kind(key, key.kind);
    let mut meaning = key.meaning.to_owned();
    if let Kind::Duration(least, most) | Kind::Size(least, most) = key.kind {
        meaning += &format!(" From {least} to {most}.");
    }
    if !key.built {
        meaning += " Not built yet: `run` refuses it.";
    }
    schema["description"] = meaning.into();
    if let Some(default) = key.default_toml() {
        schema["default"] = value(&default);
    } else if matches!(key.need, Need::Required(_)) {
        schema["examples"] = json!([value(&key.example_value())]);
    }
    schema
}

/// A TOML value as JSON.
fn value(toml: &str) -> Value {
    let parsed = toml::from_str::<Map<String, Value>>(&format!("value = {toml}"));
    let parsed = parsed.ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| toml.into())
}

fn of_kind(key: &Key, kind: Kind) -> Value {
    match kind {
        Kind::Table => Value::Object(table(key.path, "")),
        Kind::Named | Kind::Map | Kind::Headers => named(key, kind),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Whole(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Duration(..) => json!({
            "type": "string",
            "pattern": r"^\s*(\d+(\.\d+)?\s*(us|ms|s|m|h|d)\s*)+$",
        }),
        Kind::Size(..) => json!({
            "type": "string",
            "pattern": r"^\s*[0-9.]+\s*([kKmMgGtT][iI]?)?[bB]\s*$",
        }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::WordOrTable(words) => {
            json!({ "anyOf": [{ "enum": words }, table(key.path, "")] })
        }
        Kind::List(element, least) => {
            json!({ "type": "array", "items": of_kind(key, *element), "minItems": least })
        }
        Kind::Filters => json!({ "type": "array", "items": reference("filter"), "minItems": 1 }),
        // A reference has no description of its own in this draft.
        Kind::Patterns => json!({ "allOf": [reference("patterns")] }),
        Kind::PatternTree => json!({ "allOf": [reference("patternTree")] }),
        Kind::Start => json!({ "type": "string", "examples": ["earliest", "latest"] }),
        Kind::Journal => json!({ "type": "string", "examples": ["sqlite"] }),
        Kind::Filled
        | Kind::Prefix
        | Kind::Suffix
        | Kind::Name
        | Kind::Text
        | Kind::Secret
        | Kind::Path
        | Kind::Address
        | Kind::BucketUrl
        | Kind::Selector
        | Kind::Order
        | Kind::Rate
        | Kind::Cron
        | Kind::Zone
        | Kind::Instant
        | Kind::HostPort
        | Kind::HttpPath
        | Kind::HeaderName
        | Kind::Origin
        | Kind::HttpUrl
        | Kind::ObjectKey
        | Kind::AmqpUrl
        | Kind::Broker
        | Kind::Queue
        | Kind::ShortString
        | Kind::Topic => json!({ "type": "string" }),
    }
}

/// A table whose keys the user chooses.
fn named(key: &Key, kind: Kind) -> Value {
    // There is at most one key below: the one that stands for all.
    let each = children(key.path).next().map(property);
    let mut schema = json!({
        "type": "object",
        "additionalProperties": each.unwrap_or(Value::Bool(true)),
    });
    if kind == Kind::Named {
        schema["propertyNames"] = json!({ "pattern": "^[A-Za-z0-9_.-]{1,64}$" });
    }
    schema
}
