//! Bytes to [`Event`], or [`Rejected`]: which encoding it is, reading it, checking it. It keeps
//! nothing between messages and copies nothing but what JSON escapes force it to.

use std::borrow::Cow;

use crate::bounds::MESSAGE_BYTES_MAX;
use crate::check::Check;
use crate::field::Field;
use crate::json::read::Trail;
use crate::rejected::{Reason, Rejected, quote};
use crate::stream::Stream;
use crate::time::Timestamp;
use crate::views::{self, Body, Meta};
use crate::wire::{self, Reader};

/// A checked event, in the sender's bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// Where and when.
    pub meta: Meta<'a>,
    /// What happened.
    pub body: Body<'a>,
}

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// proto3 JSON, one object.
    Json,
    /// The protobuf wire format.
    Protobuf,
}

impl Encoding {
    /// The media type for a `content-type` header.
    pub const fn content_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Protobuf => "application/protobuf",
        }
    }

    /// What a `content-type` header names; its parameters are not looked at.
    pub fn from_content_type(header: &[u8]) -> Option<Self> {
        let media_type = header.split(|byte| *byte == b';').next()?.trim_ascii();
        let is = |name: &str| media_type.eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("application/json") => Some(Encoding::Json),
            () if is("application/protobuf") || is("application/x-protobuf") => {
                Some(Encoding::Protobuf)
            }
            () => None,
        }
    }

    /// What `bytes` are written in, by how they begin.
    ///
    /// A protobuf event begins with the tag of a field, as a rule of `meta`: 0x0a. That is a line
    /// feed too, so JSON after a blank line can look like a meta of 123 (`{`) bytes. Only then is
    /// there a doubt, and the byte 0x12 settles it: it is the tag of `meta.source`, without which
    /// no protobuf event is accepted, and JSON may hold it nowhere. Space, tab and carriage return
    /// would be tags of layouts that the first fields do not have.
    pub fn guess(bytes: &[u8]) -> Self {
        const SOURCE_TAG: u8 = 0x12;
        match bytes.first() {
            Some(b'{' | b' ' | b'\t' | b'\r') => Encoding::Json,
            Some(b'\n') => {
                let opens = bytes.trim_ascii_start().first() == Some(&b'{');
                match opens && !bytes.contains(&SOURCE_TAG) {
                    true => Encoding::Json,
                    false => Encoding::Protobuf,
                }
            }
            _ => Encoding::Protobuf,
        }
    }
}

/// Reads and checks one message. Without a content type the [first bytes](Encoding::guess) tell
/// the encoding.
///
/// ```
/// let line = br#"{"meta":{"event_id":"e1","source":"/shop/42","occurred_at":"2026-11-11T12:00:00Z"},
///     "order":{"type":"PAID","orderId":"o1","lines":[{"sku_id":"s1","quantity":"2"}]}}"#;
/// let event = fenghuo_event::decode(line, Some(b"application/json"))?;
/// assert_eq!((event.stream().topic(), &*event.key()), ("orders", "o1"));
/// # Ok::<(), fenghuo_event::Rejected>(())
/// ```
///
/// # Errors
/// [`Rejected`] where the bytes are no event; the reason's classes are few and can be counted.
pub fn decode<'a>(bytes: &'a [u8], content_type: Option<&[u8]>) -> Result<Event<'a>, Rejected> {
    let mut event = views::Event::default();
    read(&mut event, bytes, encoding(bytes, content_type)?)?;
    event.check()?;
    // Matched in one place, so that the body is moved once.
    match event {
        views::Event {
            meta: Some(meta),
            body: Some(body),
        } => Ok(Event { meta, body }),
        views::Event { meta: None, .. } => Err(missing("meta: expected an object")),
        views::Event { body: None, .. } => Err(missing(
            "expected a body: order, inventory, courier, feedback, visit, catalog, plan, supplier, \
             ops or custom",
        )),
    }
}

#[cold]
fn missing(what: &str) -> Rejected {
    Rejected::new(Reason::MissingField, what)
}

/// Where an event belongs, as far as it can be told; it need not be a valid one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// The stream, where there is a body.
    pub stream: Option<Stream>,
    /// The record's key, where there is one.
    pub key: Option<String>,
    /// When the source learnt of it.
    pub recorded_at: Option<Timestamp>,
    /// When it happened.
    pub occurred_at: Option<Timestamp>,
}

/// Reads one message without checking it, to route a line that someone else will judge. `None`
/// where it cannot be read at all.
pub fn peek(bytes: &[u8], content_type: Option<&[u8]>) -> Option<Peek> {
    let mut event = views::Event::default();
    read(&mut event, bytes, encoding(bytes, content_type).ok()?).ok()?;
    let key = event.body.as_ref().map(Body::key);
    let meta = event.meta.as_ref();
    Some(Peek {
        stream: event.body.as_ref().map(Body::stream),
        key: key.filter(|key| !key.is_empty()).map(Cow::into_owned),
        recorded_at: meta.and_then(|meta| meta.recorded_at),
        occurred_at: meta.and_then(|meta| meta.occurred_at),
    })
}

/// Reads a message's structure into `event`; what it says is not looked at.
pub(crate) fn read<'a>(
    event: &mut views::Event<'a>,
    bytes: &'a [u8],
    encoding: Encoding,
) -> Result<(), Rejected> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        let detail = format!(
            "{} bytes, at most {MESSAGE_BYTES_MAX} are allowed",
            bytes.len()
        );
        return Err(Rejected::new(Reason::TooLarge, &detail));
    }
    if bytes.is_empty() {
        return Err(Rejected::new(Reason::Malformed, "an empty message"));
    }
    match encoding {
        Encoding::Protobuf => Ok(wire::fields(event, &mut Reader::new(bytes))?),
        Encoding::Json => read_json(event, bytes),
    }
}

fn read_json<'a>(event: &mut views::Event<'a>, bytes: &'a [u8]) -> Result<(), Rejected> {
    // Once over the whole is a fifth cheaper in all than once a string, and no member, not even
    // an unknown one, may be something else.
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let detail = format!("not UTF-8 at byte {}", error.valid_up_to());
        Rejected::new(Reason::Malformed, &detail)
    })?;
    let trail = Trail::default();
    let mut json = serde_json::Deserializer::from_str(text);
    event
        .merge_json(&mut json, &trail)
        .and_then(|_| json.end())
        .map_err(|error| trail.reject(&error))
}

fn encoding(bytes: &[u8], content_type: Option<&[u8]>) -> Result<Encoding, Rejected> {
    let Some(header) = content_type else {
        return Ok(Encoding::guess(bytes));
    };
    Encoding::from_content_type(header).ok_or_else(|| {
        let got = quote(&String::from_utf8_lossy(header));
        let detail =
            format!("expected content-type application/json or application/protobuf, got {got}");
        Rejected::new(Reason::UnsupportedEncoding, &detail)
    })
}
