//! The source partitions that a shard was told of: how far each is covered, and what it counts.

use std::cell::Cell;

use super::counted::Counted;

/// One source partition.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) topic: String,
    pub(super) partition: u32,
    /// Next offset expected of it; `None` where no record of it was ever told.
    pub(super) covered: Option<u64>,
    /// What it counts; `None` before its first commit was whole.
    pub(super) counted: Option<Counted>,
}

/// All of them, by topic and partition. Each commit asks for several, most often in this order.
#[derive(Debug, Default)]
pub(super) struct Sources {
    all: Vec<Source>,
    /// Which one was asked for last.
    last: Cell<usize>,
}

impl Sources {
    /// Where a source partition is, or would be.
    fn find(&self, topic: &str, partition: u32) -> Result<usize, usize> {
        let is_it = |at: &usize| {
            let source = self.all.get(*at);
            source.is_some_and(|source| source.partition == partition && source.topic == topic)
        };
        let last = self.last.get();
        if let Some(at) = [last, last + 1, 0].into_iter().find(is_it) {
            self.last.set(at);
            return Ok(at);
        }
        self.all.binary_search_by(|source| {
            let by_partition = source.partition.cmp(&partition);
            source.topic.as_str().cmp(topic).then(by_partition)
        })
    }

    pub(super) fn get(&self, topic: &str, partition: u32) -> Option<&Source> {
        let at = self.find(topic, partition).ok()?;
        self.all.get(at)
    }

    /// A source partition, which is there from now on.
    pub(super) fn entry(&mut self, topic: &str, partition: u32) -> &mut Source {
        let at = self.find(topic, partition).unwrap_or_else(|at| {
            let source = Source {
                topic: topic.to_owned(),
                partition,
                covered: None,
                counted: None,
            };
            self.all.insert(at, source);
            at
        });
        &mut self.all[at]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Source> {
        self.all.iter()
    }

    /// What each partition of a topic counts.
    pub(super) fn counted<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Counted> {
        let of_topic = self.all.iter().filter(move |source| source.topic == topic);
        of_topic.filter_map(|source| source.counted.as_ref())
    }
}
