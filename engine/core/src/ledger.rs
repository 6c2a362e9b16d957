//! The ledger of a bucket: which version of which key has become an event.
//!
//! However often an object is noticed, by a watcher, a notification or a listing, [`observe`]
//! compares it with the ledger and tells whether it is news.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{event::Event, time::Timestamp};

/// The type of the event of an object that came or changed.
pub const CREATED: &str = "object.created";
/// The type of the event of an object that went.
pub const DELETED: &str = "object.deleted";

/// An object as a store shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Changes whenever the object does.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// When it was written last, by the store's clock.
    pub modified: Timestamp,
}

/// What the ledger of a bucket knows of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The object's key.
    pub key: String,
    /// The etag that became an event last; absent, the object was deleted.
    pub etag: Option<String>,
    /// The size in bytes of that object.
    pub size: u64,
    /// When that object was written.
    pub modified: Timestamp,
    /// How often the ledger saw the key deleted, or replaced by an object that is not newer: the
    /// same object put back is a new event.
    pub deletes: u32,
}

/// A step of the ledger. It is taken only if the key still stands at `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerMove {
    /// The bucket's name in the plan.
    pub bucket: String,
    /// What the ledger knew.
    pub from: Option<LedgerEntry>,
    /// What it knows from now on.
    pub to: LedgerEntry,
}

/// What is known of a bucket as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketState {
    /// When it was listened to for the first time, by its own clock.
    pub began: Timestamp,
    /// Whether all that was there then is in the ledger.
    pub complete: bool,
    /// Where [`LedgerEntry::deletes`] begins for keys that the ledger does not know: no key that it
    /// has forgotten had more, so no event comes by the id of an earlier one.
    pub deletes: u32,
}

/// A change of what is known of a bucket as a whole. Only its connector makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketMove {
    /// The bucket's name in the plan.
    pub bucket: String,
    /// What is known from now on.
    pub to: BucketState,
    /// Forgets the keys that went before and have at most `to.deletes`, the oldest first.
    pub forget: Option<Forget>,
}

/// Which keys the ledger forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forget {
    /// Those that were seen to be gone before.
    pub before: Timestamp,
    /// At most so many.
    pub limit: usize,
}

/// How many keys of a bucket are in its ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerCount {
    /// That are there.
    pub objects: u64,
    /// That went.
    pub gone: u64,
}

/// Keys that went before an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// How many.
    pub keys: u64,
    /// The most that [`LedgerEntry::deletes`] is among them.
    pub deletes: u32,
}

/// Who noticed first what became an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticedBy {
    /// Somebody told: the store by a notification, or the kernel of a change in a folder.
    Notification,
    /// The first listing of the whole bucket: of what was there before, nobody could tell.
    FirstListing,
    /// Another listing, which finds what nobody told.
    Listing,
}

impl NoticedBy {
    /// As it is shown and counted.
    pub fn as_str(self) -> &'static str {
        match self {
            NoticedBy::Notification => "notification",
            NoticedBy::FirstListing | NoticedBy::Listing => "listing",
        }
    }
}

/// The source attribute of a bucket's events.
pub fn source(bucket: &str) -> String {
    format!("bucket:{bucket}")
}

/// Compares a key as the store shows it now (`seen`, absent if it is not there) with the ledger.
/// Returns the step of the ledger and the event that goes with it, if this is news. `forgotten` is
/// [`BucketState::deletes`].
pub fn observe(
    bucket: &str,
    key: &str,
    known: Option<&LedgerEntry>,
    forgotten: u32,
    seen: Option<&Object>,
    now: Timestamp,
) -> Option<(LedgerMove, Event)> {
    let known_etag = known.and_then(|entry| entry.etag.as_deref());
    let deletes = known.map_or(forgotten, |entry| entry.deletes);
    let (to, kind, id, time) = match (known_etag, seen) {
        (Some(before), Some(object)) if before == object.etag => return None,
        (None, None) => return None,
        (before, Some(object)) => {
            // A file renamed back over its successor has its old etag, and is as old as it was.
            // Counting every step that is not forward in time, no etag comes back with one count.
            let back = before.is_some() && known.is_some_and(|k| object.modified <= k.modified);
            let deletes = deletes + u32::from(back);
            let to = LedgerEntry {
                key: key.to_owned(),
                etag: Some(object.etag.clone()),
                size: object.size,
                modified: object.modified,
                deletes,
            };
            let id = format!("created:{key}@{}.{deletes}", object.etag);
            (to, CREATED, id, object.modified)
        }
        (Some(before), None) => {
            let to = LedgerEntry {
                key: key.to_owned(),
                etag: None,
                size: 0,
                modified: now,
                deletes: deletes + 1,
            };
            let id = format!("deleted:{key}@{before}.{deletes}");
            (to, DELETED, id, now)
        }
    };
    let event = Event {
        id,
        source: source(bucket),
        kind: kind.to_owned(),
        subject: Some(key.to_owned()),
        time,
        datacontenttype: Some("application/json".into()),
        traceparent: None,
        hops: 0,
        headers: Vec::new(),
        data: record(bucket, kind, key, seen, time),
    };
    let step = LedgerMove {
        bucket: bucket.to_owned(),
        from: known.cloned(),
        to,
    };
    Some((step, event))
}

/// The record of the event, in the shape of an S3 notification; the key is plain, not URL-encoded.
pub fn record(
    bucket: &str,
    kind: &str,
    key: &str,
    object: Option<&Object>,
    time: Timestamp,
) -> Bytes {
    let name = if kind == DELETED {
        "ObjectRemoved:Delete"
    } else {
        "ObjectCreated:Put"
    };
    let mut described = json!({ "key": key });
    if let Some(object) = object {
        described["size"] = object.size.into();
        described["eTag"] = object.etag.as_str().into();
    }
    let record = json!({
        "eventVersion": "2.3",
        "eventSource": "tidemill:bucket",
        "eventTime": time.to_string(),
        "eventName": name,
        "s3": { "s3SchemaVersion": "1.0", "bucket": { "name": bucket }, "object": described },
    });
    record.to_string().into()
}

/// The etag in the record of a created object's event: the version that the event tells of.
pub fn etag(event: &Event) -> Option<String> {
    let record: serde_json::Value = serde_json::from_slice(&event.data).ok()?;
    Some(record.pointer("/s3/object/eTag")?.as_str()?.to_owned())
}

/// The size in the record of a created object's event, in bytes.
pub fn size(event: &Event) -> Option<u64> {
    let record: serde_json::Value = serde_json::from_slice(&event.data).ok()?;
    record.pointer("/s3/object/size")?.as_u64()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The store as it stands: an object written at the time that its etag names, or none.
    fn step(known: Option<&LedgerEntry>, etag: Option<&str>) -> Option<(LedgerEntry, Event)> {
        let seen = etag.map(|etag| Object {
            key: "a.jpg".into(),
            etag: etag.into(),
            size: 3,
            modified: Timestamp(etag.parse().unwrap()),
        });
        step_to(known, seen)
    }

    fn step_to(known: Option<&LedgerEntry>, seen: Option<Object>) -> Option<(LedgerEntry, Event)> {
        let (step, event) = observe("uploads", "a.jpg", known, 0, seen.as_ref(), Timestamp(9))?;
        assert_eq!(step.from.as_ref(), known);
        Some((step.to, event))
    }

    #[test]
    fn a_life_of_an_object() {
        let (first, event) = step(None, Some("1")).unwrap();
        assert_eq!(
            (event.kind.as_str(), event.id.as_str()),
            (CREATED, "created:a.jpg@1.0")
        );
        assert_eq!(etag(&event).as_deref(), Some("1"));
        assert_eq!(step(Some(&first), Some("1")), None, "noticed twice");

        let (second, event) = step(Some(&first), Some("2")).unwrap();
        assert_eq!(event.id, "created:a.jpg@2.0", "overwritten");

        let (gone, event) = step(Some(&second), None).unwrap();
        assert_eq!(
            (event.kind.as_str(), event.id.as_str()),
            (DELETED, "deleted:a.jpg@2.0")
        );
        assert_eq!(step(Some(&gone), None), None, "its absence noticed twice");

        let (second, event) = step(Some(&gone), Some("2")).unwrap();
        assert_eq!(event.id, "created:a.jpg@2.1", "the same bytes again");

        let (third, _) = step(Some(&second), Some("3")).unwrap();
        let (_, event) = step(Some(&third), Some("2")).unwrap();
        assert_eq!(event.id, "created:a.jpg@2.2", "put back over its successor");
    }

    proptest! {
        /// Whatever a key goes through, every change has an id of its own, and no observation
        /// without a change makes an event. Objects come back as they were, and some are equally old.
        #[test]
        fn ids_never_repeat(
            written in proptest::array::uniform4(0i64..4),
            life in proptest::collection::vec(proptest::option::of(0usize..4), 1..60),
        ) {
            let mut known: Option<LedgerEntry> = None;
            let mut ids = std::collections::HashSet::new();
            for (n, seen) in life.into_iter().enumerate() {
                let etag = seen.map(|e| e.to_string());
                let object = seen.map(|e| Object {
                    key: "a.jpg".into(),
                    etag: e.to_string(),
                    size: 3,
                    modified: Timestamp(written[e]),
                });
                if let Some((to, event)) = step_to(known.as_ref(), object) {
                    prop_assert!(ids.insert(event.id.clone()), "{} again at step {n}", event.id);
                    known = Some(to);
                } else {
                    prop_assert_eq!(known.as_ref().and_then(|k| k.etag.clone()), etag);
                }
            }
        }
    }
}
