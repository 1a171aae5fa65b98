//! The mapping that tells which columns of a CSV mean what.
//!
//! Owns what a mapping says once it is checked; its file form is in `file`, its fields are in
//! `fields`. It must never open the CSV itself.

mod fields;
mod file;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use jiff::tz::Offset;
use serde::Deserialize;

use crate::{Encoding, nearest_hint};

pub use fields::{Field, Kind};

/// A checked mapping from the columns of a CSV to events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its file, as it was named.
    pub file: String,
    /// Half of the SHA-256 of its text: another mapping may take what this one refused.
    pub digest: [u8; 16],
    /// What the rows are.
    pub kind: Kind,
    /// `meta.source` of every event.
    pub source: String,
    /// `meta.shop_id` of every event; empty = not given.
    pub shop_id: String,
    /// `campaign_id` of every order and parcel; empty = not given.
    pub campaign_id: String,
    /// How often such a file is exported.
    pub every_ms: Option<i64>,
    /// The encoding; `None` is told apart.
    pub encoding: Option<Encoding>,
    /// The columns that the ids of watched rows come from, beside the type.
    pub id: Vec<Field>,
    /// How the time columns are written, in the terms of strptime.
    pub time_format: String,
    /// What those times are ahead of UTC, unless the format itself reads an offset.
    pub offset: Offset,
    /// The column that holds the time of an event of this type; all others have [`Field::Time`].
    pub time_of: Vec<(i32, String)>,
    /// ISO 4217 code of the prices; empty where there are none.
    pub currency: String,
    /// Base units in one sellable pack.
    pub pack_units: i32,
    /// Which column is what.
    pub columns: BTreeMap<Field, String>,
    /// The shop's words for a status: the number of the event type, or `None` for rows to skip.
    pub statuses: BTreeMap<String, Option<i32>>,
    /// Put before a buyer's name before it is hashed; empty where no buyer is read.
    pub buyer_salt: String,
    /// Orders without a status column: rows that cancel; every other row is paid.
    pub cancelled_when: Option<When>,
    /// Rows that are no events at all.
    pub skip_when: Vec<When>,
}

/// A condition on one column of a row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct When {
    /// The column.
    pub column: String,
    /// What its text begins with.
    pub prefix: String,
}

/// Why a text is no mapping.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// The file cannot be read.
    #[error("mapping {file} cannot be read")]
    Read {
        /// The file.
        file: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It is no TOML, or a key is missing or of another type.
    #[error("mapping {file} is malformed")]
    Malformed {
        /// The file.
        file: String,
        /// The cause, with the place.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A key that no mapping of this kind has.
    #[error("mapping {file}:{line} has an unknown key {key}{}", nearest_hint(nearest.as_deref()))]
    UnknownKey {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// The key, with its table.
        key: String,
        /// The key that was probably meant.
        nearest: Option<String>,
    },
    /// A value that cannot be meant.
    #[error("mapping {file}:{line}: {key} is {found:?}; expected {expected}")]
    Invalid {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// The key, with its table.
        key: String,
        /// What stands there.
        found: String,
        /// What may stand there, and what was probably meant.
        expected: String,
    },
}

/// Bytes of a mapping file at most: parsing takes a hundred times as many.
const FILE_BYTES_MAX: u64 = 256 * 1024;

impl Mapping {
    /// Reads and checks a mapping file.
    pub fn load(path: &Path) -> Result<Self, MappingError> {
        let file = path.display().to_string();
        let fail = |source| MappingError::Read {
            file: file.clone(),
            source,
        };
        let mut text = String::new();
        // Opening a pipe to which nobody writes would wait for ever.
        if !fs::metadata(path).map_err(fail)?.is_file() {
            return Err(fail(io::Error::other("it is no regular file")));
        }
        let opened = fs::File::open(path).map_err(fail)?;
        let mut bounded = opened.take(FILE_BYTES_MAX + 1);
        if bounded.read_to_string(&mut text).map_err(fail)? as u64 > FILE_BYTES_MAX {
            let problem = format!("it is larger than {} KiB", FILE_BYTES_MAX >> 10);
            return Err(fail(std::io::Error::other(problem)));
        }
        Self::parse(&text, &file)
    }

    /// Checks a mapping; `file` is its name in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, MappingError> {
        file::parse(text, file)
    }

    /// The column that holds a field, where the mapping names one.
    pub fn column(&self, field: Field) -> Option<&str> {
        self.columns.get(&field).map(String::as_str)
    }

    /// Every column that has to be there, with the key that names it.
    pub(crate) fn named(&self) -> impl Iterator<Item = (String, &str)> {
        let columns = self.columns.iter();
        let columns = columns.map(|(field, name)| (format!("columns.{}", field.key()), &**name));
        let times = self.time_of.iter();
        let times = times.map(|(_, name)| ("time.of".to_owned(), &**name));
        let cancelled = self.cancelled_when.iter();
        let cancelled = cancelled.map(|when| ("type.cancelled_when".to_owned(), &*when.column));
        let skipped = self.skip_when.iter();
        let skipped = skipped.map(|when| ("type.skip_when".to_owned(), &*when.column));
        columns.chain(times).chain(cancelled).chain(skipped)
    }
}

#[cfg(test)]
mod tests;
