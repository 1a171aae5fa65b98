//! How large things may be: every bound of a message, with its reason. Both encodings are held to
//! the same ones. What exceeds a bound is rejected, never cut.

/// A whole message, in either encoding. Kafka's own default for a record is the same.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A string that is an id, a code or a hash: everything but free text. It may become part of a
/// map's key that lives for days.
pub const ID_BYTES_MAX: usize = 128;

/// Free text: a review, a courier's remark. Some 5,000 Chinese characters.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Elements of any one list, checked while reading: an empty element costs two bytes in a message
/// and a few hundred once read.
pub const ELEMENTS_MAX: usize = 16 * 1024;

/// Entries of any one map, checked while reading; they are searched one by one.
pub const ENTRIES_MAX: usize = 64;

/// Entries of each map of a custom event: what it is about and what it tells, not a table.
pub const CUSTOM_ENTRIES_MAX: usize = 16;

/// The name of a custom event, of which a shop has a few hundred.
pub const CUSTOM_NAME_BYTES_MAX: usize = 64;

/// A text of a custom event, which is there to be compared and not to be read.
pub const CUSTOM_TEXT_BYTES_MAX: usize = 512;

/// A key of a map that expressions can read.
pub const KEY_BYTES_MAX: usize = 48;

/// Whether `key` can be read by an expression: lower-case letters, digits and '_', from a letter on, at
/// most [`KEY_BYTES_MAX`]. A custom event has no others.
pub fn is_key(key: &str) -> bool {
    let is_letter = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    key.starts_with(|first: char| first.is_ascii_lowercase())
        && key.len() <= KEY_BYTES_MAX
        && key.as_bytes().iter().all(is_letter)
}

/// Lines of an order.
pub const LINES_MAX: usize = 4096;

/// Skus of one plan event; a larger plan comes in several events. Each takes a place where skus
/// are kept, so that one event must not take many.
pub const SKUS_MAX: usize = 4096;

/// Points of one plan curve: a fortnight in steps of five minutes.
pub const CURVE_POINTS_MAX: usize = 4096;

/// Points of all curves of one plan event: a thousand skus, a day in steps of five minutes. A sku
/// without a curve of its own follows its campaign's and counts with as many points, since it is
/// kept with them.
pub const PLAN_POINTS_MAX: usize = 300_000;

/// Levels of messages, objects, lists or groups inside each other, unknown ones included. The
/// deepest known path has five.
pub const NESTING_MAX: u32 = 32;

/// Packs on one order line, and base units in one pack.
pub const QUANTITY_MAX: i64 = 1_000_000;

/// The size of any signed 64-bit number: stock, planned units, an amount of money in minor units.
/// A million of them can be added up in an `i64` with room to spare.
pub const COUNT_MAX: i64 = 1_000_000_000_000;

/// The value of all lines of an order together, in minor units: as much as one amount may say.
pub const ORDER_MINOR_MAX: i64 = COUNT_MAX;

/// A share, a rate or an expectation, in either direction.
pub const FLOAT_MAX: f64 = 1e12;

/// The earliest instant: 2000-01-01T00:00:00Z.
pub const TIME_MS_MIN: i64 = 946_684_800_000;

/// The first instant past the last: 2200-01-01T00:00:00Z.
pub const TIME_MS_END: i64 = 7_258_118_400_000;

/// The longest span of time: 400 days.
pub const DURATION_MS_MAX: i64 = 400 * 24 * 3600 * 1000;

/// Seconds from the start of a sale to any point of its plan, in either direction: 400 days.
pub const OFFSET_S_MAX: i32 = 400 * 24 * 3600;

/// Local time minus UTC, in minutes, in either direction.
pub const UTC_OFFSET_MIN_MAX: i32 = 18 * 60;
