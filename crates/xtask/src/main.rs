//! `cargo xtask`: the chores of the workspace, one subcommand each.
//!
//! It owns the command line only; what a chore does is in the library.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{fuzz, generate, serve, simulate, test, tidy, verdicts};

/// Chores of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check what the compiler does not: arrows between crates, purity, headers, dashboards.
    Tidy,
    /// Write what follows from the catalogue: the README's table of signals, the dashboard's panels.
    Generate,
    /// Start the services that tests run against, and keep them until Ctrl-C.
    Services,
    /// Play the whole topology in virtual time from seeds, with everything going wrong that can.
    Simulate(simulate::Arguments),
    /// Break instances on a real broker by a plan, and say whether anything was lost or told twice.
    #[command(disable_help_flag = true)]
    Chaos(verdicts::Arguments),
    /// Attack a daemon from outside in every known way, and say what held.
    #[command(disable_help_flag = true)]
    Attack(verdicts::Arguments),
    /// Run every test, after installing what the tests need. The one test command.
    Test(test::Arguments),
    /// Let libFuzzer look for input that breaks a decoder or the reader of rules.
    Fuzz(fuzz::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    // The manifest's directory is `crates/xtask`; cargo sets it anew on every build of a checkout.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    match chore {
        Chore::Tidy => tidy::run(&root),
        Chore::Generate => generate::run(&root),
        Chore::Services => serve::run(),
        Chore::Simulate(arguments) => simulate::run(&root, &arguments),
        Chore::Chaos(arguments) => verdicts::run(&root, "chaos", &arguments),
        Chore::Attack(arguments) => verdicts::run(&root, "attack", &arguments),
        Chore::Test(arguments) => test::run(&root, &arguments),
        Chore::Fuzz(arguments) => fuzz::run(&root, &arguments),
    }
}
