//! What entities are named after: where their parts are in the events of a stream, and what must not
//! name any, because there is no end of it or because it is not the shop's.

use std::borrow::Cow;

use fenghuo_event::Stream;
use fenghuo_event::schema::{self, Mark};

use crate::kind::Kind;

/// Where the parts of an entity are in the events of a stream; a part of another name is the field
/// of that name. A custom event names all of them in its `entity`.
pub(super) fn path_of(stream: Stream, part: &str) -> Cow<'_, str> {
    if stream == Stream::Custom {
        return Cow::Owned(format!("entity.{part}"));
    }
    Cow::Borrowed(match (stream, part) {
        (Stream::Orders, "sku") => "line.sku_id",
        (Stream::Orders, "location" | "warehouse") => "line.warehouse_id",
        (Stream::Orders, "supplier") => "line.supplier_id",
        (Stream::Orders, "region") => "ship_region",
        (Stream::Couriers, "hub") => "scan_location_id",
        (Stream::Catalog, "supplier") => "primary_supplier_id",
        (_, "sku") => "sku_id",
        (_, "campaign") => "campaign_id",
        (_, "location") => "location_id",
        (_, "warehouse") => "warehouse_id",
        (_, "courier") => "courier_id",
        (_, "supplier") => "supplier_id",
        (_, "page") => "page_variant",
        _ => part,
    })
}

/// What is wrong with entities of `kind` that are named after what is at `paths`.
pub(super) fn mistakes<'p>(
    stream: Stream,
    kind: Kind,
    paths: impl Iterator<Item = &'p str>,
) -> Vec<String> {
    let name = kind.name();
    let mut found = Vec::new();
    // These are told by Fenghuo and find a place before all others.
    if stream == Stream::Custom && matches!(kind, Kind::SOURCE | Kind::COMPONENT) {
        found.push(format!(
            "by: {name:?} is a part of Fenghuo itself; expected another name, such as \
             {{ kind = \"device\", device = 'entity.{name}' }}"
        ));
    }
    for path in paths {
        let why = match schema::mark(stream, path) {
            Some(Mark::Hash) => "a hash of personal data",
            Some(Mark::Life) => "the id of one life",
            Some(Mark::FreeText) => "free text",
            Some(Mark::Plain) | None => continue,
        };
        found.push(format!(
            "by: {name} would be named after {path}, {why}, of which there is no end; count about \
             something bounded, such as \"campaign\" or \"sku\""
        ));
    }
    found
}
