//! Selectors: places in an event, by which a user says what matters of it.

use std::{borrow::Cow, cell::OnceCell, fmt, str::FromStr};

use serde_json::Value;

use crate::event::Event;

/// An event whose data is parsed as JSON at most once, and only if somebody looks into it.
#[derive(Debug)]
pub struct Parsed<'e> {
    /// The event.
    pub event: &'e Event,
    json: OnceCell<Option<Value>>,
}

impl<'e> Parsed<'e> {
    /// Nothing is parsed yet.
    pub fn new(event: &'e Event) -> Parsed<'e> {
        Parsed {
            event,
            json: OnceCell::new(),
        }
    }

    /// The data, if it is JSON.
    pub fn json(&self) -> Option<&Value> {
        let parse = || serde_json::from_slice(&self.event.data).ok();
        self.json.get_or_init(parse).as_ref()
    }
}

impl Parsed<'_> {
    /// All that stands at a place: nothing, one value, or one for each header of that name, or for
    /// each object of a list on the way. `null` is a value.
    pub(crate) fn at(&self, place: &Selector) -> Vec<Found<'_>> {
        let mut found = Vec::new();
        match place {
            Selector::Json(steps) => {
                if let Some(json) = self.json() {
                    spread(json, steps, &mut found);
                }
            }
            Selector::Header(name) => {
                let headers = self.event.headers.iter();
                let own = headers.filter(|(key, _)| key == name);
                found.extend(own.map(|(_, value)| Found::Text(value.into())));
            }
            Selector::Attribute(attribute) => {
                found.extend(attribute.of(self.event).map(Found::Text));
            }
        }
        found
    }
}

/// What stands at a place.
#[derive(Clone, Debug)]
pub(crate) enum Found<'v> {
    /// In a header or an attribute, where there is only text.
    Text(Cow<'v, str>),
    /// In the JSON data.
    Json(&'v Value),
}

/// An attribute of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of CloudEvents")]
pub enum Attribute {
    Id,
    Source,
    Type,
    Subject,
    Time,
    Datacontenttype,
    Traceparent,
}

impl Attribute {
    /// All of them, by name.
    pub const ALL: [(&'static str, Attribute); 7] = [
        ("id", Attribute::Id),
        ("source", Attribute::Source),
        ("type", Attribute::Type),
        ("subject", Attribute::Subject),
        ("time", Attribute::Time),
        ("datacontenttype", Attribute::Datacontenttype),
        ("traceparent", Attribute::Traceparent),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Attribute::ALL.iter().find(|(_, one)| *one == self);
        found.map_or("", |(name, _)| name)
    }

    /// What the event has there. The time is RFC 3339, in UTC.
    pub fn of(self, event: &Event) -> Option<Cow<'_, str>> {
        let text = match self {
            Attribute::Id => &event.id,
            Attribute::Source => &event.source,
            Attribute::Type => &event.kind,
            Attribute::Subject => event.subject.as_ref()?,
            Attribute::Time => return Some(event.time.to_string().into()),
            Attribute::Datacontenttype => event.datacontenttype.as_ref()?,
            Attribute::Traceparent => event.traceparent.as_ref()?,
        };
        Some(text.as_str().into())
    }
}

/// A place in an event: `$.json.path`, `header:Name` or `attr:subject`.
///
/// A name in a path that is not made of letters, digits, `_` and `-` alone stands in brackets, as a
/// JSON string: `$.a["b.c"].d`. An element of a list goes by its number from 0: `$.items[0].id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// A field of the JSON data, by the steps on the way to it.
    Json(Vec<Step>),
    /// A header, by its lower-case name.
    Header(String),
    /// An attribute.
    Attribute(Attribute),
}

/// A step of a path into JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the field of this name.
    Field(String),
    /// To the element of this number, from 0.
    Element(usize),
}

/// The text is no selector; what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a selector is $.json.path, header:Name or attr:name")]
pub struct NotASelector;

impl Selector {
    /// The value there as text, fit to be a lane or a key: values that read the same are the same,
    /// so the number 1 and the string "1" are, for senders differ in that. A whole number that fits
    /// 64 bits keeps all its digits; any other is the shortest decimal of the nearest 64-bit float, so
    /// that 1, 1.0 and 1e0 are the same. Of several headers it is the first. None, if there is
    /// nothing, null, a list or an object; a path does not go through all elements of a list, as it
    /// does in filters.
    pub fn scalar(&self, event: &Parsed<'_>) -> Option<String> {
        match self {
            Selector::Json(steps) => match walk(event.json()?, steps)? {
                Value::String(text) => Some(text.clone()),
                Value::Bool(flag) => Some(flag.to_string()),
                Value::Number(number) => Some(decimal(number)),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            },
            Selector::Header(name) => event.event.header(name).map(str::to_owned),
            Selector::Attribute(attribute) => attribute.of(event.event).map(Cow::into_owned),
        }
    }
}

/// The value at the end of the steps.
fn walk<'v>(value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Field(name) => value.get(name),
        Step::Element(number) => value.get(number),
    })
}

/// All values at the end of the steps: a step to a field takes every object of a list.
fn spread<'v>(value: &'v Value, steps: &[Step], found: &mut Vec<Found<'v>>) {
    match (steps.split_first(), value) {
        (None, value) => found.push(Found::Json(value)),
        (Some((Step::Field(_), _)), Value::Array(all)) => {
            all.iter().for_each(|one| spread(one, steps, found));
        }
        (Some((step, rest)), value) => {
            if let Some(next) = walk(value, std::slice::from_ref(step)) {
                spread(next, rest, found);
            }
        }
    }
}

fn decimal(number: &serde_json::Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        // It shows 1.0 and 1e0 as 1, and the sum has no negative zero.
        Some(float) => (float + 0.0).to_string(),
        None => number.to_string(),
    }
}

impl FromStr for Selector {
    type Err = NotASelector;

    fn from_str(text: &str) -> Result<Selector, NotASelector> {
        if let Some(path) = text.strip_prefix('$') {
            return Ok(Selector::Json(steps(path).ok_or(NotASelector)?));
        }
        match text.split_once(':') {
            Some(("header", name)) if !name.is_empty() => {
                Ok(Selector::Header(name.to_ascii_lowercase()))
            }
            Some(("attr", name)) => {
                let found = Attribute::ALL.iter().find(|(known, _)| *known == name);
                let (_, attribute) = found.ok_or(NotASelector)?;
                Ok(Selector::Attribute(*attribute))
            }
            _ => Err(NotASelector),
        }
    }
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name.chars().all(plain)
}

/// The steps of a path, the `$` left out; at least one.
fn steps(mut path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    while !path.is_empty() {
        if let Some(rest) = path.strip_prefix('.') {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            is_plain(name).then(|| steps.push(Step::Field(name.to_owned())))?;
            path = rest;
            continue;
        }
        let rest = path.strip_prefix('[')?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let step = match values.next()?.ok()? {
            Value::String(name) => Step::Field(name),
            Value::Number(number) => Step::Element(usize::try_from(number.as_u64()?).ok()?),
            _ => return None,
        };
        path = rest[values.byte_offset()..].strip_prefix(']')?;
        steps.push(step);
    }
    (!steps.is_empty()).then_some(steps)
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = match self {
            Selector::Header(name) => return write!(f, "header:{name}"),
            Selector::Attribute(attribute) => return write!(f, "attr:{}", attribute.name()),
            Selector::Json(steps) => steps,
        };
        f.write_str("$")?;
        for step in steps {
            match step {
                Step::Field(name) if is_plain(name) => write!(f, ".{name}")?,
                Step::Field(name) => write!(f, "[{}]", Value::from(name.as_str()))?,
                Step::Element(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::time::Timestamp;

    fn event(data: &str) -> Event {
        Event {
            id: "1".into(),
            source: "http:/orders".into(),
            kind: "http.request".into(),
            subject: Some("/orders".into()),
            time: Timestamp(0),
            datacontenttype: None,
            traceparent: None,
            hops: 0,
            headers: vec![
                ("x-order".into(), "7".into()),
                ("x-order".into(), "8".into()),
            ],
            data: Bytes::from(data.to_owned()),
        }
    }

    #[test]
    fn table() {
        let data = r#"{
            "s": "x", "n": 1, "f": 1.0, "e": 1e0, "h": 0.5, "minus": -0.0,
            "least": -9223372036854775808, "huge": 2e19, "big": 18446744073709551615,
            "t": true, "z": null, "l": [{"id": 5}], "o": {"a.b": {"c": "deep"}}, "": "empty"
        }"#;
        let found = event(data);
        let cases = [
            ("$.s", Some("x")),
            ("$.n", Some("1")),
            ("$.f", Some("1")),
            ("$.e", Some("1")),
            ("$.h", Some("0.5")),
            ("$.minus", Some("0")),
            ("$.least", Some("-9223372036854775808")),
            ("$.huge", Some("20000000000000000000")),
            ("$.big", Some("18446744073709551615")),
            ("$.t", Some("true")),
            ("$.z", None),
            ("$.l", None),
            ("$.o", None),
            ("$.nothing.at.all", None),
            ("$.l[0].id", Some("5")),
            ("$.l[1].id", None),
            ("$.l.id", None),
            ("$.l.0", None),
            ("$.o[0]", None),
            (r#"$.o["a.b"].c"#, Some("deep")),
            (r#"$[""]"#, Some("empty")),
            ("header:X-Order", Some("7")),
            ("header:other", None),
            ("attr:subject", Some("/orders")),
            ("attr:time", Some("1970-01-01T00:00:00.000Z")),
            ("attr:datacontenttype", None),
        ];
        for (text, expected) in cases {
            let selector: Selector = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            let value = selector.scalar(&Parsed::new(&found));
            assert_eq!(value.as_deref(), expected, "{text}");
        }
        let not_json = event("plain");
        let selector: Selector = "$.s".parse().unwrap();
        assert_eq!(selector.scalar(&Parsed::new(&not_json)), None);
    }

    #[test]
    fn every_place_goes_there_and_back() {
        let mut texts = vec!["header:x-order".to_owned(), "header:a:b".to_owned()];
        texts.extend(Attribute::ALL.map(|(name, _)| format!("attr:{name}")));
        texts.extend(["$.a-b._c[0][\"\"]", "$[\"a b\"].ä"].map(str::to_owned));
        for text in texts {
            let selector = text.parse::<Selector>().map(|found| found.to_string());
            assert_eq!(selector, Ok(text));
        }
    }

    #[test]
    fn refuses_other_texts() {
        for text in [
            "",
            "$",
            "$.",
            "$.a.",
            "$..a",
            "a.b",
            "$.a[",
            "$.a[]",
            "$.a[-1]",
            "$.a[1.5]",
            "$.a[x]",
            "$.a b",
            "header:",
            "attr:",
            "attr:data",
            "query:a",
        ] {
            assert_eq!(text.parse::<Selector>(), Err(NotASelector), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_goes_there_and_back(steps in proptest::collection::vec(
            prop_oneof![
                "\\PC{0,6}".prop_map(Step::Field),
                any::<u32>().prop_map(|n| Step::Element(n as usize)),
            ],
            1..5,
        )) {
            let selector = Selector::Json(steps);
            prop_assert_eq!(selector.to_string().parse(), Ok(selector));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,20}", rest in "[$.a\\[\\]\"0-9]{0,12}") {
            _ = text.parse::<Selector>();
            if let Ok(selector) = format!("$.a{rest}").parse::<Selector>() {
                prop_assert_eq!(selector.to_string().parse(), Ok(selector));
            }
        }
    }
}
