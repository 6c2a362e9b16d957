//! How deep brackets nest. The TOML parser has a limit of its own, but loses count in some broken
//! files (`[a]` in an inline table that has no end) and then runs out of stack, which nothing can
//! catch. So this is looked at before it parses.

use toml_parser::{Source, lexer::TokenKind};

use crate::{
    hide,
    sink::{Draft, Sink},
};

/// The most brackets that are open at a time; no key of ours is deeper than a filter's data, which
/// is as deep as the JSON it looks at.
const DEPTH: usize = 100;

/// Refuses a file that nests deeper than any plan; tells whether it may be parsed.
pub(crate) fn check(sink: &mut Sink<'_>) -> bool {
    let mut open = Vec::new();
    for token in Source::new(sink.text()).lex() {
        match token.kind() {
            kind @ (TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket) => open.push(kind),
            TokenKind::RightSquareBracket => {
                open.pop_if(|kind| *kind == TokenKind::LeftSquareBracket);
            }
            TokenKind::RightCurlyBracket => {
                open.pop_if(|kind| *kind == TokenKind::LeftCurlyBracket);
            }
            _ => {}
        }
        if open.len() > DEPTH {
            let message = format!("more than {DEPTH} brackets are open here");
            let label = "expected brackets that are closed, found one more that opens";
            let help = "close the brackets above with `]` and `}`";
            let span = token.span().start()..token.span().end();
            hide::secrets(sink);
            sink.add(Draft::error(span, message, label, help));
            return false;
        }
    }
    true
}
