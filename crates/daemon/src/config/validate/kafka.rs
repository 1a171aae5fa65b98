//! `[kafka]`: brokers, identity, and what else librdkafka is told.
//!
//! It must never read a password, nor let one stand in a config.

use std::collections::BTreeMap;

use fenghuo_kafka::{KafkaConfig, KafkaLog, Mechanism, Sasl, Security, Tls};
use fenghuo_notify::SecretSource;

use super::super::document::Document;
use super::super::{Kafka, raw};
use super::{NAME_BYTES_MAX, secret};

/// Checks `[kafka]`.
pub fn kafka(at: &Document<'_>, raw: raw::Kafka) -> Kafka {
    let bootstrap = raw
        .bootstrap
        .unwrap_or_else(|| vec!["localhost:9092".to_owned()]);
    if bootstrap.is_empty() {
        let problem = "is empty; expected at least one host:port";
        at.mistake("kafka.bootstrap", problem);
    }
    for (index, broker) in bootstrap.iter().enumerate() {
        let port = broker.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            let problem = format!("is {broker:?}; expected host:port");
            at.mistake(&format!("kafka.bootstrap[{index}]"), problem);
        }
    }
    let name = |key: &str, given: Option<String>, default: &str| {
        at.id(key, given.as_deref().unwrap_or(default), 64)
    };
    let group = name("kafka.group", raw.group, "fenghuo");
    let instance = match (raw.instance, raw.instance_env) {
        (Some(instance), Some(_)) => {
            let problem = "is set beside instance_env; expected one of the two";
            at.mistake("kafka.instance", problem);
            instance
        }
        (None, Some(variable)) => match SecretSource::Env(variable).read() {
            Ok(found) => at.id("kafka.instance_env", found.expose(), 64),
            Err(problem) => {
                at.mistake("kafka.instance_env", problem);
                String::new()
            }
        },
        (given, None) => name("kafka.instance", given, "0"),
    };
    let usual = match at.is_unsure("kafka.instance") || at.is_unsure("kafka.instance_env") {
        true => "fenghuo".to_owned(),
        false => format!("fenghuo.{instance}"),
    };
    let client_id = name("kafka.client_id", raw.client_id, &usual);
    let (sasl, password) = sasl(at, raw.sasl);
    let file = |file: Option<String>| file.map(|file| at.path(&file));
    let extra = extra(at, raw.extra);
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
            Some(copies) => at.number("kafka.replication", copies, 1..=100),
        },
    };
    check_connection(at, connection.clone());
    Kafka {
        connection,
        password,
        group,
        instance,
    }
}

/// Properties as librdkafka takes them: text.
fn extra(at: &Document<'_>, raw: BTreeMap<String, toml::Value>) -> BTreeMap<String, String> {
    let mut extra = BTreeMap::new();
    for (property, value) in raw {
        let mistake = |problem: &str| at.mistake(&format!("kafka.extra.{property}"), problem);
        let is_secret = ["password", "secret", ".pem"]
            .iter()
            .any(|end| property.ends_with(end));
        if is_secret {
            mistake(
                "is a secret; expected it nowhere in a config, but in a file of kafka.sasl or kafka.tls",
            );
            continue;
        }
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                value.to_string()
            }
            other => {
                let found = other.type_str();
                mistake(&format!("is of type {found}; expected text or a number"));
                continue;
            }
        };
        extra.insert(property, value);
    }
    extra
}

/// Lets librdkafka look at the settings, with no password in them and without connecting. It tells one
/// mistake at a time: what that one is about is left out the next time.
fn check_connection(at: &Document<'_>, mut connection: KafkaConfig) {
    use fenghuo_kafka::ConfigError as Fault;
    while !at.is_full() {
        let Err(fault) = KafkaLog::new(connection.clone()) else {
            return;
        };
        let told = fault.to_string();
        let (key, problem) = match &fault {
            Fault::NoBroker => ("kafka.bootstrap".to_owned(), told),
            Fault::Reserved(property, why) => {
                let problem = format!("cannot be set: {why}");
                (format!("kafka.extra.{property}"), problem)
            }
            Fault::Property(told) => property_fault(&connection, told),
            Fault::HalfCertificate => ("kafka.tls".to_owned(), told),
            Fault::Mechanism(_) => ("kafka.sasl.mechanism".to_owned(), told),
        };
        at.mistake(&key, problem);
        let property = key.strip_prefix("kafka.extra.").unwrap_or_default();
        let is_left_out = match fault {
            Fault::NoBroker => {
                connection.bootstrap.push("localhost:9092".to_owned());
                true
            }
            Fault::HalfCertificate => connection.security.tls.take().is_some(),
            Fault::Mechanism(_) => connection.security.sasl.take().is_some(),
            Fault::Reserved(..) | Fault::Property(_) => connection.extra.remove(property).is_some(),
        };
        if !is_left_out {
            return;
        }
    }
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

fn sasl(at: &Document<'_>, raw: Option<raw::Sasl>) -> (Option<Sasl>, Option<SecretSource>) {
    let Some(raw) = raw else {
        return (None, None);
    };
    let missing = |key: &str, expected: &str| {
        let problem = format!("is missing; expected {expected}");
        at.mistake(&format!("kafka.sasl.{key}"), problem);
    };
    const MECHANISMS: &str = "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512";
    let mechanism = raw.mechanism.as_deref().map(str::parse::<Mechanism>);
    match (&raw.mechanism, &mechanism) {
        (None, _) => missing("mechanism", MECHANISMS),
        (Some(name), Some(Err(_))) => {
            let known = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
            at.unknown("kafka.sasl.mechanism", name, known);
        }
        _ => {}
    }
    let username = match &raw.username {
        Some(username) => at.id("kafka.sasl.username", username, NAME_BYTES_MAX),
        None => {
            missing("username", "a user name");
            String::new()
        }
    };
    let password = secret(
        at,
        "kafka.sasl.password",
        raw.password_file.as_deref(),
        raw.password_env.as_deref(),
    );
    if password.is_none() && !at.is_unsure("kafka.sasl.password_env") {
        missing(
            "password_file",
            "it, or password_env: where the password is",
        );
    }
    let sasl = mechanism.and_then(Result::ok).map(|mechanism| Sasl {
        mechanism,
        username,
        password: String::new(),
    });
    (sasl, password)
}
