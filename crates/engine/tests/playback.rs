//! Playback: what it reads, what it keeps, and what time does in it.

mod told;

use fenghuo_alert::State;
use fenghuo_engine::record::topic;
use fenghuo_engine::{Playback, TopologyConfig};
use fenghuo_event::{Stream, Timestamp};
use fenghuo_log::{Log, SessionSpec, Start, TopicPartition};

const START_MS: i64 = 1_794_398_400_000;
const MINUTE_MS: i64 = 60_000;

fn config(start: Start) -> TopologyConfig {
    let mut config = told::config(&[Stream::Orders, Stream::Catalog]);
    config.ingest.currency = None;
    config.start = start;
    config
}

fn event(number: i64, at_ms: i64, body: &str) -> Vec<u8> {
    let at = Timestamp(at_ms);
    format!(r#"{{"meta":{{"event_id":"e{number}","source":"test","occurred_at":"{at}"}},{body}}}"#)
        .into_bytes()
}

fn order(number: i64, at_ms: i64, price_minor: i64) -> Vec<u8> {
    event(
        number,
        at_ms,
        &format!(
            r#""order":{{"type":"PAID","order_id":"o{number}","lines":[{{"sku_id":"a","quantity":1,"unit_price":{{"currency_code":"CNY","minor_units":{price_minor}}}}}]}}"#
        ),
    )
}

fn floor(at_ms: i64) -> Vec<u8> {
    event(
        0,
        at_ms,
        r#""catalog":{"type":"UPSERT","sku_id":"a","pack_units":1,"price_floor":{"currency_code":"CNY","minor_units":1800}}"#,
    )
}

/// A floor, a price below it, and then nothing.
fn below_the_floor(start: Start) -> Playback {
    let mut playback = Playback::open(&config(start), START_MS, 1_000).unwrap();
    playback
        .feed(START_MS, Some(Stream::Catalog), None, floor(START_MS))
        .unwrap();
    let wrong = order(1, START_MS, 900);
    playback
        .feed(START_MS, Some(Stream::Orders), None, wrong)
        .unwrap();
    playback
}

#[test]
fn everything_fed_is_read_wherever_the_config_begins() {
    for start in [Start::Earliest, Start::Latest, Start::At(i64::MAX)] {
        let mut playback = below_the_floor(start);
        playback.pass(START_MS).unwrap();
        let events = playback.topology().view().events();
        let events: u64 = events.iter().map(|(_, _, events)| events).sum();
        assert_eq!(events, 2, "{start:?}");
    }
}

#[test]
fn time_passes_no_further_than_it_is_told() {
    let mut playback = below_the_floor(Start::Earliest);
    playback.pass(START_MS + 10).unwrap();
    assert_eq!(playback.now_ms(), START_MS + 10);
    playback.pass(START_MS).unwrap();
    assert_eq!(playback.now_ms(), START_MS + 10);
}

#[test]
fn an_end_that_lies_within_a_jump_is_where_it_was() {
    let ends = [1, 7, 60].map(|minutes| {
        let mut playback = below_the_floor(Start::Earliest);
        playback.pass(START_MS).unwrap();
        while playback.now_ms() < START_MS + 60 * MINUTE_MS {
            playback
                .pass(playback.now_ms() + minutes * MINUTE_MS)
                .unwrap();
        }
        let episodes = playback.episodes().unwrap();
        let [last] = episodes.as_slice() else {
            panic!("expected one episode: {episodes:?}");
        };
        assert_eq!(last.to, State::Resolved);
        last.resolved_at_ms.map(|end| end - START_MS)
    });
    // Ten minutes of the window, looked at every ten seconds, and two for which it keeps firing.
    assert_eq!(ends, [Some(12 * MINUTE_MS + 10_000); 3]);
}

/// Guards: a long history was once held in memory to its last event.
#[test]
fn of_the_log_only_the_alerts_are_kept() {
    let mut playback = below_the_floor(Start::Earliest);
    for second in 1..3_000 {
        let at_ms = START_MS + second * 1_000;
        let value = match second % 10 {
            0 => b"no event".to_vec(),
            _ => order(second + 1, at_ms, 2_000),
        };
        playback
            .feed(at_ms, Some(Stream::Orders), None, value)
            .unwrap();
    }
    playback.pass(START_MS + 3_000_000).unwrap();
    let log = playback.log();
    let mut session = log
        .open(&SessionSpec {
            group: "test".to_owned(),
            member: "test".to_owned(),
            topics: Vec::new(),
            start: Start::Earliest,
            low_latency: false,
        })
        .unwrap();
    let mut held = |name: &str| {
        let of = TopicPartition::new(name, 0);
        let mut held = 0;
        session.read(&of, 0, u64::MAX, &mut |_| held += 1).unwrap();
        held
    };
    for name in ["shop.orders", topic::PANES, topic::DEAD_LETTER] {
        let was = log.high(&TopicPartition::new(name, 0));
        assert!(held(name) * 3 < was, "{name}: {} of {was}", held(name));
    }
    let alerts = log.high(&TopicPartition::new(topic::ALERTS, 0));
    assert!(alerts > 1);
    assert_eq!(held(topic::ALERTS), alerts);
    assert_eq!(playback.topology().view().holes(), 0);
}
