//! Rows of a CSV of order lines as order events.
//!
//! Consecutive rows with the same order id, time and type are one event, whose id carries the
//! number of its first row, so that a file gives the same ids however often it is read. Owns the
//! rules by which a row is taken, skipped or rejected. It must never mend a value: ids are kept as
//! written, a price that minor units cannot hold is rejected, and only the columns that the
//! mapping uses are looked at, so that another encoding in the rest does no harm.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use csv::ByteRecord;
use fenghuo_event::bounds::{LINES_MAX, MESSAGE_BYTES_MAX};
use fenghuo_event::pb;

use crate::csv_columns::Indices;
use crate::rows::{Row, RowReader, timestamp};
use crate::{Encoding, Error, Kind, Mapping, Origin, Rejected, file_name, lines};

/// What a CSV gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// An event made of one or more rows.
    Event {
        /// The event.
        event: Box<pb::Event>,
        /// Its first row.
        origin: Origin,
    },
    /// A row that gives nothing.
    Rejected(Rejected),
}

/// The event that the last rows belong to.
struct OpenEvent {
    at_ms: i64,
    first_row: u64,
    origin: Origin,
    order: pb::Order,
}

/// The events of a CSV of order lines, in the order of its rows.
pub struct CsvOrders {
    reader: csv::Reader<Bounded>,
    mapping: Arc<Mapping>,
    rows: RowReader,
    file: Arc<str>,
    record: ByteRecord,
    row: u64,
    skipped: u64,
    open: Option<OpenEvent>,
    ready: VecDeque<Item>,
    ended: bool,
}

impl CsvOrders {
    /// Opens a CSV, plain or gzip, with a header line.
    pub fn open(path: &Path, mapping: Mapping) -> Result<Self, Error> {
        Self::new(lines::open(path)?, file_name(path), mapping)
    }

    /// Reads a CSV with a header line from anything; `file` is the name that origins carry.
    pub fn new(
        reader: Box<dyn Read + Send>,
        file: Arc<str>,
        mapping: Mapping,
    ) -> Result<Self, Error> {
        if mapping.kind != Kind::Orders {
            return Err(Error::Kind {
                mapping: mapping.file,
                kind: mapping.kind,
            });
        }
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            // By default the reader takes a carriage return for the end of a line, and then counts
            // the line feed behind it to the next row.
            .terminator(csv::Terminator::Any(b'\n'))
            .from_reader(Bounded {
                reader,
                left: ROW_ALLOWANCE_BYTES,
            });
        let mut header = match reader.byte_headers() {
            Ok(header) => header.clone(),
            Err(error) => {
                let origin = Origin { file, line: 1 };
                return Err(Error::Read {
                    origin,
                    source: error.into(),
                });
            }
        };
        strip_carriage_return(&mut header);
        // Whoever names a mapping for a file names its encoding there too.
        let encoding = mapping.encoding.unwrap_or(Encoding::Utf8);
        let indices = Indices::find(&header, &mapping, encoding, &file)?;
        let mapping = Arc::new(mapping);
        Ok(Self {
            rows: RowReader::new(Arc::clone(&mapping), indices, encoding, header.len()),
            reader,
            mapping,
            file,
            record: ByteRecord::new(),
            row: 0,
            skipped: 0,
            open: None,
            ready: VecDeque::new(),
            ended: false,
        })
    }

    /// Rows passed over so far because the mapping says that they are no orders.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Reads one row and puts what it completes into `ready`.
    fn step(&mut self) -> Result<(), Error> {
        let line_before = self.reader.position().line();
        // What the row before left unread in the buffer counts against the allowance of this one,
        // which is generous, so nothing needs to be exact.
        self.reader.get_mut().left = ROW_ALLOWANCE_BYTES;
        let more = self
            .reader
            .read_byte_record(&mut self.record)
            .map_err(|error| Error::Read {
                origin: Origin {
                    file: Arc::clone(&self.file),
                    line: line_before,
                },
                source: error.into(),
            })?;
        if !more {
            self.ended = true;
            self.close();
            return Ok(());
        }
        strip_carriage_return(&mut self.record);
        if self.record.len() == 1 && self.record[0].is_empty() {
            return Ok(());
        }
        self.row += 1;
        // The reader tells where it began to look for the row, which is before any blank lines;
        // counted back from the row's end, they are left out, but a last row may have no end.
        let breaks = self
            .record
            .iter()
            .flatten()
            .filter(|byte| **byte == b'\n')
            .count() as u64;
        let line = line_before.max(self.reader.position().line().saturating_sub(breaks + 1));
        let origin = Origin {
            file: Arc::clone(&self.file),
            line,
        };
        match self.rows.read(&self.record) {
            Ok(Some(row)) => self.take(row, origin),
            Ok(None) => self.skipped += 1,
            Err(reason) => {
                self.refuse(origin, reason);
            }
        }
        Ok(())
    }

    /// Adds a row to the open event, or closes that and opens another.
    fn take(&mut self, row: Row, origin: Origin) {
        let pb::event::Body::Order(mut order) = row.body else {
            return;
        };
        let lines = std::mem::take(&mut order.lines);
        let fits = self.open.as_ref().is_some_and(|open| {
            open.order.order_id == order.order_id
                && open.at_ms == row.at_ms
                && open.order.r#type == order.r#type
        });
        if !fits {
            self.close();
        }
        let first_row = self.row;
        let open = self.open.get_or_insert_with(|| OpenEvent {
            at_ms: row.at_ms,
            first_row,
            origin: origin.clone(),
            order,
        });
        if open.order.lines.len() < LINES_MAX {
            open.order.lines.extend(lines);
        } else {
            let id = &open.order.order_id;
            let reason = format!("order {id:?} has more than {LINES_MAX} lines");
            self.refuse(origin, reason);
        }
    }

    /// Refuses the row that was read last.
    fn refuse(&mut self, origin: Origin, reason: String) {
        // The reader does not keep the row itself: quotes are not counted.
        let row_bytes = self.record.as_slice().len() + self.record.len().saturating_sub(1);
        let rejected = self.rows.refused(origin, reason, &self.record, row_bytes);
        self.ready.push_back(Item::Rejected(rejected));
    }

    /// Finishes the open event, if there is one.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let meta = pb::Meta {
            event_id: format!("{}@{}", open.order.order_id, open.first_row),
            source: self.mapping.source.clone(),
            shop_id: self.mapping.shop_id.clone(),
            occurred_at: Some(timestamp(open.at_ms)),
            ..Default::default()
        };
        let event = pb::Event {
            meta: Some(meta),
            body: Some(pb::event::Body::Order(open.order)),
        };
        self.ready.push_back(Item::Event {
            event: Box::new(event),
            origin: open.origin,
        });
    }
}

impl Iterator for CsvOrders {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.step() {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }
}

/// How much may be read for one row beyond the longest message: what csv reads ahead.
const ROW_ALLOWANCE_BYTES: usize = MESSAGE_BYTES_MAX + 64 * 1024;

/// Ends a file in which a row has no end: an open quote would take all the rest into memory.
struct Bounded {
    reader: Box<dyn Read + Send>,
    left: usize,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the row is longer than {MESSAGE_BYTES_MAX} bytes; is a quote left open?"),
            ));
        }
        let read = self.reader.read(buffer)?;
        self.left = self.left.saturating_sub(read);
        Ok(read)
    }
}

/// Takes a carriage return off the end of a row.
fn strip_carriage_return(record: &mut ByteRecord) {
    let Some(last) = record.len().checked_sub(1) else {
        return;
    };
    if let Some(field) = record[last].strip_suffix(b"\r").map(<[u8]>::to_vec) {
        record.truncate(last);
        record.push_field(&field);
    }
}
