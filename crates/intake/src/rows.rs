//! One row of a CSV as the event that it says, or the line of one.
//!
//! Owns the rules by which a row is taken, skipped or rejected. It must never mend a value: ids
//! are kept as written, a price that minor units cannot hold is rejected, and only the columns
//! that the mapping uses are looked at, so that another encoding in the rest does no harm.

mod refused;
mod values;

use std::borrow::Cow;
use std::sync::Arc;

use csv::ByteRecord;
use fenghuo_event::pb::{self, event::Body};

use crate::csv_columns::Indices;
use crate::money::currency_exponent;
use crate::{Encoding, Field, Kind, Mapping};
use values::{hash_of, parse_time};

pub(crate) use refused::broken;
pub(crate) use values::timestamp;

/// A row that was taken.
pub(crate) struct Row {
    pub(crate) at_ms: i64,
    /// The number of the event's type.
    pub(crate) event_type: i32,
    /// The event; an order has one line.
    pub(crate) body: Body,
}

/// Reads the rows of one file.
pub(crate) struct RowReader {
    mapping: Arc<Mapping>,
    indices: Indices,
    encoding: Encoding,
    fields: usize,
    exponent: u32,
    last_time: (Vec<u8>, i64),
}

impl RowReader {
    /// For a file whose header has `fields` columns.
    pub(crate) fn new(
        mapping: Arc<Mapping>,
        indices: Indices,
        encoding: Encoding,
        fields: usize,
    ) -> Self {
        Self {
            exponent: currency_exponent(&mapping.currency),
            mapping,
            indices,
            encoding,
            fields,
            last_time: (Vec::new(), 0),
        }
    }

    /// The row, `None` where it is to be skipped, or why it is rejected.
    pub(crate) fn read(&mut self, record: &ByteRecord) -> Result<Option<Row>, String> {
        let has = |(column, prefix): &(usize, String)| {
            let field = record.get(*column).unwrap_or_default();
            match self.encoding.text(field) {
                Some(text) => text.starts_with(prefix.as_str()),
                None => false,
            }
        };
        if self.indices.skip_when.iter().any(has) {
            return Ok(None);
        }
        if record.len() != self.fields {
            return Err(format!(
                "{} fields; expected {} as in the header",
                record.len(),
                self.fields
            ));
        }
        let cancelled = self.indices.cancelled_when.as_ref().is_some_and(has);
        let Some(event_type) = self.event_type(record, cancelled)? else {
            return Ok(None);
        };
        let at_ms = self.time(record, event_type)?;
        let body = match self.mapping.kind {
            Kind::Orders => Body::Order(self.order(record, event_type)?),
            Kind::Inventory => Body::Inventory(self.inventory(record, event_type)?),
            Kind::Couriers => Body::Courier(self.courier(record, event_type)?),
        };
        Ok(Some(Row {
            at_ms,
            event_type,
            body,
        }))
    }

    /// The text of the columns that a row's id comes from, each as written.
    pub(crate) fn id<'r>(&self, record: &'r ByteRecord) -> Result<Vec<Cow<'r, str>>, String> {
        let fields = self.mapping.id.iter();
        fields.map(|field| self.text(record, *field)).collect()
    }

    /// The number of the type, or `None` for a row that is passed over.
    fn event_type(&self, record: &ByteRecord, cancelled: bool) -> Result<Option<i32>, String> {
        if self.indices.get(Field::Status).is_none() {
            return Ok(Some(match self.mapping.kind {
                Kind::Orders if cancelled => pb::order::Type::Cancelled as i32,
                Kind::Orders => pb::order::Type::Paid as i32,
                // The mapping is refused where a parcel list has no status.
                Kind::Inventory | Kind::Couriers => pb::inventory::Type::Snapshot as i32,
            }));
        }
        let word = self.text(record, Field::Status)?;
        let statuses = &self.mapping.statuses;
        statuses.get(word.trim()).copied().ok_or_else(|| {
            let known: Vec<&str> = statuses.keys().take(20).map(String::as_str).collect();
            let column = self.mapping.column(Field::Status).unwrap_or_default();
            let index = self.indices.get(Field::Status);
            let found = self.found(index, self.bytes(record, Field::Status));
            format!("{column} is {found}; expected one of {}", known.join(", "))
        })
    }

    fn order(&self, record: &ByteRecord, event_type: i32) -> Result<pb::Order, String> {
        use pb::order::Type;
        // What an order takes back is written with a minus in many exports.
        let is_back = [
            Type::Cancelled,
            Type::RefundRequested,
            Type::Refunded,
            Type::GroupFailed,
        ]
        .map(|back| back as i32)
        .contains(&event_type);
        let line = pb::OrderLine {
            sku_id: self.id_of(record, Field::Sku)?,
            quantity: self.quantity(record, is_back)?,
            pack_units: self.mapping.pack_units,
            unit_price: Some(self.money(record, Field::UnitPrice)?),
            list_price: match self.is_given(record, Field::ListPrice) {
                true => Some(self.money(record, Field::ListPrice)?),
                false => None,
            },
            warehouse_id: self.optional(record, Field::Warehouse)?,
            ..Default::default()
        };
        Ok(pb::Order {
            r#type: event_type,
            order_id: self.id_of(record, Field::OrderId)?,
            campaign_id: self.mapping.campaign_id.clone(),
            channel: self.optional(record, Field::Channel)?,
            buyer_id_hash: self.buyer(record),
            ship_region: self.optional(record, Field::Region)?,
            lines: vec![line],
            placed_at: self.optional_time(record, Field::PlacedAt)?,
            paid_at: self.optional_time(record, Field::PaidAt)?,
            ship_by: self.optional_time(record, Field::ShipBy)?,
            ..Default::default()
        })
    }

    fn inventory(&self, record: &ByteRecord, event_type: i32) -> Result<pb::Inventory, String> {
        let is_snapshot = event_type == pb::inventory::Type::Snapshot as i32;
        let levels = match is_snapshot {
            false => None,
            true => Some(pb::InventoryLevels {
                on_hand: self.count(record, Field::OnHand)?,
                available: self.optional_count(record, Field::Available)?,
                committed: self.optional_count(record, Field::Committed)?,
                incoming: self.optional_count(record, Field::Incoming)?,
                reserved: self.optional_count(record, Field::Reserved)?,
                safety_stock: self.optional_count(record, Field::SafetyStock)?,
                damaged: self.optional_count(record, Field::Damaged)?,
                quality_control: self.optional_count(record, Field::QualityControl)?,
            }),
        };
        Ok(pb::Inventory {
            r#type: event_type,
            sku_id: self.id_of(record, Field::Sku)?,
            location_id: self.optional(record, Field::Location)?,
            delta: match is_snapshot {
                true => 0,
                false => self.count(record, Field::Delta)?,
            },
            levels,
            ..Default::default()
        })
    }

    fn courier(&self, record: &ByteRecord, event_type: i32) -> Result<pb::Courier, String> {
        let order_id = self.optional(record, Field::OrderId)?;
        Ok(pb::Courier {
            status: event_type,
            parcel_id: self.id_of(record, Field::ParcelId)?,
            courier_id: self.optional(record, Field::Courier)?,
            order_ids: match order_id.is_empty() {
                true => Vec::new(),
                false => vec![order_id],
            },
            warehouse_id: self.optional(record, Field::Warehouse)?,
            origin_region: self.optional(record, Field::Origin)?,
            dest_region: self.optional(record, Field::Destination)?,
            scan_location_id: self.optional(record, Field::ScanLocation)?,
            raw_text: self.optional(record, Field::RawText)?,
            campaign_id: self.mapping.campaign_id.clone(),
            promised_by: self.optional_time(record, Field::PromisedBy)?,
            paid_at: self.optional_time(record, Field::PaidAt)?,
            ..Default::default()
        })
    }

    /// When it happened: in the column of its type where there is one and it is filled.
    fn time(&mut self, record: &ByteRecord, event_type: i32) -> Result<i64, String> {
        let of_type = self.indices.time_of.iter();
        let mut of_type = of_type.filter(|(number, _)| *number == event_type);
        let of_type = of_type.next().map(|(_, index)| *index);
        let filled = of_type.filter(|index| !record[*index].trim_ascii().is_empty());
        let index = filled.or_else(|| self.indices.get(Field::Time));
        let text = index.map_or(&b""[..], |index| &record[index]);
        // Rows of one order stand together, so most times are the time of the row before.
        if text != self.last_time.0.as_slice() || text.is_empty() {
            let at_ms = parse_time(&self.mapping, text).ok_or_else(|| {
                let of_type = self.mapping.time_of.iter();
                let mut of_type = of_type.filter(|(number, _)| *number == event_type);
                let column = match filled.and_then(|_| of_type.next()) {
                    Some((_, column)) => column,
                    None => self.mapping.column(Field::Time).unwrap_or_default(),
                };
                self.no_time(column, index, text)
            })?;
            self.last_time = (text.to_vec(), at_ms);
        }
        Ok(self.last_time.1)
    }

    fn no_time(&self, column: &str, index: Option<usize>, text: &[u8]) -> String {
        format!(
            "{column} is {}; expected a time like {}",
            self.found(index, text),
            self.mapping.time_format
        )
    }

    fn optional_time(
        &self,
        record: &ByteRecord,
        field: Field,
    ) -> Result<Option<prost_types::Timestamp>, String> {
        let text = self.bytes(record, field);
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        let at_ms = parse_time(&self.mapping, text).ok_or_else(|| {
            let column = self.mapping.column(field).unwrap_or_default();
            self.no_time(column, self.indices.get(field), text)
        })?;
        Ok(Some(timestamp(at_ms)))
    }

    /// A salted hash, since who bought is personal data; half of SHA-256 tells buyers apart.
    fn buyer(&self, record: &ByteRecord) -> String {
        let name = self.bytes(record, Field::Buyer);
        if name.is_empty() {
            return String::new();
        }
        // The same buyer in two encodings is one.
        let name = match self.encoding.text(name) {
            Some(text) => Cow::Owned(text.as_bytes().to_vec()),
            None => Cow::Borrowed(name),
        };
        hash_of(&self.mapping.buyer_salt, &name)
    }

    fn bytes<'r>(&self, record: &'r ByteRecord, field: Field) -> &'r [u8] {
        let index = self.indices.get(field);
        index
            .and_then(|index| record.get(index))
            .unwrap_or_default()
    }

    fn is_given(&self, record: &ByteRecord, field: Field) -> bool {
        !self.bytes(record, field).trim_ascii().is_empty()
    }
}
