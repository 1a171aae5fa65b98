//! The agreed events as JSON: paid orders of one line, price floors, and orders below them.
//!
//! Each is written by hand into one buffer, so that making them costs little beside what is
//! measured.

use std::io::Write as _;

use fenghuo_benches::machine::{DIP, rfc3339};
use fenghuo_benches::{SKUS, zipf};

/// Bytes of one agreed order.
pub const BYTES: usize = 309;

/// What a sku that is to be paged may not be sold below, in minor units.
const FLOOR_MINOR: u64 = 1_800;

/// What all others cost, in minor units.
const PRICE_MINOR: u64 = 19_900;

/// Multiplier without a common factor with [`SKUS`], so that ranks are spread over the ids.
const SHUFFLE: u64 = 7_919;

/// Skus and orders of the year.
pub const YEAR_SKUS: u64 = 3_956;
/// Orders of the year.
pub const YEAR_ORDERS: u64 = 24_604;

/// Appends the agreed order of this number, without a line's end.
pub fn order(number: u64, at_ms: i64, into: &mut Vec<u8>) {
    let sku = zipf(number) * SHUFFLE % SKUS;
    meta("o", number, at_ms, into);
    head(number, into);
    line(&format_args!("sku-{sku:05}"), number, PRICE_MINOR, into);
    into.extend_from_slice(b"]}}");
}

/// Appends an order of the year: one of `lines` lines.
pub fn year_order(number: u64, lines: u64, at_ms: i64, into: &mut Vec<u8>) {
    meta("o", number, at_ms, into);
    head(number, into);
    for of in 0..lines {
        if of > 0 {
            into.push(b',');
        }
        let sku = zipf(number * 64 + of) * SHUFFLE % YEAR_SKUS;
        line(
            &format_args!("sku-{sku:05}"),
            number + of,
            PRICE_MINOR,
            into,
        );
    }
    into.extend_from_slice(b"]}}");
}

/// The price floor of a sku that is to be paged.
pub fn floor(number: u64, at_ms: i64) -> (String, Vec<u8>) {
    let sku = format!("{DIP}{number:04}");
    let mut event = Vec::with_capacity(BYTES);
    meta("f", number, at_ms, &mut event);
    let floor = format!(
        r#""catalog":{{"type":"UPSERT","sku_id":"{sku}","pack_units":1,"price_floor":{{"currency_code":"CNY","minor_units":{FLOOR_MINOR}}}}}}}"#
    );
    event.extend_from_slice(floor.as_bytes());
    (sku, event)
}

/// An order at a tenth of that floor.
pub fn dip(number: u64, at_ms: i64) -> (String, Vec<u8>) {
    let sku = format!("{DIP}{number:04}");
    let mut event = Vec::with_capacity(BYTES);
    meta("d", number, at_ms, &mut event);
    // Its own numbers, far from those of the other orders.
    head(1_000_000_000 + number, &mut event);
    line(&sku, number, FLOOR_MINOR / 10, &mut event);
    event.extend_from_slice(b"]}}");
    (sku, event)
}

fn meta(kind: &str, number: u64, at_ms: i64, into: &mut Vec<u8>) {
    // Writing into memory does not fail.
    let _ = write!(
        into,
        r#"{{"meta":{{"event_id":"{kind}-{number:012}","source":"erp","occurred_at":""#
    );
    into.extend_from_slice(&rfc3339(at_ms));
    into.extend_from_slice(br#""},"#);
}

fn head(number: u64, into: &mut Vec<u8>) {
    let buyer = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let _ = write!(
        into,
        r#""order":{{"type":"PAID","order_id":"O{number:012}","campaign_id":"double-11","buyer_id_hash":"{buyer:016x}","lines":["#
    );
}

fn line(sku: &dyn std::fmt::Display, number: u64, price_minor: u64, into: &mut Vec<u8>) {
    let quantity = 1 + number % 3;
    let _ = write!(
        into,
        r#"{{"sku_id":"{sku}","quantity":{quantity},"unit_price":{{"currency_code":"CNY","minor_units":{price_minor}}}}}"#
    );
}
