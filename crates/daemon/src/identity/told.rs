//! What an event tells of its shop.
//!
//! Owns which events may settle what: facts of a shop that ingest would take. A heartbeat or a
//! visit says nothing, and a time in UTC says nothing of the time zone.

use fenghuo_engine::{Ingest, IngestConfig};
use fenghuo_event::Stream;
use fenghuo_intake::Message;
use fenghuo_log::Record;

use super::Known;
use crate::clock;

/// What an event tells beyond what is known; `None` where that is nothing.
pub fn told(message: &Message, known: &Known, ingest: Option<&IngestConfig>) -> Option<Known> {
    let facts = [
        Stream::Orders,
        Stream::Inventory,
        Stream::Couriers,
        Stream::Catalog,
        Stream::Plans,
    ];
    if !facts.contains(&message.stream) {
        return None;
    }
    let shop = Some(&message.shop_id).filter(|id| known.shop.is_none() && !id.is_empty());
    let currency = message.currencies.first();
    let currency = currency.filter(|_| known.currency.is_none());
    let zone = match known.utc_offset_min {
        None => utc_offset_min(message),
        Some(_) => None,
    };
    // Asked last, for it costs the most.
    if (shop.is_none() && currency.is_none() && zone.is_none()) || !is_taken(message, ingest) {
        return None;
    }
    Some(Known {
        shop: shop.map(ToString::to_string),
        currency: currency.map(ToString::to_string),
        utc_offset_min: zone,
    })
}

/// Whether ingest would take it if it came now.
fn is_taken(message: &Message, ingest: Option<&IngestConfig>) -> bool {
    let content_type = Some(message.content_type.as_bytes());
    let Some(ingest) = ingest else {
        return fenghuo_event::decode(&message.value, content_type).is_ok();
    };
    let mut topics = ingest.topics.iter();
    let Some(source) = topics.find(|topic| topic.stream == message.stream) else {
        return false;
    };
    let record = Record {
        offset: 0,
        timestamp_ms: clock::now_ms(),
        key: Some(message.key.as_bytes()),
        value: Some(&message.value),
        content_type,
    };
    Ingest::examine(ingest, source, &record).is_ok()
}

/// The offset of the time at which a JSON event happened, as its source wrote it. `Z` and `-00:00`
/// say that it is not told (RFC 9557).
fn utc_offset_min(message: &Message) -> Option<i32> {
    if !message.content_type.contains("json") {
        return None;
    }
    let text = std::str::from_utf8(&message.value).ok()?;
    // Most events that tell nothing are told by this, without being parsed.
    let (_, after) = text.split_once("\"occurred_at\"")?;
    let quoted = after.split('"').nth(1)?;
    if quoted.ends_with(['Z', 'z']) {
        return None;
    }
    let event: serde_json::Value = serde_json::from_str(text).ok()?;
    let time = event.pointer("/meta/occurred_at")?.as_str()?;
    let offset = time.get(time.rfind(['+', '-'])?..)?;
    let date_is_its_end = !time.contains(['T', 't', ' ']);
    if date_is_its_end || time.ends_with(['Z', 'z']) || offset == "-00:00" {
        return None;
    }
    fenghuo_notify::utc_offset_min(offset)
}
