//! What lies in the warehouses of the simulated shop.

use fenghuo_event::pb;

/// A sku at a warehouse, in base units.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stock {
    pub(crate) on_hand: i64,
    pub(crate) committed: i64,
    pub(crate) safety_stock: i64,
}

impl Stock {
    /// As events tell it.
    pub(crate) fn levels(&self) -> pb::InventoryLevels {
        pb::InventoryLevels {
            available: self.on_hand - self.committed - self.safety_stock,
            on_hand: self.on_hand,
            committed: self.committed,
            safety_stock: self.safety_stock,
            ..Default::default()
        }
    }

    /// Units leave.
    pub(crate) fn ship(&mut self, units: i64) {
        // After a count that found too little, more is promised than there is.
        self.on_hand = (self.on_hand - units).max(0);
        self.committed -= units;
    }
}
