//! Inputs shared by the benches: the same orders, in every form in which they pass a hot path.

pub mod machine;

use std::sync::Arc;

use fenghuo_engine::{
    DuplicateBounds, InForce, IngestConfig, Rewrite, Routes, Set, SourceTopic, TopologyConfig,
    TrackerBounds,
};
use fenghuo_event::{Stream, pb};
use fenghuo_log::Start;

/// Noon on a 11 November.
pub const START_MS: i64 = 1_794_369_600_000;

/// Skus that the orders are spread over.
pub const SKUS: u64 = 10_000;

/// A paid order with one line: the smallest thing that a shop sells. Skus follow Zipf's law with
/// exponent 1.1, as the design's numbers do.
pub fn order(number: u64) -> pb::Event {
    let at_ms = START_MS + (number / 100) as i64;
    let meta = pb::Meta {
        event_id: format!("e{number:08}"),
        source: "shop/42".to_owned(),
        occurred_at: Some(prost_types::Timestamp {
            seconds: at_ms / 1_000,
            nanos: (at_ms % 1_000) as i32 * 1_000_000,
        }),
        ..pb::Meta::default()
    };
    let line = pb::OrderLine {
        sku_id: format!("sku-{:05}", zipf(number)),
        quantity: 1 + (number % 3) as i64,
        unit_price: Some(pb::Money {
            currency_code: "CNY".to_owned(),
            minor_units: 1_999,
        }),
        ..pb::OrderLine::default()
    };
    let order = pb::Order {
        r#type: pb::order::Type::Paid.into(),
        order_id: format!("o{number:08}"),
        campaign_id: "double-11".to_owned(),
        lines: vec![line],
        ..pb::Order::default()
    };
    pb::Event {
        meta: Some(meta),
        body: Some(pb::event::Body::Order(order)),
    }
}

/// A rank below [`SKUS`] with probability ∝ rank^−1.1, by inverting the continuous distribution.
pub fn zipf(number: u64) -> u64 {
    // SplitMix64: every number gives an independent uniform one.
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let uniform = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
    let tail = (SKUS as f64).powf(-0.1);
    let rank = (1.0 - uniform * (1.0 - tail)).powf(-10.0);
    (rank as u64).min(SKUS - 1)
}

/// Orders as JSON.
pub fn json(count: u64) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| fenghuo_event::to_json(&order(number)).into_bytes())
        .collect()
}

/// Orders as protobuf.
pub fn protobuf(count: u64) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| fenghuo_event::to_protobuf(&order(number)))
        .collect()
}

/// One topic of orders, and the defaults of everything else.
pub fn config() -> TopologyConfig {
    let orders = SourceTopic {
        name: Arc::from("shop.orders"),
        stream: Stream::Orders,
        lateness_ms: 5_000,
    };
    TopologyConfig {
        group: "bench".to_owned(),
        instance: "0".to_owned(),
        ingest: IngestConfig {
            topics: vec![orders],
            shop: None,
            currency: None,
            horizon_ms: 600_000,
            ahead_ms_max: 60_000,
            duplicates: DuplicateBounds {
                horizon_ms: 3_600_000,
                entries_max: 1_000_000,
            },
            trackers: TrackerBounds {
                entries_max: 1_000_000,
                bytes_max: 1 << 30,
                closed_ms: 86_400_000,
            },
            rewrite: Rewrite::default(),
            panes_partitions: 1,
            seed: 0,
        },
        set: InForce::new(Set::built_in()),
        routes: Routes::default(),
        entities_max: 1_000_000,
        panes_bytes_max: 1 << 30,
        behind_ms_max: 60_000,
        start: Start::Earliest,
        commit_ms: 50,
        batch_records_max: 100_000,
        panes_retention_ms: None,
        dead_letter_retention_ms: None,
        checkpoint_ms: None,
    }
}
