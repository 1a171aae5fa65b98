//! A program whose wall clock is wrong, and which knows nothing of it.
//!
//! A small library is compiled and preloaded. `faketime` does not do: under it the monotonic clock is
//! wrong as well or threads spin, and librdkafka does not start.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::run;

const SOURCE: &str = include_str!("clock.c");

/// The command, with a wall clock that is ahead by so much, or behind. The library is compiled into
/// `directory`, which must stay for as long as the program runs.
///
/// # Errors
/// When gcc is missing or fails, or the directory cannot be written.
pub fn with_wrong_clock(command: &Command, ahead_ms: i64, directory: &Path) -> Result<Command> {
    let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
    fs::write(&source, SOURCE).context("the source of the clock")?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-shared", "-fPIC", "-o"])
        .args([&library, &source]);
    run(&mut gcc)?;
    let mut wrong = Command::new("env");
    wrong
        .arg(format!("LD_PRELOAD={}", library.display()))
        .arg(format!("WRONG_CLOCK_MS={ahead_ms}"))
        .arg(command.get_program())
        .args(command.get_args());
    Ok(wrong)
}
