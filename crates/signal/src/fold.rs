//! From an event to deltas: what every domain's fold writes into.

use fenghuo_event::{Body, Event};
use fenghuo_window::{Combiner, Series, Shape};

use crate::entity::{Entity, EntityRef, Kind};
use crate::fact::{self, Fact};
use crate::{feedback, parcel, price, sales, stock};

impl From<EntityRef<'_>> for Entity {
    fn from(entity: EntityRef<'_>) -> Self {
        entity.to_owned()
    }
}

impl hashbrown::Equivalent<Entity> for EntityRef<'_> {
    fn equivalent(&self, other: &Entity) -> bool {
        self.kind == other.kind
            && same(self.first, &other.first)
            && same(self.second, &other.second)
    }
}

/// Whether two names are equal. Most second names are empty, and an empty one may point nowhere:
/// the C library's vectorised `memcmp` loads from there all the same, under an empty mask, which
/// some processors answer with a microcode assist of some hundred cycles.
#[inline]
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

/// Where an event's deltas go.
pub struct Fold<'a> {
    /// The cells of this batch.
    pub cells: &'a mut Combiner<Entity>,
    /// The facts of this batch, in the order they came.
    pub facts: &'a mut Vec<(Entity, Fact)>,
    /// The event came too late for its pane: only levels, cohorts and registers take it.
    pub late: bool,
}

impl Fold<'_> {
    /// The cell of an entity at `at_ms`, or `None` where the event came too late for it.
    pub(crate) fn cell(
        &mut self,
        series: &'static Series,
        entity: EntityRef<'_>,
        at_ms: i64,
    ) -> Option<&mut [i64]> {
        if self.late && matches!(series.shape, Shape::Panes(_)) {
            return None;
        }
        Some(self.cells.cell(series, entity, at_ms))
    }

    /// Adds to the leading fields of a cell; all of them sums.
    pub(crate) fn add(
        &mut self,
        series: &'static Series,
        entity: EntityRef<'_>,
        at_ms: i64,
        values: &[i64],
    ) {
        if let Some(cell) = self.cell(series, entity, at_ms) {
            for (into, value) in cell.iter_mut().zip(values) {
                *into = into.wrapping_add(*value);
            }
        }
    }
}

/// An entity with one name, borrowed.
pub(crate) fn one(kind: Kind, first: &str) -> EntityRef<'_> {
    EntityRef {
        kind,
        first,
        second: "",
    }
}

/// An entity with two names, borrowed.
pub(crate) fn pair<'a>(kind: Kind, first: &'a str, second: &'a str) -> EntityRef<'a> {
    EntityRef {
        kind,
        first,
        second,
    }
}

/// Folds an event. `tracker` is the life that the event is about, as [`tracker_key`] names it:
/// what was kept of it before, and on return what to keep.
pub fn fold(event: &Event<'_>, tracker: &mut Option<parcel::Parcel>, out: &mut Fold<'_>) {
    let at_ms = event.meta.occurred_at.map_or(0, |at| at.0);
    match &event.body {
        Body::Order(order) => {
            // Sales touch entities beside the skus and come last: the combiner is quickest while
            // it stays with one entity.
            price::fold(order, at_ms, out);
            stock::fold_order(order, out);
            sales::fold(order, at_ms, out);
        }
        Body::Inventory(inventory) => stock::fold_inventory(inventory, out),
        Body::Courier(courier) => parcel::fold(courier, at_ms, tracker, out),
        Body::Feedback(feedback) => feedback::fold(feedback, at_ms, out),
        Body::Catalog(catalog) => out.facts.extend(fact::of_catalog(catalog)),
        Body::Plan(plan) => fact::of_plan(plan, &mut |entity, fact| out.facts.push((entity, fact))),
        // No signal reads these yet; they count as arrivals of their source.
        Body::Visit(_) | Body::Supplier(_) | Body::Ops(_) => {}
    }
}

/// The life that an event is about, where it is of a kind that is tracked.
pub fn tracker_key<'a>(event: &'a Event<'_>) -> Option<&'a str> {
    match &event.body {
        Body::Courier(courier) => Some(&courier.parcel_id),
        _ => None,
    }
}
