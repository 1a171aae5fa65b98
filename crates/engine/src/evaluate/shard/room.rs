//! Who is let into a shard, and what became of those who were not.
//!
//! Owns the shares of the places. An entity keeps its place and the share that it came by; so the
//! same records lead to the same entities, over restarts too.

use std::collections::VecDeque;

use fenghuo_event::Stream;
use fenghuo_signal::catalogue::Origin;
use fenghuo_signal::{Catalogue, Entity, EntityRef, Fact, Kind};

use crate::record::CommitRecord;

/// Names of refused entities that are kept, to be shown.
const NAMES_MAX: usize = 8;

/// Characters of such a name.
const NAME_CHARS_MAX: usize = 60;

/// Points of the plans that one panes partition keeps at most: 12 MB. A plan beyond them is not
/// taken, and told.
pub const POINTS_MAX: usize = 500_000;

/// By what an entity comes, from the one with the most right to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// A sku that is in an order, or has a price floor; the shop, and its sources. Any place that
    /// is free.
    Sold,
    /// A sku of which only stock, a catalogue entry or a plan is told, and a sku's stock
    /// locations. With all others, two thirds of the places.
    Told,
    /// Campaigns, channels, warehouses, couriers, lanes. A third of the places.
    Other,
}

impl Claim {
    /// As it is written down. Rows of builds that knew no claims have none.
    pub(crate) fn number(self) -> u32 {
        self as u32
    }

    /// As it was written down.
    pub(crate) fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Told,
            2 => Self::Other,
            _ => Self::Sold,
        }
    }

    /// What an entity may claim by its kind alone.
    pub(crate) fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::SHOP | Kind::SOURCE => Self::Sold,
            Kind::SKU | Kind::SKU_LOCATION => Self::Told,
            _ => Self::Other,
        }
    }

    /// What each entity of a commit may claim, by what the commit says of it.
    pub(crate) fn all(
        commit: &CommitRecord,
        entities: &[Option<EntityRef<'_>>],
        catalogue: &Catalogue,
    ) -> Vec<Self> {
        let mut claims: Vec<Self> = entities
            .iter()
            .map(|entity| entity.map_or(Self::Other, |entity| Self::of_kind(entity.kind)))
            .collect();
        let is_ordered = |id: u32| {
            let series = catalogue.series_by_id(id).map(|series| series.number);
            let mut measures = catalogue.measures().iter();
            measures.any(|measure| {
                Some(measure.series) == series && measure.origin == Origin::Stream(Stream::Orders)
            })
        };
        let sold = commit.rows.iter().filter(|rows| is_ordered(rows.id));
        let sold = sold.flat_map(|rows| rows.entities.iter().copied());
        let priced = commit.facts.iter();
        let priced = priced
            .filter(|row| {
                matches!(&row.fact, Some(Fact::Catalog(told)) if told.price_floor_minor.is_some())
            })
            .map(|row| row.entity);
        for entity in sold.chain(priced) {
            if let Some(claim) = claims.get_mut(entity as usize)
                && *claim == Self::Told
            {
                *claim = Self::Sold;
            }
        }
        claims
    }
}

/// The places of a shard.
#[derive(Debug)]
pub(crate) struct Room {
    max: usize,
    /// Places that are taken.
    pub(crate) taken: usize,
    told: usize,
    other: usize,
    /// Times that something about an entity without a place was dropped.
    pub(crate) refused: u64,
    /// Plans for which there was no room.
    pub(crate) plans_refused: u64,
    /// The last few of both, by name.
    names: VecDeque<String>,
}

impl Room {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            taken: 0,
            told: 0,
            other: 0,
            refused: 0,
            plans_refused: 0,
            names: VecDeque::new(),
        }
    }

    /// Gives an entity its places, where there are so many for its claim.
    pub(crate) fn take(&mut self, entity: &Entity, claim: Claim, places: usize) -> bool {
        let third = self.max / 3;
        let (told, other) = (self.told + places, self.other + places);
        let has_share = match claim {
            Claim::Sold => true,
            Claim::Told => told + self.other <= self.max - third,
            Claim::Other => other <= third && other + self.told <= self.max - third,
        };
        let is_free = has_share && self.taken + places <= self.max;
        if !is_free {
            self.refused += 1;
            self.note(entity);
            return false;
        }
        self.give(claim, places);
        true
    }

    /// Places that were given in an earlier life, whatever the shares are now.
    pub(crate) fn keep(&mut self, entity: &Entity, claim: Claim, places: usize) -> bool {
        if self.taken + places > self.max {
            self.refused += 1;
            self.note(entity);
            return false;
        }
        self.give(claim, places);
        true
    }

    fn give(&mut self, claim: Claim, places: usize) {
        self.taken += places;
        match claim {
            Claim::Sold => {}
            Claim::Told => self.told += places,
            Claim::Other => self.other += places,
        }
    }

    pub(crate) fn refuse_plan(&mut self, entity: &Entity) {
        self.plans_refused += 1;
        self.note(entity);
    }

    /// Keeps a name without what would upset a terminal or a page.
    fn note(&mut self, entity: &Entity) {
        let name = fenghuo_signal::shown(&entity.to_string(), NAME_CHARS_MAX);
        if self.names.contains(&name) {
            return;
        }
        if self.names.len() == NAMES_MAX {
            self.names.pop_front();
        }
        self.names.push_back(name);
    }

    /// The last few for whom there was no room.
    pub(crate) fn names(&self) -> Vec<String> {
        self.names.iter().cloned().collect()
    }
}
