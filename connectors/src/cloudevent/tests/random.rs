//! Any event goes there and back, and any message is read or refused.

use proptest::prelude::*;

use super::*;

fn text(length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let chars = prop_oneof![4 => "[ -~]", 1 => "[^\\p{Cc}]"];
    proptest::collection::vec(chars, length).prop_map(|chars| chars.concat())
}

prop_compose! {
    fn any_event()(
        (id, source, kind) in (text(1..20), text(1..20), text(1..20)),
        subject in proptest::option::of(text(1..20)),
        // The years 0 to 9999.
        time in -62_167_219_200_000_i64..253_402_300_800_000,
        datacontenttype in proptest::option::of(prop_oneof![
            Just("application/json".to_owned()), Just("text/plain".to_owned()), text(1..10),
        ]),
        traced: bool,
        extensions in proptest::collection::btree_map("[a-z0-9]{1,8}x", text(0..9), 0..4),
        data in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..20),
            text(0..20).prop_map(String::into_bytes),
            any::<f64>().prop_map(|n| serde_json::json!({"n": n}).to_string().into_bytes()),
        ],
    ) -> Event {
        let extensions = extensions.into_iter();
        Event {
            id, source, kind, subject,
            time: Timestamp(time),
            datacontenttype,
            traceparent: traced.then(|| TRACE.into()),
            hops: 0,
            headers: extensions.map(|(name, value)| (format!("ce-{name}"), value)).collect(),
            data: data.into(),
        }
    }
}

proptest! {
    #[test]
    fn any_event_goes_there_and_back(sent in any_event()) {
        for binding in BINDINGS {
            let message = encode_binary(binding, &sent);
            // A text without a content type of CloudEvents is one of another kind.
            if binding == Binding::HTTP {
                let legal = |v: &str| v.bytes().all(|b| (0x21..0x7f).contains(&b));
                prop_assert!(message.headers.iter().all(|(_, value)| legal(value)));
            }
            prop_assert_eq!(event(binding, message), sent.clone());
        }
        let mut received = event(Binding::HTTP, encode_structured(&sent));
        if received.data != sent.data {
            let trimmed = sent.data.trim_ascii();
            prop_assert!(serde_json::from_slice::<serde_json::Value>(trimmed).is_ok());
            prop_assert_eq!(&received.data[..], trimmed);
            received.data = sent.data.clone();
        }
        prop_assert_eq!(received, sent);
    }

    #[test]
    fn any_message_is_read_or_refused(
        content_type in proptest::option::of(prop_oneof![
            Just(STRUCTURED.to_owned()), Just("application/cloudevents-batch".to_owned()), any::<String>(),
        ]),
        headers in proptest::collection::vec(("(ce-|ce_)(specversion|id|source|type|time|x)", any::<String>()), 0..6),
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            ("(specversion|id|data|data_base64|time)", "[\\[\\]{}0-9a-z\",:\\\\]{0,9}")
                .prop_map(|(name, value)| format!("{{\"{name}\":{value}}}").into_bytes()),
        ],
    ) {
        for binding in BINDINGS {
            let message = Message {
                content_type: content_type.clone(),
                headers: headers.clone(),
                body: body.clone().into(),
            };
            if let Ok(Decoded::Event(event)) = decode(binding, message, RECEIVED) {
                prop_assert!(!event.id.is_empty() && !event.source.is_empty() && !event.kind.is_empty());
            }
        }
    }
}
