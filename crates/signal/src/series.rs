//! Every series that signals read: its fields and how long it is kept.
//!
//! Ids are written into the log: add at the end, never reuse.

use fenghuo_window::{Merge, Series, Shape, Tier};

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What was sold: paid orders, by campaign, sku and channel.
pub static SALES: Series = Series {
    id: 1,
    name: "sales",
    shape: Shape::Panes(&[
        Tier {
            width_ms: 10 * SECOND_MS,
            keep_ms: 10 * MINUTE_MS,
        },
        Tier {
            width_ms: MINUTE_MS,
            keep_ms: 3 * HOUR_MS,
        },
        Tier {
            width_ms: HOUR_MS,
            keep_ms: 15 * DAY_MS,
        },
    ]),
    fields: &[
        ("orders", Merge::Sum),
        ("units", Merge::Sum),
        ("revenue_minor", Merge::Sum),
    ],
};

/// Totals since the log began, by campaign, sku, channel and shop. Cancellations are counted
/// apart and change nothing else.
pub static TOTALS: Series = Series {
    id: 2,
    name: "totals",
    shape: Shape::Level,
    fields: &[
        ("orders", Merge::Sum),
        ("units", Merge::Sum),
        ("revenue_minor", Merge::Sum),
        ("cancelled_orders", Merge::Sum),
        ("cancelled_units", Merge::Sum),
        ("cancelled_revenue_minor", Merge::Sum),
        ("placed_orders", Merge::Sum),
        ("last_paid_ms", Merge::Max),
    ],
};

/// Units paid and neither consigned nor cancelled, by sku and by sku and location: in base units
/// where the line says how many a pack has, else in packs.
pub static COMMITTED: Series = Series {
    id: 3,
    name: "committed",
    shape: Shape::Level,
    fields: &[("base_units", Merge::Sum), ("packs", Merge::Sum)],
};

/// Stock of a sku at a location, in base units, as the shop's inventory last told it.
pub static STOCK: Series = Series {
    id: 4,
    name: "stock",
    shape: Shape::Register {
        total: STOCK_TOTAL.id,
    },
    fields: STOCK_FIELDS,
};

/// Stock of a sku over all locations.
pub static STOCK_TOTAL: Series = Series {
    id: 5,
    name: "stock_total",
    shape: Shape::Level,
    fields: STOCK_FIELDS,
};

const STOCK_FIELDS: &[(&str, Merge)] = &[
    ("on_hand", Merge::Sum),
    ("reserved", Merge::Sum),
    ("safety", Merge::Sum),
    ("damaged", Merge::Sum),
    ("quality_control", Merge::Sum),
    ("incoming", Merge::Sum),
];

/// The lowest prices of placed and paid lines of a sku.
pub static PRICE: Series = Series {
    id: 6,
    name: "price",
    shape: Shape::Panes(&[Tier {
        width_ms: 10 * SECOND_MS,
        keep_ms: 15 * MINUTE_MS,
    }]),
    fields: &[
        // Price ÷ units in the pack, in millionths of a minor unit, rounded down: a whole number
        // of minor units is undercut by the one exactly when it is undercut by the other.
        ("base_unit_price_micros", Merge::Min),
        // For lines that do not say how many units a pack has.
        ("pack_price_minor", Merge::Min),
        ("lines", Merge::Sum),
    ],
};

/// Upper ends, in hours, of the ages at which first scans are counted.
pub const SCAN_AGES_HOURS: [i64; 10] = [1, 2, 3, 4, 6, 8, 12, 24, 48, 72];

/// Parcels by the hour in which their label was made: how many, and how soon each was scanned.
pub static FIRST_SCAN: Series = Series {
    id: 7,
    name: "first_scan",
    shape: Shape::Cohorts(&[Tier {
        width_ms: HOUR_MS,
        keep_ms: 10 * DAY_MS,
    }]),
    fields: &[
        // Labels made, less cancelled ones.
        ("labelled", Merge::Sum),
        ("within_1h", Merge::Sum),
        ("within_2h", Merge::Sum),
        ("within_3h", Merge::Sum),
        ("within_4h", Merge::Sum),
        ("within_6h", Merge::Sum),
        ("within_8h", Merge::Sum),
        ("within_12h", Merge::Sum),
        ("within_24h", Merge::Sum),
        ("within_48h", Merge::Sum),
        ("within_72h", Merge::Sum),
    ],
};

/// How far ahead a promise may lie to be counted.
pub const PROMISE_AHEAD_MS_MAX: i64 = 40 * DAY_MS;

/// Parcels by the hour for which they were promised: how many, and how many came in time.
pub static PROMISES: Series = Series {
    id: 8,
    name: "promises",
    shape: Shape::Cohorts(&[Tier {
        width_ms: HOUR_MS,
        keep_ms: 45 * DAY_MS,
    }]),
    fields: &[("promised", Merge::Sum), ("met", Merge::Sum)],
};

/// Reviews of a sku.
pub static REVIEWS: Series = Series {
    id: 9,
    name: "reviews",
    shape: Shape::Panes(&[
        Tier {
            width_ms: 10 * MINUTE_MS,
            keep_ms: 26 * HOUR_MS,
        },
        Tier {
            width_ms: HOUR_MS,
            keep_ms: 30 * DAY_MS,
        },
    ]),
    fields: &[("reviews", Merge::Sum), ("negative", Merge::Sum)],
};

/// Events that came from a source.
pub static ARRIVALS: Series = Series {
    id: 10,
    name: "arrivals",
    shape: Shape::Panes(&[
        Tier {
            width_ms: 10 * SECOND_MS,
            keep_ms: 20 * MINUTE_MS,
        },
        Tier {
            width_ms: HOUR_MS,
            keep_ms: 9 * DAY_MS,
        },
    ]),
    fields: &[("events", Merge::Sum)],
};

/// Records of a source that were gone before they were read, by the time this was found out.
pub static LOST: Series = Series {
    id: 12,
    name: "lost",
    shape: Shape::Panes(&[Tier {
        width_ms: MINUTE_MS,
        keep_ms: 2 * HOUR_MS,
    }]),
    fields: &[("records", Merge::Sum)],
};

/// What a source has sent since the log began.
pub static ARRIVED: Series = Series {
    id: 11,
    name: "arrived",
    shape: Shape::Level,
    fields: &[
        ("events", Merge::Sum),
        ("first_ms", Merge::Min),
        ("last_ms", Merge::Max),
    ],
};

/// Every series, by id less one.
pub static ALL: [&Series; 12] = [
    &SALES,
    &TOTALS,
    &COMMITTED,
    &STOCK,
    &STOCK_TOTAL,
    &PRICE,
    &FIRST_SCAN,
    &PROMISES,
    &REVIEWS,
    &ARRIVALS,
    &ARRIVED,
    &LOST,
];

/// The series with this id.
pub fn by_id(id: u32) -> Option<&'static Series> {
    let series = ALL.get((id as usize).checked_sub(1)?).copied()?;
    debug_assert_eq!(u32::from(series.id), id, "ALL is in the order of the ids");
    Some(series)
}
