//! Everything kept about one entity: its panes, cohorts, levels and registers.

use crate::clock::FUTURE_MS;
use crate::panes::Panes;
use crate::series::{Series, Values};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Panes(Panes),
    Amount(Box<[i64]>),
}

/// One series of a [`History`] as plain numbers, to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// The number of the series.
    pub series: u16,
    /// Its tiers, finest first: cell after cell, each its start and its fields. A level or register
    /// has one cell, without a start.
    pub tiers: Vec<Vec<i64>>,
    /// Of panes: where cells were [cut](History::cut).
    pub cut_ms: Option<i64>,
}

/// Everything kept about one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Most entities have few: room is made for one at a time.
    series: Vec<(u16, Kept)>,
}

impl History {
    /// Merges a delta. For a register, returns by how much each field changed.
    pub fn merge(&mut self, series: &Series, start_ms: i64, delta: &[i64]) -> Option<Values> {
        let kept = match self.series.iter().position(|(id, _)| *id == series.number) {
            Some(at) => &mut self.series[at].1,
            None => {
                let kept = if series.tiers().is_empty() {
                    Kept::Amount(series.identity().into_boxed_slice())
                } else {
                    Kept::Panes(Panes::default())
                };
                self.series.reserve_exact(1);
                self.series.push((series.number, kept));
                let last = self.series.len() - 1;
                &mut self.series[last].1
            }
        };
        match kept {
            Kept::Panes(panes) => {
                panes.merge(series, start_ms, delta);
                None
            }
            Kept::Amount(amount) => {
                if !series.is_register() {
                    series.merge(amount, delta);
                    return None;
                }
                let before = amount.clone();
                series.merge(amount, delta);
                let changes = amount.iter().zip(&before).take(series.merges.len());
                Some(
                    changes
                        .map(|(now, before)| now.wrapping_sub(*before))
                        .collect(),
                )
            }
        }
    }

    /// Makes room for a pane of the present, at the time `now_ms`: panes of its series that lie
    /// beyond [`FUTURE_MS`] were told under a clock that was wrong, and go. A pane that lies there
    /// itself changes nothing, and neither do cohorts, which may end in days.
    pub fn make_room(&mut self, series: &Series, start_ms: i64, now_ms: i64) {
        let present_ms = now_ms.saturating_add(FUTURE_MS);
        if start_ms > present_ms || !series.is_paned() {
            return;
        }
        let found = self.series.iter_mut().find(|(id, _)| *id == series.number);
        if let Some((_, Kept::Panes(panes))) = found
            && panes.newest_ms().is_some_and(|newest| newest > present_ms)
        {
            panes.drop_after(series, present_ms);
        }
    }

    /// Bytes of the panes of a series. They follow from the panes alone.
    pub fn bytes(&self, series: &Series) -> usize {
        self.panes(series).map_or(0, Panes::bytes)
    }

    /// Drops the oldest panes of a series until no more than so many bytes of them are kept, and
    /// returns how many it dropped. The newest one stays.
    pub fn cut(&mut self, series: &Series, bytes_max: usize) -> u64 {
        let found = self.series.iter_mut().find(|(id, _)| *id == series.number);
        match found {
            Some((_, Kept::Panes(panes))) => panes.cut(series, bytes_max),
            _ => 0,
        }
    }

    /// Everything kept, to be [loaded](Self::load) again. `all`: the series, by their numbers.
    pub fn dump<'a>(&'a self, all: &'a [Series]) -> impl Iterator<Item = Dump> + 'a {
        self.series.iter().map(|(series, kept)| Dump {
            series: *series,
            tiers: match kept {
                Kept::Panes(panes) => panes.dump(&all[usize::from(*series)]),
                Kept::Amount(values) => vec![values.to_vec()],
            },
            cut_ms: match kept {
                Kept::Panes(panes) => panes.cut_ms(),
                Kept::Amount(_) => None,
            },
        })
    }

    /// Takes a series as it was dumped, in place of what is kept of it. False, and nothing is
    /// taken, where it does not have the form that the series has now.
    pub fn load(&mut self, series: &Series, tiers: &[Vec<i64>], cut_ms: Option<i64>) -> bool {
        let kept = if series.tiers().is_empty() {
            match tiers {
                [values] if values.len() == series.width() => {
                    Some(Kept::Amount(values.as_slice().into()))
                }
                _ => None,
            }
        } else {
            Panes::load(series, tiers, cut_ms).map(Kept::Panes)
        };
        let Some(kept) = kept else { return false };
        self.series.retain(|(id, _)| *id != series.number);
        self.series.reserve_exact(1);
        self.series.push((series.number, kept));
        true
    }

    fn kept(&self, series: &Series) -> Option<&Kept> {
        self.series
            .iter()
            .find(|(id, _)| *id == series.number)
            .map(|(_, kept)| kept)
    }

    /// The panes of a series, where there are any.
    pub fn panes(&self, series: &Series) -> Option<&Panes> {
        match self.kept(series) {
            Some(Kept::Panes(panes)) => Some(panes),
            _ => None,
        }
    }

    /// The merged cells of `[from_ms, to_ms)`; cells that change nothing where there are none.
    pub fn sum(&self, series: &Series, from_ms: i64, to_ms: i64) -> Values {
        match self.panes(series) {
            Some(panes) => panes.sum(series, from_ms, to_ms),
            None => series.identity(),
        }
    }

    /// A level or register; `None` where nothing was ever told.
    pub fn amount(&self, series: &Series) -> Option<&[i64]> {
        match self.kept(series) {
            Some(Kept::Amount(values)) => Some(values),
            _ => None,
        }
    }
}
