//! Instants and spans as events state them, in whole milliseconds. This file reads and writes
//! them; it must never ask what time it is.

use std::fmt;

/// An instant: milliseconds since the Unix epoch. Anything finer is cut off when read.
///
/// ```
/// let noon: fenghuo_event::Timestamp = "2026-11-11T20:00:00+08:00".parse()?;
/// assert_eq!(noon.to_string(), "2026-11-11T12:00:00Z");
/// # Ok::<(), fenghuo_event::TimestampError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// A span of time in milliseconds; anything finer is cut off when read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DurationMs(pub i64);

/// Not an RFC 3339 time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an RFC 3339 time such as 2026-11-11T12:00:00Z")]
pub struct TimestampError;

const DAY_MS: i64 = 86_400_000;

impl Timestamp {
    /// From a protobuf timestamp's parts; `None` where they are out of their ranges.
    pub(crate) fn from_parts(seconds: i64, nanos: i32) -> Option<Self> {
        let fraction_ms = u32::try_from(nanos).ok().filter(|n| *n < 1_000_000_000)? / 1_000_000;
        let ms = seconds
            .checked_mul(1000)?
            .checked_add(i64::from(fraction_ms))?;
        Some(Self(ms))
    }

    /// Reads `text`, of any offset and any number of decimals.
    pub(crate) fn read(text: &str) -> Option<Self> {
        plain(text.as_bytes()).or_else(|| {
            let parsed: jiff::Timestamp = text.parse().ok()?;
            // Towards the past, as the plain form does.
            let ms = parsed.as_nanosecond().div_euclid(1_000_000);
            i64::try_from(ms).ok().map(Self)
        })
    }
}

/// The form that machines write, `YYYY-MM-DDTHH:MM:SS[.f…]Z`, read an order of magnitude faster
/// than the general one. `None` says only that the text is not of this form.
fn plain(text: &[u8]) -> Option<Timestamp> {
    let (head, tail) = text.split_first_chunk::<19>()?;
    let two = |at: usize| Some(i64::from(digit(head[at])?) * 10 + i64::from(digit(head[at + 1])?));
    let marks = [head[4], head[7], head[10], head[13], head[16]];
    if marks != *b"--T::" {
        return None;
    }
    let year = two(0)? * 100 + two(2)?;
    let (month, day) = (two(5)?, two(8)?);
    let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    let fraction_ms = fraction_ms(tail)?;
    let time_ms = ((hour * 60 + minute) * 60 + second) * 1000 + fraction_ms;
    Some(Timestamp(
        days_from_epoch(year, month, day) * DAY_MS + time_ms,
    ))
}

/// `Z`, or a point, decimals and `Z`; as milliseconds.
fn fraction_ms(tail: &[u8]) -> Option<i64> {
    match tail {
        b"Z" => Some(0),
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => {
            let mut ms = 0;
            for place in 0..3 {
                ms = ms * 10
                    + digits
                        .get(place)
                        .map_or(Some(0), |byte| digit(*byte).map(i64::from))?;
            }
            digits.iter().all(u8::is_ascii_digit).then_some(ms)
        }
        _ => None,
    }
}

fn digit(byte: u8) -> Option<u8> {
    let value = byte.wrapping_sub(b'0');
    (value < 10).then_some(value)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a Gregorian date. Years are counted from March, so that the leap day
/// comes last; 400 of them are 146,097 days (H. Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC; an instant beyond the year 9999 as its milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl std::str::FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text).ok_or(TimestampError)
    }
}

impl From<Timestamp> for i64 {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

impl From<i64> for Timestamp {
    fn from(ms: i64) -> Self {
        Self(ms)
    }
}

impl From<Timestamp> for prost_types::Timestamp {
    fn from(timestamp: Timestamp) -> Self {
        Self {
            seconds: timestamp.0.div_euclid(1000),
            nanos: timestamp.0.rem_euclid(1000) as i32 * 1_000_000,
        }
    }
}

impl DurationMs {
    /// From a protobuf duration's parts; `None` where they are out of their ranges.
    pub(crate) fn from_parts(seconds: i64, nanos: i32) -> Option<Self> {
        let signs_agree = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
        if nanos.unsigned_abs() >= 1_000_000_000 || !signs_agree {
            return None;
        }
        let ms = seconds
            .checked_mul(1000)?
            .checked_add(i64::from(nanos / 1_000_000))?;
        Some(Self(ms))
    }

    /// Reads the JSON form: seconds with up to nine decimals and an `s`, as in `"3.5s"`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let number = text.strip_suffix('s')?;
        let (negative, number) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number),
        };
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let digits_only = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits_only(whole) || !digits_only(decimals) || decimals.len() > 9 {
            return None;
        }
        let mut fraction_ms = 0;
        for place in 0..3 {
            fraction_ms = fraction_ms * 10
                + decimals
                    .as_bytes()
                    .get(place)
                    .map_or(0, |b| i64::from(b - b'0'));
        }
        let seconds: i64 = whole.parse().ok()?;
        let ms = seconds.checked_mul(1000)?.checked_add(fraction_ms)?;
        Some(Self(if negative { -ms } else { ms }))
    }
}

impl From<DurationMs> for prost_types::Duration {
    fn from(duration: DurationMs) -> Self {
        Self {
            seconds: duration.0 / 1000,
            nanos: (duration.0 % 1000) as i32 * 1_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_rfc_3339() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("2026-11-11T12:00:00Z", Some(1_794_398_400_000)),
            ("2026-11-11T20:00:00+08:00", Some(1_794_398_400_000)),
            ("2026-11-11T12:00:00.1Z", Some(1_794_398_400_100)),
            ("2026-11-11T12:00:00.0019999Z", Some(1_794_398_400_001)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000)),
            ("1900-02-29T00:00:00Z", None),
            ("2026-11-11T12:00:00", None),
            ("2026-11-11T24:00:00Z", None),
            ("2026-11-11T12:00:00.Z", None),
            ("2026-11-11T12:00:00.00xZ", None),
            ("2026-13-01T00:00:00Z", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Timestamp::read(text).map(i64::from), expected, "{text}");
        }
    }

    #[test]
    fn reads_durations() {
        let cases = [
            ("3.5s", Some(3500)),
            ("-0.5s", Some(-500)),
            ("0s", Some(0)),
            ("1.0019s", Some(1001)),
            ("3.5", None),
            ("s", None),
            (".5s", None),
            ("1e3s", None),
            ("99999999999999999999s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(DurationMs::read(text).map(|d| d.0), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn plain_form_agrees_with_the_general_one(ms in -62_135_596_800_000_i64..253_402_300_800_000) {
            let text = Timestamp(ms).to_string();
            prop_assert_eq!(plain(text.as_bytes()), Some(Timestamp(ms)));
            let general: jiff::Timestamp = text.parse().unwrap();
            prop_assert_eq!(general.as_millisecond(), ms);
        }

        #[test]
        fn parts_round_trip(ms in -253_402_300_800_000_i64..253_402_300_800_000) {
            let time = prost_types::Timestamp::from(Timestamp(ms));
            prop_assert_eq!(Timestamp::from_parts(time.seconds, time.nanos), Some(Timestamp(ms)));
            let span = prost_types::Duration::from(DurationMs(ms));
            prop_assert_eq!(DurationMs::from_parts(span.seconds, span.nanos), Some(DurationMs(ms)));
        }
    }
}
