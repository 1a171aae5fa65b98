//! What one field of a CSV says: an id, a text, a time, an amount.
//!
//! Owns reading a field exactly or refusing it. It must never round, trim an id or guess.

use fenghuo_event::bounds::ID_BYTES_MAX;
use jiff::fmt::strtime::BrokenDownTime;

use crate::{Mapping, shown};

pub(crate) fn text<'a>(bytes: &'a [u8], column: &str) -> Result<&'a str, String> {
    std::str::from_utf8(bytes).map_err(|_| format!("{column} is {}; expected UTF-8", shown(bytes)))
}

pub(crate) fn id<'a>(bytes: &'a [u8], column: &str) -> Result<&'a str, String> {
    let id = text(bytes, column)?;
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Err(format!(
            "{column} is {}; expected an id of 1 to {ID_BYTES_MAX} bytes without control characters",
            shown(bytes)
        ));
    }
    Ok(id)
}

pub(crate) fn parse_time(mapping: &Mapping, text: &[u8]) -> Option<i64> {
    let time = BrokenDownTime::parse(&mapping.time_format, text).ok()?;
    let offset = time.offset().unwrap_or(mapping.offset);
    Some(
        offset
            .to_timestamp(time.to_datetime().ok()?)
            .ok()?
            .as_millisecond(),
    )
}

pub(crate) fn timestamp(at_ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at_ms.div_euclid(1000),
        nanos: (at_ms.rem_euclid(1000) * 1_000_000) as i32,
    }
}
