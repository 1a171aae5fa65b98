//! The world of a run: instances on one log, turn by turn, with the faults of its scenario.

use std::collections::BTreeSet;
use std::sync::Arc;

use fenghuo_engine::{Board, TopologyConfig};
use fenghuo_log::memory::{CommitFault, MemoryLog};
use fenghuo_log::{Append, Error, Log, TopicPartition, TopicSpec};

use super::audit::{Audit, home_of};
use super::fault::{Kind, Mood, Stage};
use super::oracle::Oracle;
use super::plant::{Plant, Planted};
use super::process::{Did, Process, member};
use super::scenario::{self, CHANNELS, HOMES, INSTANCES, Mode, SOURCES, Scenario, source};
use super::sender::Receivers;
use super::{Report, Violation};
use crate::random::{Random, mix};

/// Purposes of random numbers.
const ORDER: u64 = 1;
const SYNC: u64 = 2;
const COMPACTION: u64 = 3;

/// Share of the workers that are stepped in a turn.
const STEPPED: f64 = 0.6;
/// After the last turn everything is mended, and time goes on by so much, so often.
const CALM: (i64, usize) = (300, 120);
/// Then time stands still, so that what is under way comes to its end.
const STILL: usize = 40;

/// The place of an instance.
#[derive(Default)]
struct Seat {
    process: Option<Process>,
    /// When it comes back.
    returns: Option<usize>,
    /// When its groups give it up.
    expelled: Option<usize>,
    /// Until when it stands still.
    paused: Option<usize>,
    /// It is to stand still for so many turns in the next commit of this stage.
    to_pause: Option<(Stage, usize)>,
    /// Whose commit is on its way.
    stuck: Option<Stage>,
}

/// A run under way.
pub struct World<'a> {
    scenario: &'a Scenario,
    config: TopologyConfig,
    memory: MemoryLog,
    /// The same log, perhaps with a planted bug.
    log: Box<dyn Log>,
    seats: Vec<Seat>,
    oracle: Oracle,
    audit: Audit,
    receivers: Receivers,
    turn: usize,
    now_ms: i64,
    appended: usize,
    report: Report,
}

impl<'a> World<'a> {
    /// A log with its topics, and every instance up.
    pub fn new(scenario: &'a Scenario, plant: Option<Plant>) -> Result<Self, Error> {
        let memory = MemoryLog::new();
        let specs: Vec<TopicSpec> = SOURCES
            .iter()
            .map(|(stream, partitions)| TopicSpec {
                name: source(*stream),
                partitions: *partitions,
                compacted: false,
                retention_ms: None,
            })
            .collect();
        memory.ensure(&specs)?;
        let config = scenario::config(0);
        let partitions = |name: &str| {
            let spec = specs.iter().find(|spec| spec.name == name);
            spec.map_or(1, |spec| spec.partitions)
        };
        memory.ensure(&config.own_topics(&partitions))?;
        match scenario.mode {
            Mode::Kafka => memory.mark_transactions(),
            Mode::Embedded => memory.hold_durability(),
        }
        let log: Box<dyn Log> = match plant {
            Some(plant) => Box::new(Planted::new(memory.clone(), plant)),
            None => Box::new(memory.clone()),
        };
        let seat = |instance| Seat {
            process: Some(Process::new(instance)),
            ..Seat::default()
        };
        Ok(Self {
            scenario,
            config,
            audit: Audit::new(&memory)?,
            memory,
            log,
            seats: (0..INSTANCES).map(seat).collect(),
            oracle: Oracle::default(),
            receivers: Receivers::default(),
            turn: 0,
            now_ms: 0,
            appended: 0,
            report: Report::default(),
        })
    }

    /// Plays the scenario to its end.
    pub fn run(mut self) -> Result<Report, Violation> {
        for turn in 0..self.scenario.times_ms.len() {
            self.turn = turn;
            self.now_ms = self.scenario.times_ms[turn];
            self.play().map_err(|violation| violation.at(turn))?;
        }
        self.turn = self.scenario.times_ms.len();
        let turn = self.turn;
        self.calm().map_err(|violation| violation.at(turn))?;
        let (episodes, intents) = self.audit.counts();
        Ok(Report {
            messages: self.appended,
            fates: self.oracle.fates().to_vec(),
            episodes,
            intents,
            pages: self.receivers.pages,
            ..self.report
        })
    }

    fn play(&mut self) -> Result<(), Violation> {
        self.memory.set_time(self.now_ms);
        self.append()?;
        let (scenario, turn) = (self.scenario, self.turn);
        for fault in scenario.faults.iter().filter(|fault| fault.turn == turn) {
            self.begin(fault.kind, fault.turns)?;
        }
        let away = self.under_way().any(|kind| matches!(kind, Kind::Away));
        let slow = self.under_way().any(|kind| matches!(kind, Kind::SlowDisk));
        let trickle = self.under_way().find_map(|kind| match kind {
            Kind::Trickle { records_max } => Some(*records_max),
            _ => None,
        });
        self.memory.limit_polls(trickle);
        self.seats_change()?;

        let mut random = self.scenario.random(self.turn, ORDER);
        let mut workers: Vec<(usize, Stage)> = (0..INSTANCES)
            .flat_map(|instance| Stage::ALL.map(|stage| (instance, stage)))
            .collect();
        self.memory.set_away(away);
        for left in (1..=workers.len()).rev() {
            let at = random.between(0, left as i64) as usize;
            let (instance, stage) = workers.swap_remove(at);
            if random.chance(STEPPED) {
                self.step(instance, stage)?;
            }
        }
        self.send()?;
        self.memory.set_away(false);
        if !slow && self.scenario.random(self.turn, SYNC).chance(0.25) {
            self.memory.sync();
        }
        self.audit.look(&self.memory, &self.oracle)?;
        self.bounds()
    }

    /// The shop says what is due.
    fn append(&mut self) -> Result<(), Violation> {
        while let Some(message) = self.scenario.messages.get(self.appended)
            && message.turn <= self.turn
        {
            self.appended += 1;
            let of = message.to();
            let offset = self.memory.high(&of);
            let append = Append {
                to: of.clone(),
                key: None,
                value: message.value.clone(),
                headers: Vec::new(),
            };
            self.memory
                .append(vec![append])
                .map_err(|error| Violation::new("the shop can append", error.to_string()))?;
            self.oracle.take(&of, offset, self.now_ms, message);
        }
        Ok(())
    }

    /// Faults that are under way; none once the last turn is over.
    fn under_way(&self) -> impl Iterator<Item = &'a Kind> + use<'a> {
        let (turn, is_calm) = (self.turn, self.turn >= self.scenario.times_ms.len());
        let faults = self.scenario.faults.iter();
        let faults = faults.filter(move |fault| !is_calm && fault.covers(turn));
        faults.map(|fault| &fault.kind)
    }

    fn begin(&mut self, kind: Kind, turns: usize) -> Result<(), Violation> {
        let until = self.turn + turns;
        match kind {
            Kind::Crash { instance, noticed } => {
                let seat = &mut self.seats[instance];
                if seat.process.take().is_some() {
                    let memory = &self.memory;
                    for stage in Stage::ALL {
                        memory.sever(&member(instance, stage));
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
                        let member = member(instance, stage);
                        self.memory.fail_commit(&member, CommitFault::Held);
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
                if seat.process.is_some() && seat.to_pause.is_none() {
                    self.memory.fail_commit(&member(instance, stage), fault);
                    self.report.faults += 1;
                }
            }
            Kind::PowerLoss { kept_percent } => self.power_loss(kept_percent, until)?,
            Kind::Compaction => {
                let salt = mix(self.scenario.seed) ^ (self.turn as u64) << 8 | COMPACTION;
                for topic in self.compacted() {
                    let keeps = |offset| Random::new(salt ^ mix(offset)).chance(0.3);
                    self.memory.compact(&topic, &mut { keeps });
                }
                self.report.faults += 1;
            }
            Kind::Away
            | Kind::Trickle { .. }
            | Kind::SlowDisk
            | Kind::Receiver { .. }
            | Kind::Clock { .. } => self.report.faults += 1,
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
        let unsynced = self.memory.unsynced();
        let kept = unsynced * kept_percent / 100;
        self.memory.crash(kept);
        self.report.taken_back += unsynced - kept;
        self.report.faults += 1;
        let again = Audit::new(&self.memory);
        self.audit =
            again.map_err(|error| Violation::new("the log is there", error.to_string()))?;
        self.audit.look(&self.memory, &self.oracle)?;
        self.audit.contains(&self.receivers.sent, &shown)
    }

    /// What is due for the seats: who is expelled, who goes on, who comes back.
    fn seats_change(&mut self) -> Result<(), Violation> {
        for instance in 0..INSTANCES {
            let seat = &mut self.seats[instance];
            if seat.expelled.is_some_and(|at| at <= self.turn) {
                seat.expelled = None;
                let memory = &self.memory;
                for stage in Stage::ALL {
                    memory.expel(&member(instance, stage));
                }
            }
            if seat.paused.is_some_and(|until| until <= self.turn) {
                seat.go_on(instance, self.turn, &self.memory);
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

    fn step(&mut self, instance: usize, stage: Stage) -> Result<(), Violation> {
        let ahead_ms = self.under_way().find_map(|kind| match kind {
            Kind::Clock {
                instance: whose,
                ahead_ms,
            } if *whose == instance => Some(*ahead_ms),
            _ => None,
        });
        let now_ms = self.now_ms + ahead_ms.unwrap_or(0);
        let seat = &mut self.seats[instance];
        if seat.paused.is_some() {
            return Ok(());
        }
        let Some(process) = &mut seat.process else {
            return Ok(());
        };
        match process.step(stage, self.turn, now_ms, &*self.log, &self.memory)? {
            Did::Little => {}
            Did::Committed => {
                self.report.commits += 1;
                if stage == Stage::Evaluate {
                    let offsets = self.memory.offsets("fenghuo-evaluate");
                    for of in process.shows() {
                        if let Some(offset) = offsets.get(of) {
                            let home = of.partition as usize;
                            // What it committed is in the audit only after a look.
                            self.audit.look(&self.memory, &self.oracle)?;
                            self.audit.board(home, *offset, process.board())?;
                        }
                    }
                }
            }
            Did::Failed => self.report.failed += 1,
            Did::Stuck => {
                self.report.failed += 1;
                seat.stuck = Some(stage);
                let turns = seat.to_pause.take().map_or(2, |(_, turns)| turns);
                seat.pause(self.turn, turns);
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Violation> {
        let moods: Vec<(&str, Mood)> = self
            .under_way()
            .filter_map(|kind| match kind {
                Kind::Receiver { channel, mood } => Some((CHANNELS[*channel], *mood)),
                _ => None,
            })
            .collect();
        let mood = |channel: &str| {
            let found = moods.iter().find(|(which, _)| *which == channel);
            found.map_or(Mood::Up, |(_, mood)| *mood)
        };
        for seat in self.seats.iter_mut().filter(|seat| seat.paused.is_none()) {
            if let Some(process) = &mut seat.process {
                process
                    .sender
                    .pass(self.now_ms, &mood, &mut self.receivers)?;
            }
        }
        Ok(())
    }

    /// Nothing holds more than it may.
    fn bounds(&self) -> Result<(), Violation> {
        if !self.turn.is_multiple_of(16) {
            return Ok(());
        }
        let sources: u32 = SOURCES.iter().map(|(_, partitions)| partitions).sum();
        let sources = u64::from(sources);
        let entities = u64::from(HOMES) * scenario::ENTITIES_MAX as u64;
        for process in self.seats.iter().filter_map(|seat| seat.process.as_ref()) {
            for (map, held) in process.board().entries() {
                let most = match map {
                    "duplicates" => sources * 2 * scenario::DUPLICATES_MAX as u64,
                    "trackers" => sources * scenario::TRACKERS_MAX as u64,
                    "entities" | "totals" => entities,
                    "readings" => entities * fenghuo_signal::catalogue::ALL.len() as u64,
                    _ => continue,
                };
                if held > most {
                    let detail = format!("{held} {map}, at most {most}");
                    return Err(Violation::new("memory is bounded", detail));
                }
            }
            if process.board().holes() > 0 {
                let detail = format!("{} holes", process.board().holes());
                return Err(Violation::new("no board tells of a hole", detail));
            }
        }
        Ok(())
    }

    /// Everything is mended, and comes to its end.
    fn calm(&mut self) -> Result<(), Violation> {
        self.memory.limit_polls(None);
        for instance in 0..INSTANCES {
            let memory = &self.memory;
            for stage in Stage::ALL {
                memory.heal(&member(instance, stage));
            }
            let seat = &mut self.seats[instance];
            if seat.paused.is_some() {
                seat.go_on(instance, self.turn, memory);
            }
            let process = seat.process.take();
            *seat = Seat {
                process: Some(process.unwrap_or_else(|| Process::new(instance))),
                ..Seat::default()
            };
        }
        let (step_ms, rounds) = CALM;
        for round in 0..rounds + STILL {
            if round < rounds {
                self.now_ms += step_ms;
            }
            self.turn += 1;
            self.memory.set_time(self.now_ms);
            self.append()?;
            for instance in 0..INSTANCES {
                for stage in Stage::ALL {
                    self.step(instance, stage)?;
                }
            }
            self.send()?;
            self.memory.sync();
            self.audit.look(&self.memory, &self.oracle)?;
        }
        let (log, oracle) = (&self.memory, &self.oracle);
        let taken = &self.receivers.taken;
        let expected = self.audit.end(log, oracle, &self.config, taken)?;
        self.boards(&expected.board)
    }

    /// At the end the boards together show what one fault-free life shows.
    fn boards(&self, expected: &Board) -> Result<(), Violation> {
        let mut homes: BTreeSet<u32> = BTreeSet::new();
        let differs = |what: &str, home: u32, found: String, expected: String| {
            let detail = format!("{what} of home {home}: {found}, expected {expected}");
            Err(Violation::new(
                "the boards show what a fault-free life shows",
                detail,
            ))
        };
        for process in self.seats.iter().filter_map(|seat| seat.process.as_ref()) {
            for of in process.shows() {
                let home = of.partition;
                homes.insert(home);
                let here = |entity: &fenghuo_signal::Entity| home_of(entity) == home as usize;
                let readings = |board: &Board| {
                    let mut readings = board.readings();
                    readings.retain(|(_, entity, _)| here(entity));
                    readings
                };
                let (found, wanted) = (readings(process.board()), readings(expected));
                // By its text: what is not a number is not equal to itself.
                let odd = found
                    .iter()
                    .zip(&wanted)
                    .find(|(one, other)| format!("{one:?}") != format!("{other:?}"));
                if let Some((one, other)) = odd {
                    return differs("readings", home, format!("{one:?}"), format!("{other:?}"));
                }
                if found.len() != wanted.len() {
                    let (found, wanted) = (found.len(), wanted.len());
                    return differs("readings", home, found.to_string(), wanted.to_string());
                }
                let open = |board: &Board| {
                    let mut open = board.open();
                    open.retain(|step| here(&step.entity));
                    open
                };
                let (found, wanted) = (open(process.board()), open(expected));
                if found != wanted {
                    let (found, wanted) = (format!("{found:?}"), format!("{wanted:?}"));
                    return differs("open episodes", home, found, wanted);
                }
                let totals = |board: &Board| {
                    let mut totals = board.totals();
                    totals.retain(|(entity, _)| here(entity));
                    totals
                };
                let (found, wanted) = (totals(process.board()), totals(expected));
                if found != wanted {
                    let (found, wanted) = (format!("{found:?}"), format!("{wanted:?}"));
                    return differs("totals", home, found, wanted);
                }
            }
        }
        if homes.len() == HOMES as usize {
            Ok(())
        } else {
            let detail = format!("only {homes:?} are shown");
            Err(Violation::new("every home is on a board", detail))
        }
    }
}

impl Seat {
    fn pause(&mut self, turn: usize, turns: usize) {
        self.paused = Some(turn + turns);
        self.expelled = Some(turn + turns / 2);
    }

    /// What stood still goes on: the commit that was on its way arrives.
    fn go_on(&mut self, instance: usize, turn: usize, log: &MemoryLog) {
        self.paused = None;
        if let (Some(stage), Some(process)) = (self.stuck.take(), &mut self.process) {
            // Whether it lands or not, the answer is not heard.
            let _ = log.deliver(&member(instance, stage));
            process.drop_worker(stage, turn);
        }
    }
}
