//! A folder on disk and a log in memory.

use std::path::Path;

use fenghuo_engine::Topology;
use fenghuo_engine::record::{DeliveryOutcome, PageAction, topic};
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

fn place(settings: &Watched) -> &'static mut Place {
    Box::leak(Box::new(Place::new(settings)))
}

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
    let mut life = Life::open(&log, &config, anybody(), intake, place(intake)).unwrap();
    log.fail_commit(MEMBER, CommitFault::Refused);
    let error = turns(&mut life, 0).unwrap_err();
    assert!(matches!(
        error.downcast_ref::<Error>(),
        Some(Error::Retriable { .. })
    ));
    assert_eq!(rows(&log, TOPIC) + rows(&log, "shop.orders"), 0);

    drop(life);
    log.heal(MEMBER);
    let mut life = Life::open(&log, &config, anybody(), intake, place(intake)).unwrap();
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
    let mut life = Life::open(&log, &config, anybody(), intake, place(intake)).unwrap();
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
    let watched = mine.watched.as_ref().unwrap();
    let open = |config| Life::open(&log, config, anybody(), watched, place(watched)).unwrap();
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
    let watched = config.watched.as_ref().unwrap();
    let mut life = Life::open(&log, &config, anybody(), watched, place(watched)).unwrap();
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

/// Guards: a folder that was away was one line of the log, and a link in its place was followed.
#[test]
fn a_folder_that_is_away_for_long_is_told_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let watched = config.watched.as_ref().unwrap();
    let log = MemoryLog::new();
    export(folder.path(), "10.csv", &["1", "2"]);
    let mut place = Place::new(watched);
    let mut life = Life::open(&log, &config, anybody(), watched, &mut place).unwrap();
    let told = |life: &mut Life<'_>, now_ms| {
        turns(life, now_ms).unwrap();
        let away = life.place.away(now_ms);
        away.map(|(ms, why)| {
            (
                ms,
                why.contains("No such file"),
                why.contains("another folder"),
            )
        })
    };
    assert_eq!(told(&mut life, 1_000), None);
    let (here, away) = (folder.path().join("in"), folder.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    assert_eq!(told(&mut life, 2_000), None);
    assert_eq!(told(&mut life, 31_999), None);
    assert_eq!(told(&mut life, 32_000), Some((30_000, true, false)));

    // Another life begins, and it is the same absence; a link in its place does not end it.
    drop(life);
    let mut life = Life::open(&log, &config, anybody(), watched, &mut place).unwrap();
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::os::unix::fs::symlink(&other, &here).unwrap();
    export(folder.path(), "11.csv", &["3", "4"]);
    assert_eq!(told(&mut life, 40_000), Some((38_000, false, true)));
    assert_eq!(rows(&log, "shop.orders"), 1);

    std::fs::remove_file(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    assert_eq!(told(&mut life, 41_000), None);
    assert_eq!(told(&mut life, 80_000), None);
    assert_eq!(rows(&log, "shop.orders"), 2);
    std::fs::rename(&here, &away).unwrap();
    told(&mut life, 90_000);
    // Nor is it told for ever when nobody looks any more.
    assert!(told(&mut life, 120_000).is_some());
    assert!(life.place.away(179_999).is_some());
    assert_eq!(life.place.away(180_000), None);
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
        let watching = scope.spawn(|| {
            let halt = Halt {
                stop: &stop,
                pause: &|| false,
                slow: &|_| {},
                left: &|_| {},
                away: &|_| {},
            };
            watch(&log, &config, anybody(), &intake, halt)
        });
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
        let mut life = Life::open(&log, &config, anybody(), intake, place(intake)).unwrap();
        log.fail_commit(MEMBER, fault);
        turns(&mut life, 0).unwrap_err();
        drop(life);
        log.heal(MEMBER);
        let mut life = Life::open(&log, &config, anybody(), intake, place(intake)).unwrap();
        turns(&mut life, 0).unwrap();
        turns(&mut life, 30_000).unwrap();
        assert_eq!(rows(&log, "shop.orders"), 3);
    }
}

/// A day of a shop in virtual time: its order list is exported at every full hour from 10 to 21 h,
/// but for those hours that `stays_away` names, and read by all stages. The pages, as rule, action
/// and hour of the day.
fn day(stays_away: &[i64]) -> Vec<(String, PageAction, i64)> {
    const MINUTE_MS: i64 = 60_000;
    const HOUR_MS: i64 = 60 * MINUTE_MS;
    const HEADER: &str = "订单编号,商家编码,购买数量,实付单价,订单创建时间,付款时间,发货时间,订单状态,\
                          收货省份,发货仓库,买家会员名";
    let folder = tempfile::tempdir().unwrap();
    let exports = folder.path().join("in");
    std::fs::create_dir(&exports).unwrap();
    let mapping = include_str!("../../../../deploy/mappings/order-list.toml");
    std::fs::write(folder.path().join("orders.toml"), mapping).unwrap();
    let text = "[intake]\nwatch = \"in\"\nmappings = [\"orders.toml\"]\n\
                [[channel]]\nname = \"t\"\ntype = \"log\"\n\
                [[route]]\nseverity = [\"page\"]\nchannels = [\"t\"]\n";
    let name = folder.path().join("fenghuo.toml").display().to_string();
    let config = Config::parse(&name, text).unwrap();

    // 2026-11-11 00:00 +08:00. Orders come by chance, twice as many in the evening; each is
    // shipped three hours later, and from then on its row says so.
    let midnight_ms: i64 = 1_794_326_400_000;
    let local = |at_ms: i64| {
        let at = jiff::Timestamp::from_millisecond(at_ms).unwrap();
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(8));
        at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
    };
    let mut chance = 1_u64;
    let mut orders = Vec::new();
    for second in 9 * 3_600..21 * 3_600 {
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let mean_s = if second > 18 * 3_600 { 15 } else { 30 };
        if (chance >> 33).is_multiple_of(mean_s) {
            orders.push(midnight_ms + second * 1_000);
        }
    }
    let export = |now_ms: i64| {
        let mut rows = HEADER.to_owned();
        for (number, at_ms) in orders
            .iter()
            .enumerate()
            .filter(|(_, at_ms)| **at_ms < now_ms)
        {
            let (at, sent_ms) = (local(*at_ms), at_ms + 3 * HOUR_MS);
            let (status, sent) = match sent_ms < now_ms {
                true => ("已发货", local(sent_ms)),
                false => ("已付款", String::new()),
            };
            rows += &format!(
                "\n{number},sku-{},1,25.00,{at},{at},{sent},{status},上海,仓库一,买家{}",
                number % 40,
                number % 700
            );
        }
        let hour = (now_ms - midnight_ms) / HOUR_MS;
        std::fs::write(exports.join(format!("订单-{hour}.csv")), rows + "\n").unwrap();
    };

    let log = MemoryLog::new();
    log.ensure(&config.source_topics()).unwrap();
    let watched = config.watched.as_ref().unwrap();
    let mut life = Life::open(&log, &config, anybody(), watched, place(watched)).unwrap();
    let mut topology = Topology::open(&config.topology(midnight_ms), &log).unwrap();
    let mut pages = Vec::new();
    for half_minute in 2 * 9 * 60..2 * 22 * 60 {
        let now_ms = midnight_ms + half_minute * MINUTE_MS / 2;
        log.set_time(now_ms);
        let (hour, past) = (half_minute / 120, half_minute % 120);
        if past == 0 && (10..=21).contains(&hour) && !stays_away.contains(&hour) {
            export(now_ms);
        }
        turns(&mut life, now_ms).unwrap();
        topology.settle(now_ms).unwrap();
        for page in topology.dispatch().take_ready() {
            pages.push((page.alert.rule.clone(), page.action, hour));
            topology.dispatch().outcome(DeliveryOutcome {
                delivery_id: page.delivery_id.clone(),
                delivered: true,
                attempts: 1,
                reason: None,
                at_ms: now_ms,
            });
        }
    }
    let totals = topology.view().totals();
    let paid: i64 = totals
        .iter()
        .filter(|(entity, _)| entity.kind == fenghuo_signal::Kind::SHOP)
        .map(|(_, totals)| totals.orders)
        .sum();
    assert_eq!(paid, orders.len() as i64);
    pages
}

#[test]
fn twelve_hourly_exports_page_nothing_and_one_that_stays_away_pages_once() {
    assert_eq!(day(&[]), []);
    let silence = |action, hour| ("source-silence".to_owned(), action, hour);
    let expected = [
        silence(PageAction::Trigger, 15),
        silence(PageAction::Resolve, 16),
    ];
    assert_eq!(day(&[15]), expected);
}
