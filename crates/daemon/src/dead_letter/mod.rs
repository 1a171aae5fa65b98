//! `fenghuo dead-letter`: shows what could not be taken, and re-submits it once mended.
//!
//! Owns the way from a filter to letters and what is printed of them; what may be re-submitted,
//! and how it is remembered, is in [`replay`]. It must never change a letter.

mod letter;
mod replay;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use fenghuo_engine::record::topic;
use fenghuo_log::TopicPartition;

use crate::cli::{self, DeadLetterFilter, DeadLetterPlace};
use crate::clock;
use crate::config::{self, Config};
use crate::exit::Exit;
use crate::folder;
use crate::topics::Topics;
use letter::Letter;

pub use replay::Replayed;

/// Shows or re-submits.
pub fn run(args: &cli::DeadLetter) -> anyhow::Result<Exit> {
    match args {
        cli::DeadLetter::List(args) => list(args),
        cli::DeadLetter::Replay(args) => replay::run(args),
    }
}

fn list(args: &cli::DeadLetterList) -> anyhow::Result<Exit> {
    let (_, topics) = args.of.open()?;
    let replayed = Replayed::read(&topics)?;
    let mut newest = VecDeque::new();
    let mut counts = BTreeMap::new();
    letters(&topics, &args.filter, &mut |letter| {
        *counts.entry(letter.reason.clone()).or_default() += 1;
        if newest.len() == args.limit as usize {
            newest.pop_front();
        }
        newest.push_back(letter);
        Ok(())
    })?;
    let mut out = String::new();
    for letter in &newest {
        let again = replayed.has(letter);
        match args.json {
            true => writeln!(out, "{}", letter.as_json(again))?,
            false if again => writeln!(out, "{letter}\n    was re-submitted")?,
            false => writeln!(out, "{letter}")?,
        }
    }
    if !args.json {
        out.push_str(&total(&counts, newest.len()));
    }
    Ok(crate::signals::print(&out))
}

/// The last line of a list.
fn total(counts: &BTreeMap<String, u64>, shown: usize) -> String {
    let letters: u64 = counts.values().sum();
    let reasons = counts.iter().map(|(reason, count)| {
        let reason = letter::shown(reason);
        format!("{reason} {count}")
    });
    let reasons: Vec<String> = reasons.collect();
    match letters {
        0 => "no dead letters\n".to_owned(),
        _ if letters > shown as u64 => format!(
            "{letters} dead letters, the newest {shown} of them shown: {}\n",
            reasons.join(", ")
        ),
        _ => format!("{letters} dead letters: {}\n", reasons.join(", ")),
    }
}

/// Hands over every letter that the filter lets pass, from the oldest on.
fn letters(
    topics: &Topics,
    filter: &DeadLetterFilter,
    each: &mut dyn FnMut(Letter) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let partition = TopicPartition::new(topic::DEAD_LETTER, 0);
    let from_ms = filter.since.map(|since| clock::now_ms() - whole_ms(since));
    // Without the topic nothing was ever rejected.
    topics.scan(&partition, from_ms, &mut |record| {
        let letter = Letter::read(record);
        match passes(filter, &letter) {
            true => each(letter),
            false => Ok(()),
        }
    })
}

impl DeadLetterPlace {
    /// Where the letters are, and what is said of their shop.
    fn open(&self) -> anyhow::Result<(Config, Topics)> {
        let config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::without_file()?,
        };
        let config = match &self.data {
            Some(folder) => config.in_folder(folder.clone()),
            None => config,
        };
        if let config::Log::Embedded(folder) = &config.log {
            folder::must_exist(&folder.path)?;
        }
        let topics = Topics::open(&config)?;
        Ok((config, topics))
    }
}

fn passes(filter: &DeadLetterFilter, letter: &Letter) -> bool {
    filter.reasons.is_empty() || filter.reasons.contains(&letter.reason)
}

fn whole_ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
