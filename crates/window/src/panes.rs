//! The panes of one series of one entity, in tiers from fine to coarse.
//!
//! A delta is added to its cell in every tier at once: deltas come once a commit, so this costs
//! little, and nothing has to be rolled up later. Cells that fall out of a tier are dropped there
//! and live on in the coarser ones.

use std::collections::VecDeque;

use crate::series::{Series, Values, floor};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ring {
    starts_ms: VecDeque<i64>,
    values: VecDeque<i64>,
}

impl Ring {
    fn merge(&mut self, series: &Series, start_ms: i64, delta: &[i64]) {
        let width = series.width();
        // Nearly always the newest cell or the one before it.
        let position = match self.starts_ms.iter().rposition(|start| *start <= start_ms) {
            Some(at) if self.starts_ms[at] == start_ms => Some(at),
            Some(at) => {
                self.insert(at + 1, start_ms, series);
                Some(at + 1)
            }
            None => {
                self.insert(0, start_ms, series);
                Some(0)
            }
        };
        if let Some(at) = position {
            let mut cell: Values = self.cell(at, width);
            series.merge(&mut cell, delta);
            for (offset, value) in cell.into_iter().enumerate() {
                self.values[at * width + offset] = value;
            }
        }
    }

    fn insert(&mut self, at: usize, start_ms: i64, series: &Series) {
        self.starts_ms.insert(at, start_ms);
        for (offset, value) in series.identity().into_iter().enumerate() {
            self.values.insert(at * series.width() + offset, value);
        }
    }

    fn cell(&self, at: usize, width: usize) -> Values {
        self.values
            .range(at * width..(at + 1) * width)
            .copied()
            .collect()
    }

    fn expire(&mut self, before_ms: i64, width: usize) {
        while self
            .starts_ms
            .front()
            .is_some_and(|start| *start < before_ms)
        {
            self.starts_ms.pop_front();
            self.values.drain(..width);
        }
    }

    fn sum_into(&self, series: &Series, from_ms: i64, to_ms: i64, into: &mut Values) {
        let width = series.width();
        let first = self.starts_ms.partition_point(|start| *start < from_ms);
        for at in first..self.starts_ms.len() {
            if self.starts_ms[at] >= to_ms {
                break;
            }
            series.merge(into, &self.cell(at, width));
        }
    }
}

/// The panes of one series of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panes {
    rings: Vec<Ring>,
}

impl Panes {
    /// Merges a delta. One that is older than a tier keeps is not kept there.
    pub fn merge(&mut self, series: &Series, start_ms: i64, delta: &[i64]) {
        self.rings.resize_with(series.tiers().len(), Ring::default);
        let newest_ms = self.newest_ms().unwrap_or(start_ms).max(start_ms);
        for (ring, tier) in self.rings.iter_mut().zip(series.tiers()) {
            let before_ms = newest_ms.saturating_sub(tier.keep_ms);
            let start_ms = floor(start_ms, tier.width_ms);
            if start_ms >= floor(before_ms, tier.width_ms) {
                ring.merge(series, start_ms, delta);
            }
            ring.expire(floor(before_ms, tier.width_ms), series.width());
        }
    }

    /// Drops the cells that begin after a time: they were told under a clock that was wrong, and
    /// would let the tiers refuse what comes now.
    pub fn drop_after(&mut self, series: &Series, after_ms: i64) {
        for ring in &mut self.rings {
            let left = ring.starts_ms.partition_point(|start| *start <= after_ms);
            ring.starts_ms.truncate(left);
            ring.values.truncate(left * series.width());
        }
    }

    /// Every tier: starts of its cells, and their fields.
    pub(crate) fn dump(&self) -> Vec<(Vec<i64>, Vec<i64>)> {
        let numbers = |ring: &Ring| {
            let (starts_ms, values) = (ring.starts_ms.iter(), ring.values.iter());
            (starts_ms.copied().collect(), values.copied().collect())
        };
        self.rings.iter().map(numbers).collect()
    }

    /// Panes as they were dumped; `None` where they do not have the form of the series.
    pub(crate) fn load(series: &Series, tiers: Vec<(Vec<i64>, Vec<i64>)>) -> Option<Self> {
        let fits = |(starts_ms, values): &(Vec<i64>, Vec<i64>)| {
            values.len() == starts_ms.len() * series.width() && starts_ms.is_sorted()
        };
        if tiers.len() != series.tiers().len() || !tiers.iter().all(fits) {
            return None;
        }
        let ring = |(starts_ms, values): (Vec<i64>, Vec<i64>)| Ring {
            starts_ms: starts_ms.into(),
            values: values.into(),
        };
        let rings = tiers.into_iter().map(ring).collect();
        Some(Self { rings })
    }

    /// Start of the newest cell of the finest tier.
    pub fn newest_ms(&self) -> Option<i64> {
        self.rings
            .first()
            .and_then(|ring| ring.starts_ms.back().copied())
    }

    /// Start of the oldest cell of the coarsest tier.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.rings
            .last()
            .and_then(|ring| ring.starts_ms.front().copied())
    }

    /// The merged cells of `[from_ms, to_ms)`: fine cells as far back as they are kept, coarser
    /// ones before that. Where `from_ms` falls inside a coarse cell, that cell counts whole.
    pub fn sum(&self, series: &Series, from_ms: i64, to_ms: i64) -> Values {
        let mut into = series.identity();
        let newest_ms = self.newest_ms().unwrap_or(i64::MIN);
        let mut to_ms = to_ms;
        for (at, (ring, tier)) in self.rings.iter().zip(series.tiers()).enumerate() {
            let first_ms = match series.tiers().get(at + 1) {
                Some(next) => {
                    // The finer tier hands over at a boundary of the coarser one.
                    let kept_ms = floor(newest_ms.saturating_sub(tier.keep_ms), tier.width_ms);
                    let boundary_ms = ceil(kept_ms, next.width_ms);
                    if from_ms >= kept_ms {
                        floor(from_ms, tier.width_ms)
                    } else {
                        boundary_ms
                    }
                }
                None => floor(from_ms, tier.width_ms),
            };
            ring.sum_into(series, first_ms, to_ms, &mut into);
            to_ms = to_ms.min(first_ms);
            if to_ms <= from_ms {
                break;
            }
        }
        into
    }

    /// The cells of the finest tier in `[from_ms, to_ms)`, oldest first, with their starts.
    pub fn cells(
        &self,
        series: &Series,
        from_ms: i64,
        to_ms: i64,
    ) -> impl DoubleEndedIterator<Item = (i64, Values)> {
        let width = series.width();
        let (first, last) = self.rings.first().map_or((0, 0), |ring| {
            let first = ring.starts_ms.partition_point(|start| *start < from_ms);
            let last = ring.starts_ms.partition_point(|start| *start < to_ms);
            (first, last.max(first))
        });
        (first..last).map(move |at| (self.rings[0].starts_ms[at], self.rings[0].cell(at, width)))
    }
}

fn ceil(at_ms: i64, width_ms: i64) -> i64 {
    let floored = floor(at_ms, width_ms);
    if floored == at_ms {
        at_ms
    } else {
        floored.saturating_add(width_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::series::{Merge, Shape, Tier};

    static SALES: Series = Series {
        id: 1,
        name: "sales",
        shape: Shape::Panes(&[
            Tier {
                width_ms: 10,
                keep_ms: 200,
            },
            Tier {
                width_ms: 60,
                keep_ms: 1_200,
            },
            Tier {
                width_ms: 600,
                keep_ms: 100_000,
            },
        ]),
        fields: &[
            ("units", Merge::Sum),
            ("lowest", Merge::Min),
            ("latest", Merge::Max),
        ],
    };

    fn cell(value: i64) -> [i64; 3] {
        [value, value, value]
    }

    proptest! {
        /// The oracle is a naive sum over the raw events.
        #[test]
        fn a_window_is_the_naive_sum_whatever_the_order(
            events in prop::collection::vec((0_i64..3_000, -100_i64..100), 1..200),
            order in prop::collection::vec(any::<prop::sample::Index>(), 200),
            back in 0_i64..190,
        ) {
            let newest = floor(events.iter().map(|(at, _)| *at).max().unwrap(), 10);
            let mut shuffled = events.clone();
            for (at, to) in order.iter().enumerate().take(events.len()) {
                let to = to.index(events.len());
                shuffled.swap(at, to);
            }
            let (mut one, mut other) = (Panes::default(), Panes::default());
            for (at, value) in &events {
                one.merge(&SALES, floor(*at, 10), &cell(*value));
            }
            for (at, value) in &shuffled {
                other.merge(&SALES, floor(*at, 10), &cell(*value));
            }
            let from = floor(newest - back, 10);
            let naive = |from: i64, to: i64| {
                let mut sum = SALES.identity();
                for (at, value) in &events {
                    if (from..to).contains(&floor(*at, 10)) {
                        SALES.merge(&mut sum, &cell(*value));
                    }
                }
                sum
            };
            prop_assert_eq!(one.sum(&SALES, from, newest + 10), naive(from, newest + 10));
            prop_assert_eq!(other.sum(&SALES, from, newest + 10), naive(from, newest + 10));
            // Over all of time the coarse tiers carry what the fine ones dropped.
            prop_assert_eq!(one.sum(&SALES, 0, newest + 10), naive(0, newest + 10));
            prop_assert_eq!(other.sum(&SALES, 0, newest + 10), naive(0, newest + 10));
            prop_assert_eq!(Panes::load(&SALES, one.dump()), Some(one));
        }
    }

    #[test]
    fn what_lies_in_the_future_is_dropped_and_the_present_is_taken_again() {
        let mut panes = Panes::default();
        panes.merge(&SALES, 100, &cell(1));
        panes.merge(&SALES, 1_000_000, &cell(5));
        panes.merge(&SALES, 110, &cell(2));
        assert_eq!(
            panes.sum(&SALES, 0, 1_000)[0],
            0,
            "nothing is kept that far back"
        );
        panes.drop_after(&SALES, 200);
        panes.merge(&SALES, 110, &cell(2));
        assert_eq!(panes.newest_ms(), Some(110));
        assert_eq!(panes.sum(&SALES, 0, i64::MAX)[0], 2);
    }

    #[test]
    fn memory_is_bounded_by_the_tiers() {
        let mut panes = Panes::default();
        for at in 0..100_000 {
            panes.merge(&SALES, at * 10, &cell(1));
        }
        let cells: Vec<usize> = panes
            .rings
            .iter()
            .map(|ring| ring.starts_ms.len())
            .collect();
        assert_eq!(cells, [21, 21, 168]);
    }
}
