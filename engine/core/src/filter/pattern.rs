//! Patterns: what may stand at a place of an event.

use serde_json::Value;

/// What may stand at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// This value.
    Equals(Scalar),
    /// A string that starts so.
    Prefix(String),
    /// A string that ends so.
    Suffix(String),
    /// A value to which none of these applies.
    AnythingBut(Vec<Pattern>),
    /// A number to which all of these comparisons apply.
    Numeric(Vec<(Comparison, f64)>),
    /// Something (`true`), or nothing at all (`false`).
    Exists(bool),
    /// A string like this, where `*` stands for any run of characters; `\*` and `\\` for themselves.
    Wildcard(String),
    /// This string, upper and lower case being the same.
    IgnoreCase(String),
}

/// A value without parts.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Scalar {
    String(String),
    Number(f64),
    Flag(bool),
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

impl Pattern {
    /// Whether text matches that stands where there is only text. It is a number or a flag, if it
    /// reads as one.
    pub(super) fn matches_text(&self, text: &str) -> bool {
        match self {
            Pattern::Equals(Scalar::Number(wanted)) => number(text) == Some(*wanted),
            Pattern::Equals(Scalar::Flag(wanted)) => text.parse() == Ok(*wanted),
            Pattern::Numeric(all) => number(text).is_some_and(|number| hold(all, number)),
            Pattern::AnythingBut(all) => !all.iter().any(|one| one.matches_text(text)),
            Pattern::Exists(wanted) => *wanted,
            _ => self.matches_string(text),
        }
    }

    /// Whether a value matches, or an element of it if it is a list.
    pub(super) fn matches_json(&self, value: &Value) -> bool {
        match value {
            Value::Array(all) => all.iter().any(|one| self.matches_json(one)),
            Value::Object(_) => false,
            scalar => self.matches_scalar(scalar),
        }
    }

    fn matches_scalar(&self, value: &Value) -> bool {
        match self {
            Pattern::Equals(Scalar::Number(wanted)) => value.as_f64() == Some(*wanted),
            Pattern::Equals(Scalar::Flag(wanted)) => value.as_bool() == Some(*wanted),
            Pattern::Numeric(all) => value.as_f64().is_some_and(|number| hold(all, number)),
            Pattern::AnythingBut(all) => !all.iter().any(|one| one.matches_scalar(value)),
            Pattern::Exists(wanted) => *wanted,
            _ => value.as_str().is_some_and(|text| self.matches_string(text)),
        }
    }

    /// Whether a string matches, as such: the patterns for other things do not apply to it.
    fn matches_string(&self, text: &str) -> bool {
        match self {
            Pattern::Equals(Scalar::String(wanted)) => text == wanted,
            Pattern::Prefix(start) => text.starts_with(start.as_str()),
            Pattern::Suffix(end) => text.ends_with(end.as_str()),
            Pattern::Wildcard(pattern) => is_like(text, pattern),
            Pattern::IgnoreCase(wanted) => lower(text).eq(lower(wanted)),
            Pattern::Equals(Scalar::Number(_) | Scalar::Flag(_))
            | Pattern::AnythingBut(_)
            | Pattern::Numeric(_)
            | Pattern::Exists(_) => false,
        }
    }
}

/// Character by character, so that it does not depend on what stands beside.
fn lower(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().flat_map(char::to_lowercase)
}

/// The number that a text reads as. Rust would also read `inf` and `nan`.
fn number(text: &str) -> Option<f64> {
    let number: f64 = text.trim().parse().ok()?;
    number.is_finite().then_some(number)
}

fn hold(all: &[(Comparison, f64)], number: f64) -> bool {
    all.iter().all(|(how, than)| how.holds(number, *than))
}

impl Comparison {
    /// Whether it applies to a number.
    pub fn holds(self, number: f64, than: f64) -> bool {
        match self {
            Comparison::Less => number < than,
            Comparison::LessOrEqual => number <= than,
            Comparison::Equal => number == than,
            Comparison::GreaterOrEqual => number >= than,
            Comparison::Greater => number > than,
        }
    }
}

/// Whether the text is like the pattern. The first place where each piece fits is as good as any
/// later one, so nothing is tried twice and the time is in proportion to both lengths.
fn is_like(text: &str, pattern: &str) -> bool {
    let pieces = pieces(pattern);
    let [first, between @ .., last] = pieces.as_slice() else {
        return pieces.concat() == text;
    };
    let Some(rest) = text.strip_prefix(first.as_str()) else {
        return false;
    };
    let Some(rest) = rest.strip_suffix(last.as_str()) else {
        return false;
    };
    let after = |rest: &str, piece: &String| Some(rest.find(piece.as_str())? + piece.len());
    let end = between
        .iter()
        .try_fold(rest, |rest, piece| rest.get(after(rest, piece)?..));
    end.is_some()
}

/// What stands before, between and after the runs of a pattern: one piece more than it has runs.
fn pieces(pattern: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '*' {
            pieces.push(String::new());
            continue;
        }
        let escaped = |next: &char| matches!(next, '*' | '\\');
        let c = match c {
            '\\' => chars.next_if(escaped).unwrap_or('\\'),
            c => c,
        };
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn table() {
        let but = |one: Pattern| Pattern::AnythingBut(vec![one]);
        let numeric = |how, than| Pattern::Numeric(vec![(how, than)]);
        let between = Pattern::Numeric(vec![
            (Comparison::Greater, 0.0),
            (Comparison::LessOrEqual, 5.0),
        ]);
        let cases = [
            (Pattern::Equals(Scalar::String(text("a"))), json!("a"), true),
            (
                Pattern::Equals(Scalar::String(text("a"))),
                json!("A"),
                false,
            ),
            (Pattern::Equals(Scalar::String(text("1"))), json!(1), false),
            (Pattern::Equals(Scalar::Number(1.0)), json!(1), true),
            (Pattern::Equals(Scalar::Number(1.0)), json!("1"), false),
            (Pattern::Equals(Scalar::Flag(true)), json!(true), true),
            (Pattern::Equals(Scalar::Flag(true)), json!("true"), false),
            (Pattern::Prefix(text("ab")), json!("abc"), true),
            (Pattern::Prefix(text("ab")), json!("xab"), false),
            (Pattern::Suffix(text(".jpg")), json!("a.jpg"), true),
            (Pattern::Suffix(text(".jpg")), json!("a.JPG"), false),
            (but(Pattern::Prefix(text("a"))), json!("abc"), false),
            (but(Pattern::Prefix(text("a"))), json!("b"), true),
            (but(Pattern::Prefix(text("a"))), json!(7), true),
            (between.clone(), json!(5), true),
            (between.clone(), json!(0), false),
            (between, json!("3"), false),
            (numeric(Comparison::Equal, 3.0), json!(3.0), true),
            (numeric(Comparison::Less, f64::NAN), json!(1), false),
            (Pattern::Exists(true), json!(null), true),
            (Pattern::Wildcard(text("a*c*e")), json!("abcde"), true),
            (Pattern::Wildcard(text("a*c*e")), json!("abde"), false),
            (Pattern::Wildcard(text(r"a\*")), json!("a*"), true),
            (Pattern::Wildcard(text(r"a\*")), json!("ab"), false),
            (Pattern::Wildcard(text(r"a\\*")), json!(r"a\b"), true),
            (Pattern::IgnoreCase(text("ÄRGER")), json!("ärger"), true),
            (Pattern::IgnoreCase(text("a")), json!("b"), false),
        ];
        for (pattern, value, expected) in cases {
            assert_eq!(
                pattern.matches_json(&value),
                expected,
                "{pattern:?} {value}"
            );
        }
    }

    #[test]
    fn text_is_what_it_reads_as() {
        let equals = |n| Pattern::Equals(Scalar::Number(n));
        let above = |than| Pattern::Numeric(vec![(Comparison::Greater, than)]);
        let flag = |flag| Pattern::Equals(Scalar::Flag(flag));
        let but = |one: Pattern| Pattern::AnythingBut(vec![one]);
        let cases = [
            (above(40.0), "41", true),
            (above(40.0), "4e1", false),
            (above(40.0), "forty-one", false),
            (above(40.0), "inf", false),
            (above(40.0), "", false),
            (equals(7.0), " 7.0", true),
            (equals(7.0), "7a", false),
            (flag(false), "false", true),
            (flag(false), "False", false),
            (flag(false), "0", false),
            (but(equals(7.0)), "7", false),
            (but(equals(7.0)), "seven", true),
            (but(flag(true)), "true", false),
            (Pattern::Equals(Scalar::String(text("7"))), "7", true),
            (Pattern::Exists(true), "", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(pattern.matches_text(text), expected, "{pattern:?} {text}");
        }
    }

    /// Each would take hours if it went back over what it tried.
    #[test]
    fn a_wildcard_takes_no_time_whatever_it_says() {
        let text = "a".repeat(1 << 20);
        for pattern in [
            format!("{}b", "a*".repeat(1000)),
            format!("*{}*b*", "*a".repeat(1000)),
            format!("*{}b*", "a".repeat(10_000)),
        ] {
            assert!(!is_like(&text, &pattern));
        }
        assert!(is_like(&text, &"*a".repeat(10_000)));
    }

    /// By its definition, over the signs of a pattern: none is any run.
    fn naive(text: &[char], pattern: &[Option<char>]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((None, rest)) => (0..=text.len()).any(|n| naive(&text[n..], rest)),
            Some((Some(c), rest)) => text.first() == Some(c) && naive(&text[1..], rest),
        }
    }

    fn sign() -> impl Strategy<Value = Option<char>> {
        prop_oneof![
            Just(None),
            proptest::sample::select(vec!['a', 'b', 'ä', '*', '\\']).prop_map(Some)
        ]
    }

    proptest! {
        #[test]
        fn a_wildcard_is_what_it_says(
            text in "[abä*\\\\]{0,10}",
            signs in proptest::collection::vec(sign(), 0..7),
        ) {
            let written = signs.iter().map(|sign| match sign {
                None => "*".to_owned(),
                Some(c @ ('*' | '\\')) => format!("\\{c}"),
                Some(c) => c.to_string(),
            });
            let pattern: String = written.collect();
            let chars: Vec<char> = text.chars().collect();
            prop_assert_eq!(is_like(&text, &pattern), naive(&chars, &signs));
        }
    }
}
