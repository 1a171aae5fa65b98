//! What librdkafka calls back: its logs, its errors, rebalances and delivery reports.
//!
//! A callback only notes what happened; deciding what to do about it is the session's. It must
//! never call into a stage or block.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

/// A change of the assignment that the group asks for and the session has to answer.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Partitions come.
    Assign(TopicPartitionList),
    /// Partitions go; they are still ours until the answer.
    Revoke(TopicPartitionList),
    /// Partitions are gone.
    Lost(TopicPartitionList),
}

impl Change {
    /// The partitions concerned.
    pub(crate) fn list(&self) -> &TopicPartitionList {
        match self {
            Self::Assign(list) | Self::Revoke(list) | Self::Lost(list) => list,
        }
    }
}

/// An error that trying again will not heal.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) reason: String,
}

/// What was noted.
#[derive(Default)]
pub(crate) struct Context {
    changes: Mutex<VecDeque<Change>>,
    closing: AtomicBool,
    refusal: Mutex<Option<Refusal>>,
    undelivered: Mutex<Option<Undelivered>>,
    /// It was told that all brokers are away.
    told_away: AtomicBool,
    /// Where records came to lie, for who asked for it.
    placed: Option<Mutex<Vec<Placed>>>,
}

/// Records that a producer delivered to one partition, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Offset of the first one.
    pub(crate) first: i64,
    pub(crate) records: i64,
}

/// The first record of a batch that a producer could not deliver.
#[derive(Clone, Debug)]
pub(crate) struct Undelivered {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) error: KafkaError,
}

impl Context {
    /// One that notes where records came to lie.
    pub(crate) fn placing() -> Self {
        Self {
            placed: Some(Mutex::default()),
            ..Self::default()
        }
    }

    /// Where the records delivered since the last call came to lie, in the order of their delivery.
    pub(crate) fn take_placed(&self) -> Vec<Placed> {
        let placed = self.placed.as_ref();
        placed.map_or_else(Vec::new, |placed| std::mem::take(&mut *lock(placed)))
    }

    fn place(&self, topic: &str, partition: i32, offset: i64) {
        let Some(placed) = &self.placed else { return };
        let mut placed = lock(placed);
        let mut runs = placed.iter_mut();
        let run = runs.find(|run| run.partition == partition && run.topic == topic);
        match run {
            Some(run) if run.first + run.records == offset => run.records += 1,
            // Behind a gap it is a run of its own, and found first from now on.
            _ => placed.insert(
                0,
                Placed {
                    topic: topic.to_owned(),
                    partition,
                    first: offset,
                    records: 1,
                },
            ),
        }
    }

    /// The oldest change that was not taken yet.
    pub(crate) fn next_change(&self) -> Option<Change> {
        lock(&self.changes).pop_front()
    }

    /// Whether partitions are gone and that was not taken yet.
    pub(crate) fn is_lost(&self) -> bool {
        let changes = lock(&self.changes);
        changes
            .iter()
            .any(|change| matches!(change, Change::Lost(_)))
    }

    /// From now on changes are answered at once: nobody will.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Why the brokers refuse this client, if they do.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        lock(&self.refusal).clone()
    }

    /// The first delivery that failed since the last call.
    pub(crate) fn take_undelivered(&self) -> Option<Undelivered> {
        lock(&self.undelivered).take()
    }
}

/// Notes stay readable after a panic elsewhere: each is whole or absent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        match level {
            // What librdkafka calls an error it tries again by itself.
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                tracing::warn!(target: "librdkafka", facility = fac, "{log_message}");
            }
            RDKafkaLogLevel::Notice => {
                tracing::info!(target: "librdkafka", facility = fac, "{log_message}");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "librdkafka", facility = fac, "{log_message}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        // While brokers are away librdkafka says so many times a second: once is enough.
        let is_away = matches!(
            code,
            Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure)
        );
        if is_away && self.told_away.swap(true, Ordering::Relaxed) {
            tracing::debug!(target: "librdkafka", %error, reason, "client error");
        } else {
            tracing::warn!(target: "librdkafka", %error, reason, "client error");
        }
        if let Some(code @ (RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)) = code {
            lock(&self.refusal).get_or_insert_with(|| Refusal {
                code,
                reason: reason.to_owned(),
            });
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        base_consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        tpl: &mut TopicPartitionList,
    ) {
        let assigns = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let answered = if assigns {
                base_consumer.incremental_assign(tpl)
            } else {
                base_consumer.incremental_unassign(tpl)
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "answering a rebalance");
            }
            return;
        }
        let change = if assigns {
            Change::Assign(tpl.clone())
        } else if base_consumer.assignment_lost() {
            Change::Lost(tpl.clone())
        } else {
            Change::Revoke(tpl.clone())
        };
        lock(&self.changes).push_back(change);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery_result: &DeliveryResult<'_>, _opaque: ()) {
        match delivery_result {
            Ok(message) => self.place(message.topic(), message.partition(), message.offset()),
            Err((error, message)) => {
                lock(&self.undelivered).get_or_insert_with(|| Undelivered {
                    topic: message.topic().to_owned(),
                    partition: message.partition(),
                    error: error.clone(),
                });
            }
        }
    }
}
