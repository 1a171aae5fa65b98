//! `cargo xtask fuzz`: lets libFuzzer look for an input that breaks a reader of bytes from outside.
//!
//! It works with the stable compiler: the instrumentation is a pass of LLVM that rustc can be told
//! to run, and libFuzzer is built from source by its crate. Everything lies below `target/fuzz`;
//! what is found there is moved into `tests/fuzz/cases` by hand, once it is understood.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::services::run as output_of;

/// The targets of `tests/fuzz`.
const TARGETS: [&str; 3] = ["json", "protobuf", "rules"];

/// Inputs of each target in a test run: some seconds, most of them on what is kept and made.
const RUNS: u64 = 50_000;

/// What rustc is told: libFuzzer's counters at every edge and its eyes on comparisons; and the
/// checks of a debug build, so that an overflow is a finding.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

/// What each run is held to: the longest input, and the seconds and MiB that one may cost.
const LIMITS: [&str; 3] = ["-max_len=131072", "-timeout=5", "-rss_limit_mb=2048"];

/// What to fuzz, and for how long.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Only this target: json, protobuf or rules.
    #[arg(long, value_name = "NAME", value_parser = TARGETS)]
    target: Option<String>,
    /// Minutes for each target.
    #[arg(long, value_name = "M", conflicts_with = "runs")]
    minutes: Option<u64>,
    /// Inputs for each target; without --minutes, 50000.
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
}

/// Builds the targets, begins each with its seeds, its cases and what earlier runs found worth
/// keeping, and fails with the first input that breaks one.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let place = root.join("target/fuzz");
    let triple = triple()?;
    build(root, &place, &triple)?;
    let chosen = |target: &&str| arguments.target.as_deref().is_none_or(|one| one == *target);
    for target in TARGETS.into_iter().filter(chosen) {
        let seeds = place.join("seeds").join(target);
        let corpus = place.join("corpus").join(target);
        let findings = place.join("findings").join(target);
        for directory in [&corpus, &findings] {
            fs::create_dir_all(directory)
                .with_context(|| format!("making {}", directory.display()))?;
        }
        write_seeds(root, target, &seeds)?;
        let cases = root.join("tests/fuzz/cases").join(target);
        let mut command = Command::new(place.join(&triple).join("release").join(target));
        command.args(LIMITS).arg("-print_final_stats=1");
        command.arg(match (arguments.minutes, arguments.runs) {
            (Some(minutes), _) => format!("-max_total_time={}", minutes * 60),
            (None, runs) => format!("-runs={}", runs.unwrap_or(RUNS)),
        });
        // libFuzzer takes it as the beginning of a name, not as a directory.
        command.arg(format!("-artifact_prefix={}/", findings.display()));
        // New inputs go into the first directory; the others are only read.
        command.args([&corpus, &seeds]);
        command.args(Some(cases).filter(|cases| cases.is_dir()));
        println!("== fuzz {target}");
        let status = command.status().context("starting the fuzzer")?;
        if !status.success() {
            bail!(
                "{target}: {status}; the input is in {}, and\n  \
                 cargo run --package fenghuo-fuzz --bin {target} -- FILE\nshows what it breaks",
                findings.display()
            );
        }
    }
    Ok(())
}

/// The instrumented programs, apart from every other build. With a target named, build scripts and
/// macros are not instrumented.
fn build(root: &Path, place: &Path, triple: &str) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--package", "fenghuo-fuzz", "--bins"])
        .args(["--target", triple, "--target-dir"])
        .arg(place)
        .env("RUSTFLAGS", RUSTFLAGS)
        .current_dir(root);
    let status = command.status().context("starting cargo")?;
    if !status.success() {
        bail!("building the fuzz targets: cargo ended with {status}");
    }
    Ok(())
}

/// Seeds come from the plain build of the same program.
fn write_seeds(root: &Path, target: &str, directory: &PathBuf) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["run", "--quiet", "--package", "fenghuo-fuzz", "--bin"])
        .args([target, "--", "--seeds"])
        .arg(directory)
        .current_dir(root);
    let status = command.status().context("starting cargo")?;
    if !status.success() {
        bail!("writing seeds of {target}: {status}");
    }
    Ok(())
}

/// This machine's target.
fn triple() -> Result<String> {
    let rustc = output_of(Command::new("rustc").arg("-vV"))?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}
