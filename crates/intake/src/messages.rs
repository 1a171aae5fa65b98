//! A file, whatever its form, as messages that are ready for the shop's topics.
//!
//! Owns the step from lines and rows to messages. It must never change what a JSON line says: the
//! bytes go on as they stood.

use std::path::PathBuf;

use fenghuo_event::Encoding;
use fenghuo_event::bounds::MESSAGE_BYTES_MAX;

use crate::message::message;
use crate::{CsvOrders, Error, Item, Line, Lines, Mapping, Message, Rejected};

/// A file to read.
#[derive(Clone, Debug)]
pub enum Input {
    /// JSON lines, plain or gzip.
    JsonLines(PathBuf),
    /// A CSV of order lines, plain or gzip.
    CsvOrders(PathBuf, Box<Mapping>),
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
                    Item::Event { event, origin } => message(
                        origin,
                        Encoding::Protobuf,
                        fenghuo_event::to_protobuf(&event),
                    ),
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
            row: None,
        })
    } else {
        message(origin, Encoding::Json, bytes)
    }))
}
