//! Creates missing topics and checks the ones that are there.
//!
//! It must never change a topic that exists.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use fenghuo_log::{Error, TopicSpec};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::config::KafkaConfig;
use crate::context::Context;
use crate::fault::{fault, unusable};
use crate::query;

/// How long the brokers may take to create topics.
const CREATED_WITHIN: Duration = Duration::from_secs(30);
/// How often a topic just created is looked for; about 10 s.
const LOOKS_MAX: u32 = 100;

/// Creates what is missing of `topics`; a topic with another number of partitions is an error.
pub(crate) fn ensure(
    config: &KafkaConfig,
    consumer: &BaseConsumer<Context>,
    topics: &[TopicSpec],
) -> Result<(), Error> {
    let mut missing = Vec::new();
    for topic in topics {
        if !is_as_wanted(consumer, topic)? {
            missing.push(topic);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    create(config, &missing)?;
    for topic in missing {
        wait_for(consumer, topic)?;
    }
    Ok(())
}

/// `false` where there is no such topic.
fn is_as_wanted(consumer: &BaseConsumer<Context>, topic: &TopicSpec) -> Result<bool, Error> {
    match query::partitions(consumer, &topic.name)? {
        None => Ok(false),
        Some(found) if found == topic.partitions => Ok(true),
        Some(found) => Err(Error::PartitionCount {
            topic: topic.name.clone(),
            found,
            expected: topic.partitions,
        }),
    }
}

/// A created topic takes a moment to reach every broker.
fn wait_for(consumer: &BaseConsumer<Context>, topic: &TopicSpec) -> Result<(), Error> {
    for _ in 0..LOOKS_MAX {
        if is_as_wanted(consumer, topic)? {
            return Ok(());
        }
        drop(consumer.poll(Duration::from_millis(100)));
    }
    Err(Error::Retriable {
        doing: format!("creating topic {}", topic.name),
        source: "it was created and does not appear".into(),
    })
}

fn create(config: &KafkaConfig, topics: &[&TopicSpec]) -> Result<(), Error> {
    let doing = "creating topics";
    let client = config.client().map_err(unusable)?;
    let admin = AdminClient::from_config_and_context(&client, Context::default())
        .map_err(|error| fault(doing, "", error))?;
    let retention: Vec<String> = topics
        .iter()
        .map(|topic| topic.retention_ms.unwrap_or(-1).to_string())
        .collect();
    let topics_new: Vec<NewTopic<'_>> = topics
        .iter()
        .zip(&retention)
        .map(|(topic, retention_ms)| new_topic(topic, retention_ms, config.replication))
        .collect::<Result<_, _>>()?;
    let options = AdminOptions::new()
        .operation_timeout(Some(CREATED_WITHIN))
        .request_timeout(Some(CREATED_WITHIN));
    let created = block_on(admin.create_topics(&topics_new, &options))
        .map_err(|error| fault(doing, "", error))?;
    for (topic, result) in topics.iter().zip(created) {
        match result {
            // Another member was quicker.
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {
                tracing::info!(
                    topic = topic.name,
                    partitions = topic.partitions,
                    "topic created"
                );
            }
            Err((_, code)) => return Err(refused(topic, code)),
        }
    }
    Ok(())
}

fn new_topic<'a>(
    topic: &'a TopicSpec,
    retention_ms: &'a str,
    replication: i16,
) -> Result<NewTopic<'a>, Error> {
    let partitions = i32::try_from(topic.partitions)
        .map_err(|_| Error::Fatal(format!("topic {}: too many partitions", topic.name)))?;
    let new = NewTopic::new(
        &topic.name,
        partitions,
        TopicReplication::Fixed(replication.into()),
    )
    // What lies too far ahead of the broker's clock is found by comparing with this.
    .set("message.timestamp.type", "LogAppendTime");
    Ok(if topic.compacted {
        // What was superseded is read at every restart until it is gone, and the segment that is
        // being written is never compacted: small ones, compacted soon.
        new.set("cleanup.policy", "compact")
            .set("segment.bytes", "67108864")
            .set("segment.ms", "600000")
            .set("min.cleanable.dirty.ratio", "0.2")
    } else {
        new.set("cleanup.policy", "delete")
            .set("retention.ms", retention_ms)
    })
}

fn refused(topic: &TopicSpec, code: Code) -> Error {
    let TopicSpec {
        name,
        partitions,
        compacted,
        ..
    } = topic;
    let policy = if *compacted { "compact" } else { "delete" };
    match code {
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::PolicyViolation
        | Code::InvalidTopic
        | Code::InvalidReplicationFactor
        | Code::InvalidPartitions
        | Code::InvalidConfig => Error::Fatal(format!(
            "topic {name} is missing and may not be created ({code}): create it with {partitions} partitions and cleanup.policy={policy}, or grant this user Create on it"
        )),
        code => Error::Retriable {
            doing: format!("creating topic {name}"),
            source: Box::new(code),
        },
    }
}

/// Wakes the thread that waits in [`block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future of the admin client, which runs on a thread of its own.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
