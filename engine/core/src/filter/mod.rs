//! Filters: which events a trigger matches.
//!
//! They mean what those of EventBridge do. Of each place that a filter names, one pattern is enough,
//! and all places must have theirs:
//! - a place with nothing matches `exists = false` alone, and not even `anything-but`;
//! - of a list, of a list on the way, and of a header that is there several times, one value that
//!   matches is enough. Two places are looked at by themselves, so they may match in two elements;
//! - an object matches `exists = true` alone;
//! - a string of the JSON data is no number, but a header or an attribute, which can only be text,
//!   is whatever it reads as.

mod pattern;

pub use pattern::{Comparison, Pattern, Scalar};

use crate::{
    event::Event,
    ledger::{CREATED, DELETED, size},
    selector::{Found, Parsed, Selector},
};

/// What `filter` of a trigger says: all conditions hold, and of the alternatives, if there are any,
/// one does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// All of these.
    pub conditions: Vec<Condition>,
    /// And one of these.
    pub alternatives: Vec<Filter>,
}

/// One of the patterns matches what stands at a place of the event.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Where.
    pub place: Selector,
    /// What may stand there.
    pub patterns: Vec<Pattern>,
}

impl Filter {
    /// Whether the event matches.
    pub fn matches(&self, event: &Parsed<'_>) -> bool {
        let one = |filter: &Filter| filter.matches(event);
        self.conditions
            .iter()
            .all(|condition| condition.holds(event))
            && (self.alternatives.is_empty() || self.alternatives.iter().any(one))
    }
}

impl Condition {
    fn holds(&self, event: &Parsed<'_>) -> bool {
        let found = event.at(&self.place);
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::Exists(wanted) => found.is_empty() != *wanted,
            _ => found.iter().any(|found| match found {
                Found::Text(text) => pattern.matches_text(text),
                Found::Json(value) => pattern.matches_json(value),
            }),
        })
    }
}

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
    /// The least size of an object that comes or changes, in bytes.
    pub min_size: u64,
    /// The largest.
    pub max_size: u64,
}

impl ObjectFilter {
    /// Whether the object has a size that is wanted; one that went has none.
    pub fn fits(&self, event: &Event) -> bool {
        let wanted = self.min_size..=self.max_size;
        wanted == (0..=u64::MAX) || size(event).is_none_or(|size| wanted.contains(&size))
    }

    /// Whether the event matches, of whatever size its object is.
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
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        ledger::{LedgerEntry, Object, observe},
        selector::Step,
        time::Timestamp,
    };

    fn request(data: Vec<u8>) -> Event {
        let header = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Event {
            id: "1".into(),
            source: "http:/orders".into(),
            kind: "http.request".into(),
            subject: Some("/orders".into()),
            time: Timestamp(0),
            datacontenttype: None,
            traceparent: None,
            hops: 0,
            headers: [("x-a", "1"), ("x-a", "20"), ("x-b", "infinity")]
                .map(header)
                .into(),
            data: data.into(),
        }
    }

    fn one(place: &str, pattern: Pattern) -> Filter {
        let place = place.parse().unwrap_or_else(|e| panic!("{place}: {e}"));
        let patterns = vec![pattern];
        Filter {
            conditions: vec![Condition { place, patterns }],
            alternatives: Vec::new(),
        }
    }

    fn is(text: &str) -> Pattern {
        Pattern::Equals(Scalar::String(text.to_owned()))
    }

    fn but(pattern: Pattern) -> Pattern {
        Pattern::AnythingBut(vec![pattern])
    }

    fn above(than: f64) -> Pattern {
        Pattern::Numeric(vec![(Comparison::Greater, than)])
    }

    #[test]
    fn places() {
        let data = json!({
            "s": "x", "n": 5, "text": "50", "z": null, "empty": [],
            "list": ["a", "b", 7], "nested": [["a"], [["b"]]], "o": {"k": 1},
            "items": [{"id": "a", "n": 1}, {"id": "b"}, "c"],
        });
        let cases = [
            ("$.s", is("x"), true),
            ("$.s", is("y"), false),
            ("$.n", above(4.0), true),
            ("$.text", above(4.0), false),
            // Nothing there.
            ("$.no", is("x"), false),
            ("$.no", but(is("x")), false),
            ("$.no", Pattern::Exists(false), true),
            ("$.no", Pattern::Exists(true), false),
            ("$.s.deeper", Pattern::Exists(false), true),
            // Null, an empty list and an object are there, without a value that could match.
            ("$.z", Pattern::Exists(true), true),
            ("$.z", but(is("x")), true),
            ("$.empty", Pattern::Exists(true), true),
            ("$.empty", but(is("x")), false),
            ("$.o", Pattern::Exists(true), true),
            ("$.o", but(is("x")), false),
            // One element is enough.
            ("$.list", is("b"), true),
            ("$.list", is("c"), false),
            ("$.list", above(6.0), true),
            ("$.list", but(is("a")), true),
            ("$.nested", is("b"), true),
            ("$.nested", is("c"), false),
            ("$.items.id", is("b"), true),
            ("$.items.id", is("c"), false),
            ("$.items.n", Pattern::Exists(true), true),
            ("$.items.m", Pattern::Exists(false), true),
            ("$.items[0].id", is("b"), false),
            ("$.items[1].id", is("b"), true),
            // Headers and attributes.
            ("header:X-A", is("20"), true),
            ("header:X-A", above(19.0), true),
            ("header:X-A", above(20.0), false),
            ("header:X-B", above(0.0), false),
            ("header:X-C", Pattern::Exists(false), true),
            ("attr:type", Pattern::Prefix("http.".into()), true),
            ("attr:subject", Pattern::Suffix("s".into()), true),
            ("attr:time", Pattern::Prefix("1970-01-01T".into()), true),
            ("attr:datacontenttype", but(is("text/plain")), false),
        ];
        let found = request(data.to_string().into_bytes());
        for (place, pattern, expected) in cases {
            let filter = one(place, pattern);
            let matches = filter.matches(&Parsed::new(&found));
            assert_eq!(matches, expected, "{filter:?}");
        }
    }

    #[test]
    fn data_that_is_not_json_has_no_fields() {
        for data in ["", "plain", "{\"s\": 1"] {
            let found = request(data.into());
            let matches = |filter: Filter| filter.matches(&Parsed::new(&found));
            assert!(matches(one("$.s", Pattern::Exists(false))));
            assert!(!matches(one("$.s", Pattern::Exists(true))));
        }
    }

    #[test]
    fn all_conditions_and_one_alternative() {
        let (yes, no) = (|| one("$.a", is("1")), || one("$.a", is("2")));
        let all = |filters: Vec<Filter>, alternatives| Filter {
            conditions: filters.into_iter().flat_map(|f| f.conditions).collect(),
            alternatives,
        };
        let cases = [
            (Filter::default(), true),
            (all(vec![yes(), yes()], vec![]), true),
            (all(vec![yes(), no()], vec![]), false),
            (all(vec![yes()], vec![no(), yes()]), true),
            (all(vec![yes()], vec![no(), no()]), false),
            (all(vec![no()], vec![yes()]), false),
            (all(vec![], vec![all(vec![], vec![no(), yes()])]), true),
            (all(vec![], vec![all(vec![yes()], vec![no()])]), false),
        ];
        let found = request(br#"{"a": "1"}"#.into());
        for (filter, expected) in cases {
            let matches = filter.matches(&Parsed::new(&found));
            assert_eq!(matches, expected, "{filter:?}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-c*\\PC]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let fields = proptest::collection::btree_map("[a-c]", inner.clone(), 0..4);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                fields.prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        let text = || "[a-c*\\\\]{0,3}";
        let how = proptest::sample::select(vec![
            Comparison::Less,
            Comparison::LessOrEqual,
            Comparison::Equal,
            Comparison::GreaterOrEqual,
            Comparison::Greater,
        ]);
        let leaf = prop_oneof![
            text().prop_map(|text| is(&text)),
            any::<f64>().prop_map(|n| Pattern::Equals(Scalar::Number(n))),
            any::<bool>().prop_map(|flag| Pattern::Equals(Scalar::Flag(flag))),
            text().prop_map(Pattern::Prefix),
            text().prop_map(Pattern::Suffix),
            text().prop_map(Pattern::Wildcard),
            text().prop_map(Pattern::IgnoreCase),
            proptest::collection::vec((how, any::<f64>()), 0..3).prop_map(Pattern::Numeric),
            any::<bool>().prop_map(Pattern::Exists),
        ];
        leaf.prop_recursive(2, 6, 3, |inner| {
            proptest::collection::vec(inner, 0..3).prop_map(Pattern::AnythingBut)
        })
    }

    fn place() -> impl Strategy<Value = Selector> {
        let step = prop_oneof![
            3 => "[a-c]".prop_map(Step::Field),
            1 => (0..3usize).prop_map(Step::Element),
        ];
        prop_oneof![
            6 => proptest::collection::vec(step, 1..4).prop_map(Selector::Json),
            1 => "x-[a-c]".prop_map(Selector::Header),
        ]
    }

    proptest! {
        #[test]
        fn any_filter_meets_any_data(
            place in place(),
            patterns in proptest::collection::vec(pattern(), 0..4),
            data in value(),
            raw: Vec<u8>,
        ) {
            let filter = Filter {
                conditions: vec![Condition { place, patterns }],
                alternatives: Vec::new(),
            };
            for data in [data.to_string().into_bytes(), raw] {
                let found = request(data);
                let parsed = Parsed::new(&found);
                let matches = filter.matches(&parsed);
                prop_assert_eq!(matches, filter.matches(&parsed), "it is the same again");
                let Condition { place, patterns } = &filter.conditions[0];
                if parsed.at(place).is_empty() {
                    let absence = patterns.contains(&Pattern::Exists(false));
                    prop_assert_eq!(matches, absence, "nothing is there");
                }
            }
        }

        #[test]
        fn a_list_matches_if_one_of_its_elements_does(
            all in proptest::collection::vec(value(), 0..4),
            pattern in pattern(),
        ) {
            prop_assume!(!matches!(pattern, Pattern::Exists(_)));
            let filter = one("$.a", pattern);
            let matches = |value: &Value| {
                let found = request(json!({ "a": value }).to_string().into_bytes());
                filter.matches(&Parsed::new(&found))
            };
            let any = all.iter().any(matches);
            prop_assert_eq!(matches(&Value::from(all)), any);
        }
    }

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
        observe("b", key, Some(&known), 0, created.then_some(&object), at)
            .unwrap()
            .1
    }

    #[test]
    fn objects() {
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
                min_size: 0,
                max_size: u64::MAX,
            };
            let matches = filter.matches(&event(key, came));
            assert_eq!(matches, expected, "{filter:?} {key} {came}");
        }
    }

    #[test]
    fn sizes_of_objects_that_came() {
        let fits = |min_size, max_size, came| {
            let filter = ObjectFilter {
                created: true,
                deleted: true,
                prefix: String::new(),
                suffix: Vec::new(),
                min_size,
                max_size,
            };
            filter.fits(&event("a", came))
        };
        assert!(fits(0, u64::MAX, true) && fits(1, 1, true) && fits(0, 1, true));
        assert!(!fits(2, u64::MAX, true) && !fits(0, 0, true));
        assert!(fits(2, u64::MAX, false), "what is gone has no size");
    }
}
