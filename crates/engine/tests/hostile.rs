//! Input that nobody means well with, through all stages on the in-memory log: poison in every
//! topic costs its own letter and nothing else, what was refused and is mended still counts, and
//! more entities than there is room for stay within the bounds.

mod told;

use std::collections::BTreeMap;

use fenghuo_engine::record::topic;
use fenghuo_engine::{Outcome, Topology, TopologyConfig};
use fenghuo_event::Stream;
use fenghuo_event::bounds::{ID_BYTES_MAX, MESSAGE_BYTES_MAX};
use fenghuo_log::memory::MemoryLog;
use fenghuo_log::{Append, Log, SessionSpec, Start, TopicPartition};
use fenghuo_signal::Catalogue;

const START_MS: i64 = 1_794_398_400_000;

fn config(shop: &str) -> TopologyConfig {
    let mut config = told::config(&Stream::ALL);
    config.ingest.shop = Some(shop.to_owned());
    config.ingest.duplicates.entries_max = 1_000;
    config.ingest.trackers.entries_max = 1_000;
    config.ingest.panes_partitions = 2;
    config.entities_max = 500;
    config
}

fn source(stream: Stream) -> TopicPartition {
    TopicPartition::new(format!("shop.{}", stream.topic()), 0)
}

fn plain(stream: Stream, value: Vec<u8>) -> Append {
    Append::new(source(stream), Some(b"key".to_vec()), value)
}

/// A good event of a stream; `meta` may be spoilt by what is added to it.
fn event(stream: Stream, id: &str, meta: &str) -> Vec<u8> {
    let body = match stream {
        Stream::Orders => {
            r#""order":{"type":"PAID","order_id":"NAME","campaign_id":"c1","lines":[{"sku_id":"s1","quantity":2,
            "unit_price":{"currency_code":"CNY","minor_units":1999}}]}"#
        }
        Stream::Inventory => {
            r#""inventory":{"type":"SNAPSHOT","sku_id":"s1","location_id":"w1","levels":{"available":40,"on_hand":40}}"#
        }
        Stream::Couriers => {
            r#""courier":{"status":"LABEL_CREATED","parcel_id":"NAME","courier_id":"SF","order_ids":["NAME"]}"#
        }
        Stream::Feedback => {
            r#""feedback":{"kind":"REVIEW","feedback_id":"NAME","sku_id":"s1","rating":1}"#
        }
        Stream::Visits => {
            r#""visit":{"type":"AGGREGATE","campaign_id":"c1","window":"60s","page_views":900}"#
        }
        Stream::Catalog => {
            r#""catalog":{"type":"UPSERT","sku_id":"s1","price_floor":{"currency_code":"CNY","minor_units":1500}}"#
        }
        Stream::Plans => {
            r#""plan":{"type":"UPSERT","campaign_id":"c1","start":"2026-11-11T11:00:00Z","end":"2026-11-11T16:00:00Z"}"#
        }
        Stream::Suppliers => {
            r#""supplier":{"type":"ASSESSMENT","supplier_id":"u1","scores":{"quality":88.5}}"#
        }
        Stream::Ops => r#""ops":{"type":"HEARTBEAT","component":"checkout"}"#,
        Stream::Custom => {
            r#""custom":{"name":"oven.temperature","entity":{"machine":"NAME"},"numbers":{"celsius":231.5}}"#
        }
    };
    let body = body.replace("NAME", id);
    format!(
        r#"{{"meta":{{"event_id":"{id}","source":"t","shop_id":"42","occurred_at":"2026-11-11T12:00:00Z"{meta}}},{body}}}"#
    )
    .into_bytes()
}

/// Every kind of poison for one topic, with the reason that it is refused for.
fn poisons(stream: Stream) -> Vec<(&'static str, Append)> {
    let text = |what: &'static str, value: String| (what, plain(stream, value.into_bytes()));
    let good = String::from_utf8(event(stream, "good", "")).unwrap();
    let spoilt = |meta: &str| String::from_utf8(event(stream, "bad", meta)).unwrap();
    let other = match stream {
        Stream::Ops => Stream::Visits,
        _ => Stream::Ops,
    };
    let mut encoded = plain(stream, event(stream, "bad", ""));
    encoded.headers = vec![("content-type", vec![b'x'; 200_000])];
    let mut keyed = plain(stream, b"{".to_vec());
    keyed.key = Some(vec![0; 500_000]);
    let mut no_bytes = plain(stream, Vec::new());
    no_bytes.key = None;
    let mut poisons = vec![
        ("malformed", no_bytes),
        ("malformed", keyed),
        ("unsupported_encoding", encoded),
        ("malformed", plain(stream, vec![0; 4_096])),
        ("malformed", plain(stream, b"{\"meta\":\xff}".to_vec())),
        text("malformed", good[..good.len() - 1].to_owned()),
        text("malformed", format!("{good}{good}")),
        text("malformed", spoilt(r#","trace":"\ud800""#)),
        text("malformed", format!("\u{feff}{good}")),
        text(
            "too_large",
            "[".repeat(100_000).replacen('[', "{\"a\":[", 1),
        ),
        text(
            "too_large",
            format!("{good}{}", " ".repeat(MESSAGE_BYTES_MAX)),
        ),
        text(
            "too_large",
            good.replace("good", &"烽".repeat(ID_BYTES_MAX)),
        ),
        text("invalid_value", good.replace("good", r"a\u0000b")),
        text("invalid_value", good.replace("good", r"a\u001b[2J")),
        text("invalid_value", good.replace("good", "a\u{85}b")),
        text("invalid_value", spoilt(r#","event_id":"again""#)),
        text(
            "invalid_value",
            good.replacen('{', r#"{"meta":null,"ops":{},"#, 1),
        ),
        text("invalid_value", spoilt(r#","utc_offset_min":1e300"#)),
        text("missing_field", "{}".to_owned()),
        text("missing_field", good.replace("\"source\":\"t\",", "")),
        ("wrong_topic", plain(stream, event(other, "bad", ""))),
        text("other_shop", good.replace("\"42\"", "\"43\"")),
        text("future", good.replace("2026-11-11T12", "2026-11-11T13")),
    ];
    if stream == Stream::Orders {
        poisons.push(text("other_currency", good.replace("CNY", "USD")));
    }
    if stream == Stream::Custom {
        let entries: Vec<String> = (0..17).map(|at| format!("\"k{at}\":{at}")).collect();
        for (reason, from, to) in [
            ("missing_field", "\"name\":", "\"nam\":"),
            ("invalid_value", "oven.temp", "oven temp"),
            ("invalid_value", "celsius", "Celsius"),
            ("invalid_value", "231.5", "\"NaN\""),
            ("invalid_value", "231.5", "1,\"celsius\":2"),
            ("too_large", "\"celsius\":231.5", &entries.join(",")),
        ] {
            poisons.push(text(reason, good.replacen(from, to, 1)));
        }
    }
    poisons
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Good events of every stream, in a mixed order.
fn good(state: &mut u64) -> Vec<Append> {
    let mut events: Vec<Append> = Stream::ALL
        .into_iter()
        .flat_map(|stream| (0..30).map(move |at| (stream, at)))
        .map(|(stream, at)| plain(stream, event(stream, &format!("e{at}"), "")))
        .collect();
    for at in 1..events.len() {
        events.swap(at, next(state) as usize % (at + 1));
    }
    events
}

/// What a log's events come to.
fn settled(log: &MemoryLog, config: &TopologyConfig) -> Topology {
    let mut topology = Topology::open(config, log).unwrap();
    for second in 0..120 {
        let now_ms = START_MS + 1_000 * second;
        log.set_time(now_ms);
        topology.settle(now_ms).unwrap();
    }
    topology
}

fn count(topology: &Topology, outcome: Outcome) -> u64 {
    let events = topology.view().events().into_iter();
    let of = events.filter(|(_, found, _)| *found == outcome);
    of.map(|(_, _, count)| count).sum()
}

/// Keys and values of a partition.
fn read(log: &MemoryLog, id: &TopicPartition) -> Vec<(Vec<u8>, Vec<u8>)> {
    let spec = SessionSpec {
        group: "reader".to_owned(),
        member: "reader".to_owned(),
        topics: Vec::new(),
        start: Start::Earliest,
        low_latency: false,
    };
    let mut found = Vec::new();
    let mut session = log.open(&spec).unwrap();
    session
        .read(id, 0, u64::MAX, &mut |record| {
            let owned = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
            found.push((owned(record.key), owned(record.value)));
        })
        .unwrap();
    found
}

#[test]
fn poison_costs_its_own_letter_and_nothing_else() {
    let config = config("42");
    for seed in 0..4 {
        let mut state = seed;
        let events = good(&mut state);
        let clean = told::log(&Stream::ALL, START_MS);
        clean.append(events.clone()).unwrap();
        let expected = settled(&clean, &config);
        assert_eq!(count(&expected, Outcome::Accepted), events.len() as u64);

        // The same events in the same order with all poison at random places between them.
        let mut poison: Vec<_> = Stream::ALL.into_iter().flat_map(poisons).collect();
        let mut events = events.into_iter();
        let poisoned = told::log(&Stream::ALL, START_MS);
        let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
        let mut origins = BTreeMap::new();
        while events.len() + poison.len() > 0 {
            let place = next(&mut state) as usize % (events.len() + poison.len());
            let append = match place.checked_sub(events.len()) {
                None => events.next().unwrap(),
                Some(at) => {
                    let (reason, append) = poison.swap_remove(at);
                    *by_reason.entry(reason).or_default() += 1;
                    let offset = poisoned.high(&append.to);
                    let value = append.value.clone().unwrap_or_default();
                    origins.insert(format!("{}@{offset}", append.to).into_bytes(), value);
                    append
                }
            };
            poisoned.append(vec![append]).unwrap();
        }
        let got = settled(&poisoned, &config);

        let letters: BTreeMap<&str, u64> = got.view().dead_letters().into_iter().collect();
        assert_eq!(letters, by_reason, "seed {seed}");
        let found = read(&poisoned, &TopicPartition::new(topic::DEAD_LETTER, 0));
        assert_eq!(found.len(), origins.len(), "seed {seed}");
        for (key, value) in found {
            let sent = origins
                .remove(&key)
                .expect("a letter about each poison, once");
            assert_eq!(value, sent[..sent.len().min(900 * 1024)], "seed {seed}");
        }
        assert_eq!(
            count(&got, Outcome::Rejected),
            by_reason.values().sum::<u64>()
        );
        for outcome in [Outcome::Accepted, Outcome::Duplicate, Outcome::Late] {
            assert_eq!(
                count(&got, outcome),
                count(&expected, outcome),
                "seed {seed}"
            );
        }
        let sorted = |topology: &Topology| {
            let view = topology.view();
            let mut totals: Vec<String> = view
                .totals()
                .iter()
                .map(|total| format!("{total:?}"))
                .collect();
            let readings = view.readings();
            totals.extend(readings.iter().map(|(signal, entity, published)| {
                format!("{signal} {entity:?} {:?}", published.reading)
            }));
            totals.sort();
            totals
        };
        assert_eq!(sorted(&got), sorted(&expected), "seed {seed}");
        assert_eq!(got.view().holes(), 0);
    }
}

/// The duplicate set is warmed from the source. What was refused when it came is no repeat of
/// itself after a restart under a config, or a decoder, that would have taken it.
#[test]
fn what_was_refused_and_is_mended_counts_when_it_comes_again() {
    let log = told::log(&Stream::ALL, START_MS);
    let order = |id| plain(Stream::Orders, event(Stream::Orders, id, ""));
    log.append(
        (0..5)
            .map(|at| order(["a", "b", "c", "d", "e"][at]))
            .collect(),
    )
    .unwrap();
    let wrong = settled(&log, &config("43"));
    assert_eq!(count(&wrong, Outcome::Rejected), 5);
    drop(wrong);

    let mut mended = Topology::open(&config("42"), &log).unwrap();
    mended.settle(START_MS + 200_000).unwrap();
    log.append(vec![order("a"), order("b"), order("a"), order("f")])
        .unwrap();
    mended.settle(START_MS + 201_000).unwrap();
    assert_eq!(count(&mended, Outcome::Accepted), 3);
    assert_eq!(count(&mended, Outcome::Duplicate), 1);
    drop(mended);

    // And what was taken since is a repeat, in this life too.
    let mut again = Topology::open(&config("42"), &log).unwrap();
    again.settle(START_MS + 202_000).unwrap();
    log.append(vec![order("b"), order("c"), order("f")])
        .unwrap();
    again.settle(START_MS + 203_000).unwrap();
    assert_eq!(count(&again, Outcome::Accepted), 1);
    assert_eq!(count(&again, Outcome::Duplicate), 2);
}

/// Sends `orders` orders of `lines` lines each, every line of a sku that was never seen, and lets
/// the stages have them `at_once` orders at a time. The log forgets what was read, so that what is
/// measured is the stages.
fn attack(config: &TopologyConfig, orders: usize, lines: usize, at_once: usize) -> Topology {
    use fenghuo_event::pb;
    let log = told::log(&Stream::ALL, START_MS);
    let mut topology = Topology::open(config, &log).unwrap();
    let mut sku = 0_u64;
    for (round, first) in (0..orders).step_by(at_once).enumerate() {
        let now_ms = START_MS + 100 * round as i64;
        log.set_time(now_ms);
        let batch = (first..orders.min(first + at_once)).map(|number| {
            let lines = (0..lines).map(|_| {
                sku += 1;
                pb::OrderLine {
                    sku_id: format!("sku-{sku}"),
                    quantity: 1,
                    ..Default::default()
                }
            });
            let order = pb::Order {
                r#type: pb::order::Type::Paid.into(),
                order_id: format!("o{number}"),
                campaign_id: "c1".to_owned(),
                lines: lines.collect(),
                ..Default::default()
            };
            let meta = pb::Meta {
                event_id: format!("e{number}"),
                source: "attack".to_owned(),
                occurred_at: Some(fenghuo_event::Timestamp(now_ms).into()),
                ..Default::default()
            };
            let event = pb::Event {
                meta: Some(meta),
                body: Some(pb::event::Body::Order(order)),
            };
            plain(Stream::Orders, fenghuo_event::to_protobuf(&event))
        });
        log.append(batch.collect()).unwrap();
        topology.settle(now_ms).unwrap();
        for partition in 0..config.ingest.panes_partitions {
            let panes = TopicPartition::new(topic::PANES, partition);
            log.forget(&panes, log.high(&panes));
        }
        let source = source(Stream::Orders);
        log.forget(&source, log.high(&source));
    }
    topology
}

/// Everything that a view holds is within what the config says.
fn assert_bounded(topology: &Topology, config: &TopologyConfig, orders: usize) {
    let view = topology.view();
    assert_eq!(count(topology, Outcome::Accepted), orders as u64);
    let entities = config.entities_max * config.ingest.panes_partitions as usize;
    let entries: BTreeMap<&str, u64> = view.entries().into_iter().collect();
    let held = |map: &str| entries.get(map).copied().unwrap_or(0) as usize;
    assert!(held("entities") <= entities, "{entries:?}");
    assert!(
        held("duplicates") <= 2 * config.ingest.duplicates.entries_max,
        "{entries:?}"
    );
    assert!(view.readings().len() <= entities * Catalogue::built_in().signals().len());
    assert!(view.totals().len() <= entities && view.charts().len() <= entities);
    // What is about the shop was there before there was no room, and counts on.
    let totals = view.totals();
    let shop = totals
        .iter()
        .find(|(entity, _)| *entity == fenghuo_signal::Entity::shop());
    assert_eq!(shop.expect("the shop's totals").1.orders, orders as i64);
}

#[test]
fn more_skus_than_there_is_room_for_stay_within_the_bounds() {
    let config = config("42");
    let topology = attack(&config, 5_000, 4, 100);
    assert_bounded(&topology, &config, 5_000);
    // It was an attack: both maps are full, and what found no room is counted.
    let entries: BTreeMap<&str, u64> = topology.view().entries().into_iter().collect();
    assert_eq!((entries["entities"], entries["duplicates"]), (1_000, 2_000));
    assert!(entries["entities_refused"] > 15_000, "{entries:?}");
}

/// The most memory that this process ever had, and has now, in MiB.
fn resident_mib() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) / 1024
    };
    (of("VmHWM:"), of("VmRSS:"))
}

/// By hand: `cargo test --release -p fenghuo-engine --test hostile -- --ignored --nocapture`. With
/// 400,000 entities and two million keys of duplicates it stood at 2.1 GiB from the time on at which
/// they were full, which is 5 KiB an entity with what the view holds of it.
#[test]
#[ignore = "needs a release build: ten million skus take minutes without one"]
fn ten_million_skus_stay_within_the_bounds() {
    let mut config = config("42");
    config.entities_max = 100_000;
    config.ingest.duplicates.entries_max = 1_000_000;
    config.ingest.panes_partitions = 4;
    let (before, _) = resident_mib();
    let topology = attack(&config, 10_000_000, 1, 10_000);
    let (peak, now) = resident_mib();
    println!("one sku an order: {before} MiB before, {peak} at most, {now} after");
    assert_bounded(&topology, &config, 10_000_000);
    println!("{:?}", topology.view().entries());
    drop(topology);
    // As many as come in one fetch of 16 MiB.
    let topology = attack(&config, 2_500, 4_096, 250);
    let (peak, now) = resident_mib();
    println!("4,096 skus an order: {peak} MiB at most, {now} after");
    assert_bounded(&topology, &config, 2_500);
}
