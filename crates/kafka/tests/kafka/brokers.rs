//! Encryption, identity and rights: what works, and what a refusal tells.

use fenghuo_kafka::{KafkaConfig, KafkaLog, Mechanism, Sasl, Tls};
use fenghuo_log::{Error, Log};
use xtask::services::{Credentials, GUEST, SUPER_USER};

use crate::member::{Member, at, broker, log, spec_of, texts, topic};

fn sasl(mechanism: Mechanism, Credentials { user, password }: Credentials) -> KafkaConfig {
    let mut config = KafkaConfig::new([broker().sasl_bootstrap()]);
    config.security.tls = Some(Tls {
        ca_file: Some(broker().ca_file().to_owned()),
        ..Tls::default()
    });
    config.security.sasl = Some(Sasl {
        mechanism,
        username: user.to_owned(),
        password: password.to_owned(),
    });
    config
}

/// Reads, writes and commits.
fn works(config: KafkaConfig, name: &str) {
    let log = KafkaLog::new(config).unwrap();
    topic(&log, name, 1);
    log.append(texts(&at(name, 0), 0..3)).unwrap();
    let mut member = Member::open(&log, name, "a", &[name]);
    member.step_until("three records", |member| member.count() == 3);
    member.commit(texts(&at(name, 0), 3..4)).unwrap();
    member.step_until("the fourth", |member| member.count() == 4);
}

/// The text of the fatal error that opening ends with.
fn refused(config: KafkaConfig) -> String {
    let log = KafkaLog::new(config).unwrap();
    match Member::try_open(&log, "refused", "a", &["refused"]) {
        Err(Error::Fatal(text)) => text,
        Err(error) => panic!("not fatal: {error:?}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[test]
fn scram_inside_tls_works() {
    works(sasl(Mechanism::ScramSha512, SUPER_USER), "tls.scram");
}

#[test]
fn plain_inside_tls_works() {
    works(sasl(Mechanism::Plain, SUPER_USER), "tls.plain");
}

#[test]
fn a_client_certificate_works() {
    let mut config = KafkaConfig::new([broker().tls_bootstrap()]);
    config.security.tls = Some(Tls {
        ca_file: Some(broker().ca_file().to_owned()),
        cert_file: Some(broker().client_certificate_file().to_owned()),
        key_file: Some(broker().client_key_file().to_owned()),
    });
    works(config, "tls.mutual");
}

#[test]
fn a_wrong_password_is_fatal_and_told() {
    for mechanism in [Mechanism::ScramSha512, Mechanism::Plain] {
        let text = refused(sasl(
            mechanism,
            Credentials {
                password: "guess",
                ..SUPER_USER
            },
        ));
        assert!(
            text.contains("password") && text.contains("uthentication"),
            "{text}"
        );
        assert!(!text.contains("guess"), "{text}");
    }
}

#[test]
fn an_unknown_authority_is_fatal_and_told() {
    let mut config = sasl(Mechanism::Plain, SUPER_USER);
    // A certificate, and not the broker's authority.
    config.security.tls = Some(Tls {
        ca_file: Some(broker().client_certificate_file().to_owned()),
        ..Tls::default()
    });
    let text = refused(config);
    assert!(
        text.contains("CA file") && text.contains("certificate"),
        "{text}"
    );
}

#[test]
fn a_missing_right_is_fatal_and_told() {
    topic(&log(), "rights", 1);
    let log = KafkaLog::new(sasl(Mechanism::ScramSha512, GUEST)).unwrap();
    let error = Member::try_open(&log, "rights", "a", &["rights"]).err();
    assert!(
        matches!(&error, Some(Error::Fatal(text)) if text.contains("rights") && text.contains("grant")),
        "{error:?}"
    );
    let error = log.ensure(&[spec_of("rights.new", 1)]).unwrap_err();
    assert!(
        matches!(&error, Error::Fatal(text) if text.contains("rights.new") && text.contains("grant")),
        "{error:?}"
    );
    let error = log.append(texts(&at("rights", 0), 0..1)).unwrap_err();
    assert!(
        matches!(&error, Error::Fatal(text) if text.contains("grant")),
        "{error:?}"
    );
}

#[test]
fn brokers_that_are_not_there_are_worth_another_try() {
    // A port that nobody listens on: bound once to know that it is free.
    let [port] = xtask::services::free_ports().unwrap();
    let log = KafkaLog::new(KafkaConfig::new([format!("127.0.0.1:{port}")])).unwrap();
    let error = log.partitions("any").unwrap_err();
    assert!(matches!(error, Error::Retriable { .. }), "{error:?}");
}
