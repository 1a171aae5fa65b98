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

/// How far behind what a partition told before a commit may be made without time going back: the
/// clocks of those who take over from each other differ by less.
pub const STEP_MS: i64 = 5_000;

/// What lies further ahead of the clock than this was told under a clock that was wrong.
pub const FUTURE_MS: i64 = 10 * 60_000;

/// The clocks of all sources, by name. They go forward, but for a step back of the clock of whoever
/// commits: then time goes on from where that clock is now.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    sources: BTreeMap<String, Source>,
}

impl Clocks {
    /// Takes what a commit says of a source partition. Returns whether its time went back: the
    /// clock of the commit is behind the one before by more than [`STEP_MS`], or what was newest
    /// lies in its future and is not told any more.
    pub fn update(
        &mut self,
        source: &str,
        partition: u32,
        partitions: u32,
        state: SourceState,
    ) -> bool {
        let source = match self.sources.get_mut(source) {
            Some(source) => source,
            None => self.sources.entry(source.to_owned()).or_default(),
        };
        source.partitions = partitions;
        let kept = source.states.entry(partition).or_insert(state);
        let is_stepped = state.at_ms < kept.at_ms.saturating_sub(STEP_MS);
        let present_ms = state.at_ms.saturating_add(FUTURE_MS);
        let is_told = state.newest_ms > i64::MIN && state.newest_ms <= present_ms;
        let is_unsaid = kept.newest_ms > present_ms && is_told;
        let newest_ms = match is_unsaid {
            true => state.newest_ms,
            false => kept.newest_ms.max(state.newest_ms),
        };
        let at_ms = match is_stepped {
            true => state.at_ms,
            // The clocks of two machines differ a little.
            false => kept.at_ms.max(state.at_ms),
        };
        *kept = SourceState {
            newest_ms,
            at_ms,
            ..state
        };
        is_stepped || is_unsaid
    }

    /// What is kept of each source partition: the source, its number of partitions, the partition.
    pub fn states(&self) -> impl Iterator<Item = (&str, u32, u32, SourceState)> {
        self.sources.iter().flat_map(|(name, source)| {
            let states = source.states.iter();
            states.map(move |(at, state)| (name.as_str(), source.partitions, *at, *state))
        })
    }

    /// Whether some source has not passed a time.
    pub fn is_behind(&self, ms: i64) -> bool {
        let mut sources = self.sources.values();
        sources.any(|source| source.states.values().any(|state| state.closed_ms() < ms))
    }

    /// The longest lateness that any source is allowed.
    pub fn lateness_ms(&self) -> i64 {
        let states = self
            .sources
            .values()
            .flat_map(|source| source.states.values());
        states.map(|state| state.lateness_ms).max().unwrap_or(0)
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

    /// The same for what a step of the clock did to it. A partition of which nothing was ever taken has
    /// no time of its own, and none while it has records to read: here it has that of its commits.
    pub fn reached<'a>(&self, sources: impl IntoIterator<Item = &'a str>) -> Option<Clock> {
        let mut all: Option<Clock> = None;
        for name in sources {
            let source = self.sources.get(name)?;
            if (source.states.len() as u32) < source.partitions {
                return None;
            }
            for state in source.states.values() {
                let is_untold = state.newest_ms == i64::MIN;
                let state = SourceState {
                    at_end: state.at_end || is_untold,
                    ..*state
                };
                let (closed_ms, open_ms) = (state.closed_ms(), state.open_ms());
                let so_far = all.get_or_insert(Clock { closed_ms, open_ms });
                so_far.closed_ms = so_far.closed_ms.min(closed_ms);
                so_far.open_ms = so_far.open_ms.max(open_ms);
            }
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

    /// Guards: the first events of a partition lay between a step and what was to see it.
    #[test]
    fn a_partition_without_events_hides_no_step() {
        let mut clocks = Clocks::default();
        clocks.update("orders", 0, 2, state(900, 1_000, true));
        clocks.update("orders", 1, 2, state(i64::MIN, 1_000, true));
        assert_eq!(clocks.reached(["orders"]), clocks.source("orders"));
        clocks.update("orders", 0, 2, state(900, 3_601_000, true));
        clocks.update("orders", 1, 2, state(i64::MIN, 3_601_000, false));
        assert_eq!(clocks.source("orders"), None);
        let reached = clocks.reached(["orders"]).map(|clock| clock.closed_ms);
        assert_eq!(reached, Some(3_600_995));
        assert_eq!(clocks.reached(["orders", "visits"]), None);
    }

    #[test]
    fn clocks_that_differ_a_little_are_no_step() {
        let mut clocks = Clocks::default();
        assert!(!clocks.update("orders", 0, 1, state(0, 10_000, true)));
        assert!(!clocks.update("orders", 0, 1, state(0, 10_000 - STEP_MS, true)));
        assert_eq!(
            clocks.source("orders").map(|clock| clock.closed_ms),
            Some(9_995)
        );
    }

    /// Guards: time stood still until a clock that had been an hour ahead came by there again.
    #[test]
    fn a_step_back_is_followed_and_takes_what_was_told_of_the_future_with_it() {
        let hour_ms = 3_600_000;
        let mut clocks = Clocks::default();
        clocks.update("orders", 0, 1, state(1_000, 1_000, true));
        assert!(!clocks.update("orders", 0, 1, state(hour_ms, hour_ms, true)));
        assert!(clocks.update("orders", 0, 1, state(hour_ms, 2_000, true)));
        // Whether the clock or the event is right is not known until another one comes.
        let open_ms = |clocks: &Clocks| clocks.source("orders").map(|clock| clock.open_ms);
        assert_eq!(open_ms(&clocks), Some(hour_ms));
        assert!(clocks.update("orders", 0, 1, state(2_500, 3_000, true)));
        assert_eq!(open_ms(&clocks), Some(3_000));
        assert!(!clocks.update("orders", 0, 1, state(3_500, 4_000, true)));
    }
}
