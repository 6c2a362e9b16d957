//! What a person probably meant.

use std::ops::Range;

use crate::keys::{KEYS, Key, Kind, Need};

/// The longest name worth comparing, in bytes: the time it takes grows with its length.
const LONGEST: usize = 128;

/// The candidate closest to the name, if it is close enough to be a slip.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase();
    // A third of a word may be wrong, but of two letters at least one must be right.
    let allowed = (name.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        // So much shorter or longer is too far away: no need to measure.
        .filter(|candidate| candidate.chars().count().abs_diff(name.chars().count()) <= allowed)
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&name, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Where a key belongs that stands in the wrong table, as a next step.
pub(crate) fn elsewhere(name: &str, path: &str) -> Option<String> {
    let homes: Vec<_> = KEYS
        .iter()
        .filter(|key| key.name() == name && !key.parent().is_empty())
        .collect();
    let inside = |key: &&&Key| {
        key.parent()
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.') && !rest.contains("*"))
    };
    if let Some(key) = homes.iter().find(inside) {
        let table = key.parent()[path.len()..].trim_start_matches('.');
        return Some(format!(
            "`{name}` belongs in `{table}`: {table} = {{ {name} = ... }}"
        ));
    }
    let key = homes.first()?;
    let table = key.parent().replace('*', "NAME");
    let inline = key.parent().matches('.').count() > 1;
    Some(match (inline, key.need) {
        (true, Need::OneOf(_)) | (false, _) => format!("`{name}` belongs in `[{table}]`"),
        _ => format!("`{name}` is a key of `{table}`"),
    })
}

/// Whether the value of a key of this name, known or not, is better not shown.
pub(crate) fn looks_secret(name: &str) -> bool {
    let secrets = KEYS
        .iter()
        .filter(|key| matches!(key.kind, Kind::Secret | Kind::AmqpUrl) || key.name() == "secrets");
    speaks_of_secrets(name) || closest(name, secrets.map(Key::name)).is_some()
}

/// Whether a text holds a word that goes with secrets.
pub(crate) fn speaks_of_secrets(text: &str) -> bool {
    let text = text.to_lowercase();
    let words = [
        "secret",
        "token",
        "passw",
        "bearer",
        "credential",
        "api_key",
        "apikey",
    ];
    words.iter().any(|word| text.contains(word))
}

/// Where URLs in the text name a user and a password: from behind `://` to the `@`.
pub(crate) fn userinfo(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    text.match_indices("://").filter_map(|(at, scheme_end)| {
        let start = at + scheme_end.len();
        let rest = &text[start..];
        let end = rest
            .find(|c: char| c.is_whitespace() || "\"'".contains(c))
            .unwrap_or(rest.len());
        rest[..end].rfind('@').map(|at| start..start + at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_only() {
        let names = ["memory", "timeout", "reuse"];
        assert_eq!(closest("memroy", names), Some("memory"));
        assert_eq!(closest("Timeout", names), Some("timeout"));
        assert_eq!(closest("time_out", names), Some("timeout"));
        assert_eq!(closest("cpu", names), None);
        assert_eq!(closest("", names), None);
        assert_eq!(closest("x", ["y"]), None);
    }
}
