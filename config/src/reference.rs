//! Strings that refer to the environment or to files: `${env:NAME}`, `${file:PATH}`, and `$${` for a
//! literal `${`.
//!
//! The syntax is checked when the file is loaded; what a reference stands for is looked up only when
//! it is used, so that a file can be checked where its secrets are not. Nothing here ever shows a
//! secret: neither the text around a reference nor what it stands for.

use std::{
    borrow::Cow,
    env, fmt,
    fs::File,
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The largest file that `${file:}` reads, in bytes: secrets are small, and a wrong path should not
/// fill the memory.
pub const FILE_LIMIT: u64 = 1 << 20;

/// A string that may hold references, looked up by [`Text::resolve`].
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    parts: Vec<Part>,
    /// The folder that relative files start from.
    base: Arc<Path>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Env(String),
    File(String),
}

/// A text that does not show itself.
#[derive(Clone)]
pub struct Secret(String);

/// A reference stands for nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// The variable is not text.
    #[error("the environment variable {0} is not valid UTF-8")]
    Encoding(String),
    /// The file cannot be read, or is not text.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than [`FILE_LIMIT`].
    #[error("{} is larger than {FILE_LIMIT} bytes", .0.display())]
    TooLarge(PathBuf),
}

/// A string has the form of a reference, but is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Where in the string.
    pub span: Range<usize>,
    /// What is wrong.
    pub found: &'static str,
    /// The next step.
    pub help: &'static str,
}

impl Text {
    /// Reads the references of a string; relative files start from `base`.
    pub(crate) fn parse(text: &str, base: &Arc<Path>) -> Result<Text, Malformed> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            if rest.starts_with("$${") {
                literal.push_str("${");
                at += 3;
            } else if let Some(inner) = rest.strip_prefix("${") {
                let (part, length) = reference(inner).map_err(|malformed| Malformed {
                    span: at..at + 2 + malformed.span.end,
                    ..malformed
                })?;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(part);
                at += 2 + length;
            } else {
                let next = rest.match_indices('$').find(|(n, _)| *n > 0);
                let length = next.map_or(rest.len(), |(n, _)| n);
                literal.push_str(&rest[..length]);
                at += length;
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Text {
            parts,
            base: base.clone(),
        })
    }

    /// Whether it is the empty string, whatever references stand for.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What stands for a reference in an outline: no character of a URL.
    pub(crate) const REFERENCE: char = '\u{fffc}';

    /// What of it stands in the file itself, with one character for each reference.
    pub(crate) fn outline(&self) -> String {
        let parts = self.parts.iter();
        let parts = parts.map(|part| match part {
            Part::Literal(literal) => Cow::from(literal),
            _ => Self::REFERENCE.to_string().into(),
        });
        parts.collect()
    }

    /// Whether a part of it stands in the file itself.
    pub(crate) fn has_literal(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Literal(_)))
    }

    /// Whether a part of it is looked up elsewhere, and so may be secret.
    pub fn has_reference(&self) -> bool {
        let reference = |part: &Part| !matches!(part, Part::Literal(_));
        self.parts.iter().any(reference)
    }

    /// Looks the references up: reads the environment and files, and blocks while it does.
    pub fn resolve(&self) -> Result<Secret, ReferenceError> {
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(&self.look_up(part)?);
        }
        Ok(Secret(text))
    }

    /// The same for a URL: what a reference stands for is percent-encoded where it is a part of the
    /// user information, path, query or fragment, so that it cannot be taken for more than that.
    /// What stands for the beginning of the URL, or for its host, is taken as it is.
    pub fn resolve_url(&self) -> Result<Secret, ReferenceError> {
        let mut url = String::new();
        for (n, part) in self.parts.iter().enumerate() {
            let value = self.look_up(part)?;
            let literal = matches!(part, Part::Literal(_));
            let inside = url.split_once("://").is_some_and(|(_, rest)| {
                rest.contains(AUTHORITY_END) || in_user_information(&self.parts[n + 1..])
            });
            match inside && !literal {
                true => url.extend(utf8_percent_encode(&value, ENCODED)),
                false => url.push_str(&value),
            }
        }
        Ok(Secret(url))
    }

    fn look_up<'a>(&self, part: &'a Part) -> Result<Cow<'a, str>, ReferenceError> {
        match part {
            Part::Literal(literal) => Ok(literal.into()),
            Part::Env(name) => match env::var(name) {
                Ok(value) => Ok(value.into()),
                Err(env::VarError::NotPresent) => Err(ReferenceError::Unset(name.clone())),
                Err(env::VarError::NotUnicode(_)) => Err(ReferenceError::Encoding(name.clone())),
            },
            Part::File(path) => read(self.base.join(path)).map(Cow::from),
        }
    }
}

/// What a URL need not have encoded anywhere: the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What ends the authority of a URL: user information, host and port.
const AUTHORITY_END: [char; 3] = ['/', '?', '#'];

/// Whether an `@` follows before the authority of a URL ends.
fn in_user_information(following: &[Part]) -> bool {
    let literals = following.iter().filter_map(|part| match part {
        Part::Literal(literal) => Some(literal.as_str()),
        _ => None,
    });
    let mut chars = literals.flat_map(str::chars);
    let end = chars.find(|c| *c == '@' || AUTHORITY_END.contains(c));
    end == Some('@')
}

/// The reference that the text behind `${` begins with, and how many bytes it takes with its `}`.
fn reference(inner: &str) -> Result<(Part, usize), Malformed> {
    let wrong = |end, found, help| Malformed {
        span: 0..end,
        found,
        help,
    };
    let Some(end) = inner.find('}') else {
        let help = "close it with `}`; for a literal `${` write `$${`";
        return Err(wrong(inner.len(), "a reference without its end", help));
    };
    let help = "write ${env:NAME} or ${file:PATH}; for a literal `${` write `$${`";
    let Some((kind, name)) = inner[..end].split_once(':') else {
        let found = "a reference that names neither env nor file";
        return Err(wrong(end + 1, found, help));
    };
    let part = match kind {
        _ if name.is_empty() || name.contains('\0') => {
            return Err(wrong(end + 1, "a reference without a name", help));
        }
        "env" if name.contains('=') => {
            let help = "names of environment variables hold no `=`";
            return Err(wrong(end + 1, "a variable's name with `=`", help));
        }
        "env" => Part::Env(name.to_owned()),
        "file" => Part::File(name.to_owned()),
        _ => return Err(wrong(end + 1, "a reference of an unknown kind", help)),
    };
    Ok((part, end + 1))
}

/// The text of a file without one trailing newline.
fn read(path: PathBuf) -> Result<String, ReferenceError> {
    let mut text = String::new();
    let read =
        File::open(&path).and_then(|file| file.take(FILE_LIMIT + 1).read_to_string(&mut text));
    match read {
        Err(source) => return Err(ReferenceError::File { path, source }),
        Ok(length) if length as u64 > FILE_LIMIT => return Err(ReferenceError::TooLarge(path)),
        Ok(_) => {}
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

impl Secret {
    /// The text itself. Keep it out of logs, errors and answers.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Literal(_) => f.write_str("***"),
            Part::Env(name) => write!(f, "${{env:{name}}}"),
            Part::File(path) => write!(f, "${{file:{path}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str, base: &Path) -> Text {
        Text::parse(text, &Arc::from(base)).unwrap()
    }

    #[test]
    fn resolves_what_it_refers_to() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "s3cret\n\n").unwrap();
        std::fs::write(folder.path().join("dos"), "s3cret\r\n").unwrap();
        let home = env::var("PATH").unwrap();
        let cases = [
            ("", String::new()),
            ("plain $ text $$ {}", "plain $ text $$ {}".into()),
            ("$${env:PATH}", "${env:PATH}".into()),
            ("$$${env:PATH}", "$${env:PATH}".into()),
            ("${env:PATH}", home.clone()),
            ("a${env:PATH}b${file:key}c", format!("a{home}bs3cret\nc")),
            ("${file:./key}", "s3cret\n".into()),
            ("${file:dos}", "s3cret".into()),
            ("ä$ö", "ä$ö".into()),
        ];
        for (written, expected) in cases {
            let resolved = text(written, folder.path()).resolve().unwrap();
            assert_eq!(resolved.expose(), expected, "{written}");
        }
    }

    #[test]
    fn encodes_what_is_part_of_a_url() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s"), "a/b?c@d:e%20~").unwrap();
        std::fs::write(folder.path().join("host"), "user@example.com:8443/x?y").unwrap();
        std::fs::write(folder.path().join("url"), "http://u:p@h/a?b=c%20d").unwrap();
        let secret = "a%2Fb%3Fc%40d%3Ae%2520~";
        let cases = [
            ("${file:url}", "http://u:p@h/a?b=c%20d".into()),
            (
                "${file:url}&s=${file:s}",
                format!("http://u:p@h/a?b=c%20d&s={secret}"),
            ),
            (
                "amqp://guest:${file:s}@h/%2f",
                format!("amqp://guest:{secret}@h/%2f"),
            ),
            (
                "http://${file:s}:${file:s}@h/${file:s}?${file:s}#${file:s}",
                format!("http://{secret}:{secret}@h/{secret}?{secret}#{secret}"),
            ),
            (
                "https://${file:host}/p",
                "https://user@example.com:8443/x?y/p".into(),
            ),
            ("https://h/${file:s}@x", format!("https://h/{secret}@x")),
            ("https://h/plain path", "https://h/plain path".into()),
        ];
        for (written, expected) in cases {
            let text = text(written, folder.path());
            assert_eq!(text.resolve_url().unwrap().expose(), expected, "{written}");
            assert_eq!(text.has_reference(), written.contains("${"));
        }
        let unset = text("http://h/${env:TIDEMILL_TEST_UNSET}", folder.path());
        assert!(unset.resolve_url().is_err());
    }

    #[test]
    fn says_what_a_reference_lacks() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("large"),
            vec![b'x'; FILE_LIMIT as usize + 1],
        )
        .unwrap();
        std::fs::write(folder.path().join("latin"), [0xe9]).unwrap();
        let fails = |written| {
            text(written, folder.path())
                .resolve()
                .unwrap_err()
                .to_string()
        };
        let unset = fails("${env:TIDEMILL_TEST_UNSET}");
        assert_eq!(
            unset,
            "the environment variable TIDEMILL_TEST_UNSET is not set"
        );
        assert!(
            fails("${file:none}").starts_with("cannot read /"),
            "{}",
            fails("${file:none}")
        );
        assert!(fails("${file:latin}").ends_with("latin"));
        assert!(fails("${file:large}").ends_with("is larger than 1048576 bytes"));
    }

    #[test]
    fn refuses_what_only_looks_like_a_reference() {
        let base: Arc<Path> = Arc::from(Path::new("/"));
        let cases = [
            ("${", 0..2),
            ("ab${env:X", 2..9),
            ("${HOME}", 0..7),
            ("${env:}", 0..7),
            ("${env:A=B}", 0..10),
            ("x${secret:A}y", 1..12),
            ("${env:\0}", 0..8),
        ];
        for (written, span) in cases {
            assert_eq!(
                Text::parse(written, &base).unwrap_err().span,
                span,
                "{written}"
            );
        }
    }

    #[test]
    fn never_shows_a_secret() {
        let shown = text("user:hunter2@${env:HOST}", Path::new("/"));
        assert_eq!(format!("{shown:?}"), "***${env:HOST}");
        let secret = text("hunter2", Path::new("/")).resolve().unwrap();
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    }
}
