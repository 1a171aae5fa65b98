//! What an entity costs in memory: `cargo run -p fenghuo-engine --example memory -- 100000`.
//!
//! Every sku comes with one order, and, with a second argument, with a floor and a stock level too.
//! What is printed is the growth of the process, the view's copies of readings and totals included.

#![allow(clippy::print_stdout, reason = "a program for people")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures its process"
)]

use std::sync::Arc;

use fenghuo_engine::{Evaluate, EvaluateConfig, InForce, Set, View, record};
use fenghuo_event::Stream;
use fenghuo_log::{Assigned, Record, Stage, TopicPartition};
use fenghuo_signal::fact::CatalogFact;
use fenghuo_signal::{Catalogue, Entity, Fact, Kind};
use record::{CommitRecord, EntityTable, FactRow, MeasureRows, SourceRange};

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let skus: u64 = args
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(100_000);
    let is_full = args.next().is_some();
    let view = Arc::new(View::new());
    let streams = [Stream::Orders, Stream::Inventory, Stream::Catalog];
    let config = EvaluateConfig {
        topics: streams
            .map(|stream| (stream.topic().into(), stream))
            .to_vec(),
        entities_max: 10_000_000,
        panes_bytes_max: 64 << 20,
        behind_ms_max: 60_000,
        checkpoint_ms: None,
    };
    let mut evaluate = Evaluate::new(config, InForce::new(Set::built_in()), Arc::clone(&view));
    let assigned = Assigned {
        partition: TopicPartition::new(record::topic::PANES, 0),
        partitions: 1,
        low: 0,
        high: 0,
        committed: None,
    };
    evaluate.assign(0, &assigned, 0);
    evaluate.restored(0, 1);
    evaluate.restored(0, 2);
    let before = resident_kib();
    let (mut offset, mut appends) = (0, Vec::new());
    for first in (0..skus).step_by(1_000) {
        let at_ms = 1_794_398_400_000 + first as i64;
        let commit = commit(first, at_ms, is_full, streams);
        let value = prost::Message::encode_to_vec(&commit);
        let record = Record {
            offset,
            timestamp_ms: at_ms,
            key: None,
            value: Some(&value),
            content_type: None,
        };
        evaluate.apply(0, record);
        evaluate.flush(at_ms, &[], &mut appends);
        appends.clear();
        evaluate.committed();
        offset += 1;
    }
    let grown = resident_kib() - before;
    println!(
        "{skus} skus: {} MiB, {} bytes each",
        grown / 1_024,
        grown * 1_024 / skus.max(1)
    );
    println!("{:?}", view.entries());
}

fn commit(first: u64, at_ms: i64, is_full: bool, streams: [Stream; 3]) -> CommitRecord {
    let mut commit = CommitRecord {
        version: record::VERSION,
        at_ms,
        ..CommitRecord::default()
    };
    for stream in streams {
        commit.sources.push(SourceRange {
            topic: stream.topic().to_owned(),
            partitions: 1,
            from: first,
            to: first + 1_000,
            newest_ms: Some(at_ms),
            lateness_ms: 5_000,
            at_end: true,
            ..SourceRange::default()
        });
    }
    let catalogue = Catalogue::built_in();
    let mut entities = EntityTable::default();
    let mut rows = |measure: &str, of: &[u32]| {
        let series = catalogue.series_of(measure);
        let width = series.width();
        let mut starts = vec![0; of.len()];
        starts[0] = series.cell_start(at_ms);
        commit.rows.push(MeasureRows {
            id: catalogue.id(series.number),
            entities: of.to_vec(),
            starts: match series.tiers() {
                [] => Vec::new(),
                _ => starts,
            },
            columns: (1 << width) - 1,
            values: vec![1; width * of.len()],
        });
    };
    let name = |number: u64| format!("sku-{number:09}");
    let skus: Vec<u32> = (first..first + 1_000)
        .map(|number| entities.push(&Entity::one(Kind::SKU, &name(number))))
        .collect();
    for measure in ["sold", "totals", "committed", "price"] {
        rows(measure, &skus);
    }
    if is_full {
        let places: Vec<u32> = (first..first + 1_000)
            .map(|number| {
                let place = Entity::pair(Kind::SKU_LOCATION, &name(number), "warehouse-1");
                entities.push(&place)
            })
            .collect();
        rows("stock", &places);
        let floor = CatalogFact {
            pack_units: 1,
            price_floor_minor: Some(1),
        };
        let facts = skus.iter().map(|entity| FactRow {
            entity: *entity,
            fact: Some(Fact::Catalog(floor.clone())),
        });
        commit.facts.extend(facts);
    }
    commit.entities = Some(entities);
    commit
}
