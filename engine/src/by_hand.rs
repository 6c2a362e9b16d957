//! Events made by hand, for `invoke`: CloudEvents in JSON, or plain data. What a hand left out is
//! filled in.

use serde::{Deserialize, de::IgnoredAny};
use tidemill_connectors::cloudevent::{Broken, Draft};
use tidemill_core::event::Event;

use crate::{clock, trace};

/// The event that this text stands for: a CloudEvent if it says that it is one, whose attributes give
/// way to those that are named; otherwise the text is the data.
pub fn from_text(
    text: &str,
    kind: Option<String>,
    source: Option<String>,
    subject: Option<String>,
) -> Result<Event, Broken> {
    let mut draft = match says_so(text) {
        true => Draft::from_json(text.as_bytes())?,
        false => plain(text),
    };
    let invoke = || "invoke".to_owned();
    draft
        .id
        .get_or_insert_with(|| format!("{:016x}", fastrand::u64(..)));
    draft.source = source.or(draft.source).or_else(|| Some(invoke()));
    draft.kind = kind.or(draft.kind).or_else(|| Some(invoke()));
    draft.subject = subject.or(draft.subject);
    draft.traceparent.get_or_insert_with(trace::new_traceparent);
    draft.finish(Vec::new(), clock::now())
}

/// The text as the event's data.
fn plain(text: &str) -> Draft {
    let json = serde_json::from_str::<IgnoredAny>(text).is_ok();
    Draft {
        datacontenttype: json.then(|| "application/json".to_owned()),
        data: text.to_owned().into(),
        ..Draft::default()
    }
}

/// Whether the text is JSON that says that it is a CloudEvent.
fn says_so(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(rename = "specversion")]
        _specversion: IgnoredAny,
    }
    // A list would do for the struct too.
    text.trim_start().starts_with('{') && serde_json::from_str::<Versioned>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Event {
        from_text(text, None, Some("mine".into()), None).unwrap()
    }

    #[test]
    fn a_cloud_event_or_plain_data() {
        let event =
            made(r#"{"specversion":"1.0","id":"7","type":"t","source":"s","data":{"a":1}}"#);
        let told = (&*event.id, &*event.source, &*event.kind, &event.data[..]);
        assert_eq!(told, ("7", "mine", "t", &br#"{"a":1}"#[..]));

        for (text, media_type) in [
            ("hello", None),
            ("[1]", Some("application/json")),
            ("{\"id\": 1}", Some("application/json")),
        ] {
            let event = made(text);
            let told = (
                &*event.kind,
                event.datacontenttype.as_deref(),
                &event.data[..],
            );
            assert_eq!(told, ("invoke", media_type, text.as_bytes()));
            assert_eq!(event.id.len(), 16);
        }
    }

    #[test]
    fn what_is_left_out_is_filled_in_and_what_is_wrong_is_told() {
        let event = from_text(r#"{"specversion":"1.0","data":1}"#, None, None, None).unwrap();
        assert_eq!((&*event.source, &*event.kind), ("invoke", "invoke"));
        assert!(event.traceparent.is_some());
        let wrong = from_text(r#"{"specversion":"0.3"}"#, None, None, None).unwrap_err();
        assert!(wrong.to_string().contains("expected \"1.0\""), "{wrong}");
    }
}
