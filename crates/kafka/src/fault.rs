//! What Kafka's errors mean to a stage: try again, give way, or tell a person.
//!
//! It must never call a wrong password or a missing right worth another try.

use fenghuo_log::Error;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::config::ConfigError;
use crate::context::{Refusal, Undelivered};

/// The meaning of `error`, met while `doing` something as `member`.
pub(crate) fn fault(doing: impl Into<String>, member: &str, error: KafkaError) -> Error {
    let doing = doing.into();
    match error.rdkafka_error_code() {
        Some(code) if is_fenced(code) => Error::Fenced {
            member: member.to_owned(),
        },
        Some(code) => by_code(doing, code, error),
        None => match error {
            // Neither a property nor a name gets better by itself.
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => {
                Error::Fatal(format!("{doing}: {error}"))
            }
            error => Error::Retriable {
                doing,
                source: Box::new(error),
            },
        },
    }
}

/// The same for a bare code.
pub(crate) fn fault_of(doing: impl Into<String>, code: Code) -> Error {
    by_code(doing.into(), code, KafkaError::Global(code))
}

/// The same for a code with librdkafka's words about it.
pub(crate) fn fault_told(doing: impl Into<String>, code: Code, reason: &str) -> Error {
    by_code(doing.into(), code, format!("{code}: {reason}"))
}

fn by_code(
    doing: String,
    code: Code,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    match remedy(code) {
        Some(remedy) => Error::Fatal(format!("{doing}: {code}: {remedy}")),
        None => Error::Retriable {
            doing,
            source: source.into(),
        },
    }
}

/// The brokers refuse this client altogether.
pub(crate) fn refused(doing: &str, Refusal { code, reason }: &Refusal) -> Error {
    let remedy = remedy(*code).unwrap_or("see the broker's log");
    Error::Fatal(format!("{doing}: {reason}: {remedy}"))
}

/// A record that was not delivered.
pub(crate) fn undelivered(member: &str, undelivered: Undelivered) -> Error {
    let Undelivered {
        topic,
        partition,
        error,
    } = undelivered;
    fault(format!("appending to {topic}/{partition}"), member, error)
}

/// A config that cannot be used.
pub(crate) fn unusable(error: ConfigError) -> Error {
    Error::Fatal(format!("kafka: {error}"))
}

/// Another producer has this transactional id.
pub(crate) fn is_fenced(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::FencedInstanceId
    )
}

/// The group did not take offsets because it is changing, or has changed.
pub(crate) fn is_stale(error: &Error) -> bool {
    let Error::Retriable { source, .. } = error else {
        return false;
    };
    let code = source
        .downcast_ref::<KafkaError>()
        .and_then(KafkaError::rdkafka_error_code);
    matches!(
        code,
        Some(Code::IllegalGeneration | Code::RebalanceInProgress)
    )
}

/// What a person has to do, for errors that only a person can heal.
fn remedy(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            "check the SASL mechanism, user name and password"
        }
        Code::UnsupportedSASLMechanism | Code::IllegalSASLState => {
            "check that the broker offers the SASL mechanism"
        }
        Code::SSL => {
            "check the CA file against the broker's certificate, the broker's name in it, and the client certificate"
        }
        Code::TopicAuthorizationFailed => "grant this user Describe, Read and Write on the topic",
        Code::GroupAuthorizationFailed => "grant this user Read on the consumer group",
        Code::TransactionalIdAuthorizationFailed => {
            "grant this user Describe and Write on the transactional id, which is <group>-<member>"
        }
        Code::ClusterAuthorizationFailed => "grant this user IdempotentWrite on the cluster",
        Code::UnknownTopic | Code::UnknownTopicOrPartition => {
            "create the topic, or let the daemon create it"
        }
        Code::UnknownPartition => "the topic has fewer partitions than this",
        Code::InvalidTopic => "choose another topic name",
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            "raise max.message.bytes of the topic and message.max.bytes of this client"
        }
        Code::InconsistentGroupProtocol => {
            "other members of the group use another assignment strategy: end them first"
        }
        Code::UnsupportedFeature | Code::UnsupportedVersion => {
            "the broker is too old: Kafka 2.5 or later is needed"
        }
        _ => return None,
    })
}
