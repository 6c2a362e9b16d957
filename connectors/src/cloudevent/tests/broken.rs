//! What is broken, in which words.

use tidemill_core::limits;

use super::*;

#[test]
fn says_what_is_broken_in_binary_mode() {
    let long = "x".repeat(limits::ATTRIBUTE + 1);
    let cases: [(&[(&str, &str)], &str); 11] = [
        (
            &[("ce-specversion", "0.3")],
            "`ce-specversion` of the CloudEvent is \"0.3\"; expected \"1.0\"",
        ),
        (
            &[],
            "the CloudEvent has no `specversion`; specversion, id, source and type must be there and not be empty",
        ),
        (
            &[("ce-specversion", "1.0"), ("ce-subject", &long)],
            "`ce-subject` of the CloudEvent has 4097 bytes; expected at most 4096",
        ),
        (
            &[("ce-specversion", "1.0"), ("ce-time", "yesterday")],
            "`ce-time` of the CloudEvent is \"yesterday\"; expected a time of RFC 3339, such as \"2018-04-05T17:31:00Z\"",
        ),
        (
            &[("ce-specversion", "1.0"), ("ce-id", "2")],
            "the CloudEvent has more than one `ce-id`; send each attribute once",
        ),
        (
            &[("ce-specversion", "1.0"), ("ce-x", ""), ("ce-x", "")],
            "the CloudEvent has more than one `ce-x`; send each attribute once",
        ),
        (
            &[("ce-specversion", "1.0"), ("ce-my-x", "1")],
            "the CloudEvent has an attribute \"ce-my-x\"; names have lower-case letters a-z and digits only, at most 64 of them, and none is `data`",
        ),
        (
            &[("ce-specversion", "1.0"), ("ce-", "1")],
            "the CloudEvent has an attribute \"ce-\"; names have lower-case letters a-z and digits only, at most 64 of them, and none is `data`",
        ),
        (
            &[("ce-specversion", "1.0"), ("ce-data", "1")],
            "the CloudEvent has an attribute \"ce-data\"; names have lower-case letters a-z and digits only, at most 64 of them, and none is `data`",
        ),
        (
            &[("ce-specversion", "1.0"), ("ce-subject", "%C0%A0")],
            "`ce-subject` of the CloudEvent is \"%C0%A0\"; expected percent-encoded UTF-8, such as \"caf%C3%A9\"",
        ),
        (
            &[("ce-specversion", "1.0"), ("ce-subject", "a%0Ab")],
            "`ce-subject` of the CloudEvent is \"a\\nb\"; expected a text without control characters",
        ),
    ];
    for (more, words) in cases {
        let mut message = message(
            "",
            &[("ce-id", "1"), ("ce-source", "s"), ("ce-type", "t")],
            "",
        );
        message.headers.extend(fields(more));
        let broken = decode(Binding::HTTP, message, RECEIVED).unwrap_err();
        assert_eq!(broken.to_string(), words);
    }
    for (name, empty) in [
        ("id", true),
        ("source", true),
        ("type", true),
        ("id", false),
    ] {
        let all =
            ["specversion", "id", "source", "type"].map(|n| (format!("ce-{n}"), "1.0".into()));
        let mut headers = all.to_vec();
        match headers.iter_mut().find(|(n, _)| n[3..] == *name).unwrap() {
            header if empty => header.1 = String::new(),
            header => header.0 = "other".into(),
        }
        let message = Message {
            headers,
            ..Message::default()
        };
        let broken = decode(Binding::HTTP, message, RECEIVED);
        assert_eq!(broken, Err(Broken::Missing(name)));
    }
    let mut many = fields(&[("ce-specversion", "1.0")]);
    many.extend((0..=limits::EXTENSIONS).map(|n| (format!("ce-x{n}"), String::new())));
    let message = Message {
        headers: many,
        ..Message::default()
    };
    assert_eq!(
        decode(Binding::HTTP, message, RECEIVED),
        Err(Broken::TooMany)
    );
}

#[test]
fn says_what_is_broken_in_structured_mode() {
    let long = format!("\"{}\"", "x".repeat(5000));
    let cases = [
        (
            "",
            "the CloudEvent is not a JSON object: EOF while parsing a value at line 1 column 0",
        ),
        (
            "{",
            "the CloudEvent is not a JSON object: EOF while parsing an object at line 1 column 1",
        ),
        (
            &*long,
            "the CloudEvent is not a JSON object: it is a string",
        ),
        (
            " [1]",
            "batches of CloudEvents are not taken; send each event in a message of its own",
        ),
        (
            "{}",
            "the CloudEvent has no `specversion`; specversion, id, source and type must be there and not be empty",
        ),
        (
            r#"{"specversion":null}"#,
            "the CloudEvent has no `specversion`; specversion, id, source and type must be there and not be empty",
        ),
        (
            r#"{"specversion":1.0}"#,
            "`specversion` of the CloudEvent is a number with a fraction or exponent; expected a string",
        ),
        (
            r#"{"specversion":"1.0","id":5}"#,
            "`id` of the CloudEvent is a number; expected a string",
        ),
        (
            r#"{"specversion":"1.0","id":"\ud800"}"#,
            "`id` of the CloudEvent is a string that is not Unicode; expected a string",
        ),
        (
            r#"{"specversion":"1.0","x":{}}"#,
            "`x` of the CloudEvent is an object; expected a string, a whole number, true or false",
        ),
        (
            r#"{"specversion":"1.0","x":[1]}"#,
            "`x` of the CloudEvent is a list; expected a string, a whole number, true or false",
        ),
        (
            r#"{"specversion":"1.0","x":1e3}"#,
            "`x` of the CloudEvent is a number with a fraction or exponent; expected a string, a whole number, true or false",
        ),
        (
            r#"{"specversion":"1.0","Big":1}"#,
            "the CloudEvent has an attribute \"Big\"; names have lower-case letters a-z and digits only, at most 64 of them, and none is `data`",
        ),
        (
            r#"{"specversion":"1.0","data":1,"data_base64":""}"#,
            "the CloudEvent has both `data` and `data_base64`; expected one of them",
        ),
        (
            r#"{"specversion":"1.0","datacontenttype":"text/plain","data":1}"#,
            "`data` of the CloudEvent is a number; expected a string, as its media type is not JSON",
        ),
        (
            r#"{"specversion":"1.0","data_base64":1}"#,
            "`data_base64` of the CloudEvent is a number; expected a string of base64 with its padding",
        ),
        (
            r#"{"specversion":"1.0","data_base64":"a-b"}"#,
            "`data_base64` of the CloudEvent is Invalid symbol 45, offset 1.; expected a string of base64 with its padding",
        ),
    ];
    for (body, words) in cases {
        let broken = decode(Binding::HTTP, message(STRUCTURED, &[], body), RECEIVED).unwrap_err();
        assert_eq!(broken.to_string(), words, "{body}");
    }
    let cases = [
        (
            "application/cloudevents-batch+json; charset=UTF-8",
            "batches of CloudEvents are not taken; send each event in a message of its own",
        ),
        (
            "Application/CloudEvents+Avro",
            "CloudEvents in the format \"application/cloudevents+avro\" are not read; send application/cloudevents+json, or the attributes as headers",
        ),
        (
            "application/cloudevents",
            "CloudEvents in the format \"application/cloudevents\" are not read; send application/cloudevents+json, or the attributes as headers",
        ),
    ];
    for (content_type, words) in cases {
        let broken = decode(Binding::HTTP, message(content_type, &[], "[]"), RECEIVED).unwrap_err();
        assert_eq!(broken.to_string(), words);
    }
}
