//! The panes of one series of one entity, in tiers from fine to coarse.
//!
//! Each increment is in one tier: the finest one that still keeps its cell. What falls out of a tier
//! moves into the cells of the next one, and out of the last one is dropped. So what is kept follows
//! from the increments and the newest of them, whatever their order.
//!
//! A sku that is sold all day has some 600 cells of mostly small numbers, so a tier is packed: see
//! `ring.rs`. Where even that is too much, the oldest cells can be [cut](Panes::cut).

use crate::ring::Ring;
use crate::series::{Series, Tier, Values, floor};

/// The panes of one series of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panes {
    rings: Box<[Ring]>,
    newest_ms: Option<i64>,
    /// Cells that end at or before it were cut.
    cut_ms: Option<i64>,
}

impl Panes {
    /// Merges a delta. One that is older than the coarsest tier keeps is not kept.
    pub fn merge(&mut self, series: &Series, start_ms: i64, delta: &[i64]) {
        if self.rings.len() < series.tiers().len() {
            self.rings = series.tiers().iter().map(|_| Ring::default()).collect();
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
            if start_ms >= kept_from_ms(newest_ms, tier) {
                return ring.merge(series, tier.number(start_ms), delta);
            }
        }
    }

    /// Moves what a tier no longer keeps into the next one.
    fn expire(&mut self, series: &Series, newest_ms: i64) {
        for at in 0..self.rings.len() {
            let tier = &series.tiers()[at];
            let before = tier.number(kept_from_ms(newest_ms, tier));
            while let Some((number, values)) = self.rings[at].pop_before(series, before) {
                self.place(series, at + 1, newest_ms, tier.start_ms(number), &values);
            }
        }
    }

    /// Drops the cells that begin after a time: they were told under a clock that was wrong, and
    /// would let the tiers refuse what comes now.
    pub fn drop_after(&mut self, series: &Series, after_ms: i64) {
        for (ring, tier) in self.rings.iter_mut().zip(series.tiers()) {
            ring.drop_after(series, tier.number(after_ms));
        }
        self.cut_ms = self.cut_ms.map(|cut_ms| cut_ms.min(after_ms));
        self.find_newest(series);
    }

    fn find_newest(&mut self, series: &Series) {
        let mut tiers = self.rings.iter().zip(series.tiers());
        self.newest_ms = tiers.find_map(|(ring, tier)| Some(tier.start_ms(ring.newest()?)));
    }

    /// Bytes of what is kept. They follow from the cells alone.
    pub fn bytes(&self) -> usize {
        self.rings.iter().map(Ring::bytes).sum()
    }

    /// Drops the oldest cells until no more than so many bytes are kept, and returns how many it
    /// dropped. The newest one stays.
    pub fn cut(&mut self, series: &Series, bytes_max: usize) -> u64 {
        let mut cut = 0;
        while self.bytes() > bytes_max {
            let mut tiers = self.rings.iter_mut().zip(series.tiers()).rev();
            let Some((ring, tier)) = tiers.find(|(ring, _)| !ring.is_empty()) else {
                break;
            };
            let oldest_ms = ring.oldest().map(|number| tier.start_ms(number));
            if oldest_ms == self.newest_ms {
                break;
            }
            let Some((number, _)) = ring.pop(series) else {
                break;
            };
            let end_ms = tier.start_ms(number.saturating_add(1));
            self.cut_ms = self.cut_ms.max(Some(end_ms));
            cut += 1;
        }
        cut
    }

    /// Where cells were [cut](Self::cut): none that ends at or before this time is whole.
    pub fn cut_ms(&self) -> Option<i64> {
        self.cut_ms
    }

    /// Every tier: its cells, each its start and its fields.
    pub(crate) fn dump(&self, series: &Series) -> Vec<Vec<i64>> {
        let tiers = self.rings.iter().zip(series.tiers());
        tiers
            .map(|(ring, tier)| ring.dump(series, |number| tier.start_ms(number)))
            .collect()
    }

    /// Panes as they were dumped; `None` where they do not have the form of the series.
    pub(crate) fn load(series: &Series, tiers: &[Vec<i64>], cut_ms: Option<i64>) -> Option<Self> {
        let stride = series.width() + 1;
        let fits = |(numbers, tier): (&Vec<i64>, &Tier)| {
            let cells = numbers.chunks_exact(stride).map(|cell| cell[0]);
            numbers.len().is_multiple_of(stride)
                && cells
                    .clone()
                    .all(|start_ms| floor(start_ms, tier.width_ms) == start_ms)
                && cells.is_sorted_by(|one, other| one < other)
        };
        if tiers.len() != series.tiers().len() || !tiers.iter().zip(series.tiers()).all(fits) {
            return None;
        }
        let ring = |(numbers, tier): (&Vec<i64>, &Tier)| {
            let cells = numbers.chunks_exact(stride);
            Ring::load(series, cells.map(|cell| (tier.number(cell[0]), &cell[1..])))
        };
        let mut panes = Self {
            rings: tiers.iter().zip(series.tiers()).map(ring).collect(),
            newest_ms: None,
            cut_ms,
        };
        panes.find_newest(series);
        Some(panes)
    }

    /// Start of the newest cell.
    pub fn newest_ms(&self) -> Option<i64> {
        self.newest_ms
    }

    /// Start of the oldest cell.
    pub fn oldest_ms(&self, series: &Series) -> Option<i64> {
        let mut tiers = self.rings.iter().zip(series.tiers()).rev();
        tiers.find_map(|(ring, tier)| Some(tier.start_ms(ring.oldest()?)))
    }

    /// The merged cells of `[from_ms, to_ms)`: fine cells as far back as they are kept, coarser
    /// ones before that. Where `from_ms` falls inside a coarse cell, that cell counts whole.
    pub fn sum(&self, series: &Series, from_ms: i64, to_ms: i64) -> Values {
        let mut into = series.identity();
        for (ring, tier) in self.rings.iter().zip(series.tiers()) {
            let from = tier.number(from_ms);
            // The first cell that does not begin before `to_ms`.
            let to = tier.number(to_ms.saturating_sub(1)).saturating_add(1);
            ring.sum_into(series, from, to, &mut into);
            let newest_ms = self.newest_ms.unwrap_or(i64::MIN);
            if from_ms >= kept_from_ms(newest_ms, tier) {
                // A coarser cell may hold some of before `from_ms` alone.
                break;
            }
        }
        into
    }

    /// The cells of the finest tier in `[from_ms, to_ms)`, newest first: start and fields.
    pub fn cells<'a>(
        &'a self,
        series: &'a Series,
        from_ms: i64,
        to_ms: i64,
    ) -> impl Iterator<Item = (i64, Values)> + 'a {
        let finest = self.rings.first().zip(series.tiers().first());
        finest.into_iter().flat_map(move |(ring, tier)| {
            let from = tier.number(from_ms.saturating_add(tier.width_ms - 1));
            let cells = ring.back_to(series, from);
            cells
                .map(|(number, values)| (tier.start_ms(number), values))
                .skip_while(move |(start_ms, _)| *start_ms >= to_ms)
        })
    }
}

/// Start of the oldest cell that a tier keeps.
fn kept_from_ms(newest_ms: i64, tier: &Tier) -> i64 {
    floor(newest_ms.saturating_sub(tier.keep_ms), tier.width_ms)
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
            prop_assert_eq!(Panes::load(&sales, &one.dump(&sales), None), Some(one));
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
        let dump = panes.dump(&sales);
        let cells: Vec<usize> = dump.iter().map(|numbers| numbers.len() / 4).collect();
        assert_eq!(cells, [21, 18, 166]);
        // Three fields and a step of a byte each, but for sums of 60 cells.
        assert!(panes.bytes() < (21 + 18 + 166) * 5);
        assert!(
            panes
                .rings
                .iter()
                .all(|ring| ring.held() < 2 * ring.bytes() + 64)
        );
    }

    #[test]
    fn what_is_cut_is_the_oldest_and_is_told() {
        let sales = sales();
        let mut panes = Panes::default();
        for at in 0..1_000 {
            panes.merge(&sales, at * 10, &cell(1));
        }
        let (all, whole) = (panes.sum(&sales, 0, i64::MAX)[0], panes.bytes());
        assert_eq!((all, panes.cut_ms()), (1_000, None));
        assert!(panes.cut(&sales, whole - 20) > 0);
        assert!(panes.bytes() <= whole - 20);
        let cut_ms = panes.cut_ms().unwrap();
        assert_eq!(panes.sum(&sales, cut_ms, i64::MAX)[0], 1_000 - cut_ms / 10);
        assert_eq!(panes.sum(&sales, 0, i64::MAX)[0], 1_000 - cut_ms / 10);
        panes.cut(&sales, 0);
        assert_eq!(
            panes.sum(&sales, 0, i64::MAX)[0],
            1,
            "the newest cell stays"
        );
        assert_eq!(panes.cut_ms(), Some(9_990));
        let loaded = Panes::load(&sales, &panes.dump(&sales), panes.cut_ms());
        assert_eq!(loaded, Some(panes));
    }

    proptest! {
        /// The oracle is a map of cells.
        #[test]
        fn a_tier_is_a_map_of_cells(
            steps in prop::collection::vec((0_u8..8, -40_i64..40, any::<i64>()), 1..120),
        ) {
            let tier = Tier { width_ms: 10, keep_ms: i64::MAX / 4 };
            let series = Series { shape: Shape::Panes(Box::new([tier])), ..sales() };
            let mut cells: std::collections::BTreeMap<i64, Values> = Default::default();
            let mut ring = Ring::default();
            for (what, number, value) in steps {
                match what {
                    0 => {
                        let oldest = cells.pop_first();
                        prop_assert_eq!(ring.pop(&series), oldest);
                    }
                    1 => {
                        cells.split_off(&(number + 1));
                        ring.drop_after(&series, number);
                    }
                    _ => {
                        let value = if what < 4 { value } else { value % 200 };
                        let into = cells.entry(number).or_insert_with(|| series.identity());
                        series.merge(into, &cell(value));
                        ring.merge(&series, number, &cell(value));
                    }
                }
                let kept: Vec<(i64, Values)> = ring.back_to(&series, i64::MIN).collect();
                prop_assert!(kept.iter().rev().cloned().eq(cells.clone()));
                prop_assert_eq!(ring.newest(), cells.keys().last().copied());
                prop_assert_eq!(ring.oldest(), cells.keys().next().copied());
                let (mut sum, mut naive) = (series.identity(), series.identity());
                ring.sum_into(&series, -20, 10, &mut sum);
                for values in cells.range(-20..10).map(|(_, values)| values) {
                    series.merge(&mut naive, values);
                }
                prop_assert_eq!(sum, naive);
                let again = ring.dump(&series, |number| number);
                let again = again.chunks_exact(4).map(|cell| (cell[0], &cell[1..]));
                let again = Ring::load(&series, again);
                prop_assert_eq!(again.bytes(), ring.bytes(), "what is packed follows from the cells");
                prop_assert_eq!(&again, &ring);
            }
        }
    }
}
