//! The config: from a file to values that everything else can rely on.
//!
//! Owns defaults, bounds and the mistakes that a person can make in a config, rules or plan file.
//! All of it is read and checked before anything binds or connects. It must never hold a secret,
//! only where one is found: secrets are read when they are needed, so that a config can be
//! checked where it has none.

mod document;
mod plan;
mod raw;
mod validate;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fenghuo_alert::{RuleError, Rules};
use fenghuo_engine::{
    DuplicateBounds, InForce, IngestConfig, Rewrite, Routes, Set, SourceTopic, TopologyConfig,
    TrackerBounds,
};
use fenghuo_event::Stream;
use fenghuo_kafka::KafkaConfig;
use fenghuo_log::{Start, TopicSpec};
use fenghuo_notify::{ChannelConfig, ChannelKind, Secret, SecretSource, is_placeholder};
use fenghuo_signal::Catalogue;

pub use document::read_text;
pub use plan::Plans;

/// Seed of the tables in which ingest combines. Any number does; one and the same keeps replays
/// alike to the byte.
const TABLE_SEED: u64 = 0x6665_6e67_6875_6f00;

/// Bytes of a token at least.
const TOKEN_BYTES_MIN: usize = 16;

/// Everything that an installation is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[shop]`
    pub shop: Shop,
    /// `[log]`
    pub log: Log,
    /// `[intake]`
    pub intake: Intake,
    /// `[kafka]`
    pub kafka: Kafka,
    /// `[topics]`
    pub topics: Topics,
    /// `[intake] watch` and what belongs to it, where a folder is watched.
    pub watched: Option<Watched>,
    /// `[ingest]`
    pub ingest: Ingest,
    /// `[evaluate]`
    pub evaluate: Evaluate,
    /// `[watchdog]`
    pub watchdog: Option<Watchdog>,
    /// `[http]`
    pub http: Http,
    /// `[catalogue]`: what is counted and read, the built-in files with a shop's own.
    pub catalogue: Arc<Catalogue>,
    /// `[rules]`: the built-in ones with those of the files over them.
    pub rules: Arc<Rules>,
    /// `[plans]`: campaigns and skus.
    pub plans: Plans,
    /// `[[channel]]`
    pub channels: Vec<ChannelConfig>,
    /// `[[route]]`
    pub routes: Routes,
    /// `[shutdown] deadline`: how long draining may take.
    pub shutdown_deadline: Duration,
    /// What holds but is hardly meant.
    pub warnings: Vec<String>,
}

/// `[shop]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shop {
    /// The one shop; `None` takes any.
    pub id: Option<String>,
    /// The one currency; `None` takes any.
    pub currency: Option<String>,
    /// Local time minus UTC, in minutes.
    pub utc_offset_min: i32,
    /// The currency is no default: the config says it, or has plans that are priced in it.
    pub is_currency_said: bool,
    /// The time zone is no default.
    pub is_zone_said: bool,
}

/// `[log]`: what keeps the topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Log {
    /// A Kafka cluster.
    Kafka,
    /// A folder of this machine, for this process alone.
    Embedded(Folder),
}

/// The folder of the embedded log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// How long the shop's events are kept; `None` = for ever.
    pub retention_ms: Option<i64>,
    /// Beyond so much the oldest events go; `None` = whatever the disk takes.
    pub bytes_max: Option<u64>,
    /// Beyond so much the oldest dead letters go; `None` = a share of `bytes_max`.
    pub dead_letters_max: Option<u64>,
    /// With less room than this on the disk nothing is taken in any more.
    pub reserve_bytes: u64,
}

impl Folder {
    /// A folder with every setting as it is by default.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            retention_ms: None,
            bytes_max: None,
            dead_letters_max: None,
            reserve_bytes: 256 << 20,
        }
    }

    /// Beyond so many bytes the oldest dead letters go: what was set, or an eighth of all, or 1 GiB.
    pub fn dead_letter_bytes_max(&self) -> u64 {
        let of_all = self.bytes_max.map_or(1 << 30, |bytes_max| bytes_max / 8);
        self.dead_letters_max.unwrap_or(of_all)
    }
}

/// `[intake]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intake {
    /// Whether events are taken over HTTP.
    pub is_open: bool,
    /// Where the token is that senders carry.
    pub token: Option<SecretSource>,
}

/// `[kafka]`
#[derive(Clone, Debug)]
pub struct Kafka {
    /// What is said of the connection, with an empty password; see [`Config::kafka`].
    pub connection: KafkaConfig,
    /// Where the password is, where brokers want one.
    pub password: Option<SecretSource>,
    /// Consumer groups and transactional ids are named after it.
    pub group: String,
    /// What tells this process from others of the group.
    pub instance: String,
}

/// `[topics]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// The shop's topics that are read, in the order of [`Stream::ALL`].
    pub sources: Vec<SourceTopic>,
    /// Partitions of fenghuo.panes.
    pub panes_partitions: u32,
    /// How long fenghuo.panes is kept; `None` = for ever.
    pub panes_retention_ms: Option<i64>,
    /// How long dead letters are kept, where the topic is made; `None` = for ever.
    pub dead_letter_retention_ms: Option<i64>,
    /// Whether missing topics of the shop are made. Fenghuo's own always are.
    pub create: bool,
    /// Partitions of the shop's topics that are made.
    pub source_partitions: u32,
}

/// `[intake] watch`
#[derive(Clone, Debug)]
pub struct Watched {
    /// The folder.
    pub folder: PathBuf,
    /// What its files may hold, and the bounds.
    pub settings: fenghuo_intake::watch::Settings,
}

/// `[ingest]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingest {
    /// Threads.
    pub workers: usize,
    /// How long a batch gathers.
    pub commit_ms: i64,
    /// Records after which a batch is committed at once.
    pub batch_records_max: usize,
    /// Where a partition without a commit begins.
    pub begin: Begin,
    /// Beyond the allowed lateness, how much older than the newest an event may be and still
    /// count in its pane.
    pub horizon_ms: i64,
    /// How far an event may lie ahead of the log's time.
    pub ahead_ms_max: i64,
    /// Bounds of the duplicate sets.
    pub duplicates: DuplicateBounds,
    /// Bounds of the trackers.
    pub trackers: TrackerBounds,
}

/// Where a partition without a commit begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At its first record.
    Earliest,
    /// Behind its last record.
    Latest,
    /// This long before now, in ms.
    Back(i64),
}

/// `[evaluate]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluate {
    /// Threads.
    pub workers: usize,
    /// Entities that one panes partition keeps at most.
    pub entities_max: usize,
    /// Bytes of panes that one panes partition keeps at most, besides a few of each entity.
    pub panes_bytes_max: usize,
    /// A source that lags further behind mutes the signals that rest on it.
    pub behind_ms_max: i64,
    /// Time within which all that is known was written down once.
    pub checkpoint_ms: i64,
}

/// `[watchdog]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// The channel that hears it.
    pub channel: String,
    /// How often.
    pub every: Duration,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where the screen, the API and the metrics are.
    pub listen: SocketAddr,
    /// Where the bearer token is; without one, `listen` is on the loopback.
    pub token: Option<SecretSource>,
    /// Whether the metrics need no token.
    pub metrics_open: bool,
    /// Entities whose readings are shown as metrics.
    pub top_entities: usize,
    /// What links in pages begin with.
    pub public_url: Option<String>,
}

/// A mistake in a config, or in a file that it names.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{file}: cannot be read")]
    Read {
        /// The file.
        file: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A value cannot be used, or a key is not known.
    #[error("{file}:{line}: {key}{}{problem}", if .key.is_empty() { "" } else { ": " })]
    At {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// The key with its tables.
        key: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// Several mistakes, each a line with its place.
    #[error("{}", .0.join("\n"))]
    Many(Vec<String>),
    /// A rule is wrong.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A file of the catalogue is wrong.
    #[error(transparent)]
    Catalogue(#[from] fenghuo_signal::document::Mistakes),
    /// A mapping is wrong.
    #[error(transparent)]
    Mapping(#[from] fenghuo_intake::MappingError),
    /// A channel is wrong.
    #[error(transparent)]
    Channel(#[from] fenghuo_notify::ConfigError),
    /// A secret is not where the config says.
    #[error("{key}: {problem}")]
    Secret {
        /// The key that says where it is.
        key: &'static str,
        /// Why it cannot be had; never the secret.
        problem: String,
    },
}

impl Config {
    /// Reads and checks a config and all files that it names.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path, document::CONFIG_BYTES_MAX)?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Checks the text of a config; `file` is its name in errors, and paths in it are relative
    /// to that file's folder.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        validate::config(&document::Document::parse(file, text)?)
    }

    /// What holds without a file: any shop, any currency, the built-in rules, pages to the log.
    pub fn without_file() -> Result<Self, ConfigError> {
        let mut config = Self::parse("built-in", "")?;
        config.shop.currency = None;
        Ok(config)
    }

    /// Pages that are printed tell the time as it is so many minutes east of UTC.
    pub fn set_terminal_offset(&mut self, minutes: i32) {
        for channel in &mut self.channels {
            if let ChannelKind::Log { utc_offset_min, .. } = &mut channel.kind {
                *utc_offset_min = minutes;
            }
        }
    }

    /// Keeps the topics in a folder, and takes events over HTTP.
    pub fn in_folder(mut self, path: PathBuf) -> Self {
        self.log = match self.log {
            Log::Embedded(folder) => Log::Embedded(Folder { path, ..folder }),
            Log::Kafka => Log::Embedded(Folder::at(path)),
        };
        self.intake.is_open = true;
        self
    }

    /// What senders of events carry, where something is needed.
    pub fn intake_token(&self) -> Result<Option<Secret>, ConfigError> {
        let source = self.intake.token.as_ref();
        source
            .map(|source| read_token("intake.token", source))
            .transpose()
    }

    /// The connection to Kafka, with its password.
    pub fn kafka(&self) -> Result<KafkaConfig, ConfigError> {
        let mut connection = self.kafka.connection.clone();
        if let (Some(sasl), Some(password)) = (&mut connection.security.sasl, &self.kafka.password)
        {
            let password = read("kafka.sasl.password", password)?;
            sasl.password = password.expose().to_owned();
        }
        Ok(connection)
    }

    /// The bearer token, where one is needed.
    pub fn token(&self) -> Result<Option<Secret>, ConfigError> {
        let source = self.http.token.as_ref();
        source
            .map(|source| read_token("http.token", source))
            .transpose()
    }

    /// Looks at the secrets that are here as a run does, and says which are not: those are no mistake,
    /// since a config is checked where it is written, too.
    pub fn check_secrets(&self) -> Result<Vec<String>, ConfigError> {
        let (mut absent, mut mistakes) = (Vec::new(), Vec::new());
        let mut is_here = |key: &str, source: &SecretSource| match source.absence() {
            None => true,
            Some(why) => {
                absent.push(format!("{key} is not checked: {why}"));
                false
            }
        };
        let tokens = [
            ("http.token", &self.http.token),
            ("intake.token", &self.intake.token),
        ];
        for (key, source) in tokens {
            if let Some(source) = source
                && is_here(key, source)
            {
                mistakes.extend(read_token(key, source).err());
            }
        }
        let key = "kafka.sasl.password";
        if let Some(source) = &self.kafka.password
            && is_here(key, source)
        {
            match read(key, source) {
                Ok(password) if is_placeholder(password.expose()) => {
                    let problem =
                        format!("{source} holds what an example says; expected the password");
                    mistakes.push(ConfigError::Secret { key, problem });
                }
                read => mistakes.extend(read.err()),
            }
        }
        for channel in &self.channels {
            match channel.check_secrets() {
                Ok(of_channel) => absent.extend(of_channel),
                Err(error) => mistakes.push(error.into()),
            }
        }
        match mistakes.pop() {
            None => Ok(absent),
            Some(only) if mistakes.is_empty() => Err(only),
            Some(last) => {
                mistakes.push(last);
                let lines = mistakes.iter().map(ToString::to_string);
                Err(ConfigError::Many(lines.collect()))
            }
        }
    }

    /// The name of a stream's topic, where it is read.
    pub fn topic_of(&self, stream: Stream) -> Option<&Arc<str>> {
        let mut sources = self.topics.sources.iter();
        let source = sources.find(|source| source.stream == stream);
        source.map(|source| &source.name)
    }

    /// The shop's topics as they are made where they are missing.
    pub fn source_topics(&self) -> Vec<TopicSpec> {
        let kept_ms = match &self.log {
            Log::Kafka => None,
            Log::Embedded(folder) => folder.retention_ms,
        };
        let sources = self.topics.sources.iter();
        sources
            .map(|source| TopicSpec {
                name: source.name.to_string(),
                partitions: self.topics.source_partitions,
                compacted: source.stream.is_compacted(),
                retention_ms: kept_ms,
            })
            .collect()
    }

    /// What its files count and judge by.
    pub fn set(&self) -> Set {
        Set::new(Arc::clone(&self.catalogue), Arc::clone(&self.rules))
    }

    /// What the stages are told, with time being `now_ms`.
    pub fn topology(&self, now_ms: i64) -> TopologyConfig {
        TopologyConfig {
            group: self.kafka.group.clone(),
            instance: self.kafka.instance.clone(),
            ingest: IngestConfig {
                topics: self.topics.sources.clone(),
                shop: self.shop.id.clone(),
                currency: self.shop.currency.clone(),
                horizon_ms: self.ingest.horizon_ms,
                ahead_ms_max: self.ingest.ahead_ms_max,
                duplicates: self.ingest.duplicates,
                trackers: self.ingest.trackers,
                rewrite: Rewrite::default(),
                panes_partitions: self.topics.panes_partitions,
                seed: TABLE_SEED,
            },
            set: InForce::new(self.set()),
            routes: self.routes.clone(),
            entities_max: self.evaluate.entities_max,
            panes_bytes_max: self.evaluate.panes_bytes_max,
            behind_ms_max: self.evaluate.behind_ms_max,
            start: match self.ingest.begin {
                Begin::Earliest => Start::Earliest,
                Begin::Latest => Start::Latest,
                Begin::Back(back_ms) => Start::At(now_ms.saturating_sub(back_ms).max(0)),
            },
            commit_ms: self.ingest.commit_ms,
            batch_records_max: self.ingest.batch_records_max,
            panes_retention_ms: self.topics.panes_retention_ms,
            dead_letter_retention_ms: self.topics.dead_letter_retention_ms,
            checkpoint_ms: Some(self.evaluate.checkpoint_ms),
        }
    }
}

/// Reads what senders or readers must know, which nobody may guess.
fn read_token(key: &'static str, source: &SecretSource) -> Result<Secret, ConfigError> {
    let secret = read(key, source)?;
    if secret.expose().len() < TOKEN_BYTES_MIN || is_placeholder(secret.expose()) {
        let problem = format!(
            "what {source} holds can be guessed: expected {TOKEN_BYTES_MIN} bytes or more, as \
             `openssl rand -hex 32` prints them"
        );
        return Err(ConfigError::Secret { key, problem });
    }
    Ok(secret)
}

fn read(key: &'static str, source: &SecretSource) -> Result<Secret, ConfigError> {
    source
        .read_line()
        .map_err(|problem| ConfigError::Secret { key, problem })
}

#[cfg(test)]
mod tests;
