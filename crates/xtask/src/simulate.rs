//! `cargo xtask simulate`: the simulation of the whole topology, built for speed.
//!
//! It must stay a thin front: what is simulated, and what a seed means, is in `fenghuo-sim`.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

/// What to play; all of it goes on to the program `simulate` (`--help` tells what there is).
#[derive(Clone, Debug, Default, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// `--log embedded`, `clocks` or `steps`, `--seeds N`, `--from S`, `--seed S`, `--plant BUG`, `--threads N`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Seeds that every test run plays.
const FIXED: u64 = 200;

/// Seeds beyond those that once failed.
const FOUND: [u64; 1] = [2_751];

/// Seeds that nobody has played before, in every test run.
const FRESH: u64 = 50;

/// The same on the log in a folder, where a seed takes five times as long.
const FIXED_IN_FOLDER: u64 = 40;
const FRESH_IN_FOLDER: u64 = 10;

/// Runs with a clock that jumps and comes back, each played twice.
const FIXED_CLOCKS: u64 = 48;

/// Plays what it is asked to.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let arguments: Vec<&str> = arguments.arguments.iter().map(String::as_str).collect();
    play(root, &arguments)
}

/// Plays a fixed set of seeds and some fresh ones, for the test command.
pub fn fixed_and_fresh(root: &Path) -> Result<()> {
    play(root, &["--seeds", &FIXED.to_string()])?;
    for seed in FOUND {
        play(root, &["--from", &seed.to_string(), "--seeds", "1"])?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let from = now.as_millis().to_string();
    println!("fresh seeds from {from}");
    play(root, &["--from", &from, "--seeds", &FRESH.to_string()])?;
    let in_folder = ["--log", "embedded", "--seeds"];
    let play_in_folder = |seeds: u64, from: &[&str]| {
        let seeds = seeds.to_string();
        play(root, &[&in_folder[..], &[seeds.as_str()], from].concat())
    };
    play_in_folder(FIXED_IN_FOLDER, &[])?;
    play_in_folder(FRESH_IN_FOLDER, &["--from", &from])?;
    for log in ["clocks", "steps"] {
        play(root, &["--log", log, "--seeds", &FIXED_CLOCKS.to_string()])?;
    }
    Ok(())
}

fn play(root: &Path, arguments: &[&str]) -> Result<()> {
    let build = ["run", "--release", "--quiet", "--package", "fenghuo-sim"];
    let status = Command::new("cargo")
        .args(build)
        .args(["--bin", "simulate", "--"])
        .args(arguments)
        .current_dir(root)
        .status()
        .context("starting cargo")?;
    if !status.success() {
        bail!("simulate ended with {status}");
    }
    Ok(())
}
