//! The two producers: one that commits a session's transactions, one that appends for a loader.
//!
//! A transaction is begun only when everything that goes into it is there. It must never be left
//! open after an error, and a delivery that failed is never silent.

use std::time::Duration;

use fenghuo_log::{Append, Commit, Error, TopicPartition, Whole};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::config::{KafkaConfig, TRANSACTION_TIMEOUT_MS};
use crate::context::{Context, Placed};
use crate::fault::{fault, fault_told, is_fenced, refused, undelivered, unusable};
use crate::query;

/// How long one call of the transactional interface may take.
const CALL_WITHIN: Duration = Duration::from_millis(TRANSACTION_TIMEOUT_MS as u64);
/// How often a call that may be repeated is made.
const TRIES: u32 = 3;
/// How long delivery reports are waited for at a time. The crate's own flush waits 100 ms.
const REPORTS: Duration = Duration::from_millis(1);

/// Waits a moment for delivery reports and takes all that came.
///
/// The crate's `poll` is no wait for this: it goes on to its deadline whatever comes, and hands what
/// is left of it to librdkafka in whole ms, so that the last ms, which is all there is here, is spent
/// asking the clock.
#[allow(
    clippy::disallowed_methods,
    reason = "a wait for the brokers' answers, which no condition tells of"
)]
fn await_reports(producer: &BaseProducer<Context>) {
    std::thread::sleep(REPORTS);
    let mut left = producer.in_flight_count();
    loop {
        // The reports of one batch, each time.
        producer.poll(Duration::ZERO);
        let now = producer.in_flight_count();
        if now == 0 || now == left {
            return;
        }
        left = now;
    }
}

/// The transactional producer of one member.
pub(crate) struct Transactions {
    producer: BaseProducer<Context>,
    member: String,
}

impl Transactions {
    /// Takes over the transactional id: fences whoever has it and settles what they left open.
    pub(crate) fn open(config: &KafkaConfig, group: &str, member: &str) -> Result<Self, Error> {
        Self::with_context(config, group, member, Context::default())
    }

    /// The same with what librdkafka calls back.
    pub(crate) fn with_context(
        config: &KafkaConfig,
        group: &str,
        member: &str,
        context: Context,
    ) -> Result<Self, Error> {
        let id = format!("{group}-{member}");
        let producer = create(config, Some(&id), context)?;
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
        self.transact(|| {
            commit
                .appends
                .iter()
                .try_for_each(|append| self.append(append))?;
            if !commit.offsets.is_empty() {
                self.send_offsets(&commit.offsets, consumer)?;
            }
            self.drain()
        })
    }

    /// Commits whatever `fill` sends, or nothing where it fails.
    pub(crate) fn transact(&self, fill: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        // What an earlier transaction failed to deliver is no concern of this one.
        self.producer.context().take_undelivered();
        self.call("beginning a transaction", |producer| {
            producer.begin_transaction()
        })?;
        let committed = fill().and_then(|()| {
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

    /// Sends a record of this process in the open transaction.
    pub(crate) fn append(&self, append: &Append) -> Result<(), Error> {
        enqueue(&self.producer, &self.member, Sent::from(append))
    }

    /// Sends a record of another log in the open transaction.
    pub(crate) fn send(&self, to: &TopicPartition, record: &Whole) -> Result<(), Error> {
        enqueue(&self.producer, &self.member, Sent::whole(to, record))
    }

    /// Lets the group of `consumer` stand at these offsets, with the open transaction.
    pub(crate) fn send_offsets(
        &self,
        offsets: &[(TopicPartition, u64)],
        consumer: &BaseConsumer<Context>,
    ) -> Result<(), Error> {
        let offsets = offsets.iter();
        let offsets = query::list(offsets.map(|(at, next)| (at, query::offset(*next))))?;
        let metadata = consumer.group_metadata().ok_or_else(|| {
            Error::Fatal("the consumer has no group to commit offsets for".to_owned())
        })?;
        self.call("adding offsets to a transaction", |producer| {
            producer.send_offsets_to_transaction(&offsets, &metadata, CALL_WITHIN)
        })
    }

    /// Waits until every record sent is delivered.
    pub(crate) fn drain(&self) -> Result<(), Error> {
        drain(&self.producer, &self.member)
    }

    /// Where the records that were delivered since the last call came to lie.
    pub(crate) fn take_placed(&self) -> Vec<Placed> {
        self.producer.context().take_placed()
    }

    /// Ends the open transaction. If that fails too, the next session under the same name does it.
    fn abort(&self) {
        // librdkafka waits until every record has its report, and reports are handed out by polls
        // alone: unpolled, it would wait for all of its time while the records are long there, and
        // with it everyone who waits for this member to leave. Each is delivered or times out.
        while self.producer.in_flight_count() > 0 {
            await_reports(&self.producer);
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
            producer: create(config, None, Context::default())?,
        })
    }

    /// Appends in order and returns when all brokers in charge have every record.
    pub(crate) fn append(&self, appends: &[Append]) -> Result<(), Error> {
        self.producer.context().take_undelivered();
        let appended = appends
            .iter()
            .try_for_each(|append| enqueue(&self.producer, "", Sent::from(append)))
            .and_then(|()| drain(&self.producer, ""));
        match self.producer.context().refusal() {
            Some(refusal) if appended.is_err() => Err(refused("appending", &refusal)),
            _ => appended,
        }
    }
}

fn create(
    config: &KafkaConfig,
    id: Option<&str>,
    context: Context,
) -> Result<BaseProducer<Context>, Error> {
    let config = config.producer(id).map_err(unusable)?;
    BaseProducer::from_config_and_context(&config, context)
        .map_err(|error| fault("making a producer", "", error))
}

/// A record as it is sent.
struct Sent<'a> {
    to: &'a TopicPartition,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    /// When it was appended first, Unix ms; a topic that keeps its own time has no use for it.
    timestamp_ms: Option<i64>,
    headers: Option<OwnedHeaders>,
}

impl<'a> From<&'a Append> for Sent<'a> {
    fn from(append: &'a Append) -> Self {
        let named = append.headers.iter();
        Self {
            to: &append.to,
            key: append.key.as_deref(),
            value: append.value.as_deref(),
            timestamp_ms: None,
            headers: headers(named.map(|(name, value)| (*name, value.as_slice()))),
        }
    }
}

impl<'a> Sent<'a> {
    fn whole(to: &'a TopicPartition, record: &'a Whole) -> Self {
        let named = record.headers.iter();
        Self {
            to,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            timestamp_ms: Some(record.timestamp_ms),
            headers: headers(named.map(|(name, value)| (name.as_str(), value.as_slice()))),
        }
    }
}

fn headers<'a>(named: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>) -> Option<OwnedHeaders> {
    let none = (named.len() > 0).then(|| OwnedHeaders::new_with_capacity(named.len()))?;
    Some(named.fold(none, |headers, (key, value)| {
        let value = Some(value);
        headers.insert(Header { key, value })
    }))
}

fn enqueue(producer: &BaseProducer<Context>, member: &str, sent: Sent<'_>) -> Result<(), Error> {
    let to = sent.to;
    let mut record: BaseRecord<'_, [u8], [u8]> =
        BaseRecord::to(&to.topic).partition(query::number(to)?);
    record.key = sent.key;
    record.payload = sent.value;
    record.timestamp = sent.timestamp_ms;
    record.headers = sent.headers;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            // The queue empties as brokers answer; records time out, so this ends.
            Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                record = back;
                await_reports(producer);
            }
            Err((error, _)) => {
                return Err(fault(format!("appending to {to}"), member, error));
            }
        }
    }
}

/// Waits for the report of every record sent; an undelivered one is an error.
fn drain(producer: &BaseProducer<Context>, member: &str) -> Result<(), Error> {
    // Each record is delivered or times out, so this ends.
    while producer.in_flight_count() > 0 {
        await_reports(producer);
    }
    match producer.context().take_undelivered() {
        Some(record) => Err(undelivered(member, record)),
        None => Ok(()),
    }
}
