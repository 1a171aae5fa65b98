//! From the raw config to the validated one, table by table.
//!
//! Owns every default and every bound. It must never guess: what is not understood is a mistake
//! with the file, the line, the key and what was expected. Checking goes on after each; what is
//! made of a wrong value in the meantime reaches nobody.

mod kafka;
mod routes;
mod topics;
mod watched;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fenghuo_alert::{Problem, RuleError, Rules};
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
use routes::{channels, check_channel, routes};
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
pub fn config(at: &Document<'_>) -> Result<Config, ConfigError> {
    let raw: Raw = at.read();
    let log = log(at, &raw.log);
    let shop = shop(at, &raw.shop, !raw.plans.files.is_empty());
    let currency = shop.currency.as_deref();
    let currency = currency.filter(|_| !at.is_unsure("shop.currency"));
    let plans = plans(at, &raw.plans.files, currency);
    let mut warnings = Vec::new();
    let channels = channels(at, &raw, &shop);
    let catalogue = catalogue(at, &raw.catalogue);
    let routes = routes(at, &raw, &channels, &catalogue, &mut warnings);
    let http = http(at, &raw.http);
    let watched = watched(at, &raw.intake, &shop);
    let topics = topics(at, &raw.topics, &raw.ingest.lateness, watched.as_ref());
    warnings.extend(uncounted(&catalogue, &topics));
    let watchdog = raw.watchdog.as_ref();
    let watchdog = watchdog.and_then(|dog| watchdog_of(at, &raw, dog, &channels));
    at.finish(Config {
        intake: intake(at, &raw.intake, &log, &http),
        log,
        topics,
        watched,
        ingest: ingest(at, &raw.ingest),
        evaluate: evaluate(at, &raw.evaluate),
        http,
        rules: Arc::new(rules(at, &raw.rules, &catalogue, &raw.catalogue)),
        catalogue,
        shutdown_deadline: match &raw.shutdown.deadline {
            None => 10 * SECOND,
            Some(text) => {
                let deadline = at.duration("shutdown.deadline", text, SECOND..=10 * MINUTE);
                deadline.unwrap_or_default()
            }
        },
        watchdog,
        shop,
        plans,
        channels,
        routes,
        warnings,
        kafka: kafka(at, raw.kafka),
    })
}

fn log(at: &Document<'_>, raw: &raw::Log) -> Log {
    let of_folder = [
        ("log.folder", &raw.folder),
        ("log.retention", &raw.retention),
        ("log.bytes_max", &raw.bytes_max),
        ("log.dead_letters_max", &raw.dead_letters_max),
        ("log.reserve", &raw.reserve),
    ];
    match raw.kind.as_deref().unwrap_or("kafka") {
        // Which of the two is meant is not known: what is there is checked as it would be for a folder.
        "kafka" if at.is_unsure("log.kind") => {}
        "kafka" => {
            if let Some((key, _)) = of_folder.iter().find(|(_, given)| given.is_some()) {
                at.mistake(key, "is for log.kind = \"embedded\" alone");
            }
            return Log::Kafka;
        }
        "embedded" => {}
        kind => at.unknown("log.kind", kind, ["kafka", "embedded"]),
    }
    let folder = raw.folder.as_deref().unwrap_or("fenghuo-data");
    let usual = Folder::at(at.path(folder));
    if let Some(problem) = crate::control::too_long(&usual.path) {
        at.mistake("log.folder", problem);
    }
    Log::Embedded(Folder {
        retention_ms: match raw.retention.as_deref() {
            None | Some("forever") => None,
            Some(text) => at.duration_ms("log.retention", text, DAY..=3_650 * DAY),
        },
        bytes_max: raw
            .bytes_max
            .as_deref()
            .map(|text| at.bytes("log.bytes_max", text, MIB * 64..=MIB << 24)),
        dead_letters_max: raw
            .dead_letters_max
            .as_deref()
            .map(|text| at.bytes("log.dead_letters_max", text, MIB..=MIB << 24)),
        reserve_bytes: match raw.reserve.as_deref() {
            None => usual.reserve_bytes,
            Some(text) => at.bytes("log.reserve", text, MIB..=MIB << 20),
        },
        ..usual
    })
}

fn intake(at: &Document<'_>, raw: &raw::Intake, log: &Log, http: &Http) -> Intake {
    let (file, env) = (raw.token_file.as_deref(), raw.token_env.as_deref());
    let token = secret(at, "intake.token", file, env);
    let is_open = raw.http.unwrap_or(matches!(log, Log::Embedded(_)));
    let rests_on = [
        "log.kind",
        "intake.http",
        "intake.token_file",
        "intake.token_env",
    ];
    if is_open
        && token.is_none()
        && !http.listen.ip().is_loopback()
        && !rests_on.iter().any(|key| at.is_unsure(key))
    {
        let problem = format!(
            "events are taken at {}, which other machines can reach; expected token_file or \
             token_env in [intake], or http = false there",
            http.listen
        );
        at.mistake("http.listen", problem);
    }
    Intake { is_open, token }
}

fn shop(at: &Document<'_>, raw: &raw::Shop, has_plans: bool) -> Shop {
    let id = raw.id.as_deref();
    let currency = raw.currency.as_deref().unwrap_or("CNY");
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        let problem = format!("is {currency:?}; expected an ISO 4217 code such as \"CNY\"");
        at.mistake("shop.currency", problem);
    }
    let zone = raw.time_zone.as_deref().unwrap_or("+08:00");
    let utc_offset_min = utc_offset_min(zone);
    if utc_offset_min.is_none() {
        let problem = format!("is {zone:?}; expected an offset from UTC such as \"+08:00\"");
        at.mistake("shop.time_zone", problem);
    }
    Shop {
        id: id.map(|id| at.id("shop.id", id, NAME_BYTES_MAX)),
        currency: Some(currency.to_owned()),
        utc_offset_min: utc_offset_min.unwrap_or_default(),
        is_currency_said: raw.currency.is_some() || has_plans,
        is_zone_said: raw.time_zone.is_some(),
    }
}

/// Where a secret is, from `<key>_file` or `<key>_env`.
fn secret(
    at: &Document<'_>,
    key: &str,
    file: Option<&str>,
    env: Option<&str>,
) -> Option<SecretSource> {
    let (file_key, env_key) = (format!("{key}_file"), format!("{key}_env"));
    match (file, env) {
        (Some(_), Some(_)) => {
            let problem = format!("is set beside {env_key}; expected one of the two");
            at.mistake(&file_key, problem);
        }
        (Some(""), None) => at.mistake(&file_key, "is empty; expected where the secret is"),
        (None, Some("")) => at.mistake(&env_key, "is empty; expected where the secret is"),
        _ => {}
    }
    let file = file.map(|file| SecretSource::File(at.path(file)));
    file.or_else(|| env.map(|env| SecretSource::Env(env.to_owned())))
}

fn workers(at: &Document<'_>, key: &str, given: Option<i64>) -> usize {
    match given {
        Some(workers) => at.number(key, workers, 1..=256),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn ingest(at: &Document<'_>, raw: &raw::Ingest) -> Ingest {
    let ms = |key: &str, given: &Option<String>, default: &str, range| {
        let ms = at.duration_ms(key, given.as_deref().unwrap_or(default), range);
        ms.unwrap_or_default()
    };
    let entries = |key: &str, given: Option<i64>, default: i64| {
        at.number(key, given.unwrap_or(default), 1_000..=1_000_000_000)
    };
    let duplicates = &raw.duplicates;
    let trackers = &raw.trackers;
    Ingest {
        workers: workers(at, "ingest.workers", raw.workers),
        commit_ms: ms(
            "ingest.commit",
            &raw.commit,
            "50ms",
            10 * MILLISECOND..=10 * SECOND,
        ),
        batch_records_max: at.number(
            "ingest.batch_records_max",
            raw.batch_records_max.unwrap_or(50_000),
            1..=10_000_000,
        ),
        begin: match raw.start.as_deref().unwrap_or("earliest") {
            "earliest" => Begin::Earliest,
            "latest" => Begin::Latest,
            back => match humantime::parse_duration(back) {
                Ok(_) => {
                    let ms = at.duration_ms("ingest.start", back, SECOND..=3_650 * DAY);
                    Begin::Back(ms.unwrap_or_default())
                }
                Err(_) => {
                    let problem = format!(
                        "is {back:?}; expected \"earliest\", \"latest\" or a time back such as \"7d\""
                    );
                    at.mistake("ingest.start", problem);
                    Begin::Earliest
                }
            },
        },
        horizon_ms: ms(
            "ingest.horizon",
            &raw.horizon,
            "10m",
            Duration::ZERO..=30 * DAY,
        ),
        ahead_ms_max: ms(
            "ingest.ahead_max",
            &raw.ahead_max,
            "60s",
            Duration::ZERO..=DAY,
        ),
        duplicates: DuplicateBounds {
            horizon_ms: ms(
                "ingest.duplicates.horizon",
                &duplicates.horizon,
                "1h",
                SECOND..=30 * DAY,
            ),
            entries_max: entries(
                "ingest.duplicates.entries_max",
                duplicates.entries_max,
                225_000,
            ),
        },
        trackers: TrackerBounds {
            entries_max: entries("ingest.trackers.entries_max", trackers.entries_max, 200_000),
            bytes_max: {
                let text = trackers.bytes_max.as_deref().unwrap_or("16MiB");
                let bytes = at.bytes("ingest.trackers.bytes_max", text, MIB..=MIB << 20);
                usize::try_from(bytes).unwrap_or(usize::MAX)
            },
            closed_ms: ms(
                "ingest.trackers.closed",
                &trackers.closed,
                "1d",
                MINUTE..=90 * DAY,
            ),
        },
    }
}

fn evaluate(at: &Document<'_>, raw: &raw::Evaluate) -> Evaluate {
    let ms = |key: &str, given: &Option<String>, default: &str| {
        let ms = at.duration_ms(key, given.as_deref().unwrap_or(default), SECOND..=DAY);
        ms.unwrap_or_default()
    };
    Evaluate {
        workers: workers(at, "evaluate.workers", raw.workers),
        entities_max: at.number(
            "evaluate.entities_max",
            raw.entities_max.unwrap_or(25_000),
            1_000..=100_000_000,
        ),
        panes_bytes_max: {
            let text = raw.panes_bytes_max.as_deref().unwrap_or("32MiB");
            let bytes = at.bytes("evaluate.panes_bytes_max", text, MIB..=MIB << 20);
            usize::try_from(bytes).unwrap_or(usize::MAX)
        },
        behind_ms_max: ms("evaluate.behind_max", &raw.behind_max, "60s"),
        checkpoint_ms: ms("evaluate.checkpoint", &raw.checkpoint, "2m"),
    }
}

fn watchdog_of(
    at: &Document<'_>,
    raw: &Raw,
    dog: &raw::Watchdog,
    channels: &[ChannelConfig],
) -> Option<Watchdog> {
    match dog.channel.as_deref() {
        Some(channel) => check_channel(at, raw, channels, "watchdog.channel", channel),
        None => {
            let problem = "is missing; expected the name of the channel that is to hear it";
            at.mistake("watchdog.channel", problem);
        }
    }
    let every = dog.every.as_deref().unwrap_or("1m");
    let every = at.duration("watchdog.every", every, SECOND..=HOUR);
    Some(Watchdog {
        channel: dog.channel.clone()?,
        every: every?,
    })
}

fn http(at: &Document<'_>, raw: &raw::Http) -> Http {
    let usual = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8686);
    let listen = match raw.listen.as_deref() {
        None => usual,
        Some(text) => text.parse::<SocketAddr>().unwrap_or_else(|_| {
            let problem = format!(
                "is {text:?}; expected an IP address and a port, such as \"127.0.0.1:8686\""
            );
            at.mistake("http.listen", problem);
            usual
        }),
    };
    let token = secret(
        at,
        "http.token",
        raw.token_file.as_deref(),
        raw.token_env.as_deref(),
    );
    let mut rests_on = ["http.token_file", "http.token_env"].iter();
    if token.is_none() && !listen.ip().is_loopback() && !rests_on.any(|key| at.is_unsure(key)) {
        let problem = format!(
            "{listen} can be reached from other machines; expected token_file or token_env beside \
             it, or a loopback address"
        );
        at.mistake("http.listen", problem);
    }
    if let Some(url) = &raw.public_url {
        let host = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) || url.len() > 1_024 {
            let problem =
                format!("is {url:?}; expected an address such as \"https://fenghuo.example/\"");
            at.mistake("http.public_url", problem);
        }
    }
    Http {
        listen,
        token,
        metrics_open: raw.metrics_open.unwrap_or(false),
        top_entities: at.number(
            "http.top_entities",
            raw.top_entities.unwrap_or(50),
            0..=10_000,
        ),
        public_url: raw.public_url.clone(),
    }
}

fn files<'f>(at: &Document<'_>, key: &str, files: &'f [String]) -> &'f [String] {
    if files.len() > FILES_MAX {
        let problem = format!("has {} files; expected at most {FILES_MAX}", files.len());
        at.mistake(key, problem);
    }
    &files[..files.len().min(FILES_MAX)]
}

/// The content of a file that a key names, where it can be read.
fn content(at: &Document<'_>, key: &str, file: &str, bytes_max: u64) -> Option<File> {
    let path = at.path(file);
    let read = read_text(&path, bytes_max).map_err(|error| at.note(key, error));
    Some(File {
        name: path.display().to_string(),
        text: read.ok()?,
    })
}

/// The built-in catalogue with the files of a shop's own.
fn catalogue(at: &Document<'_>, raw: &raw::Catalogue) -> Arc<Catalogue> {
    let mut own = Vec::new();
    for (index, file) in files(at, "catalogue.files", &raw.files).iter().enumerate() {
        let key = format!("catalogue.files[{index}]");
        own.extend(content(at, &key, file, CONFIG_BYTES_MAX));
    }
    let bytes = own.iter().map(|file| file.text.len());
    bounded(at, "catalogue.files", bytes.sum());
    // What a file means may rest on one that is not known.
    if own.is_empty() || at.is_told("catalogue.files") {
        return Catalogue::built_in();
    }
    match Catalogue::compile(&own) {
        Ok(catalogue) => Arc::new(catalogue),
        Err(mistakes) => {
            at.note("catalogue.files", mistakes);
            Catalogue::built_in()
        }
    }
}

/// Whether there may be other signals than are known.
fn is_catalogue_unsure(at: &Document<'_>) -> bool {
    at.is_unsure("catalogue.files") || at.is_misspelt("catalogue")
}

/// A set is told to every panes partition in one record, which a broker must take.
fn bounded(at: &Document<'_>, key: &str, bytes: usize) {
    if bytes > SET_BYTES_MAX {
        let problem = format!("are {bytes} bytes in all; expected at most {SET_BYTES_MAX}");
        at.mistake(key, problem);
    }
}

fn rules(
    at: &Document<'_>,
    raw: &raw::Rules,
    catalogue: &Catalogue,
    own: &raw::Catalogue,
) -> Rules {
    let signals = catalogue.signal_names();
    let mut rules = Rules::default();
    if raw.builtin.unwrap_or(true) {
        let built_in = Rules::builtin(&signals).map_err(|error| at.note("rules.builtin", error));
        rules = built_in.unwrap_or_default();
    }
    let mut bytes = 0;
    for (key, files) in [
        ("catalogue.files", files(at, "catalogue.files", &own.files)),
        ("rules.files", files(at, "rules.files", &raw.files)),
    ] {
        for (index, file) in files.iter().enumerate() {
            let key = format!("{key}[{index}]");
            let Some(file) = content(at, &key, file, CONFIG_BYTES_MAX) else {
                continue;
            };
            bytes += file.text.len();
            match rules.clone().with_all(&file.name, &file.text, &signals) {
                Ok(with) => rules = with,
                Err(mut errors) => {
                    errors.retain(|error| !may_follow(at, error));
                    let errors = errors.into_iter().map(ConfigError::Rule);
                    at.note_all(&key, errors.collect());
                }
            }
        }
    }
    bounded(at, "rules.files", bytes);
    rules
}

/// Whether a rule may be wrong only because another file of the config is.
fn may_follow(at: &Document<'_>, error: &RuleError) -> bool {
    match &*error.problem {
        // The one of `inhibited_by` is "rule or signal …".
        Problem::Unknown { what, .. } if what == "signal" => is_catalogue_unsure(at),
        Problem::Unknown { what, .. } if what.starts_with("rule ") => {
            at.is_unsure("rules") || is_catalogue_unsure(at)
        }
        _ => false,
    }
}

/// Without a currency no price is checked.
fn plans(at: &Document<'_>, named: &[String], currency: Option<&str>) -> Plans {
    let mut plans = Plans::default();
    for (index, file) in files(at, "plans.files", named).iter().enumerate() {
        let key = format!("plans.files[{index}]");
        let Some(file) = content(at, &key, file, PLAN_BYTES_MAX) else {
            continue;
        };
        let document = Document::parse(&file.name, &file.text);
        let added = document.and_then(|document| plans.add(&document, currency));
        if let Err(error) = added {
            at.note(&key, error);
        }
    }
    plans
}
