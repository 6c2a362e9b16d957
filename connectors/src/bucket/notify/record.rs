//! The records in which object stores tell of changes, read into one shape: S3's own (versions 2.0 to
//! 2.3 and what Ceph, MinIO and others make of them), those of EventBridge, and both inside of a
//! message of SNS.
//!
//! Pure: it asks nobody whether what a record says is true.

use percent_encoding::percent_decode_str;
use serde_json::Value;
use tidemill_core::time::Timestamp;

/// SNS wraps a message once; whoever forwards one from topic to topic may do so again.
const WRAPPED: usize = 4;

/// What a record says became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Created,
    Deleted,
}

/// What one record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The bucket, by its name at the store.
    pub(super) bucket: String,
    /// The key, decoded.
    pub(super) key: String,
    /// The key as it is written, if it may be meant so: Ceph encodes nothing.
    pub(super) plain: Option<String>,
    pub(super) kind: Kind,
    /// The etag of what was created.
    pub(super) etag: Option<String>,
    /// When it happened, by the store's clock.
    pub(super) time: Option<Timestamp>,
    /// Which of several changes of one key came later.
    pub(super) sequencer: Option<Sequencer>,
}

/// A hexadecimal number of any length. Of two, the shorter one is to be thought with zeros before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequencer(String);

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// The changes of objects, in the order of the message.
    pub(super) records: Vec<Record>,
    /// Records of what changes no object, such as tags, and the message with which a store tries
    /// whether it may send.
    pub(super) others: usize,
}

/// It is no message of an object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Strange {
    #[error("it is not JSON")]
    NotJson,
    #[error("it has no event records of S3")]
    NoRecords,
    #[error("one of its records names no bucket, key or event")]
    Incomplete,
}

/// Reads a message.
pub(super) fn parse(body: &[u8]) -> Result<Message, Strange> {
    let mut message = Message::default();
    let body: Value = serde_json::from_slice(body).map_err(|_| Strange::NotJson)?;
    read(&body, WRAPPED, &mut message)?;
    Ok(message)
}

/// The last record of each key, where they can be told apart; the order of keys is that of the
/// message.
pub(super) fn latest(records: Vec<Record>) -> Vec<Record> {
    let mut latest: Vec<Record> = Vec::with_capacity(records.len());
    let mut places = std::collections::HashMap::new();
    for record in records {
        let place = (record.bucket.clone(), record.key.clone());
        let next = latest.len();
        let at = *places.entry(place).or_insert(next);
        match latest.get_mut(at) {
            None => latest.push(record),
            Some(before) => {
                let older = match (&record.sequencer, &before.sequencer) {
                    (Some(this), Some(before)) => this < before,
                    _ => false,
                };
                if !older {
                    *before = record;
                }
            }
        }
    }
    latest
}

fn read(body: &Value, depth: usize, message: &mut Message) -> Result<(), Strange> {
    let depth = depth.checked_sub(1).ok_or(Strange::NoRecords)?;
    // Pipes and some forwarders hand over lists.
    if let Value::Array(all) = body {
        return all.iter().try_for_each(|one| read(one, depth, message));
    }
    if let Some(Value::Array(records)) = body.get("Records") {
        return records.iter().try_for_each(|record| s3(record, message));
    }
    if let (Some(kind), Some(detail)) = (text(body, "/detail-type"), body.get("detail")) {
        return event_bridge(kind, detail, body, message);
    }
    if let Some(inner) = text(body, "/Message") {
        let inner: Value = serde_json::from_str(inner).map_err(|_| Strange::NoRecords)?;
        return read(&inner, depth, message);
    }
    if text(body, "/Event") == Some("s3:TestEvent") {
        message.others += 1;
        return Ok(());
    }
    Err(Strange::NoRecords)
}

/// A record of S3's own.
fn s3(record: &Value, message: &mut Message) -> Result<(), Strange> {
    let name = text(record, "/eventName").ok_or(Strange::Incomplete)?;
    let Some(kind) = kind(name.strip_prefix("s3:").unwrap_or(name)) else {
        message.others += 1;
        return Ok(());
    };
    let written = text(record, "/s3/object/key").ok_or(Strange::Incomplete)?;
    let key = decoded(written).ok_or(Strange::Incomplete)?;
    let ceph = text(record, "/eventSource").is_some_and(|source| source.starts_with("ceph:"));
    message.records.push(Record {
        bucket: text(record, "/s3/bucket/name")
            .ok_or(Strange::Incomplete)?
            .to_owned(),
        plain: (ceph && key != written).then(|| written.to_owned()),
        key,
        kind,
        etag: etag(record, "/s3/object/eTag"),
        time: time(record, "/eventTime"),
        sequencer: sequencer(record, "/s3/object/sequencer"),
    });
    Ok(())
}

/// An event of EventBridge, whose keys are not encoded.
fn event_bridge(
    kind: &str,
    detail: &Value,
    event: &Value,
    message: &mut Message,
) -> Result<(), Strange> {
    if text(event, "/source").is_some_and(|source| source != "aws.s3") {
        return Err(Strange::NoRecords);
    }
    let kind = match kind {
        "Object Created" => Kind::Created,
        "Object Deleted" => Kind::Deleted,
        _ => {
            message.others += 1;
            return Ok(());
        }
    };
    let named = |path| text(detail, path).ok_or(Strange::Incomplete);
    message.records.push(Record {
        bucket: named("/bucket/name")?.to_owned(),
        key: named("/object/key")?.to_owned(),
        plain: None,
        kind,
        etag: etag(detail, "/object/etag"),
        time: time(event, "/time"),
        sequencer: sequencer(detail, "/object/sequencer"),
    });
    Ok(())
}

/// What the name of an event means for its object; nothing, if that stays as it is.
fn kind(name: &str) -> Option<Kind> {
    let (group, what) = name.split_once(':').unwrap_or((name, ""));
    match group {
        "ObjectCreated" => Some(Kind::Created),
        "ObjectRemoved" | "LifecycleExpiration" => Some(Kind::Deleted),
        // Ceph's.
        "ObjectLifecycle" if what.starts_with("Expiration") => Some(Kind::Deleted),
        "ObjectSynced" if what.starts_with("Create") => Some(Kind::Created),
        "ObjectSynced" if what.starts_with("Delete") => Some(Kind::Deleted),
        _ => None,
    }
}

fn text<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    value.pointer(path)?.as_str()
}

/// A key as forms encode it: `+` for a space, and bytes in hexadecimal digits.
fn decoded(key: &str) -> Option<String> {
    let spaced = key.replace('+', " ");
    let key = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(key.into_owned())
}

fn etag(value: &Value, path: &str) -> Option<String> {
    let etag = text(value, path)?.trim_matches('"');
    (!etag.is_empty()).then(|| etag.to_owned())
}

fn time(value: &Value, path: &str) -> Option<Timestamp> {
    text(value, path)?.parse().ok()
}

fn sequencer(value: &Value, path: &str) -> Option<Sequencer> {
    let digits = text(value, path)?;
    let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| Sequencer(digits.trim_start_matches('0').to_ascii_uppercase()))
}

impl Ord for Sequencer {
    fn cmp(&self, other: &Sequencer) -> std::cmp::Ordering {
        let (a, b) = (&self.0, &other.0);
        a.len().cmp(&b.len()).then_with(|| a.cmp(b))
    }
}

impl PartialOrd for Sequencer {
    fn partial_cmp(&self, other: &Sequencer) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const S3: &str = include_str!("samples/s3-2.3.json");
    const OLD: &str = include_str!("samples/s3-2.0.json");
    const CEPH: &str = include_str!("samples/ceph.json");
    const MINIO: &str = include_str!("samples/minio.json");
    const BRIDGE: &str = include_str!("samples/event-bridge.json");
    const TEST: &str = include_str!("samples/test-event.json");

    /// Records in short: kind, key, other reading of it, etag, time.
    fn short(text: &str) -> (Vec<String>, usize) {
        let message = parse(text.as_bytes()).unwrap();
        let short = |record: &Record| {
            assert_eq!(record.bucket, "photos");
            let (key, plain) = (&record.key, record.plain.as_deref().unwrap_or("-"));
            let etag = record.etag.as_deref().unwrap_or("-");
            let time = record.time.unwrap();
            format!("{:?} {key} | {plain} | {etag} | {time}", record.kind)
        };
        (message.records.iter().map(short).collect(), message.others)
    }

    fn wrapped(text: &str) -> String {
        let sns = json!({
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
            "Subject": "Amazon S3 Notification",
            "Message": text,
            "Timestamp": "2012-05-02T00:54:06.655Z",
        });
        sns.to_string()
    }

    #[test]
    fn each_store_is_understood() {
        let samples = [
            (
                S3,
                &[
                    "Created in/red flower+ü.jpg | - | d41d8cd98f00b204e9800998ecf8427e-2 | 2026-03-14T15:09:26.535Z",
                    "Deleted in/old.jpg | - | - | 2026-03-14T15:09:27.000Z",
                ][..],
                1,
            ),
            (
                OLD,
                &[
                    "Deleted HappyFace.jpg | - | d41d8cd98f00b204e9800998ecf8427e | 1970-01-01T00:00:00.000Z",
                ],
                0,
            ),
            (
                CEPH,
                &[
                    "Created my image/100%.jpg | my+image/100%25.jpg | 37b51d194a7513e45b56f6524f2d51f2 | 2019-11-22T13:47:35.124Z",
                ],
                0,
            ),
            (
                MINIO,
                &["Created 5cdf/colours.xml | - | 0cba | 2019-05-18T07:34:32.000Z"],
                0,
            ),
            (
                BRIDGE,
                &[
                    "Created a+b%20c | - | b1946ac92492d2347c6235b4d2611184 | 2021-11-12T00:00:00.000Z",
                ],
                0,
            ),
            (TEST, &[], 1),
        ];
        for (text, records, others) in samples {
            let expected: Vec<String> = records.iter().map(|record| record.to_string()).collect();
            assert_eq!(short(text), (expected.clone(), others), "{text}");
            assert_eq!(short(&wrapped(text)), (expected.clone(), others), "by SNS");
            assert_eq!(short(&format!("[{text}]")), (expected, others), "in a list");
        }
        assert_eq!(short(&wrapped(&wrapped(MINIO))), short(MINIO));
        let both = format!("[{MINIO}, {}]", wrapped(BRIDGE));
        assert_eq!(parse(both.as_bytes()).unwrap().records.len(), 2);
    }

    #[test]
    fn the_names_of_events_tell_what_became_of_the_object() {
        for (name, expected) in [
            ("ObjectCreated:Put", Some(Kind::Created)),
            ("ObjectCreated:Post", Some(Kind::Created)),
            ("ObjectCreated:Copy", Some(Kind::Created)),
            ("ObjectRemoved:Delete", Some(Kind::Deleted)),
            ("ObjectRemoved:DeleteMarkerCreated", Some(Kind::Deleted)),
            (
                "LifecycleExpiration:DeleteMarkerCreated",
                Some(Kind::Deleted),
            ),
            ("ObjectLifecycle:Expiration:Current", Some(Kind::Deleted)),
            ("ObjectSynced:Create", Some(Kind::Created)),
            ("ObjectSynced:Delete", Some(Kind::Deleted)),
            ("ObjectLifecycle:Transition:Current", None),
            ("ObjectRestore:Completed", None),
            ("ObjectAcl:Put", None),
            ("ObjectAccessed:Get", None),
            ("ReducedRedundancyLostObject", None),
            ("Replication:OperationFailedReplication", None),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
        for (name, others) in [("Object Deleted", 0), ("Object Tags Added", 1)] {
            let text = BRIDGE.replace("Object Created", name);
            let message = parse(text.as_bytes()).unwrap();
            assert_eq!(
                (message.records.len(), message.others),
                (1 - others, others)
            );
        }
    }

    #[test]
    fn what_no_store_wrote_is_strange() {
        let deep = (0..9).fold(MINIO.to_owned(), |text, _| wrapped(&text));
        let incomplete = |what: &str| MINIO.replace(what, "\"other\"");
        for (text, expected) in [
            ("", Strange::NotJson),
            ("an order", Strange::NotJson),
            ("{}", Strange::NoRecords),
            ("7", Strange::NoRecords),
            (r#"{"Records": 7}"#, Strange::NoRecords),
            (r#"{"Event": "s3:OtherEvent"}"#, Strange::NoRecords),
            (&wrapped("an order"), Strange::NoRecords),
            (&wrapped("{}"), Strange::NoRecords),
            (&deep, Strange::NoRecords),
            (&BRIDGE.replace("aws.s3", "aws.ec2"), Strange::NoRecords),
            (r#"{"Records": [7]}"#, Strange::Incomplete),
            (&incomplete("\"key\""), Strange::Incomplete),
            (&incomplete("\"bucket\""), Strange::Incomplete),
            (&incomplete("\"eventName\""), Strange::Incomplete),
            (&MINIO.replace("5cdf%2F", "%FF"), Strange::Incomplete),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(expected), "{text}");
        }
        let none = parse(br#"{"Records": []}"#).unwrap();
        assert_eq!(none, Message::default());
    }

    #[test]
    fn the_last_record_of_a_key_is_that_of_the_highest_sequencer() {
        let record = |key: &str, etag: &str, sequence: &str| Record {
            bucket: "photos".into(),
            key: key.into(),
            plain: None,
            kind: Kind::Created,
            etag: Some(etag.into()),
            time: None,
            sequencer: sequencer(&json!({ "s": sequence }), "/s"),
        };
        for (sequencers, expected) in [
            (["1", "2"], "second"),
            (["2", "1"], "first"),
            (["9", "10"], "second"),
            (["0055AED6DCD90281E5", "55aed6dcd90281e4"], "first"),
            (["0055AED6DCD90281E5", "55aed6dcd90281e6"], "second"),
            (["ff", "00000000000000000000000000000fe"], "first"),
            // They cannot be told apart: the message's order is as good as any.
            (["7", "7"], "second"),
            (["9", "no number"], "second"),
            (["", "1"], "second"),
        ] {
            let [one, two] = sequencers;
            let records = vec![
                record("a", "first", one),
                record("b", "other", "0"),
                record("a", "second", two),
            ];
            let records = latest(records);
            let found: Vec<_> = records
                .iter()
                .map(|r| (&*r.key, r.etag.as_deref()))
                .collect();
            assert_eq!(
                found,
                [("a", Some(expected)), ("b", Some("other"))],
                "{sequencers:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn sequencers_are_numbers(a: u64, b: u64, zeros in 0usize..5) {
            let read = |text: String| sequencer(&json!({ "s": text }), "/s").unwrap();
            let padded = format!("{}{b:x}", "0".repeat(zeros));
            prop_assert_eq!(read(format!("{a:X}")).cmp(&read(padded)), a.cmp(&b));
        }

        #[test]
        fn any_key_is_found_again(key in "\\PC{1,40}") {
            let encoded: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
            prop_assert_eq!(decoded(&encoded), Some(key));
        }

        #[test]
        fn anything_is_read_or_strange(text in "\\PC*") {
            let _ = parse(text.as_bytes());
            let _ = parse(wrapped(&text).as_bytes());
        }
    }
}
