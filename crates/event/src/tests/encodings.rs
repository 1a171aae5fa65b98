//! The two encodings say the same.

use std::borrow::Cow;

use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DynamicMessage, SerializeOptions};

use super::random::{self, Random};
use super::{EVENT, SAMPLES, read_sorted, to_wire, with_body};
use crate::{Body, Encoding, Stream, Timestamp, decode, pb, peek, to_json, to_protobuf};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_message_reads_the_same_in_both(seed: u64) {
        let mut random = Random(seed);
        let message = random::message(&EVENT, &mut random);
        let wire = message.encode_to_vec();
        let from_wire = read_sorted(&wire, Encoding::Protobuf).unwrap();

        // Names of both kinds, numbers of both kinds, what is not given left out or spelt out.
        let options = SerializeOptions::new()
            .use_proto_field_name(random.below(2) == 0)
            .stringify_64_bit_integers(random.below(2) == 0)
            .skip_default_fields(random.below(2) == 0);
        let mut foreign = serde_json::Serializer::new(Vec::new());
        message.serialize_with_options(&mut foreign, &options).unwrap();
        let foreign = foreign.into_inner();
        let from_foreign = read_sorted(&foreign, Encoding::Json).unwrap();
        prop_assert_eq!(&from_foreign, &from_wire);

        // prost's own reading, written by us, read by us and by prost-reflect.
        let owned = pb::Event::decode(wire.as_slice()).unwrap();
        let rewritten = to_protobuf(&owned);
        prop_assert_eq!(&read_sorted(&rewritten, Encoding::Protobuf).unwrap(), &from_wire);
        let own = to_json(&owned);
        prop_assert_eq!(&read_sorted(own.as_bytes(), Encoding::Json).unwrap(), &from_wire);
        let mut parser = serde_json::Deserializer::from_str(&own);
        let reread = DynamicMessage::deserialize(EVENT.clone(), &mut parser).unwrap();
        prop_assert_eq!(pb::Event::decode(reread.encode_to_vec().as_slice()).unwrap(), owned);
    }
}

#[test]
fn samples_of_all_streams_are_events() {
    for (at, (topic, key, body)) in SAMPLES.iter().enumerate() {
        let json = with_body(body);
        let wire = to_wire(&json);
        let event = decode(json.as_bytes(), None).unwrap();
        // prost-reflect writes maps in another order, which both readers keep.
        if *topic != "custom" {
            assert_eq!(decode(&wire, None).unwrap(), event);
        }
        let sorted = |bytes, encoding| read_sorted(bytes, encoding).unwrap();
        assert_eq!(
            sorted(&wire, Encoding::Protobuf),
            sorted(json.as_bytes(), Encoding::Json)
        );
        assert_eq!((event.stream().topic(), &*event.key()), (*topic, *key));
        assert_eq!(decode(&wire, None).unwrap().key(), *key);
        assert_eq!(event.stream(), Stream::ALL[at]);
        assert_eq!(Stream::from_topic(topic), Some(event.stream()));
        let owned = pb::Event::decode(wire.as_slice()).unwrap().body.unwrap();
        assert_eq!((owned.stream(), &*owned.key()), (event.stream(), *key));
    }
}

#[test]
fn strings_are_borrowed_unless_escaped() {
    let json = with_body(r#""ops":{"type":"HEARTBEAT","component":"check\u006fut","site":"hz"}"#);
    let event = decode(json.as_bytes(), None).unwrap();
    let Body::Ops(ops) = &event.body else {
        panic!("an ops event");
    };
    assert!(matches!(event.meta.source, Cow::Borrowed("/shop/42")));
    assert!(matches!(ops.site, Cow::Borrowed("hz")));
    assert_eq!(ops.component, "checkout");
    let wire = to_wire(&json);
    let event = decode(&wire, None).unwrap();
    assert!(matches!(event.meta.source, Cow::Borrowed("/shop/42")));
}

#[test]
fn json_takes_every_form_that_proto3_allows() {
    let plain = with_body(
        r#""order":{"type":"PAID","order_id":"o1","lines":[{"sku_id":"s1","quantity":3}],"placed_at":"2026-11-11T11:00:00Z"}"#,
    );
    let forms = [
        r#""order":{"type":2,"orderId":"o1","lines":[{"skuId":"s1","quantity":"3"}],"placedAt":"2026-11-11T19:00:00+08:00"}"#,
        r#""order":{"type":"PAID","order_id":"o1","lines":[{"sku_id":"s1","quantity":3.0}],"placed_at":"2026-11-11T11:00:00.0009Z"}"#,
        r#""order":{"type":"PAID","order_id":"o1","lines":[{"sku_id":"s1","quantity":3,"unit_price":null}],"total":null,
            "placed_at":"2026-11-11T11:00:00Z","promotion_ids":null,"channel":null,"surprise":{"deep":[1,-2,0.5,"x",null,true,{}]}},"courier":null"#,
        r#""courier":null,"order":{"lines":[{"quantity":3,"sku_id":"s1"}],"order_id":"o1","type":"PAID","placed_at":"2026-11-11T11:00:00Z"}"#,
    ];
    let expected = decode(plain.as_bytes(), None).unwrap();
    for form in forms {
        let json = with_body(form);
        assert_eq!(decode(json.as_bytes(), None).unwrap(), expected, "{form}");
    }
}

#[test]
fn wire_takes_what_other_writers_may_do() {
    let plain = to_wire(&with_body(SAMPLES[6].2));
    let expected = decode(&plain, None).unwrap();
    // Unknown fields of every layout, a group with a group inside among them.
    let unknown: &[&[u8]] = &[
        &[0xf8, 0x06, 0xff, 0x01],
        &[0xf9, 0x06, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xfa, 0x06, 0x02, 0xff, 0xff],
        &[0xfb, 0x06, 0x0b, 0x10, 0x01, 0x0c, 0xfc, 0x06],
        &[0xfd, 0x06, 0, 0, 0, 0],
    ];
    for extra in unknown {
        assert_eq!(decode(&[&plain, *extra].concat(), None).unwrap(), expected);
    }
    // flash_offsets_s one by one instead of packed.
    let packed = [0x32, 0x03, 0x00, 0xc0, 0x70];
    let single = [0x30, 0x00, 0x30, 0xc0, 0x70];
    let at = plain
        .windows(packed.len())
        .position(|window| window == packed);
    let mut unpacked = plain.clone();
    unpacked[at.unwrap()..][..single.len()].copy_from_slice(&single);
    assert_eq!(decode(&unpacked, None).unwrap(), expected);
}

/// An entry that is written twice: the wire format lets the last one hold, JSON has no such word.
#[test]
fn of_a_key_that_comes_twice_the_last_one_holds_in_protobuf_alone() {
    let custom = |celsius: f64| pb::Custom {
        name: "oven".to_owned(),
        numbers: [("celsius".to_owned(), celsius)].into(),
        ..Default::default()
    };
    let mut wire = to_wire(&with_body(SAMPLES[9].2));
    wire.truncate(2 + usize::from(wire[1]));
    let body = [custom(1.0).encode_to_vec(), custom(2.0).encode_to_vec()].concat();
    wire.extend([11 << 3 | 2, body.len() as u8]);
    wire.extend(body);
    let event = decode(&wire, None).unwrap();
    let Body::Custom(found) = &event.body else {
        panic!("a custom event");
    };
    assert_eq!(found.numbers, [(Cow::Borrowed("celsius"), 2.0)]);
    let json = with_body(r#""custom":{"name":"oven","numbers":{"celsius":1,"celsius":2}}"#);
    let rejected = decode(json.as_bytes(), None).unwrap_err();
    assert!(
        rejected.detail.contains(r#""celsius" given twice"#),
        "{rejected}"
    );
}

/// Protobuf would merge the two halves into a time that neither says. JSON refuses them too.
#[test]
fn a_time_given_twice_is_refused() {
    let wire = to_wire(&with_body(SAMPLES[6].2));
    // Into the meta, which comes first and is no longer than its length byte tells.
    let twice = [0x1a, 0x02, 0x08, 0x01];
    let meta_end = 2 + usize::from(wire[1]);
    let mut spoilt = wire.clone();
    spoilt.splice(meta_end..meta_end, twice);
    spoilt[1] += twice.len() as u8;
    let rejected = decode(&spoilt, None).unwrap_err();
    assert!(
        rejected.detail.starts_with("meta.occurred_at: given twice"),
        "{rejected}"
    );
}

#[test]
fn encoding_is_told_by_header_or_first_bytes() {
    let json = with_body(SAMPLES[8].2);
    let wire = to_wire(&json);
    let expected = decode(&wire, Some(b"application/protobuf")).unwrap();
    for header in [
        "application/x-protobuf",
        "Application/Protobuf; proto=fenghuo.v1.Event",
    ] {
        assert_eq!(decode(&wire, Some(header.as_bytes())).unwrap(), expected);
    }
    for header in ["application/json", " application/JSON ;charset=utf-8"] {
        assert_eq!(
            decode(json.as_bytes(), Some(header.as_bytes())).unwrap(),
            expected
        );
    }
    for space in ["", " ", "\t", "\r\n", "\n", "\n\n \t\r"] {
        let spaced = format!("{space}{json}\n");
        assert_eq!(
            decode(spaced.as_bytes(), None).unwrap(),
            expected,
            "{space:?}"
        );
    }
    // A wrong header is believed, and the message refused.
    assert!(decode(&wire, Some(b"application/json")).is_err());
    assert!(decode(json.as_bytes(), Some(b"application/protobuf")).is_err());
}

/// A meta of 123 bytes makes the message begin like JSON after a line feed; so does one of 9, 10,
/// 13 or 32 bytes whose event_id has such a length too and begins with a brace.
#[test]
fn a_meta_as_long_as_a_brace_is_no_json() {
    let event = |event_id: &str, source: &str| pb::Event {
        meta: Some(pb::Meta {
            event_id: event_id.to_owned(),
            source: source.to_owned(),
            occurred_at: Some(Timestamp(1_794_398_400_000).into()),
            ..Default::default()
        }),
        body: Some(pb::event::Body::Ops(pb::Ops {
            r#type: pb::ops::Type::Heartbeat as i32,
            component: "checkout".to_owned(),
            ..Default::default()
        })),
    };
    let occurred_at_bytes = 8;
    // 34 is a quotation mark: the event_id's length looks like the opening of a name.
    for id_bytes in [1, 10, 32, 34, 36] {
        let source_bytes = usize::from(b'{') - occurred_at_bytes - (2 + id_bytes) - 2;
        let wire = to_protobuf(&event(&"e".repeat(id_bytes), &"s".repeat(source_bytes)));
        assert_eq!(wire[..2], *b"\n{");
        assert_eq!(decode(&wire, None).unwrap().key(), "checkout");
    }
    let wire = to_protobuf(&event("{ \"meta\":", "/shop/42abc"));
    assert_eq!(wire[..5], [b'\n', b' ', b'\n', b'\t', b'{']);
    assert_eq!(decode(&wire, None).unwrap().key(), "checkout");
}

#[test]
fn peek_routes_what_decode_refuses() {
    let unpaid = r#"{"meta":{"recordedAt":"2026-11-11T12:00:00Z"},"order":{"orderId":"o1"}}"#;
    assert!(decode(unpaid.as_bytes(), None).is_err());
    let peeked = peek(unpaid.as_bytes(), None).unwrap();
    assert_eq!(peeked.stream, Some(Stream::Orders));
    assert_eq!(peeked.key.as_deref(), Some("o1"));
    assert_eq!(peeked.recorded_at, Some(Timestamp(1_794_398_400_000)));
    assert_eq!(peeked.occurred_at, None);
    assert_eq!(peek(b"{", None), None);
}

#[test]
fn json_is_written_so_that_doubles_keep_it() {
    let seq = |source_seq| {
        let meta = Some(pb::Meta {
            source_seq,
            event_id: "a\"\\\n\u{1}é".to_owned(),
            occurred_at: Some(Timestamp(1_794_398_400_250).into()),
            ..Default::default()
        });
        to_json(&pb::Event { meta, body: None })
    };
    let head = r#"{"meta":{"event_id":"a\"\\\n\u0001é","occurred_at":"2026-11-11T12:00:00.25Z","#;
    let safe = 1_u64 << 53;
    assert_eq!(seq(safe), format!("{head}\"source_seq\":{safe}}}}}"));
    assert_eq!(
        seq(safe + 1),
        format!("{head}\"source_seq\":\"{}\"}}}}", safe + 1)
    );
}
