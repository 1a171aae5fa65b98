//! `cargo xtask tidy`: the rules of the house that the compiler does not hold.
//!
//! It owns the table of arrows between crates, the list of what a pure crate may not reach, and
//! the checks of source text. It must never change a file: it names what is wrong, and where.

mod crates;
mod sources;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::services::run as output_of;
use crate::{deploy, generate};

pub use crates::Metadata;

/// Crates that are folds over what they are given: no runtime, no client library, no clock, no
/// environment and no file.
const PURE: &[&str] = &["event", "window", "signal", "alert", "log", "engine"];

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A crate, or a file and line.
    pub place: String,
    /// What is wrong with it, and what to do.
    pub what: String,
}

impl Finding {
    /// A finding about `place`.
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Runs every check over the workspace at `root`, prints what is wrong, and fails if anything is.
pub fn run(root: &Path) -> Result<()> {
    let metadata = read_metadata(root)?;
    let mut findings = Vec::new();
    findings.extend(crates::check_descriptions(&metadata));
    findings.extend(crates::check_arrows(&metadata));
    findings.extend(crates::check_purity(&metadata));
    findings.extend(crates::check_reserved(&metadata));
    findings.extend(sources::check_tree(root)?);
    findings.extend(deploy::check(root)?);
    findings.extend(generate::check(root)?);
    if findings.is_empty() {
        println!("tidy: nothing to complain about");
        return Ok(());
    }
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    bail!("tidy found {} fault(s)", findings.len());
}

/// What cargo knows of the workspace, for this machine's target alone: a dependency of another
/// operating system is nobody's fault here.
fn read_metadata(root: &Path) -> Result<Metadata> {
    let rustc = output_of(Command::new("rustc").arg("-vV"))?;
    let host = rustc
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` names no host")?;
    let json = output_of(
        Command::new("cargo")
            .args([
                "metadata",
                "--format-version",
                "1",
                "--filter-platform",
                host,
            ])
            .current_dir(root),
    )?;
    serde_json::from_str(&json).context("reading what `cargo metadata` wrote")
}
