//! What goes wrong with the world, when it is due.

use std::sync::Arc;

use fenghuo_alert::Transition;
use fenghuo_log::TopicPartition;
use fenghuo_log::memory::CommitFault;

use super::{COMPACTION, Seat, World, planted};
use crate::random::{Random, mix};
use crate::simulation::Violation;
use crate::simulation::fault::{Kind, Stage};
use crate::simulation::kept::{Folder, Kept};
use crate::simulation::process::{Process, member};
use crate::simulation::scenario::{SOURCES, source};

impl World<'_> {
    pub(super) fn begin(&mut self, kind: Kind, turns: usize) -> Result<(), Violation> {
        let until = self.turn + turns;
        match kind {
            Kind::Crash { instance, noticed } => {
                if self.kept.folder().is_some() {
                    return self.kill(until);
                }
                let seat = &mut self.seats[instance];
                if seat.process.take().is_some() {
                    if let Some(memory) = self.kept.memory() {
                        for stage in Stage::ALL {
                            memory.sever(&member(instance, stage));
                        }
                    }
                    *seat = Seat {
                        returns: Some(until),
                        expelled: Some(self.turn + noticed).filter(|at| *at < until),
                        ..Seat::default()
                    };
                    self.report.faults += 1;
                }
            }
            Kind::Leave { instance } => {
                let seat = &mut self.seats[instance];
                if seat.paused.is_none()
                    && seat.stuck.is_none()
                    && let Some(mut process) = seat.process.take()
                {
                    process.leave(self.now_ms);
                    drop(process);
                    *seat = Seat {
                        returns: Some(until),
                        ..Seat::default()
                    };
                    self.report.faults += 1;
                }
            }
            Kind::Zombie { instance, within } => {
                let seat = &mut self.seats[instance];
                if seat.process.is_none() || seat.paused.is_some() || seat.to_pause.is_some() {
                    return Ok(());
                }
                self.report.faults += 1;
                match within {
                    None => seat.pause(self.turn, turns),
                    Some(stage) => {
                        if let Some(memory) = self.kept.memory() {
                            memory.fail_commit(&member(instance, stage), CommitFault::Held);
                        }
                        seat.to_pause = Some((stage, turns));
                    }
                }
            }
            Kind::Commit {
                instance,
                stage,
                fault,
            } => {
                let seat = &self.seats[instance];
                if let Some(memory) = self.kept.memory()
                    && seat.process.is_some()
                    && seat.to_pause.is_none()
                {
                    memory.fail_commit(&member(instance, stage), fault);
                    self.report.faults += 1;
                }
            }
            Kind::PowerLoss { kept_percent } => self.power_loss(kept_percent, until)?,
            Kind::Compaction => {
                let salt = mix(self.scenario.seed) ^ (self.turn as u64) << 8 | COMPACTION;
                for topic in self.compacted() {
                    let keeps = |offset| Random::new(salt ^ mix(offset)).chance(0.3);
                    if let Some(memory) = self.kept.memory() {
                        memory.compact(&topic, &mut { keeps });
                    }
                }
                self.report.faults += 1;
            }
            Kind::Disk { operation, after } => {
                if let Some(folder) = self.kept.folder() {
                    folder.disk.fail(operation, after);
                }
                self.report.faults += 1;
            }
            Kind::Away
            | Kind::Full
            | Kind::Trickle { .. }
            | Kind::SlowDisk
            | Kind::Receiver { .. }
            | Kind::Clock { .. }
            | Kind::Machine { .. }
            | Kind::Broker { .. } => self.report.faults += 1,
        }
        Ok(())
    }

    /// Every partition of a compacted topic of Fenghuo's own.
    fn compacted(&self) -> Vec<TopicPartition> {
        let partitions = |name: &str| {
            let of = SOURCES.iter().find(|(stream, _)| source(*stream) == name);
            of.map_or(1, |(_, partitions)| *partitions)
        };
        let topics = self.config.own_topics(&partitions);
        let topics = topics.into_iter().filter(|topic| topic.compacted);
        topics
            .flat_map(|topic| {
                let name: Arc<str> = topic.name.into();
                let of = move |at| TopicPartition::new(Arc::clone(&name), at);
                (0..topic.partitions).map(of)
            })
            .collect()
    }

    fn power_loss(&mut self, kept_percent: usize, until: usize) -> Result<(), Violation> {
        let mut shown = Vec::new();
        for seat in &mut self.seats {
            let process = seat.process.take();
            shown.extend(process.iter().flat_map(Process::shown));
            *seat = Seat {
                returns: Some(until),
                ..Seat::default()
            };
        }
        self.report.faults += 1;
        match &self.kept {
            Kept::Memory(memory) => {
                let unsynced = memory.unsynced();
                let kept = unsynced * kept_percent / 100;
                memory.crash(kept);
                self.report.taken_back += unsynced - kept;
                self.audit_again(&shown)
            }
            Kept::Folder(folder) => {
                folder.disk.power_loss();
                self.begin_again(&shown)
            }
        }
    }

    /// The one process of a folder is killed: its writes stay, and nothing else.
    fn kill(&mut self, until: usize) -> Result<(), Violation> {
        let seat = &mut self.seats[0];
        let Some(process) = seat.process.take() else {
            return Ok(());
        };
        self.report.faults += 1;
        let shown = process.shown();
        *seat = Seat {
            returns: Some(until),
            ..Seat::default()
        };
        if let Some(folder) = self.kept.folder() {
            folder.disk.kill();
        }
        self.begin_again(&shown)
    }

    /// A new process opens the folder, and finds all that had left the one before.
    fn begin_again(&mut self, shown: &[Transition]) -> Result<(), Violation> {
        let Some(folder) = self.kept.folder() else {
            return Ok(());
        };
        // What was armed for the process before is not for its successor to meet at once.
        let disk = folder.disk.clone();
        disk.mend();
        self.report.taken_back += folder.log.unsynced() as usize;
        self.kept = Kept::Folder(Folder::open(disk, self.now_ms));
        self.log = planted(&self.kept, self.plant);
        let opened = self.log.partitions("");
        opened.map_err(|error| Violation::new("the log is there", error.to_string()))?;
        self.audited = self.kept.opened();
        self.audit_again(shown)
    }

    /// What is due for the seats: who is expelled, who goes on, who comes back.
    pub(super) fn seats_change(&mut self) -> Result<(), Violation> {
        for instance in 0..self.seats.len() {
            let seat = &mut self.seats[instance];
            if seat.expelled.is_some_and(|at| at <= self.turn) {
                seat.expelled = None;
                if let Some(memory) = self.kept.memory() {
                    for stage in Stage::ALL {
                        memory.expel(&member(instance, stage));
                    }
                }
            }
            if seat.paused.is_some_and(|until| until <= self.turn) {
                seat.go_on(instance, self.turn, self.kept.memory());
            }
            if seat.returns.is_some_and(|at| at <= self.turn) {
                *seat = Seat {
                    process: Some(Process::new(instance)),
                    ..Seat::default()
                };
            }
        }
        Ok(())
    }
}
