//! A folder on disk and a log in memory.

use std::path::Path;

use fenghuo_engine::record::topic;
use fenghuo_log::memory::{CommitFault, MemoryLog};

use super::*;

const MAPPING: &str = r#"
source = "shop"
currency = "CNY"
every = "1h"
time = { format = "%Y-%m-%d %H:%M", zone = "+08:00" }
columns = { order_id = "订单", sku = "货号", quantity = "数量", time = "时间", unit_price = "单价" }
"#;

const MEMBER: &str = "fenghuo-files-0";

/// A config whose exports are in the folder `in` below this one.
/// Whoever sends is welcome.
fn anybody() -> &'static Identity {
    Box::leak(Box::default())
}

fn config(folder: &Path) -> Config {
    std::fs::create_dir_all(folder.join("in")).unwrap();
    std::fs::write(folder.join("map.toml"), MAPPING).unwrap();
    let text = "[intake]\nwatch = \"in\"\nmappings = [\"map.toml\"]\nsettle = \"30s\"";
    Config::parse(&folder.join("fenghuo.toml").display().to_string(), text).unwrap()
}

fn export(folder: &Path, name: &str, orders: &[&str]) {
    let mut text = "订单,货号,数量,单价,时间\n".to_owned();
    for order in orders {
        text += &format!("{order},a,1,1.50,2026-11-11 10:00\n");
    }
    std::fs::write(folder.join("in").join(name), text).unwrap();
}

/// Records of a topic; the offsets of what was aborted are used up.
fn rows(log: &MemoryLog, topic: &str) -> u64 {
    let mut session = log
        .open(&SessionSpec {
            group: "test".to_owned(),
            member: "test".to_owned(),
            topics: Vec::new(),
            start: Start::Earliest,
            low_latency: false,
        })
        .unwrap();
    let mut found = 0;
    for partition in 0..log.partitions(topic).unwrap().unwrap_or(0) {
        let at = TopicPartition::new(topic, partition);
        session.read(&at, 0, u64::MAX, &mut |_| found += 1).unwrap();
    }
    found
}

/// Turns until there is nothing more.
fn turns(life: &mut Life<'_>, now_ms: i64) -> anyhow::Result<()> {
    // The first may be the group's.
    life.turn(now_ms)?;
    while life.turn(now_ms)? {}
    Ok(())
}

#[test]
fn files_land_with_what_is_remembered_of_them_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let intake = config.watched.as_ref().unwrap();
    let log = MemoryLog::new();
    export(folder.path(), "10.csv", &["1", "2", "bad\u{7}"]);
    let mut life = Life::open(&log, &config, anybody(), intake).unwrap();
    log.fail_commit(MEMBER, CommitFault::Refused);
    let error = turns(&mut life, 0).unwrap_err();
    assert!(matches!(
        error.downcast_ref::<Error>(),
        Some(Error::Retriable { .. })
    ));
    assert_eq!(rows(&log, TOPIC) + rows(&log, "shop.orders"), 0);

    drop(life);
    log.heal(MEMBER);
    let mut life = Life::open(&log, &config, anybody(), intake).unwrap();
    turns(&mut life, 0).unwrap();
    turns(&mut life, 30_000).unwrap();
    assert_eq!(rows(&log, "shop.orders"), 2);
    assert_eq!(rows(&log, topic::DEAD_LETTER), 1);
    let letter = TopicPartition::new(topic::DEAD_LETTER, 0);
    let header = |name: &str| log.header(&letter, 0, name);
    assert_eq!(header("file").as_deref(), Some(&b"10.csv"[..]));
    assert_eq!(header("line").as_deref(), Some(&b"4"[..]));

    // The next life remembers, and takes only what is new.
    drop(life);
    export(folder.path(), "11.csv", &["3", "2", "1"]);
    let mut life = Life::open(&log, &config, anybody(), intake).unwrap();
    turns(&mut life, 60_000).unwrap();
    turns(&mut life, 90_000).unwrap();
    assert_eq!(rows(&log, "shop.orders"), 3);
    assert_eq!(rows(&log, topic::DEAD_LETTER), 1);
}

#[test]
fn one_of_two_watches() {
    let folder = tempfile::tempdir().unwrap();
    let mine = config(folder.path());
    let mut other = mine.clone();
    other.kafka.instance = "1".to_owned();
    let log = MemoryLog::new();
    export(folder.path(), "10.csv", &["1", "2"]);
    let open =
        |config| Life::open(&log, config, anybody(), mine.watched.as_ref().unwrap()).unwrap();
    let mut lives = vec![open(&mine), open(&other)];
    for now_ms in (0..100_000).step_by(10_000) {
        for life in &mut lives {
            turns(life, now_ms).unwrap();
        }
    }
    assert_eq!(rows(&log, "shop.orders"), 2);
    let watching = lives.iter().filter(|life| life.watcher.is_some());
    assert_eq!(watching.count(), 1);

    // When it goes, the other one takes over with all that is known.
    lives.retain(|life| life.watcher.is_none());
    export(folder.path(), "11.csv", &["1", "2", "3"]);
    for now_ms in (100_000..200_000).step_by(10_000) {
        turns(&mut lives[0], now_ms).unwrap();
    }
    assert_eq!(rows(&log, "shop.orders"), 3);
}

#[test]
fn a_folder_that_is_away_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let log = MemoryLog::new();
    export(folder.path(), "10.csv", &["1", "2"]);
    let mut life = Life::open(&log, &config, anybody(), config.watched.as_ref().unwrap()).unwrap();
    turns(&mut life, 0).unwrap();
    turns(&mut life, 30_000).unwrap();
    let (here, away) = (folder.path().join("in"), folder.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    for now_ms in (40_000..200_000_000).step_by(50_000_000) {
        turns(&mut life, now_ms).unwrap();
    }
    std::fs::rename(&away, &here).unwrap();
    turns(&mut life, 200_000_000).unwrap();
    turns(&mut life, 200_040_000).unwrap();
    assert_eq!(rows(&log, "shop.orders"), 2);
}

#[test]
fn it_watches_until_it_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    let mut intake = config.watched.take().unwrap();
    intake.settings.settle_ms = 50;
    export(folder.path(), "10.csv", &["1", "2"]);
    let log = MemoryLog::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&log, &config, anybody(), &intake, &stop));
        while rows(&log, "shop.orders") < 2 && !watching.is_finished() {
            clock::wait(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        watching.join().unwrap().unwrap();
    });
}

#[test]
fn a_commit_whose_answer_is_lost_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let intake = config.watched.as_ref().unwrap();
    for fault in [CommitFault::Aborted, CommitFault::Unanswered] {
        let log = MemoryLog::new();
        export(folder.path(), "10.csv", &["1", "2", "3"]);
        let mut life = Life::open(&log, &config, anybody(), intake).unwrap();
        log.fail_commit(MEMBER, fault);
        turns(&mut life, 0).unwrap_err();
        drop(life);
        log.heal(MEMBER);
        let mut life = Life::open(&log, &config, anybody(), intake).unwrap();
        turns(&mut life, 0).unwrap();
        turns(&mut life, 30_000).unwrap();
        assert_eq!(rows(&log, "shop.orders"), 3);
    }
}
