//! The panes of one series of one entity, in tiers from fine to coarse.
//!
//! Each increment is in one tier: the finest one that still keeps its cell. What falls out of a tier
//! moves into the cells of the next one, and out of the last one is dropped. So what is kept follows
//! from the increments and the newest of them, whatever their order. A tier is one run of numbers,
//! a cell after the other: its start, then its fields.

use crate::series::{Series, Values, floor};

#[derive(Clone, Debug, Default)]
struct Ring {
    /// Cells from `first` on; what lies before was dropped and is taken back now and then.
    numbers: Vec<i64>,
    first: usize,
}

impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        self.kept() == other.kept()
    }
}

impl Eq for Ring {}

impl Ring {
    fn kept(&self) -> &[i64] {
        &self.numbers[self.first..]
    }

    fn len(&self, stride: usize) -> usize {
        self.kept().len() / stride
    }

    fn start_ms(&self, at: usize, stride: usize) -> i64 {
        self.kept()[at * stride]
    }

    fn last_ms(&self, stride: usize) -> Option<i64> {
        let last = self.len(stride).checked_sub(1)?;
        Some(self.start_ms(last, stride))
    }

    /// The first cell that begins at or after `start_ms`.
    fn find(&self, start_ms: i64, stride: usize) -> usize {
        let (mut low, mut high) = (0, self.len(stride));
        // Nearly always the newest cell, or one behind it.
        if high > 0 && self.start_ms(high - 1, stride) < start_ms {
            return high;
        }
        while low < high {
            let middle = low.midpoint(high);
            match self.start_ms(middle, stride) < start_ms {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    fn merge(&mut self, series: &Series, start_ms: i64, delta: &[i64]) {
        let stride = series.width() + 1;
        let at = self.find(start_ms, stride);
        let from = self.first + at * stride;
        if at == self.len(stride) || self.start_ms(at, stride) != start_ms {
            let cell = std::iter::once(start_ms).chain(series.identity());
            if at == self.len(stride) {
                self.numbers.extend(cell);
            } else {
                self.numbers.splice(from..from, cell);
            }
        }
        series.merge(&mut self.numbers[from + 1..from + stride], delta);
    }

    /// Drops the first cell, which must be there.
    fn pop_front(&mut self, stride: usize) {
        self.first += stride;
        // Moved together once half is gone, so that a cell is moved once on average.
        if self.first > self.numbers.len() / 2 {
            self.numbers.drain(..self.first);
            self.first = 0;
        }
    }

    fn sum_into(&self, series: &Series, from_ms: i64, to_ms: i64, into: &mut Values) {
        let stride = series.width() + 1;
        let cells = &self.kept()[self.find(from_ms, stride) * stride..];
        for cell in cells.chunks_exact(stride) {
            if cell[0] >= to_ms {
                break;
            }
            series.merge(into, &cell[1..]);
        }
    }
}

/// The panes of one series of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panes {
    rings: Vec<Ring>,
    newest_ms: Option<i64>,
}

impl Panes {
    /// Merges a delta. One that is older than the coarsest tier keeps is not kept.
    pub fn merge(&mut self, series: &Series, start_ms: i64, delta: &[i64]) {
        if self.rings.len() < series.tiers().len() {
            self.rings.resize_with(series.tiers().len(), Ring::default);
        }
        if self.newest_ms.is_none_or(|newest| start_ms > newest) {
            self.newest_ms = Some(start_ms);
            self.expire(series, start_ms);
        }
        let newest_ms = self.newest_ms.unwrap_or(start_ms);
        self.place(series, 0, newest_ms, start_ms, delta);
    }

    /// Merges a delta into the first tier from `tier` on that still keeps its cell.
    fn place(
        &mut self,
        series: &Series,
        tier: usize,
        newest_ms: i64,
        start_ms: i64,
        delta: &[i64],
    ) {
        let tiers = series.tiers().iter().zip(&mut self.rings);
        for (tier, ring) in tiers.skip(tier) {
            let start_ms = floor(start_ms, tier.width_ms);
            if start_ms >= kept_from_ms(newest_ms, tier.keep_ms, tier.width_ms) {
                return ring.merge(series, start_ms, delta);
            }
        }
    }

    /// Moves what a tier no longer keeps into the next one.
    fn expire(&mut self, series: &Series, newest_ms: i64) {
        let stride = series.width() + 1;
        for at in 0..self.rings.len() {
            let tier = series.tiers()[at];
            let before_ms = kept_from_ms(newest_ms, tier.keep_ms, tier.width_ms);
            while self.rings[at].len(stride) > 0 && self.rings[at].start_ms(0, stride) < before_ms {
                let cell: Values = self.rings[at].kept()[..stride].into();
                self.rings[at].pop_front(stride);
                self.place(series, at + 1, newest_ms, cell[0], &cell[1..]);
            }
        }
    }

    /// Drops the cells that begin after a time: they were told under a clock that was wrong, and
    /// would let the tiers refuse what comes now.
    pub fn drop_after(&mut self, series: &Series, after_ms: i64) {
        let stride = series.width() + 1;
        for ring in &mut self.rings {
            let left = ring.find(after_ms.saturating_add(1), stride);
            ring.numbers.truncate(ring.first + left * stride);
        }
        self.find_newest(series);
    }

    fn find_newest(&mut self, series: &Series) {
        let stride = series.width() + 1;
        self.newest_ms = self.rings.iter().find_map(|ring| ring.last_ms(stride));
    }

    /// Every tier: its cells, each its start and its fields.
    pub(crate) fn dump(&self) -> Vec<Vec<i64>> {
        self.rings.iter().map(|ring| ring.kept().to_vec()).collect()
    }

    /// Panes as they were dumped; `None` where they do not have the form of the series.
    pub(crate) fn load(series: &Series, tiers: Vec<Vec<i64>>) -> Option<Self> {
        let stride = series.width() + 1;
        let fits = |numbers: &Vec<i64>| {
            numbers.len().is_multiple_of(stride)
                && numbers
                    .chunks_exact(stride)
                    .map(|cell| cell[0])
                    .is_sorted_by(|one, other| one < other)
        };
        if tiers.len() != series.tiers().len() || !tiers.iter().all(fits) {
            return None;
        }
        let ring = |numbers| Ring { numbers, first: 0 };
        let mut panes = Self {
            rings: tiers.into_iter().map(ring).collect(),
            newest_ms: None,
        };
        panes.find_newest(series);
        Some(panes)
    }

    /// Start of the newest cell.
    pub fn newest_ms(&self) -> Option<i64> {
        self.newest_ms
    }

    /// Start of the oldest cell.
    pub fn oldest_ms(&self) -> Option<i64> {
        let mut kept = self.rings.iter().rev().map(Ring::kept);
        kept.find_map(|cells| cells.first()).copied()
    }

    /// The merged cells of `[from_ms, to_ms)`: fine cells as far back as they are kept, coarser
    /// ones before that. Where `from_ms` falls inside a coarse cell, that cell counts whole.
    pub fn sum(&self, series: &Series, from_ms: i64, to_ms: i64) -> Values {
        let mut into = series.identity();
        for (ring, tier) in self.rings.iter().zip(series.tiers()) {
            ring.sum_into(series, floor(from_ms, tier.width_ms), to_ms, &mut into);
            let newest_ms = self.newest_ms.unwrap_or(i64::MIN);
            if from_ms >= kept_from_ms(newest_ms, tier.keep_ms, tier.width_ms) {
                // A coarser cell may hold some of before `from_ms` alone.
                break;
            }
        }
        into
    }

    /// The cells of the finest tier in `[from_ms, to_ms)`, oldest first: start and fields.
    pub fn cells(
        &self,
        series: &Series,
        from_ms: i64,
        to_ms: i64,
    ) -> impl DoubleEndedIterator<Item = (i64, &[i64])> {
        let stride = series.width() + 1;
        let cells = self.rings.first().map_or(&[][..], |ring| {
            let first = ring.find(from_ms, stride);
            let last = ring.find(to_ms, stride).max(first);
            &ring.kept()[first * stride..last * stride]
        });
        cells.chunks_exact(stride).map(|cell| (cell[0], &cell[1..]))
    }
}

/// Start of the oldest cell that a tier keeps.
fn kept_from_ms(newest_ms: i64, keep_ms: i64, width_ms: i64) -> i64 {
    floor(newest_ms.saturating_sub(keep_ms), width_ms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smallvec::smallvec;

    use super::*;
    use crate::series::{Merge, Shape, Tier};

    fn sales() -> Series {
        let tier = |width_ms, keep_ms| Tier { width_ms, keep_ms };
        Series {
            number: 0,
            shape: Shape::Panes(Box::new([
                tier(10, 200),
                tier(60, 1_200),
                tier(600, 100_000),
            ])),
            merges: smallvec![Merge::Sum, Merge::Min, Merge::Max],
        }
    }

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
            let sales = sales();
            let newest = floor(events.iter().map(|(at, _)| *at).max().unwrap(), 10);
            let mut shuffled = events.clone();
            for (at, to) in order.iter().enumerate().take(events.len()) {
                let to = to.index(events.len());
                shuffled.swap(at, to);
            }
            let (mut one, mut other) = (Panes::default(), Panes::default());
            for (at, value) in &events {
                one.merge(&sales, floor(*at, 10), &cell(*value));
            }
            for (at, value) in &shuffled {
                other.merge(&sales, floor(*at, 10), &cell(*value));
            }
            prop_assert_eq!(&one, &other);
            let from = floor(newest - back, 10);
            let naive = |from: i64, to: i64| {
                let mut sum = sales.identity();
                for (at, value) in &events {
                    if (from..to).contains(&floor(*at, 10)) {
                        sales.merge(&mut sum, &cell(*value));
                    }
                }
                sum
            };
            prop_assert_eq!(one.sum(&sales, from, newest + 10), naive(from, newest + 10));
            // Over all of time the coarse tiers carry what the fine ones dropped.
            prop_assert_eq!(one.sum(&sales, 0, newest + 10), naive(0, newest + 10));
            prop_assert_eq!(Panes::load(&sales, one.dump()), Some(one));
        }
    }

    #[test]
    fn what_lies_in_the_future_is_dropped_and_the_present_is_taken_again() {
        let sales = sales();
        let mut panes = Panes::default();
        panes.merge(&sales, 100, &cell(1));
        panes.merge(&sales, 1_000_000, &cell(5));
        panes.merge(&sales, 110, &cell(2));
        assert_eq!(
            panes.sum(&sales, 0, 1_000)[0],
            0,
            "nothing is kept that far back"
        );
        panes.drop_after(&sales, 200);
        panes.merge(&sales, 110, &cell(2));
        assert_eq!(panes.newest_ms(), Some(110));
        assert_eq!(panes.sum(&sales, 0, i64::MAX)[0], 2);
    }

    #[test]
    fn memory_is_bounded_by_the_tiers() {
        let sales = sales();
        let mut panes = Panes::default();
        for at in 0..100_000 {
            panes.merge(&sales, at * 10, &cell(1));
        }
        let cells: Vec<usize> = panes.rings.iter().map(|ring| ring.len(4)).collect();
        assert_eq!(cells, [21, 18, 166]);
        let numbers = |ring: &Ring| ring.numbers.len() <= 2 * ring.kept().len() + 4;
        assert!(panes.rings.iter().all(numbers));
    }
}
