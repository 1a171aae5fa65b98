//! The two producers: one that commits a session's transactions, one that appends for a loader.
//!
//! A transaction is begun only when everything that goes into it is there. It must never be left
//! open after an error, and a delivery that failed is never silent.

use std::time::Duration;

use fenghuo_log::{Append, Commit, Error};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::config::{KafkaConfig, TRANSACTION_TIMEOUT_MS};
use crate::context::Context;
use crate::fault::{fault, fault_told, is_fenced, refused, undelivered, unusable};
use crate::query;

/// How long one call of the transactional interface may take.
const CALL_WITHIN: Duration = Duration::from_millis(TRANSACTION_TIMEOUT_MS as u64);
/// How often a call that may be repeated is made.
const TRIES: u32 = 3;
/// How long delivery reports are waited for at a time. The crate's own flush waits 100 ms.
const REPORTS: Duration = Duration::from_millis(1);

/// The transactional producer of one member.
pub(crate) struct Transactions {
    producer: BaseProducer<Context>,
    member: String,
}

impl Transactions {
    /// Takes over the transactional id: fences whoever has it and settles what they left open.
    pub(crate) fn open(config: &KafkaConfig, group: &str, member: &str) -> Result<Self, Error> {
        let id = format!("{group}-{member}");
        let producer = create(config, Some(&id))?;
        let transactions = Self {
            producer,
            member: member.to_owned(),
        };
        transactions.call(
            &format!("taking over the transactional id {id}"),
            |producer| producer.init_transactions(CALL_WITHIN),
        )?;
        Ok(transactions)
    }

    /// Serves what librdkafka has to say while there is nothing to commit.
    pub(crate) fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Commits appends and the offsets read by `consumer` in one transaction.
    pub(crate) fn commit(
        &self,
        commit: &Commit,
        consumer: &BaseConsumer<Context>,
    ) -> Result<(), Error> {
        // What an earlier transaction failed to deliver is no concern of this one.
        self.producer.context().take_undelivered();
        self.call("beginning a transaction", |producer| {
            producer.begin_transaction()
        })?;
        let committed = self.fill(commit, consumer).and_then(|()| {
            self.call("committing a transaction", |producer| {
                producer.commit_transaction(CALL_WITHIN)
            })
        });
        let Err(error) = committed else { return Ok(()) };
        // The death of the producer explains whatever else went wrong.
        match self.dead("committing a transaction") {
            Some(dead) => Err(dead),
            None => {
                self.abort();
                Err(error)
            }
        }
    }

    fn fill(&self, commit: &Commit, consumer: &BaseConsumer<Context>) -> Result<(), Error> {
        for append in &commit.appends {
            enqueue(&self.producer, &self.member, append)?;
        }
        if !commit.offsets.is_empty() {
            let offsets = commit.offsets.iter();
            let offsets = query::list(offsets.map(|(at, next)| (at, query::offset(*next))))?;
            let metadata = consumer.group_metadata().ok_or_else(|| {
                Error::Fatal("the consumer has no group to commit offsets for".to_owned())
            })?;
            self.call("adding offsets to a transaction", |producer| {
                producer.send_offsets_to_transaction(&offsets, &metadata, CALL_WITHIN)
            })?;
        }
        drain(&self.producer, &self.member)
    }

    /// Ends the open transaction. If that fails too, the next session under the same name does it.
    fn abort(&self) {
        // librdkafka waits until every record has its report, and reports are handed out by polls
        // alone: unpolled, it would wait for all of its time while the records are long there, and
        // with it everyone who waits for this member to leave. Each is delivered or times out.
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(REPORTS);
        }
        if let Err(error) = self.producer.abort_transaction(CALL_WITHIN) {
            tracing::warn!(member = %self.member, %error, "a transaction was not aborted; the next session will");
        }
    }

    /// Makes a call, again where librdkafka says that it may be repeated.
    fn call(
        &self,
        doing: &str,
        mut call: impl FnMut(&BaseProducer<Context>) -> KafkaResult<()>,
    ) -> Result<(), Error> {
        let mut tried = 1;
        loop {
            let error = match call(&self.producer) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.producer.poll(Duration::ZERO);
            let again = matches!(&error, KafkaError::Transaction(error) if error.is_retriable());
            if again && tried < TRIES {
                tried += 1;
                continue;
            }
            return Err(self.fault(doing, error));
        }
    }

    fn fault(&self, doing: &str, error: KafkaError) -> Error {
        if let Some(refusal) = self.producer.context().refusal() {
            return refused(doing, &refusal);
        }
        self.dead(doing)
            .unwrap_or_else(|| fault(doing, &self.member, error))
    }

    /// What the producer died of, if it did. A new producer may work.
    fn dead(&self, doing: &str) -> Option<Error> {
        let (code, reason) = self.producer.client().fatal_error()?;
        Some(if is_fenced(code) {
            Error::Fenced {
                member: self.member.clone(),
            }
        } else {
            fault_told(doing, code, &reason)
        })
    }
}

/// Appends without a transaction, for a loader.
pub(crate) struct Appender {
    producer: BaseProducer<Context>,
}

impl Appender {
    pub(crate) fn open(config: &KafkaConfig) -> Result<Self, Error> {
        Ok(Self {
            producer: create(config, None)?,
        })
    }

    /// Appends in order and returns when all brokers in charge have every record.
    pub(crate) fn append(&self, appends: &[Append]) -> Result<(), Error> {
        self.producer.context().take_undelivered();
        let appended = appends
            .iter()
            .try_for_each(|append| enqueue(&self.producer, "", append))
            .and_then(|()| drain(&self.producer, ""));
        match self.producer.context().refusal() {
            Some(refusal) if appended.is_err() => Err(refused("appending", &refusal)),
            _ => appended,
        }
    }
}

fn create(config: &KafkaConfig, id: Option<&str>) -> Result<BaseProducer<Context>, Error> {
    let config = config.producer(id).map_err(unusable)?;
    BaseProducer::from_config_and_context(&config, Context::default())
        .map_err(|error| fault("making a producer", "", error))
}

fn enqueue(producer: &BaseProducer<Context>, member: &str, append: &Append) -> Result<(), Error> {
    let mut record: BaseRecord<'_, [u8], [u8]> =
        BaseRecord::to(&append.to.topic).partition(query::number(&append.to)?);
    record.key = append.key.as_deref();
    record.payload = append.value.as_deref();
    if !append.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(append.headers.len());
        record.headers = Some(
            append
                .headers
                .iter()
                .fold(headers, |headers, (key, value)| {
                    headers.insert(Header {
                        key,
                        value: Some(value),
                    })
                }),
        );
    }
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            // The queue empties as brokers answer; records time out, so this ends.
            Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                record = back;
                producer.poll(REPORTS);
            }
            Err((error, _)) => {
                return Err(fault(format!("appending to {}", append.to), member, error));
            }
        }
    }
}

/// Waits for the report of every record sent; an undelivered one is an error.
fn drain(producer: &BaseProducer<Context>, member: &str) -> Result<(), Error> {
    // Each record is delivered or times out, so this ends.
    while producer.in_flight_count() > 0 {
        producer.poll(REPORTS);
    }
    match producer.context().take_undelivered() {
        Some(record) => Err(undelivered(member, record)),
        None => Ok(()),
    }
}
