//! The world of a run: instances on one log, turn by turn, with the faults of its scenario.

mod breaking;

use std::collections::BTreeSet;

use fenghuo_alert::Transition;
use fenghuo_engine::{TopologyConfig, View};
use fenghuo_log::memory::MemoryLog;
use fenghuo_log::{Append, Error, Log, TopicPartition, TopicSpec};

use super::audit::{Audit, Episodes, home_of};
use super::clocks::{self, Machine, Probe};
use super::fault::{Kind, Mood, Stage};
use super::input::Meaning;
use super::kept::{Folder, Kept};
use super::oracle::Oracle;
use super::plant::{Plant, Planted};
use super::process::{Did, Process, member};
use super::scenario::{self, CHANNELS, Mode, SHARDS, SOURCES, Scenario, source};
use super::sender::Receivers;
use super::{Report, Violation};
use crate::disk::Disk;
use crate::random::mix;

/// Purposes of random numbers.
const ORDER: u64 = 1;
const SYNC: u64 = 2;
const COMPACTION: u64 = 3;
const RETENTION: u64 = 4;

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
    kept: Kept,
    plant: Option<Plant>,
    /// The same log, perhaps with a planted bug.
    log: Box<dyn Log>,
    /// How often the log was opened when the audit began.
    audited: Option<u64>,
    /// The offset and the time of a message whose append failed: it may be there all the same.
    doubtful: Option<(u64, i64)>,
    seats: Vec<Seat>,
    oracle: Oracle,
    audit: Audit,
    receivers: Receivers,
    turn: usize,
    now_ms: i64,
    /// What the log's clock says.
    log_ms: i64,
    /// By how much it is wrong by itself.
    broker_ms: i64,
    machine: Machine,
    appended: usize,
    report: Report,
}

impl<'a> World<'a> {
    /// A log with its topics, and every instance up.
    pub fn new(scenario: &'a Scenario, plant: Option<Plant>) -> Result<Self, Error> {
        let kept = match scenario.mode {
            Mode::Kafka | Mode::Embedded => Kept::Memory(MemoryLog::new()),
            Mode::Folder => Kept::Folder(Folder::open(Disk::new(mix(scenario.seed)), 0)),
        };
        let specs: Vec<TopicSpec> = SOURCES
            .iter()
            .map(|(stream, partitions)| TopicSpec {
                name: source(*stream),
                partitions: *partitions,
                compacted: false,
                retention_ms: None,
            })
            .collect();
        kept.log().ensure(&specs)?;
        let config = scenario::config(0);
        let partitions = |name: &str| {
            let spec = specs.iter().find(|spec| spec.name == name);
            spec.map_or(1, |spec| spec.partitions)
        };
        kept.log().ensure(&config.own_topics(&partitions))?;
        match (&kept, scenario.mode) {
            (Kept::Memory(memory), Mode::Kafka) => memory.mark_transactions(),
            (Kept::Memory(memory), _) => memory.hold_durability(),
            (Kept::Folder(folder), _) if plant == Some(Plant::FailedSync) => {
                folder.disk.hide_failed_syncs();
            }
            (Kept::Folder(_), _) => {}
        }
        let seat = |instance| Seat {
            process: Some(Process::new(instance)),
            ..Seat::default()
        };
        Ok(Self {
            scenario,
            config,
            audit: Audit::new(&kept)?,
            audited: kept.opened(),
            doubtful: None,
            log: planted(&kept, plant),
            kept,
            plant,
            seats: (0..scenario.mode.instances()).map(seat).collect(),
            oracle: Oracle::default(),
            receivers: Receivers::default(),
            turn: 0,
            now_ms: 0,
            log_ms: 0,
            broker_ms: 0,
            machine: Machine::new(scenario, plant),
            appended: 0,
            report: Report::default(),
        })
    }

    /// Plays the scenario to its end.
    pub fn run(mut self) -> Result<(Report, Episodes), Violation> {
        for turn in 0..self.scenario.times_ms.len() {
            self.turn = turn;
            self.now_ms = self.scenario.times_ms[turn];
            self.play().map_err(|violation| violation.at(turn))?;
        }
        self.turn = self.scenario.times_ms.len();
        let turn = self.turn;
        self.calm().map_err(|violation| violation.at(turn))?;
        let (episodes, intents) = self.audit.counts();
        let report = Report {
            messages: self.appended,
            fates: self.oracle.fates().to_vec(),
            episodes,
            intents,
            pages: self.receivers.pages,
            disk_failed: self.kept.folder().map_or(0, |folder| folder.disk.failed()),
            ..self.report
        };
        Ok((report, self.audit.episodes()))
    }

    fn play(&mut self) -> Result<(), Violation> {
        self.tick();
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
        let full = self.under_way().any(|kind| matches!(kind, Kind::Full));
        match &self.kept {
            Kept::Memory(memory) => memory.limit_polls(trickle),
            Kept::Folder(folder) => folder.disk.set_full(full),
        }
        self.seats_change()?;

        let mut random = self.scenario.random(self.turn, ORDER);
        let mut workers: Vec<(usize, Stage)> = (0..self.seats.len())
            .flat_map(|instance| Stage::ALL.map(|stage| (instance, stage)))
            .collect();
        self.set_away(away);
        for left in (1..=workers.len()).rev() {
            let at = random.between(0, left as i64) as usize;
            let (instance, stage) = workers.swap_remove(at);
            if random.chance(STEPPED) {
                self.step(instance, stage)?;
            }
        }
        self.send()?;
        self.set_away(false);
        if !slow && self.scenario.random(self.turn, SYNC).chance(0.25) {
            self.kept.sync();
        }
        self.retain();
        self.look()?;
        self.probes()?;
        self.bounds()
    }

    /// Time passes: for the machine, whose clock may be wrong, and for the log.
    fn tick(&mut self) {
        let views = self.seats.iter().filter_map(|seat| seat.process.as_ref());
        let heard = views.map(|process| process.view().heard());
        let wrong_by = |which: fn(&Kind) -> Option<i64>| self.under_way().find_map(which);
        let machine_ms = wrong_by(|kind| match kind {
            Kind::Machine { ahead_ms } => Some(*ahead_ms),
            _ => None,
        });
        let broker_ms = wrong_by(|kind| match kind {
            Kind::Broker { ahead_ms } => Some(*ahead_ms),
            _ => None,
        });
        // On a log of this machine's own events are heard as they are written.
        let heard: Vec<_> = match self.scenario.mode {
            Mode::Kafka => heard.collect(),
            Mode::Embedded | Mode::Folder => Vec::new(),
        };
        self.machine
            .tick(self.now_ms, machine_ms.unwrap_or(0), &heard);
        self.tell_time(broker_ms.unwrap_or(0));
    }

    /// The log and the stages are told the time.
    fn tell_time(&mut self, broker_ms: i64) {
        self.log_ms = match self.scenario.mode {
            Mode::Kafka => self.now_ms,
            Mode::Embedded | Mode::Folder => self.machine.now_ms,
        };
        self.log_ms += broker_ms;
        self.broker_ms = broker_ms;
        self.kept.set_time(self.log_ms);
        for process in self.seats.iter().filter_map(|seat| seat.process.as_ref()) {
            process.view().set_jump(self.machine.jump());
        }
    }

    /// What is sold below its floor is decided in time.
    fn probes(&self) -> Result<(), Violation> {
        let due = |probe: &&Probe| probe.is_due(self.scenario, self.turn);
        let probes = self.scenario.probes.iter().filter(due);
        for probe in probes {
            if !self.audit.has_fired("floor", &probe.sku) {
                let detail = format!("{}, told in turn {}", probe.sku, probe.turn);
                return Err(Violation::new(clocks::IN_TIME, detail));
            }
        }
        Ok(())
    }

    /// Now and then a folder drops what was read: what a repeat is known by is written down.
    fn retain(&mut self) {
        let Some(folder) = self.kept.folder() else {
            return;
        };
        if !self.scenario.random(self.turn, RETENTION).chance(0.05) {
            return;
        }
        for (stream, partitions) in SOURCES {
            for partition in 0..partitions {
                let of = TopicPartition::new(source(stream), partition);
                let read = folder.log.committed(&of).unwrap_or(0);
                let (low, _) = folder.log.range(&of);
                if read <= low {
                    continue;
                }
                // Where the disk fails it is tried again.
                if folder.log.forget(&of, read).is_ok() {
                    self.report.dropped += folder.log.range(&of).0 - low;
                }
            }
        }
    }

    /// The shop says what is due, one message after another, until each is acknowledged.
    fn append(&mut self) -> Result<(), Violation> {
        while let Some(message) = self.scenario.messages.get(self.appended)
            && message.turn <= self.turn
        {
            let of = message.to();
            if let (Meaning::Event { at_ms, .. }, false) =
                (&message.meaning, self.scenario.mode == Mode::Kafka)
            {
                self.machine.hear(*at_ms);
                self.tell_time(self.broker_ms);
            }
            let jump_ms = self.machine.jump().map_or(0, |jump| jump.by_ms);
            if let Some((offset, at_ms)) = self.doubtful {
                // It is known only once the log is open again.
                if self.log.partitions(&of.topic).is_err() {
                    return Ok(());
                }
                self.doubtful = None;
                if self.kept.high(&of) > offset {
                    self.appended += 1;
                    self.oracle.take(&of, offset, (at_ms, jump_ms), message);
                    continue;
                }
            }
            if self.oracle.is_undecided(&of, self.log_ms, message) {
                self.appended += 1;
                continue;
            }
            let offset = self.kept.high(&of);
            let append = Append {
                to: of.clone(),
                key: None,
                value: message.value.clone(),
                headers: Vec::new(),
            };
            match self.log.append(vec![append]) {
                Ok(()) => {
                    self.appended += 1;
                    let at_ms = (self.log_ms, jump_ms);
                    self.oracle.take(&of, offset, at_ms, message);
                }
                Err(error) if self.kept.memory().is_some() => {
                    return Err(Violation::new("the shop can append", error.to_string()));
                }
                Err(_) => {
                    self.doubtful = Some((offset, self.log_ms));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn set_away(&self, away: bool) {
        if let Some(memory) = self.kept.memory() {
            memory.set_away(away);
        }
    }

    /// The audit reads what was committed since its last look. Where the log was opened anew, a
    /// suffix may be gone: it begins again, and what had left the process must still be there.
    fn look(&mut self) -> Result<(), Violation> {
        let opened = self.kept.opened();
        if opened.is_none() {
            return Ok(());
        }
        if self.audited != opened {
            self.audited = opened;
            let processes = self.seats.iter().filter_map(|seat| seat.process.as_ref());
            let shown: Vec<_> = processes.flat_map(Process::shown).collect();
            return self.audit_again(&shown);
        }
        self.audit.look(&self.kept, &self.oracle)
    }

    fn audit_again(&mut self, shown: &[Transition]) -> Result<(), Violation> {
        let again = Audit::new(&self.kept);
        self.audit =
            again.map_err(|error| Violation::new("the log is there", error.to_string()))?;
        self.acknowledged()?;
        self.audit.look(&self.kept, &self.oracle)?;
        self.audit.contains(&self.receivers.sent, shown)
    }

    /// What the shop was told is there is there.
    fn acknowledged(&self) -> Result<(), Violation> {
        for message in &self.scenario.messages[..self.appended] {
            let of = message.to();
            let (expected, found) = (self.oracle.next(&of), self.kept.high(&of));
            if found < expected {
                let detail = format!("{of} ends at {found}, and {expected} were acknowledged");
                return Err(Violation::new("no acknowledged event is missing", detail));
            }
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

    fn step(&mut self, instance: usize, stage: Stage) -> Result<(), Violation> {
        let ahead_ms = self.under_way().find_map(|kind| match kind {
            Kind::Clock {
                instance: whose,
                ahead_ms,
            } if *whose == instance => Some(*ahead_ms),
            _ => None,
        });
        let now_ms = self.machine.now_ms + ahead_ms.unwrap_or(0);
        let seat = &mut self.seats[instance];
        if seat.paused.is_some() {
            return Ok(());
        }
        let Some(process) = &mut seat.process else {
            return Ok(());
        };
        match process.step(stage, self.turn, now_ms, &*self.log, &self.kept)? {
            Did::Little => {}
            Did::Committed => {
                self.report.commits += 1;
                if stage == Stage::Evaluate {
                    self.view(instance)?;
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

    /// What an instance shows of its shards is what is committed there.
    fn view(&mut self, instance: usize) -> Result<(), Violation> {
        // What it committed is in the audit only after a look.
        self.look()?;
        let offsets = self.kept.offsets("fenghuo-evaluate");
        let process = self.seats[instance].process.as_ref();
        for of in process.into_iter().flat_map(Process::shows) {
            if let (Some(offset), Some(process)) = (offsets.get(of), process) {
                let shard = of.partition as usize;
                self.audit.view(shard, *offset, process.view())?;
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
        let entities = u64::from(SHARDS) * scenario::ENTITIES_MAX as u64;
        for process in self.seats.iter().filter_map(|seat| seat.process.as_ref()) {
            for (map, held) in process.view().entries() {
                let most = match map {
                    "duplicates" => sources * 2 * scenario::DUPLICATES_MAX as u64,
                    "trackers" => sources * scenario::TRACKERS_MAX as u64,
                    "entities" | "totals" => entities,
                    "readings" => {
                        entities * fenghuo_signal::Catalogue::built_in().signals().len() as u64
                    }
                    _ => continue,
                };
                if held > most {
                    let detail = format!("{held} {map}, at most {most}");
                    return Err(Violation::new("memory is bounded", detail));
                }
            }
            if process.view().holes() > 0 {
                let detail = format!("{} holes", process.view().holes());
                return Err(Violation::new("no view tells of a hole", detail));
            }
        }
        Ok(())
    }

    /// Everything is mended, and comes to its end.
    fn calm(&mut self) -> Result<(), Violation> {
        match &self.kept {
            Kept::Memory(memory) => memory.limit_polls(None),
            Kept::Folder(folder) => folder.disk.mend(),
        }
        for instance in 0..self.seats.len() {
            let memory = self.kept.memory();
            for stage in Stage::ALL {
                if let Some(memory) = memory {
                    memory.heal(&member(instance, stage));
                }
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
            self.tick();
            self.append()?;
            for instance in 0..self.seats.len() {
                for stage in Stage::ALL {
                    self.step(instance, stage)?;
                }
            }
            self.send()?;
            self.kept.sync();
            self.look()?;
        }
        let (log, oracle) = (&self.kept, &self.oracle);
        let taken = &self.receivers.taken;
        let expected = self.audit.end(log, oracle, &self.config, taken)?;
        self.views(&expected.view)
    }

    /// At the end the views together show what one fault-free life shows.
    fn views(&self, expected: &View) -> Result<(), Violation> {
        let mut shards: BTreeSet<u32> = BTreeSet::new();
        let differs = |what: &str, shard: u32, found: String, expected: String| {
            let detail = format!("{what} of shard {shard}: {found}, expected {expected}");
            Err(Violation::new(
                "the views show what a fault-free life shows",
                detail,
            ))
        };
        for process in self.seats.iter().filter_map(|seat| seat.process.as_ref()) {
            for of in process.shows() {
                let shard = of.partition;
                shards.insert(shard);
                let here = |entity: &fenghuo_signal::Entity| home_of(entity) == shard as usize;
                let readings = |view: &View| {
                    let mut readings = view.readings();
                    readings.retain(|(_, entity, _)| here(entity));
                    readings
                };
                let (found, wanted) = (readings(process.view()), readings(expected));
                // By its text: what is not a number is not equal to itself.
                let odd = found
                    .iter()
                    .zip(&wanted)
                    .find(|(one, other)| format!("{one:?}") != format!("{other:?}"));
                if let Some((one, other)) = odd {
                    return differs("readings", shard, format!("{one:?}"), format!("{other:?}"));
                }
                if found.len() != wanted.len() {
                    let (found, wanted) = (found.len(), wanted.len());
                    return differs("readings", shard, found.to_string(), wanted.to_string());
                }
                let open = |view: &View| {
                    let mut open = view.open();
                    open.retain(|step| here(&step.entity));
                    open
                };
                let (found, wanted) = (open(process.view()), open(expected));
                if found != wanted {
                    let (found, wanted) = (format!("{found:?}"), format!("{wanted:?}"));
                    return differs("open episodes", shard, found, wanted);
                }
                let totals = |view: &View| {
                    let mut totals = view.totals();
                    totals.retain(|(entity, _)| here(entity));
                    totals
                };
                let (found, wanted) = (totals(process.view()), totals(expected));
                if found != wanted {
                    let (found, wanted) = (format!("{found:?}"), format!("{wanted:?}"));
                    return differs("totals", shard, found, wanted);
                }
            }
        }
        if shards.len() == SHARDS as usize {
            Ok(())
        } else {
            let detail = format!("only {shards:?} are shown");
            Err(Violation::new("every shard is on a view", detail))
        }
    }
}

/// The log of a run, with the bug that is planted.
fn planted(kept: &Kept, plant: Option<Plant>) -> Box<dyn Log> {
    match plant {
        Some(plant) => Box::new(Planted::new(kept.log(), plant)),
        None => kept.log(),
    }
}

impl Seat {
    fn pause(&mut self, turn: usize, turns: usize) {
        self.paused = Some(turn + turns);
        self.expelled = Some(turn + turns / 2);
    }

    /// What stood still goes on: the commit that was on its way arrives.
    fn go_on(&mut self, instance: usize, turn: usize, log: Option<&MemoryLog>) {
        self.paused = None;
        if let (Some(stage), Some(process)) = (self.stuck.take(), &mut self.process) {
            // Whether it lands or not, the answer is not heard.
            if let Some(log) = log {
                let _ = log.deliver(&member(instance, stage));
            }
            process.drop_worker(stage, turn);
        }
    }
}
