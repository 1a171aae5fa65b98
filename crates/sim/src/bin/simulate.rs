//! `simulate`: plays scenarios seed by seed on every core, and shows the shortest history of the
//! first one that fails.
//!
//! It owns the threads, the clock and the printing; what happens in a run is in the library.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use fenghuo_sim::simulation::{Plant, Report, Scenario, Short, Violation, run, shrink};

/// Play the whole topology in virtual time with everything going wrong that can.
#[derive(Clone, Copy, Debug, Parser)]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Play this one seed alone, and show what it did.
    #[arg(long)]
    seed: Option<u64>,
    /// Plant a bug, to see that it is found.
    #[arg(long)]
    plant: Option<Plant>,
    /// The log: in memory, or in a folder on a disk that fails.
    #[arg(long, default_value = "memory")]
    log: Place,
    /// Threads; by default one a core.
    #[arg(long)]
    threads: Option<usize>,
}

/// Where the log of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Place {
    /// Several instances on one log in memory.
    Memory,
    /// One instance on the log in a folder.
    Embedded,
    /// Any of them, with a clock that jumps and comes back, and nothing else.
    Clocks,
    /// Any of them, with a clock that is set, followed, and set back, and nothing else.
    Steps,
}

impl Arguments {
    fn scenario(&self, seed: u64) -> Scenario {
        match self.log {
            Place::Memory => Scenario::new(seed),
            Place::Embedded => Scenario::in_folder(seed),
            Place::Clocks => Scenario::with_wrong_clock(seed),
            Place::Steps => Scenario::with_followed_clock(seed),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (from, seeds) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (arguments.from, arguments.seeds),
    };
    let played = play(from, seeds, &arguments);
    match played {
        Ok(all) => {
            if arguments.seed.is_some() {
                println!("{all:#?}");
            }
            ExitCode::SUCCESS
        }
        Err((seed, violation)) => {
            fail(seed, violation, &arguments);
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a run takes is for people; nothing in it depends on it"
)]
fn now() -> Instant {
    Instant::now()
}

/// Plays seeds on all threads, until one fails.
fn play(from: u64, seeds: u64, arguments: &Arguments) -> Result<Report, (u64, Violation)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or(cores).max(1);
    let start = now();
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let failed = Mutex::new(None::<(u64, Violation)>);
    let all = Mutex::new((0_u64, Report::default()));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from.saturating_add(seeds) {
                return;
            }
            match run(&arguments.scenario(seed), arguments.plant) {
                Ok(report) => {
                    let Ok(mut all) = all.lock() else { return };
                    all.0 += 1;
                    all.1.add(&report);
                    if all.0.is_multiple_of(100) {
                        progress(all.0, seeds, start);
                    }
                }
                Err(violation) => {
                    stop.store(true, Ordering::Relaxed);
                    let Ok(mut failed) = failed.lock() else {
                        return;
                    };
                    if failed.as_ref().is_none_or(|(other, _)| seed < *other) {
                        *failed = Some((seed, violation));
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (passed, report) = all.into_inner().unwrap_or_default();
    progress(passed, seeds, start);
    match failed.into_inner() {
        Ok(Some(failed)) => Err(failed),
        _ => {
            println!(
                "all passed: {} messages, {} faults, {} commits of which {} were taken back, {} sessions that \
                 failed, {} operations of the disk that failed, {} records dropped, {} episodes, {} pages",
                report.messages,
                report.faults,
                report.commits,
                report.taken_back,
                report.failed,
                report.disk_failed,
                report.dropped,
                report.episodes,
                report.pages
            );
            Ok(report)
        }
    }
}

fn progress(passed: u64, seeds: u64, start: Instant) {
    let took_s = now().duration_since(start).as_secs_f64();
    let rate = passed as f64 / took_s.max(1e-9);
    println!("{passed} of {seeds} seeds passed in {took_s:.1} s, {rate:.1} seeds/s");
}

/// Prints the shortest history that fails as a seed does.
fn fail(seed: u64, violation: Violation, arguments: &Arguments) {
    println!("seed {seed} fails: {violation}");
    println!("looking for a shorter history ...");
    let Short {
        scenario,
        violation,
    } = shrink(arguments.scenario(seed), violation, arguments.plant);
    println!(
        "the shortest history found: {} faults, {} messages, {:?}",
        scenario.faults.len(),
        scenario.messages.len(),
        scenario.mode
    );
    for fault in &scenario.faults {
        println!("  {fault}");
    }
    for message in scenario.messages.iter().take(20) {
        println!(
            "  turn {:>4}: message to {}: {:?}",
            message.turn,
            message.to(),
            message.meaning
        );
    }
    println!("fails: {violation}");
    let log = match arguments.log {
        Place::Memory => "",
        Place::Embedded => " --log embedded",
        Place::Clocks => " --log clocks",
        Place::Steps => " --log steps",
    };
    println!("again: cargo xtask simulate{log} --seed {seed}");
}
