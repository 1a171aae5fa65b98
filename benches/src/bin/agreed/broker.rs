//! The broker, what is loaded into it, and what a bare consumer gets out of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fenghuo_benches::machine::{Result, cpu_s, now_ms};
use fenghuo_kafka::{KafkaConfig, KafkaLog};
use fenghuo_log::{Append, Log, Polled, Session, SessionSpec, Start, TopicPartition, TopicSpec};
use serde::Deserialize;
use xtask::services::Kafka;

use crate::{Arguments, events};

/// Partitions of each source topic.
pub const PARTITIONS: u32 = 4;
/// The topic of the orders, as the daemon's defaults name it.
pub const ORDERS: &str = "shop.orders";
/// The topic of the price floors.
pub const CATALOG: &str = "shop.catalog";
/// Orders in a second of event time.
const RATE: u64 = 5_000;
/// Orders that are handed to the producer at once.
const LOADED_AT_ONCE: u64 = 20_000;
/// Threads of the bare consumer, as many as the daemon has on two cores.
const CONSUMERS: usize = 2;
/// How long the bare consumer waits for the first record, and the next ones.
const CONSUMED_WITHIN: Duration = Duration::from_secs(60);

/// A broker with the topics of a shop in it.
pub struct Broker {
    /// `host:port`.
    pub bootstrap: String,
    process: Option<u32>,
    compression: String,
    // It ends with this value.
    _own: Option<Kafka>,
}

impl Broker {
    /// Starts one, or takes the one given.
    pub fn start(arguments: &Arguments) -> Result<Self> {
        let compression = arguments.compression.clone();
        let broker = match &arguments.bootstrap {
            Some(bootstrap) => Self {
                bootstrap: bootstrap.clone(),
                process: arguments.broker_pid,
                compression,
                _own: None,
            },
            None => {
                // As Kafka has it by default, so that all threads of a daemon are there when its
                // partitions are given out.
                let kafka = Kafka::start_as(&[], "group.initial.rebalance.delay.ms=3000\n")?;
                let process = std::fs::read_to_string(kafka.log_file().with_file_name("pid"))?;
                Self {
                    bootstrap: kafka.bootstrap(),
                    process: Some(process.trim().parse()?),
                    compression,
                    _own: Some(kafka),
                }
            }
        };
        let topic = |name: &str, compacted| TopicSpec {
            name: name.to_owned(),
            partitions: PARTITIONS,
            compacted,
            retention_ms: None,
        };
        broker
            .client(&[])?
            .ensure(&[topic(ORDERS, false), topic(CATALOG, true)])?;
        Ok(broker)
    }

    /// CPU time that the broker has used so far, in s; NaN where its process is not known.
    pub fn cpu_s(&self) -> f64 {
        self.process.map_or(f64::NAN, cpu_s)
    }

    /// A client with further properties of librdkafka.
    pub fn client(&self, extra: &[(&str, &str)]) -> Result<KafkaLog> {
        let mut config = KafkaConfig::new([&self.bootstrap]);
        let compression = ("compression.type", self.compression.as_str());
        config.extra = extra
            .iter()
            .chain([&compression])
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Ok(KafkaLog::new(config)?)
    }

    /// Loads so many orders whose event time ends now.
    pub fn load(&self, orders: u64) -> Result<Duration> {
        let began = Instant::now();
        let client = self.client(&[])?;
        let first_ms = now_ms() - (orders * 1_000 / RATE) as i64;
        let mut number = 0;
        while number < orders {
            let end = orders.min(number + LOADED_AT_ONCE);
            let at = |number: u64| first_ms + (number * 1_000 / RATE) as i64;
            client.append((number..end).map(|of| order(of, at(of))).collect())?;
            number = end;
        }
        Ok(began.elapsed())
    }
}

/// The agreed order of this number for its partition.
pub fn order(number: u64, at_ms: i64) -> Append {
    let mut value = Vec::with_capacity(events::BYTES);
    events::order(number, at_ms, &mut value);
    let to = TopicPartition::new(ORDERS, (number % u64::from(PARTITIONS)) as u32);
    Append::new(to, Some(format!("O{number:012}").into_bytes()), value)
}

/// What a bare consumer does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// Nothing.
    Drop,
    /// Parses it with serde_json into a struct that borrows.
    Parse,
}

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub struct Consumed {
    /// From the first record to the last.
    pub took: Duration,
    /// Of this process, in that time, in s.
    pub cpu_s: f64,
    /// Of the broker, in that time, in s.
    pub broker_cpu_s: f64,
}

/// The agreed order as serde_json reads it.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    meta: Meta<'a>,
    #[serde(borrow)]
    order: Order<'a>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    event_id: &'a str,
    source: &'a str,
    occurred_at: &'a str,
}

#[derive(Deserialize)]
struct Order<'a> {
    r#type: &'a str,
    order_id: &'a str,
    campaign_id: &'a str,
    buyer_id_hash: &'a str,
    #[serde(borrow)]
    lines: Vec<Line<'a>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    sku_id: &'a str,
    quantity: i64,
    #[serde(borrow)]
    unit_price: Price<'a>,
}

#[derive(Deserialize)]
struct Price<'a> {
    currency_code: &'a str,
    minor_units: i64,
}

/// So much of it that the compiler leaves nothing out.
fn parse(value: &[u8]) -> Result<u64> {
    let event: Event<'_> = serde_json::from_slice(value)?;
    let texts = [
        event.meta.event_id,
        event.meta.source,
        event.meta.occurred_at,
        event.order.r#type,
        event.order.order_id,
        event.order.campaign_id,
        event.order.buyer_id_hash,
    ];
    let lines = event.order.lines.iter();
    let lines = lines.map(|line| {
        let price = line.unit_price.minor_units * line.quantity;
        price as u64 + (line.sku_id.len() + line.unit_price.currency_code.len()) as u64
    });
    let texts = texts.iter().map(|text| text.len() as u64);
    Ok(std::hint::black_box(texts.chain(lines).sum()))
}

/// Consumes all orders with the daemon's own client, batch by batch, on as many threads as it has,
/// and keeps nothing.
pub fn consume(broker: &Broker, bare: Bare, orders: u64) -> Result<Consumed> {
    let client = Arc::new(broker.client(&[])?);
    let seen = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..CONSUMERS)
        .map(|number| {
            let (client, seen) = (Arc::clone(&client), Arc::clone(&seen));
            std::thread::spawn(move || -> Result<()> {
                // Each in a group of its own, so that no partition moves while they read.
                let mut session = client.open(&SessionSpec {
                    group: format!("fenghuo-bound-{bare:?}-{number}"),
                    member: number.to_string(),
                    topics: vec![ORDERS.to_owned()],
                    start: Start::Earliest,
                    low_latency: false,
                })?;
                consume_on(&mut *session, number, bare, &seen, orders)
            })
        })
        .collect();
    let waiting = Instant::now();
    while seen.load(Ordering::Relaxed) == 0 && waiting.elapsed() < CONSUMED_WITHIN {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (began, at_first) = (Instant::now(), seen.load(Ordering::Relaxed));
    let (cpu, broker_cpu) = (cpu_s(std::process::id()), broker.cpu_s());
    for thread in threads {
        thread.join().map_err(|_| "a bare consumer panicked")??;
    }
    // What came before the clock was read is not counted, in time nor in number.
    let share = orders as f64 / (orders - at_first) as f64;
    Ok(Consumed {
        took: began.elapsed().mul_f64(share),
        cpu_s: (cpu_s(std::process::id()) - cpu) * share,
        broker_cpu_s: (broker.cpu_s() - broker_cpu) * share,
    })
}

fn consume_on(
    session: &mut dyn Session,
    consumer: usize,
    bare: Bare,
    seen: &AtomicU64,
    orders: u64,
) -> Result<()> {
    let mut last = Instant::now();
    let mut failed = None;
    while seen.load(Ordering::Relaxed) < orders {
        let polled = session.poll(Duration::from_millis(20), &mut |_, record| {
            let value = record.value.unwrap_or_default();
            if bare == Bare::Parse
                && let Err(error) = parse(value)
            {
                failed = Some(error);
            }
        })?;
        if let Some(error) = failed.take() {
            return Err(error);
        }
        match polled {
            Polled::Records(0) if last.elapsed() > CONSUMED_WITHIN => {
                return Err("the bare consumer got no more".into());
            }
            Polled::Records(0) => {}
            Polled::Records(records) => {
                last = Instant::now();
                seen.fetch_add(records as u64, Ordering::Relaxed);
            }
            Polled::Assigned(assigned) => {
                let own = assigned
                    .into_iter()
                    .filter(|one| one.partition.partition as usize % CONSUMERS == consumer);
                let own = own.enumerate();
                let from: Vec<_> = own
                    .map(|(number, one)| (number, one.partition, one.low))
                    .collect();
                session.start(&from)?;
            }
            Polled::Revoked(_) | Polled::Lost(_) => {
                return Err("partitions moved in the middle of the measurement".into());
            }
        }
    }
    Ok(())
}
