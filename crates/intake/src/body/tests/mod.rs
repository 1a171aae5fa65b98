//! Tests of bodies as a whole: each form from bytes to messages, what is rejected and with which
//! words, and that no bytes whatever bring the reading down.

mod cloud;
mod properties;

use std::sync::Arc;

use fenghuo_event::{Stream, pb};

use super::{Error, Form, Limits, Room, messages, messages_within};
use crate::{Message, Rejected};

const LIMITS: Limits = Limits {
    body_bytes_max: 1 << 24,
    events_max: 1000,
    event_bytes_max: 1 << 20,
};

const FORMS: [Form; 5] = [
    Form::JsonLines,
    Form::Json,
    Form::Protobuf,
    Form::CloudEvent,
    Form::CloudEvents,
];

fn read(
    form: Form,
    body: impl AsRef<[u8]>,
    limits: Limits,
) -> Result<Vec<Result<Message, Rejected>>, Error> {
    messages(form, body.as_ref(), &Arc::from("sender"), limits)
}

/// Where each event stood, and its stream and key or the reason of its rejection.
fn told(form: Form, body: impl AsRef<[u8]>) -> Vec<String> {
    let read = read(form, body, LIMITS).unwrap();
    let told = read.iter().map(|event| match event {
        Ok(message) => format!("{} {} {}", message.origin, message.stream, message.key),
        Err(rejected) => format!("{} {}", rejected.origin, rejected.reason),
    });
    told.collect()
}

/// A heartbeat, which is the shortest event, and an order.
fn event(id: &str) -> String {
    format!(
        r#"{{"meta":{{"event_id":"{id}","source":"/shop/42","occurred_at":"2026-11-11T12:00:00Z"}},"ops":{{"type":"HEARTBEAT","component":"{id}"}}}}"#
    )
}

fn order(id: &str) -> String {
    format!(
        r#"{{"meta":{{"event_id":"{id}","source":"/shop/42","occurred_at":"2026-11-11T12:00:00Z","recorded_at":"2026-11-11T12:00:07Z"}},"order":{{"type":"PAID","order_id":"{id}","lines":[{{"sku_id":"s1","quantity":2}}]}}}}"#
    )
}

fn protobuf(id: &str) -> Vec<u8> {
    fenghuo_event::to_protobuf(&pb::Event {
        meta: Some(pb::Meta {
            event_id: id.to_owned(),
            source: "/shop/42".to_owned(),
            occurred_at: Some(fenghuo_event::Timestamp(1_794_398_400_000).into()),
            ..pb::Meta::default()
        }),
        body: Some(pb::event::Body::Ops(pb::Ops {
            r#type: pb::ops::Type::Heartbeat.into(),
            component: id.to_owned(),
            ..pb::Ops::default()
        })),
    })
}

/// A message with its length before it.
fn span(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

#[test]
fn a_message_has_all_that_appending_needs() {
    let line = order("o1");
    let read = read(Form::JsonLines, format!("\n{line}\r\n"), LIMITS).unwrap();
    let [Ok(message)] = &read[..] else {
        panic!("{read:?}");
    };
    assert_eq!(message.origin.to_string(), "sender:2");
    assert_eq!(message.stream, Stream::Orders);
    assert_eq!(message.key, "o1");
    // When its source learnt of it, not when it happened.
    assert_eq!(message.at_ms, 1_794_398_407_000);
    assert_eq!(message.content_type, "application/json");
    assert_eq!(message.value, line.as_bytes());
}

#[test]
fn streams_are_mixed_and_a_bad_line_rejects_itself_alone() {
    let (order, event) = (order("o1"), event("a"));
    let body = format!("\u{feff}{order}\nnope\n\n{{\"meta\":{{}}}}\r\n[]\n{event}");
    for form in [Form::JsonLines, Form::Json] {
        assert_eq!(
            told(form, &body),
            [
                "sender:1 orders o1",
                "sender:2 malformed: expected ident at line 1 column 2",
                "sender:4 missing_field: meta.event_id: expected an id",
                "sender:5 invalid_value: invalid type: sequence, expected an object at line 1 column 2",
                "sender:6 ops a",
            ]
        );
    }
    let rejected = read(Form::JsonLines, b"\xff\xfe{", LIMITS).unwrap();
    let rejected = rejected[0].as_ref().unwrap_err();
    assert_eq!(rejected.reason, "malformed: not UTF-8 at byte 0");
    assert_eq!(rejected.bytes, b"\xff\xfe{");
}

#[test]
fn json_is_an_array_or_lines_or_one_event_over_several_lines() {
    let (order, event) = (order("o1"), event("a"));
    let array = ["sender:1 orders o1", "sender:2 ops a"];
    assert_eq!(
        told(Form::Json, format!("\u{feff}\n [{order} ,\n{event}]\n")),
        array
    );
    assert_eq!(told(Form::Json, format!("{order}\n{event}\n")), array);
    assert_eq!(told(Form::Json, &event), ["sender:1 ops a"]);
    let spread = event.replace(',', ",\n  ");
    assert_eq!(
        told(Form::Json, format!("\n{spread}\n")),
        ["sender:1 ops a"]
    );
    assert_eq!(told(Form::Json, ""), [""; 0]);
    assert_eq!(told(Form::Json, "[]"), [""; 0]);
    // Lines stay lines where they are said to be.
    assert_eq!(told(Form::JsonLines, format!("[{order},{event}]")).len(), 1);
    assert_eq!(told(Form::JsonLines, &spread).len(), spread.lines().count());
}

#[test]
fn a_bad_element_rejects_itself_alone_and_a_broken_array_takes_everything() {
    let event = event("a");
    assert_eq!(
        told(Form::Json, format!(r#"[{event},{{"a":}},7,{event}]"#)),
        [
            "sender:1 ops a",
            "sender:2 malformed: expected value at line 1 column 6",
            "sender:3 invalid_value: invalid type: integer `7`, expected an object at line 1 column 1",
            "sender:4 ops a",
        ]
    );
    let error = read(Form::Json, format!("[{event} {event}]"), LIMITS).unwrap_err();
    let Error::CannotSplit { byte, problem } = error else {
        panic!("{error}");
    };
    assert_eq!(byte, event.len() as u64 + 2);
    assert_eq!(
        problem,
        r#"expected a comma or the end of the array, got "{\"meta\":{\"event_id\":\"a\",""#
    );
}

#[test]
fn protobuf_is_read_by_its_lengths() {
    let (first, second) = (span(&protobuf("a")), span(&protobuf("b")));
    let body = [&first[..], b"\x00", b"\x02ab", &second[..]].concat();
    let told = told(Form::Protobuf, &body);
    assert_eq!(told.len(), 4);
    assert_eq!(told[0], "sender:1 ops a");
    assert_eq!(told[1], "sender:2 malformed: an empty message");
    assert!(told[2].starts_with("sender:3 malformed: "), "{}", told[2]);
    assert_eq!(told[3], "sender:4 ops b");
    let messages = read(Form::Protobuf, &first, LIMITS).unwrap();
    let message = messages[0].as_ref().unwrap();
    assert_eq!(message.content_type, "application/protobuf");
    assert_eq!(message.value, protobuf("a"));

    let cut = read(Form::Protobuf, &body[..body.len() - 1], LIMITS).unwrap_err();
    let place = (body.len() - second.len()) as u64;
    assert!(
        matches!(cut, Error::CannotSplit { byte, .. } if byte == place),
        "{cut}"
    );
}

#[test]
fn limits_hold_for_each_event_and_for_the_body() {
    let event = event("a");
    let at = |form, body: &str, limits| read(form, body, limits);
    let short = Limits {
        event_bytes_max: event.len() - 1,
        ..LIMITS
    };
    for (form, body) in [
        (Form::JsonLines, format!("{event}\r\n7")),
        (Form::Json, format!("[{event},7]")),
        (Form::CloudEvents, format!("[{event},7]")),
    ] {
        let read = at(form, &body, short).unwrap();
        assert_eq!(read.len(), 2);
        let rejected = read[0].as_ref().unwrap_err();
        let expected = format!(
            "too_large: {} bytes, at most {} are allowed",
            event.len(),
            event.len() - 1
        );
        assert_eq!(rejected.reason, expected);
        assert_eq!(rejected.bytes, &event.as_bytes()[..event.len() - 1]);
        let exact = Limits {
            event_bytes_max: event.len(),
            ..LIMITS
        };
        let read = at(form, &body, exact).unwrap();
        let is_too_large = |event: &Result<_, Rejected>| matches!(event, Err(rejected) if rejected.reason.starts_with("too_large"));
        assert!(!is_too_large(&read[0]), "{read:?}");
    }
    assert!(at(Form::CloudEvent, &event, short).unwrap()[0].is_err());

    let two = Limits {
        events_max: 2,
        ..LIMITS
    };
    for (form, body) in [
        (Form::JsonLines, "1\n\n2\n"),
        (Form::Json, "[1,2]"),
        (Form::CloudEvents, "[1,2]"),
        (Form::Protobuf, "\0\0"),
    ] {
        assert_eq!(at(form, body, two).unwrap().len(), 2);
        let one = Limits {
            events_max: 1,
            ..LIMITS
        };
        let error = at(form, body, one).unwrap_err();
        assert_eq!(error, Error::TooMany { events_max: 1 });
    }

    let bytes = Limits {
        body_bytes_max: 2,
        ..LIMITS
    };
    for form in FORMS {
        assert!(!matches!(
            at(form, "[]", bytes),
            Err(Error::TooLarge { .. })
        ));
        let error = at(form, "[] ", bytes).unwrap_err();
        assert_eq!(error, Error::TooLarge { bytes_max: 2 });
    }
}

/// Counts what is taken, up to a limit.
struct Counted {
    taken: usize,
    bytes_max: usize,
}

impl Room for Counted {
    fn take(&mut self, bytes: usize) -> bool {
        let is_there = self.taken + bytes <= self.bytes_max;
        self.taken += if is_there { bytes } else { 0 };
        is_there
    }

    fn give(&mut self, bytes: usize) {
        self.taken -= bytes;
    }
}

#[test]
fn small_events_are_counted_at_what_they_cost() {
    let limits = Limits {
        body_bytes_max: 1 << 20,
        events_max: 50_000,
        event_bytes_max: 1000,
    };
    let body = "{}\n".repeat(50_000);
    let mut room = Counted {
        taken: 0,
        bytes_max: usize::MAX,
    };
    let sender = Arc::from("sender");
    let read = messages_within(Form::JsonLines, body.as_bytes(), &sender, limits, &mut room);
    assert_eq!(read.unwrap().len(), 50_000);
    assert!(room.taken > 50_000 * 1000, "{} bytes", room.taken);
    let mut room = Counted {
        taken: 0,
        bytes_max: 1 << 20,
    };
    let read = messages_within(Form::JsonLines, body.as_bytes(), &sender, limits, &mut room);
    assert_eq!(read.unwrap_err(), Error::NoRoom);
    assert!(room.taken <= 1 << 20);
}
