//! The body of a request as messages that are ready for the shop's topics.
//!
//! Owns what a body may be: its [`Packing`], its [`Form`], its [`Limits`], and the cutting of it
//! into events. A bad event rejects itself alone and the others go on; a body that cannot be cut
//! is an [`Error`], and then nothing of it is taken. It must never hold more than the limits
//! allow, whatever a sender claims, nor do any input or output of its own.

mod cloud;
mod elements;
mod error;
mod form;
mod lines;
mod members;
mod packing;
mod room;
mod spans;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use fenghuo_event::{Encoding, Reason};

use crate::message::{message, reject};
use crate::{Message, Origin, Rejected};

pub use error::{Error, UnsupportedError};
pub use form::Form;
pub use packing::{Packing, UNPACKED_FREE_BYTES, UNPACKED_RATIO_MAX, unpack};
pub use room::{Boundless, Room};

/// What UTF-8 text from some programs begins with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How much a body may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body, as it comes and unpacked alike.
    pub body_bytes_max: usize,
    /// Events in a body, the rejected ones among them.
    pub events_max: usize,
    /// Bytes of one event as it stands in the body; the decoder has a
    /// [limit](fenghuo_event::bounds::MESSAGE_BYTES_MAX) of its own.
    pub event_bytes_max: usize,
}

/// One event of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece<'a> {
    /// Its line, or its number, from 1.
    line: u64,
    bytes: &'a [u8],
}

/// The messages of an unpacked body, in its order; what gives no event is the inner error. The
/// origin of each names the sender, and the line or the number of the event from 1.
///
/// ```
/// use fenghuo_intake::body::{Form, Limits, messages};
/// let limits = Limits { body_bytes_max: 1 << 24, events_max: 10_000, event_bytes_max: 1 << 20 };
/// let body = br#"{"meta":{"event_id":"e1","source":"/shop/42","occurred_at":"2026-11-11T12:00:00Z"},"ops":{"type":"HEARTBEAT","component":"checkout"}}
/// no event
/// "#;
/// let messages = messages(Form::JsonLines, body, &"till-7".into(), limits)?;
/// assert_eq!(messages[0].as_ref().map(|message| message.key.as_str()), Ok("checkout"));
/// let rejected = messages[1].as_ref().unwrap_err();
/// assert_eq!(rejected.origin.to_string(), "till-7:2");
/// assert!(rejected.reason.starts_with("malformed: "));
/// # Ok::<(), fenghuo_intake::body::Error>(())
/// ```
///
/// # Errors
/// Where the body cannot be cut into events, or is beyond a limit; nothing of it is taken then.
pub fn messages(
    form: Form,
    body: &[u8],
    sender: &Arc<str>,
    limits: Limits,
) -> Result<Vec<Result<Message, Rejected>>, Error> {
    messages_within(form, body, sender, limits, &mut Boundless)
}

/// As [`messages`], and takes room for each event before it is read. What was taken is the caller's
/// to give back, once the messages are gone.
///
/// # Errors
/// As [`messages`]; [`Error::NoRoom`] where the room is used up.
pub fn messages_within(
    form: Form,
    body: &[u8],
    sender: &Arc<str>,
    limits: Limits,
    room: &mut dyn Room,
) -> Result<Vec<Result<Message, Rejected>>, Error> {
    if body.len() > limits.body_bytes_max {
        return Err(Error::TooLarge {
            bytes_max: limits.body_bytes_max,
        });
    }
    let batch = Batch { sender, limits };
    let json = |origin, bytes: &[u8]| message(origin, Encoding::Json, bytes);
    let protobuf = |origin, bytes: &[u8]| message(origin, Encoding::Protobuf, bytes);
    match form {
        Form::JsonLines => batch.read(lines::split(body).map(Ok), json, room),
        Form::Json if elements::is_array(body) => batch.read(elements::split(body), json, room),
        Form::Json => match elements::only_value(body) {
            Some(bytes) => batch.read(one(bytes), json, room),
            None => batch.read(lines::split(body).map(Ok), json, room),
        },
        Form::Protobuf => batch.read(spans::split(body, limits.event_bytes_max), protobuf, room),
        Form::CloudEvent => batch.read(one(text(body)), cloud::message, room),
        Form::CloudEvents => batch.read(elements::split(body), cloud::message, room),
    }
}

/// A body that is one event as a whole.
fn one(bytes: &[u8]) -> impl Iterator<Item = Result<Piece<'_>, Error>> {
    std::iter::once(Ok(Piece { line: 1, bytes }))
}

/// The body without the mark that it may begin with.
fn text(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// What all events of a body have in common.
struct Batch<'b> {
    sender: &'b Arc<str>,
    limits: Limits,
}

impl Batch<'_> {
    fn read<'a>(
        &self,
        pieces: impl Iterator<Item = Result<Piece<'a>, Error>>,
        message: impl Fn(Origin, &[u8]) -> Result<Message, Rejected>,
        room: &mut dyn Room,
    ) -> Result<Vec<Result<Message, Rejected>>, Error> {
        let mut messages = Vec::new();
        for piece in pieces {
            let Piece { line, bytes } = piece?;
            if messages.len() == self.limits.events_max {
                return Err(Error::TooMany {
                    events_max: self.limits.events_max,
                });
            }
            room::for_event(room, bytes.len().min(self.limits.event_bytes_max))?;
            let file = Arc::clone(self.sender);
            let origin = Origin { file, line };
            messages.push(match bytes.len() > self.limits.event_bytes_max {
                true => Err(self.too_large(origin, bytes)),
                false => message(origin, bytes),
            });
        }
        Ok(messages)
    }

    #[cold]
    fn too_large(&self, origin: Origin, bytes: &[u8]) -> Rejected {
        let bytes_max = self.limits.event_bytes_max;
        let why = refused(
            Reason::TooLarge,
            format!("{} bytes, at most {bytes_max} are allowed", bytes.len()),
        );
        reject(origin, &why, bytes[..bytes_max].to_vec())
    }
}

/// Why something is no event, in the decoder's words.
#[cold]
fn refused(reason: Reason, detail: String) -> fenghuo_event::Rejected {
    fenghuo_event::Rejected { reason, detail }
}
