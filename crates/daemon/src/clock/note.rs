//! What is known of the clock, kept for the next process on this machine.
//!
//! Owns the form of the note. The time since the machine was started knows no steps and outlives a
//! process, so a process that is started again sees a step that happened while it was away. A note of
//! before the machine was started, or a damaged one, says nothing.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use fenghuo_window::Jump;
use fenghuo_window::checked::{Known, KnownStep};
use serde::{Deserialize, Serialize};

/// The note in the folder of the log.
const NAME: &str = "clock.json";
/// Where it is written before it has that name.
const PART: &str = "clock.json.part";
/// It has fewer bytes.
const BYTES_MAX: u64 = 4_096;
/// Changes whenever the machine is started.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// Seconds since the machine was started, with a fraction, first on the line; suspended or not.
const UPTIME: &str = "/proc/uptime";

#[derive(Deserialize, Serialize)]
struct Note {
    /// Which start of the machine it is of.
    boot: String,
    /// When it was written, ms since then.
    up_ms: i64,
    time_ms: i64,
    step: Option<StepNote>,
    followed: Option<StepNote>,
    jump: Option<JumpNote>,
    /// Of all the rest.
    sum: u64,
}

impl Note {
    /// Itself with a sum, by which damage is seen.
    fn summed(mut self) -> io::Result<Self> {
        self.sum = 0;
        self.sum = xxhash_rust::xxh3::xxh3_64(&serde_json::to_vec(&self)?);
        Ok(self)
    }
}

#[derive(Deserialize, Serialize)]
struct StepNote {
    by_ms: i64,
    age_ms: i64,
    for_clock: u64,
    against: u64,
}

#[derive(Deserialize, Serialize)]
struct JumpNote {
    to_ms: i64,
    by_ms: i64,
}

impl From<KnownStep> for StepNote {
    fn from(step: KnownStep) -> Self {
        Self {
            by_ms: step.by_ms,
            age_ms: step.age_ms,
            for_clock: step.for_clock,
            against: step.against,
        }
    }
}

impl From<StepNote> for KnownStep {
    fn from(step: StepNote) -> Self {
        Self {
            by_ms: step.by_ms,
            age_ms: step.age_ms,
            for_clock: step.for_clock,
            against: step.against,
        }
    }
}

/// What a former process knew, and how long ago that is, ms.
pub fn read(folder: &Path) -> Option<(Known, i64)> {
    let path = folder.join(NAME);
    let of = fs::symlink_metadata(&path).ok()?;
    if !of.is_file() || of.len() > BYTES_MAX {
        return None;
    }
    let note: Note = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let sum = note.sum;
    let note = note.summed().ok().filter(|note| note.sum == sum)?;
    let (boot, up_ms) = since_start()?;
    let elapsed_ms = up_ms.checked_sub(note.up_ms)?;
    if note.boot != boot || elapsed_ms < 0 {
        return None;
    }
    let known = Known {
        time_ms: note.time_ms,
        step: note.step.map(KnownStep::from),
        followed: note.followed.map(KnownStep::from),
        jump: note.jump.map(|jump| Jump {
            to_ms: jump.to_ms,
            by_ms: jump.by_ms,
        }),
    };
    Some((known, elapsed_ms))
}

/// Writes it, whole or not at all. It need not be durable: a start of the machine makes it void.
pub fn write(folder: &Path, known: &Known) -> io::Result<()> {
    let Some((boot, up_ms)) = since_start() else {
        return Ok(());
    };
    let note = Note {
        boot,
        up_ms,
        time_ms: known.time_ms,
        step: known.step.map(StepNote::from),
        followed: known.followed.map(StepNote::from),
        jump: known.jump.map(|jump| JumpNote {
            to_ms: jump.to_ms,
            by_ms: jump.by_ms,
        }),
        sum: 0,
    };
    let note = note.summed()?;
    let part = folder.join(PART);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    // What a process left that was killed.
    let _ = fs::remove_file(&part);
    serde_json::to_writer(options.open(&part)?, &note)?;
    fs::rename(part, folder.join(NAME))
}

fn since_start() -> Option<(String, i64)> {
    let boot = fs::read_to_string(BOOT).ok()?;
    let uptime = fs::read_to_string(UPTIME).ok()?;
    let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Some((boot.trim().to_owned(), (seconds * 1_000.0) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_back_with_its_age() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), None);
        let step = |by_ms| KnownStep {
            by_ms,
            age_ms: 7,
            for_clock: 1,
            against: 2,
        };
        let known = Known {
            time_ms: 1_794_398_400_000,
            step: Some(step(-3_600_000)),
            followed: Some(step(60_000)),
            jump: Some(Jump {
                to_ms: 5,
                by_ms: 3_000,
            }),
        };
        write(folder.path(), &known).unwrap();
        let (found, elapsed_ms) = read(folder.path()).unwrap();
        assert_eq!(found, known);
        assert!((0..60_000).contains(&elapsed_ms), "{elapsed_ms}");
        let path = folder.path().join(NAME);
        let text = fs::read_to_string(&path).unwrap();
        for other in [
            text.replace("\"up_ms\":", "\"up_ms\":9"),
            text.replace("\"boot\":\"", "\"boot\":\"0"),
            text.replace("3600000", "3600001"),
            "{".to_owned(),
            " ".repeat(5_000),
        ] {
            fs::write(&path, other).unwrap();
            assert_eq!(read(folder.path()), None);
        }
    }
}
