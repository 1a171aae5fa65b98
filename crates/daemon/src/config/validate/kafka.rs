//! `[kafka]`: brokers, identity, and what else librdkafka is told.
//!
//! It must never read a password, nor let one stand in a config.

use std::collections::BTreeMap;

use fenghuo_kafka::{KafkaConfig, KafkaLog, Mechanism, Sasl, Security, Tls};
use fenghuo_notify::SecretSource;

use super::super::document::Document;
use super::super::{ConfigError, Kafka, raw};
use super::{NAME_BYTES_MAX, secret};

/// Checks `[kafka]`.
pub fn kafka(at: &Document<'_>, raw: raw::Kafka) -> Result<Kafka, ConfigError> {
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
    let client_id = name(
        "kafka.client_id",
        raw.client_id,
        &format!("fenghuo.{instance}"),
    )?;
    let (sasl, password) = sasl(at, raw.sasl)?;
    let file = |file: Option<String>| file.map(|file| at.path(&file));
    let extra = extra(at, raw.extra)?;
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

/// Properties as librdkafka takes them: text.
fn extra(
    at: &Document<'_>,
    raw: BTreeMap<String, toml::Value>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut extra = BTreeMap::new();
    for (property, value) in raw {
        let error = |problem: String| at.error(&format!("kafka.extra.{property}"), problem);
        let is_secret = ["password", "secret", ".pem"]
            .iter()
            .any(|end| property.ends_with(end));
        if is_secret {
            let problem = "is a secret; expected it nowhere in a config, but in a file of kafka.sasl or kafka.tls";
            return Err(error(problem.to_owned()));
        }
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                value.to_string()
            }
            other => {
                let problem = format!("is of type {}; expected text or a number", other.type_str());
                return Err(error(problem));
            }
        };
        extra.insert(property, value);
    }
    Ok(extra)
}

/// Lets librdkafka look at the settings, with no password in them and without connecting.
fn check_connection(at: &Document<'_>, connection: &KafkaConfig) -> Result<(), ConfigError> {
    use fenghuo_kafka::ConfigError as Fault;
    let Err(fault) = KafkaLog::new(connection.clone()) else {
        return Ok(());
    };
    let told = fault.to_string();
    let (key, problem) = match &fault {
        Fault::NoBroker => ("kafka.bootstrap".to_owned(), told),
        Fault::Reserved(property, why) => {
            let problem = format!("cannot be set: {why}");
            (format!("kafka.extra.{property}"), problem)
        }
        Fault::Property(told) => property_fault(connection, told),
        Fault::HalfCertificate => ("kafka.tls".to_owned(), told),
        Fault::Mechanism(_) => ("kafka.sasl.mechanism".to_owned(), told),
    };
    Err(at.error(&key, problem))
}

/// librdkafka's word on a property ends with its name and value, which the key says already.
fn property_fault(connection: &KafkaConfig, told: &str) -> (String, String) {
    let told = told.strip_prefix("Client config error: ").unwrap_or(told);
    let mut properties = connection.extra.iter();
    let named = properties.find_map(|(property, value)| {
        let rest = told.strip_suffix(&format!(" {property} {value}"))?;
        Some((format!("kafka.extra.{property}"), rest.to_owned()))
    });
    named.unwrap_or_else(|| ("kafka.extra".to_owned(), told.to_owned()))
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
