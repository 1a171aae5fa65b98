//! CloudEvents: what becomes of an envelope and its data, to the byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const OPS: &str = r#""ops":{"type":"HEARTBEAT","component":"c"}"#;

/// A good CloudEvent whose data has these members before its body.
pub(super) fn envelope(members: &str) -> String {
    enveloped(&format!(
        r#""time":"2026-11-11T20:00:00+08:00","data":{{{members}{OPS}}}"#
    ))
}

/// What every CloudEvent has, and these members.
fn enveloped(members: &str) -> String {
    format!(r#"{{"specversion":"1.0","type":"shop.ops","id":"e1","source":"/shop/42",{members}}}"#)
}

/// The one message of a body, as its value; or the reason of its rejection.
fn value(body: &str) -> Result<Vec<u8>, String> {
    let mut read = read(Form::CloudEvent, body, LIMITS).unwrap();
    assert_eq!(read.len(), 1);
    match read.remove(0) {
        Ok(message) => {
            assert_eq!((message.stream, message.key.as_str()), (Stream::Ops, "c"));
            assert_eq!(message.at_ms, 1_794_398_400_000);
            Ok(message.value)
        }
        Err(rejected) => {
            // As it was sent, not as it was put together.
            assert_eq!(rejected.bytes, body.as_bytes());
            Err(rejected.reason)
        }
    }
}

fn check(body: &str, expect: &str) {
    let value = value(body).map(|value| String::from_utf8(value).unwrap());
    assert_eq!(value.as_deref(), Ok(expect), "{body}");
}

fn check_rejected(body: &str, expect: &str) {
    assert_eq!(value(body), Err(expect.to_owned()), "{body}");
}

const META: &str =
    r#"{"event_id":"e1","source":"/shop/42","occurred_at":"2026-11-11T20:00:00+08:00""#;

#[test]
fn the_envelope_becomes_the_meta() {
    check(&envelope(""), &format!(r#"{{"meta":{META}}},{OPS}}}"#));
    // What the envelope cannot say is the meta's to say; what says nothing is passed over.
    check(
        &envelope(
            r#""later":[1.50, 1e2],"meta":{"recordedAt":"2026-11-11T12:00:00Z","event_id":null,"shop_id":"","synthetic":true},"#,
        ),
        &format!(
            r#"{{"meta":{META},"recordedAt":"2026-11-11T12:00:00Z","synthetic":true}},"later":[1.50, 1e2],{OPS}}}"#
        ),
    );
    // Said again in other words: the same.
    check(
        &envelope(
            r#""meta":{"eventId":"\u00651","source":"/shop/42","occurredAt":"2026-11-11T12:00:00.000Z"},"#,
        ),
        &format!(
            r#"{{"meta":{{"eventId":"\u00651","source":"/shop/42","occurredAt":"2026-11-11T12:00:00.000Z"}},{OPS}}}"#
        ),
    );
    // Attributes in any order, null for not given, others passed over; the meta gives the time.
    check(
        &format!(
            r#" {{"data":{{{OPS},"meta":{{"occurred_at":"2026-11-11T12:00:00Z"}}}},"time":null,"subject":{{}},"source":"/shop/42","type":"t","id":"e1","specversion":"1.0","data_base64":null}} "#
        ),
        &format!(
            r#"{{"meta":{{"event_id":"e1","source":"/shop/42","occurred_at":"2026-11-11T12:00:00Z"}},{OPS}}}"#
        ),
    );
}

#[test]
fn the_shop_is_an_extension_of_the_envelope() {
    let body = |members: &str| {
        enveloped(&format!(
            r#""shopid":"烽\"1","time":"2026-11-11T12:00:00Z","data":{{{members}{OPS}}}"#
        ))
    };
    check(
        &body(""),
        &format!(
            r#"{{"meta":{{"event_id":"e1","source":"/shop/42","occurred_at":"2026-11-11T12:00:00Z","shop_id":"烽\"1"}},{OPS}}}"#
        ),
    );
    assert!(value(&body(r#""meta":{"shopId":"烽\"1"},"#)).is_ok());
    check_rejected(
        &body(r#""meta":{"shop_id":"s2"},"#),
        r#"invalid_value: data.meta.shop_id: expected "烽\"1", as shopid says, got "s2""#,
    );
    // Without the extension the meta may say what it likes.
    assert!(value(&envelope(r#""meta":{"shop_id":"s2"},"#)).is_ok());
}

#[test]
fn what_is_said_twice_must_be_the_same() {
    let cases = [
        (
            r#""meta":{"event_id":"e2"},"#,
            r#"event_id: expected "e1", as id says, got "e2""#,
        ),
        (
            r#""meta":{"source":"/shop/43"},"#,
            r#"source: expected "/shop/42", as source says, got "/shop/43""#,
        ),
        (
            r#""meta":{"occurred_at":"2026-11-11T12:00:00.001Z"},"#,
            r#"occurred_at: expected "2026-11-11T20:00:00+08:00", as time says, got "2026-11-11T12:00:00.001Z""#,
        ),
    ];
    for (members, expected) in cases {
        check_rejected(
            &envelope(members),
            &format!("invalid_value: data.meta.{expected}"),
        );
    }
}

#[test]
fn what_is_no_cloud_event_is_rejected_with_its_reason() {
    let time = r#""time":"2026-11-11T12:00:00Z""#;
    let with = |from: &str, to: &str| envelope("").replace(from, to);
    let cases = [
        (
            String::new(),
            "malformed: the event: EOF while parsing a value at line 1 column 0",
        ),
        (
            "nope".to_owned(),
            "malformed: the event: expected ident at line 1 column 2",
        ),
        (
            "[]".to_owned(),
            "invalid_value: the event: expected an object, got \"[]\"",
        ),
        (
            "{\"a\":1".to_owned(),
            "malformed: the event: EOF while parsing an object at line 1 column 6",
        ),
        (
            "{}".to_owned(),
            "missing_field: specversion: expected a string",
        ),
        (
            with("\"1.0\"", "\"0.3\""),
            "invalid_value: specversion: expected 1.0, got \"0.3\"",
        ),
        (
            with("\"1.0\"", "1.0"),
            "invalid_value: specversion: expected a string, got \"1.0\"",
        ),
        (
            with("\"e1\"", "\"\""),
            "missing_field: id: expected a string",
        ),
        (
            with("\"e1\"", "7"),
            "invalid_value: id: expected a string, got \"7\"",
        ),
        (
            with("\"id\":\"e1\"", "\"id\":\"e1\",\"id\":\"e1\""),
            "invalid_value: id: given twice",
        ),
        (
            with("\"source\"", "\"origin\""),
            "missing_field: source: expected a string",
        ),
        (
            with("\"shop.ops\"", "null"),
            "missing_field: type: expected a string",
        ),
        (
            with("2026-11-11T20", "2026-11-11 at 20"),
            "invalid_value: time: expected an RFC 3339 time such as 2026-11-11T12:00:00Z, got \"2026-11-11 at 20:00:00+08:00\"",
        ),
        (
            enveloped(&format!(r#""data":{{{OPS}}}"#)),
            "missing_field: time: expected an RFC 3339 time, here or as data.meta.occurred_at",
        ),
        (enveloped(time), "missing_field: data: expected the event"),
        (
            enveloped(&format!("{time},\"data\":null")),
            "missing_field: data: expected the event",
        ),
        (
            enveloped(&format!("{time},\"data\":\"x\"")),
            "invalid_value: data: expected an object, got \"\\\"x\\\"\"",
        ),
        (
            enveloped(&format!("{time},\"data\":{{\"meta\":7,{OPS}}}")),
            "invalid_value: data.meta: expected an object, got \"7\"",
        ),
        (
            enveloped(&format!(
                "{time},\"data\":{{\"meta\":{{}},\"meta\":{{}},{OPS}}}"
            )),
            "invalid_value: meta: given twice",
        ),
        (
            enveloped(&format!("{time},\"data\":{{}},\"data_base64\":\"e30=\"")),
            "invalid_value: data_base64: expected no data beside it",
        ),
        (
            enveloped(&format!("{time},\"data_base64\":\"e30\"")),
            "invalid_value: data_base64: expected base64, got \"e30\"",
        ),
        (
            enveloped(&format!("{time},\"data_base64\":\"/w==\"")),
            "malformed: data_base64: not UTF-8 at byte 0",
        ),
        (
            enveloped(&format!(
                "{time},\"datacontenttype\":\"text/xml\",\"data\":\"<a/>\""
            )),
            "unsupported_encoding: datacontenttype: expected application/json or application/protobuf, got \"text/xml\"",
        ),
        (
            enveloped(&format!(
                "{time},\"datacontenttype\":\"application/protobuf\",\"data\":{{}}"
            )),
            "missing_field: data_base64: expected the event, since it is in protobuf",
        ),
    ];
    for (body, expected) in cases {
        check_rejected(&body, expected);
    }
    // The rest is the decoder's to judge, in its own words.
    for (members, expected) in [
        (r#""ops":{},"#, "invalid_value: "),
        (
            r#""meta":{"event_id":"e1","event_id":"e1"},"#,
            "invalid_value: meta.event_id: given twice",
        ),
        (
            r#""meta":{"recorded_at":""},"#,
            "invalid_value: meta.recorded_at: expected an RFC 3339",
        ),
    ] {
        let reason = value(&envelope(members)).unwrap_err();
        assert!(reason.starts_with(expected), "{reason}");
    }
    let long = value(&envelope("").replace("\"e1\"", &format!("\"{}\"", "e".repeat(200))));
    assert_eq!(
        long.unwrap_err(),
        "too_large: meta.event_id: 200 bytes, at most 128 are allowed"
    );
}

#[test]
fn json_may_come_in_base64() {
    let data = STANDARD.encode(format!("{{{OPS}}}"));
    for content_type in [
        "application/json",
        "application/vnd.shop+JSON; charset=utf-8",
    ] {
        check(
            &enveloped(&format!(
                r#""time":"2026-11-11T20:00:00+08:00","datacontenttype":"{content_type}","data_base64":"{data}""#
            )),
            &format!(r#"{{"meta":{META}}},{OPS}}}"#),
        );
    }
}

/// A heartbeat in protobuf with the meta that its data has.
fn data(meta: Option<pb::Meta>) -> Vec<u8> {
    fenghuo_event::to_protobuf(&pb::Event {
        meta,
        body: Some(pb::event::Body::Ops(pb::Ops {
            r#type: pb::ops::Type::Heartbeat.into(),
            component: "c".to_owned(),
            ..pb::Ops::default()
        })),
    })
}

fn in_base64(members: &str, data: &[u8]) -> String {
    let data = STANDARD.encode(data);
    enveloped(&format!(
        r#"{members}"datacontenttype":"application/protobuf","data_base64":"{data}""#
    ))
}

#[test]
fn protobuf_comes_in_base64() {
    let time = r#""time":"2026-11-11T12:00:00Z","shopid":"s1","#;
    let occurred_at = Some(fenghuo_event::Timestamp(1_794_398_400_000).into());
    let metas = [
        None,
        Some(pb::Meta::default()),
        Some(pb::Meta {
            occurred_at,
            source_seq: 7,
            ..pb::Meta::default()
        }),
        Some(pb::Meta {
            event_id: "e1".to_owned(),
            source: "/shop/42".to_owned(),
            shop_id: "s1".to_owned(),
            occurred_at,
            ..pb::Meta::default()
        }),
    ];
    for meta in metas {
        let value = value(&in_base64(time, &data(meta.clone()))).unwrap();
        let event = fenghuo_event::decode(&value, Some(b"application/protobuf")).unwrap();
        assert_eq!(event.meta.event_id, "e1");
        assert_eq!(event.meta.source, "/shop/42");
        assert_eq!(event.meta.shop_id, "s1");
        assert_eq!(event.meta.occurred_at.unwrap().0, 1_794_398_400_000);
        assert_eq!(
            event.meta.source_seq,
            meta.map_or(0, |meta| meta.source_seq)
        );
    }
    let meta = Some(pb::Meta {
        occurred_at,
        ..pb::Meta::default()
    });
    assert!(value(&in_base64("", &data(meta))).is_ok());
    check_rejected(
        &in_base64("", &data(None)),
        "missing_field: time: expected an RFC 3339 time, here or as data.meta.occurred_at",
    );
    let other = Some(pb::Meta {
        event_id: "e2".to_owned(),
        ..pb::Meta::default()
    });
    check_rejected(
        &in_base64(time, &data(other)),
        r#"invalid_value: data.meta.event_id: expected "e1", as id says, got "e2""#,
    );
    let later = Some(pb::Meta {
        occurred_at: Some(fenghuo_event::Timestamp(1_794_398_400_001).into()),
        ..pb::Meta::default()
    });
    check_rejected(
        &in_base64(time, &data(later)),
        r#"invalid_value: data.meta.occurred_at: expected "2026-11-11T12:00:00Z", as time says, got "2026-11-11T12:00:00.001Z""#,
    );
    for members in ["", time] {
        let reason = value(&in_base64(members, b"\xff\xff")).unwrap_err();
        assert!(reason.starts_with("malformed: "), "{reason}");
    }
}

#[test]
fn a_batch_is_an_array_of_cloud_events() {
    let good = envelope("");
    assert_eq!(
        told(Form::CloudEvents, format!("[{good},{{}},{good}]")),
        [
            "sender:1 ops c",
            "sender:2 missing_field: specversion: expected a string",
            "sender:3 ops c",
        ]
    );
    assert_eq!(told(Form::CloudEvents, "[]"), [""; 0]);
    for broken in ["", "{}", "[{}", "[{}]]"] {
        let error = read(Form::CloudEvents, broken, LIMITS).unwrap_err();
        assert!(matches!(error, Error::CannotSplit { .. }), "{error}");
    }
    assert_eq!(
        told(Form::CloudEvent, format!("\u{feff}{good}\n")),
        ["sender:1 ops c"]
    );
}
