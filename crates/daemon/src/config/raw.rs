//! The config as its file says it: names and types, nothing checked.
//!
//! Every setting is named here once; what it may be and what it is when it is left out is said
//! where it is validated. Numbers are wide and times are text, so that a bound is told in our
//! words. It must hold no secret: there is no key for one.

use std::collections::BTreeMap;

use fenghuo_engine::Route;
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    pub shop: Shop,
    pub log: Log,
    pub kafka: Kafka,
    pub topics: Topics,
    pub intake: Intake,
    pub ingest: Ingest,
    pub evaluate: Evaluate,
    pub http: Http,
    pub catalogue: Catalogue,
    pub rules: Rules,
    pub plans: Plans,
    pub shutdown: Shutdown,
    pub watchdog: Option<Watchdog>,
    pub channel: Vec<toml::Table>,
    pub route: Vec<Route>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watchdog {
    pub channel: Option<String>,
    pub every: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shop {
    pub id: Option<String>,
    pub currency: Option<String>,
    pub time_zone: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub kind: Option<String>,
    pub folder: Option<String>,
    pub retention: Option<String>,
    pub bytes_max: Option<String>,
    pub dead_letters_max: Option<String>,
    pub reserve: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    pub bootstrap: Option<Vec<String>>,
    pub client_id: Option<String>,
    pub group: Option<String>,
    pub instance: Option<String>,
    pub instance_env: Option<String>,
    pub replication: Option<i64>,
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
    pub extra: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    pub ca_file: Option<String>,
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sasl {
    pub mechanism: Option<String>,
    pub username: Option<String>,
    pub password_file: Option<String>,
    pub password_env: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topics {
    pub prefix: Option<String>,
    pub streams: Option<Vec<String>>,
    pub names: BTreeMap<String, String>,
    pub panes_partitions: Option<i64>,
    pub panes_retention: Option<String>,
    pub dead_letter_retention: Option<String>,
    pub create: Option<bool>,
    pub source_partitions: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Intake {
    pub http: Option<bool>,
    pub token_file: Option<String>,
    pub token_env: Option<String>,
    pub watch: Option<String>,
    pub mappings: Vec<String>,
    pub settle: Option<String>,
    pub files_max: Option<i64>,
    pub rows_max: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ingest {
    pub workers: Option<i64>,
    pub commit: Option<String>,
    pub batch_records_max: Option<i64>,
    pub start: Option<String>,
    pub horizon: Option<String>,
    pub ahead_max: Option<String>,
    pub lateness: BTreeMap<String, String>,
    pub duplicates: Duplicates,
    pub trackers: Trackers,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Duplicates {
    pub horizon: Option<String>,
    pub entries_max: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trackers {
    pub entries_max: Option<i64>,
    pub bytes_max: Option<String>,
    pub closed: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluate {
    pub workers: Option<i64>,
    pub entities_max: Option<i64>,
    pub panes_bytes_max: Option<String>,
    pub behind_max: Option<String>,
    pub checkpoint: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    pub listen: Option<String>,
    pub token_file: Option<String>,
    pub token_env: Option<String>,
    pub metrics_open: Option<bool>,
    pub top_entities: Option<i64>,
    pub public_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    pub builtin: Option<bool>,
    pub files: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Catalogue {
    pub files: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plans {
    pub files: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    pub deadline: Option<String>,
}
