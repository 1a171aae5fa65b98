//! The program of a catalogue: from an event to the cells that it changes.
//!
//! For each stream and each type of its events the compiler makes a list of work: which measures
//! count, about which entities, and what is added to each column. What the type decides is decided
//! there; what is left is done here, for every event. This is the hottest code of ingest.

use std::borrow::Cow;
use std::convert::Infallible;

use fenghuo_event::schema::{self, Scope};
use fenghuo_event::{Body, Event, Stream};
use fenghuo_window::{Combiner, Merge, Series};
use hashbrown::HashSet;
use smallvec::SmallVec;

use crate::entity::{Entity, EntityRef};
use crate::expression::{Condition, EventLeaves, Leaves, Phrase, Quantity};
use crate::fact::{self, Fact};
use crate::kind::Kind;
use crate::life::{Change, LifeLeaves, parcel};

/// Elements of an event up to which equal names are looked for by looking back; beyond, by a set.
const ELEMENTS_FEW: usize = 16;

/// Entities that a column of a measure has counted in this event, where it has many elements.
type Seen<'s> = HashSet<(u16, usize, [Cow<'s, str>; 2]), foldhash::fast::FixedState>;

/// Where an event's deltas go.
pub struct Fold<'a> {
    /// The cells of this batch.
    pub cells: &'a mut Combiner<Entity>,
    /// The facts of this batch, in the order they came.
    pub facts: &'a mut Vec<(Entity, Fact)>,
    /// The event came too late for its pane: only levels, cohorts and registers take it.
    pub late: bool,
}

/// What a catalogue counts of events.
#[derive(Debug, Default)]
pub struct Program {
    /// By stream.
    pub(crate) events: Vec<ByType<EventLeaves>>,
    /// Of the changes of parcels.
    pub(crate) parcel: ByType<LifeLeaves>,
    /// What is counted of every message that is taken.
    pub(crate) arrivals: Vec<Arrivals>,
    /// What is counted of records that were lost.
    pub(crate) lost: Vec<Series>,
}

/// A measure of arrivals.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    pub(crate) series: Series,
    pub(crate) columns: Vec<Arrived>,
}

/// A column of a measure of arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    Events,
    At,
}

/// The work of one stream or life, by the number of the event's type.
#[derive(Debug)]
pub(crate) struct ByType<L: Leaves> {
    pub(crate) work: Vec<Work<L>>,
}

impl<L: Leaves> Default for ByType<L> {
    fn default() -> Self {
        Self { work: Vec::new() }
    }
}

/// The work of one type of event.
#[derive(Debug)]
pub(crate) struct Work<L: Leaves> {
    pub(crate) measures: Vec<Counted<L>>,
    /// Kinds of entity that the whole event is about.
    pub(crate) whole: Vec<Group<L>>,
    /// Kinds of entity that one element of it is about, such as the sku of a line.
    pub(crate) by_element: Vec<Group<L>>,
    /// Numbers in all cells of the measures.
    pub(crate) width: usize,
    /// The list whose elements are gone through, such as `lines`.
    pub(crate) list: Option<Box<str>>,
}

/// One measure, as far as events of one type count for it.
#[derive(Debug)]
pub(crate) struct Counted<L: Leaves> {
    pub(crate) series: Series,
    /// Where its totals begin.
    pub(crate) totals_at: usize,
    /// What an event, or an element of it, must fulfil.
    pub(crate) when: Option<Condition<L>>,
    /// The filter reads an element.
    pub(crate) when_by_element: bool,
    /// The time of the cell; that of the event where there is none.
    pub(crate) at: Option<Quantity<L>>,
    /// Of a register: whether its columns are set, else added to.
    pub(crate) set_when: Option<Condition<L>>,
    pub(crate) columns: Vec<Adding<L>>,
    /// Whether some kinds of entity are about the whole event.
    pub(crate) has_whole: bool,
}

/// What is added to one column.
#[derive(Debug)]
pub(crate) struct Adding<L: Leaves> {
    pub(crate) when: Option<Condition<L>>,
    pub(crate) what: What<L>,
    /// The column is added to once for each element, also about the whole event.
    pub(crate) by_element: bool,
}

/// How a column is changed.
#[derive(Debug)]
pub(crate) enum What<L: Leaves> {
    /// Nothing, whatever the event.
    Nothing,
    /// One, once an event and entity.
    Count,
    /// This.
    Value(Quantity<L>),
    /// Of a register: what it is set to, and what is added where it is not set.
    Set(Quantity<L>, Quantity<L>),
}

/// A kind of entity, and the measures about it.
#[derive(Debug)]
pub(crate) struct Group<L: Leaves> {
    /// Tells it from other groups of the same work.
    pub(crate) key: String,
    pub(crate) kind: Kind,
    pub(crate) names: SmallVec<[Phrase<L>; 2]>,
    /// By place in the work's measures.
    pub(crate) measures: SmallVec<[u16; 4]>,
}

#[inline]
fn sure<T>(value: Result<T, Infallible>) -> T {
    let Ok(value) = value;
    value
}

impl<L: Leaves<Unknown = Infallible>> Group<L> {
    /// The names of its entity; `None` where one is not given.
    #[inline]
    fn names<'s>(&'s self, scope: L::Scope<'s>) -> Option<[Cow<'s, str>; 2]> {
        let mut names = [Cow::Borrowed(""), Cow::Borrowed("")];
        for (name, phrase) in names.iter_mut().zip(&self.names) {
            *name = sure(phrase.evaluate(scope)).into_text();
            if name.is_empty() {
                return None;
            }
        }
        Some(names)
    }

    /// Whether an element before this one has the same names and fulfils the same.
    fn is_repeated<'s>(
        &'s self,
        scopes: &impl Fn(usize) -> L::Scope<'s>,
        element: usize,
        names: &[Cow<'s, str>; 2],
        fulfils: &dyn Fn(L::Scope<'s>) -> bool,
    ) -> bool {
        (0..element).any(|before| {
            let scope = scopes(before);
            self.names(scope).as_ref() == Some(names) && fulfils(scope)
        })
    }
}

impl<L: Leaves<Unknown = Infallible>> Counted<L> {
    #[inline]
    fn takes<'s>(&'s self, scope: L::Scope<'s>) -> bool {
        self.when
            .as_ref()
            .is_none_or(|when| sure(when.evaluate(scope)))
    }

    #[inline]
    fn at_ms<'s>(&'s self, scope: L::Scope<'s>, at_ms: i64) -> i64 {
        match &self.at {
            Some(at) => sure(at.evaluate(scope)),
            None => at_ms,
        }
    }

    /// What the whole event adds; `false` where it does not count.
    fn total<'s>(
        &'s self,
        scopes: &impl Fn(usize) -> L::Scope<'s>,
        elements: usize,
        totals: &mut [i64],
    ) -> bool {
        for (total, merge) in totals.iter_mut().zip(&self.series.merges) {
            *total = merge.identity();
        }
        if !self.when_by_element && !self.takes(scopes(0)) {
            return false;
        }
        let taken = |element: &usize| !self.when_by_element || self.takes(scopes(*element));
        if self.when_by_element && (0..elements).all(|element| !taken(&element)) {
            return false;
        }
        for (column, adding) in self.columns.iter().enumerate() {
            let merge = self.series.merges[column];
            match &adding.what {
                What::Count => {
                    let is_counted = match adding.by_element {
                        true => (0..elements)
                            .filter(taken)
                            .any(|element| adding.takes(scopes(element))),
                        false => adding.takes(scopes(0)),
                    };
                    totals[column] = i64::from(is_counted);
                }
                _ if adding.by_element => {
                    for element in (0..elements).filter(taken) {
                        adding.add(scopes(element), merge, &mut totals[column]);
                    }
                }
                _ => adding.add(scopes(0), merge, &mut totals[column]),
            }
        }
        true
    }

    /// Changes a register.
    fn set<'s>(&'s self, scope: L::Scope<'s>, cell: &mut [i64]) {
        let is_set = self
            .set_when
            .as_ref()
            .is_none_or(|when| sure(when.evaluate(scope)));
        for (column, adding) in self.columns.iter().enumerate() {
            let What::Set(set, add) = &adding.what else {
                continue;
            };
            cell[column] = match is_set {
                true => sure(set.evaluate(scope)),
                false => cell[column].wrapping_add(sure(add.evaluate(scope))),
            };
        }
        if is_set {
            cell[self.columns.len()] = 1;
        }
    }
}

impl<L: Leaves<Unknown = Infallible>> Adding<L> {
    #[inline]
    fn takes<'s>(&'s self, scope: L::Scope<'s>) -> bool {
        self.when
            .as_ref()
            .is_none_or(|when| sure(when.evaluate(scope)))
    }

    #[inline]
    fn add<'s>(&'s self, scope: L::Scope<'s>, merge: Merge, into: &mut i64) {
        if let What::Value(value) = &self.what
            && self.takes(scope)
        {
            merge.apply(into, sure(value.evaluate(scope)));
        }
    }
}

impl<L: Leaves<Unknown = Infallible>> Work<L> {
    /// Adds what one event says. `scopes` gives it with one of its `elements`; there is one even
    /// where it has none.
    fn fold<'s>(
        &'s self,
        scopes: &impl Fn(usize) -> L::Scope<'s>,
        elements: usize,
        at_ms: i64,
        out: &mut Fold<'_>,
    ) {
        // Elements before the whole: the table is quickest while it stays with one entity, and an
        // event has more of them.
        for group in &self.by_element {
            let mut seen = (elements > ELEMENTS_FEW).then(Seen::default);
            for element in 0..elements {
                self.element(group, scopes, element, seen.as_mut(), at_ms, out);
            }
        }
        if self.whole.is_empty() {
            return;
        }
        let mut totals: SmallVec<[i64; 32]> = SmallVec::from_elem(0, self.width);
        let mut counts: u64 = 0;
        for (at, measure) in self.measures.iter().enumerate() {
            let width = measure.series.width();
            let totals = &mut totals[measure.totals_at..measure.totals_at + width];
            let is_late = out.late && measure.series.is_paned();
            if measure.has_whole && !is_late && measure.total(scopes, elements, totals) {
                counts |= 1 << at;
            }
        }
        for group in &self.whole {
            let Some(names) = group.names(scopes(0)) else {
                continue;
            };
            let entity = EntityRef {
                kind: group.kind,
                first: &names[0],
                second: &names[1],
            };
            for at in &group.measures {
                let measure = &self.measures[usize::from(*at)];
                if counts >> at & 1 == 0 {
                    continue;
                }
                let at_ms = measure.at_ms(scopes(0), at_ms);
                let cell = out.cells.cell(&measure.series, entity, at_ms);
                if measure.series.is_register() {
                    measure.set(scopes(0), cell);
                    continue;
                }
                let totals = &totals[measure.totals_at..];
                for ((into, total), merge) in
                    cell.iter_mut().zip(totals).zip(&measure.series.merges)
                {
                    merge.apply(into, *total);
                }
            }
        }
    }

    /// Adds what one element says of the entities of one kind.
    fn element<'s>(
        &'s self,
        group: &'s Group<L>,
        scopes: &impl Fn(usize) -> L::Scope<'s>,
        element: usize,
        mut seen: Option<&mut Seen<'s>>,
        at_ms: i64,
        out: &mut Fold<'_>,
    ) {
        let scope = scopes(element);
        let Some(names) = group.names(scope) else {
            return;
        };
        let entity = EntityRef {
            kind: group.kind,
            first: &names[0],
            second: &names[1],
        };
        for at in &group.measures {
            let measure = &self.measures[usize::from(*at)];
            if out.late && measure.series.is_paned() || !measure.takes(scope) {
                continue;
            }
            let cell = out
                .cells
                .cell(&measure.series, entity, measure.at_ms(scope, at_ms));
            if measure.series.is_register() {
                measure.set(scope, cell);
                continue;
            }
            for (column, adding) in measure.columns.iter().enumerate() {
                if !matches!(adding.what, What::Count) {
                    adding.add(scope, measure.series.merges[column], &mut cell[column]);
                } else if adding.takes(scope) {
                    let fulfils =
                        |before: L::Scope<'s>| measure.takes(before) && adding.takes(before);
                    let is_first = match &mut seen {
                        Some(seen) => seen.insert((*at, column, names.clone())),
                        None => !group.is_repeated(scopes, element, &names, &fulfils),
                    };
                    cell[column] = cell[column].wrapping_add(i64::from(is_first));
                }
            }
        }
    }
}

impl Program {
    /// Adds what an event says to `out`. `tracker` is the life that it is about, as [`life_key`] names
    /// it: what was kept of it before, and on return what to keep.
    pub fn fold(
        &self,
        event: &Event<'_>,
        tracker: &mut Option<parcel::Parcel>,
        out: &mut Fold<'_>,
    ) {
        let at_ms = event.meta.occurred_at.map_or(0, |at| at.0);
        let stream = event.stream();
        let work = self
            .events
            .get(stream as usize)
            .and_then(|of| of.work.get(type_of(event) as usize));
        if let Some(work) = work {
            let elements = match &work.list {
                Some(list) => schema::element_count(event, list),
                None => 1,
            };
            work.fold(&|element| Scope { event, element }, elements, at_ms, out);
        }
        match &event.body {
            Body::Courier(courier) => parcel::fold(courier, at_ms, tracker, &mut |change| {
                self.change(change, at_ms, out);
            }),
            Body::Catalog(catalog) => out.facts.extend(fact::of_catalog(catalog)),
            Body::Plan(plan) => {
                fact::of_plan(plan, &mut |entity, fact| out.facts.push((entity, fact)));
            }
            _ => {}
        }
    }

    fn change(&self, change: Change<'_>, at_ms: i64, out: &mut Fold<'_>) {
        if let Some(work) = self.parcel.work.get(change.number as usize) {
            work.fold(&|_| change, 1, at_ms, out);
        }
    }

    /// Counts events of a source that fell into one second. `late` ones are in the levels alone.
    pub fn fold_arrivals(
        &self,
        cells: &mut Combiner<Entity>,
        source: &str,
        at_ms: i64,
        events: i64,
        late: bool,
    ) {
        for measure in &self.arrivals {
            if late && measure.series.is_paned() {
                continue;
            }
            let cell = cells.cell(&measure.series, source_of(source), at_ms);
            let columns = measure.columns.iter().zip(&measure.series.merges);
            for (into, (column, merge)) in cell.iter_mut().zip(columns) {
                let value = match column {
                    Arrived::Events => events,
                    Arrived::At => at_ms,
                };
                merge.apply(into, value);
            }
        }
    }

    /// The series that count records which were gone before they were read.
    pub fn lost(&self) -> &[Series] {
        &self.lost
    }
}

fn source_of(source: &str) -> EntityRef<'_> {
    EntityRef {
        kind: Kind::SOURCE,
        first: source,
        second: "",
    }
}

/// The number of an event's type.
fn type_of(event: &Event<'_>) -> u32 {
    let number = match &event.body {
        Body::Order(order) => order.r#type as i32,
        Body::Inventory(inventory) => inventory.r#type as i32,
        Body::Courier(courier) => courier.status as i32,
        Body::Feedback(feedback) => feedback.kind as i32,
        Body::Visit(visit) => visit.r#type as i32,
        Body::Catalog(catalog) => catalog.r#type as i32,
        Body::Plan(plan) => plan.r#type as i32,
        Body::Supplier(supplier) => supplier.r#type as i32,
        Body::Ops(ops) => ops.r#type as i32,
        // Its name takes the place of a type, and filters read it.
        Body::Custom(_) => 0,
    };
    number.unsigned_abs()
}

/// The field that tells the type of a stream's events.
pub(crate) const fn type_field(stream: Stream) -> &'static str {
    match stream {
        Stream::Couriers => "status",
        Stream::Feedback => "kind",
        _ => "type",
    }
}

/// The life that an event is about, where it is of a kind that is tracked.
pub fn life_key<'a>(event: &'a Event<'_>) -> Option<&'a str> {
    match &event.body {
        Body::Courier(courier) => Some(&courier.parcel_id),
        _ => None,
    }
}
