//! The examples of the standard, and what is read and written besides.

mod broken;
mod random;

use super::*;

const RECEIVED: Timestamp = Timestamp(1_700_000_000_000);
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const BINDINGS: [Binding; 3] = [Binding::HTTP, Binding::AMQP, Binding::KAFKA];

fn fields(fields: &[(&str, &str)]) -> Vec<Field> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    fields.iter().map(owned).collect()
}

fn message(content_type: &str, headers: &[(&str, &str)], body: &str) -> Message {
    Message {
        content_type: Some(content_type.to_owned()).filter(|t| !t.is_empty()),
        headers: fields(headers),
        body: body.to_owned().into(),
    }
}

fn event(binding: Binding, message: Message) -> Event {
    match decode(binding, message, RECEIVED).unwrap() {
        Decoded::Event(event) => event,
        Decoded::Plain(message) => panic!("{message:?} is no event"),
    }
}

fn structured(body: &str) -> Event {
    event(Binding::HTTP, message(STRUCTURED, &[], body))
}

/// The event of the examples of the standard, with this id and data.
fn example(id: &str, datacontenttype: &str, data: &str) -> Event {
    Event {
        id: id.into(),
        source: "/mycontext".into(),
        kind: "com.example.someevent".into(),
        subject: None,
        time: Timestamp(1_522_949_460_000),
        datacontenttype: Some(datacontenttype.into()),
        traceparent: None,
        hops: 0,
        headers: fields(&[
            ("ce-comexampleextension1", "value"),
            ("ce-comexampleothervalue", "5"),
        ]),
        data: data.to_owned().into(),
    }
}

/// The start of the examples of the JSON format.
const EXAMPLE: &str = r#"{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "unsetextension": null,
    "subject": null,"#;

#[test]
fn reads_the_examples_of_the_json_format_and_writes_them_in_binary() {
    let object = "{\n        \"appinfoA\" : \"abc\",\n        \"appinfoB\" : 123\n    }";
    let cases = [
        (
            r#""id": "A234-1234-1234", "datacontenttype": "application/vnd.apache.thrift.binary", "data_base64": "dGhyaWZ0"}"#.to_owned(),
            example("A234-1234-1234", "application/vnd.apache.thrift.binary", "thrift"),
        ),
        (
            r#""id": "B234-1234-1234", "datacontenttype": "application/xml", "data": "<much wow=\"xml\"/>"}"#.to_owned(),
            example("B234-1234-1234", "application/xml", "<much wow=\"xml\"/>"),
        ),
        (
            format!(r#""id": "C234-1234-1234", "datacontenttype": "application/json", "data": {object}}}"#),
            example("C234-1234-1234", "application/json", object),
        ),
        (
            r#""id": "D234-1234-1234", "data": "I'm just a string"}"#.to_owned(),
            example("D234-1234-1234", "application/json", "\"I'm just a string\""),
        ),
        (
            r#""id": "E", "datacontenttype": "text/x+json; v=1", "data": null}"#.to_owned(),
            example("E", "text/x+json; v=1", "null"),
        ),
        (
            r#""id": "F", "datacontenttype": "text/plain", "data_base64": null}"#.to_owned(),
            example("F", "text/plain", ""),
        ),
    ];
    for (rest, expected) in cases {
        assert_eq!(structured(&format!("{EXAMPLE}{rest}")), expected);
        let binary = encode_binary(Binding::HTTP, &expected);
        assert_eq!(binary.content_type, expected.datacontenttype);
        assert_eq!(binary.body, expected.data);
        let headers = fields(&[
            ("ce-specversion", "1.0"),
            ("ce-id", &expected.id),
            ("ce-source", "/mycontext"),
            ("ce-type", "com.example.someevent"),
            ("ce-time", "2018-04-05T17:31:00.000Z"),
            ("ce-comexampleextension1", "value"),
            ("ce-comexampleothervalue", "5"),
        ]);
        assert_eq!(binary.headers, headers);
    }
}

#[test]
fn reads_the_example_of_the_http_binding() {
    let headers = [
        ("host", "webhook.example.com"),
        ("ce-specversion", "1.0"),
        ("ce-type", "com.example.someevent"),
        ("ce-time", "2018-04-05T03:56:24Z"),
        ("ce-id", "1234-1234-1234"),
        ("ce-source", "/mycontext/subcontext"),
        ("ce-dataschema", "https://example.com/schema"),
    ];
    let content_type = "application/json; charset=utf-8";
    let read = event(Binding::HTTP, message(content_type, &headers, "{}"));
    let expected = Event {
        source: "/mycontext/subcontext".into(),
        time: Timestamp(1_522_900_584_000),
        headers: fields(&[
            ("host", "webhook.example.com"),
            ("ce-dataschema", "https://example.com/schema"),
        ]),
        ..example("1234-1234-1234", content_type, "{}")
    };
    assert_eq!(read, expected);
}

#[test]
fn headers_of_http_are_unquoted_and_percent_decoded_once() {
    let cases = [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("euro%e2%82%ac", "euro€"),
        ("\"quoted \\\"text\\\" \\\\\"", "quoted \"text\" \\"),
        ("\"quoted%20too\"", "quoted too"),
        ("half\"quoted", "half\"quoted"),
        ("%2541", "%41"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("\"", "\""),
    ];
    for (written, meant) in cases {
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "s"),
            ("ce-type", "t"),
            ("ce-subject", written),
        ];
        let read = event(Binding::HTTP, message("", &headers, ""));
        assert_eq!(read.subject.as_deref(), Some(meant), "{written}");
        assert_eq!((read.time, &read.datacontenttype), (RECEIVED, &None));
    }
    let sent = Event {
        subject: Some("Euro € 😀".into()),
        ..example("1", "text/plain", "")
    };
    let sent = encode_binary(Binding::HTTP, &sent);
    let subject = (
        "ce-subject".into(),
        "Euro%20%E2%82%AC%20%F0%9F%98%80".into(),
    );
    assert!(sent.headers.contains(&subject), "{sent:?}");
    // Other transports carry any text.
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", "1%20"),
        ("ce_source", "\"s\""),
        ("ce_type", "t"),
    ];
    let read = event(Binding::KAFKA, message("", &headers, ""));
    assert_eq!((&*read.id, &*read.source), ("1%20", "\"s\""));
}

#[test]
fn both_prefixes_of_amqp_are_read_in_any_case() {
    let headers = [
        ("cloudEvents:specversion", "1.0"),
        ("cloudevents:id", "1"),
        ("cloudEvents_source", "s"),
        ("cloudevents_type", "t"),
        ("cloudEvents_Extra", "x"),
        ("ce-other", "stays"),
    ];
    let read = event(Binding::AMQP, message("", &headers, ""));
    let expected = fields(&[("ce-other", "stays"), ("ce-extra", "x")]);
    assert_eq!(read.headers, expected);
}

#[test]
fn what_does_not_say_so_is_no_cloud_event() {
    let cases: [(&str, &[(&str, &str)]); 5] = [
        ("application/json", &[]),
        ("", &[]),
        ("application/cloudeventsish", &[]),
        ("text/plain", &[("ce-id", "1"), ("ce-type", "t")]),
        (
            "text/plain",
            &[("specversion", "1.0"), ("ce_specversion", "1.0")],
        ),
    ];
    for (content_type, headers) in cases {
        let plain = message(content_type, headers, "{\"specversion\":\"1.0\"}");
        let read = decode(Binding::HTTP, plain.clone(), RECEIVED);
        assert_eq!(read, Ok(Decoded::Plain(plain)));
    }
}

#[test]
fn the_json_alone_tells_of_a_structured_event() {
    let headers = [
        ("ce-id", "other"),
        ("ce-extra", "other"),
        ("x-request", "7"),
    ];
    let body =
        r#"{"specversion":"1.0","id":"1","source":"s","type":"t","extra":true,"subject":""}"#;
    let content_type = "Application/CloudEvents+JSON ; charset=UTF-8";
    let read = event(Binding::HTTP, message(content_type, &headers, body));
    assert_eq!((&*read.id, &read.subject), ("1", &None));
    assert_eq!(
        read.headers,
        fields(&[("x-request", "7"), ("ce-extra", "true")])
    );
}

#[test]
fn json_data_stays_as_it_was_written() {
    let data = r#"{"z":1.10,"a":123456789012345678901234567890, "a":"ä"}"#;
    let body = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","data":{data}}}"#);
    let read = structured(&body);
    assert_eq!(read.data, data);
    let again = encode_structured(&read);
    let text = str::from_utf8(&again.body).unwrap();
    assert!(text.ends_with(&format!(r#","data":{data}}}"#)), "{text}");
    assert_eq!(event(Binding::HTTP, again), read);
}

#[test]
fn a_trace_context_is_one_or_an_extension() {
    let with = |value: &str| {
        let body = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","traceparent":"#;
        structured(&format!("{body}\"{value}\"}}"))
    };
    let read = with(TRACE);
    assert_eq!(
        (read.traceparent.as_deref(), &read.headers),
        (Some(TRACE), &Vec::new())
    );
    let later = TRACE.replacen("00", "01", 1) + "-more";
    assert_eq!(with(&later).traceparent, Some(later));
    for wrong in [
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "nonsense",
        "",
    ] {
        let read = with(wrong);
        assert_eq!(read.traceparent, None);
        assert_eq!(read.headers, fields(&[("ce-traceparent", wrong)]));
        assert_eq!(event(Binding::HTTP, encode_structured(&read)), read);
    }
}

#[test]
fn only_attributes_go_along_each_once() {
    let sent = Event {
        traceparent: Some(TRACE.into()),
        headers: fields(&[
            ("ce-id", "other"),
            ("ce-traceparent", "other"),
            ("ce-extra", "1"),
            ("ce-extra", "2"),
            ("ce-not-legal", "x"),
            ("authorization", "x"),
        ]),
        // Later than RFC 3339 can say.
        time: Timestamp(253_402_300_800_000),
        ..example("1", "text/plain", "")
    };
    let received = Event {
        headers: fields(&[("ce-extra", "1")]),
        time: RECEIVED,
        ..sent.clone()
    };
    for binding in BINDINGS {
        assert_eq!(event(binding, encode_binary(binding, &sent)), received);
    }
    assert_eq!(event(Binding::HTTP, encode_structured(&sent)), received);
}
