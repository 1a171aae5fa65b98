//! What is kept and told of a row that is refused.
//!
//! Owns what of it may leave the file: the columns that an event would carry, as the event would
//! carry them, and so people as hashes alone. It must never let out a column that the mapping does
//! not read, nor anything of a row whose columns cannot be told apart.

use csv::{ByteRecord, WriterBuilder};

use super::RowReader;
use crate::{Field, Origin, Rejected, RowSize};

/// What stands for a column that is not shown.
const HIDDEN: &str = "(hidden)";

/// A row whose columns cannot be told apart: any of it may be a name or an address.
pub(crate) fn broken(
    origin: Origin,
    reason: String,
    record: &ByteRecord,
    row_bytes: usize,
) -> Rejected {
    Rejected {
        origin,
        reason,
        bytes: HIDDEN.into(),
        row: Some(RowSize {
            bytes: row_bytes as u64,
            columns: record.len() as u64,
        }),
    }
}

impl RowReader {
    /// A row that had so many bytes, with what may be shown of it.
    pub(crate) fn refused(
        &self,
        origin: Origin,
        reason: String,
        record: &ByteRecord,
        row_bytes: usize,
    ) -> Rejected {
        let rejected = broken(origin, reason, record, row_bytes);
        match record.len() == self.fields {
            false => rejected,
            true => Rejected {
                bytes: self.row_shown(record),
                ..rejected
            },
        }
    }

    /// The row as CSV, in UTF-8 and in the order of its columns.
    fn row_shown(&self, record: &ByteRecord) -> Vec<u8> {
        let cells = (0..).zip(record).map(|(index, cell)| match cell {
            _ if is_broken(cell) => HIDDEN.to_owned(),
            _ if self.is_personal(index) => self.buyer(record),
            _ if self.indices.is_carried(index) => match self.encoding.text(cell) {
                Some(text) => text.into_owned(),
                None => String::from_utf8_lossy(cell).into_owned(),
            },
            _ => HIDDEN.to_owned(),
        });
        let cells: Vec<String> = cells.collect();
        let mut writer = WriterBuilder::new().from_writer(Vec::new());
        // Writing into memory cannot fail.
        let _ = writer.write_record(&cells);
        let mut bytes = writer.into_inner().unwrap_or_default();
        bytes.truncate(bytes.trim_ascii_end().len());
        bytes
    }

    /// What a column says, for the reason of a refusal.
    pub(super) fn found(&self, index: Option<usize>, cell: &[u8]) -> String {
        if index.is_some_and(|index| self.is_personal(index)) {
            return HIDDEN.to_owned();
        }
        if is_broken(cell) {
            return "a text over several lines".to_owned();
        }
        match self.encoding.text(cell) {
            Some(text) => crate::shown(text.as_bytes()),
            None => crate::shown(cell),
        }
    }

    fn is_personal(&self, index: usize) -> bool {
        self.indices.get(Field::Buyer) == Some(index)
    }
}

/// Whether a cell goes over several lines. No column that is read does, but behind a quote that was
/// left open the rest of the row and the next one are a part of it.
fn is_broken(cell: &[u8]) -> bool {
    memchr::memchr2(b'\n', b'\r', cell).is_some()
}
