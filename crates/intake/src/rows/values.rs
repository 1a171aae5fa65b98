//! What one field of a CSV says: an id, a text, a time, a count, an amount.
//!
//! Owns reading a field exactly or refusing it. It must never round, trim an id or guess.

use std::borrow::Cow;

use csv::ByteRecord;
use fenghuo_event::bounds::{COUNT_MAX, ID_BYTES_MAX, QUANTITY_MAX};
use fenghuo_event::pb;
use jiff::fmt::strtime::BrokenDownTime;
use sha2::{Digest, Sha256};

use super::RowReader;
use crate::money::minor_units;
use crate::{Field, Mapping};

impl RowReader {
    /// A field as text; empty where the mapping does not name it.
    pub(super) fn text<'r>(
        &self,
        record: &'r ByteRecord,
        field: Field,
    ) -> Result<Cow<'r, str>, String> {
        let bytes = self.bytes(record, field);
        self.encoding.text(bytes).ok_or_else(|| {
            let found = self.found(self.indices.get(field), bytes);
            let column = self.column(field);
            format!("{column} is {found}; expected {}", self.encoding)
        })
    }

    pub(super) fn optional(&self, record: &ByteRecord, field: Field) -> Result<String, String> {
        self.text(record, field).map(Cow::into_owned)
    }

    pub(super) fn id_of(&self, record: &ByteRecord, field: Field) -> Result<String, String> {
        let id = self.text(record, field)?;
        if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
            let found = self.found(self.indices.get(field), self.bytes(record, field));
            let column = self.column(field);
            return Err(format!(
                "{column} is {found}; expected an id of 1 to {ID_BYTES_MAX} bytes without control characters"
            ));
        }
        Ok(id.into_owned())
    }

    /// Packs, counted upward.
    pub(super) fn quantity(&self, record: &ByteRecord, is_back: bool) -> Result<i64, String> {
        let parsed = self.whole(record, Field::Quantity);
        let quantity = match is_back {
            true => parsed.and_then(i64::checked_abs),
            false => parsed,
        };
        quantity
            .filter(|quantity| (1..=QUANTITY_MAX).contains(quantity))
            .ok_or_else(|| {
                let expected = format!("a whole number from 1 to {QUANTITY_MAX}");
                self.refusal(record, Field::Quantity, &expected)
            })
    }

    /// A number of base units, of either sign.
    pub(super) fn count(&self, record: &ByteRecord, field: Field) -> Result<i64, String> {
        self.whole(record, field)
            .filter(|count| (-COUNT_MAX..=COUNT_MAX).contains(count))
            .ok_or_else(|| self.refusal(record, field, "a whole number"))
    }

    /// As [`RowReader::count`]; 0 where nothing is said.
    pub(super) fn optional_count(&self, record: &ByteRecord, field: Field) -> Result<i64, String> {
        match self.is_given(record, field) {
            true => self.count(record, field),
            false => Ok(0),
        }
    }

    pub(super) fn money(&self, record: &ByteRecord, field: Field) -> Result<pb::Money, String> {
        let text = self.bytes(record, field).trim_ascii();
        let minor_units = minor_units(text, self.exponent)
            .filter(|amount| (0..=COUNT_MAX).contains(amount))
            .ok_or_else(|| {
                let expected = format!(
                    "an amount of {} from 0 with up to {} decimals",
                    self.mapping.currency, self.exponent
                );
                self.refusal(record, field, &expected)
            })?;
        Ok(pb::Money {
            currency_code: self.mapping.currency.clone(),
            minor_units,
        })
    }

    fn whole(&self, record: &ByteRecord, field: Field) -> Option<i64> {
        let text = std::str::from_utf8(self.bytes(record, field)).ok()?;
        text.trim().parse().ok()
    }

    fn refusal(&self, record: &ByteRecord, field: Field, expected: &str) -> String {
        let found = self.found(self.indices.get(field), self.bytes(record, field));
        format!("{} is {found}; expected {expected}", self.column(field))
    }

    /// The name of a column; of one that the mapping does not name, its key.
    fn column(&self, field: Field) -> &str {
        self.mapping.column(field).unwrap_or(field.key())
    }
}

pub(super) fn parse_time(mapping: &Mapping, text: &[u8]) -> Option<i64> {
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

/// Half of a salted SHA-256, in hexadecimal.
pub(super) fn hash_of(salt: &str, name: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(salt)
        .chain_update([0])
        .chain_update(name)
        .finalize();
    let half: [u8; 16] = std::array::from_fn(|at| digest[at]);
    crate::hex(&half)
}
