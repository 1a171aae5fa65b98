//! The hot path, piece by piece and as a whole: orders for a second of a flash sale.
//!
//! Every figure is events a second on one core. Beside ours stand bounds that were measured in
//! the same run: what it costs only to parse, or only to count.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fenghuo_benches::{START_MS, config, json, protobuf};
use fenghuo_engine::{Evaluate, EvaluateConfig, Ingest, Playback, View};
use fenghuo_event::Stream;
use fenghuo_log::{Append, Assigned, Progress, Record, Stage, TopicPartition};
use fenghuo_signal::{Catalogue, Entity, EntityRef, Fold, Kind};
use fenghuo_window::Combiner;

const EVENTS: u64 = 100_000;

/// The least that reading these orders with serde comes to: every member known, nothing checked.
#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "it is there to be read into")]
struct Borrowed<'a> {
    #[serde(borrow)]
    meta: BorrowedMeta<'a>,
    order: BorrowedOrder<'a>,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "it is there to be read into")]
struct BorrowedMeta<'a> {
    event_id: &'a str,
    source: &'a str,
    occurred_at: &'a str,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "it is there to be read into")]
struct BorrowedOrder<'a> {
    r#type: &'a str,
    order_id: &'a str,
    campaign_id: &'a str,
    #[serde(borrow)]
    lines: Vec<BorrowedLine<'a>>,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "it is there to be read into")]
struct BorrowedLine<'a> {
    sku_id: &'a str,
    quantity: i64,
    #[serde(borrow)]
    unit_price: BorrowedMoney<'a>,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "it is there to be read into")]
struct BorrowedMoney<'a> {
    currency_code: &'a str,
    minor_units: i64,
}

fn record(offset: usize, value: &[u8]) -> Record<'_> {
    Record {
        offset: offset as u64,
        timestamp_ms: START_MS + 2_000,
        key: None,
        value: Some(value),
        content_type: None,
    }
}

fn assigned(topic: &str) -> Assigned {
    Assigned {
        partition: TopicPartition::new(topic, 0),
        partitions: 1,
        committed: None,
        low: 0,
        high: 0,
    }
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(EVENTS));
    let (json, protobuf) = (json(EVENTS), protobuf(EVENTS));
    for (name, messages) in [("json", &json), ("protobuf", &protobuf)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                for message in messages {
                    black_box(fenghuo_event::decode(message, None).is_ok());
                }
            });
        });
    }
    group.bench_function("bound: serde_json to a value that borrows nothing", |b| {
        b.iter(|| {
            for message in &json {
                black_box(serde_json::from_slice::<serde_json::Value>(message).is_ok());
            }
        });
    });
    group.bench_function("bound: serde_json to a derived struct that borrows", |b| {
        b.iter(|| {
            for message in &json {
                black_box(serde_json::from_slice::<Borrowed<'_>>(message).is_ok());
            }
        });
    });
    group.bench_function("bound: prost to owned messages", |b| {
        b.iter(|| {
            for message in &protobuf {
                let event = <fenghuo_event::pb::Event as prost::Message>::decode(&message[..]);
                black_box(event.is_ok());
            }
        });
    });
    group.finish();
}

fn fold_decoded(c: &mut Criterion) {
    let mut group = c.benchmark_group("fold");
    group.throughput(Throughput::Elements(EVENTS));
    let messages = protobuf(EVENTS);
    let events: Vec<_> = messages
        .iter()
        .filter_map(|message| fenghuo_event::decode(message, None).ok())
        .collect();
    let catalogue = Catalogue::built_in();
    let mut cells: Combiner<Entity> = Combiner::new(0);
    group.bench_function("decoded orders to deltas, 10 k skus, all series", |b| {
        b.iter(|| {
            cells.clear();
            let mut facts = Vec::new();
            for event in &events {
                let mut out = Fold {
                    cells: &mut cells,
                    facts: &mut facts,
                    late: false,
                };
                catalogue.program().fold(event, &mut None, &mut out);
            }
            black_box(cells.len())
        });
    });
    let sold = catalogue.series_of("sold");
    let names: Vec<(String, String)> = (0..EVENTS)
        .map(|n| (format!("sku-{:05}", n % 1_000), format!("c{}", n % 3)))
        .collect();
    group.bench_function("three entities an event, one series", |b| {
        b.iter(|| {
            cells.clear();
            for (sku, campaign) in &names {
                for (kind, first) in [
                    (Kind::SKU, sku.as_str()),
                    (Kind::CAMPAIGN, campaign),
                    (Kind::CHANNEL, "app"),
                ] {
                    let entity = EntityRef {
                        kind,
                        first,
                        second: "",
                    };
                    cells.cell(sold, entity, START_MS)[0] += 1;
                }
            }
            black_box(cells.len())
        });
    });
    group.finish();
}

/// What the design puts a number on: from a message's bytes to its deltas.
fn decode_and_fold(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode + fold");
    group.throughput(Throughput::Elements(EVENTS));
    let catalogue = Catalogue::built_in();
    let mut cells: Combiner<Entity> = Combiner::new(0);
    for (name, messages) in [("json", json(EVENTS)), ("protobuf", protobuf(EVENTS))] {
        group.bench_function(name, |b| {
            b.iter(|| {
                cells.clear();
                let mut facts = Vec::new();
                for message in &messages {
                    let Ok(event) = fenghuo_event::decode(message, None) else {
                        continue;
                    };
                    let mut out = Fold {
                        cells: &mut cells,
                        facts: &mut facts,
                        late: false,
                    };
                    catalogue.program().fold(&event, &mut None, &mut out);
                }
                black_box(cells.len())
            });
        });
    }
    group.finish();
}

/// Decodes and folds every message, and writes the commit.
fn ingest(messages: &[Vec<u8>]) -> Vec<Append> {
    let config = config();
    let mut stage = Ingest::new(config.ingest, config.set, Arc::new(View::new()));
    stage.assign(0, &assigned("shop.orders"), 0);
    let mut appends = Vec::new();
    for (batch, chunk) in messages.chunks(10_000).enumerate() {
        for (at, message) in chunk.iter().enumerate() {
            stage.apply(0, record(batch * 10_000 + at, message));
        }
        let progress = Progress {
            index: 0,
            partition: TopicPartition::new("shop.orders", 0),
            partitions: 1,
            from: (batch * 10_000) as u64,
            to: (batch * 10_000 + chunk.len()) as u64,
            at_end: false,
            lag: 0,
        };
        stage.flush(START_MS + 2_000, &[progress], &mut appends);
        stage.committed();
    }
    appends
}

fn stages(c: &mut Criterion) {
    let mut group = c.benchmark_group("stage");
    group.throughput(Throughput::Elements(EVENTS));
    group.sample_size(20);
    for (name, messages) in [("json", json(EVENTS)), ("protobuf", protobuf(EVENTS))] {
        group.bench_function(
            format!("ingest: decode, check, deduplicate, fold; {name}"),
            |b| {
                b.iter(|| black_box(ingest(&messages).len()));
            },
        );
    }
    let mut panes = ingest(&json(EVENTS));
    panes.retain(|append| &*append.to.topic == fenghuo_engine::record::topic::PANES);
    group.bench_function("evaluate: merge and judge", |b| {
        b.iter_batched_ref(
            || {
                let config = config();
                let topics = config.ingest.topics.iter();
                let evaluate = EvaluateConfig {
                    topics: topics
                        .map(|topic| (Arc::clone(&topic.name), topic.stream))
                        .collect(),
                    entities_max: config.entities_max,
                    panes_bytes_max: config.panes_bytes_max,
                    behind_ms_max: config.behind_ms_max,
                    checkpoint_ms: None,
                };
                let mut stage = Evaluate::new(evaluate, config.set, Arc::new(View::new()));
                stage.assign(0, &assigned("fenghuo.panes"), 0);
                stage
            },
            |stage| {
                for (offset, append) in panes.iter().enumerate() {
                    if let Some(value) = &append.value {
                        stage.apply(0, record(offset, value));
                    }
                }
                let mut appends = Vec::new();
                stage.flush(START_MS, &[], &mut appends);
                stage.committed();
                black_box(appends.len())
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("whole");
    group.throughput(Throughput::Elements(EVENTS));
    group.sample_size(10);
    let messages = json(EVENTS);
    group.bench_function("replay: every stage in virtual time, json", |b| {
        b.iter(|| {
            let Ok(mut playback) = Playback::open(&config(), START_MS, 1_000) else {
                return;
            };
            for (at, message) in messages.iter().enumerate() {
                let at_ms = START_MS + (at / 100) as i64;
                let _ =
                    black_box(playback.feed(at_ms, Some(Stream::Orders), None, message.clone()));
            }
            let _ = black_box(playback.pass(START_MS + 10_000));
        });
    });
    group.finish();
}

criterion_group!(
    benches,
    decode,
    fold_decoded,
    decode_and_fold,
    stages,
    whole
);
criterion_main!(benches);
