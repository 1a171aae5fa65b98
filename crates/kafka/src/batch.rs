//! The one file with unsafe code: a consumer whose partitions all flow into one private queue of
//! librdkafka, drained in batches.
//!
//! The rdkafka crate offers no batch call and allocates for each message; a batch costs a third
//! of its polls. This file owns the private queue and the messages taken from it. It must never
//! hand out a pointer, keep a borrowed record past its callback, take a batch from the consumer's
//! own queue (a rebalance served there would force an empty assignment), or leave a queue handle
//! open when the client closes (closing would never end).

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use fenghuo_log::{Record, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use crate::context::Context;

/// Messages taken at once. A batch is the unit between two looks at the control queue.
const BATCH_MESSAGES_MAX: usize = 1024;

/// The header that names a record's encoding.
const CONTENT_TYPE: &CStr = c"content-type";

/// What came from a partition.
pub(crate) enum Taken<'a> {
    /// A record.
    Record(Record<'a>),
    /// Everything that can be seen now was taken; the offset is the next one to come.
    End(u64),
    /// The partition cannot be read on, with librdkafka's words about it.
    Failed(RDKafkaErrorCode, String),
}

/// Where something came from. Two equal sources name the same partition for as long as the
/// partition is assigned; only [`Source::is`] tells which one it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    topic: usize,
    partition: i32,
}

/// The topic's name behind a [`Source`], valid during the callback that it was given to.
pub(crate) struct Origin<'a> {
    /// For quick comparison.
    pub(crate) source: Source,
    topic: &'a CStr,
}

impl Origin<'_> {
    /// Whether this is the partition meant.
    pub(crate) fn is(&self, partition: &TopicPartition) -> bool {
        u32::try_from(self.source.partition) == Ok(partition.partition)
            && self.topic.to_bytes() == partition.topic.as_bytes()
    }
}

/// A consumer with its private queue.
pub(crate) struct BatchConsumer {
    queue: NonNull<sys::rd_kafka_queue_t>,
    // Dropped after `queue` is destroyed by `Drop::drop`, as the client demands.
    consumer: BaseConsumer<Context>,
}

// SAFETY: `queue` is a handle of librdkafka, which is safe to use from any thread; the handle is
// owned by this value alone and every use takes `&mut self` or is the drop.
unsafe impl Send for BatchConsumer {}

impl BatchConsumer {
    pub(crate) fn new(consumer: BaseConsumer<Context>) -> Option<Self> {
        // SAFETY: the client outlives the call; the handle returned is owned by this value, which
        // destroys it before the client.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        Some(Self {
            queue: NonNull::new(queue)?,
            consumer,
        })
    }

    /// The consumer, for everything but its messages.
    pub(crate) fn consumer(&self) -> &BaseConsumer<Context> {
        &self.consumer
    }

    /// Makes a partition's messages flow into the private queue. To be called before each
    /// assignment, because librdkafka ends the forwarding when it stops reading a partition.
    /// Returns false where librdkafka does not give the partition's queue.
    pub(crate) fn forward(&mut self, partition: &TopicPartition) -> bool {
        let Ok(topic) = CString::new(&*partition.topic) else {
            return false;
        };
        let Ok(number) = i32::try_from(partition.partition) else {
            return false;
        };
        // SAFETY: the client and the name outlive the call; the handle returned is owned here.
        let from = unsafe {
            sys::rd_kafka_queue_get_partition(
                self.consumer.client().native_ptr(),
                topic.as_ptr(),
                number,
            )
        };
        if from.is_null() {
            return false;
        }
        // SAFETY: both handles are valid. librdkafka keeps its own count of the forwarding, so
        // the partition's handle may be destroyed at once, and is, exactly once.
        unsafe {
            sys::rd_kafka_queue_forward(from, self.queue.as_ptr());
            sys::rd_kafka_queue_destroy(from);
        }
        true
    }

    /// Takes what is there, waiting up to `wait` for the first message and up to `gather` more for
    /// those behind it, and hands it over in order. Returns how many things were handed over.
    pub(crate) fn take(
        &mut self,
        wait: Duration,
        gather: Duration,
        each: &mut dyn FnMut(&Origin<'_>, Taken<'_>),
    ) -> usize {
        let mut batch = Batch::new();
        batch.fill(self.queue, Duration::ZERO, BATCH_MESSAGES_MAX);
        if batch.messages.is_empty() && !wait.is_zero() {
            // The call waits until it is full or the time is over, so only one is asked for.
            batch.fill(self.queue, wait, 1);
        }
        let room = BATCH_MESSAGES_MAX - batch.messages.len();
        if room > 0 && !batch.messages.is_empty() {
            batch.fill(self.queue, gather.min(wait), room);
        }
        for message in &batch.messages {
            // SAFETY: `fill` got the message from librdkafka and the batch owns it until it is
            // dropped, which is after this loop.
            let message = unsafe { message.as_ref() };
            hand_over(message, each);
        }
        batch.messages.len()
    }

    /// The high watermark of a partition as the last fetch told it, if there was one.
    pub(crate) fn high_cached(&self, partition: &TopicPartition) -> Option<u64> {
        let topic = CString::new(&*partition.topic).ok()?;
        let number = i32::try_from(partition.partition).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client and the name outlive the call; both numbers are ours to write.
        let code = unsafe {
            sys::rd_kafka_get_watermark_offsets(
                self.consumer.client().native_ptr(),
                topic.as_ptr(),
                number,
                &mut low,
                &mut high,
            )
        };
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        u64::try_from(high).ok()
    }
}

impl Drop for BatchConsumer {
    fn drop(&mut self) {
        // SAFETY: the handle is valid and destroyed once, here, while the client is still there:
        // the field `consumer` is dropped after this body.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// Messages owned until the end of the batch, whatever a callback does.
struct Batch {
    messages: Vec<NonNull<sys::rd_kafka_message_t>>,
}

impl Batch {
    fn new() -> Self {
        Self {
            messages: Vec::new(),
        }
    }

    fn fill(&mut self, queue: NonNull<sys::rd_kafka_queue_t>, wait: Duration, most: usize) {
        let mut taken = [ptr::null_mut(); BATCH_MESSAGES_MAX];
        let most = most.min(taken.len());
        // SAFETY: the queue handle is valid and used by this thread alone (`&mut self` of its
        // owner); `taken` has room for `most` pointers.
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(
                queue.as_ptr(),
                i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
                taken.as_mut_ptr(),
                most,
            )
        };
        // Negative means an error of the call itself, with nothing taken.
        let count = usize::try_from(count).unwrap_or(0).min(most);
        self.messages.extend(
            taken[..count]
                .iter()
                .filter_map(|message| NonNull::new(*message)),
        );
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for message in &self.messages {
            // SAFETY: the batch owns each message and destroys it once.
            unsafe { sys::rd_kafka_message_destroy(message.as_ptr()) }
        }
    }
}

fn hand_over(message: &sys::rd_kafka_message_t, each: &mut dyn FnMut(&Origin<'_>, Taken<'_>)) {
    use sys::rd_kafka_resp_err_t::{RD_KAFKA_RESP_ERR__PARTITION_EOF, RD_KAFKA_RESP_ERR_NO_ERROR};

    let Some(origin) = origin(message) else {
        return;
    };
    let taken = match message.err {
        RD_KAFKA_RESP_ERR_NO_ERROR => match record(message) {
            Some(record) => Taken::Record(record),
            None => return,
        },
        RD_KAFKA_RESP_ERR__PARTITION_EOF => match u64::try_from(message.offset) {
            Ok(offset) => Taken::End(offset),
            Err(_) => return,
        },
        code => {
            let reason = bytes(message, message.payload, message.len).unwrap_or_default();
            Taken::Failed(code.into(), String::from_utf8_lossy(reason).into_owned())
        }
    };
    each(&origin, taken);
}

/// `None` for what concerns no partition, which librdkafka logs by itself.
fn origin(message: &sys::rd_kafka_message_t) -> Option<Origin<'_>> {
    if message.rkt.is_null() {
        return None;
    }
    // SAFETY: the message holds a reference to its topic, and the topic owns its name, which ends
    // in a null byte; both live as long as the borrow of the message.
    let topic = unsafe {
        let name = sys::rd_kafka_topic_name(message.rkt);
        (!name.is_null()).then(|| CStr::from_ptr(name))?
    };
    Some(Origin {
        source: Source {
            topic: message.rkt.addr(),
            partition: message.partition,
        },
        topic,
    })
}

/// `None` if the offset is no offset, which a fetched message never has.
fn record(message: &sys::rd_kafka_message_t) -> Option<Record<'_>> {
    let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message is valid for the borrow; `kind` is ours to write.
    let timestamp_ms = unsafe { sys::rd_kafka_message_timestamp(message, &mut kind) };
    Some(Record {
        offset: u64::try_from(message.offset).ok()?,
        timestamp_ms,
        key: bytes(message, message.key, message.key_len),
        value: bytes(message, message.payload, message.len),
        content_type: content_type(message),
    })
}

/// Bytes that a message owns; a null pointer means none, and is not the same as empty.
fn bytes<T>(_owner: &sys::rd_kafka_message_t, pointer: *const T, length: usize) -> Option<&[u8]> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: callers pass a pointer and a length that librdkafka stated together for memory
    // that the message owns and nobody writes; the borrow of the owner bounds the slice's life.
    Some(unsafe { slice::from_raw_parts(pointer.cast(), length) })
}

fn content_type(message: &sys::rd_kafka_message_t) -> Option<&[u8]> {
    let mut headers = ptr::null_mut();
    // SAFETY: the message is valid for the borrow, and no other thread has it. Headers are parsed
    // on the first call into memory that the message owns, which is why librdkafka declares the
    // message as constant.
    let code = unsafe { sys::rd_kafka_message_headers(message, &mut headers) };
    if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    let (mut value, mut length) = (ptr::null(), 0);
    // SAFETY: `headers` was just given and lives as long as the message; the name ends in a null
    // byte; `value` and `length` are ours to write.
    let code = unsafe {
        sys::rd_kafka_header_get_last(headers, CONTENT_TYPE.as_ptr(), &mut value, &mut length)
    };
    if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    bytes(message, value, length)
}
