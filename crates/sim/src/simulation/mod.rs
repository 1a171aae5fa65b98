//! The whole topology in virtual time, with everything going wrong that can, from a seed.
//!
//! Several instances of every stage share one in-memory log, or one has a folder on a disk that
//! fails. A [`Scenario`] says beforehand what
//! the shop tells and what goes wrong; [`run`] plays it, and holds what the stages commit, show
//! and send against what must be so, turn by turn; [`shrink`] makes a failure short. The same
//! scenario goes the same way, always: nothing here reads a clock or starts a thread.
//!
//! ```
//! use fenghuo_sim::simulation::{Scenario, run};
//! let report = run(&Scenario::new(1), None).unwrap();
//! assert!(report.messages >= 2_000 && report.faults >= 20);
//! ```

mod audit;
mod clocks;
mod fault;
mod input;
mod kept;
mod oracle;
mod plant;
mod process;
mod scenario;
mod sender;
mod shrink;
mod world;

pub use crate::disk::Operation;
pub use clocks::Probe;
pub use fault::{Fault, Kind, Mood, Stage};
pub use input::{Line, Meaning, Message, Said};
pub use oracle::Fate;
pub use plant::Plant;
pub use scenario::{Mode, Scenario};
pub use shrink::{Short, shrink};

/// What must be so and was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What must be so.
    pub invariant: &'static str,
    /// What was found instead.
    pub detail: String,
    /// In which turn.
    pub turn: usize,
}

impl Violation {
    fn new(invariant: &'static str, detail: String) -> Self {
        Self {
            invariant,
            detail,
            turn: 0,
        }
    }

    fn at(mut self, turn: usize) -> Self {
        self.turn = turn;
        self
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "\"{}\", turn {}: {}",
            self.invariant, self.turn, self.detail
        )
    }
}

/// What a run that kept every promise did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages that the shop appended.
    pub messages: usize,
    /// What became of them.
    pub fates: Vec<(Fate, usize)>,
    /// Faults that found something to hit.
    pub faults: usize,
    /// Commits made.
    pub commits: usize,
    /// Sessions that failed.
    pub failed: usize,
    /// Commits that a power loss took back.
    pub taken_back: usize,
    /// Operations of the disk that failed.
    pub disk_failed: usize,
    /// Records that retention dropped.
    pub dropped: u64,
    /// Episodes decided.
    pub episodes: usize,
    /// Pages decided.
    pub intents: usize,
    /// Pages taken by receivers, with repeats.
    pub pages: usize,
}

impl Report {
    /// Adds what another run did.
    pub fn add(&mut self, other: &Report) {
        if self.fates.is_empty() {
            self.fates = other.fates.iter().map(|(fate, _)| (*fate, 0)).collect();
        }
        for ((_, into), (_, count)) in self.fates.iter_mut().zip(&other.fates) {
            *into += count;
        }
        self.messages += other.messages;
        self.faults += other.faults;
        self.commits += other.commits;
        self.failed += other.failed;
        self.taken_back += other.taken_back;
        self.disk_failed += other.disk_failed;
        self.dropped += other.dropped;
        self.episodes += other.episodes;
        self.intents += other.intents;
        self.pages += other.pages;
    }
}

/// Plays a scenario; with a planted bug, if one is given.
pub fn run(scenario: &Scenario, plant: Option<Plant>) -> Result<Report, Violation> {
    let world = world::World::new(scenario, plant);
    let world = world.map_err(|error| Violation::new("the topology opens", error.to_string()))?;
    let (report, episodes) = world.run()?;
    clocks::once(scenario, &episodes)?;
    if clocks::changes_nothing(scenario) {
        let true_time = world::World::new(&scenario.clone().without_faults(), None)
            .map_err(|error| Violation::new("the topology opens", error.to_string()))?
            .run()?;
        clocks::same(&episodes, &true_time.1)?;
    }
    Ok(report)
}

#[cfg(test)]
mod tests;
