//! A file, whatever its form, as messages that are ready for the shop's topics.
//!
//! Owns the step from lines and rows to stream, key and bytes. It decodes each message once, so
//! that what can go to no topic comes out as [`Rejected`] with its file and line. It must never
//! change what a JSON line says: the bytes go on as they stood.

use std::path::PathBuf;

use fenghuo_event::Stream;
use fenghuo_event::bounds::MESSAGE_BYTES_MAX;

use crate::{CsvOrders, Error, Item, Line, Lines, Mapping, Origin, Rejected, Timed};

/// What a JSON message is called in a `content-type` header.
const JSON: &str = "application/json";

/// What a protobuf message is called in a `content-type` header.
pub(crate) const PROTOBUF: &str = "application/protobuf";

/// A file to read.
#[derive(Clone, Debug)]
pub enum Input {
    /// JSON lines, plain or gzip.
    JsonLines(PathBuf),
    /// A CSV of order lines, plain or gzip.
    CsvOrders(PathBuf, Box<Mapping>),
}

/// An event, encoded, with what is needed to append it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it stood.
    pub origin: Origin,
    /// The stream, which names the topic.
    pub stream: Stream,
    /// The record's key.
    pub key: String,
    /// When its source learnt of it, else when it happened, Unix ms.
    pub at_ms: i64,
    /// The `content-type` of the value.
    pub content_type: &'static str,
    /// The event.
    pub value: Vec<u8>,
}

impl Timed for Result<Message, Rejected> {
    fn at_ms(&self) -> Option<i64> {
        self.as_ref().ok().map(|message| message.at_ms)
    }
}

/// The messages of one file, in its order; what gives no event is the inner error.
pub struct Messages {
    form: Form,
}

enum Form {
    JsonLines(Lines),
    CsvOrders(Box<CsvOrders>),
}

impl Messages {
    /// Opens a file.
    pub fn open(input: Input) -> Result<Self, Error> {
        let form = match input {
            Input::JsonLines(path) => Form::JsonLines(Lines::open(&path, MESSAGE_BYTES_MAX)?),
            Input::CsvOrders(path, mapping) => {
                Form::CsvOrders(Box::new(CsvOrders::open(&path, *mapping)?))
            }
        };
        Ok(Self { form })
    }

    /// CSV rows passed over so far because the mapping says that they are no orders.
    pub fn skipped(&self) -> u64 {
        match &self.form {
            Form::JsonLines(_) => 0,
            Form::CsvOrders(orders) => orders.skipped(),
        }
    }
}

impl Iterator for Messages {
    type Item = Result<Result<Message, Rejected>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.form {
            Form::JsonLines(lines) => next_line(lines),
            Form::CsvOrders(orders) => orders.next().map(|item| {
                item.map(|item| match item {
                    Item::Event { event, origin } => {
                        message(origin, PROTOBUF, fenghuo_event::to_protobuf(&event))
                    }
                    Item::Rejected(rejected) => Err(rejected),
                })
            }),
        }
    }
}

fn next_line(lines: &mut Lines) -> Option<Result<Result<Message, Rejected>, Error>> {
    let (too_long, bytes) = match lines.next_line() {
        Ok(Some(Line::Whole(bytes))) => (false, bytes.to_vec()),
        Ok(Some(Line::TooLong(bytes))) => (true, bytes.to_vec()),
        Ok(None) => return None,
        Err(error) => return Some(Err(error)),
    };
    let origin = lines.origin().clone();
    Some(Ok(if too_long {
        let reason = format!("too_large: the line is longer than {MESSAGE_BYTES_MAX} bytes");
        Err(Rejected {
            origin,
            reason,
            bytes,
        })
    } else {
        message(origin, JSON, bytes)
    }))
}

pub(crate) fn message(
    origin: Origin,
    content_type: &'static str,
    value: Vec<u8>,
) -> Result<Message, Rejected> {
    let (stream, key, at_ms) = match fenghuo_event::decode(&value, Some(content_type.as_bytes())) {
        Ok(event) => {
            let at = event.meta.recorded_at.or(event.meta.occurred_at);
            (
                event.stream(),
                event.key().to_owned(),
                at.map_or(0, |at| at.0),
            )
        }
        Err(rejected) => {
            let reason = format!("{}: {}", rejected.reason.as_str(), rejected.detail);
            return Err(Rejected {
                origin,
                reason,
                bytes: value,
            });
        }
    };
    Ok(Message {
        origin,
        stream,
        key,
        at_ms,
        content_type,
        value,
    })
}
