//! Change records as Debezium writes them.

use super::*;

const KEY: &str = r#"{"id":1004}"#;

/// An update of PostgreSQL, by a converter without schemas.
const UPDATE: &str = r#"{
    "before": {"id":1004,"first_name":"Anne","last_name":"Kretchmar","email":"annek@noanswer.org"},
    "after": {"id":1004,"first_name":"Anne Marie","last_name":"Kretchmar","email":"annek@noanswer.org"},
    "source": {"version":"3.0.0.Final","connector":"postgresql","name":"dbserver1","ts_ms":1730369021123,
        "snapshot":"false","db":"shop","sequence":"[\"34472560\",\"34472904\"]","ts_us":1730369021123456,
        "ts_ns":1730369021123456000,"schema":"public","table":"customers","txId":772,"lsn":34472904,"xmin":null},
    "transaction": null, "op": "u", "ts_ms": 1730369021532, "ts_us": 1730369021532123, "ts_ns": 1730369021532123456
}"#;

/// A delete of MySQL, by a converter with schemas (which are shortened here).
const DELETE: &str = r#"{"schema":{"type":"struct","fields":[
        {"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"}],"optional":true,"field":"before"},
        {"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"}],"optional":true,"field":"after"},
        {"type":"string","optional":false,"field":"op"}],"optional":false,"name":"dbserver1.inventory.customers.Envelope"},
    "payload":{"before":{"id":1004,"first_name":"Anne"},"after":null,
        "source":{"version":"3.0.0.Final","connector":"mysql","name":"dbserver1","ts_ms":1730369055000,
            "snapshot":"false","db":"inventory","sequence":null,"table":"customers","server_id":223344,"gtid":null,
            "file":"binlog.000003","pos":805,"row":0,"thread":7,"query":null},
        "transaction":null,"op":"d","ts_ms":1730369055312}}"#;

const DELETED_KEY: &str = r#"{"schema":{"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"}],
    "optional":false,"name":"dbserver1.inventory.customers.Key"},"payload":{"id":1004}}"#;

fn change<'a>(key: &str, value: &'a str) -> Change<'a> {
    match Change::read(Some(key), value.as_bytes()).unwrap() {
        Found::Change(change) => change,
        Found::Nothing => panic!("nothing in {value}"),
    }
}

fn refusal(key: Option<&str>, value: &str) -> String {
    Change::read(key, value.as_bytes()).unwrap_err().to_string()
}

#[test]
fn an_update_without_schema() {
    let change = change(KEY, UPDATE);
    assert_eq!(change.name(), r#"shop.public.customers {"id":1004}"#);
    assert_eq!(change.op, Op::Updated);
    assert!(change.before.unwrap().get().contains(r#""Anne","#));
    assert!(change.after.unwrap().get().contains(r#""Anne Marie""#));
    let position = Position {
        ts_ms: Some(1_730_369_021_123),
        lsn: Some(34_472_904),
        ..Position::default()
    };
    assert_eq!(change.position, position);
}

#[test]
fn a_delete_with_schema() {
    let change = change(DELETED_KEY, DELETE);
    assert_eq!(change.name(), r#"inventory.customers {"id":1004}"#);
    assert_eq!(change.op, Op::Deleted);
    assert_eq!(
        change.before.unwrap().get(),
        r#"{"id":1004,"first_name":"Anne"}"#
    );
    assert!(change.after.is_none());
    let position = Position {
        ts_ms: Some(1_730_369_055_000),
        file: Some("binlog.000003".into()),
        pos: Some(805),
        ..Position::default()
    };
    assert_eq!(change.position, position);
}

#[test]
fn every_operation() {
    for (letter, op) in [("c", Op::Created), ("u", Op::Updated), ("r", Op::Read)] {
        let record = UPDATE.replace(r#""op": "u""#, &format!(r#""op": "{letter}""#));
        assert_eq!(change(KEY, &record).op, op);
    }
    let message = UPDATE.replace(r#""op": "u""#, r#""op": "m""#);
    assert!(matches!(
        Change::read(None, message.as_bytes()).unwrap(),
        Found::Nothing
    ));
    let truncated = UPDATE.replace(r#""op": "u""#, r#""op": "t""#);
    assert!(refusal(None, &truncated).contains("begin with `shop.public.customers `"));
}

#[test]
fn tombstones_are_nothing() {
    for value in ["", "null"] {
        assert!(matches!(
            Change::read(Some(KEY), value.as_bytes()).unwrap(),
            Found::Nothing
        ));
    }
}

#[test]
fn numbers_pass_through_unchanged() {
    let precise = UPDATE.replace(
        r#""first_name":"Anne Marie""#,
        r#""balance":123456789012345678901234567890.10"#,
    );
    let change = change(KEY, &precise);
    let after = change.after.unwrap().get();
    assert!(
        after.contains("123456789012345678901234567890.10"),
        "{after}"
    );
}

#[test]
fn the_same_key_has_the_same_name() {
    let one = change(r#"{"order":7,"line":"a"}"#, UPDATE).name();
    let other = change(r#"{ "line": "a", "order": 7 }"#, UPDATE).name();
    assert_eq!(one, other);
    assert_eq!(change("1004", UPDATE).name(), "shop.public.customers 1004");
}

#[test]
fn refusals_say_what_to_do() {
    let unwrapped = refusal(Some(KEY), r#"{"id":1004,"first_name":"Anne"}"#);
    assert!(unwrapped.contains("missing field `op`"), "{unwrapped}");
    assert!(refusal(Some(KEY), "Anne").contains("no change record"));
    assert!(refusal(None, UPDATE).contains("message.key.columns"));
    assert!(refusal(Some("null"), UPDATE).contains("message.key.columns"));
    assert!(refusal(Some("\u{1}avro"), UPDATE).contains("key.converter"));
}
