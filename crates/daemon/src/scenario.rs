//! `fenghuo test`: scenarios through all stages in memory, held against what they expect.
//!
//! Owns how a scenario is played and what is shown of a row that differs. Time is virtual, as in
//! `fenghuo replay`: the same file gives the same outcome, whenever and wherever it is played.

mod document;
mod event;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fenghuo_alert::{State, Transition};
use fenghuo_engine::Playback;
use fenghuo_signal::{Entity, ReadingState};

use crate::cli;
use crate::config::{Config, read_text};
use crate::exit::Exit;
use crate::replay;
use document::{Expected, Known, Scenario, What};
use event::Sending;

/// Bytes of a file of scenarios that are read at most.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reasons of rejected events that are shown.
const REASONS_MAX: usize = 5;

/// Plays the files' scenarios and prints what came of each.
pub fn run(args: &cli::Test) -> anyhow::Result<Exit> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::without_file()?,
    };
    let known = Known {
        catalogue: &config.catalogue,
        rules: &config.rules,
    };
    // All files are read before anything is played, so that all mistakes are told at once.
    let mut files = Vec::new();
    let mut mistakes = Vec::new();
    for path in &args.files {
        let name = path.display().to_string();
        let text = read_text(path, FILE_BYTES_MAX)?;
        match document::parse(&name, &text, &known) {
            Ok(scenarios) => files.push((name, scenarios)),
            Err(more) => mistakes.extend(more),
        }
    }
    if !mistakes.is_empty() {
        for mistake in &mistakes {
            eprintln!("{}", crate::for_terminal(mistake));
        }
        return Ok(Exit::Config);
    }
    let (mut passed, mut failed) = (0_u64, 0_u64);
    for (name, scenarios) in &files {
        for scenario in scenarios {
            let outcome = play(&config, scenario)?;
            match outcome.is_right() {
                true => passed += 1,
                false => failed += 1,
            }
            let exit = crate::signals::print(&told(name, scenario, &outcome));
            if !matches!(exit, Exit::Done) {
                return Ok(exit);
            }
        }
    }
    let exit = crate::signals::print(&format!("{passed} passed, {failed} failed\n"));
    Ok(match (exit, failed) {
        (Exit::Done, 1..) => Exit::Failed,
        (exit, _) => exit,
    })
}

/// What came of a scenario.
struct Outcome {
    events: u64,
    differing: Vec<Differing>,
    /// Events that were rejected though no row speaks of rejected ones, with the first reasons.
    rejected: u64,
    reasons: Vec<String>,
}

impl Outcome {
    fn is_right(&self) -> bool {
        self.differing.is_empty() && self.rejected == 0
    }
}

/// A row that came out otherwise.
struct Differing {
    line: usize,
    header: Vec<String>,
    expected: Vec<String>,
    found: Vec<String>,
}

/// Plays one scenario.
fn play(config: &Config, scenario: &Scenario) -> anyhow::Result<Outcome> {
    let mut playback = replay::stages(config, scenario.begin_ms)?;
    let before = replay::counted(&mut playback);
    let mut sending = Sending::new(scenario)?;
    let mut looked: Vec<&Expected> = scenario.expected.iter().collect();
    looked.sort_by_key(|expected| expected.at_ms);
    let mut differing = Vec::new();
    let mut events = 0;
    for expected in looked {
        let at_ms = scenario.begin_ms.saturating_add(expected.at_ms);
        events += feed(&mut playback, &mut sending, at_ms)?;
        playback.pass(at_ms)?;
        let found = found(&mut playback, expected, before)?;
        if !found.fits {
            differing.push(Differing {
                line: expected.line,
                header: expected.header.clone(),
                expected: expected.cells.clone(),
                found: found.cells,
            });
        }
    }
    // What is sent after the last look can still be rejected.
    events += feed(&mut playback, &mut sending, i64::MAX)?;
    let now_ms = playback.now_ms();
    playback.pass(now_ms)?;
    let speaks_of_rejected = scenario.expected.iter().any(|expected| {
        matches!(&expected.what, What::Events(numbers)
            if numbers.iter().any(|(name, _)| *name == "rejected"))
    });
    let rejected = match speaks_of_rejected {
        true => 0,
        false => (replay::counted(&mut playback) - before).rejected,
    };
    let reasons = match rejected {
        0 => Vec::new(),
        _ => {
            let counted = playback.topology().view().dead_letters();
            let counted = counted
                .into_iter()
                .map(|(why, many)| format!("{why}: {many}"));
            sending.wrong().chain(counted).take(REASONS_MAX).collect()
        }
    };
    differing.sort_by_key(|differing| differing.line);
    Ok(Outcome {
        events,
        differing,
        rejected,
        reasons,
    })
}

/// Sends what happens up to an instant.
fn feed(playback: &mut Playback, sending: &mut Sending, to_ms: i64) -> anyhow::Result<u64> {
    let mut events = 0;
    while let Some((at_ms, stream, value)) = sending.next_by(to_ms) {
        playback.feed(at_ms, stream, Some("application/json"), value)?;
        replay::deliver(playback);
        events += 1;
    }
    Ok(events)
}

/// What was found where a row looks.
struct Found {
    fits: bool,
    cells: Vec<String>,
}

fn found(
    playback: &mut Playback,
    expected: &Expected,
    before: replay::Events,
) -> anyhow::Result<Found> {
    // What is not asked for is shown as it was written.
    let mut cells: BTreeMap<&str, String> = BTreeMap::new();
    let mut fits = true;
    let mut compare = |name: &'static str, found: String, is_right: bool| {
        cells.insert(name, found);
        fits &= is_right;
    };
    match &expected.what {
        What::Reading {
            signal,
            entity,
            numbers,
            state,
        } => {
            let published = playback.topology().view().reading(signal, entity);
            let reading = published.map(|published| published.reading);
            for (name, number) in numbers {
                let known = reading.filter(|reading| reading.state != ReadingState::Unknown);
                let found = match (known, *name) {
                    (Some(reading), "value") => reading.value,
                    (Some(reading), "lower") => reading.lower,
                    (Some(reading), "upper") => reading.upper,
                    #[allow(clippy::cast_precision_loss, reason = "a count of a small scenario")]
                    (Some(reading), _) => reading.n as f64,
                    (None, _) => f64::NAN,
                };
                compare(name, shown_number(found), number.fits(found));
            }
            if let Some(state) = state {
                let found = reading.map(|reading| reading.state);
                let shown = found.map_or("none", ReadingState::as_str);
                compare("state", shown.to_owned(), found == *state);
            }
        }
        What::Alert {
            rule,
            entity,
            state,
            severity,
            fired,
        } => {
            let episodes = episodes(playback, rule, entity)?;
            let last = episodes.iter().max_by_key(|last| last.pending_at_ms);
            if let Some(state) = state {
                let found = last.map_or(State::Inactive, |last| last.to);
                compare("state", found.as_str().to_owned(), found == *state);
            }
            if let Some(severity) = severity {
                let found = last.map(|last| last.severity);
                let shown = found.map_or("-", fenghuo_alert::Severity::as_str);
                compare("severity", shown.to_owned(), found == Some(*severity));
            }
            if let Some(number) = fired {
                let fired = episodes.iter().filter(|last| last.fired_at_ms.is_some());
                let fired = fired.count();
                #[allow(clippy::cast_precision_loss, reason = "a count of a small scenario")]
                compare("fired", fired.to_string(), number.fits(fired as f64));
            }
        }
        What::Events(numbers) => {
            let counted = replay::counted(playback) - before;
            for (name, number) in numbers {
                let found = match *name {
                    "accepted" => counted.accepted,
                    "rejected" => counted.rejected,
                    "duplicate" => counted.duplicate,
                    _ => counted.late,
                };
                #[allow(clippy::cast_precision_loss, reason = "a count of a small scenario")]
                compare(name, found.to_string(), number.fits(found as f64));
            }
        }
    }
    let written = expected.header.iter().zip(&expected.cells);
    let cells = written
        .map(|(name, cell)| cells.remove(name.as_str()).unwrap_or_else(|| cell.clone()))
        .collect();
    Ok(Found { fits, cells })
}

/// The episodes of a rule and entity, each as it stands.
fn episodes(playback: &Playback, rule: &str, entity: &Entity) -> anyhow::Result<Vec<Transition>> {
    let mut episodes = playback.episodes()?;
    episodes.retain(|last| last.rule == rule && last.entity == *entity);
    Ok(episodes)
}

fn shown_number(number: f64) -> String {
    match number.is_nan() {
        true => "-".to_owned(),
        false => number.to_string(),
    }
}

/// What is printed of a scenario.
fn told(file: &str, scenario: &Scenario, outcome: &Outcome) -> String {
    let (name, line) = (&scenario.name, scenario.line);
    let (events, rows) = (outcome.events, scenario.expected.len());
    if outcome.is_right() {
        let text = format!("passed  {file}:{line}: {name} ({events} events, {rows} rows)\n");
        return crate::for_terminal(&text);
    }
    let mut text = format!("FAILED  {file}:{line}: {name} ({events} events, {rows} rows)\n");
    if outcome.rejected > 0 {
        let _ = writeln!(text, "  {} events were rejected:", outcome.rejected);
        for reason in &outcome.reasons {
            let _ = writeln!(text, "    {reason}");
        }
    }
    for differing in &outcome.differing {
        let _ = writeln!(text, "  {file}:{}:", differing.line);
        let rows = [&differing.header, &differing.expected, &differing.found];
        for (mark, row) in [' ', '-', '+'].into_iter().zip(rows) {
            let _ = write!(text, "    {mark} |");
            for (at, cell) in row.iter().enumerate() {
                let widths = rows.iter().filter_map(|row| row.get(at));
                let width = widths.map(|cell| cell.chars().count()).max().unwrap_or(0);
                let _ = write!(text, " {cell:width$} |");
            }
            text.push('\n');
        }
    }
    // Names and cells are anybody's.
    crate::for_terminal(&text)
}
