//! What is to go wrong, and when: all of it follows from the settings, the seed among them.
//!
//! It must never look at the run: a plan that was printed can be carried out again.

use std::fmt;

use anyhow::{Result, ensure};

use super::random::Random;

/// How long everything runs before anything goes wrong.
const CALM_MS: u64 = 8_000;
/// How long the first kill is alone where there is time for that, so that it shows how fast the
/// others take over.
const ALONE_MS: u64 = 35_000;
/// A run so long has time for that.
const LONG_MS: u64 = 180_000;
/// From when on nothing may be broken any more, before the end of the traffic.
const MENDED_MS: u64 = 8_000;
/// An instance that was started, or comes back, is left alone for so long.
const RECOVERY_MS: u64 = 2_000;
/// How long a trouble of the shop lasts, at least and at most; a third of the run in between. What
/// is over before anybody could see it is paged to nobody, so it is longer than takeovers take.
const TROUBLE_MS: (u64, u64) = (45_000, 120_000);
/// Between one trouble of the shop and the next, at least and less than.
const BETWEEN_TROUBLES_MS: (u64, u64) = (3_000, 7_000);
/// Tries to find a place for a fault.
const TRIES: u32 = 2_000;

/// What to plan for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How long events are produced, in ms.
    pub traffic_ms: u64,
    /// Instances to kill, all in all.
    pub kills: usize,
    /// What chance begins with.
    pub seed: u64,
    /// Instances of the daemon.
    pub instances: usize,
    /// Orders a second.
    pub rate: u64,
}

/// How a line is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing comes through, and nobody is told.
    Silent,
    /// Connections are closed, and new ones too.
    Closed,
}

/// How the receivers of pages fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No connection holds.
    Closed,
    /// They answer 503.
    Unavailable,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of an instance; it is started again.
    Kill(usize),
    /// SIGSTOP of an instance for longer than its session holds, then SIGCONT: a zombie.
    Freeze(usize),
    /// The line between an instance and the broker.
    Cut(usize, Cut),
    /// `kill -9` of the broker; it is started again on the same disk.
    Broker,
    /// The receivers of pages.
    Receivers(Refusal),
}

/// A fault with its times, in ms since the traffic began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it begins.
    pub from_ms: u64,
    /// When it is mended.
    pub to_ms: u64,
    /// What it is.
    pub fault: Fault,
}

/// A trouble of the shop that a page has to tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A sku is ordered below its floor.
    Dip,
    /// A sku has orders and no stock, until there is stock again.
    SoldOut,
}

/// A trouble with its times, in ms since the traffic began. Each has a sku of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// When it begins.
    pub from_ms: u64,
    /// When it is over.
    pub to_ms: u64,
    /// What it is.
    pub trouble: Trouble,
}

/// The whole plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it was made for.
    pub settings: Settings,
    /// What goes wrong, in order.
    pub faults: Vec<Planned>,
    /// What the shop suffers, in order.
    pub troubles: Vec<Staged>,
}

impl Plan {
    /// The plan of these settings.
    ///
    /// # Errors
    /// When so much does not fit into the time.
    pub fn new(settings: Settings) -> Result<Self> {
        let Settings {
            traffic_ms,
            kills,
            seed,
            instances,
            ..
        } = settings;
        ensure!(
            instances >= 2,
            "{instances} instances: take 2 or more, so that one can take over"
        );
        ensure!(traffic_ms >= 30_000, "{traffic_ms} ms are too short");
        let mut random = Random::new(seed);
        let mut making = Making {
            faults: Vec::new(),
            until_ms: traffic_ms - MENDED_MS,
        };
        let mut from_ms = CALM_MS;
        let mut kills_left = kills;
        if traffic_ms >= LONG_MS && kills > 0 {
            making.faults.push(Planned {
                from_ms,
                to_ms: from_ms + ALONE_MS,
                fault: Fault::Kill(random.below(instances as u64) as usize),
            });
            from_ms += ALONE_MS;
            kills_left -= 1;
        }
        let minutes = traffic_ms / 60_000;
        let instance = |random: &mut Random| random.below(instances as u64) as usize;
        // The long ones first: the short ones find their places between them.
        for number in 0..(minutes / 5).max(1) {
            let longest_ms = (traffic_ms / 5).min(120_000);
            let lasts_ms = random.between(longest_ms / 2, longest_ms);
            let how = match number % 2 {
                0 => Refusal::Unavailable,
                _ => Refusal::Closed,
            };
            making.place(&mut random, from_ms, lasts_ms, |_| Fault::Receivers(how))?;
        }
        for _ in 0..(minutes / 3).max(1) {
            let lasts_ms = random.between(8_000, 14_000);
            making.place(&mut random, from_ms, lasts_ms, |random| {
                Fault::Freeze(instance(random))
            })?;
        }
        for _ in 0..(minutes / 3).max(1) {
            let lasts_ms = random.between(1_000, 6_000);
            making.place(&mut random, from_ms, lasts_ms, |_| Fault::Broker)?;
        }
        for number in 0..(minutes / 2).max(1) {
            let lasts_ms = random.between(3_000, 18_000);
            let how = match number % 2 {
                0 => Cut::Silent,
                _ => Cut::Closed,
            };
            making.place(&mut random, from_ms, lasts_ms, |random| {
                Fault::Cut(instance(random), how)
            })?;
        }
        for _ in 0..kills_left {
            let lasts_ms = random.between(200, 5_000);
            making.place(&mut random, from_ms, lasts_ms, |random| {
                Fault::Kill(instance(random))
            })?;
        }
        let mut faults = making.faults;
        faults.sort_by_key(|planned| planned.from_ms);
        Ok(Self {
            settings,
            faults,
            troubles: troubles(&mut random, traffic_ms),
        })
    }

    /// How many faults of a kind there are.
    pub fn count(&self, is_it: impl Fn(Fault) -> bool) -> usize {
        let faults = self.faults.iter();
        faults.filter(|planned| is_it(planned.fault)).count()
    }
}

fn troubles(random: &mut Random, traffic_ms: u64) -> Vec<Staged> {
    let mut troubles = Vec::new();
    let lasts_ms = (traffic_ms / 3).clamp(TROUBLE_MS.0, TROUBLE_MS.1);
    let mut from_ms = 5_000;
    while from_ms + 15_000 < traffic_ms {
        let trouble = match troubles.len() % 2 {
            0 => Trouble::Dip,
            _ => Trouble::SoldOut,
        };
        // The last ones end after the orders, when nothing is broken.
        troubles.push(Staged {
            from_ms,
            to_ms: from_ms + lasts_ms,
            trouble,
        });
        from_ms += random.between(BETWEEN_TROUBLES_MS.0, BETWEEN_TROUBLES_MS.1);
    }
    troubles
}

struct Making {
    faults: Vec<Planned>,
    until_ms: u64,
}

impl Making {
    /// Finds a time at which what it breaks is whole.
    fn place(
        &mut self,
        random: &mut Random,
        from_ms: u64,
        lasts_ms: u64,
        fault: impl Fn(&mut Random) -> Fault,
    ) -> Result<()> {
        for _ in 0..TRIES {
            let begin_ms = random.between(from_ms, self.until_ms.saturating_sub(lasts_ms));
            let planned = Planned {
                from_ms: begin_ms,
                to_ms: begin_ms + lasts_ms,
                fault: fault(random),
            };
            let is_free = planned.to_ms <= self.until_ms
                && self.faults.iter().all(|other| !planned.touches(other));
            if is_free {
                self.faults.push(planned);
                return Ok(());
            }
        }
        anyhow::bail!("so many faults do not fit into the time: take fewer kills or more minutes")
    }
}

impl Planned {
    /// Whether the two break the same thing at the same time, or soon after each other.
    fn touches(&self, other: &Planned) -> bool {
        let is_apart =
            self.to_ms + RECOVERY_MS <= other.from_ms || other.to_ms + RECOVERY_MS <= self.from_ms;
        !is_apart && self.fault.breaks() == other.fault.breaks()
    }
}

impl Fault {
    /// What it breaks: an instance, or one of the things that they share.
    fn breaks(self) -> usize {
        match self {
            Fault::Kill(instance) | Fault::Freeze(instance) | Fault::Cut(instance, _) => instance,
            Fault::Broker => usize::MAX,
            Fault::Receivers(_) => usize::MAX - 1,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill(instance) => write!(f, "kill -9 of instance {instance}"),
            Fault::Freeze(instance) => write!(f, "instance {instance} is stopped (zombie)"),
            Fault::Cut(instance, Cut::Silent) => {
                write!(f, "silence between instance {instance} and the broker")
            }
            Fault::Cut(instance, Cut::Closed) => {
                write!(
                    f,
                    "no connection between instance {instance} and the broker"
                )
            }
            Fault::Broker => write!(f, "kill -9 of the broker"),
            Fault::Receivers(Refusal::Closed) => write!(f, "no connection to the receivers"),
            Fault::Receivers(Refusal::Unavailable) => write!(f, "the receivers answer 503"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings {
            traffic_ms,
            kills,
            seed,
            instances,
            rate,
        } = self.settings;
        writeln!(
            f,
            "seed {seed}: {instances} instances, {rate} orders/s for {} s, {kills} kills, \
             {} troubles of the shop",
            traffic_ms / 1_000,
            self.troubles.len()
        )?;
        for planned in &self.faults {
            writeln!(
                f,
                "  {:>7.1} s to {:>7.1} s  {}",
                planned.from_ms as f64 / 1e3,
                planned.to_ms as f64 / 1e3,
                planned.fault
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(seed: u64) -> Settings {
        Settings {
            traffic_ms: 600_000,
            kills: 50,
            seed,
            instances: 3,
            rate: 300,
        }
    }

    #[test]
    fn a_seed_is_a_plan_and_another_seed_another() {
        let plan = Plan::new(settings(7)).unwrap();
        assert_eq!(plan, Plan::new(settings(7)).unwrap());
        assert_ne!(plan.faults, Plan::new(settings(8)).unwrap().faults);
    }

    #[test]
    fn a_plan_has_what_was_asked_for_and_breaks_nothing_twice_at_once() {
        for seed in 0..50 {
            let plan = Plan::new(settings(seed)).unwrap();
            assert_eq!(plan.count(|fault| matches!(fault, Fault::Kill(_))), 50);
            assert!(plan.count(|fault| fault == Fault::Broker) >= 2);
            assert!(plan.count(|fault| matches!(fault, Fault::Freeze(_))) >= 1);
            for (at, planned) in plan.faults.iter().enumerate() {
                assert!(planned.from_ms < planned.to_ms && planned.to_ms <= 592_000);
                let others = plan.faults[at + 1..].iter();
                assert!(others.clone().all(|other| !planned.touches(other)));
            }
            // The first kill stands alone.
            let Some((first, rest)) = plan.faults.split_first() else {
                panic!("no faults");
            };
            assert!(matches!(first.fault, Fault::Kill(_)));
            assert!(rest.iter().all(|other| other.from_ms >= first.to_ms));
        }
    }

    #[test]
    fn too_much_is_refused() {
        let error = Plan::new(Settings {
            traffic_ms: 60_000,
            kills: 500,
            ..settings(1)
        });
        assert!(error.unwrap_err().to_string().contains("do not fit"));
        assert!(
            Plan::new(Settings {
                instances: 1,
                ..settings(1)
            })
            .is_err()
        );
    }
}
