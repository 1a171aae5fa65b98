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
use fenghuo_event::bounds::{COUNT_MAX, LINES_MAX, MESSAGE_BYTES_MAX, QUANTITY_MAX};
use fenghuo_event::pb;
use sha2::{Digest, Sha256};

use crate::csv_columns::Indices;
use crate::csv_values::{id, parse_time, text, timestamp};
use crate::money::{currency_exponent, minor_units};
use crate::{Error, Mapping, Origin, Rejected, file_name, lines, shown};

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

/// A row that was taken.
struct Row {
    order_id: String,
    at_ms: i64,
    cancelled: bool,
    buyer: String,
    region: String,
    line: pb::OrderLine,
}

/// The event that the last rows belong to.
struct OpenEvent {
    order_id: String,
    at_ms: i64,
    cancelled: bool,
    first_row: u64,
    origin: Origin,
    order: pb::Order,
}

/// The events of a CSV of order lines, in the order of its rows.
pub struct CsvOrders {
    reader: csv::Reader<Bounded>,
    mapping: Mapping,
    indices: Indices,
    exponent: u32,
    fields: usize,
    file: Arc<str>,
    record: ByteRecord,
    row: u64,
    skipped: u64,
    open: Option<OpenEvent>,
    ready: VecDeque<Item>,
    last_time: (Vec<u8>, i64),
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
        Ok(Self {
            indices: Indices::find(&header, &mapping, &file)?,
            exponent: currency_exponent(&mapping.currency),
            fields: header.len(),
            reader,
            mapping,
            file,
            record: ByteRecord::new(),
            row: 0,
            skipped: 0,
            open: None,
            ready: VecDeque::new(),
            last_time: (Vec::new(), 0),
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
        match self.judge() {
            Ok(Some(row)) => self.take(row, origin),
            Ok(None) => self.skipped += 1,
            Err(reason) => {
                let bytes = quoted(&self.record);
                self.ready.push_back(Item::Rejected(Rejected {
                    origin,
                    reason,
                    bytes,
                }));
            }
        }
        Ok(())
    }

    /// Adds a row to the open event, or closes that and opens another.
    fn take(&mut self, row: Row, origin: Origin) {
        let fits = self.open.as_ref().is_some_and(|open| {
            open.order_id == row.order_id
                && open.at_ms == row.at_ms
                && open.cancelled == row.cancelled
        });
        if !fits {
            self.close();
        }
        let first_row = self.row;
        let open = self.open.get_or_insert_with(|| OpenEvent {
            order: pb::Order {
                campaign_id: self.mapping.campaign_id.clone(),
                buyer_id_hash: row.buyer,
                ship_region: row.region,
                ..Default::default()
            },
            order_id: row.order_id,
            at_ms: row.at_ms,
            cancelled: row.cancelled,
            first_row,
            origin: origin.clone(),
        });
        if open.order.lines.len() < LINES_MAX {
            open.order.lines.push(row.line);
        } else {
            let reason = format!("order {:?} has more than {LINES_MAX} lines", open.order_id);
            let bytes = quoted(&self.record);
            self.ready.push_back(Item::Rejected(Rejected {
                origin,
                reason,
                bytes,
            }));
        }
    }

    /// Finishes the open event, if there is one.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let kind = if open.cancelled {
            pb::order::Type::Cancelled
        } else {
            pb::order::Type::Paid
        };
        let order = pb::Order {
            r#type: kind as i32,
            order_id: open.order_id.clone(),
            ..open.order
        };
        let meta = pb::Meta {
            event_id: format!("{}@{}", open.order_id, open.first_row),
            source: self.mapping.source.clone(),
            shop_id: self.mapping.shop_id.clone(),
            occurred_at: Some(timestamp(open.at_ms)),
            ..Default::default()
        };
        let event = pb::Event {
            meta: Some(meta),
            body: Some(pb::event::Body::Order(order)),
        };
        self.ready.push_back(Item::Event {
            event: Box::new(event),
            origin: open.origin,
        });
    }

    /// The row, `None` where it is to be skipped, or why it is rejected.
    fn judge(&mut self) -> Result<Option<Row>, String> {
        let has = |(column, prefix): &(usize, String)| {
            self.record
                .get(*column)
                .is_some_and(|text| text.starts_with(prefix.as_bytes()))
        };
        if self.indices.skip_when.iter().any(has) {
            return Ok(None);
        }
        if self.record.len() != self.fields {
            return Err(format!(
                "{} fields; expected {} as in the header",
                self.record.len(),
                self.fields
            ));
        }
        let cancelled = self.indices.cancelled_when.as_ref().is_some_and(has);
        let at_ms = self.time()?;
        let columns = &self.mapping.columns;
        Ok(Some(Row {
            order_id: id(&self.record[self.indices.order_id], &columns.order_id)?.to_owned(),
            at_ms,
            cancelled,
            buyer: self.buyer(),
            region: match (self.indices.region, &columns.region) {
                (Some(index), Some(column)) => text(&self.record[index], column)?.to_owned(),
                _ => String::new(),
            },
            line: pb::OrderLine {
                sku_id: id(&self.record[self.indices.sku], &columns.sku)?.to_owned(),
                quantity: self.quantity(cancelled)?,
                pack_units: self.mapping.pack_units,
                unit_price: Some(self.unit_price()?),
                ..Default::default()
            },
        }))
    }

    fn time(&mut self) -> Result<i64, String> {
        let text = &self.record[self.indices.time];
        // Rows of one order stand together, so most times are the time of the row before.
        if text != self.last_time.0.as_slice() {
            let at_ms = parse_time(&self.mapping, text).ok_or_else(|| {
                format!(
                    "{} is {}; expected a time like {}",
                    self.mapping.columns.time,
                    shown(text),
                    self.mapping.time_format
                )
            })?;
            self.last_time = (text.to_vec(), at_ms);
        }
        Ok(self.last_time.1)
    }

    /// Counted upward: what a cancellation takes back is written with a minus in many exports.
    fn quantity(&self, cancelled: bool) -> Result<i64, String> {
        let text = &self.record[self.indices.quantity];
        let parsed: Option<i64> = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let quantity = if cancelled {
            parsed.and_then(i64::checked_abs)
        } else {
            parsed
        };
        quantity
            .filter(|quantity| (1..=QUANTITY_MAX).contains(quantity))
            .ok_or_else(|| {
                format!(
                    "{} is {}; expected a whole number from 1 to {QUANTITY_MAX}",
                    self.mapping.columns.quantity,
                    shown(text)
                )
            })
    }

    fn unit_price(&self) -> Result<pb::Money, String> {
        let text = &self.record[self.indices.unit_price];
        let minor_units = minor_units(text.trim_ascii(), self.exponent)
            .filter(|amount| (0..=COUNT_MAX).contains(amount))
            .ok_or_else(|| {
                format!(
                    "{} is {}; expected an amount of {} from 0 with up to {} decimals",
                    self.mapping.columns.unit_price,
                    shown(text),
                    self.mapping.currency,
                    self.exponent
                )
            })?;
        Ok(pb::Money {
            currency_code: self.mapping.currency.clone(),
            minor_units,
        })
    }

    /// A salted hash, since who bought is personal data; half of SHA-256 tells buyers apart.
    fn buyer(&self) -> String {
        use std::fmt::Write as _;
        let name = self
            .indices
            .buyer
            .map_or(&b""[..], |index| &self.record[index]);
        if name.is_empty() {
            return String::new();
        }
        let salt = self.mapping.buyer_salt.as_bytes();
        let digest = Sha256::new()
            .chain_update(salt)
            .chain_update([0])
            .chain_update(name);
        digest.finalize()[..16]
            .iter()
            .fold(String::with_capacity(32), |mut hex, byte| {
                // Writing into a string cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            })
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

/// The row as CSV again: the reader does not keep the original bytes.
fn quoted(record: &ByteRecord) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .flexible(true)
        .from_writer(Vec::new());
    // Writing into memory cannot fail.
    let _ = writer.write_byte_record(record);
    let mut bytes = writer.into_inner().unwrap_or_default();
    bytes.truncate(bytes.trim_ascii_end().len());
    bytes
}
