//! What open parcels cost: `cargo run --release -p fenghuo-engine --example trackers -- 1000000`.
//!
//! Each parcel has its label made and is picked up, two events that ingest takes as it does from a
//! log. Printed are the memory of the trackers, what was written for a million events, the time an
//! event took, and how long a restart from what was written takes. With `memory` behind the number,
//! nothing of what is written is held, so that the growth of the process is that of ingest alone.

#![allow(clippy::print_stdout, reason = "a program for people")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures its process"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use fenghuo_engine::{
    DuplicateBounds, InForce, Ingest, IngestConfig, Rewrite, Set, SourceTopic, TrackerBounds, View,
};
use fenghuo_event::Stream;
use fenghuo_log::{Append, Assigned, Progress, Record, Stage, TopicPartition};

const COMMIT: u64 = 50_000;
const START_MS: i64 = 1_794_369_600_000;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn stage(view: &Arc<View>, committed: Option<u64>) -> Ingest {
    let config = IngestConfig {
        topics: vec![SourceTopic {
            name: Arc::from("shop.couriers"),
            stream: Stream::Couriers,
            lateness_ms: 5_000,
        }],
        shop: None,
        currency: None,
        horizon_ms: 600_000,
        ahead_ms_max: 60_000,
        duplicates: DuplicateBounds {
            horizon_ms: 3_600_000,
            entries_max: 225_000,
        },
        trackers: TrackerBounds {
            entries_max: usize::MAX,
            bytes_max: usize::MAX,
            closed_ms: 86_400_000,
        },
        rewrite: Rewrite::default(),
        panes_partitions: 1,
        seed: 0,
    };
    let mut stage = Ingest::new(config, InForce::new(Set::built_in()), Arc::clone(view));
    let assigned = Assigned {
        partition: TopicPartition::new("shop.couriers", 0),
        partitions: 1,
        committed,
        low: 0,
        high: 0,
    };
    stage.assign(0, &assigned, committed.unwrap_or(0));
    stage
}

fn event(number: u64, parcels: u64) -> String {
    let (parcel, status) = match number < parcels {
        true => (number, "LABEL_CREATED"),
        false => (number - parcels, "PICKED_UP"),
    };
    let (second, courier, lane) = (number % 60, parcel % 8, parcel % 200);
    format!(
        r#"{{"meta":{{"event_id":"e{number}","source":"courier","occurred_at":"2026-11-11T04:00:{second:02}.{:03}Z"}},"courier":{{"status":"{status}","parcel_id":"SF{parcel:013}","courier_id":"courier-{courier}","warehouse_id":"warehouse-{}","campaign_id":"double-11","origin_region":"BJ","dest_region":"R{lane}","promised_by":"2026-11-13T12:{second:02}:00Z"}}}}"#,
        parcel % 1_000,
        parcel % 30
    )
}

fn main() {
    let mut args = std::env::args().skip(1);
    let parcels: u64 = args
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(100_000);
    let keeps = args.next().as_deref() != Some("memory");
    let view = Arc::new(View::new());
    let mut stage = stage(&view, None);
    stage.restored(0, 0);
    let before = resident_kib();
    let mut topic: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let (mut written, mut records, mut spent, mut longest) = (0, 0, 0.0, 0.0_f64);
    let events = 2 * parcels;
    for from in (0..events).step_by(COMMIT as usize) {
        let to = (from + COMMIT).min(events);
        let messages: Vec<String> = (from..to).map(|number| event(number, parcels)).collect();
        let watch = Instant::now();
        for (offset, message) in (from..).zip(&messages) {
            stage.apply(0, record(offset, None, Some(message.as_bytes())));
        }
        let applied = watch.elapsed().as_secs_f64();
        let mut appends: Vec<Append> = Vec::new();
        let progress = Progress {
            index: 0,
            partition: TopicPartition::new("shop.couriers", 0),
            partitions: 1,
            from,
            to,
            at_end: false,
            lag: 0,
        };
        stage.flush(START_MS, &[progress], &mut appends);
        stage.committed();
        longest = longest.max(watch.elapsed().as_secs_f64() - applied);
        spent += watch.elapsed().as_secs_f64();
        for append in appends {
            if !append.to.topic.starts_with("fenghuo.trackers.") {
                continue;
            }
            records += 1;
            let key = append.key.unwrap_or_default();
            written += key.len() + append.value.as_ref().map_or(0, Vec::len);
            match append.value.filter(|_| keeps) {
                Some(value) => topic.insert(key, value),
                None => topic.remove(&key),
            };
        }
    }
    let each = |amount: f64| amount / events as f64;
    let grown = resident_kib().saturating_sub(before);
    println!("{:?}", view.entries());
    println!(
        "{parcels} open parcels: {} MiB more of the process",
        grown / 1_024
    );
    println!(
        "{:.1} MB in {records} records a million events; {:.2} us an event; a commit takes {:.0} ms at most",
        each(written as f64),
        each(spent) * 1e6,
        longest * 1e3
    );
    drop(stage);
    if keeps {
        restart(&topic, events);
    }
}

fn restart(topic: &BTreeMap<Vec<u8>, Vec<u8>>, events: u64) {
    let bytes: usize = topic.values().map(Vec::len).sum();
    let view = Arc::new(View::new());
    let mut stage = stage(&view, Some(events));
    let watch = Instant::now();
    for (offset, (key, value)) in (0..).zip(topic) {
        stage.restore(0, 0, record(offset, Some(key), Some(value)));
    }
    stage.restored(0, 0);
    let seconds = watch.elapsed().as_secs_f64();
    stage.committed();
    println!(
        "a restart takes {} records of {:.1} MB in {seconds:.2} s: {:?}",
        topic.len(),
        bytes as f64 / 1e6,
        view.entries()
    );
    assert!(stage.broken().is_none(), "{:?}", stage.broken());
}

fn record<'a>(offset: u64, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Record<'a> {
    Record {
        offset,
        timestamp_ms: START_MS,
        key,
        value,
        content_type: None,
    }
}
