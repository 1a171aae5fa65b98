//! `fenghuo set`: which sets were in force, and going back to one.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use fenghuo_embedded::{EmbeddedLog, FolderError};
use fenghuo_engine::record::SetRow;
use fenghuo_event::Timestamp;

use super::{Came, Sets, place, taken};
use crate::cli;
use crate::config::{self, Config};
use crate::control;
use crate::exit::Exit;
use crate::folder::must_exist;
use crate::topics::Topics;

/// Does what was asked.
pub fn run(args: &cli::Set) -> anyhow::Result<Exit> {
    let (of, number) = match args {
        cli::Set::List(of) => (of, None),
        cli::Set::Use(args) => (&args.of, Some(args.number)),
    };
    let config = of.config()?;
    let by = format!("fenghuo set, for {}", config.kafka.instance);
    let all = match &config.log {
        config::Log::Kafka => asked(&Topics::open(&config)?, &by, number)?,
        config::Log::Embedded(folder) => {
            must_exist(&folder.path)?;
            match EmbeddedLog::open(&folder.path) {
                Ok(log) => asked(&Topics::Folder(log, folder.clone()), &by, number)?,
                Err(FolderError::Held { .. }) => control::sets(&folder.path, number)?,
                Err(error) => return Err(error.into()),
            }
        }
    };
    Ok(crate::signals::print(&list(&all)))
}

/// Goes back to a set where one is named, and tells all that were in force.
///
/// # Errors
/// When there is no such set, or it is in force already, or the log cannot be read or written.
pub fn asked(topics: &Topics, by: &str, number: Option<u64>) -> anyhow::Result<Vec<Came>> {
    let mut sets = Sets::open(topics, by);
    sets.read()?;
    if let Some(number) = number {
        use_again(&sets, number)?;
        sets.read()?;
    }
    Ok(sets.all)
}

fn use_again(sets: &Sets, number: u64) -> anyhow::Result<()> {
    let last = sets.all.last().context("no set was ever in force here")?;
    let asked = sets.all.iter().find(|came| came.number == number);
    let Some(asked) = asked else {
        bail!("there is no set {number}; the last one is {}", last.number);
    };
    if asked.hash == last.hash {
        bail!("set {number} says what is in force already");
    }
    let mut found: Option<SetRow> = None;
    let mut at = 0;
    sets.topics.scan(&place(), None, &mut |record| {
        at += 1;
        if at == number {
            found = taken(&record, number).1;
        }
        Ok(())
    })?;
    sets.propose(found.with_context(|| format!("set {number} cannot be read"))?)
}

fn list(all: &[Came]) -> String {
    if all.is_empty() {
        return "no set was ever in force here\n".to_owned();
    }
    let mut out =
        "number  hash              when                      build     proposed by\n".to_owned();
    for came in all {
        let end = match came.number == all.len() as u64 {
            true => "   (in force)",
            false => "",
        };
        let at = Timestamp(came.at_ms).to_string();
        let (number, hash, build, by) = (came.number, came.hash, &came.build, &came.by);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{number:>6}  {hash:016x}  {at:<24}  {build:<8}  {by}{end}"
        );
    }
    crate::for_terminal(&out)
}

impl cli::SetPlace {
    fn config(&self) -> anyhow::Result<Config> {
        let config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::without_file()?,
        };
        Ok(match &self.data {
            Some(folder) => config.in_folder(folder.clone()),
            None => config,
        })
    }
}
