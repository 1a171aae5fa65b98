//! The command line of a run of chaos; `cargo xtask chaos` starts it.

#![allow(
    clippy::disallowed_methods,
    reason = "it runs on the real machine and picks a seed by its clock"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use fenghuo_tests::chaos::{self, folder, plan::Plan, plan::Settings};
use fenghuo_tests::now_ms;

/// Kills instances, stops them, cuts them off and takes their broker away while a shop is busy,
/// then says whether anything was lost or told twice. Ends with 1 where it was.
#[derive(Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos")]
struct Arguments {
    /// How long the shop is busy.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Instances to kill, all in all; without it, five a minute.
    #[arg(long)]
    kills: Option<usize>,
    /// The plan follows from it; without it, another one every time.
    #[arg(long)]
    seed: Option<u64>,
    /// Instances of the daemon.
    #[arg(long, default_value_t = 3)]
    instances: usize,
    /// Orders a second.
    #[arg(long, default_value_t = 300)]
    rate: u64,
    /// Where the log is: on Kafka, or in a folder of one daemon, which is killed alone.
    #[arg(long, default_value = "kafka")]
    log: Place,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    plan: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Place {
    Kafka,
    Embedded,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let minutes = arguments.minutes.max(0.0);
    let seed = arguments.seed.unwrap_or(now_ms() as u64 % 1_000_000);
    let logs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../target/chaos/{seed}"));
    if arguments.log == Place::Embedded {
        let kills = arguments.kills.unwrap_or(100);
        println!("seed {seed}: {kills} kills");
        let report = chaos::folder::run(folder::Settings { kills, seed }, &logs)?;
        println!("\n{report}");
        return Ok(report.is_good());
    }
    let plan = Plan::new(Settings {
        traffic_ms: (minutes * 60_000.0) as u64,
        kills: arguments.kills.unwrap_or((minutes * 5.0).ceil() as usize),
        seed,
        instances: arguments.instances,
        rate: arguments.rate,
    })?;
    println!("{plan}");
    if arguments.plan {
        return Ok(true);
    }
    let report = chaos::run(&plan, &logs)?;
    println!("\n{report}");
    Ok(report.is_good())
}
