//! A folder that may be copied: stopped, known to the config there, and judged to its end.

use std::collections::BTreeSet;

use anyhow::{bail, ensure};
use fenghuo_embedded::EmbeddedLog;
use fenghuo_engine::record::topic;
use fenghuo_intake::watch::TOPIC as FILES;
use fenghuo_log::{TopicPartition, TopicSpec};

use super::progress::Ranges;
use crate::config::Config;
use crate::identity::{self, Identity, Known};

/// A folder that may be copied.
pub struct Source<'a> {
    /// The folder, which no other process has meanwhile.
    pub folder: &'a EmbeddedLog,
    /// What is copied.
    pub ranges: Ranges,
    /// What its groups' names begin with.
    pub group: String,
}

impl<'a> Source<'a> {
    /// Looks whether everything in it is known to the config and judged.
    pub fn open(folder: &'a EmbeddedLog, config: &Config) -> anyhow::Result<Self> {
        same_shop(folder, config)?;
        let mut from = Self {
            folder,
            ranges: Ranges::new(),
            group: group(folder)?,
        };
        let own = config.topology(0).own_topics(&|_| 1);
        let sources = config.source_topics();
        let known: BTreeSet<&str> = own
            .iter()
            .chain(&sources)
            .map(|spec| spec.name.as_str())
            .chain([topic::REPLAYED, FILES])
            .collect();
        for (name, partitions) in folder.topics()? {
            // On Kafka the config says what shop it is.
            if name == identity::TOPIC {
                continue;
            }
            let range = |at| folder.range(&TopicPartition::new(name.as_str(), at));
            let ranges: Vec<(u64, u64)> = (0..partitions).map(range).collect();
            if known.contains(name.as_str()) {
                from.ranges.insert(name, ranges);
            } else if ranges.iter().any(|(_, high)| *high > 0) {
                let names: Vec<&str> = sources.iter().map(|spec| spec.name.as_str()).collect();
                bail!(
                    "the folder holds {name}, which the config does not read: it reads {}; see \
                     streams, names and prefix in [topics]",
                    names.join(", ")
                );
            }
        }
        let panes = from.ranges.get(topic::PANES).map_or(0, Vec::len);
        ensure!(
            panes == config.topics.panes_partitions as usize,
            "the folder has {panes} partitions of {}: set panes_partitions = {panes} in [topics]",
            topic::PANES
        );
        from.is_at_end(&sources)?;
        Ok(from)
    }

    /// Fails where a stage has something to read.
    fn is_at_end(&self, sources: &[TopicSpec]) -> anyhow::Result<()> {
        let sources: Vec<&str> = sources.iter().map(|spec| spec.name.as_str()).collect();
        let read: [(&str, &[&str]); 3] = [
            ("ingest", &sources),
            ("evaluate", &[topic::PANES]),
            ("dispatch", &[topic::ALERTS]),
        ];
        for (stage, topics) in read {
            let stands = self.folder.offsets(&format!("{}-{stage}", self.group));
            let ranges = topics
                .iter()
                .filter_map(|name| self.ranges.get_key_value(*name));
            for (name, ranges) in ranges {
                for (partition, (low, high)) in (0..).zip(ranges) {
                    let of = TopicPartition::new(name.as_str(), partition);
                    let next = stands.get(&of).copied().unwrap_or(0).max(*low);
                    ensure!(
                        next >= *high,
                        "{stage} has yet to read {} records of {of}: run the daemon on the folder \
                         once more until /-/ready says so, stop it with SIGTERM, and copy then",
                        high - next
                    );
                }
            }
        }
        Ok(())
    }
}

/// What the names of the groups begin with that judged a folder.
fn group(folder: &EmbeddedLog) -> anyhow::Result<String> {
    let groups = folder.groups()?;
    let names = groups
        .iter()
        .filter_map(|name| name.strip_suffix("-ingest"));
    let names: Vec<&str> = names.collect();
    match names[..] {
        [name] => Ok(name.to_owned()),
        [] => bail!("no daemon ever judged what is in the folder: run one on it first"),
        _ => bail!(
            "several groups judged what is in the folder: {}; one history cannot be told from them",
            names.join(", ")
        ),
    }
}

/// Fails where the config would refuse what the folder has taken.
fn same_shop(folder: &EmbeddedLog, config: &Config) -> anyhow::Result<()> {
    let kept = Identity::restore(Known::default(), folder)?.known();
    let said = Known::of(&config.shop);
    for (key, kept, said) in [
        ("id", &kept.shop, &said.shop),
        ("currency", &kept.currency, &said.currency),
    ] {
        if let (Some(kept), Some(said)) = (kept, said) {
            ensure!(
                kept == said,
                "the folder's events are of {key} {kept}, and the config takes {said} alone: set \
                 {key} = {kept:?} in [shop]"
            );
        }
    }
    Ok(())
}
