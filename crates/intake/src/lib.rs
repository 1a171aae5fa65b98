//! Files and bodies of requests to events: JSON lines, CSV by mapping, protobuf, CloudEvents.
//!
//! This crate owns the way from a file to messages that can be appended to the shop's topics:
//! lines bounded in length ([`Lines`]), rows told by a mapping ([`CsvOrders`], [`Mapping`]), the two
//! as one stream ([`Messages`]), several streams in the order of time ([`Merge`]), and a folder
//! whose files grow and are replaced ([`watch`]); and the way from the [`body`] of a request to the
//! same messages. Bad input is data here: it comes out as [`Rejected`] with its file and line, and
//! the stream goes on; of a row, only what an event would carry. It must never judge what an event means, and never read a clock.

pub mod body;
mod csv_columns;
mod csv_orders;
mod encoding;
mod lines;
mod mapping;
mod merge;
mod message;
mod messages;
pub mod money;
mod rows;
pub mod watch;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use csv_orders::{CsvOrders, Item};
pub use encoding::{Detector, Encoding, Verdict};
pub use lines::{Line, Lines};
pub use mapping::{Field, Kind, Mapping, MappingError, When};
pub use merge::{Merge, Timed};
pub use message::Message;
pub use messages::{Input, Messages};

/// Where in a file something stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file, as it was named; of a request, the sender.
    pub file: Arc<str>,
    /// The line, counted from 1; of a row over several lines, the first. In a body without lines,
    /// the number of the event.
    pub line: u64,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A line or row that gives no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Where it stood.
    pub origin: Origin,
    /// What was found and what was expected.
    pub reason: String,
    /// The line as it stood, or its beginning where it is too long. Of a CSV row, what may be shown:
    /// the columns that are read, with people as hashes.
    pub bytes: Vec<u8>,
    /// How large it was, where it is a CSV row.
    pub row: Option<RowSize>,
}

/// How large a row of a CSV was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowSize {
    /// Its bytes, or those that were read of a row that is too long.
    pub bytes: u64,
    /// Its columns, as far as they can be told apart; 0 where it is not one row alone.
    pub columns: u64,
}

/// Why a file cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened.
    #[error("{file} cannot be opened")]
    Open {
        /// The file, as it was named.
        file: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It broke off: a disk error, a cut archive, a row without end.
    #[error("{origin}: cannot be read further")]
    Read {
        /// The first line that could not be read.
        origin: Origin,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A CSV file without a column that the mapping names.
    #[error("{file} has no column {column:?}, which the mapping names as {key}{}", nearest_hint(nearest.as_deref()))]
    Column {
        /// The file, as it was named.
        file: String,
        /// The column.
        column: String,
        /// The mapping's key.
        key: String,
        /// The column of the file whose name is nearest.
        nearest: Option<String>,
    },
    /// Rows that are read as orders, by a mapping of something else.
    #[error("mapping {mapping} is of {}; expected one of orders", kind.name())]
    Kind {
        /// The mapping.
        mapping: String,
        /// What it is of.
        kind: Kind,
    },
}

fn nearest_hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

/// The longest name that is compared with a mistyped one.
const NAME_BYTES_COMPARED_MAX: usize = 256;

/// The name nearest to a mistyped one, if any is near enough to be meant.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        // What is far longer than any name is near to none, and comparing costs its square.
        .filter(|candidate| candidate.len() <= NAME_BYTES_COMPARED_MAX)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3 + 1)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// The name of a file as it is shown and written into origins.
fn file_name(path: &Path) -> Arc<str> {
    Arc::from(path.to_string_lossy())
}

/// Input shown in a message: at most 60 characters of it, so that no message grows with the input.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(240)]);
    let cut: String = text.chars().take(60).collect();
    let dots = if cut.len() < text.len() || bytes.len() > 240 {
        "…"
    } else {
        ""
    };
    format!("{:?}{dots}", cut)
}

/// A hash as text.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
