//! What columns a mapping may name, by what its file holds.
//!
//! Owns the list of fields, their names in a mapping and which of them have to be there. It must
//! never look at a file.

use fenghuo_event::{Stream, pb};

/// What the rows of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Lines of orders.
    Orders,
    /// Levels or movements of stock.
    Inventory,
    /// Steps of parcels.
    Couriers,
}

/// A column that a mapping may name. The key in a mapping is in [`Field::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is explained in the annotated mappings")]
pub enum Field {
    Time,
    Status,
    OrderId,
    Sku,
    Quantity,
    UnitPrice,
    ListPrice,
    Buyer,
    Region,
    Channel,
    Warehouse,
    PlacedAt,
    PaidAt,
    ShipBy,
    Location,
    OnHand,
    Available,
    Committed,
    Incoming,
    Reserved,
    SafetyStock,
    Damaged,
    QualityControl,
    Delta,
    ParcelId,
    Courier,
    Origin,
    Destination,
    ScanLocation,
    PromisedBy,
    RawText,
}

impl Field {
    /// How many there are: the last one's number and one.
    pub(crate) const COUNT: usize = Field::RawText as usize + 1;

    /// Its key below `columns`.
    pub const fn key(self) -> &'static str {
        match self {
            Field::Time => "time",
            Field::Status => "status",
            Field::OrderId => "order_id",
            Field::Sku => "sku",
            Field::Quantity => "quantity",
            Field::UnitPrice => "unit_price",
            Field::ListPrice => "list_price",
            Field::Buyer => "buyer",
            Field::Region => "region",
            Field::Channel => "channel",
            Field::Warehouse => "warehouse",
            Field::PlacedAt => "placed_at",
            Field::PaidAt => "paid_at",
            Field::ShipBy => "ship_by",
            Field::Location => "location",
            Field::OnHand => "on_hand",
            Field::Available => "available",
            Field::Committed => "committed",
            Field::Incoming => "incoming",
            Field::Reserved => "reserved",
            Field::SafetyStock => "safety_stock",
            Field::Damaged => "damaged",
            Field::QualityControl => "quality_control",
            Field::Delta => "delta",
            Field::ParcelId => "parcel_id",
            Field::Courier => "courier",
            Field::Origin => "origin",
            Field::Destination => "destination",
            Field::ScanLocation => "scan_location",
            Field::PromisedBy => "promised_by",
            Field::RawText => "raw_text",
        }
    }
}

use Field::*;

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Orders, Kind::Inventory, Kind::Couriers];

    /// What a mapping calls it, which is also the stream that its events go to.
    pub const fn name(self) -> &'static str {
        self.stream().topic()
    }

    /// The kind that a mapping calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The stream of its events.
    pub const fn stream(self) -> Stream {
        match self {
            Kind::Orders => Stream::Orders,
            Kind::Inventory => Stream::Inventory,
            Kind::Couriers => Stream::Couriers,
        }
    }

    /// Columns that its mappings must name.
    pub(crate) const fn required(self) -> &'static [Field] {
        match self {
            Kind::Orders => &[OrderId, Sku, Quantity, Time, UnitPrice],
            Kind::Inventory => &[Sku, Time],
            Kind::Couriers => &[ParcelId, Status, Time],
        }
    }

    /// Columns that its mappings may name.
    pub(crate) const fn optional(self) -> &'static [Field] {
        match self {
            Kind::Orders => &[
                Status, ListPrice, Buyer, Region, Channel, Warehouse, PlacedAt, PaidAt, ShipBy,
            ],
            Kind::Inventory => &[
                Status,
                Location,
                OnHand,
                Available,
                Committed,
                Incoming,
                Reserved,
                SafetyStock,
                Damaged,
                QualityControl,
                Delta,
            ],
            Kind::Couriers => &[
                Courier,
                OrderId,
                Warehouse,
                Origin,
                Destination,
                ScanLocation,
                PaidAt,
                PromisedBy,
                RawText,
            ],
        }
    }

    /// All columns that its mappings may name.
    pub(crate) fn fields(self) -> impl Iterator<Item = Field> {
        self.required().iter().chain(self.optional()).copied()
    }

    /// The field that its mappings call so.
    pub(crate) fn field(self, key: &str) -> Option<Field> {
        self.fields().find(|field| field.key() == key)
    }

    /// The columns that a row's event id comes from where the mapping does not say, of those that
    /// it names. The type of the event is always a part of it.
    pub(crate) const fn usual_id(self) -> &'static [Field] {
        match self {
            Kind::Orders => &[OrderId],
            Kind::Inventory => &[Sku, Location, Time],
            Kind::Couriers => &[ParcelId, Time],
        }
    }

    /// The number of an event type, by its name in the .proto.
    pub(crate) fn event_type(self, name: &str) -> Option<i32> {
        let number = match self {
            Kind::Orders => pb::order::Type::from_str_name(name)? as i32,
            Kind::Inventory => pb::inventory::Type::from_str_name(name)? as i32,
            Kind::Couriers => pb::courier::Status::from_str_name(name)? as i32,
        };
        (number != 0).then_some(number)
    }

    /// The names of all event types, in the order of the .proto.
    pub(crate) fn event_types(self) -> Vec<&'static str> {
        let name = |number: i32| match self {
            Kind::Orders => Some(pb::order::Type::try_from(number).ok()?.as_str_name()),
            Kind::Inventory => Some(pb::inventory::Type::try_from(number).ok()?.as_str_name()),
            Kind::Couriers => Some(pb::courier::Status::try_from(number).ok()?.as_str_name()),
        };
        (1..).map_while(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_leads_back_to_its_field() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
            for field in kind.fields() {
                assert_eq!(kind.field(field.key()), Some(field));
                assert!((field as usize) < Field::COUNT);
            }
            for name in kind.event_types() {
                assert!(kind.event_type(name).is_some(), "{name}");
            }
            for field in kind.usual_id() {
                assert!(kind.fields().any(|one| one == *field));
            }
        }
        assert_eq!(Kind::Orders.event_types().len(), 11);
        assert_eq!(Kind::Couriers.event_type("STATUS_UNSPECIFIED"), None);
    }
}
