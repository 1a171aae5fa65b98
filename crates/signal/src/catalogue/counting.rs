//! What a measure counts, as expressions, and what is left of them for one type of event.

use fenghuo_window::{Merge, Series};

use crate::expression::{Condition, Constant, Expression, Leaves, Quantity};
use crate::kind::Kind;
use crate::program::{Adding, Counted, What};

/// Kinds of entity, each with where its names are.
pub(super) type Keys<L> = Vec<(Kind, Vec<Expression<L>>)>;

/// A measure's expressions, by kind of entity and column.
pub(super) struct Counting<L: Leaves> {
    pub(super) series: u16,
    pub(super) keys: Keys<L>,
    pub(super) when: Option<Expression<L>>,
    pub(super) at: Option<Expression<L>>,
    pub(super) set_when: Option<Expression<L>>,
    pub(super) columns: Vec<Column<L>>,
}

/// What is added to one column.
pub(super) struct Column<L: Leaves> {
    pub(super) name: Box<str>,
    pub(super) merge: Merge,
    pub(super) when: Option<Expression<L>>,
    pub(super) what: Formula<L>,
}

/// How it is added.
pub(super) enum Formula<L: Leaves> {
    Count,
    Value(Expression<L>),
    Set(Expression<L>, Expression<L>),
}

impl<L: Leaves> Counting<L> {
    fn expressions(&self) -> impl Iterator<Item = &Expression<L>> {
        let columns = self.columns.iter().flat_map(|column| {
            let values: [Option<&Expression<L>>; 2] = match &column.what {
                Formula::Count => [None, None],
                Formula::Value(value) => [Some(value), None],
                Formula::Set(set, add) => [Some(set), Some(add)],
            };
            values.into_iter().flatten().chain(&column.when)
        });
        let keys = self.keys.iter().flat_map(|(_, names)| names);
        let own = [&self.when, &self.at, &self.set_when];
        own.into_iter().flatten().chain(columns).chain(keys)
    }

    /// The list whose elements it reads.
    pub(super) fn list(&self) -> Option<&str> {
        self.expressions().find_map(Expression::list)
    }

    /// Fails where it reads elements of two lists.
    pub(super) fn check_lists(&self) -> Result<(), String> {
        let mut lists: Vec<&str> = self.expressions().filter_map(Expression::list).collect();
        lists.sort_unstable();
        lists.dedup();
        match lists.as_slice() {
            [] | [_] => Ok(()),
            [one, other, ..] => Err(format!(
                "it reads elements of {one} and of {other}; expected one list in a measure"
            )),
        }
    }

    /// What is left to do for events of one type; `None` where they count for nothing.
    pub(super) fn specialise(
        &self,
        field: &str,
        name: &str,
        series: &Series,
    ) -> Option<Counted<L>> {
        let when = special(&self.when, field, name)?;
        let when_by_element = when.as_ref().is_some_and(Expression::uses_element);
        let mut columns = Vec::new();
        for column in &self.columns {
            let by_element = |value: Option<&Expression<L>>, when: &Option<Expression<L>>| {
                when_by_element
                    || value.is_some_and(Expression::uses_element)
                    || when.as_ref().is_some_and(Expression::uses_element)
            };
            let Some(when) = special(&column.when, field, name) else {
                columns.push(Adding {
                    when: None,
                    what: What::Nothing,
                    by_element: false,
                });
                continue;
            };
            let (what, by_element) = match &column.what {
                Formula::Count => (What::Count, by_element(None, &when)),
                Formula::Value(value) => {
                    let value = value.specialise(field, name);
                    let by_element = by_element(Some(&value), &when);
                    let is_nothing =
                        column.merge == Merge::Sum && value.constant() == Some(Constant::Whole(0));
                    match is_nothing {
                        true => (What::Nothing, false),
                        false => (What::Value(quantity(value)?), by_element),
                    }
                }
                Formula::Set(set, add) => {
                    let set = quantity(set.specialise(field, name))?;
                    (
                        What::Set(set, quantity(add.specialise(field, name))?),
                        false,
                    )
                }
            };
            columns.push(Adding {
                when: condition(when)?,
                what,
                by_element,
            });
        }
        let counts = columns
            .iter()
            .any(|column| !matches!(column.what, What::Nothing));
        let set_when = match &self.set_when {
            Some(set_when) => Some(set_when.specialise(field, name).into_condition()?),
            None => None,
        };
        let at = match &self.at {
            Some(at) => Some(quantity(at.specialise(field, name))?),
            None => None,
        };
        counts.then(|| {
            Some(Counted {
                series: series.clone(),
                totals_at: 0,
                when_by_element,
                when: condition(when)?,
                at,
                set_when,
                columns,
                has_whole: false,
            })
        })?
    }
}

/// What is left of a filter: `None` where it is never true, and nothing where it always is.
fn special<L: Leaves>(
    when: &Option<Expression<L>>,
    field: &str,
    name: &str,
) -> Option<Option<Expression<L>>> {
    let Some(when) = when else { return Some(None) };
    let when = when.specialise(field, name);
    match when.always() {
        Some(false) => None,
        Some(true) => Some(None),
        None => Some(Some(when)),
    }
}

fn condition<L: Leaves>(when: Option<Expression<L>>) -> Option<Option<Condition<L>>> {
    match when {
        Some(when) => when.into_condition().map(Some),
        None => Some(None),
    }
}

fn quantity<L: Leaves>(value: Expression<L>) -> Option<Quantity<L>> {
    value.into_quantity()
}
