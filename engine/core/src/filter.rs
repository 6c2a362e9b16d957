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
        let jpg = || vec![".jpg".to_owned(), ".jpeg".to_owned()];
        let cases: [(bool, bool, &str, Vec<String>, &str, bool, bool); 8] = [
            (true, false, "", vec![], "a.txt", true, true),
            (true, false, "", vec![], "a.txt", false, false),
            (false, true, "", vec![], "a.txt", false, true),
            (true, true, "in/", vec![], "in/a", true, true),
            (true, true, "in/", vec![], "out/in/a", true, false),
            (true, true, "", jpg(), "a.jpeg", true, true),
            (true, true, "", jpg(), "a.JPG", true, false),
            (true, true, "in/", jpg(), "in/a.jpg", true, true),
        ];
        for (created, deleted, prefix, suffix, key, came, expected) in cases {
            let filter = ObjectFilter {
                created,
                deleted,
                prefix: prefix.into(),
                suffix,
            };
            assert_eq!(
                filter.matches(&event(key, came)),
                expected,
                "{filter:?} {key} {came}"
            );
        }
    }
}
