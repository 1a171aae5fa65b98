//! Series: what is counted, in which fields, and how it is kept.

use smallvec::SmallVec;

/// The fields of one cell.
pub type Values = SmallVec<[i64; 8]>;

/// How two values of a field become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Merge {
    /// They are added; an overflow wraps, so that the order never matters.
    Sum,
    /// The smaller one stays.
    Min,
    /// The larger one stays.
    Max,
}

impl Merge {
    /// What changes nothing when merged.
    #[inline]
    pub const fn identity(self) -> i64 {
        match self {
            Merge::Sum => 0,
            Merge::Min => i64::MAX,
            Merge::Max => i64::MIN,
        }
    }

    /// Merges.
    #[inline]
    pub fn apply(self, into: &mut i64, value: i64) {
        *into = match self {
            Merge::Sum => into.wrapping_add(value),
            Merge::Min => value.min(*into),
            Merge::Max => value.max(*into),
        }
    }
}

/// One resolution of a series: cells of `width_ms`, kept for `keep_ms` behind the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tier {
    /// Width of a cell.
    pub width_ms: i64,
    /// How far behind the newest cell a cell is kept.
    pub keep_ms: i64,
}

impl Tier {
    /// The number of the cell that `at_ms` falls into: its start, in widths.
    #[inline]
    pub(crate) fn number(&self, at_ms: i64) -> i64 {
        at_ms.div_euclid(self.width_ms)
    }

    /// The start of a cell by its number.
    #[inline]
    pub(crate) fn start_ms(&self, number: i64) -> i64 {
        number.saturating_mul(self.width_ms)
    }
}

/// How a series is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Cells of event time, finest tier first; each width divides the next.
    Panes(Box<[Tier]>),
    /// Cells by the start, promise or deadline of a life; kept like panes. Late events count.
    Cohorts(Box<[Tier]>),
    /// One running amount. Late events count.
    Level,
    /// One absolute amount, set and adjusted by one source in its order. Its changes are also
    /// summed into the level `total` of the entity that the owner names.
    Register {
        /// The number of the level.
        total: u16,
    },
}

/// A series: a row of integer fields about an entity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    /// Its number, by which a [`History`](crate::History) and a [`Combiner`](crate::Combiner) know
    /// it. Their owner gives the numbers and keeps them apart.
    pub number: u16,
    /// How it is kept.
    pub shape: Shape,
    /// How each field is merged, in order.
    pub merges: SmallVec<[Merge; 8]>,
}

impl Series {
    /// The tiers, finest first; none for levels and registers.
    #[inline]
    pub fn tiers(&self) -> &[Tier] {
        match &self.shape {
            Shape::Panes(tiers) | Shape::Cohorts(tiers) => tiers,
            Shape::Level | Shape::Register { .. } => &[],
        }
    }

    /// Whether its cells are cells of event time, which late events no longer reach.
    #[inline]
    pub fn is_paned(&self) -> bool {
        matches!(self.shape, Shape::Panes(_))
    }

    /// Whether it is a register.
    #[inline]
    pub fn is_register(&self) -> bool {
        matches!(self.shape, Shape::Register { .. })
    }

    /// Number of integers in a cell. A register has one more: whether it was set.
    #[inline]
    pub fn width(&self) -> usize {
        self.merges.len() + usize::from(self.is_register())
    }

    /// The cell that `at_ms` falls into; 0 for levels and registers.
    #[inline]
    pub fn cell_start(&self, at_ms: i64) -> i64 {
        match self.tiers().first() {
            Some(tier) => floor(at_ms, tier.width_ms),
            None => 0,
        }
    }

    /// A cell that changes nothing.
    pub fn identity(&self) -> Values {
        let mut values: Values = self.merges.iter().map(|merge| merge.identity()).collect();
        values.resize(self.width(), 0);
        values
    }

    /// Merges a cell into another. For a register `value` must be the later one.
    #[inline]
    pub fn merge(&self, into: &mut [i64], value: &[i64]) {
        if self.is_register() {
            let set = self.merges.len();
            if value[set] != 0 {
                into.copy_from_slice(value);
            } else {
                for (into, value) in into[..set].iter_mut().zip(value) {
                    *into = into.wrapping_add(*value);
                }
            }
            return;
        }
        for ((into, value), merge) in into.iter_mut().zip(value).zip(&self.merges) {
            merge.apply(into, *value);
        }
    }
}

/// The largest multiple of `width_ms` not after `at_ms`.
#[inline]
pub(crate) fn floor(at_ms: i64, width_ms: i64) -> i64 {
    at_ms.saturating_sub(at_ms.rem_euclid(width_ms))
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn a_register_takes_the_last_set_and_the_changes_after_it() {
        let stock = Series {
            number: 0,
            shape: Shape::Register { total: 1 },
            merges: smallvec![Merge::Sum],
        };
        let mut into = stock.identity();
        for value in [[5, 0], [100, 1], [-3, 0], [40, 1], [-1, 0]] {
            stock.merge(&mut into, &value);
        }
        assert_eq!(into.as_slice(), [39, 1]);
    }

    #[test]
    fn floors_below_zero_too() {
        assert_eq!(floor(-1, 10), -10);
        assert_eq!(floor(19, 10), 10);
        assert_eq!(floor(i64::MIN, 10), i64::MIN);
    }
}
