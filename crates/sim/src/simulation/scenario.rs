//! A scenario: everything that happens to a run, drawn from its seed before it begins.
//!
//! Owns the shop's topics, the config of the stages and the drawing. A run adds nothing random
//! that depends on what was left out, so that a scenario can be cut and still goes the same way.

use std::sync::Arc;

use fenghuo_alert::Rules;
use fenghuo_engine::{
    DuplicateBounds, InForce, IngestConfig, Rewrite, Route, Routes, Set, SourceTopic,
    TopologyConfig, TrackerBounds,
};
use fenghuo_event::Stream;
use fenghuo_log::Start;
use fenghuo_signal::Catalogue;

use super::clocks::{self, Probe};
use super::fault::Fault;
use super::input::{self, Message};
use crate::random::{Random, mix};

/// Start of every run, Unix ms.
pub const START_MS: i64 = 1_794_398_400_000;

/// Instances that share the work.
pub const INSTANCES: usize = 3;

/// Panes partitions.
pub const SHARDS: u32 = 3;

/// The shop's topics: stream, partitions.
pub const SOURCES: [(Stream, u32); 6] = [
    (Stream::Orders, 4),
    (Stream::Inventory, 3),
    (Stream::Couriers, 3),
    (Stream::Feedback, 1),
    (Stream::Catalog, 1),
    (Stream::Plans, 1),
];

/// Where pages go.
pub const CHANNELS: [&str; 3] = ["phone", "hook", "chat"];

/// How late an event may be without being noticed, ms.
pub const LATENESS_MS: i64 = 5_000;
/// How much later than that it may be and still count in its pane, ms.
pub const HORIZON_MS: i64 = 60_000;
/// How far an event may lie ahead of the log's time, ms.
pub const AHEAD_MS_MAX: i64 = 10_000;
/// For how many newer keys a duplicate is known.
pub const DUPLICATES_MAX: usize = 150;
/// The shop repeats what is among so many last messages of a partition.
pub const REPEATED_WITHIN: usize = DUPLICATES_MAX / 2;
/// For how long a duplicate is known, ms.
pub const DUPLICATES_MS: i64 = 30 * 60_000;
/// Parcels that one partition tracks.
pub const TRACKERS_MAX: usize = 400;
/// Segments are written often here, the journal is short, and a segment is several records.
pub const REWRITE: Rewrite = Rewrite {
    journal_bytes_min: 512,
    journal_records_max: 24,
    part_bytes_max: 64,
};
/// Within this time a shard has written down all that it knows, ms.
pub const CHECKPOINT_MS: i64 = 20_000;
/// Entities that one shard keeps.
pub const ENTITIES_MAX: usize = 200;
/// Bytes of panes that one shard keeps: more than it ever has, for an oracle knows all of them.
const PANES_BYTES_MAX: usize = 64 << 20;

/// Turns of a run.
pub(super) const TURNS: usize = 2_000;
/// Faults of a run.
const FAULTS: (i64, i64) = (24, 37);
/// Times at which nothing happens for minutes.
const PAUSES: usize = 3;

/// Short holds, so that much begins and ends within a run.
const RULES: &str = r#"
[[rule]]
name = "floor"
signal = "price.floor"
where = { kind = "sku" }
page = [{ read = "value", below = 1 }]
keep_firing = "10s"

[[rule]]
name = "oversell"
signal = "stock.oversell"
where = { kind = "sku" }
warn = [{ read = "value", above = 0.8, clear = 0.7 }]
page = [{ read = "lower", above = 0 }]
keep_firing = "10s"

[[rule]]
name = "cover"
signal = "stock.hours_of_cover"
where = { kind = "sku" }
warn = [{ read = "value", below = 0.5, clear = 1, hold = "20s" }]
page = [{ read = "value", below = 0.1, clear = 0.2 }]
keep_firing = "20s"

[[rule]]
name = "pace"
signal = "sales.pace"
where = { kind = ["sku", "campaign"] }
warn = [{ read = "surprise", above = 2, clear = 1 }]
page = [{ read = "surprise", above = 4, clear = 2 }]
keep_firing = "1m"
inhibited_by = ["source.silence", "sales.drought"]

[[rule]]
name = "drought"
signal = "sales.drought"
where = { kind = "campaign" }
warn = [{ read = "value", above = 0.3, clear = 0.2 }]
page = [{ read = "value", above = 0.6, clear = 0.4 }]
keep_firing = "5s"
inhibited_by = ["source.silence"]

[[rule]]
name = "breach"
signal = "parcel.eta_breach"
where = { kind = ["courier", "lane", "campaign"] }
warn = [{ read = "value", above = 0.2, clear = 0.1 }]
keep_firing = "1m"
least_sample = 5

[[rule]]
name = "reviews"
signal = "review.negative_share"
where = { kind = "sku" }
warn = [{ read = "value", above = 2, clear = 1.5 }]
page = [{ read = "value", above = 8, clear = 6 }]
keep_firing = "1m"

[[rule]]
name = "silence"
signal = "source.silence"
where = { kind = "source" }
warn = [{ read = "value", above = 10, clear = 5 }]
page = [{ read = "value", above = 60, clear = 5 }]
keep_firing = "5s"
"#;

/// What the log of a run is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What is committed is durable, and transactions take offsets.
    Kafka,
    /// What is committed becomes durable a little later.
    Embedded,
    /// The log is the one in a folder, of one process, on a disk that fails.
    Folder,
}

impl Mode {
    /// Instances that share the work.
    pub const fn instances(self) -> usize {
        match self {
            Mode::Kafka | Mode::Embedded => INSTANCES,
            Mode::Folder => 1,
        }
    }
}

/// Everything that happens to a run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it was drawn from.
    pub seed: u64,
    /// What the log is like.
    pub mode: Mode,
    /// The time of each turn, Unix ms.
    pub times_ms: Vec<i64>,
    /// What the shop says, in order.
    pub messages: Vec<Message>,
    /// What goes wrong, in order.
    pub faults: Vec<Fault>,
    /// Sales below a floor that have to be paged in time.
    pub probes: Vec<Probe>,
}

impl Scenario {
    /// Draws a scenario on the in-memory log.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(mix(seed ^ 0x51ce));
        let mode = if random.chance(0.5) {
            Mode::Kafka
        } else {
            Mode::Embedded
        };
        Self::draw(seed, random, mode)
    }

    /// Draws a scenario on the log in a folder.
    pub fn in_folder(seed: u64) -> Self {
        Self::draw(seed, Random::new(mix(seed ^ 0xf01de4)), Mode::Folder)
    }

    fn draw(seed: u64, mut random: Random, mode: Mode) -> Self {
        let times_ms = times(&mut random);
        let messages = input::draw(&mut random, &times_ms);
        let (least, most) = FAULTS;
        let mut faults: Vec<Fault> = (0..random.between(least, most))
            .map(|_| Fault::draw(&mut random, TURNS, mode))
            .collect();
        faults.sort_by_key(|fault| fault.turn);
        Self {
            seed,
            mode,
            times_ms,
            messages,
            faults,
            probes: Vec::new(),
        }
    }

    /// Draws a scenario in which a clock jumps and comes back, and nothing else goes wrong.
    pub fn with_wrong_clock(seed: u64) -> Self {
        clocks::draw(seed, Random::new(mix(seed ^ 0xc10c)))
    }

    /// Draws a scenario in which the machine's clock is set, followed, and set back.
    pub fn with_followed_clock(seed: u64) -> Self {
        clocks::draw_followed(seed, Random::new(mix(seed ^ 0xc10c)))
    }

    /// The same run with nothing going wrong.
    pub fn without_faults(mut self) -> Self {
        self.faults.clear();
        self
    }

    /// Random numbers for one purpose at one turn.
    pub(super) fn random(&self, turn: usize, purpose: u64) -> Random {
        Random::new(mix(self.seed) ^ mix((turn as u64) << 8 | purpose))
    }
}

fn times(random: &mut Random) -> Vec<i64> {
    let pauses: Vec<i64> = (0..PAUSES)
        .map(|_| random.between(0, TURNS as i64))
        .collect();
    let mut now_ms = START_MS;
    (0..TURNS as i64)
        .map(|turn| {
            now_ms += match random.between(0, 1_000) {
                _ if pauses.contains(&turn) => random.between(5 * 60_000, 40 * 60_000),
                0..850 => random.between(20, 250),
                850..975 => random.between(250, 1_500),
                _ => random.between(2_000, 20_000),
            };
            now_ms
        })
        .collect()
}

/// Name of a source topic.
pub fn source(stream: Stream) -> String {
    format!("shop.{}", stream.topic())
}

/// The config of one instance.
pub fn config(instance: usize) -> TopologyConfig {
    let topics = SOURCES
        .iter()
        .map(|(stream, _)| SourceTopic {
            name: source(*stream).into(),
            stream: *stream,
            lateness_ms: LATENESS_MS,
        })
        .collect();
    let catalogue = Catalogue::built_in();
    let rules = Rules::parse("simulation", RULES, &catalogue.signal_names());
    let rules = rules.unwrap_or_else(|error| panic!("the rules of the simulation: {error}"));
    let route = |severity, channels: &[usize], fallback: &[usize]| Route {
        severity,
        channels: channels.iter().map(|at| CHANNELS[*at].to_owned()).collect(),
        fallback: fallback.iter().map(|at| CHANNELS[*at].to_owned()).collect(),
        ..Route::default()
    };
    TopologyConfig {
        group: "fenghuo".to_owned(),
        instance: instance.to_string(),
        ingest: IngestConfig {
            topics,
            shop: None,
            currency: Some("CNY".to_owned()),
            horizon_ms: HORIZON_MS,
            ahead_ms_max: AHEAD_MS_MAX,
            duplicates: DuplicateBounds {
                horizon_ms: DUPLICATES_MS,
                entries_max: DUPLICATES_MAX,
            },
            trackers: TrackerBounds {
                entries_max: TRACKERS_MAX,
                bytes_max: 64 << 20,
                closed_ms: 86_400_000,
            },
            rewrite: REWRITE,
            panes_partitions: SHARDS,
            seed: 7,
        },
        set: InForce::new(Set::new(catalogue, Arc::new(rules))),
        routes: Routes(vec![
            route(vec![fenghuo_alert::Severity::Page], &[0, 1], &[2]),
            route(Vec::new(), &[1], &[]),
        ]),
        entities_max: ENTITIES_MAX,
        panes_bytes_max: PANES_BYTES_MAX,
        behind_ms_max: 60_000,
        start: Start::Earliest,
        commit_ms: 200,
        batch_records_max: 500,
        panes_retention_ms: None,
        dead_letter_retention_ms: None,
        checkpoint_ms: Some(CHECKPOINT_MS),
    }
}
