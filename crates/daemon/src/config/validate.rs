//! From the raw config to the validated one, table by table.
//!
//! Owns every default and every bound. It must never guess: what is not understood is an error
//! with the file, the line, the key and what was expected.

mod kafka;
mod routes;
mod topics;
mod watched;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fenghuo_alert::Rules;
use fenghuo_engine::{DuplicateBounds, TrackerBounds};
use fenghuo_notify::{ChannelConfig, SecretSource, utc_offset_min};
use fenghuo_signal::Catalogue;
use fenghuo_signal::catalogue::File;

use super::document::{CONFIG_BYTES_MAX, Document, PLAN_BYTES_MAX, read_text};
use super::plan::Plans;
use super::raw::{self, Raw};
use super::{
    Begin, Config, ConfigError, Evaluate, Folder, Http, Ingest, Intake, Log, Shop, Watchdog,
};
use kafka::kafka;
use routes::{channels, routes};
use topics::{topics, uncounted};
use watched::watched;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const MILLISECOND: Duration = Duration::from_millis(1);

const MIB: u64 = 1 << 20;

const NAME_BYTES_MAX: usize = 128;
const FILES_MAX: usize = 64;

/// Bytes of all files of the catalogue, and of all of rules: both are told in one record.
const SET_BYTES_MAX: usize = 320 * 1024;

/// Checks a whole file, and reads what it names.
pub fn config(document: &Document<'_>) -> Result<Config, ConfigError> {
    let raw: Raw = document.read()?;
    let at = document;
    let log = log(at, &raw.log)?;
    let shop = shop(at, &raw.shop, !raw.plans.files.is_empty())?;
    let currency = shop.currency.as_deref().unwrap_or_default();
    let plans = plans(at, &raw.plans.files, currency)?;
    let mut warnings = Vec::new();
    let channels = channels(at, &raw, &shop)?;
    let catalogue = catalogue(at, &raw.catalogue)?;
    let routes = routes(at, &raw, &channels, &catalogue, &mut warnings)?;
    let http = http(at, &raw.http)?;
    let watched = watched(at, &raw.intake, &shop)?;
    let topics = topics(at, &raw.topics, &raw.ingest.lateness, watched.as_ref())?;
    warnings.extend(uncounted(&catalogue, &topics));
    Ok(Config {
        intake: intake(at, &raw.intake, &log, &http)?,
        log,
        kafka: kafka(at, raw.kafka)?,
        topics,
        watched,
        ingest: ingest(at, &raw.ingest)?,
        evaluate: evaluate(at, &raw.evaluate)?,
        http,
        rules: Arc::new(rules(at, &raw.rules, &catalogue, &raw.catalogue)?),
        catalogue,
        shutdown_deadline: match &raw.shutdown.deadline {
            None => 10 * SECOND,
            Some(text) => at.duration("shutdown.deadline", text, SECOND..=10 * MINUTE)?,
        },
        watchdog: match &raw.watchdog {
            None => None,
            Some(raw) => Some(watchdog(at, raw, &channels)?),
        },
        shop,
        plans,
        channels,
        routes,
        warnings,
    })
}

fn log(at: &Document<'_>, raw: &raw::Log) -> Result<Log, ConfigError> {
    let of_folder = [
        ("log.folder", &raw.folder),
        ("log.retention", &raw.retention),
        ("log.bytes_max", &raw.bytes_max),
        ("log.dead_letters_max", &raw.dead_letters_max),
        ("log.reserve", &raw.reserve),
    ];
    match raw.kind.as_deref().unwrap_or("kafka") {
        "kafka" => match of_folder.iter().find(|(_, given)| given.is_some()) {
            None => Ok(Log::Kafka),
            Some((key, _)) => Err(at.error(key, "is for log.kind = \"embedded\" alone")),
        },
        "embedded" => {
            let folder = raw.folder.as_deref().unwrap_or("fenghuo-data");
            let usual = Folder::at(at.path(folder));
            Ok(Log::Embedded(Folder {
                retention_ms: match raw.retention.as_deref() {
                    None | Some("forever") => None,
                    Some(text) => Some(at.duration_ms("log.retention", text, DAY..=3_650 * DAY)?),
                },
                bytes_max: match raw.bytes_max.as_deref() {
                    None => None,
                    Some(text) => Some(at.bytes("log.bytes_max", text, MIB * 64..=MIB << 24)?),
                },
                dead_letters_max: match raw.dead_letters_max.as_deref() {
                    None => None,
                    Some(text) => {
                        let bytes = at.bytes("log.dead_letters_max", text, MIB..=MIB << 24)?;
                        Some(bytes)
                    }
                },
                reserve_bytes: match raw.reserve.as_deref() {
                    None => usual.reserve_bytes,
                    Some(text) => at.bytes("log.reserve", text, MIB..=MIB << 20)?,
                },
                ..usual
            }))
        }
        kind => Err(at.unknown("log.kind", kind, ["kafka", "embedded"])),
    }
}

fn intake(
    at: &Document<'_>,
    raw: &raw::Intake,
    log: &Log,
    http: &Http,
) -> Result<Intake, ConfigError> {
    let (file, env) = (raw.token_file.as_deref(), raw.token_env.as_deref());
    let token = secret(at, "intake.token", file, env)?;
    let is_open = raw.http.unwrap_or(matches!(log, Log::Embedded(_)));
    if is_open && token.is_none() && !http.listen.ip().is_loopback() {
        let problem = format!(
            "events are taken at {}, which other machines can reach; expected token_file or \
             token_env in [intake], or http = false there",
            http.listen
        );
        return Err(at.error("http.listen", problem));
    }
    Ok(Intake { is_open, token })
}

fn shop(at: &Document<'_>, raw: &raw::Shop, has_plans: bool) -> Result<Shop, ConfigError> {
    let id = raw.id.as_deref();
    let id = id
        .map(|id| at.id("shop.id", id, NAME_BYTES_MAX))
        .transpose()?;
    let currency = raw.currency.as_deref().unwrap_or("CNY");
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        let problem = format!("is {currency:?}; expected an ISO 4217 code such as \"CNY\"");
        return Err(at.error("shop.currency", problem));
    }
    let zone = raw.time_zone.as_deref().unwrap_or("+08:00");
    let utc_offset_min = utc_offset_min(zone).ok_or_else(|| {
        let problem = format!("is {zone:?}; expected an offset from UTC such as \"+08:00\"");
        at.error("shop.time_zone", problem)
    })?;
    Ok(Shop {
        id,
        currency: Some(currency.to_owned()),
        utc_offset_min,
        is_currency_said: raw.currency.is_some() || has_plans,
        is_zone_said: raw.time_zone.is_some(),
    })
}

/// Where a secret is, from `<key>_file` or `<key>_env`.
fn secret(
    at: &Document<'_>,
    key: &str,
    file: Option<&str>,
    env: Option<&str>,
) -> Result<Option<SecretSource>, ConfigError> {
    let empty = |kind: &str| {
        let problem = "is empty; expected where the secret is";
        Err(at.error(&format!("{key}_{kind}"), problem))
    };
    match (file, env) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            let problem = format!("is set beside {key}_env; expected one of the two");
            Err(at.error(&format!("{key}_file"), problem))
        }
        (Some(""), None) => empty("file"),
        (None, Some("")) => empty("env"),
        (Some(file), None) => Ok(Some(SecretSource::File(at.path(file)))),
        (None, Some(env)) => Ok(Some(SecretSource::Env(env.to_owned()))),
    }
}

fn workers(at: &Document<'_>, key: &str, given: Option<i64>) -> Result<usize, ConfigError> {
    match given {
        Some(workers) => at.number(key, workers, 1..=256),
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
    }
}

fn ingest(at: &Document<'_>, raw: &raw::Ingest) -> Result<Ingest, ConfigError> {
    let ms = |key: &str, given: &Option<String>, default: &str, range| {
        at.duration_ms(key, given.as_deref().unwrap_or(default), range)
    };
    let entries = |key: &str, given: Option<i64>, default: i64| {
        at.number(key, given.unwrap_or(default), 1_000..=1_000_000_000)
    };
    let duplicates = &raw.duplicates;
    let trackers = &raw.trackers;
    Ok(Ingest {
        workers: workers(at, "ingest.workers", raw.workers)?,
        commit_ms: ms(
            "ingest.commit",
            &raw.commit,
            "50ms",
            10 * MILLISECOND..=10 * SECOND,
        )?,
        batch_records_max: at.number(
            "ingest.batch_records_max",
            raw.batch_records_max.unwrap_or(50_000),
            1..=10_000_000,
        )?,
        begin: match raw.start.as_deref().unwrap_or("earliest") {
            "earliest" => Begin::Earliest,
            "latest" => Begin::Latest,
            back => match humantime::parse_duration(back) {
                Ok(_) => Begin::Back(at.duration_ms("ingest.start", back, SECOND..=3_650 * DAY)?),
                Err(_) => {
                    let problem = format!(
                        "is {back:?}; expected \"earliest\", \"latest\" or a time back such as \"7d\""
                    );
                    return Err(at.error("ingest.start", problem));
                }
            },
        },
        horizon_ms: ms(
            "ingest.horizon",
            &raw.horizon,
            "10m",
            Duration::ZERO..=30 * DAY,
        )?,
        ahead_ms_max: ms(
            "ingest.ahead_max",
            &raw.ahead_max,
            "60s",
            Duration::ZERO..=DAY,
        )?,
        duplicates: DuplicateBounds {
            horizon_ms: ms(
                "ingest.duplicates.horizon",
                &duplicates.horizon,
                "1h",
                SECOND..=30 * DAY,
            )?,
            entries_max: entries(
                "ingest.duplicates.entries_max",
                duplicates.entries_max,
                225_000,
            )?,
        },
        trackers: TrackerBounds {
            entries_max: entries("ingest.trackers.entries_max", trackers.entries_max, 200_000)?,
            bytes_max: {
                let text = trackers.bytes_max.as_deref().unwrap_or("16MiB");
                let bytes = at.bytes("ingest.trackers.bytes_max", text, MIB..=MIB << 20)?;
                usize::try_from(bytes).unwrap_or(usize::MAX)
            },
            closed_ms: ms(
                "ingest.trackers.closed",
                &trackers.closed,
                "1d",
                MINUTE..=90 * DAY,
            )?,
        },
    })
}

fn evaluate(at: &Document<'_>, raw: &raw::Evaluate) -> Result<Evaluate, ConfigError> {
    Ok(Evaluate {
        workers: workers(at, "evaluate.workers", raw.workers)?,
        entities_max: at.number(
            "evaluate.entities_max",
            raw.entities_max.unwrap_or(25_000),
            1_000..=100_000_000,
        )?,
        panes_bytes_max: {
            let text = raw.panes_bytes_max.as_deref().unwrap_or("32MiB");
            let bytes = at.bytes("evaluate.panes_bytes_max", text, MIB..=MIB << 20)?;
            usize::try_from(bytes).unwrap_or(usize::MAX)
        },
        behind_ms_max: at.duration_ms(
            "evaluate.behind_max",
            raw.behind_max.as_deref().unwrap_or("60s"),
            SECOND..=DAY,
        )?,
        checkpoint_ms: at.duration_ms(
            "evaluate.checkpoint",
            raw.checkpoint.as_deref().unwrap_or("2m"),
            SECOND..=DAY,
        )?,
    })
}

fn watchdog(
    at: &Document<'_>,
    raw: &raw::Watchdog,
    channels: &[ChannelConfig],
) -> Result<Watchdog, ConfigError> {
    let Some(channel) = raw.channel.as_deref() else {
        let problem = "is missing; expected the name of the channel that is to hear it";
        return Err(at.error("watchdog.channel", problem));
    };
    if !channels.iter().any(|known| known.name == channel) {
        let known = channels.iter().map(|channel| channel.name.as_str());
        return Err(at.unknown("watchdog.channel", channel, known));
    }
    Ok(Watchdog {
        channel: channel.to_owned(),
        every: at.duration(
            "watchdog.every",
            raw.every.as_deref().unwrap_or("1m"),
            SECOND..=HOUR,
        )?,
    })
}

fn http(at: &Document<'_>, raw: &raw::Http) -> Result<Http, ConfigError> {
    let listen = match raw.listen.as_deref() {
        None => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8686),
        Some(text) => text.parse::<SocketAddr>().map_err(|_| {
            let problem = format!(
                "is {text:?}; expected an IP address and a port, such as \"127.0.0.1:8686\""
            );
            at.error("http.listen", problem)
        })?,
    };
    let token = secret(
        at,
        "http.token",
        raw.token_file.as_deref(),
        raw.token_env.as_deref(),
    )?;
    if token.is_none() && !listen.ip().is_loopback() {
        let problem = format!(
            "{listen} can be reached from other machines; expected token_file or token_env beside \
             it, or a loopback address"
        );
        return Err(at.error("http.listen", problem));
    }
    if let Some(url) = &raw.public_url {
        let host = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) || url.len() > 1_024 {
            let problem =
                format!("is {url:?}; expected an address such as \"https://fenghuo.example/\"");
            return Err(at.error("http.public_url", problem));
        }
    }
    Ok(Http {
        listen,
        token,
        metrics_open: raw.metrics_open.unwrap_or(false),
        top_entities: at.number(
            "http.top_entities",
            raw.top_entities.unwrap_or(50),
            0..=10_000,
        )?,
        public_url: raw.public_url.clone(),
    })
}

fn files<'f>(
    at: &Document<'_>,
    key: &str,
    files: &'f [String],
) -> Result<&'f [String], ConfigError> {
    match files.len() <= FILES_MAX {
        true => Ok(files),
        false => {
            let problem = format!("has {} files; expected at most {FILES_MAX}", files.len());
            Err(at.error(key, problem))
        }
    }
}

/// The built-in catalogue with the files of a shop's own.
fn catalogue(at: &Document<'_>, raw: &raw::Catalogue) -> Result<Arc<Catalogue>, ConfigError> {
    let mut own = Vec::new();
    for file in files(at, "catalogue.files", &raw.files)? {
        let path = at.path(file);
        own.push(File {
            name: path.display().to_string(),
            text: read_text(&path, CONFIG_BYTES_MAX)?,
        });
    }
    if own.is_empty() {
        return Ok(Catalogue::built_in());
    }
    bounded(
        at,
        "catalogue.files",
        &own.iter().map(|file| file.text.len()).collect::<Vec<_>>(),
    )?;
    Ok(Arc::new(Catalogue::compile(&own)?))
}

/// A set is told to every panes partition in one record, which a broker must take.
fn bounded(at: &Document<'_>, key: &str, bytes: &[usize]) -> Result<(), ConfigError> {
    let bytes: usize = bytes.iter().sum();
    if bytes > SET_BYTES_MAX {
        let problem = format!("are {bytes} bytes in all; expected at most {SET_BYTES_MAX}");
        return Err(at.error(key, problem));
    }
    Ok(())
}

fn rules(
    at: &Document<'_>,
    raw: &raw::Rules,
    catalogue: &Catalogue,
    own: &raw::Catalogue,
) -> Result<Rules, ConfigError> {
    let signals = catalogue.signal_names();
    let mut rules = match raw.builtin.unwrap_or(true) {
        true => Rules::builtin(&signals)?,
        false => Rules::default(),
    };
    let own = files(at, "catalogue.files", &own.files)?;
    let mut bytes = Vec::new();
    for file in own.iter().chain(files(at, "rules.files", &raw.files)?) {
        let path = at.path(file);
        let text = read_text(&path, CONFIG_BYTES_MAX)?;
        bytes.push(text.len());
        rules = rules.with(&path.display().to_string(), &text, &signals)?;
    }
    bounded(at, "rules.files", &bytes)?;
    Ok(rules)
}

fn plans(at: &Document<'_>, named: &[String], currency: &str) -> Result<Plans, ConfigError> {
    let mut plans = Plans::default();
    for file in files(at, "plans.files", named)? {
        let path = at.path(file);
        let text = read_text(&path, PLAN_BYTES_MAX)?;
        let name = path.display().to_string();
        plans.add(&Document::parse(&name, &text)?, currency)?;
    }
    Ok(plans)
}
