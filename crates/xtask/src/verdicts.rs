//! `cargo xtask chaos` and `cargo xtask attack`: long runs against started daemons, and the verdict.
//!
//! It only starts what the end-to-end tests have for them, each in its own process.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What is passed on; `--help` describes it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Options of the run.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Runs the binary of the tests with this name to its end.
pub fn run(root: &Path, name: &str, arguments: &Arguments) -> Result<()> {
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--package", "fenghuo-tests"])
        .args(["--bin", name, "--"])
        .args(&arguments.options)
        .current_dir(root)
        .status()
        .context("starting cargo")?;
    if !status.success() {
        bail!("the run ended with {status}");
    }
    Ok(())
}
