//! Event time: what each source partition says of it, and what a group of sources has passed.

use std::collections::BTreeMap;

/// What a commit says of one source partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceState {
    /// Newest event time seen, less nothing; `i64::MIN` where none was.
    pub newest_ms: i64,
    /// Allowed lateness of the source.
    pub lateness_ms: i64,
    /// When the commit was made.
    pub at_ms: i64,
    /// Whether nothing more could be read then.
    pub at_end: bool,
}

impl SourceState {
    /// Everything before this is in: the watermark, or, at the end of the partition, the time of
    /// the commit less the allowed lateness, so that silence passes too.
    fn closed_ms(&self) -> i64 {
        let watermark_ms = self.newest_ms.saturating_sub(self.lateness_ms);
        if self.at_end {
            watermark_ms.max(self.at_ms.saturating_sub(self.lateness_ms))
        } else {
            watermark_ms
        }
    }

    /// The time of what was last seen.
    fn open_ms(&self) -> i64 {
        if self.at_end {
            self.newest_ms.max(self.at_ms)
        } else {
            self.newest_ms
        }
    }

    /// Whether it keeps up: at its end, or its newest event less than this behind the commit.
    fn keeps_up(&self, behind_ms_max: i64) -> bool {
        self.at_end || self.at_ms.saturating_sub(self.newest_ms) < behind_ms_max
    }
}

/// Two times of a source or of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Panes that end at or before this are closed.
    pub closed_ms: i64,
    /// The time of what was last seen: for what is judged at once.
    pub open_ms: i64,
}

#[derive(Clone, Debug, Default)]
struct Source {
    partitions: u32,
    states: BTreeMap<u32, SourceState>,
}

/// The clocks of all sources, by name. They never go back.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    sources: BTreeMap<String, Source>,
}

impl Clocks {
    /// Takes what a commit says of a source partition.
    pub fn update(&mut self, source: &str, partition: u32, partitions: u32, state: SourceState) {
        if !self.sources.contains_key(source) {
            self.sources.insert(source.to_owned(), Source::default());
        }
        if let Some(source) = self.sources.get_mut(source) {
            source.partitions = partitions;
            let kept = source.states.entry(partition).or_insert(state);
            let newest_ms = kept.newest_ms.max(state.newest_ms);
            // A clock of a machine may jump back; time here does not.
            let at_ms = kept.at_ms.max(state.at_ms);
            *kept = SourceState {
                newest_ms,
                at_ms,
                ..state
            };
        }
    }

    /// What is kept of each source partition: the source, its number of partitions, the partition.
    pub fn states(&self) -> impl Iterator<Item = (&str, u32, u32, SourceState)> {
        self.sources.iter().flat_map(|(name, source)| {
            let states = source.states.iter();
            states.map(move |(at, state)| (name.as_str(), source.partitions, *at, *state))
        })
    }

    /// The clock of one source: the earliest of its partitions; `None` until all have told a
    /// time.
    pub fn source(&self, source: &str) -> Option<Clock> {
        let source = self.sources.get(source)?;
        if (source.states.len() as u32) < source.partitions {
            return None;
        }
        let closed_ms = source.states.values().map(SourceState::closed_ms).min()?;
        let open_ms = source.states.values().map(SourceState::open_ms).max()?;
        // A partition that has records to read and no event yet has no time yet.
        (closed_ms != i64::MIN).then_some(Clock { closed_ms, open_ms })
    }

    /// The clock of several sources: what all have passed; `None` where one has not spoken.
    pub fn all<'a>(&self, sources: impl IntoIterator<Item = &'a str>) -> Option<Clock> {
        let mut all: Option<Clock> = None;
        for source in sources {
            let one = self.source(source)?;
            let so_far = all.get_or_insert(one);
            so_far.closed_ms = so_far.closed_ms.min(one.closed_ms);
            so_far.open_ms = so_far.open_ms.max(one.open_ms);
        }
        all
    }

    /// Whether every source named keeps up with its log.
    pub fn keep_up<'a>(
        &self,
        sources: impl IntoIterator<Item = &'a str>,
        behind_ms_max: i64,
    ) -> bool {
        sources.into_iter().all(|name| {
            self.sources.get(name).is_some_and(|source| {
                source.states.len() as u32 >= source.partitions
                    && source
                        .states
                        .values()
                        .all(|state| state.keeps_up(behind_ms_max))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(newest_ms: i64, at_ms: i64, at_end: bool) -> SourceState {
        SourceState {
            newest_ms,
            lateness_ms: 5,
            at_ms,
            at_end,
        }
    }

    #[test]
    fn an_idle_partition_holds_nothing_back_but_a_lagging_one_does() {
        let mut clocks = Clocks::default();
        clocks.update("orders", 0, 2, state(100, 1_000, true));
        assert_eq!(clocks.source("orders"), None, "one of two has not spoken");
        clocks.update("orders", 1, 2, state(980, 1_000, false));
        assert_eq!(
            clocks.source("orders"),
            Some(Clock {
                closed_ms: 975,
                open_ms: 1_000
            })
        );
        clocks.update("orders", 0, 2, state(100, 1_100, false));
        assert_eq!(
            clocks.source("orders").map(|clock| clock.closed_ms),
            Some(95)
        );
    }

    #[test]
    fn a_clock_that_jumps_back_is_not_followed() {
        let mut clocks = Clocks::default();
        clocks.update("orders", 0, 1, state(0, 1_000, true));
        clocks.update("orders", 0, 1, state(0, 10, true));
        assert_eq!(
            clocks.source("orders").map(|clock| clock.closed_ms),
            Some(995)
        );
    }
}
