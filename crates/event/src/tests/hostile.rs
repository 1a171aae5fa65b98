//! Bytes that nobody meant well with.

use proptest::prelude::*;

use super::random::Random;
use super::{META, SAMPLES, to_wire, with_body};
use crate::bounds::{
    CUSTOM_ENTRIES_MAX, ELEMENTS_MAX, ENTRIES_MAX, MESSAGE_BYTES_MAX, NESTING_MAX,
};
use crate::{Encoding, Reason, decode};

#[test]
fn every_truncation_is_refused() {
    for (_, _, body) in SAMPLES {
        let json = with_body(body);
        let wire = to_wire(&json);
        assert!(decode(json.as_bytes(), None).is_ok());
        for end in 0..json.len() {
            assert!(
                decode(&json.as_bytes()[..end], None).is_err(),
                "{}",
                &json[..end.min(60)]
            );
        }
        assert!(decode(&wire, None).is_ok());
        for end in 0..wire.len() {
            assert!(
                decode(&wire[..end], None).is_err(),
                "{} bytes of {body}",
                end
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_bring_nothing_down(bytes: Vec<u8>, first in prop::sample::select(b"\n{ \x12".to_vec())) {
        let _ = decode(&bytes, None);
        let bytes = [&[first], bytes.as_slice()].concat();
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let _ = decode(&bytes, Some(encoding.content_type().as_bytes()));
        }
    }

    #[test]
    fn spoilt_messages_bring_nothing_down(seed: u64) {
        let mut random = Random(seed);
        let json = with_body(SAMPLES[random.below(SAMPLES.len())].2);
        for mut bytes in [to_wire(&json), json.into_bytes()] {
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            if let Err(rejected) = decode(&bytes, None) {
                prop_assert!(rejected.detail.chars().count() <= 240);
            }
        }
    }
}

/// A field of the wire format with a length.
fn length_delimited(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(value);
    out
}

#[test]
fn bounds_hold_in_both_encodings() {
    let cases = |json: String, wire: Vec<u8>, within: bool| {
        for bytes in [json.into_bytes(), wire] {
            let too_large =
                decode(&bytes, None).is_err_and(|rejected| rejected.reason == Reason::TooLarge);
            assert_eq!(too_large, !within, "{} bytes", bytes.len());
        }
    };
    for count in [ELEMENTS_MAX, ELEMENTS_MAX + 1] {
        let json = format!(
            "{{\"plan\":{{\"skus\":[{}{{}}]}}}}",
            "{},".repeat(count - 1)
        );
        let wire = length_delimited(8, &length_delimited(9, &[]).repeat(count));
        cases(json, wire, count <= ELEMENTS_MAX);
    }
    for count in [ENTRIES_MAX, ENTRIES_MAX + 1] {
        let names: Vec<String> = (0..count).map(|at| format!("s{at}")).collect();
        let members: Vec<String> = names.iter().map(|name| format!("\"{name}\":1")).collect();
        let json = format!("{{\"supplier\":{{\"scores\":{{{}}}}}}}", members.join(","));
        let entries = names
            .iter()
            .map(|name| length_delimited(7, &length_delimited(1, name.as_bytes())));
        let wire = length_delimited(9, &entries.collect::<Vec<_>>().concat());
        cases(json, wire, count <= ENTRIES_MAX);
    }
    // Of a custom event fewer.
    for (field, map, value) in [
        (2, "entity", "\"a\""),
        (3, "numbers", "1"),
        (4, "texts", "\"\""),
    ] {
        for count in [CUSTOM_ENTRIES_MAX, CUSTOM_ENTRIES_MAX + 1] {
            let names: Vec<String> = (0..count).map(|at| format!("k{at}")).collect();
            let members: Vec<String> = names
                .iter()
                .map(|name| format!("\"{name}\":{value}"))
                .collect();
            let json = with_body(&format!(
                "\"custom\":{{\"name\":\"n\",\"{map}\":{{{}}}}}",
                members.join(",")
            ));
            let entries = names
                .iter()
                .map(|name| length_delimited(field, &length_delimited(1, name.as_bytes())));
            let entries = entries.collect::<Vec<_>>().concat();
            let body = [length_delimited(1, b"n"), entries].concat();
            let meta = to_wire(&format!("{{{META}}}"));
            let wire = [meta, length_delimited(11, &body)].concat();
            cases(json, wire, count <= CUSTOM_ENTRIES_MAX);
        }
    }
    // The top object counts as a level of JSON, as a list does.
    let depth = NESTING_MAX as usize;
    for (json_depth, wire_depth) in [(depth - 1, depth), (depth, depth + 1)] {
        let json = format!(
            "{{\"x\":{}{}}}",
            "[".repeat(json_depth),
            "]".repeat(json_depth)
        );
        let wire = [vec![0x7b; wire_depth], vec![0x7c; wire_depth]].concat();
        let wire = [length_delimited(1, &[]), wire].concat();
        cases(json, wire, wire_depth <= depth);
    }
}

#[test]
fn a_message_has_a_largest_size() {
    let sample = with_body(SAMPLES[8].2);
    let padded = |size: usize| format!("{sample}{}", " ".repeat(size - sample.len()));
    assert!(decode(padded(MESSAGE_BYTES_MAX).as_bytes(), None).is_ok());
    let rejected = decode(padded(MESSAGE_BYTES_MAX + 1).as_bytes(), None).unwrap_err();
    assert_eq!(rejected.reason, Reason::TooLarge);
}

#[test]
fn details_quote_little_of_the_input() {
    let long = "x".repeat(100_000);
    let bodies = [
        format!(r#""ops":{{"type":"{long}","component":"c"}}"#),
        format!(r#""ops":{{"type":"HEARTBEAT","component":"{long}"}}"#),
        format!(r#""ops":"{long}""#),
        format!(r#""ops":{{"type":"HEARTBEAT","component":"c","trained":"{long}"}}"#),
        format!(r#""plan":{{"currency_code":"{long}"}}"#),
        format!(r#""plan":{{"skus":"{long}"}}"#),
        format!(r#""supplier":{{"scores":{{"{long}":null}}}}"#),
        format!(r#""supplier":{{"scores":{{"{long}":1,"{long}":1}}}}"#),
        format!(r#""custom":{{"name":"{long}"}}"#),
        format!(
            r#""custom":{{"name":"n","numbers":{{"{}X":1}}}}"#,
            &long[..120]
        ),
        format!(r#""custom":{{"name":"n","entity":{{"a":"{long}"}}}}"#),
    ];
    for body in bodies {
        let rejected = decode(with_body(&body).as_bytes(), None).unwrap_err();
        assert!(rejected.detail.matches('x').count() <= 100, "{rejected}");
    }
    let rejected = decode(META.as_bytes(), Some(long.as_bytes())).unwrap_err();
    assert!(rejected.detail.len() < 200, "{rejected}");
}
