//! How messages name the parts of a file. A trail is the list of keys that leads to a part.

use crate::keys::{Key, Need};

/// What stands at the end of the trail: `` `timeout` of function `resize` ``.
pub(crate) fn describe(trail: &[String]) -> String {
    match trail {
        [] => "the file".into(),
        [section] => format!("`[{}]`", shorten(section)),
        [engine, rest @ ..] if engine == "engine" => format!("`engine.{}`", rest.join(".")),
        [section, name] => format!("{} `{}`", singular(section), shorten(name)),
        [section, name, rest @ ..] => {
            let rest = shorten(&rest.join("."));
            format!("`{rest}` of {} `{}`", singular(section), shorten(name))
        }
    }
}

/// What the engine lacks, for a person.
pub(crate) fn not_built(key: &Key, trail: &[String]) -> String {
    match trail {
        [section, name] if section != "engine" => format!("{} `{name}`", singular(section)),
        [section, name, rest @ ..] if section != "engine" => {
            let what = match key.need {
                Need::OneOf(what) => format!("{what} "),
                _ => String::new(),
            };
            format!("{} `{name}`: {what}`{}`", singular(section), rest.join("."))
        }
        _ => format!("`{}`", trail.join(".")),
    }
}

fn singular(section: &str) -> &str {
    section.strip_suffix('s').unwrap_or(section)
}

/// A text of the file, short enough for a message.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
