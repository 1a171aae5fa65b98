//! The troubles that a simulated sale can have, and when each begins.
//!
//! Owns their description. What they do to the shop's events is in `life` and `events`; how soon
//! somebody notices is not this crate's business.

use crate::ShopConfig;
use crate::assortment::{COURIERS, WAREHOUSES};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// A sku's price is entered without its last digit, and word gets around.
    MistypedPrice {
        /// Rank of the sku, the best seller being 0.
        sku: usize,
    },
    /// A count finds that most of a sku's stock is not there, while the shop sells on.
    StockOut {
        /// Rank of the sku, the best seller being 0.
        sku: usize,
    },
    /// A courier gets labels at one warehouse but scans nothing there any more.
    CourierStopped {
        /// Number of the warehouse.
        warehouse: usize,
        /// Number of the courier.
        courier: usize,
    },
    /// Orders are placed, but no payment succeeds.
    DeadCheckout,
}

/// One trouble of a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What goes wrong.
    pub kind: TroubleKind,
    /// From when, Unix ms: what the delay until a page is counted from.
    pub start_ms: i64,
    /// Until when, Unix ms. A stock-out is not mended.
    pub end_ms: i64,
}

impl Trouble {
    /// The four troubles of the demo: a courier that stopped on the morning of the sale, and
    /// during the flash a mistyped price, a stock-out and a dead checkout.
    pub fn demo(config: &ShopConfig) -> Vec<Trouble> {
        let flash_ms = config.flash_ms;
        let last = config.skus.saturating_sub(1);
        vec![
            Trouble {
                kind: TroubleKind::CourierStopped {
                    warehouse: 0,
                    courier: 1,
                },
                start_ms: flash_ms - 11 * HOUR_MS,
                end_ms: config.end_ms,
            },
            Trouble {
                kind: TroubleKind::MistypedPrice { sku: 5.min(last) },
                start_ms: flash_ms + 2 * MINUTE_MS,
                end_ms: flash_ms + 7 * MINUTE_MS,
            },
            Trouble {
                kind: TroubleKind::StockOut { sku: 1.min(last) },
                start_ms: flash_ms + 4 * MINUTE_MS,
                end_ms: config.end_ms,
            },
            Trouble {
                kind: TroubleKind::DeadCheckout,
                start_ms: flash_ms + 5 * MINUTE_MS,
                end_ms: flash_ms + 8 * MINUTE_MS,
            },
        ]
    }

    /// For a person: what goes wrong.
    pub fn name(&self) -> &'static str {
        match self.kind {
            TroubleKind::MistypedPrice { .. } => "mistyped price",
            TroubleKind::StockOut { .. } => "stock-out",
            TroubleKind::CourierStopped { .. } => "courier stopped scanning",
            TroubleKind::DeadCheckout => "dead checkout",
        }
    }

    /// What it befalls, as the text form of an entity.
    pub fn target(&self, config: &ShopConfig) -> String {
        match self.kind {
            TroubleKind::MistypedPrice { sku } | TroubleKind::StockOut { sku } => {
                format!("sku={}", crate::assortment::sku_id(sku))
            }
            TroubleKind::CourierStopped { warehouse, courier } => {
                let warehouse = WAREHOUSES.get(warehouse).map_or("none", |(id, _)| id);
                let courier = COURIERS.get(courier).unwrap_or(&"none");
                format!("warehouse={warehouse},courier={courier}")
            }
            TroubleKind::DeadCheckout => format!("campaign={}", config.campaign_id),
        }
    }

    /// Whether it lasts at this time.
    pub(crate) fn covers(&self, at_ms: i64) -> bool {
        (self.start_ms..self.end_ms).contains(&at_ms)
    }
}
