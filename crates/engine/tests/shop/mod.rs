//! A shop on the in-memory log, second by second.

#![allow(dead_code, reason = "each test file takes what it needs")]

#[path = "../told/mod.rs"]
mod told;

use fenghuo_engine::record::DeliveryOutcome;
use fenghuo_engine::{Outcome, Route, Routes, Set, Topology, TopologyConfig};
use fenghuo_event::{Stream, pb};
use fenghuo_log::memory::MemoryLog;
use fenghuo_log::{Append, Log, TopicPartition, TopicSpec};

pub const START_MS: i64 = 1_794_398_400_000;

pub fn config() -> TopologyConfig {
    let mut config = told::config(&Stream::ALL);
    config.routes = Routes(vec![Route {
        channels: vec!["phone".to_owned()],
        ..Route::default()
    }]);
    config
}

pub struct Shop {
    pub log: MemoryLog,
    pub topology: Topology,
    pub now_ms: i64,
    pub config: TopologyConfig,
    events: u64,
}

impl Shop {
    pub fn open() -> Self {
        Self::open_as(config())
    }

    pub fn open_as(config: TopologyConfig) -> Self {
        let log = MemoryLog::new();
        let specs: Vec<TopicSpec> = config
            .ingest
            .topics
            .iter()
            .map(|topic| TopicSpec {
                name: topic.name.to_string(),
                partitions: 2,
                compacted: false,
                retention_ms: None,
            })
            .collect();
        log.ensure(&specs).unwrap();
        let topology = Topology::open(&config, &log).unwrap();
        Self {
            log,
            topology,
            now_ms: START_MS,
            config,
            events: 0,
        }
    }

    /// Counts and judges by another set from now on.
    pub fn goes_by(&mut self, set: Set) {
        let number = self.config.set.get().number;
        self.config.set.put(set.at(number + 1));
    }

    /// Another life on the same log.
    pub fn restart(&mut self) {
        self.topology = Topology::open(&self.config, &self.log).unwrap();
    }

    pub fn send(&mut self, stream: Stream, body: pb::event::Body) {
        self.events += 1;
        let at_ms = self.now_ms;
        let id = format!("e{}", self.events);
        self.send_as(stream, body, &id, at_ms);
    }

    pub fn send_as(&mut self, stream: Stream, body: pb::event::Body, id: &str, at_ms: i64) {
        let occurred_at = prost_types::Timestamp {
            seconds: at_ms.div_euclid(1_000),
            nanos: (at_ms.rem_euclid(1_000) * 1_000_000) as i32,
        };
        let meta = pb::Meta {
            event_id: id.to_owned(),
            source: "test".to_owned(),
            occurred_at: Some(occurred_at),
            ..pb::Meta::default()
        };
        let event = pb::Event {
            meta: Some(meta),
            body: Some(body),
        };
        self.send_bytes(stream, fenghuo_event::to_json(&event).into_bytes());
    }

    pub fn send_bytes(&mut self, stream: Stream, bytes: Vec<u8>) {
        self.log.set_time(self.now_ms);
        let to = TopicPartition::new(format!("shop.{}", stream.topic()), 0);
        self.log.append(vec![Append::new(to, None, bytes)]).unwrap();
    }

    /// Lets time pass, second by second.
    pub fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now_ms += 1_000;
            self.log.set_time(self.now_ms);
            self.topology.settle(self.now_ms).unwrap();
        }
    }

    pub fn count(&self, outcome: Outcome) -> u64 {
        let events = self.topology.view().events();
        events
            .iter()
            .filter(|(_, found, _)| *found == outcome)
            .map(|(_, _, n)| n)
            .sum()
    }
}

pub fn order(
    kind: pb::order::Type,
    id: &str,
    sku: &str,
    quantity: i64,
    price_minor: i64,
) -> pb::event::Body {
    let line = pb::OrderLine {
        sku_id: sku.to_owned(),
        quantity,
        unit_price: Some(pb::Money {
            currency_code: "CNY".to_owned(),
            minor_units: price_minor,
        }),
        ..pb::OrderLine::default()
    };
    pb::event::Body::Order(pb::Order {
        r#type: kind.into(),
        order_id: id.to_owned(),
        campaign_id: "c1".to_owned(),
        lines: vec![line],
        ..pb::Order::default()
    })
}

pub fn floor(sku: &str, floor_minor: i64, pack_units: i32) -> pb::event::Body {
    pb::event::Body::Catalog(pb::Catalog {
        r#type: pb::catalog::Type::Upsert.into(),
        sku_id: sku.to_owned(),
        pack_units,
        price_floor: Some(pb::Money {
            currency_code: "CNY".to_owned(),
            minor_units: floor_minor,
        }),
        ..pb::Catalog::default()
    })
}

pub fn delivered(delivery_id: &str) -> DeliveryOutcome {
    DeliveryOutcome {
        delivery_id: delivery_id.to_owned(),
        delivered: true,
        attempts: 1,
        reason: None,
        at_ms: 0,
    }
}
