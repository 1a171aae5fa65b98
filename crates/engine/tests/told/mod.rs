//! What the stages are told in tests: a small shop with the built-in rules, which a test changes
//! where it is about something else.

use fenghuo_engine::{
    DuplicateBounds, InForce, IngestConfig, Rewrite, Routes, Set, SourceTopic, TopologyConfig,
    TrackerBounds,
};
use fenghuo_event::Stream;
use fenghuo_log::memory::MemoryLog;
use fenghuo_log::{Log as _, Start, TopicSpec};

pub fn config(streams: &[Stream]) -> TopologyConfig {
    let topics = streams.iter().map(|stream| SourceTopic {
        name: format!("shop.{}", stream.topic()).into(),
        stream: *stream,
        lateness_ms: 5_000,
    });
    TopologyConfig {
        group: "fenghuo".to_owned(),
        instance: "test".to_owned(),
        ingest: IngestConfig {
            topics: topics.collect(),
            shop: None,
            currency: Some("CNY".to_owned()),
            horizon_ms: 600_000,
            ahead_ms_max: 60_000,
            duplicates: DuplicateBounds {
                horizon_ms: 3_600_000,
                entries_max: 10_000,
            },
            trackers: TrackerBounds {
                entries_max: 10_000,
                bytes_max: 64 << 20,
                closed_ms: 86_400_000,
            },
            rewrite: Rewrite::default(),
            panes_partitions: 3,
            seed: 7,
        },
        set: InForce::new(Set::built_in()),
        routes: Routes::default(),
        entities_max: 10_000,
        panes_bytes_max: 64 << 20,
        behind_ms_max: 60_000,
        start: Start::Earliest,
        commit_ms: 50,
        batch_records_max: 10_000,
        panes_retention_ms: None,
        dead_letter_retention_ms: None,
        checkpoint_ms: None,
    }
}

/// An empty log with the topics of these streams, of one partition each, at a time.
#[allow(dead_code, reason = "not every test has one partition a topic")]
pub fn log(streams: &[Stream], now_ms: i64) -> MemoryLog {
    let log = MemoryLog::new();
    let specs = streams.iter().map(|stream| TopicSpec {
        name: format!("shop.{}", stream.topic()),
        partitions: 1,
        compacted: false,
        retention_ms: None,
    });
    log.ensure(&specs.collect::<Vec<_>>()).unwrap();
    log.set_time(now_ms);
    log
}
