//! Clocks that jump and come back, and what has to be so all the same.
//!
//! Owns the drawing of such runs, the clock of the machine as the daemon reads it, and what is
//! compared with a run in which no clock was wrong.

use fenghuo_engine::Heard;
use fenghuo_window::Jump;
use fenghuo_window::checked::Checked;

use super::Violation;
use super::audit::Episodes;
use super::fault::{CLOCK_JUMPS_MS, Fault, Kind};
use super::input::{self, Meaning};
use super::plant::Plant;
use super::scenario::{Mode, START_MS, Scenario, TURNS};
use crate::random::{Random, mix};

/// What has to be so of each [`Probe`].
pub const IN_TIME: &str = "a sale below its floor is decided within 5 s of the clock being right";

/// What has to be so of a short step of the machine's clock.
pub const UNCHANGED: &str = "a short step of the clock resolves, expires and fires nothing";

/// What has to be so of each [`Probe`] while a clock is set for so long that it is followed.
pub const ONCE: &str = "a step of the clock that is followed ends no episode and begins none anew";

/// A sale below the floor, told while all clocks are right, is decided within this time, ms: some 50
/// turns, of which each worker rests in a part.
const DECIDED_MS: i64 = 5_000;
/// Turns for which a clock is wrong: 2 to 8 s, so that no step is believed for want of events.
const WRONG_TURNS: (i64, i64) = (20, 60);
/// Turns for which a clock is wrong that is followed, as nothing speaks against it: 30 to 70 s.
const FOLLOWED_TURNS: (i64, i64) = (300, 700);
/// Around such a step the shop tells nothing but the probes, until it is followed.
const QUIET_TURNS: usize = 150;
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
    let mut scenario = Scenario {
        seed,
        mode,
        times_ms,
        messages,
        faults: vec![Fault { turn, turns, kind }],
        probes: Vec::new(),
    };
    let end = turn + turns;
    for (number, at) in [turn - 200, end, end + 5, end + 150]
        .into_iter()
        .enumerate()
    {
        scenario.probe(number as u64, at, 0);
    }
    scenario.messages.sort_by_key(|message| message.turn);
    scenario
}

/// Draws a run in which the machine's clock is set for so long that it is followed, with sales below
/// a floor before it, in the second after it, while it is followed, and as soon as it is right.
pub(super) fn draw_followed(seed: u64, random: Random) -> Scenario {
    let mut scenario = draw(seed, random);
    let mut random = Random::new(mix(seed ^ 0x57e9));
    let turn = random.between(JUMPS.0, 900) as usize;
    let turns = random.between(FOLLOWED_TURNS.0, FOLLOWED_TURNS.1) as usize;
    let ahead_ms = CLOCK_JUMPS_MS[(seed % 8) as usize];
    let end = turn + turns;
    let quiet = turn - QUIET_TURNS..end + QUIET_TURNS;
    scenario
        .messages
        .retain(|message| !is_probe(message) && !quiet.contains(&message.turn));
    // Who tells the time of the clock is heard where the log is on this machine.
    let is_told = (seed / 8).is_multiple_of(2) && ahead_ms > 0 && scenario.mode != Mode::Kafka;
    let told_ms = if is_told { ahead_ms } else { 0 };
    // One of years is taken for what it is, and who tells the time from before for history.
    let is_near = ahead_ms > 0 && ahead_ms < 24 * 3_600_000;
    let mut at = vec![(turn - 200, 0), (turn + 3, told_ms)];
    at.extend(is_near.then_some((turn + 150, 0)));
    at.extend([(end, 0), (end + 150, 0)]);
    scenario.probes.clear();
    for (number, (at, by_ms)) in at.into_iter().enumerate() {
        scenario.probe(number as u64, at, by_ms);
    }
    scenario.messages.sort_by_key(|message| message.turn);
    let kind = Kind::Machine { ahead_ms };
    scenario.faults = vec![Fault { turn, turns, kind }];
    scenario
}

fn is_probe(message: &input::Message) -> bool {
    matches!(message.meaning, Meaning::Event { id, .. } if input::is_probe(id))
}

impl Scenario {
    /// Adds a sale below its floor, told in a turn by a sender whose clock is wrong by so much.
    fn probe(&mut self, number: u64, at: usize, by_ms: i64) {
        let times_ms = &self.times_ms;
        let told = input::below_floor(number, at, times_ms[at] + by_ms);
        let ids = told.iter().filter_map(|message| match message.meaning {
            Meaning::Event { id, .. } => Some(id),
            _ => None,
        });
        let told_ms = times_ms[at + 1];
        self.probes.push(Probe {
            sku: format!("probe{number}"),
            ids: ids.collect(),
            turn: at + 1,
            told_ms,
            due: times_ms.partition_point(|time| *time < told_ms + DECIDED_MS),
        });
        self.messages.extend(told);
    }

    /// Whether a clock is wrong for so long that it is followed.
    fn is_followed(&self) -> bool {
        let turns = self.faults.iter().map(|fault| fault.turns as i64);
        turns.max().is_some_and(|turns| turns >= FOLLOWED_TURNS.0)
    }
}

/// A sale below a floor counts for ten minutes, and no run is so long: of a clock that is followed
/// it is neither ended nor decided again.
pub(super) fn once(scenario: &Scenario, found: &Episodes) -> Result<(), Violation> {
    for probe in scenario.probes.iter().filter(|_| scenario.is_followed()) {
        let is_it = |step: &&fenghuo_alert::Transition| {
            step.rule == "floor" && *step.entity.first == *probe.sku
        };
        let steps: Vec<_> = found.values().flatten().filter(is_it).collect();
        if steps.len() != 1 {
            let steps = steps.iter();
            let steps =
                steps.map(|step| format!("{} {} {}", step.episode, step.to.as_str(), step.at_ms));
            let detail = format!("{}: {}", probe.sku, steps.collect::<Vec<_>>().join(", "));
            return Err(Violation::new(ONCE, detail));
        }
    }
    Ok(())
}

/// Whether a scenario goes as it would with every clock right: the machine's clock alone was wrong,
/// and for so short a time that what events say stands against it.
pub(super) fn changes_nothing(scenario: &Scenario) -> bool {
    let is_machine = |fault: &Fault| matches!(fault.kind, Kind::Machine { .. });
    let is_short = !scenario.is_followed();
    is_short && !scenario.faults.is_empty() && scenario.faults.iter().all(is_machine)
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
    wall_ms: i64,
    true_ms: i64,
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
            wall_ms: begin_ms,
            true_ms: begin_ms,
            now_ms: begin_ms,
        }
    }

    /// Time passes: the true one, by which the clock is wrong, and what each view heard of events.
    pub fn tick(&mut self, true_ms: i64, ahead_ms: i64, heard: &[Heard]) {
        let wall_ms = true_ms + ahead_ms;
        (self.wall_ms, self.true_ms) = (wall_ms, true_ms);
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
                self.checked.hear(occurred_ms, self.now_ms, true_ms);
            }
        }
    }

    /// An event is about to be written that says when it happened.
    pub fn hear(&mut self, occurred_ms: i64) {
        if !self.never_back {
            self.checked.hear(occurred_ms, self.now_ms, self.true_ms);
            self.now_ms = self.checked.look(self.wall_ms, self.true_ms);
        }
    }

    /// The last step forward that is followed.
    pub fn jump(&self) -> Option<Jump> {
        self.checked.jump()
    }
}
