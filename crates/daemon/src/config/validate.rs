//! From the raw config to the validated one, table by table.
//!
//! Owns every default and every bound. It must never guess: what is not understood is an error
//! with the file, the line, the key and what was expected.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fenghuo_alert::Rules;
use fenghuo_engine::{DuplicateBounds, Route, Routes, SourceTopic, TrackerBounds};
use fenghuo_event::Stream;
use fenghuo_kafka::{KafkaConfig, KafkaLog, Mechanism, Sasl, Security, Tls};
use fenghuo_notify::{ChannelConfig, ChannelKind, Colour, SecretSource};
use fenghuo_signal::Kind;

use super::document::{Document, read_text};
use super::plan::Plans;
use super::raw::{self, Raw};
use super::{Begin, Config, ConfigError, Evaluate, Http, Ingest, Kafka, Shop, Topics};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const MILLISECOND: Duration = Duration::from_millis(1);

const NAME_BYTES_MAX: usize = 128;
const FILES_MAX: usize = 64;
const ROUTES_MAX: usize = 256;
/// Kafka's own bound on the name of a topic.
const TOPIC_BYTES_MAX: usize = 249;

/// Checks a whole file, and reads what it names.
pub fn config(document: &Document<'_>) -> Result<Config, ConfigError> {
    let raw: Raw = document.read()?;
    let at = document;
    if let Some(kind) = &raw.log.kind
        && kind != "kafka"
    {
        return Err(at.unknown("log.kind", kind, ["kafka"]));
    }
    let shop = shop(at, &raw.shop)?;
    let currency = shop.currency.as_deref().unwrap_or_default();
    let plans = plans(at, &raw.plans.files, currency)?;
    let mut warnings = Vec::new();
    let channels = channels(at, &raw, &shop)?;
    let routes = routes(at, &raw, &channels, &mut warnings)?;
    Ok(Config {
        kafka: kafka(at, raw.kafka)?,
        topics: topics(at, &raw.topics, &raw.ingest.lateness)?,
        ingest: ingest(at, &raw.ingest)?,
        evaluate: evaluate(at, &raw.evaluate)?,
        http: http(at, &raw.http)?,
        rules: Arc::new(rules(at, &raw.rules)?),
        shutdown_deadline: match &raw.shutdown.deadline {
            None => 10 * SECOND,
            Some(text) => at.duration("shutdown.deadline", text, SECOND..=10 * MINUTE)?,
        },
        shop,
        plans,
        channels,
        routes,
        warnings,
    })
}

fn shop(at: &Document<'_>, raw: &raw::Shop) -> Result<Shop, ConfigError> {
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
    })
}

/// `+08:00`, in minutes.
fn utc_offset_min(text: &str) -> Option<i32> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two_digits = |text: &str| match text.as_bytes() {
        [a, b] if a.is_ascii_digit() && b.is_ascii_digit() => text.parse::<i32>().ok(),
        _ => None,
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// Where a secret is, from `<key>_file` or `<key>_env`.
fn secret(
    at: &Document<'_>,
    key: &str,
    file: Option<&str>,
    env: Option<&str>,
) -> Result<Option<SecretSource>, ConfigError> {
    match (file, env) {
        (None, None) => Ok(None),
        (Some(""), None) | (None, Some("")) => {
            Err(at.error(key, "is empty; expected where the secret is"))
        }
        (Some(file), None) => Ok(Some(SecretSource::File(at.path(file)))),
        (None, Some(env)) => Ok(Some(SecretSource::Env(env.to_owned()))),
        (Some(_), Some(_)) => {
            let problem = "is set beside its _env; expected one of the two";
            Err(at.error(&format!("{key}_file"), problem))
        }
    }
}

fn kafka(at: &Document<'_>, raw: raw::Kafka) -> Result<Kafka, ConfigError> {
    let bootstrap = raw
        .bootstrap
        .unwrap_or_else(|| vec!["localhost:9092".to_owned()]);
    if bootstrap.is_empty() {
        return Err(at.error(
            "kafka.bootstrap",
            "is empty; expected at least one host:port",
        ));
    }
    for (index, broker) in bootstrap.iter().enumerate() {
        let port = broker.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            let problem = format!("is {broker:?}; expected host:port");
            return Err(at.error(&format!("kafka.bootstrap[{index}]"), problem));
        }
    }
    let name = |key: &str, given: Option<String>, default: &str| {
        at.id(key, given.as_deref().unwrap_or(default), 64)
    };
    let group = name("kafka.group", raw.group, "fenghuo")?;
    let client_id = name("kafka.client_id", raw.client_id, "fenghuo")?;
    let instance = match (raw.instance, raw.instance_env) {
        (Some(_), Some(_)) => {
            let problem = "is set beside instance_env; expected one of the two";
            return Err(at.error("kafka.instance", problem));
        }
        (None, Some(variable)) => {
            let source = SecretSource::Env(variable);
            let read = source.read();
            let found = read.map_err(|problem| at.error("kafka.instance_env", problem))?;
            at.id("kafka.instance_env", found.expose(), 64)?
        }
        (given, None) => name("kafka.instance", given, "0")?,
    };
    let (sasl, password) = sasl(at, raw.sasl)?;
    let file = |file: Option<String>| file.map(|file| at.path(&file));
    let mut extra = BTreeMap::new();
    for (property, value) in raw.extra {
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                value.to_string()
            }
            other => {
                let problem = format!("is a {}; expected text or a number", other.type_str());
                return Err(at.error(&format!("kafka.extra.{property}"), problem));
            }
        };
        extra.insert(property, value);
    }
    let connection = KafkaConfig {
        bootstrap,
        security: Security {
            tls: raw.tls.map(|tls| Tls {
                ca_file: file(tls.ca_file),
                cert_file: file(tls.cert_file),
                key_file: file(tls.key_file),
            }),
            sasl,
        },
        client_id,
        extra,
        replication: match raw.replication {
            None => -1,
            Some(copies) => at.number("kafka.replication", copies, 1..=100)?,
        },
    };
    check_connection(at, &connection)?;
    Ok(Kafka {
        connection,
        password,
        group,
        instance,
    })
}

/// Lets librdkafka look at the settings, with no password in them and without connecting.
fn check_connection(at: &Document<'_>, connection: &KafkaConfig) -> Result<(), ConfigError> {
    use fenghuo_kafka::ConfigError as Fault;
    let Err(fault) = KafkaLog::new(connection.clone()) else {
        return Ok(());
    };
    let key = match &fault {
        Fault::NoBroker => "kafka.bootstrap".to_owned(),
        Fault::Reserved(property, _) => format!("kafka.extra.{property}"),
        Fault::Property(_) => "kafka.extra".to_owned(),
        Fault::HalfCertificate => "kafka.tls".to_owned(),
        Fault::Mechanism(_) => "kafka.sasl.mechanism".to_owned(),
    };
    Err(at.error(&key, fault.to_string()))
}

fn sasl(
    at: &Document<'_>,
    raw: Option<raw::Sasl>,
) -> Result<(Option<Sasl>, Option<SecretSource>), ConfigError> {
    let Some(raw) = raw else {
        return Ok((None, None));
    };
    let missing = |key: &str, expected: &str| {
        at.error(
            &format!("kafka.sasl.{key}"),
            format!("is missing; expected {expected}"),
        )
    };
    const MECHANISMS: &str = "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512";
    let mechanism = raw
        .mechanism
        .ok_or_else(|| missing("mechanism", MECHANISMS))?;
    let mechanism = mechanism.parse::<Mechanism>().map_err(|_| {
        let known = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
        at.unknown("kafka.sasl.mechanism", &mechanism, known)
    })?;
    let username = raw
        .username
        .ok_or_else(|| missing("username", "a user name"))?;
    let password = secret(
        at,
        "kafka.sasl.password",
        raw.password_file.as_deref(),
        raw.password_env.as_deref(),
    )?;
    let password = password.ok_or_else(|| {
        missing(
            "password_file",
            "it, or password_env: where the password is",
        )
    })?;
    let sasl = Sasl {
        mechanism,
        username: at.id("kafka.sasl.username", &username, NAME_BYTES_MAX)?,
        password: String::new(),
    };
    Ok((Some(sasl), Some(password)))
}

fn stream(at: &Document<'_>, key: &str, name: &str) -> Result<Stream, ConfigError> {
    let known = Stream::ALL.map(Stream::topic);
    Stream::from_topic(name).ok_or_else(|| at.unknown(key, name, known))
}

fn topics(
    at: &Document<'_>,
    raw: &raw::Topics,
    lateness: &BTreeMap<String, String>,
) -> Result<Topics, ConfigError> {
    let mut streams = Vec::new();
    match &raw.streams {
        None => streams.extend(Stream::ALL),
        Some(names) => {
            for (index, name) in names.iter().enumerate() {
                streams.push(stream(at, &format!("topics.streams[{index}]"), name)?);
            }
        }
    }
    streams.sort_unstable();
    streams.dedup();
    if streams.is_empty() {
        return Err(at.error("topics.streams", "is empty; expected at least one stream"));
    }
    for name in raw.names.keys() {
        let key = format!("topics.names.{name}");
        if !streams.contains(&stream(at, &key, name)?) {
            return Err(at.error(&key, "names a stream that topics.streams leaves out"));
        }
    }
    let range = Duration::ZERO..=7 * DAY;
    let mut lateness_ms = BTreeMap::new();
    let mut usual_ms = 5_000;
    for (name, text) in lateness {
        let key = format!("ingest.lateness.{name}");
        let ms = at.duration_ms(&key, text, range.clone())?;
        if name == "default" {
            usual_ms = ms;
        } else {
            lateness_ms.insert(stream(at, &key, name)?, ms);
        }
    }
    let prefix = raw.prefix.as_deref().unwrap_or("shop.");
    let mut sources: Vec<SourceTopic> = Vec::with_capacity(streams.len());
    for stream in streams {
        let (key, name) = match raw.names.get(stream.topic()) {
            Some(name) => (format!("topics.names.{stream}"), name.clone()),
            None => ("topics.prefix".to_owned(), format!("{prefix}{stream}")),
        };
        check_topic(at, &key, &name)?;
        if sources.iter().any(|other| *other.name == *name) {
            let problem = format!("is {name:?}; expected a topic of its own for each stream");
            return Err(at.error(&key, problem));
        }
        sources.push(SourceTopic {
            name: Arc::from(name),
            stream,
            lateness_ms: lateness_ms.get(&stream).copied().unwrap_or(usual_ms),
        });
    }
    let partitions = |key: &str, given: Option<i64>| at.number(key, given.unwrap_or(4), 1..=1_024);
    Ok(Topics {
        sources,
        panes_partitions: partitions("topics.panes_partitions", raw.panes_partitions)?,
        panes_retention_ms: match raw.panes_retention.as_deref() {
            None | Some("forever") => None,
            Some(text) => {
                Some(at.duration_ms("topics.panes_retention", text, HOUR..=3_650 * DAY)?)
            }
        },
        create: raw.create.unwrap_or(true),
        source_partitions: partitions("topics.source_partitions", raw.source_partitions)?,
    })
}

fn check_topic(at: &Document<'_>, key: &str, name: &str) -> Result<(), ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > TOPIC_BYTES_MAX || !name.bytes().all(plain) {
        let problem = format!(
            "makes the topic {name:?}; expected 1 to {TOPIC_BYTES_MAX} letters, digits, '.', '_' or '-'"
        );
        return Err(at.error(key, problem));
    }
    if name.starts_with("fenghuo.") {
        let problem = format!("makes the topic {name:?}; topics of this prefix are Fenghuo's own");
        return Err(at.error(key, problem));
    }
    Ok(())
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
                1_000_000,
            )?,
        },
        trackers: TrackerBounds {
            entries_max: entries(
                "ingest.trackers.entries_max",
                trackers.entries_max,
                2_000_000,
            )?,
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
            raw.entities_max.unwrap_or(1_000_000),
            1_000..=100_000_000,
        )?,
        behind_ms_max: at.duration_ms(
            "evaluate.behind_max",
            raw.behind_max.as_deref().unwrap_or("60s"),
            SECOND..=DAY,
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

fn rules(at: &Document<'_>, raw: &raw::Rules) -> Result<Rules, ConfigError> {
    let signals = fenghuo_signal::catalogue::names();
    let mut rules = match raw.builtin.unwrap_or(true) {
        true => Rules::builtin(&signals)?,
        false => Rules::default(),
    };
    for file in files(at, "rules.files", &raw.files)? {
        let path = at.path(file);
        rules = rules.with(&path.display().to_string(), &read_text(&path)?, &signals)?;
    }
    Ok(rules)
}

fn plans(at: &Document<'_>, named: &[String], currency: &str) -> Result<Plans, ConfigError> {
    let mut plans = Plans::default();
    for file in files(at, "plans.files", named)? {
        let path = at.path(file);
        let text = read_text(&path)?;
        let name = path.display().to_string();
        plans.add(&Document::parse(&name, &text)?, currency)?;
    }
    Ok(plans)
}

fn channels(at: &Document<'_>, raw: &Raw, shop: &Shop) -> Result<Vec<ChannelConfig>, ConfigError> {
    let mut channels = ChannelConfig::from_tables(at.file(), &raw.channel)?;
    if channels.is_empty() && raw.route.is_empty() {
        // Without a word about pages they go where a person sees them at least.
        let kind = ChannelKind::Log {
            colour: Colour::Auto,
            utc_offset_min: shop.utc_offset_min,
        };
        channels.push(ChannelConfig::new("log", kind));
    }
    Ok(channels)
}

fn routes(
    at: &Document<'_>,
    raw: &Raw,
    channels: &[ChannelConfig],
    warnings: &mut Vec<String>,
) -> Result<Routes, ConfigError> {
    if raw.route.is_empty() {
        if let Some(channel) = raw.channel.first() {
            let name = channel.get("name").and_then(toml::Value::as_str);
            let problem = format!(
                "is missing, so that no page would reach a channel; expected for example \
                 [[route]] with channels = [{:?}]",
                name.unwrap_or_default()
            );
            return Err(at.error("route", problem));
        }
        let all = Route {
            channels: channels
                .iter()
                .map(|channel| channel.name.clone())
                .collect(),
            ..Route::default()
        };
        return Ok(Routes(vec![all]));
    }
    if raw.route.len() > ROUTES_MAX {
        let problem = format!(
            "there are {} routes; expected at most {ROUTES_MAX}",
            raw.route.len()
        );
        return Err(at.error("route", problem));
    }
    for (index, route) in raw.route.iter().enumerate() {
        check_route(at, &format!("route[{index}]"), route, channels)?;
    }
    let takes_all = |route: &Route| {
        let all = Route {
            channels: route.channels.clone(),
            fallback: route.fallback.clone(),
            ..Route::default()
        };
        *route == all
    };
    match raw.route.iter().position(takes_all) {
        None => warnings
            .push("no route takes every alert: what matches none is on the screen only".to_owned()),
        Some(index) if index + 1 < raw.route.len() => warnings.push(format!(
            "route[{index}] takes every alert: those after it are never reached"
        )),
        Some(_) => {}
    }
    for channel in channels {
        let uses = |route: &Route| {
            let mut named = route.channels.iter().chain(&route.fallback);
            named.any(|name| *name == channel.name)
        };
        if !raw.route.iter().any(uses) {
            warnings.push(format!("no route names the channel {:?}", channel.name));
        }
    }
    Ok(Routes(raw.route.clone()))
}

fn check_route(
    at: &Document<'_>,
    path: &str,
    route: &Route,
    channels: &[ChannelConfig],
) -> Result<(), ConfigError> {
    if route.channels.is_empty() {
        let problem = "is empty; expected the name of at least one channel";
        return Err(at.error(&format!("{path}.channels"), problem));
    }
    for (key, names) in [("channels", &route.channels), ("fallback", &route.fallback)] {
        for (index, name) in names.iter().enumerate() {
            if !channels.iter().any(|channel| channel.name == *name) {
                let known = channels.iter().map(|channel| channel.name.as_str());
                return Err(at.unknown(&format!("{path}.{key}[{index}]"), name, known));
            }
        }
    }
    let signals = fenghuo_signal::catalogue::names();
    for (index, name) in route.signal.iter().enumerate() {
        if !name.contains('*') && !signals.contains(&name.as_str()) {
            let key = format!("{path}.signal[{index}]");
            return Err(at.unknown(&key, name, signals.iter().copied()));
        }
    }
    let mut parts: Vec<&str> = Vec::new();
    for kind in Kind::ALL {
        let (first, second) = kind.parts();
        parts.extend([Some(first), second].into_iter().flatten());
    }
    parts.sort_unstable();
    parts.dedup();
    for part in route.entity.keys() {
        if !parts.contains(&part.as_str()) {
            return Err(at.unknown(
                &format!("{path}.entity.{part}"),
                part,
                parts.iter().copied(),
            ));
        }
    }
    Ok(())
}
