//! Where problems are collected while a file is looked at, and put in order at the end.
//!
//! Behind a syntax error the parser guesses; what is found there, or seems to be missing, may be the
//! parser's doing and not the user's. The sink drops such problems, so that one slip gives one
//! message.

use std::{ops::Range, path::Path, sync::Arc};

use crate::{
    plan::NotBuilt,
    problem::{Place, Problem, Related, Severity, visible},
    suggest,
};

/// The most problems of a file that are told one by one: nobody reads more, and showing each takes
/// its time.
const PROBLEMS: usize = 500;

/// A range of bytes in the file.
pub(crate) type Span = Range<usize>;

/// A problem that does not know its file yet.
#[derive(Debug)]
pub(crate) struct Draft {
    pub severity: Severity,
    pub span: Span,
    pub message: String,
    pub label: String,
    pub help: String,
    pub related: Vec<(Span, String)>,
    /// Whether it is about something that is not there.
    pub absence: bool,
}

impl Draft {
    pub(crate) fn error(
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Draft {
        Draft {
            severity: Severity::Error,
            span,
            message: message.into(),
            label: label.into(),
            help: help.into(),
            related: Vec::new(),
            absence: false,
        }
    }

    pub(crate) fn warning(self) -> Draft {
        Draft {
            severity: Severity::Warning,
            ..self
        }
    }

    pub(crate) fn absent(self) -> Draft {
        Draft {
            absence: true,
            ..self
        }
    }

    pub(crate) fn with(mut self, span: Span, label: impl Into<String>) -> Draft {
        self.related.push((span, label.into()));
        self
    }
}

/// Collects what is found in one file.
pub(crate) struct Sink<'a> {
    file: &'a Path,
    text: &'a str,
    /// The first byte of each line.
    lines: Vec<usize>,
    drafts: Vec<Draft>,
    /// Where syntax errors make what is found doubtful; in order, none touching another.
    doubtful: Vec<Span>,
    /// Whether they may have swallowed keys.
    incomplete: bool,
    not_built: Vec<(Span, String)>,
    secrets: Vec<Span>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(file: &'a Path, text: &'a str) -> Sink<'a> {
        let lines = [0]
            .into_iter()
            .chain(text.match_indices('\n').map(|(n, _)| n + 1))
            .collect();
        Sink {
            file,
            text,
            lines,
            drafts: Vec::new(),
            doubtful: Vec::new(),
            incomplete: false,
            not_built: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// Adds a problem, unless a syntax error explains it.
    pub(crate) fn add(&mut self, draft: Draft) {
        let explained = draft.absence && self.incomplete || self.is_doubtful(draft.span.start);
        if !explained {
            self.drafts.push(draft);
        }
    }

    /// Adds a syntax error that makes what is found at `doubtful` doubtful, and everything missing
    /// too if it is `incomplete`. A second one at a doubtful place is the echo of the first. They
    /// come in the order of the lines.
    pub(crate) fn syntax(&mut self, draft: Draft, doubtful: Span, incomplete: bool) {
        self.incomplete |= incomplete;
        if !self.is_doubtful(draft.span.start) {
            self.drafts.push(draft);
        }
        match self.doubtful.last_mut() {
            Some(last) if doubtful.start <= last.end => last.end = last.end.max(doubtful.end),
            _ => self.doubtful.push(doubtful),
        }
    }

    fn is_doubtful(&self, at: usize) -> bool {
        let next = self.doubtful.partition_point(|span| span.start <= at);
        self.doubtful[..next]
            .last()
            .is_some_and(|span| span.contains(&at))
    }

    /// Notes something that the engine does not have yet.
    pub(crate) fn not_built(&mut self, span: Span, what: String) {
        self.not_built.push((span, what));
    }

    /// Makes sure that the text there is never shown.
    pub(crate) fn secret(&mut self, span: Span) {
        self.secrets.push(span);
    }

    /// The whole lines that the span touches.
    pub(crate) fn lines_of(&self, span: &Span) -> Span {
        let start = self.lines[self.line(span.start)];
        let end = self
            .lines
            .get(self.line(span.end) + 1)
            .copied()
            .unwrap_or(usize::MAX);
        start..end
    }

    /// Whether the text there is never shown.
    pub(crate) fn is_secret(&self, at: usize) -> bool {
        self.secrets
            .iter()
            .any(|span| (span.start..=span.end).contains(&at))
    }

    /// The file's text.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Everything found, in the order of the file.
    pub(crate) fn finish(mut self) -> (Vec<Problem>, Vec<NotBuilt>) {
        let mut drafts = std::mem::take(&mut self.drafts);
        drafts.sort_by_key(|draft| (draft.span.start, draft.severity != Severity::Error));
        if let Some(next) = drafts.get(PROBLEMS) {
            let message = format!("{} more problems are not shown", drafts.len() - PROBLEMS);
            let more = Draft::error(
                next.span.clone(),
                message,
                "the next one is here",
                "mend the others first",
            );
            drafts.truncate(PROBLEMS);
            drafts.push(more);
        }
        let text = self.masked();
        let place = |span| self.place(span);
        let problems = drafts.into_iter().map(|draft| Problem {
            severity: draft.severity,
            at: place(draft.span),
            message: visible(&draft.message),
            label: visible(&draft.label),
            help: visible(&draft.help),
            related: draft
                .related
                .into_iter()
                .map(|(span, label)| Related {
                    at: place(span),
                    label: visible(&label),
                })
                .collect(),
            text: text.clone(),
        });
        let problems = problems.collect();
        let mut not_built = std::mem::take(&mut self.not_built);
        not_built.sort_by_key(|(span, _)| span.start);
        let not_built = not_built.into_iter().map(|(span, what)| NotBuilt {
            at: self.place(span).to_string(),
            what: visible(&what),
        });
        (problems, not_built.collect())
    }

    /// The number of the line of a byte, from 0.
    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at) - 1
    }

    fn place(&self, span: Span) -> Place {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.ceil_char_boundary(span.end.max(start));
        let line = self.line(start);
        let column = self.text[self.lines[line]..start].chars().count() + 1;
        Place {
            file: self.file.to_owned(),
            line: line + 1,
            column,
            span: start..end,
        }
    }

    /// The text with its secrets replaced, character by character and of the same length in bytes.
    fn masked(&self) -> Arc<str> {
        let mut text = self.text.to_owned();
        for span in self
            .secrets
            .iter()
            .cloned()
            .chain(suggest::userinfo(self.text))
        {
            let Some(secret) = self.text.get(span.clone()) else {
                continue;
            };
            let mask = secret.chars().map(|c| match (c, c.len_utf8()) {
                ('\n' | '\r', _) => c,
                (_, 1) => '*',
                (_, 2) => '·',
                (_, 3) => '•',
                _ => '𐄁',
            });
            text.replace_range(span, &mask.collect::<String>());
        }
        text.into()
    }
}
