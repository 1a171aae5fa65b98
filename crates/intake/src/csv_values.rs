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

/// Decimal text as whole minor units, or `None` where it is none or they cannot hold it exactly.
pub(crate) fn minor_units(text: &[u8], exponent: u32) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &digits[digits.len()..]),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    let exponent = exponent as usize;
    let mut amount: i64 = 0;
    let padding = std::iter::repeat_n(&b'0', exponent.saturating_sub(fraction.len()));
    for byte in whole
        .iter()
        .chain(fraction.iter().take(exponent))
        .chain(padding)
    {
        amount = amount.checked_mul(10)?.checked_add(digit(byte)?)?;
    }
    if fraction.iter().skip(exponent).any(|byte| *byte != b'0') {
        return None;
    }
    Some(if negative { -amount } else { amount })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_held_exactly_or_not_at_all() {
        let cases: &[(&str, u32, Option<i64>)] = &[
            ("2.55", 2, Some(255)),
            ("2.5", 2, Some(250)),
            ("2", 2, Some(200)),
            (".5", 2, Some(50)),
            ("2.", 2, Some(200)),
            ("2.550", 2, Some(255)),
            ("0.001", 2, None),
            ("0.001", 3, Some(1)),
            ("7", 0, Some(7)),
            ("7.0", 0, Some(7)),
            ("7.5", 0, None),
            ("-11062.06", 2, Some(-1_106_206)),
            ("92233720368547758.07", 2, Some(i64::MAX)),
            ("92233720368547758.08", 2, None),
            ("", 2, None),
            (".", 2, None),
            ("-", 2, None),
            ("1e3", 2, None),
            ("1,000.00", 2, None),
            ("+1", 2, None),
        ];
        for (text, exponent, expect) in cases {
            assert_eq!(
                minor_units(text.as_bytes(), *exponent),
                *expect,
                "{text} {exponent}"
            );
        }
    }
}
