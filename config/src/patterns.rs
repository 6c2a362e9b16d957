//! The patterns of filters: lists of values and patterns, and trees of fields that end in such lists.
//! Each problem has its own place, and those that are fine are read all the same.

use tidemill_core::{
    filter::{Comparison, Condition, Pattern, Scalar},
    selector::{Selector, Step},
};
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use crate::{
    keys::{Key, Kind, join, quoted_list},
    mismatch,
    sink::{Draft, Sink, Span},
    suggest,
    words::{describe, shorten},
};

/// The names of patterns.
const NAMES: [&str; 7] = [
    "prefix",
    "suffix",
    "wildcard",
    "ignore-case",
    "numeric",
    "exists",
    "anything-but",
];

/// What other tools call them.
const FOREIGN: [(&str, &str); 5] = [
    ("equals-ignore-case", "ignore-case"),
    ("begins-with", "prefix"),
    ("starts-with", "prefix"),
    ("ends-with", "suffix"),
    ("not", "anything-but"),
];

/// The words of comparisons.
const COMPARISONS: [(&str, Comparison); 5] = [
    ("<", Comparison::Less),
    ("<=", Comparison::LessOrEqual),
    ("=", Comparison::Equal),
    (">=", Comparison::GreaterOrEqual),
    (">", Comparison::Greater),
];

/// Reads what stands at a key, and tells what is wrong with it.
pub(crate) struct Reader<'r, 'f> {
    pub sink: &'r mut Sink<'f>,
    pub key: &'r Key,
    /// The keys that lead here.
    pub trail: Vec<String>,
}

impl Reader<'_, '_> {
    /// A list of values and patterns, of which one must match.
    pub(crate) fn list(&mut self, span: &Span, array: &DeArray<'_>) -> Vec<Pattern> {
        if array.is_empty() {
            let help = "an empty list matches nothing: say what may be there, or remove the key";
            self.wrong(span, "is empty", "values and patterns", "none", help);
        }
        array.iter().filter_map(|one| self.one(one)).collect()
    }

    /// The conditions of a tree of fields.
    pub(crate) fn tree(&mut self, span: &Span, fields: &DeTable<'_>) -> Vec<Condition> {
        let mut conditions = Vec::new();
        self.fields(span, fields, &mut Vec::new(), &mut conditions);
        conditions
    }

    fn fields(
        &mut self,
        span: &Span,
        fields: &DeTable<'_>,
        steps: &mut Vec<Step>,
        conditions: &mut Vec<Condition>,
    ) {
        if fields.is_empty() {
            let help = "name a field in it, or remove it";
            self.wrong(span, "is empty", "a table of fields", "none", help);
        }
        for (name, value) in fields {
            self.trail.push(name.get_ref().to_string());
            steps.push(Step::Field(name.get_ref().to_string()));
            match value.get_ref() {
                found if is_pattern(name.get_ref(), found) => {
                    let above = steps.len().checked_sub(2).and_then(|n| match &steps[n] {
                        Step::Field(field) => Some(shorten(field)),
                        Step::Element(_) => None,
                    });
                    let help = format!(
                        "put the pattern in a list: {} = [{{ {} = ... }}]",
                        above.as_deref().unwrap_or("FIELD"),
                        name.get_ref(),
                    );
                    let expected = "a field with a list of values and patterns";
                    self.wrong(&name.span(), "is a pattern", expected, "a pattern", &help);
                }
                DeValue::Table(fields) => {
                    self.fields(&value.span(), fields, steps, conditions);
                }
                DeValue::Array(array) => {
                    let patterns = self.list(&value.span(), array);
                    let place = Selector::Json(steps.clone());
                    conditions.push(Condition { place, patterns });
                }
                other => {
                    let kind = Kind::Patterns;
                    let (key, span) = (self.key, value.span());
                    self.sink
                        .add(mismatch::problem(key, kind, &self.trail, span, other));
                }
            }
            self.trail.pop();
            steps.pop();
        }
    }

    fn one(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Pattern> {
        let span = value.span();
        let help = match value.get_ref() {
            DeValue::Table(table) => return self.pattern(&span, table),
            DeValue::String(text) => return equals(Scalar::String(text.to_string())),
            DeValue::Boolean(flag) => return equals(Scalar::Flag(*flag)),
            DeValue::Array(_) => "write all of them in one list",
            DeValue::Datetime(_) => "put it in quotes: in events it is a string",
            DeValue::Integer(_) | DeValue::Float(_) => match number(value.get_ref()) {
                Some(number) => return equals(Scalar::Number(number)),
                None => "no event has such a number",
            },
        };
        let found = mismatch::found(Kind::Patterns, value.get_ref());
        let expected = "a string, a number, true, false or a pattern";
        self.wrong(&span, "holds what is no value", expected, &found, help);
        None
    }

    fn pattern(&mut self, span: &Span, table: &DeTable<'_>) -> Option<Pattern> {
        let mut entries = table.iter();
        let (Some((name, value)), None) = (entries.next(), entries.next()) else {
            let (found, help) = if table.is_empty() {
                ("an empty table", "write it like { prefix = \"t-\" }")
            } else {
                (
                    "several",
                    "put each in braces of its own; of those in a list, one is enough",
                )
            };
            let expected = names("or");
            self.wrong(span, "holds what is no pattern", &expected, found, help);
            return None;
        };
        let text = |reader: &mut Self, make: fn(String) -> Pattern| match value.get_ref() {
            DeValue::String(text) => Some(make(text.to_string())),
            other => {
                let verdict = format!("has a wrong `{}`", name.get_ref());
                let found = mismatch::found(Kind::Patterns, other);
                let help = format!("write {{ {} = \"text\" }}", name.get_ref());
                reader.wrong(&value.span(), &verdict, "a string", &found, &help);
                None
            }
        };
        match name.get_ref().as_ref() {
            "prefix" => text(self, Pattern::Prefix),
            "suffix" => text(self, Pattern::Suffix),
            "wildcard" => text(self, Pattern::Wildcard),
            "ignore-case" => text(self, Pattern::IgnoreCase),
            "exists" => self.exists(value),
            "numeric" => self.numeric(value),
            "anything-but" => self.anything_but(value),
            unknown => {
                let foreign = FOREIGN.iter().find(|(other, _)| *other == unknown);
                let near = foreign.map(|(_, name)| *name);
                let help = match near.or_else(|| suggest::closest(unknown, NAMES)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the patterns are {}", names("and")),
                };
                let found = format!("`{}`", shorten(unknown));
                let verdict = "has an unknown pattern";
                self.wrong(
                    &name.span(),
                    verdict,
                    "the name of a pattern",
                    &found,
                    &help,
                );
                None
            }
        }
    }

    fn exists(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Pattern> {
        if let DeValue::Boolean(wanted) = value.get_ref() {
            return Some(Pattern::Exists(*wanted));
        }
        let found = mismatch::found(Kind::Patterns, value.get_ref());
        let help = "write { exists = true } or { exists = false }";
        let verdict = "has a wrong `exists`";
        self.wrong(&value.span(), verdict, "true or false", &found, help);
        None
    }

    /// What is excluded: a value or a pattern, or several.
    fn anything_but(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Pattern> {
        let all = match value.get_ref() {
            DeValue::Array(array) => {
                if array.is_empty() {
                    let help = "an empty list excludes nothing: { exists = true } says so";
                    let expected = "what to exclude";
                    let verdict = "has an empty `anything-but`";
                    self.wrong(&value.span(), verdict, expected, "none", help);
                }
                array.iter().collect()
            }
            _ => vec![value],
        };
        let count = all.len();
        let mut excluded = Vec::new();
        for one in all {
            match self.one(one) {
                Some(nested @ (Pattern::AnythingBut(_) | Pattern::Exists(_))) => {
                    let verdict = "has a wrong `anything-but`";
                    let expected = "values and other patterns";
                    let found = match nested {
                        Pattern::Exists(_) => "`exists`",
                        _ => "`anything-but` again",
                    };
                    let help = "say what may be there, outside of `anything-but`";
                    self.wrong(&one.span(), verdict, expected, found, help);
                }
                other => excluded.extend(other),
            }
        }
        (count > 0 && excluded.len() == count).then_some(Pattern::AnythingBut(excluded))
    }

    /// One or two pairs of a comparison and a number.
    fn numeric(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Pattern> {
        let verdict = "has a wrong `numeric`";
        let like = "write { numeric = [\">\", 40] } or { numeric = [\">=\", 0, \"<\", 10] }";
        let parts: Vec<_> = match value.get_ref() {
            DeValue::Array(array) => array.iter().collect(),
            _ => Vec::new(),
        };
        if !matches!(parts.len(), 2 | 4) {
            let found = match (value.get_ref(), parts.len()) {
                (DeValue::Array(_), n @ 1..) => format!("a list of {n}"),
                (other, _) => mismatch::found(Kind::Patterns, other),
            };
            let expected = "one or two pairs of a comparison and a number";
            self.wrong(&value.span(), verdict, expected, &found, like);
            return None;
        }
        let mut all = Vec::new();
        for pair in parts.chunks_exact(2) {
            let found = |n: usize| mismatch::found(Kind::Patterns, pair[n].get_ref());
            let word = pair[0].get_ref().as_str();
            let how = COMPARISONS.iter().find(|(known, _)| word == Some(known));
            if how.is_none() {
                let help = match word {
                    Some("==") => "did you mean \"=\"?",
                    Some("=<") => "did you mean \"<=\"?",
                    Some("=>") => "did you mean \">=\"?",
                    Some("!=" | "<>") => "write { anything-but = NUMBER } for all but one number",
                    _ => like,
                };
                let expected = quoted_list(COMPARISONS.iter().map(|(word, _)| word), "or");
                self.wrong(&pair[0].span(), verdict, &expected, &found(0), help);
            }
            let than = number(pair[1].get_ref());
            if than.is_none() {
                let help = match pair[1].get_ref() {
                    DeValue::String(text) if text.parse::<f64>().is_ok() => "remove the quotes",
                    _ => like,
                };
                self.wrong(&pair[1].span(), verdict, "a number", &found(1), help);
            }
            all.extend(how.zip(than).map(|((_, how), than)| (*how, than)));
        }
        if all.len() * 2 < parts.len() {
            return None;
        }
        if !is_possible(&all) {
            let help =
                "no number is both: turn them round, or write two patterns, of which one is enough";
            let expected = "comparisons that some number fits";
            self.wrong(&value.span(), verdict, expected, "a contradiction", help);
            return None;
        }
        Some(Pattern::Numeric(all))
    }

    fn wrong(&mut self, span: &Span, verdict: &str, expected: &str, found: &str, help: &str) {
        let message = format!("{} {verdict}", describe(&self.trail));
        let label = format!("expected {expected}, found {found}");
        self.sink
            .add(Draft::error(span.clone(), message, label, help));
    }
}

fn equals(scalar: Scalar) -> Option<Pattern> {
    Some(Pattern::Equals(scalar))
}

fn names(last: &str) -> String {
    join(NAMES.iter().map(|name| format!("`{name}`")), last)
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    let number = match value {
        DeValue::Integer(n) => i128::from_str_radix(n.as_str(), n.radix()).ok()? as f64,
        DeValue::Float(n) => n.as_str().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// Whether this is a pattern where a field should be: `{ prefix = "t-" }` without its list. A field
/// of such a name has a list.
fn is_pattern(name: &str, value: &DeValue<'_>) -> bool {
    let foreign = || FOREIGN.iter().any(|(known, _)| *known == name);
    match value {
        DeValue::Table(_) => matches!(name, "anything-but"),
        DeValue::Array(array) => {
            let first = array.first().and_then(|first| first.get_ref().as_str());
            let compares = COMPARISONS.iter().any(|(word, _)| first == Some(word));
            name == "anything-but" || name == "numeric" && compares
        }
        _ => NAMES.contains(&name) || foreign(),
    }
}

/// Whether there is a number to which all comparisons apply: if there is one, it is one of the
/// numbers compared to, between them, or beyond.
fn is_possible(all: &[(Comparison, f64)]) -> bool {
    let numbers = all.iter().map(|(_, number)| *number);
    let middle = all
        .iter()
        .map(|(_, number)| number / all.len() as f64)
        .sum();
    let mut candidates = numbers.chain([middle, f64::MIN, f64::MAX]);
    candidates.any(|n| all.iter().all(|(how, than)| how.holds(n, *than)))
}
