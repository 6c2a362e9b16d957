//! Filters: which events a trigger matches.

use crate::{
    event::Event,
    ledger::{CREATED, DELETED},
};

/// Which events of a bucket match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFilter {
    /// Objects that come or change.
    pub created: bool,
    /// Objects that go.
    pub deleted: bool,
    /// How their keys start.
    pub prefix: String,
    /// How their keys end, one of these; empty, any.
    pub suffix: Vec<String>,
}

impl ObjectFilter {
    /// Whether the event matches.
    pub fn matches(&self, event: &Event) -> bool {
        let kind = match event.kind.as_str() {
            CREATED => self.created,
            DELETED => self.deleted,
            _ => false,
        };
        let key = event.subject.as_deref().unwrap_or_default();
        let ends = |suffix: &String| key.ends_with(suffix.as_str());
        kind && key.starts_with(&self.prefix)
            && (self.suffix.is_empty() || self.suffix.iter().any(ends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{LedgerEntry, Object, observe},
        time::Timestamp,
    };

    fn event(key: &str, created: bool) -> Event {
        let at = Timestamp(0);
        let object = Object {
            key: key.into(),
            etag: "1".into(),
            size: 1,
            modified: at,
        };
        let known = LedgerEntry {
            key: key.into(),
            etag: Some("0".into()),
            size: 1,
            modified: at,
            deletes: 0,
        };
        observe("b", key, Some(&known), created.then_some(&object), at)
            .unwrap()
            .1
    }

    #[test]
    fn table() {
        let jpg: &[&str] = &[".jpg", ".jpeg"];
        let came = |key, expected| (key, true, expected);
        let went = |key, expected| (key, false, expected);
        let cases = [
            ((true, false, "", [].as_slice()), came("a.txt", true)),
            ((true, false, "", &[]), went("a.txt", false)),
            ((false, true, "", &[]), went("a.txt", true)),
            ((true, true, "in/", &[]), came("in/a", true)),
            ((true, true, "in/", &[]), came("out/in/a", false)),
            ((true, true, "", jpg), came("a.jpeg", true)),
            ((true, true, "", jpg), came("a.JPG", false)),
            ((true, true, "in/", jpg), came("in/a.jpg", true)),
        ];
        for ((created, deleted, prefix, suffix), (key, came, expected)) in cases {
            let suffix = suffix.iter().map(|s| (*s).to_owned()).collect();
            let filter = ObjectFilter {
                created,
                deleted,
                prefix: prefix.into(),
                suffix,
            };
            let matches = filter.matches(&event(key, came));
            assert_eq!(matches, expected, "{filter:?} {key} {came}");
        }
    }
}
