//! Settings of the connection, and what each client of librdkafka is set to.
//!
//! A password must never reach a log or an error: [`Sasl`] does not show its own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

/// How a transaction ends when its producer is gone, and how long readers behind it may wait.
pub(crate) const TRANSACTION_TIMEOUT_MS: u32 = 10_000;

/// How to reach Kafka.
#[derive(Clone)]
pub struct KafkaConfig {
    /// Addresses of some brokers, `host:port`.
    pub bootstrap: Vec<String>,
    /// Encryption and identity.
    pub security: Security,
    /// The name by which brokers know this client in logs and quotas.
    pub client_id: String,
    /// Further properties of librdkafka, by its own names, for every client. The ones that this
    /// crate relies on are refused.
    pub extra: BTreeMap<String, String>,
    /// Copies of each topic that is created; −1 leaves it to the broker.
    pub replication: i16,
}

impl KafkaConfig {
    /// Plain text to these brokers, with the broker's own replication.
    pub fn new(bootstrap: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            security: Security::default(),
            client_id: "fenghuo".to_owned(),
            extra: BTreeMap::new(),
            replication: -1,
        }
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("bootstrap", &self.bootstrap)
            .field("security", &self.security)
            .field("client_id", &self.client_id)
            // Some properties are secrets, such as the password of a key.
            .field("extra", &self.extra.keys())
            .field("replication", &self.replication)
            .finish()
    }
}

/// Encryption and identity; without either the connection is plain text.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// TLS, if the brokers want it.
    pub tls: Option<Tls>,
    /// A user and a password, if the brokers want them.
    pub sasl: Option<Sasl>,
}

/// TLS towards the brokers. The broker's name is always checked.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificates of the authorities to trust, PEM; without it, those of the system.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, PEM, where brokers ask for one.
    pub cert_file: Option<PathBuf>,
    /// The key of the client's certificate, PEM.
    pub key_file: Option<PathBuf>,
}

/// A user of the brokers.
#[derive(Clone)]
pub struct Sasl {
    /// How the password is proved.
    pub mechanism: Mechanism,
    /// User name.
    pub username: String,
    /// Password; it is not shown by `Debug`.
    pub password: String,
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl")
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// How a password is proved to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Sent as it is: for use inside TLS.
    Plain,
    /// Challenge and response on SHA-256.
    ScramSha256,
    /// Challenge and response on SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// The name that Kafka has for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl std::str::FromStr for Mechanism {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        [Self::Plain, Self::ScramSha256, Self::ScramSha512]
            .into_iter()
            .find(|mechanism| mechanism.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| ConfigError::Mechanism(text.to_owned()))
    }
}

/// What is wrong with a [`KafkaConfig`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No broker.
    #[error("no broker is named: give at least one host:port")]
    NoBroker,
    /// A property that is not free.
    #[error("the property {0} cannot be set: {1}")]
    Reserved(String, &'static str),
    /// A property that librdkafka refuses.
    #[error("{0}")]
    Property(String),
    /// A certificate without its key, or the other way round.
    #[error("a client certificate needs both its file and its key's file")]
    HalfCertificate,
    /// An unknown SASL mechanism.
    #[error("unknown SASL mechanism {0:?}: expected PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")]
    Mechanism(String),
}

const SECURITY: &str = "it has a setting of its own, under security";
const PROMISE: &str = "exactly-once processing rests on it";
const OWN: &str = "it has a setting of its own";

/// Properties that `extra` may not touch, and why.
const RESERVED: [(&str, &str); 33] = [
    ("bootstrap.servers", OWN),
    ("metadata.broker.list", OWN),
    ("client.id", OWN),
    ("security.protocol", SECURITY),
    ("sasl.mechanism", SECURITY),
    ("sasl.mechanisms", SECURITY),
    ("sasl.username", SECURITY),
    ("sasl.password", SECURITY),
    ("ssl.ca.location", SECURITY),
    ("ssl.certificate.location", SECURITY),
    ("ssl.key.location", SECURITY),
    ("group.id", PROMISE),
    ("group.instance.id", PROMISE),
    ("group.protocol", PROMISE),
    ("partition.assignment.strategy", PROMISE),
    ("enable.auto.commit", PROMISE),
    ("auto.commit.enable", PROMISE),
    ("auto.commit.interval.ms", PROMISE),
    ("enable.auto.offset.store", PROMISE),
    ("enable.partition.eof", PROMISE),
    ("auto.offset.reset", PROMISE),
    ("isolation.level", PROMISE),
    ("transactional.id", PROMISE),
    ("transaction.timeout.ms", PROMISE),
    ("enable.idempotence", PROMISE),
    ("enable.gapless.guarantee", PROMISE),
    ("acks", PROMISE),
    ("request.required.acks", PROMISE),
    ("max.in.flight", PROMISE),
    ("max.in.flight.requests.per.connection", PROMISE),
    (
        "allow.auto.create.topics",
        "a mistyped topic must be an error",
    ),
    ("log.queue", OWN),
    ("delivery.report.only.error", PROMISE),
];

/// How a consumer asks for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Much at once: a busy topic.
    Bulk,
    /// Each record as it comes: a page waits for this hop.
    Prompt,
    /// One range after the other, to be over soon. A broker answers in order, so a request that
    /// waits for more at the end of one range would hold up the next range.
    Restore,
}

impl Pace {
    /// How long records gather behind the first one before they are taken. Whoever took each as it
    /// comes would be awake all the time at a few thousand records a second, to do next to nothing.
    pub(crate) const fn gather(self) -> Duration {
        match self {
            Self::Bulk => Duration::from_millis(5),
            Self::Prompt | Self::Restore => Duration::ZERO,
        }
    }
}

impl KafkaConfig {
    /// What all clients have in common, on top of the defaults of one kind.
    fn common(&self, mut client: ClientConfig) -> Result<ClientConfig, ConfigError> {
        if self.bootstrap.iter().all(|broker| broker.trim().is_empty()) {
            return Err(ConfigError::NoBroker);
        }
        client.set_log_level(RDKafkaLogLevel::Info);
        client.set("bootstrap.servers", self.bootstrap.join(","));
        client.set("client.id", &self.client_id);
        // After a broker's restart the first try should not be ten seconds away.
        client.set("reconnect.backoff.max.ms", "1000");
        client.set("socket.keepalive.enable", "true");
        self.security.apply(&mut client)?;
        for (name, value) in &self.extra {
            if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
                return Err(ConfigError::Reserved(name.clone(), why));
            }
            client.set(name, value);
        }
        Ok(client)
    }

    /// A client that only asks and creates.
    pub(crate) fn client(&self) -> Result<ClientConfig, ConfigError> {
        self.common(ClientConfig::new())
    }

    /// A consumer of committed records only, which moves nothing by itself.
    pub(crate) fn consumer(&self, group: &str, pace: Pace) -> Result<ClientConfig, ConfigError> {
        let mut consumer = ClientConfig::new();
        let (bytes_min, wait_ms_max, backoff_ms) = match pace {
            // A busy topic fills no more than one request in the time that a quiet one waits.
            Pace::Bulk => ("1048576", "30", "20"),
            Pace::Prompt => ("1", "100", "10"),
            Pace::Restore => ("1", "5", "10"),
        };
        consumer.set("fetch.min.bytes", bytes_min);
        consumer.set("fetch.wait.max.ms", wait_ms_max);
        consumer.set("fetch.queue.backoff.ms", backoff_ms);
        // Prefetched bytes of all partitions together, as they share one queue.
        consumer.set("queued.max.messages.kbytes", "16384");
        consumer.set("session.timeout.ms", "6000");
        // A partition that is given is restored before the next poll, which may read for long.
        consumer.set("max.poll.interval.ms", "3600000");
        consumer.set("heartbeat.interval.ms", "1500");
        // A connection that brokers or the network have silently dropped is found out by a request
        // without an answer. Until then its partitions look as if nothing came, while heartbeats on
        // another connection keep them: a minute, by default.
        consumer.set("socket.timeout.ms", "6000");
        consumer.set("socket.connection.setup.timeout.ms", "5000");
        let mut consumer = self.common(consumer)?;
        consumer.set("group.id", group);
        consumer.set("partition.assignment.strategy", "cooperative-sticky");
        consumer.set("enable.auto.commit", "false");
        consumer.set("enable.auto.offset.store", "false");
        consumer.set("enable.partition.eof", "true");
        consumer.set("auto.offset.reset", "error");
        consumer.set("isolation.level", "read_committed");
        consumer.set("allow.auto.create.topics", "false");
        Ok(consumer)
    }

    /// A producer whose records land once and in order, and, with an id, in transactions.
    pub(crate) fn producer(
        &self,
        transactional_id: Option<&str>,
    ) -> Result<ClientConfig, ConfigError> {
        let mut producer = ClientConfig::new();
        producer.set("compression.type", "zstd");
        // A transaction soon after the last one is told to come again; the default of 100 ms is
        // most of a commit.
        producer.set("retry.backoff.ms", "10");
        match transactional_id {
            Some(_) => producer.set("linger.ms", "0"),
            None => producer
                .set("linger.ms", "5")
                .set("message.timeout.ms", "60000"),
        };
        let mut producer = self.common(producer)?;
        producer.set("enable.idempotence", "true");
        producer.set("acks", "all");
        if let Some(id) = transactional_id {
            let timeout_ms = TRANSACTION_TIMEOUT_MS.to_string();
            producer.set("transactional.id", id);
            producer.set("transaction.timeout.ms", &timeout_ms);
            // A record must not outlive its transaction.
            producer.set("message.timeout.ms", &timeout_ms);
        }
        Ok(producer)
    }
}

impl Security {
    fn apply(&self, client: &mut ClientConfig) -> Result<(), ConfigError> {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        client.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            // "probe" looks where the distributions keep their certificates, because the built-in
            // OpenSSL knows none of these places.
            let ca = tls
                .ca_file
                .as_ref()
                .map(|file| file.to_string_lossy().into_owned());
            client.set("ssl.ca.location", ca.as_deref().unwrap_or("probe"));
            match (&tls.cert_file, &tls.key_file) {
                (Some(cert), Some(key)) => {
                    client.set("ssl.certificate.location", cert.to_string_lossy());
                    client.set("ssl.key.location", key.to_string_lossy());
                }
                (None, None) => {}
                _ => return Err(ConfigError::HalfCertificate),
            }
        }
        if let Some(sasl) = &self.sasl {
            client.set("sasl.mechanism", sasl.mechanism.as_str());
            client.set("sasl.username", &sasl.username);
            client.set("sasl.password", &sasl.password);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KafkaConfig {
        let mut config = KafkaConfig::new(["a:9092", "b:9092"]);
        config.security.sasl = Some(Sasl {
            mechanism: Mechanism::ScramSha512,
            username: "fenghuo".to_owned(),
            password: "hush".to_owned(),
        });
        config
    }

    #[test]
    fn a_password_is_not_shown() {
        assert!(!format!("{:?}", config()).contains("hush"));
        assert_eq!(
            config().client().unwrap().get("sasl.password"),
            Some("hush")
        );
    }

    #[test]
    fn what_exactly_once_rests_on_is_refused_and_the_rest_passed_on() {
        let mut config = config();
        config
            .extra
            .insert("socket.timeout.ms".to_owned(), "1234".to_owned());
        config.extra.insert("linger.ms".to_owned(), "7".to_owned());
        let producer = config.producer(Some("group-member")).unwrap();
        assert_eq!(producer.get("socket.timeout.ms"), Some("1234"));
        assert_eq!(producer.get("linger.ms"), Some("7"));
        assert_eq!(producer.get("transactional.id"), Some("group-member"));

        for (name, _) in RESERVED {
            let mut config = self::config();
            config.extra.insert(name.to_owned(), "x".to_owned());
            assert!(
                matches!(config.client(), Err(ConfigError::Reserved(refused, _)) if refused == name)
            );
        }
    }

    #[test]
    fn no_broker_and_half_a_certificate_are_errors() {
        assert!(matches!(
            KafkaConfig::new([""; 0]).client(),
            Err(ConfigError::NoBroker)
        ));
        assert!(matches!(
            KafkaConfig::new([" "]).client(),
            Err(ConfigError::NoBroker)
        ));
        let mut config = config();
        config.security.tls = Some(Tls {
            cert_file: Some("c.pem".into()),
            ..Tls::default()
        });
        assert!(matches!(config.client(), Err(ConfigError::HalfCertificate)));
    }

    #[test]
    fn mechanisms_are_read_in_any_case() {
        assert_eq!(
            "scram-sha-512".parse::<Mechanism>().unwrap(),
            Mechanism::ScramSha512
        );
        assert_eq!("PLAIN".parse::<Mechanism>().unwrap(), Mechanism::Plain);
        assert!("GSSAPI".parse::<Mechanism>().is_err());
    }
}
