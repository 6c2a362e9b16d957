//! The walk through a parsed document against the table of keys. It gives typed values, with the
//! defaults of what is not there, and problems; it never stops at the first one.
//!
//! It looks at each value by itself. What several values mean together is in `rules`.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    http,
    keys::{self, Key, Kind, Need, join},
    mismatch, patterns, scalar,
    sink::{Draft, Sink, Span},
    suggest,
    tree::{Node, Table, Value},
    values,
    words::{describe, not_built, shorten},
};

/// The table whose keys the elements of [`Kind::Filters`] have.
const FILTER: &str = "triggers.*.filter";

/// Walks the whole document.
pub(crate) fn document(sink: &mut Sink<'_>, base: &Arc<Path>, document: &DeTable<'_>) -> Table {
    let mut walk = Walk {
        sink,
        base: base.clone(),
        default_at: None,
    };
    walk.table(document, "", &[], 0..0)
}

pub(crate) struct Walk<'s, 'f> {
    pub sink: &'s mut Sink<'f>,
    pub base: Arc<Path>,
    /// Where the table stands whose default is being read; the default itself is not in the file.
    default_at: Option<Span>,
}

impl<'f> Walk<'_, 'f> {
    fn span(&self, span: Span) -> Span {
        self.default_at.clone().unwrap_or(span)
    }

    /// A table whose keys are in the table of keys below `path`.
    fn table(&mut self, table: &DeTable<'_>, path: &str, trail: &[String], span: Span) -> Table {
        let mut entries = BTreeMap::new();
        // Keys that are not missing, but misspelt.
        let mut misspelt = Vec::new();
        for (name, value) in table {
            let key_span = self.span(name.span());
            match keys::children(path).find(|key| key.name() == name.get_ref()) {
                Some(key) => {
                    let node = self.value(key, &below(trail, name.get_ref()), key_span, value);
                    entries.insert(key.name().to_owned(), node);
                }
                None => misspelt.extend(self.unknown(name.get_ref(), path, trail, key_span, value)),
            }
        }
        for key in keys::children(path).filter(|key| !table.contains_key(key.name())) {
            match key.need {
                Need::Required(_) if misspelt.contains(&key.name()) => {}
                Need::Required(_) => self.missing(key, trail, &span),
                Need::Default(_) => {
                    let node = self.default(key, trail, &span);
                    entries.insert(key.name().to_owned(), node);
                }
                Need::Optional | Need::OneOf(_) => {}
            }
        }
        let table = Table { span, entries };
        self.one_of(&table, path, trail, &misspelt);
        table
    }

    /// A table whose keys the user chooses.
    fn named(
        &mut self,
        table: &DeTable<'_>,
        kind: Kind,
        path: &str,
        trail: &[String],
        span: Span,
    ) -> Table {
        let mut entries = BTreeMap::new();
        for (name, value) in table {
            let (text, key_span) = (name.get_ref(), self.span(name.span()));
            let checked = match kind {
                Kind::Named => values::name(text),
                Kind::Headers => http::header_name(text),
                _ => values::free_name(text),
            };
            if let Err(wrong) = checked {
                let shown = if text.is_empty() {
                    "an empty key".into()
                } else {
                    format!("`{}`", shorten(text))
                };
                let message = format!("{shown} {}", wrong.verdict);
                let label = format!("expected {}", wrong.expected);
                self.sink
                    .add(Draft::error(key_span.clone(), message, label, wrong.help));
            }
            if let Some(key) = keys::children(path).next() {
                let node = self.value(key, &below(trail, text), key_span, value);
                entries.insert(text.to_string(), node);
            }
        }
        let table = Table { span, entries };
        if kind == Kind::Headers {
            self.same_headers(&table, trail);
        }
        table
    }

    /// Case does not count in the names of headers.
    fn same_headers(&mut self, table: &Table, trail: &[String]) {
        let mut headers: Vec<_> = table.entries.iter().collect();
        headers.sort_by_key(|(name, node)| (name.to_ascii_lowercase(), node.key_span.start));
        for pair in headers.windows(2) {
            let [(one, first), (two, second)] = pair else {
                continue;
            };
            if !one.eq_ignore_ascii_case(two) {
                continue;
            }
            let message = format!("{} names a header twice", describe(trail));
            let label = format!("expected another header, found `{}` again", shorten(two));
            let help = "remove one of the two: case does not count in names of headers";
            let draft = Draft::error(second.key_span.clone(), message, label, help);
            self.sink
                .add(draft.with(first.key_span.clone(), "it is here already"));
        }
    }

    fn value(
        &mut self,
        key: &Key,
        trail: &[String],
        key_span: Span,
        value: &Spanned<DeValue<'_>>,
    ) -> Node {
        let span = self.span(value.span());
        let converted = self.convert(key, key.kind, trail, span.clone(), value.get_ref());
        let node = Node {
            span,
            key_span,
            value: converted,
            given: self.default_at.is_none(),
        };
        if !key.built && node.given && !self.is_default(key, trail, &node) {
            self.sink
                .not_built(node.key_span.clone(), not_built(key, trail));
        }
        node
    }

    fn is_default(&mut self, key: &Key, trail: &[String], node: &Node) -> bool {
        let is_default = matches!(key.need, Need::Default(_));
        is_default && self.default(key, trail, &node.span).value == node.value
    }

    /// The default of a key, as if it stood at `span`.
    fn default(&mut self, key: &Key, trail: &[String], span: &Span) -> Node {
        let text = key.default_toml().unwrap_or_default();
        let (value, _) = DeValue::parse_recoverable(&text);
        let outer = self.default_at.replace(span.clone());
        let node = self.value(key, &below(trail, key.name()), span.clone(), &value);
        self.default_at = outer;
        node
    }

    /// The value of a key, or an element of its list.
    fn convert(
        &mut self,
        key: &Key,
        kind: Kind,
        trail: &[String],
        span: Span,
        value: &DeValue<'_>,
    ) -> Value {
        match (kind, value) {
            (Kind::Table | Kind::WordOrTable(_), DeValue::Table(table)) => {
                Value::Table(self.table(table, key.path, trail, span))
            }
            (Kind::Named | Kind::Map | Kind::Headers, DeValue::Table(table)) => {
                Value::Table(self.named(table, kind, key.path, trail, span))
            }
            (Kind::Filters, DeValue::Array(array)) => {
                if array.is_empty() {
                    self.empty(key, kind, trail, span);
                }
                let filters = array.iter().map(|item| {
                    let span = self.span(item.span());
                    let value = self.alternative(key, trail, span.clone(), item.get_ref());
                    self.element(span, value)
                });
                Value::List(filters.collect())
            }
            (Kind::Patterns, DeValue::Array(array)) => {
                Value::Patterns(self.patterns(key, trail).list(&span, array))
            }
            (Kind::PatternTree, DeValue::Table(table)) => {
                Value::Conditions(self.patterns(key, trail).tree(&span, table))
            }
            (Kind::List(element, least), DeValue::Array(array)) => {
                if array.len() < least {
                    self.empty(key, kind, trail, span);
                }
                let nodes = array.iter().map(|item| {
                    let span = self.span(item.span());
                    let value = self.convert(key, *element, trail, span.clone(), item.get_ref());
                    self.element(span, value)
                });
                Value::List(nodes.collect())
            }
            _ => match scalar::convert(self, key, kind, &span, value) {
                Some(Ok(value)) => value,
                Some(Err(wrong)) => {
                    let message = format!("{} {}", describe(trail), wrong.verdict);
                    let found = mismatch::found(kind, value);
                    let label = format!("expected {}, found {found}", wrong.expected);
                    self.sink
                        .add(Draft::error(span, message, label, wrong.help));
                    Value::Bad
                }
                None => {
                    if kind.is_secret() {
                        self.sink.secret(span.clone());
                    }
                    self.sink
                        .add(mismatch::problem(key, kind, trail, span, value));
                    Value::Bad
                }
            },
        }
    }

    /// One of the filters of an `or`.
    fn alternative(
        &mut self,
        key: &Key,
        trail: &[String],
        span: Span,
        value: &DeValue<'_>,
    ) -> Value {
        let DeValue::Table(table) = value else {
            return self.convert(key, Kind::Table, trail, span, value);
        };
        if table.is_empty() {
            let message = format!("{} holds an empty filter", describe(trail));
            let label = "expected a filter, found an empty table";
            let help = "remove it: it matches all events, and the others do not count any more";
            self.sink
                .add(Draft::error(span.clone(), message, label, help));
        }
        Value::Table(self.table(table, FILTER, trail, span))
    }

    fn patterns<'r>(&'r mut self, key: &'r Key, trail: &[String]) -> patterns::Reader<'r, 'f> {
        patterns::Reader {
            sink: &mut *self.sink,
            key,
            trail: trail.to_vec(),
        }
    }

    fn element(&self, span: Span, value: Value) -> Node {
        Node {
            key_span: span.clone(),
            span,
            value,
            given: self.default_at.is_none(),
        }
    }

    fn empty(&mut self, key: &Key, kind: Kind, trail: &[String], span: Span) {
        let message = format!("{} is empty", describe(trail));
        let label = format!("expected {}, found none", kind.expected());
        let help = format!("write {}", key.example());
        self.sink.add(Draft::error(span, message, label, help));
    }

    /// Tells of a key that is in no table of keys; returns the key that was probably meant.
    fn unknown(
        &mut self,
        name: &str,
        path: &str,
        trail: &[String],
        key_span: Span,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<&'static str> {
        if suggest::looks_secret(name) {
            self.sink.secret(value.span());
        }
        let shown = shorten(name);
        let (message, expected) = match (trail, value.get_ref()) {
            ([], DeValue::Table(_)) => (
                format!("unknown section `[{shown}]`"),
                "a section of the file".to_owned(),
            ),
            _ => {
                let place = describe(trail);
                (
                    format!("unknown key `{shown}` in {place}"),
                    format!("a key of {place}"),
                )
            }
        };
        let here: Vec<_> = keys::children(path).map(Key::name).collect();
        let (near, far) = (
            suggest::closest(name, here.iter().copied()),
            suggest::elsewhere(name, path),
        );
        let help = match (near, far) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(far)) => far,
            (None, None) => {
                let all = join(here.iter().map(|key| format!("`{key}`")), "and");
                format!("remove it; the keys here are {all}")
            }
        };
        let label = format!("expected {expected}, found `{shown}`");
        self.sink.add(Draft::error(key_span, message, label, help));
        near
    }

    fn missing(&mut self, key: &Key, trail: &[String], span: &Span) {
        let message = format!("{} lacks `{}`", describe(trail), key.name());
        let label = format!("expected `{}` here, found nothing", key.name());
        let help = format!("add `{}`. {}", key.example(), key.meaning);
        self.sink
            .add(Draft::error(span.clone(), message, label, help).absent());
    }

    /// Checks that exactly one of the keys that exclude each other is there.
    fn one_of(&mut self, table: &Table, path: &str, trail: &[String], misspelt: &[&str]) {
        let rivals: Vec<_> = keys::children(path)
            .filter(|key| matches!(key.need, Need::OneOf(_)))
            .collect();
        let Some(Need::OneOf(what)) = rivals.first().map(|key| key.need) else {
            return;
        };
        let mut present: Vec<_> = rivals
            .iter()
            .filter_map(|key| Some((key.name(), table.get(key.name())?)))
            .collect();
        present.sort_by_key(|(_, node)| node.key_span.start);
        let names = join(rivals.iter().map(|key| format!("`{}`", key.name())), "or");
        let place = describe(trail);
        match present.as_slice() {
            [] if rivals.iter().any(|key| misspelt.contains(&key.name())) => {}
            [] => {
                let message = format!("{place} has no {what}");
                let label = format!("expected {names} here, found none of them");
                let help = format!("add one, such as `{}`", rivals[0].example());
                self.sink
                    .add(Draft::error(table.span.clone(), message, label, help).absent());
            }
            [_] => {}
            [(first, one), others @ ..] => {
                for (name, other) in others {
                    let message = format!("{place} has more than one {what}");
                    let label = format!("expected only one of {names}, found `{name}` too");
                    let help = if what == "source" {
                        format!(
                            "move `{name}` to a trigger of its own; it may run the same function"
                        )
                    } else {
                        format!("remove `{first}` or `{name}`")
                    };
                    let draft = Draft::error(other.key_span.clone(), message, label, help);
                    self.sink
                        .add(draft.with(one.key_span.clone(), format!("`{first}` is the first")));
                }
            }
        }
    }
}

fn below(trail: &[String], name: &str) -> Vec<String> {
    trail.iter().cloned().chain([name.to_owned()]).collect()
}
