//! What is checked of every field by its type alone: lengths, control characters, ranges of
//! numbers and times. What a field must be by its meaning is in [`crate::rules`].

use std::borrow::Cow;

use crate::bounds::{
    COUNT_MAX, DURATION_MS_MAX, FLOAT_MAX, ID_BYTES_MAX, TEXT_BYTES_MAX, TIME_MS_END, TIME_MS_MIN,
};
use crate::rejected::{Fault, Reason, quote};
use crate::time::{DurationMs, Timestamp};

/// A value that can be checked.
pub(crate) trait Check {
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// What came of checking the field `name`.
#[inline]
pub(crate) fn field(name: &'static str, checked: Result<(), Fault>) -> Result<(), Fault> {
    checked.map_err(|fault| fault.within(name))
}

/// Free text may hold anything but is not endless.
pub(crate) fn text(value: &str) -> Result<(), Fault> {
    if value.len() > TEXT_BYTES_MAX {
        let what = format!(
            "{} bytes, at most {TEXT_BYTES_MAX} are allowed",
            value.len()
        );
        return Err(Fault::new(Reason::TooLarge, what));
    }
    Ok(())
}

/// The same of a map's values; its keys are ids.
pub(crate) fn texts(map: &[(Cow<'_, str>, Cow<'_, str>)]) -> Result<(), Fault> {
    for (key, value) in map {
        key.check()?;
        text(value).map_err(|fault| fault.of_key(key))?;
    }
    Ok(())
}

/// Every string that is not free text is an id of some kind.
fn id(value: &str) -> Result<(), Fault> {
    if value.len() > ID_BYTES_MAX {
        let what = format!("{} bytes, at most {ID_BYTES_MAX} are allowed", value.len());
        return Err(Fault::new(Reason::TooLarge, what));
    }
    if has_suspect(value.as_bytes()) && value.chars().any(char::is_control) {
        let what = format!("expected no control characters, got {}", quote(value));
        return Err(Fault::new(Reason::InvalidValue, what));
    }
    Ok(())
}

/// Whether a byte is below space, DEL, or part of a letter beyond ASCII: eight at a time, since
/// every event has a dozen ids. The last eight may overlap the ones before.
fn has_suspect(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES * 0x80;
    let suspects = |eight: [u8; 8]| {
        let word = u64::from_le_bytes(eight);
        let del = word ^ (ONES * 0x7f);
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        let is_del = del.wrapping_sub(ONES) & !del;
        (below_space | is_del | word) & HIGHS
    };
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().any(|byte| !(b' '..0x7f).contains(byte));
    };
    let (eights, _) = bytes.as_chunks::<8>();
    let found = eights
        .iter()
        .fold(suspects(*last), |found, eight| found | suspects(*eight));
    found != 0
}

impl Check for Cow<'_, str> {
    #[inline]
    fn check(&self) -> Result<(), Fault> {
        match self.is_empty() {
            true => Ok(()),
            false => id(self),
        }
    }
}

impl Check for bool {}
impl Check for i32 {}
impl Check for u64 {}

impl Check for i64 {
    fn check(&self) -> Result<(), Fault> {
        match (-COUNT_MAX..=COUNT_MAX).contains(self) {
            true => Ok(()),
            false => Err(Fault::new(
                Reason::InvalidValue,
                format!("expected at most {COUNT_MAX} in size, got {self}"),
            )),
        }
    }
}

impl Check for f64 {
    fn check(&self) -> Result<(), Fault> {
        // False for NaN too.
        match self.abs() <= FLOAT_MAX {
            true => Ok(()),
            false => Err(Fault::new(
                Reason::InvalidValue,
                format!("expected at most {FLOAT_MAX:e} in size, got {self}"),
            )),
        }
    }
}

impl Check for f32 {
    fn check(&self) -> Result<(), Fault> {
        f64::from(*self).check()
    }
}

impl Check for Timestamp {
    fn check(&self) -> Result<(), Fault> {
        match (TIME_MS_MIN..TIME_MS_END).contains(&self.0) {
            true => Ok(()),
            false => Err(Fault::new(
                Reason::InvalidValue,
                format!("expected a time from 2000 to 2199, got {self}"),
            )),
        }
    }
}

impl Check for DurationMs {
    fn check(&self) -> Result<(), Fault> {
        match (0..=DURATION_MS_MAX).contains(&self.0) {
            true => Ok(()),
            false => Err(Fault::new(
                Reason::InvalidValue,
                format!("expected 0 to 400 days, got {} ms", self.0),
            )),
        }
    }
}

impl<T: Check> Check for Option<T> {
    #[inline]
    fn check(&self) -> Result<(), Fault> {
        self.as_ref().map_or(Ok(()), |value| value.check())
    }
}

impl<T: Check> Check for Vec<T> {
    fn check(&self) -> Result<(), Fault> {
        for (at, value) in self.iter().enumerate() {
            value.check().map_err(|fault| fault.at_element(at))?;
        }
        Ok(())
    }
}

impl<V: Check> Check for (Cow<'_, str>, V) {
    fn check(&self) -> Result<(), Fault> {
        self.0.check()?;
        self.1.check().map_err(|fault| fault.of_key(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Letters of all sorts, and now and then one that an id must not hold, at any place.
        #[test]
        fn ids_hold_no_control_characters(value in "([a-zé烽 ~]{0,12}[\\u{0}\\u{1f}\\u{7f}\\u{85}a]?){1,3}") {
            let expected = !value.chars().any(char::is_control);
            prop_assert_eq!(id(&value).is_ok(), expected, "{:?}", value);
        }
    }

    #[test]
    fn suspects_are_found_at_any_place() {
        for length in 1..=20 {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'a'; length];
                    bytes[place] = byte;
                    let suspect = !(b' '..0x7f).contains(&byte);
                    assert_eq!(
                        has_suspect(&bytes),
                        suspect,
                        "{byte:#x} at {place} of {length}"
                    );
                }
            }
        }
    }
}
