//! What a signal is, and the list of all of them.
//!
//! A signal is two functions over what is kept about an entity: `advance`, for what has to be
//! done in sequence at each closed pane, and `read`. To add one, write it beside its siblings and
//! name it in [`ALL`].

use fenghuo_event::Stream;
use fenghuo_window::{Clock, History, Panes, Series};
use smallvec::SmallVec;

use crate::entity::{Entity, Kind};
use crate::fact::Facts;
use crate::reading::Reading;
use crate::{feedback, parcel, price, sales, stock, system};

/// What a signal keeps from pane to pane: a few numbers, empty at first.
pub type State = SmallVec<[f64; 6]>;

/// When a signal is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// At once, with every commit that touches the entity; reads open panes. For deterministic
    /// signals.
    EachDelta,
    /// Whenever a pane of this width closes.
    ClosedPane {
        /// Width of the pane.
        width_ms: i64,
    },
}

/// When to read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At this event time, or when touched.
    At(i64),
    /// Nothing changes until the entity is touched.
    Touched,
}

/// A reading, and when it may change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Read {
    /// The reading.
    pub reading: Reading,
    /// When to read again.
    pub next: Next,
}

/// What a signal may look at.
pub struct View<'a> {
    /// The entity.
    pub entity: &'a Entity,
    /// What was counted about it.
    pub history: &'a History,
    /// What was told about it.
    pub facts: &'a Facts,
    /// What the signal kept.
    pub state: &'a State,
    /// Event time: every pane that ends at or before it is closed.
    pub now_ms: i64,
    /// Nothing was heard of the signal's sources before this event time: no count from then is
    /// known, not even none.
    pub begun_ms: i64,
    /// The clocks of the signal's sources.
    pub clock: Clock,
}

impl View<'_> {
    /// When something was last told: `told_ms`, a maximum over all that was ever told, but not
    /// beyond the newest pane of `series`, into which the same events went. What was told under a
    /// clock that was far ahead is no longer in a pane once events of the present have come.
    pub fn honest_ms(&self, told_ms: i64, series: &Series) -> i64 {
        let newest_ms = self.history.panes(series).and_then(Panes::newest_ms);
        let width_ms = series.tiers().first().map_or(0, |tier| tier.width_ms);
        newest_ms.map_or(told_ms, |newest_ms| told_ms.min(newest_ms + width_ms))
    }
}

/// A named, documented number about an entity.
#[derive(Debug)]
pub struct Signal {
    /// Its name.
    pub name: &'static str,
    /// Unit of value, lower and upper.
    pub unit: &'static str,
    /// What it tells, in half a sentence.
    pub about: &'static str,
    /// How it is computed.
    pub formula: &'static str,
    /// Kinds of entity it reads.
    pub kinds: &'static [Kind],
    /// Streams that must have passed before it is read.
    pub streams: &'static [Stream],
    /// Series whose deltas change it.
    pub touched_by: &'static [&'static Series],
    /// When it is judged.
    pub judge: Judge,
    /// Takes the closed pane that ends at the view's time into the state. The view still holds
    /// the state before.
    pub advance: Option<fn(&View<'_>) -> State>,
    /// Reads.
    pub read: fn(&View<'_>) -> Read,
}

/// Every signal. Its index is its number inside a process; the log names signals by name.
pub static ALL: [&Signal; 11] = [
    &sales::PACE,
    &sales::DROUGHT,
    &stock::AVAILABLE_TO_PROMISE,
    &stock::HOURS_OF_COVER,
    &stock::OVERSELL,
    &price::FLOOR,
    &parcel::SHIP_FIRST_SCAN,
    &parcel::ETA_BREACH,
    &feedback::NEGATIVE_SHARE,
    &system::SOURCE_SILENCE,
    &system::SOURCE_LOST,
];

/// The names of all signals.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|signal| signal.name).collect()
}

/// The signal with this name.
pub fn by_name(name: &str) -> Option<&'static Signal> {
    ALL.iter().copied().find(|signal| signal.name == name)
}
