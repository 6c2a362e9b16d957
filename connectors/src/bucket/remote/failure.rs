//! The errors of object stores in few words. They answer in XML of many lines, with the request, the
//! host and the string that was signed; a person wants the code and the message.

use std::error::Error as StdError;

/// How much of an answer is kept that has no message, in bytes.
const MOST: usize = 300;

/// What a store said, or what went wrong on the way to it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failure(String);

impl Failure {
    pub(super) fn of(error: &object_store::Error) -> Failure {
        // Some of object_store's errors print their sources themselves, some do not.
        let text = match error {
            object_store::Error::Generic { source, .. } => chain(source.as_ref()),
            error => chain(error),
        };
        Failure(words(&text))
    }
}

/// The code and message of an answer in XML, else the beginning of the text.
pub(super) fn words(text: &str) -> String {
    match (element(text, "Code"), element(text, "Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => shorten(text),
    }
}

/// An error with what caused it, once each.
pub(in crate::bucket) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value.trim()).filter(|value| !value.is_empty() && value.len() <= MOST)
}

fn shorten(text: &str) -> String {
    let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match plain.char_indices().find(|(at, _)| *at >= MOST) {
        Some((at, _)) => format!("{}...", &plain[..at]),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_a_person_wants() {
        let answer = "Error performing GET http://h/b in 1s - Server returned non-2xx status code: 403 Forbidden: \
             <?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>The signature is wrong.</Message>\
             <AWSAccessKeyId>AKIA</AWSAccessKeyId><StringToSign>AWS4\n1</StringToSign></Error>";
        assert_eq!(
            words(answer),
            "SignatureDoesNotMatch: The signature is wrong."
        );
        assert_eq!(words("<Code>Slow</Code>"), "Slow");
        assert_eq!(words("  plain \n text "), "plain text");
        assert_eq!(words("<Code></Code>"), "<Code></Code>");
        let long = words(&"ü".repeat(1000));
        assert!(long.ends_with("ü...") && long.len() < 310, "{long}");
    }
}
