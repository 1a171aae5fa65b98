//! Answers about a view that holds much: what they take is bounded.
//!
//! `FENGHUO_EPISODES=100000 FENGHUO_READINGS=1000000 cargo test -p fenghuo-daemon --release large --
//! --nocapture` measures them with so many.

use fenghuo_alert::{Severity, State, Transition};
use fenghuo_engine::record::{
    CommitRecord, EntityTable, FactRow, MeasureRows, SourceRange, VERSION, topic,
};
use fenghuo_engine::{Evaluate, EvaluateConfig, InForce, Set};
use fenghuo_log::{Assigned, Record, Stage as _, TopicPartition};
use fenghuo_signal::fact::CatalogFact;
use fenghuo_signal::{Catalogue, Entity, Fact, Kind, Reading};
use std::sync::Arc;

use super::*;
use crate::clock::Watch;

const AT_MS: i64 = 1_794_398_400_000;

/// How many of something.
#[allow(clippy::disallowed_methods, reason = "more are asked for by hand")]
fn size(of: &str) -> u64 {
    let told = std::env::var(of).ok();
    told.and_then(|told| told.parse().ok()).unwrap_or(4_000)
}

/// A commit in which so many skus are sold for the first time.
fn commit(first: u64, count: u64, streams: &[(Arc<str>, fenghuo_event::Stream)]) -> CommitRecord {
    let sources = streams.iter().map(|(name, _)| SourceRange {
        topic: name.to_string(),
        partitions: 1,
        from: first,
        to: first + count,
        newest_ms: Some(AT_MS),
        lateness_ms: 5_000,
        at_end: true,
        ..SourceRange::default()
    });
    let mut commit = CommitRecord {
        version: VERSION,
        at_ms: AT_MS,
        sources: sources.collect(),
        ..CommitRecord::default()
    };
    let catalogue = Catalogue::built_in();
    let mut entities = EntityTable::default();
    let skus: Vec<u32> = (first..first + count)
        .map(|number| entities.push(&Entity::one(Kind::SKU, &format!("sku-{number:09}"))))
        .collect();
    for measure in ["sold", "totals", "committed", "price"] {
        let series = catalogue.series_of(measure);
        let mut starts = vec![0; skus.len()];
        starts[0] = series.cell_start(AT_MS);
        commit.rows.push(MeasureRows {
            id: catalogue.id(series.number),
            entities: skus.clone(),
            starts: match series.tiers() {
                [] => Vec::new(),
                _ => starts,
            },
            columns: (1 << series.width()) - 1,
            values: vec![1; series.width() * skus.len()],
        });
    }
    // With a floor each has a reading.
    let floor = CatalogFact {
        pack_units: 1,
        price_floor_minor: Some(1),
    };
    commit.facts.extend(skus.iter().map(|entity| FactRow {
        entity: *entity,
        fact: Some(Fact::Catalog(floor.clone())),
    }));
    commit.entities = Some(entities);
    commit
}

/// Lets a stage publish the readings of so many skus; it takes them with it when it ends.
fn publish(view: &Arc<View>, skus: u64) -> Evaluate {
    let streams = [
        fenghuo_event::Stream::Orders,
        fenghuo_event::Stream::Inventory,
        fenghuo_event::Stream::Catalog,
    ];
    let topics: Vec<(Arc<str>, _)> = streams
        .map(|stream| (Arc::from(stream.topic()), stream))
        .to_vec();
    let config = EvaluateConfig {
        topics: topics.clone(),
        entities_max: 10_000_000,
        panes_bytes_max: 64 << 20,
        behind_ms_max: 60_000,
        checkpoint_ms: None,
    };
    let set = Set::new(Catalogue::built_in(), Arc::default());
    let mut evaluate = Evaluate::new(config, InForce::new(set), Arc::clone(view));
    let assigned = Assigned {
        partition: TopicPartition::new(topic::PANES, 0),
        partitions: 1,
        low: 0,
        high: 0,
        committed: None,
    };
    evaluate.assign(0, &assigned, 0);
    evaluate.restored(0, 1);
    evaluate.restored(0, 2);
    for (offset, first) in (0..skus).step_by(1_000).enumerate() {
        let commit = commit(first, 1_000.min(skus - first), &topics);
        let value = prost::Message::encode_to_vec(&commit);
        let record = Record {
            offset: offset as u64,
            timestamp_ms: AT_MS,
            key: None,
            value: Some(&value),
            content_type: None,
        };
        evaluate.apply(0, record);
        evaluate.flush(AT_MS, &[], &mut Vec::new());
        evaluate.committed();
    }
    evaluate
}

fn episode(number: u64) -> Transition {
    Transition {
        episode: format!("{number:032x}"),
        rule: "price-floor".to_owned(),
        signal: "price.floor".to_owned(),
        entity: Entity::one(Kind::SKU, &format!("sku-{number:09}")),
        from: State::Inactive,
        to: State::Firing,
        severity: Severity::Page,
        at_ms: AT_MS + number as i64,
        pending_at_ms: AT_MS + number as i64,
        fired_at_ms: Some(AT_MS + number as i64),
        resolved_at_ms: None,
        reading: Reading::exact(0.1, 1),
        peak: 0.1,
        playbook: Some("price-below-floor".to_owned()),
        owner_role: Some("pricing".to_owned()),
        labels: Default::default(),
        summary: format!("sku-{number:09} was ordered at 0.1 of its floor price."),
        campaign: None,
    }
}

#[tokio::test]
async fn answers_about_a_large_board_are_bounded_in_bytes_and_time() {
    let (size, readings_min) = (size("FENGHUO_EPISODES"), size("FENGHUO_READINGS"));
    let view = Arc::new(View::new());
    let stage = publish(&view, readings_min);
    for number in 0..size {
        view.publish_transition(episode(number));
    }
    let readings = view.entries();
    let readings = readings.iter().find(|(map, _)| *map == "readings");
    let readings = readings.map_or(0, |(_, count)| *count);
    assert!(readings >= readings_min, "{readings}");
    let (router, ..) = served(Shown {
        view: Arc::clone(&view),
        top_entities: 50,
        ..shown()
    });
    println!("{readings} readings, {size} open episodes:");
    for (path, bytes_max) in [
        ("/metrics", 1 << 20),
        ("/api/v1/alerts", 5 << 20),
        ("/api/v1/alerts?limit=10000", 5 << 20),
        ("/api/v1/readings?limit=10000", 5 << 20),
        ("/api/v1/snapshot", 1 << 20),
    ] {
        let watch = Watch::start();
        let (status, text) = ask(&router, path, &[]).await;
        println!("  {path}: {:?}, {} bytes", watch.elapsed(), text.len());
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        assert!(text.len() < bytes_max, "{path}: {} bytes", text.len());
    }
    // Page by page every episode is there once.
    let (mut seen, mut after) = (0, String::new());
    loop {
        let page = json(&router, &format!("/api/v1/alerts?limit=1000{after}")).await;
        assert_eq!(page["count"], size);
        seen += page["alerts"].as_array().unwrap().len() as u64;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, size);
    drop(stage);
}
