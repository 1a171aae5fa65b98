//! Properties of both decoders: what is refused is refused shortly and countably; what is taken
//! is within every bound, means the same to an independent implementation, and survives being
//! written in either encoding.

use fenghuo_event::bounds::MESSAGE_BYTES_MAX;
use fenghuo_event::{
    Body, Encoding, Event, Reason, Rejected, decode, pb, peek, to_json, to_protobuf,
};
use prost::Message as _;

use crate::oracle;

/// The most that a rejection says: a line for a person.
const DETAIL_CHARS_MAX: usize = 240;

pub(crate) fn check_json(input: &[u8]) {
    let Some(event) = decoded(input, Encoding::Json) else {
        return;
    };
    // Nothing that is JSON may be taken for protobuf.
    assert_eq!(Encoding::guess(input), Encoding::Json);
    if let Some(message) = oracle::read_json(input) {
        check_same(event, &message);
    }
}

pub(crate) fn check_protobuf(input: &[u8]) {
    let Some(event) = decoded(input, Encoding::Protobuf) else {
        return;
    };
    if input.first() == Some(&0x0a) {
        assert_eq!(Encoding::guess(input), Encoding::Protobuf);
    }
    let message = match pb::Event::decode(input) {
        Ok(message) => message,
        Err(error) => panic!("prost refuses what we take: {error}"),
    };
    check_same(event, &message);
}

/// What we read; a rejection is looked at here.
fn decoded(input: &[u8], encoding: Encoding) -> Option<Event<'_>> {
    let content_type = Some(encoding.content_type().as_bytes());
    // Either way it must come to an end, and to the same one.
    let guessed = decode(input, None);
    if Encoding::guess(input) != encoding
        && let Err(rejected) = &guessed
    {
        check_rejected(rejected, input);
    }
    let peeked = peek(input, content_type);
    match decode(input, content_type) {
        Ok(event) => {
            let peeked = peeked.expect("what can be decoded can be peeked at");
            assert_eq!(peeked.stream, Some(event.stream()));
            assert_eq!(peeked.key.unwrap_or_default(), &*event.key());
            assert_eq!(peeked.occurred_at, event.meta.occurred_at);
            Some(event)
        }
        Err(rejected) => {
            check_rejected(&rejected, input);
            None
        }
    }
}

fn check_rejected(rejected: &Rejected, input: &[u8]) {
    let detail = &rejected.detail;
    assert!(!detail.is_empty());
    assert!(detail.chars().count() <= DETAIL_CHARS_MAX, "{detail}");
    assert!(!detail.contains(char::is_control), "{detail:?}");
    assert_ne!(rejected.reason, Reason::UnsupportedEncoding);
    if input.len() > MESSAGE_BYTES_MAX {
        assert_eq!(rejected.reason, Reason::TooLarge);
    }
}

/// `event` is what `message` says, and both ways of writing it say it again.
fn check_same(event: Event<'_>, message: &pb::Event) {
    oracle::check_bounds(message);
    let event = sorted(event);
    let wire = to_protobuf(message);
    let json = to_json(message);
    for (bytes, encoding) in [
        (wire.as_slice(), Encoding::Protobuf),
        (json.as_bytes(), Encoding::Json),
    ] {
        // One encoding may be longer than the other.
        if bytes.len() <= MESSAGE_BYTES_MAX {
            match decode(bytes, Some(encoding.content_type().as_bytes())) {
                Ok(again) => assert_eq!(sorted(again), event),
                Err(rejected) => panic!("rewritten as {encoding:?}: {rejected}"),
            }
        }
    }
}

/// With maps in key order, since they have none of their own.
fn sorted(mut event: Event<'_>) -> Event<'_> {
    match &mut event.body {
        Body::Supplier(supplier) => supplier.scores.sort_by(|a, b| a.0.cmp(&b.0)),
        Body::Custom(custom) => {
            custom.entity.sort_by(|a, b| a.0.cmp(&b.0));
            custom.numbers.sort_by(|a, b| a.0.cmp(&b.0));
            custom.texts.sort_by(|a, b| a.0.cmp(&b.0));
        }
        _ => {}
    }
    event
}
