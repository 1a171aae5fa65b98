//! What was refused: the offsets of each source partition that have a dead letter, for a restart.
//!
//! The duplicate set is warmed by reading the source again, and what today's config and decoder
//! would take may have been refused when it came. A letter's key says where its message was, so
//! the letters tell. They are read once for all partitions that come together.

use std::collections::{BTreeMap, BTreeSet};

use fenghuo_log::{Record, Restore, TopicPartition};

use crate::record::topic;

/// The key of the letter about a message that was refused.
pub(crate) fn key(id: &TopicPartition, offset: u64) -> Vec<u8> {
    format!("{id}@{offset}").into_bytes()
}

/// The place that a letter's key names.
pub(crate) fn parse(key: &[u8]) -> Option<(TopicPartition, u64)> {
    let (id, offset) = std::str::from_utf8(key).ok()?.rsplit_once('@')?;
    let (topic, partition) = id.rsplit_once('/')?;
    let id = TopicPartition::new(topic, partition.parse().ok()?);
    Some((id, offset.parse().ok()?))
}

/// Offsets with a letter, by source partition.
pub(crate) struct Letters {
    /// Of each partition the last ones are kept: the duplicate set reaches back no further.
    offsets_max: usize,
    offsets: BTreeMap<TopicPartition, BTreeSet<u64>>,
    /// The next letter to read, and whether all before now were.
    next: u64,
    fresh: bool,
}

impl Letters {
    pub(crate) fn new(offsets_max: usize) -> Self {
        Self {
            offsets_max,
            offsets: BTreeMap::new(),
            next: 0,
            fresh: false,
        }
    }

    /// The letters that are not read yet. A partition comes with everything about it committed,
    /// so one reading serves all that come before the next commit.
    pub(crate) fn restore(&mut self) -> Option<Restore> {
        let fresh = std::mem::replace(&mut self.fresh, true);
        (!fresh).then(|| Restore {
            partition: TopicPartition::new(topic::DEAD_LETTER, 0),
            from: self.next,
            to: u64::MAX,
        })
    }

    /// Time has passed: there may be more letters.
    pub(crate) fn age(&mut self) {
        self.fresh = false;
    }

    /// Takes note of a letter.
    pub(crate) fn note(&mut self, letter: &Record<'_>) {
        self.next = letter.offset + 1;
        let Some((id, offset)) = letter.key.and_then(parse) else {
            return;
        };
        let offsets = self.offsets.entry(id).or_default();
        offsets.insert(offset);
        if offsets.len() > self.offsets_max {
            offsets.pop_first();
        }
    }

    /// Whether the message at `offset` was refused.
    pub(crate) fn has(&self, id: &TopicPartition, offset: u64) -> bool {
        self.offsets
            .get(id)
            .is_some_and(|offsets| offsets.contains(&offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_no_other_is() {
        let id = TopicPartition::new("shop/eu@1.orders", 3);
        assert_eq!(parse(&key(&id, 7)), Some((id, 7)));
        for other in ["", "late", "o1", "a@1", "a/b@1", "a/1@", "a/1@-1"] {
            assert_eq!(parse(other.as_bytes()), None, "{other}");
        }
        assert_eq!(parse(b"\xff/1@1"), None);
    }

    #[test]
    fn the_last_offsets_of_a_partition_are_kept() {
        let mut letters = Letters::new(10);
        let id = TopicPartition::new("t", 0);
        assert_eq!(letters.restore().unwrap().from, 0);
        for offset in 0..100 {
            letters.note(&Record {
                offset,
                timestamp_ms: 0,
                key: Some(&key(&id, 2 * offset)),
                value: None,
                content_type: None,
            });
        }
        assert!(letters.has(&id, 198) && letters.has(&id, 180));
        assert!(!letters.has(&id, 178) && !letters.has(&id, 181));
        // For the partitions that come with this one there is nothing more to read.
        assert_eq!(letters.restore(), None);
        letters.age();
        assert_eq!(letters.restore().unwrap().from, 100);
    }
}
