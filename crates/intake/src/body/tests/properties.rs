//! Properties that hold of any bytes in any form.

use proptest::prelude::*;

use super::*;
use crate::body::{Piece, elements, lines, spans};

/// Bytes that look like bodies now and then: pieces of events, marks, lengths, and anything.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(event("a").into_bytes()),
        Just(order("o1").into_bytes()),
        Just(super::cloud::envelope("").into_bytes()),
        Just(span(&protobuf("a"))),
        prop::sample::select(vec![
            "\n",
            "\r\n",
            ",",
            "[",
            "]",
            "{",
            "}",
            "\"",
            "\\",
            ":",
            " ",
            "\u{feff}",
            "null",
            "\0",
            "\"data\":",
            "\"meta\":",
            "\"id\"",
            "\u{80}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..8),
    ];
    let pieces = proptest::collection::vec(piece, 0..8);
    (pieces, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(pieces, cut, is_cut)| {
        let mut body = pieces.concat();
        if is_cut {
            body.truncate(cut.index(body.len() + 1));
        }
        body
    })
}

/// A message or a rejection for each event, in the events' order.
fn check_batch(form: Form, body: &[u8], pieces: Vec<Result<Piece<'_>, Error>>) {
    let pieces: Result<Vec<_>, _> = pieces.into_iter().collect();
    let (pieces, batch) = match (pieces, read(form, body, LIMITS)) {
        (Ok(pieces), Ok(batch)) => (pieces, batch),
        (Err(expected), Err(error)) => return assert_eq!(error, expected),
        other => panic!("{other:?}"),
    };
    assert_eq!(batch.len(), pieces.len());
    for (event, piece) in batch.iter().zip(pieces) {
        let (origin, bytes) = match event {
            Ok(message) => (&message.origin, &message.value),
            Err(rejected) => (&rejected.origin, &rejected.bytes),
        };
        assert_eq!(origin.line, piece.line);
        assert_eq!(bytes, piece.bytes);
    }
}

/// What every rejection and every error is held to: a word that can be counted, and a line for a
/// person.
fn check_words(form: Form, body: &[u8]) {
    match read(form, body, LIMITS) {
        Ok(batch) => {
            for rejected in batch.iter().filter_map(|event| event.as_ref().err()) {
                let (word, detail) = rejected.reason.split_once(": ").unwrap();
                let known = fenghuo_event::Reason::ALL.map(|reason| reason.as_str());
                assert!(known.contains(&word), "{}", rejected.reason);
                assert!(
                    !detail.is_empty() && !detail.contains(char::is_control),
                    "{detail:?}"
                );
                assert!(detail.chars().count() <= 480, "{detail}");
            }
        }
        Err(error) => assert!(error.to_string().chars().count() <= 240, "{error}"),
    }
}

proptest! {
    #[test]
    fn no_bytes_bring_it_down(body in body(), any: Vec<u8>) {
        for form in FORMS {
            check_words(form, &body);
            check_words(form, &any);
        }
    }

    #[test]
    fn every_event_is_a_message_or_rejected_once_and_in_order(body in body()) {
        check_batch(Form::JsonLines, &body, lines::split(&body).map(Ok).collect());
        check_batch(Form::Protobuf, &body, spans::split(&body, LIMITS.event_bytes_max).collect());
        let array = [&b"["[..], &body, b"]"].concat();
        check_batch(Form::Json, &array, elements::split(&array).collect());
    }

    #[test]
    fn lines_joined_are_the_body(parts in proptest::collection::vec(
        prop_oneof![Just(Vec::new()), proptest::collection::vec(any::<u8>(), 0..9), Just(event("a").into_bytes())], 0..9
    ), ends in proptest::collection::vec(any::<bool>(), 9)) {
        let parts: Vec<Vec<u8>> = parts
            .into_iter()
            .map(|part| part.into_iter().filter(|byte| !b"\r\n\xef".contains(byte)).collect())
            .collect();
        let body: Vec<u8> = parts.iter().zip(ends).flat_map(|(part, is_crlf)| {
            let end: &[u8] = if is_crlf { b"\r\n" } else { b"\n" };
            [part, end].concat()
        }).collect();
        let expected: Vec<Piece<'_>> = (1..)
            .zip(&parts)
            .filter(|(_, bytes)| !bytes.trim_ascii().is_empty())
            .map(|(line, bytes)| Piece { line, bytes })
            .collect();
        prop_assert_eq!(lines::split(&body).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn spans_joined_are_the_body(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..9)) {
        let body: Vec<u8> = parts.iter().flat_map(|part| span(part)).collect();
        let got: Result<Vec<Piece<'_>>, Error> = spans::split(&body, 300).collect();
        let got: Vec<&[u8]> = got.unwrap().iter().map(|piece| piece.bytes).collect();
        prop_assert_eq!(got, parts);
    }

    /// Any bytes: what was read joins to the bytes before the fault, whose place is the first one
    /// that was not read.
    #[test]
    fn spans_and_the_fault_are_the_body(body: Vec<u8>) {
        let mut at = 0;
        for piece in spans::split(&body, 50) {
            match piece {
                Ok(piece) => {
                    let end = piece.bytes.as_ptr_range().end as usize - body.as_ptr() as usize;
                    prop_assert!(end - at > piece.bytes.len() && end - at <= piece.bytes.len() + 10);
                    at = end;
                }
                Err(Error::CannotSplit { byte, .. }) => {
                    prop_assert_eq!(byte, at as u64);
                    return Ok(());
                }
                Err(other) => panic!("{other}"),
            }
        }
        prop_assert_eq!(at, body.len());
    }
}
