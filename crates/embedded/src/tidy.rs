//! What is dropped, and in which order.
//!
//! Owns that garbage goes before what it would push out: a topic that anybody outside can fill has
//! a limit of its own, and beyond the bytes of all topics together none loses records while it has
//! less than an even share. It must never drop what a group has yet to read.

use std::collections::BTreeMap;
use std::sync::Arc;

use fenghuo_log::{Error, TopicPartition};

use crate::EmbeddedLog;

/// How much may be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Bytes of all plain topics together; `None` = whatever the disk takes.
    pub bytes_max: Option<u64>,
    /// Topics that have a limit of their own, in bytes.
    pub topics: Vec<(String, u64)>,
}

impl EmbeddedLog {
    /// Drops what is older than its topic keeps it; then the oldest of each topic beyond its own
    /// limit; then, beyond the limit of all, the oldest among the topics that have more than an even
    /// share of it, so that none can be filled at the cost of those that have less. Never what a
    /// group has yet to read. Tells how many bytes were dropped for the sake of a limit, by topic.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn drop_old(&self, kept: &Kept) -> Result<BTreeMap<String, u64>, Error> {
        self.drop_expired()?;
        let before = self.bytes_by_topic();
        for (topic, bytes_max) in &kept.topics {
            self.drop_beyond(*bytes_max, |sizes| {
                let bytes = sizes.get(topic.as_str()).copied().unwrap_or(0);
                (bytes, vec![topic.as_str().into()])
            })?;
        }
        if let Some(bytes_max) = kept.bytes_max {
            self.drop_beyond(bytes_max, |sizes| {
                let topics = sizes.values().filter(|bytes| **bytes > 0).count() as u64;
                let share = bytes_max / topics.max(1);
                // Beyond the limit there is one with more than an even share.
                let large = sizes.iter().filter(|(_, bytes)| **bytes > share);
                let large = large.map(|(topic, _)| Arc::clone(topic)).collect();
                (sizes.values().sum(), large)
            })?;
        }
        let after = self.bytes_by_topic();
        let dropped = before.into_iter().map(|(topic, bytes)| {
            let left = after.get(&topic).copied().unwrap_or(0);
            (topic.to_string(), bytes.saturating_sub(left))
        });
        Ok(dropped.filter(|(_, bytes)| *bytes > 0).collect())
    }

    fn bytes_by_topic(&self) -> BTreeMap<Arc<str>, u64> {
        self.shared.lock().bytes_by_topic()
    }

    /// Drops what is older than its topic keeps it. Nothing within an hour after the clock was set, or
    /// was found far ahead of what the log holds: a clock that is wrong for a while must not empty
    /// it.
    fn drop_expired(&self) -> Result<(), Error> {
        let now_ms = (self.shared.clock)();
        if !self.shared.lock().is_steady(now_ms) {
            return Ok(());
        }
        for (of, retention_ms) in self.shared.lock_plain() {
            let Some(retention_ms) = retention_ms else {
                continue;
            };
            let (store, epoch, place) = {
                let state = self.shared.lock();
                (state.store()?, state.epoch, state.place(&of)?.0)
            };
            // What was stamped by a clock that was ahead is no younger than what comes after it.
            let kept = store.offset_within(place, now_ms - retention_ms, now_ms);
            let doing = format!("finding old records of {of}");
            let kept = self.shared.survived(epoch, &doing, kept)?;
            self.forget_read(&of, kept.unwrap_or(u64::MAX))?;
        }
        Ok(())
    }

    /// Drops the oldest records of some topics until few enough bytes are left. `weigh` tells of the
    /// sizes of all topics how many bytes count, and which topics may lose some.
    fn drop_beyond(
        &self,
        bytes_max: u64,
        weigh: impl Fn(&BTreeMap<Arc<str>, u64>) -> (u64, Vec<Arc<str>>),
    ) -> Result<(), Error> {
        loop {
            let (bytes, from) = weigh(&self.bytes_by_topic());
            if bytes <= bytes_max {
                return Ok(());
            }
            let mut oldest: Option<(i64, TopicPartition, u64)> = None;
            for (of, _) in self.shared.lock_plain() {
                if !from.contains(&of.topic) {
                    continue;
                }
                let (store, epoch, place) = {
                    let state = self.shared.lock();
                    (state.store()?, state.epoch, state.place(&of)?.0)
                };
                let first = store.oldest(place);
                let doing = format!("finding old records of {of}");
                let first = self.shared.survived(epoch, &doing, first)?;
                let read = self.committed(&of).unwrap_or(u64::MAX);
                if let Some((at_ms, end)) = first.filter(|(_, end)| *end <= read)
                    && oldest
                        .as_ref()
                        .is_none_or(|(first_ms, ..)| at_ms < *first_ms)
                {
                    oldest = Some((at_ms, of, end));
                }
            }
            let Some((_, of, end)) = oldest else {
                return Ok(());
            };
            // Several at once: each look at all partitions costs a read of each.
            let more = self.high(&of).saturating_sub(end) / 64;
            self.forget_read(&of, end + more)?;
        }
    }

    /// Drops records that every group that reads them has read.
    fn forget_read(&self, of: &TopicPartition, before: u64) -> Result<(), Error> {
        let read = self.committed(of).unwrap_or(u64::MAX);
        let low = self.shared.lock().ends(of)?.low;
        match before.min(read) {
            before if before > low => self.forget(of, before),
            _ => Ok(()),
        }
    }
}
