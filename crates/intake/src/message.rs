//! An event on its way to the shop's topics: the bytes, and what is needed to append them.
//!
//! Each message is decoded once here, so that what can go to no topic comes out as [`Rejected`]
//! with where it stood. It must never change the bytes.

use compact_str::CompactString;
use fenghuo_event::{Encoding, Event, Stream};
use smallvec::SmallVec;

use crate::{Origin, Rejected, Timed};

/// An event, encoded, with what is needed to append it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it stood.
    pub origin: Origin,
    /// The stream, which names the topic.
    pub stream: Stream,
    /// The record's key.
    pub key: String,
    /// The shop that it is of; empty where it does not say.
    pub shop_id: CompactString,
    /// The currencies of what it sells, each once.
    pub currencies: SmallVec<[CompactString; 1]>,
    /// When its source learnt of it, else when it happened, Unix ms.
    pub at_ms: i64,
    /// When it happened, Unix ms.
    pub occurred_ms: i64,
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

/// The message that `value` is, if it is an event. What is borrowed is copied once it is known
/// what it is.
pub(crate) fn message(
    origin: Origin,
    encoding: Encoding,
    value: impl AsRef<[u8]> + Into<Vec<u8>>,
) -> Result<Message, Rejected> {
    message_if(origin, encoding, value, |_| Ok(()))
}

/// The message that `value` is, if it is an event that meets the condition.
pub(crate) fn message_if(
    origin: Origin,
    encoding: Encoding,
    value: impl AsRef<[u8]> + Into<Vec<u8>>,
    condition: impl FnOnce(&Event<'_>) -> Result<(), fenghuo_event::Rejected>,
) -> Result<Message, Rejected> {
    match place(value.as_ref(), encoding, condition) {
        Ok(place) => Ok(Message {
            origin,
            stream: place.stream,
            key: place.key,
            shop_id: place.shop_id,
            currencies: place.currencies,
            at_ms: place.at_ms,
            occurred_ms: place.occurred_ms,
            content_type: encoding.content_type(),
            value: value.into(),
        }),
        Err(why) => Err(reject(origin, &why, value.into())),
    }
}

/// Where an event belongs.
struct Place {
    stream: Stream,
    key: String,
    shop_id: CompactString,
    currencies: SmallVec<[CompactString; 1]>,
    at_ms: i64,
    occurred_ms: i64,
}

fn place(
    value: &[u8],
    encoding: Encoding,
    condition: impl FnOnce(&Event<'_>) -> Result<(), fenghuo_event::Rejected>,
) -> Result<Place, fenghuo_event::Rejected> {
    let decoded = fenghuo_event::decode(value, Some(encoding.content_type().as_bytes()));
    // By reference: an event is large to move.
    let event = match &decoded {
        Ok(event) => event,
        Err(why) => return Err(why.clone()),
    };
    condition(event)?;
    let at = event.meta.recorded_at.or(event.meta.occurred_at);
    let mut currencies = SmallVec::new();
    for currency in event.currencies() {
        if !currencies.iter().any(|known| known == currency) {
            currencies.push(CompactString::from(currency));
        }
    }
    Ok(Place {
        stream: event.stream(),
        key: event.key().into_owned(),
        shop_id: CompactString::from(&*event.meta.shop_id),
        currencies,
        at_ms: at.map_or(0, |at| at.0),
        occurred_ms: event.meta.occurred_at.map_or(0, |at| at.0),
    })
}

/// Something that is no event. The reason begins with the word that rejections are counted by.
#[cold]
pub(crate) fn reject(origin: Origin, why: &fenghuo_event::Rejected, bytes: Vec<u8>) -> Rejected {
    Rejected {
        origin,
        reason: why.to_string(),
        bytes,
        row: None,
    }
}
