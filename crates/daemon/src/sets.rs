//! Which set of catalogue and rules is in force: agreed on in the log.
//!
//! `fenghuo.sets` holds every set that was ever in force, in order, and the last one is. An instance
//! whose files make a set that the log never held proposes it when it starts, and it is in force from
//! then on, for all instances. One whose files make an earlier one goes by the last, and says so: what
//! was replaced once comes back by a command alone, never because some machine has old files.
//! It must never let two instances of a group count or judge by different sets for longer than it
//! takes to read one record.

mod command;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::Context as _;
use fenghuo_alert::Severity;
use fenghuo_engine::Set;
use fenghuo_engine::record::{SetRecord, SetRow, VERSION, topic};
use fenghuo_log::{Append, TopicPartition, Whole};
use serde::{Deserialize, Serialize};

use crate::clock::{self, Watch};
use crate::conditions::Condition;
use crate::run::NewerError;
use crate::topics::{Follow, Topics};

pub use command::{asked, run};

/// The condition of an instance whose files are not in force.
pub const SUPERSEDED: &str = "set.superseded";

/// What was written is read by then.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Why it is not known what is in force here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is in force was made by another build.
    #[error("{0}")]
    OtherBuild(String),
    /// The log could not be read or written.
    #[error(transparent)]
    Log(#[from] anyhow::Error),
}

impl Error {
    /// The cause, for who does not tell them apart.
    pub fn cause(self) -> anyhow::Error {
        match self {
            Error::OtherBuild(why) => NewerError::new(why).into(),
            Error::Log(error) => error,
        }
    }
}

/// A set as it came into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Came {
    /// Its place, from 1 on.
    pub number: u64,
    /// What tells it from others.
    pub hash: u64,
    /// When it was proposed, Unix ms.
    pub at_ms: i64,
    /// The instance that proposed it.
    pub by: String,
    /// The build of that instance.
    pub build: String,
}

/// Every set that was in force, as far as it was read.
pub struct Sets {
    topics: Topics,
    reader: Follow,
    instance: String,
    all: Vec<Came>,
    last: Option<SetRow>,
}

fn place() -> TopicPartition {
    TopicPartition::new(topic::SETS, 0)
}

/// A record that cannot be read holds a place all the same: numbers never change.
fn taken(record: &Whole, number: u64) -> (Came, Option<SetRow>) {
    let value = record.value.as_deref().unwrap_or_default();
    let read = SetRecord::from_bytes(value).unwrap_or_default();
    let row = read.set.map(|row| SetRow { number, ..row });
    let came = Came {
        number,
        hash: row.as_ref().map_or(0, SetRow::hash),
        at_ms: read.at_ms,
        by: read.by,
        build: read.build,
    };
    (came, row)
}

impl Sets {
    /// Of a log, with nothing read.
    pub fn open(topics: &Topics, instance: &str) -> Self {
        Self {
            reader: topics.follow(place()),
            topics: topics.clone(),
            instance: instance.to_owned(),
            all: Vec::new(),
            last: None,
        }
    }

    /// Reads what came since.
    fn read(&mut self) -> anyhow::Result<()> {
        let (all, last) = (&mut self.all, &mut self.last);
        let read = self.reader.read(&mut |record| {
            let (came, row) = taken(&record, all.len() as u64 + 1);
            all.push(came);
            *last = row;
        });
        read.context("reading which set is in force")
    }

    /// Puts a set behind all others.
    fn propose(&self, row: SetRow) -> anyhow::Result<()> {
        let record = SetRecord {
            version: VERSION,
            set: Some(row),
            at_ms: clock::now_ms(),
            by: self.instance.clone(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let log = self.topics.log();
        log.append(vec![Append::new(place(), None, record.to_bytes())])
            .context("proposing a set")
    }

    /// Agrees with the other instances on what is in force: proposes `own` where the log never held it.
    ///
    /// # Errors
    /// When the log cannot be read or written, or another build made what is in force.
    pub fn agree(mut self, own: Set) -> Result<Agreed, Error> {
        self.read()?;
        let hash = own.hash();
        if !self.all.iter().any(|came| came.hash == hash) {
            self.propose(own.row())?;
            let watch = Watch::start();
            while !self.all.iter().any(|came| came.hash == hash) {
                if watch.elapsed() > READ_WITHIN {
                    let why = "the set that was proposed is not in the log";
                    return Err(Error::Log(anyhow::anyhow!(why)));
                }
                self.read()?;
            }
            tracing::info!(
                number = self.all.len(),
                hash = format!("{hash:016x}"),
                "a set of catalogue and rules that the log did not hold is proposed"
            );
        }
        let mut agreed = Agreed {
            in_force: own.clone(),
            sets: self,
            own,
        };
        agreed.take_up()?;
        Ok(agreed)
    }
}

/// What an instance goes by.
pub struct Agreed {
    sets: Sets,
    own: Set,
    in_force: Set,
}

impl Agreed {
    /// What is in force.
    pub fn in_force(&self) -> Set {
        self.in_force.clone()
    }

    /// Looks for another set that came into force.
    ///
    /// # Errors
    /// When the log cannot be read, or another build made what is in force.
    pub fn follow(&mut self) -> Result<Option<Set>, Error> {
        self.sets.read()?;
        let before = self.in_force.number;
        self.take_up()?;
        Ok((self.in_force.number != before).then(|| self.in_force.clone()))
    }

    fn take_up(&mut self) -> Result<(), Error> {
        let Some(last) = self.sets.all.last() else {
            return Ok(());
        };
        if last.number == self.in_force.number {
            return Ok(());
        }
        if last.hash == self.own.hash() {
            self.in_force = self.own.at(last.number);
        } else {
            let made = self.sets.last.as_ref().and_then(Set::read);
            self.in_force = made.ok_or_else(|| Error::OtherBuild(self.of_other_build(last)))?;
        }
        tracing::info!(
            number = last.number,
            hash = format!("{:016x}", last.hash),
            by = last.by,
            "this set of catalogue and rules is in force"
        );
        Ok(())
    }

    fn of_other_build(&self, last: &Came) -> String {
        let ours = self.own.hash();
        let own = self.sets.all.iter().rev().find(|came| came.hash == ours);
        let back = own.map_or_else(String::new, |own| {
            format!(
                ", or go back with `fenghuo set use {}` (to what the files of this instance say)",
                own.number
            )
        });
        format!(
            "set {} of catalogue and rules is in force, proposed by {:?} of build {}, and this build ({}) \
             cannot make it: its built-in signals are others. Start that build{back}",
            last.number,
            last.by,
            last.build,
            env!("CARGO_PKG_VERSION"),
        )
    }

    /// What is to be told where the files of this instance are not in force.
    pub fn condition(&self) -> Option<Condition> {
        let (last, ours) = (self.sets.all.last()?, self.own.hash());
        if last.hash == ours {
            return None;
        }
        let own = self.sets.all.iter().rev().find(|came| came.hash == ours)?;
        Some(Condition {
            name: SUPERSEDED,
            about: String::new(),
            severity: Severity::Warn,
            blocks_ready: false,
            text: format!(
                "The files of this instance are set {} of catalogue and rules, and set {} is in force, \
                 proposed by {:?} at {}. This instance goes by set {}. Give it the same files, or go \
                 back for all instances with `fenghuo set use {}`.",
                own.number,
                last.number,
                last.by,
                fenghuo_event::Timestamp(last.at_ms),
                last.number,
                own.number,
            ),
        })
    }
}
