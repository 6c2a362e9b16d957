//! Problems of a file, and how a person reads them.
//!
//! A problem says what is wrong, where, what was expected and found, and what to do next. Secrets
//! that stand in the file are masked before a problem sees its text.

use std::{fmt, ops::Range, path::PathBuf, sync::Arc};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

/// A file cannot be used: it has at least one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// All that is wrong with it, warnings too, in the order of the file.
    pub problems: Vec<Problem>,
}

/// Something wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// Where.
    #[serde(flatten)]
    pub at: Place,
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    /// What was expected at the place, and what was found.
    pub label: String,
    /// The next step.
    pub help: String,
    /// Other places that have to do with it.
    pub related: Vec<Related>,
    /// The file with its secrets masked; byte for byte as long as the file.
    #[serde(skip)]
    pub(crate) text: Arc<str>,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but probably does not mean what its author does.
    Warning,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, from 1; 0 if it is about the file as a whole.
    pub line: usize,
    /// The character in the line, from 1; 0 if it is about the file as a whole.
    pub column: usize,
    /// The bytes in the file.
    pub span: Range<usize>,
}

/// Another place that has to do with a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// Where.
    #[serde(flatten)]
    pub at: Place,
    /// What is there.
    pub label: String,
}

impl Problem {
    /// For a person: the message, the place, the lines with carets below, and the next step; without
    /// a newline at the end. `colour` puts in the escape codes of terminals.
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.message.as_str());
        let path = self.at.file.to_string_lossy();
        let mut group = if self.at.line == 0 {
            title.element(Origin::path(path))
        } else {
            title.element(self.snippet().path(path))
        };
        if !self.help.is_empty() {
            group = group.element(Level::HELP.message(visible(&self.help)));
        }
        let report: [Group<'_>; 1] = [group];
        if colour {
            Renderer::styled().render(&report)
        } else {
            Renderer::plain().render(&report)
        }
    }

    /// The lines of the problem, and only these: rendering a part does not take the time of the
    /// whole file.
    fn snippet(&self) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
        let places = || {
            [&self.at]
                .into_iter()
                .chain(self.related.iter().map(|other| &other.at))
        };
        let first = places().min_by_key(|at| at.span.start).unwrap_or(&self.at);
        let last = places()
            .map(|at| at.span.start)
            .max()
            .unwrap_or(self.at.span.start);
        let start = self.text[..first.span.start]
            .rfind('\n')
            .map_or(0, |n| n + 1);
        let end = self.text[last..]
            .find('\n')
            .map_or(self.text.len(), |n| last + n + 1);
        // A value of many lines is marked on its first one.
        let within = |at: &Place| {
            let line = self.text[at.span.start..]
                .find('\n')
                .map_or(end, |n| at.span.start + n);
            at.span.start - start..at.span.end.min(line).max(at.span.start) - start
        };
        let primary = AnnotationKind::Primary
            .span(within(&self.at))
            .label(self.label.as_str());
        let related = self.related.iter().map(|other| {
            AnnotationKind::Context
                .span(within(&other.at))
                .label(other.label.as_str())
        });
        Snippet::source(&self.text[start..end])
            .line_start(first.line)
            .annotation(primary)
            .annotations(related)
    }
}

impl Invalid {
    /// All problems for a person, with a count at the end. `colour` puts in the escape codes of
    /// terminals.
    pub fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        for problem in &self.problems {
            text += &problem.render(colour);
            text += "\n\n";
        }
        let warnings = self.count(Severity::Warning);
        text += &counted(self.count(Severity::Error), "error");
        if warnings > 0 {
            text += " and ";
            text += &counted(warnings, "warning");
        }
        if let Some(problem) = self.problems.first() {
            text += &format!(" in {}", problem.at.file.display());
        }
        text
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 {
        format!("1 {what}")
    } else {
        format!("{n} {what}s")
    }
}

/// The text with control characters spelled out: what a file holds must not steer a terminal.
pub(crate) fn visible(text: &str) -> String {
    let escaped = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.into()
        }
    };
    text.chars().map(escaped).collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Invalid {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}:{}", self.file.display(), self.column),
        }
    }
}
