//! The standing attack: everything that hurts a daemon from outside, played against one that was
//! just started, with a verdict over each.
//!
//! It must never know how the daemon works: it sees HTTP, files, signals, and what receivers get.
//! It reaches loopback only, and every loop in it is bounded in count and time.

mod answers;
mod bodies;
mod clock;
mod config;
mod damage;
mod door;
mod first;
mod folder;
mod maps;
mod probe;
mod receiver;
mod receivers;
mod refused;
mod report;
mod site;
mod terminal;
mod together;
mod wire;
mod words;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use xtask::wait;

pub use report::{Report, Row};

/// Where the log of the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a folder.
    Embedded,
    /// On a broker, which is started for each attack.
    Kafka,
}

/// How much of each attack is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// What fits among the tests.
    Short,
    /// What the defences are meant for.
    Long,
}

/// What to play.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the log is.
    pub place: Place,
    /// How much.
    pub size: Size,
    /// How long everything is done at once.
    pub together: Duration,
    /// Attacks whose names begin with one of these; all where there is none.
    pub only: Vec<String>,
    /// What chance begins with.
    pub seed: u64,
    /// Where the logs of the daemons are kept.
    pub logs: PathBuf,
}

impl Settings {
    /// The shorter or the longer of two numbers.
    const fn pick<T: Copy>(&self, short: T, long: T) -> T {
        match self.size {
            Size::Short => short,
            Size::Long => long,
        }
    }
}

/// What an attack has found.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// Numbers.
    measured: Vec<String>,
    /// What did not hold.
    faults: Vec<String>,
    /// Why it was not played, where it was not.
    skipped: Option<String>,
}

impl Finding {
    /// Notes a number.
    fn measure(&mut self, text: impl Into<String>) {
        self.measured.push(text.into());
    }

    /// Notes a fault unless something held.
    fn expect(&mut self, held: bool, otherwise: impl Into<String>) {
        if !held {
            self.faults.push(otherwise.into());
        }
    }
}

/// One attack.
struct Attack {
    name: &'static str,
    done: &'static str,
    expected: &'static str,
    /// Whether a log on Kafka can be hurt by it.
    on_kafka: bool,
    /// Whether it is among those that run with the tests.
    in_short: bool,
    play: fn(&Settings) -> Result<Finding>,
}

const TABLES: [&[Attack]; 13] = [
    receivers::ATTACKS,
    clock::ATTACKS,
    terminal::ATTACKS,
    maps::ATTACKS,
    bodies::ATTACKS,
    door::ATTACKS,
    refused::ATTACKS,
    answers::ATTACKS,
    folder::ATTACKS,
    damage::ATTACKS,
    first::ATTACKS,
    words::ATTACKS,
    config::ATTACKS,
];

/// Plays them one after the other, then all at once, and says of each as it ends.
///
/// # Errors
/// When no attack has one of the names that were asked for.
pub fn run(settings: &Settings) -> Result<Report> {
    std::fs::create_dir_all(&settings.logs)?;
    let is_meant = |attack: &&Attack| {
        let is_named = settings
            .only
            .iter()
            .any(|name| attack.name.starts_with(name));
        let is_here = settings.place == Place::Embedded || attack.on_kafka;
        // Who names an attack means it.
        let is_time = attack.in_short || settings.size == Size::Long;
        is_here
            && if settings.only.is_empty() {
                is_time
            } else {
                is_named
            }
    };
    let all = TABLES.into_iter().flatten().chain(together::ATTACKS);
    let meant: Vec<&Attack> = all.filter(is_meant).collect();
    if meant.is_empty() {
        let names = TABLES.into_iter().flatten().chain(together::ATTACKS);
        let names: Vec<&str> = names.map(|attack| attack.name).collect();
        anyhow::bail!("no attack of that name; there are {}", names.join(", "));
    }
    let mut rows = Vec::new();
    for attack in meant {
        let began = Instant::now();
        let finding = (attack.play)(settings).unwrap_or_else(|error| Finding {
            faults: vec![format!("could not be played to its end: {error:#}")],
            ..Finding::default()
        });
        let row = Row {
            name: attack.name,
            done: attack.done,
            expected: attack.expected,
            measured: finding.measured,
            faults: finding.faults,
            skipped: finding.skipped,
            took: began.elapsed(),
        };
        println!("{row}");
        rows.push(row);
    }
    let report = Report {
        rows,
        logs: settings.logs.clone(),
    };
    std::fs::write(settings.logs.join("report.txt"), report.to_string())?;
    Ok(report)
}

/// Lets time pass that the attack itself takes.
fn pass(time: Duration) {
    let until = Instant::now() + time;
    // It cannot fail: the limit is beyond the time.
    let _ = wait::until("the time", time * 2, || {
        (Instant::now() >= until).then_some(())
    });
}
