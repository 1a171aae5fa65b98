//! Shrinking: from a scenario that fails to a short one that fails in the same way.

use super::plant::Plant;
use super::scenario::Scenario;
use super::{Violation, run};

/// Runs that one shrinking may take.
const RUNS_MAX: usize = 250;

/// A short history of a failure.
pub struct Short {
    /// What is left of the scenario.
    pub scenario: Scenario,
    /// How it fails.
    pub violation: Violation,
}

struct Shrinker {
    plant: Option<Plant>,
    runs: usize,
    best: Short,
}

/// Leaves out of a scenario what it also fails without: first faults, then messages.
pub fn shrink(scenario: Scenario, violation: Violation, plant: Option<Plant>) -> Short {
    let mut shrinker = Shrinker {
        plant,
        runs: 0,
        best: Short {
            scenario,
            violation,
        },
    };
    shrinker.cut();
    shrinker.drop_faults();
    shrinker.drop_messages();
    // With fewer messages some faults have nothing left to do.
    shrinker.drop_faults();
    shrinker.cut();
    shrinker.best
}

impl Shrinker {
    /// Keeps a smaller scenario if it fails too.
    fn fails(&mut self, scenario: Scenario) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let Err(violation) = run(&scenario, self.plant) else {
            return false;
        };
        let same = violation.invariant == self.best.violation.invariant;
        if same {
            self.best = Short {
                scenario,
                violation,
            };
        }
        same
    }

    /// Leaves out what comes after the failure.
    fn cut(&mut self) {
        let turn = self.best.violation.turn;
        let mut scenario = self.best.scenario.clone();
        if turn + 1 < scenario.times_ms.len() {
            scenario.times_ms.truncate(turn + 1);
            scenario.messages.retain(|message| message.turn <= turn);
            scenario.faults.retain(|fault| fault.turn <= turn);
            self.fails(scenario);
        }
    }

    fn drop_faults(&mut self) {
        let mut at = self.best.scenario.faults.len();
        while at > 0 {
            at -= 1;
            let mut scenario = self.best.scenario.clone();
            scenario.faults.remove(at);
            self.fails(scenario);
        }
    }

    /// Ever smaller pieces, as long as leaving them out leaves the failure (delta debugging:
    /// Zeller and Hildebrandt, 2002).
    fn drop_messages(&mut self) {
        let mut piece = self.best.scenario.messages.len() / 2;
        while piece > 0 {
            let mut from = 0;
            while from < self.best.scenario.messages.len() && self.runs < RUNS_MAX {
                let mut scenario = self.best.scenario.clone();
                let to = (from + piece).min(scenario.messages.len());
                scenario.messages.drain(from..to);
                if !self.fails(scenario) {
                    from += piece;
                }
            }
            piece /= 2;
        }
    }
}
