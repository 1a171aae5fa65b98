//! Clocks that jump and come back, and what has to be so all the same.
//!
//! Owns the drawing of such runs, the clock of the machine as the daemon reads it, and what is
//! compared with a run in which no clock was wrong.

use fenghuo_engine::Heard;
use fenghuo_window::checked::Checked;

use super::Violation;
use super::audit::Episodes;
use super::fault::{CLOCK_JUMPS_MS, Fault, Kind};
use super::input::{self, Meaning};
use super::plant::Plant;
use super::scenario::{Mode, START_MS, Scenario, TURNS};
use crate::random::Random;

/// What has to be so of each [`Probe`].
pub const IN_TIME: &str = "a sale below its floor is decided within 5 s of the clock being right";

/// What has to be so of a short step of the machine's clock.
pub const UNCHANGED: &str = "a short step of the clock resolves, expires and fires nothing";

/// A sale below the floor, told while all clocks are right, is decided within this time, ms: some 50
/// turns, of which each worker rests in a part.
const DECIDED_MS: i64 = 5_000;
/// Turns for which a clock is wrong: 2 to 8 s, so that no step is believed for want of events.
const WRONG_TURNS: (i64, i64) = (20, 60);
/// The jump begins in one of these turns.
const JUMPS: (i64, i64) = (600, 1_400);

/// A sale below its floor.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What was sold.
    pub sku: String,
    /// Ids of the events that tell it.
    pub ids: Vec<u64>,
    /// The turn in which it is told.
    pub turn: usize,
    /// When that is, Unix ms.
    pub told_ms: i64,
    /// The first turn in which it has to be decided.
    pub due: usize,
}

impl Probe {
    /// Whether it has to be decided by now, if it was told.
    pub(super) fn is_due(&self, scenario: &Scenario, turn: usize) -> bool {
        let is_it = |message: &&input::Message| match message.meaning {
            Meaning::Event { id, .. } => self.ids.contains(&id),
            _ => false,
        };
        turn == self.due && scenario.messages.iter().filter(is_it).count() == self.ids.len()
    }
}

/// Draws a run: one jump, sales below a floor before it and after it, and no repeats, since a clock
/// that was ahead by hours forgets what it knew.
pub(super) fn draw(seed: u64, mut random: Random) -> Scenario {
    let mode = [Mode::Kafka, Mode::Embedded, Mode::Folder][(seed % 3) as usize];
    let mut now_ms = START_MS;
    let times_ms: Vec<i64> = (0..TURNS)
        .map(|_| {
            now_ms += random.between(50, 150);
            now_ms
        })
        .collect();
    let mut messages = input::draw(&mut random, &times_ms);
    let mut known = std::collections::BTreeSet::new();
    messages.retain(|message| match message.meaning {
        Meaning::Event { id, .. } => known.insert(id),
        _ => true,
    });
    let turn = random.between(JUMPS.0, JUMPS.1) as usize;
    let turns = random.between(WRONG_TURNS.0, WRONG_TURNS.1) as usize;
    // By turns, so that sixteen seeds hold all of them.
    let which = (seed % 16) as usize;
    let ahead_ms = CLOCK_JUMPS_MS[which / 2];
    let kind = match which.is_multiple_of(2) {
        true => Kind::Machine { ahead_ms },
        false => Kind::Broker { ahead_ms },
    };
    let mut probes = Vec::new();
    for (number, at) in [
        turn - 200,
        turn + turns,
        turn + turns + 5,
        turn + turns + 150,
    ]
    .into_iter()
    .enumerate()
    {
        let told = input::below_floor(number as u64, at, times_ms[at]);
        let ids = told.iter().filter_map(|message| match message.meaning {
            Meaning::Event { id, .. } => Some(id),
            _ => None,
        });
        let told_ms = times_ms[at + 1];
        probes.push(Probe {
            sku: format!("probe{number}"),
            ids: ids.collect(),
            turn: at + 1,
            told_ms,
            due: times_ms.partition_point(|time| *time < told_ms + DECIDED_MS),
        });
        messages.extend(told);
    }
    messages.sort_by_key(|message| message.turn);
    Scenario {
        seed,
        mode,
        times_ms,
        messages,
        faults: vec![Fault { turn, turns, kind }],
        probes,
    }
}

/// Whether a scenario goes as it would with every clock right: the machine's clock alone was wrong,
/// and for so short a time that what events say stands against it.
pub(super) fn changes_nothing(scenario: &Scenario) -> bool {
    let is_machine = |fault: &Fault| matches!(fault.kind, Kind::Machine { .. });
    !scenario.faults.is_empty() && scenario.faults.iter().all(is_machine)
}

/// Holds what was decided against what is decided with every clock right.
pub(super) fn same(found: &Episodes, expected: &Episodes) -> Result<(), Violation> {
    let ids = found.keys().chain(expected.keys());
    for id in ids {
        let (here, there) = (found.get(id), expected.get(id));
        if here != there {
            let say = |steps: Option<&Vec<fenghuo_alert::Transition>>| {
                let steps = steps.into_iter().flatten();
                let steps =
                    steps.map(|step| format!("{} {} {}", step.rule, step.to.as_str(), step.at_ms));
                steps.collect::<Vec<_>>().join(", ")
            };
            let detail = format!("{id}: [{}], expected [{}]", say(here), say(there));
            return Err(Violation::new(UNCHANGED, detail));
        }
    }
    Ok(())
}

/// The clock of the machine as its processes read it.
pub(super) struct Machine {
    checked: Checked,
    never_back: bool,
    commits: Vec<u64>,
    /// The time that is told.
    pub now_ms: i64,
}

impl Machine {
    /// The clock of a run.
    pub fn new(scenario: &Scenario, plant: Option<Plant>) -> Self {
        let begin_ms = scenario.times_ms.first().copied().unwrap_or(START_MS);
        Self {
            checked: Checked::new(begin_ms, begin_ms),
            never_back: plant == Some(Plant::NeverBack),
            commits: Vec::new(),
            now_ms: begin_ms,
        }
    }

    /// Time passes: the true one, by which the clock is wrong, and what each board heard of events.
    pub fn tick(&mut self, true_ms: i64, ahead_ms: i64, heard: &[Heard]) {
        let wall_ms = true_ms + ahead_ms;
        if self.never_back {
            self.now_ms = self.now_ms.max(wall_ms);
            return;
        }
        self.now_ms = self.checked.look(wall_ms, true_ms);
        self.commits.resize(heard.len(), 0);
        for (heard, commits) in heard.iter().zip(&mut self.commits) {
            if std::mem::replace(commits, heard.commits) != heard.commits
                && let Some(occurred_ms) = heard.occurred_ms
            {
                self.checked.hear(occurred_ms, self.now_ms);
            }
        }
    }
}
