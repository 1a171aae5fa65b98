//! How many panes a shard may hold. A sku that is sold in every pane of 15 days has some 600, others
//! a dozen, so entities are counted by one limit and panes by another.
//!
//! Owns what is cut where there are too many: the oldest panes of the entity that grows, so that it
//! holds no more than before. A window that reaches behind them is unknown; the newest panes, by which
//! deterministic signals are judged, always stay. All of it follows from the records of one segment,
//! which is written down as of one offset, so a restart and a replay cut the same panes.

use fenghuo_signal::Kind;
use fenghuo_window::{Series, Values};

use super::{Entry, Shard};
use crate::evaluate::checkpoint::SEGMENTS;

/// Bytes of the panes of one measure of an entity that are its own: ten minutes of panes of 10 s.
const OWN_BYTES: usize = 512;

/// Bytes of panes beyond those that are each entity's own.
#[derive(Clone, Copy, Default)]
pub(super) struct Held {
    skus: usize,
    /// Campaigns, channels, lanes …: skus, of which there are most, cannot take their share.
    others: usize,
}

impl Held {
    /// Those of a kind, and the most that they may be, of a partition that may hold `bytes_max`;
    /// `None` where there is no limit: of the shop and its sources there are few.
    fn of(&mut self, kind: Kind, bytes_max: usize) -> Option<(&mut usize, usize)> {
        let segment = bytes_max / SEGMENTS;
        match kind {
            Kind::SHOP | Kind::SOURCE => None,
            Kind::SKU | Kind::SKU_LOCATION => Some((&mut self.skus, segment - segment / 4)),
            _ => Some((&mut self.others, segment / 4)),
        }
    }
}

fn beyond_own(entry: &Entry, series: &Series) -> usize {
    entry.history.bytes(series).saturating_sub(OWN_BYTES)
}

impl Shard {
    /// Counts what was told of an entity, at `at_ms`. Of a register, returns by how much each field
    /// changed.
    pub(super) fn count(
        &mut self,
        id: u32,
        series: &Series,
        start_ms: i64,
        values: &[i64],
        at_ms: i64,
    ) -> Option<Values> {
        let entry = &mut self.entries[id as usize];
        let before = beyond_own(entry, series);
        entry.history.make_room(series, start_ms, at_ms);
        let change = entry.history.merge(series, start_ms, values);
        let mut after = beyond_own(entry, series);
        if after == before {
            return change;
        }
        let held = &mut self.segments[entry.segment].held;
        let held = held.of(entry.entity.kind, self.config.panes_bytes_max);
        let Some((held, held_max)) = held else {
            return change;
        };
        if after > before && held.saturating_sub(before) + after > held_max {
            self.panes_cut += entry.history.cut(series, before + OWN_BYTES);
            after = beyond_own(entry, series);
        }
        *held = held.saturating_sub(before) + after;
        change
    }

    /// Takes into account what was loaded of an entry.
    pub(super) fn hold(&mut self, id: u32, series: &Series) {
        let entry = &self.entries[id as usize];
        let held = &mut self.segments[entry.segment].held;
        if let Some((held, _)) = held.of(entry.entity.kind, self.config.panes_bytes_max) {
            *held += beyond_own(entry, series);
        }
    }

    /// Bytes of panes beyond those that are each entity's own.
    pub(crate) fn panes_bytes(&self) -> usize {
        let held = self.segments.iter().map(|segment| segment.held);
        held.map(|held| held.skus + held.others).sum()
    }
}
