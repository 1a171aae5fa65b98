//! The command line of the standing attack; `cargo xtask attack` starts it.

#![allow(
    clippy::disallowed_methods,
    reason = "it runs on the real machine and picks a seed by its clock"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use fenghuo_tests::attack::{self, Place, Settings, Size};
use fenghuo_tests::now_ms;

/// Attacks a daemon that it starts, in every way that is known, and says of each whether the daemon
/// held. Ends with 1 where it did not.
#[derive(Parser)]
#[command(name = "cargo xtask attack", bin_name = "cargo xtask attack")]
struct Arguments {
    /// Where the log is: in a folder, or on Kafka.
    #[arg(long, default_value = "embedded")]
    log: Log,
    /// How long everything is done at once, in the end.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Only attacks whose names begin so.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Chance follows from it; without it, another one every time.
    #[arg(long)]
    seed: Option<u64>,
    /// The form that runs with the tests: fewer attacks, and less of each.
    #[arg(long)]
    short: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Log {
    Embedded,
    Kafka,
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
    let seed = arguments.seed.unwrap_or(now_ms() as u64 % 1_000_000);
    let logs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../target/attack/{seed}"));
    let minutes = arguments.minutes.clamp(0.0, 24.0 * 60.0);
    let settings = Settings {
        place: match arguments.log {
            Log::Embedded => Place::Embedded,
            Log::Kafka => Place::Kafka,
        },
        size: if arguments.short {
            Size::Short
        } else {
            Size::Long
        },
        together: Duration::from_secs_f64(minutes * 60.0),
        only: arguments.only.clone(),
        seed,
        logs,
    };
    println!("seed {seed}\n");
    let report = attack::run(&settings)?;
    println!("\n{report}");
    Ok(report.is_good())
}
