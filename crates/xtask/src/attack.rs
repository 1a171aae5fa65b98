//! `cargo xtask attack`: a daemon attacked from outside in every known way, and the verdict.
//!
//! It only starts what the end-to-end tests have for it, in its own process.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What is passed on; `cargo xtask attack --help` tells of it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Options of the run.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Runs it to its end.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--package", "fenghuo-tests"])
        .args(["--bin", "attack", "--"])
        .args(&arguments.options)
        .current_dir(root)
        .status()
        .context("starting cargo")?;
    if !status.success() {
        bail!("the run ended with {status}");
    }
    Ok(())
}
