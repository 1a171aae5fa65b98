//! Files into the in-memory log.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use fenghuo_log::memory::MemoryLog;
use fenghuo_log::{SessionSpec, Start, TopicPartition};

use super::*;

const MAPPING: &str = r#"
source = "test"
currency = "GBP"
time = { format = "%Y-%m-%d %H:%M", zone = "+00:00" }
columns = { order_id = "o", sku = "s", quantity = "q", time = "t", unit_price = "p" }
type.skip_when = [{ column = "o", prefix = "A" }]
"#;

fn order(id: &str) -> String {
    format!(
        r#"{{"meta":{{"event_id":"{id}","source":"test","occurred_at":"2026-11-11T12:00:00Z"}},"order":{{"type":"PLACED","order_id":"{id}"}}}}"#
    )
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::File::create(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .unwrap();
    path
}

/// Partition, key, value and content type of each record of a topic.
fn records(log: &MemoryLog, topic: &str) -> Vec<(u32, String, String, Option<String>)> {
    let mut session = log
        .open(&SessionSpec {
            group: "test".to_owned(),
            member: "test".to_owned(),
            topics: Vec::new(),
            start: Start::Earliest,
            low_latency: true,
        })
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut found = Vec::new();
    for partition in 0..log.partitions(topic).unwrap().unwrap_or(0) {
        let at = TopicPartition::new(topic, partition);
        session
            .read(&at, 0, u64::MAX, &mut |record| {
                let key = text(record.key.unwrap_or_default());
                let value = text(record.value.unwrap_or_default());
                found.push((partition, key, value, record.content_type.map(text)));
            })
            .unwrap();
    }
    found
}

#[test]
fn events_land_where_the_shops_producers_put_them_and_the_rest_in_the_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..50).map(|number| order(&format!("o{number}"))).collect();
    let mut text = lines.join("\n");
    text.push_str("\nno event\n\n");
    let inputs = vec![Input::JsonLines(write(folder.path(), "a.jsonl", &text))];
    let log = MemoryLog::new();
    let config = Config::parse("test", "topics.source_partitions = 7").unwrap();
    let loaded = load(&log, &config, None, inputs).unwrap();

    assert_eq!(loaded.rejected, 1);
    let orders = records(&log, "shop.orders");
    assert_eq!(orders.len(), 50);
    assert_eq!(loaded.events.values().sum::<u64>(), 50);
    for (partition, key, value, content_type) in &orders {
        assert_eq!(*partition, partition_for(key.as_bytes(), 7), "{key}");
        assert_eq!(*value, order(key), "the bytes go on as they stood");
        assert_eq!(content_type.as_deref(), Some("application/json"));
    }
    let letters = records(&log, topic::DEAD_LETTER);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].2, "no event");
}

#[test]
fn a_csv_becomes_orders_as_its_mapping_says() {
    let folder = tempfile::tempdir().unwrap();
    let text = "o,s,q,t,p\n1,a,2,2026-01-01 10:00,1.50\nA2,b,1,2026-01-01 10:00,1.00\n3,c,x,2026-01-01 10:00,1.00\n";
    let file = write(folder.path(), "a.csv", text);
    let mapping = write(folder.path(), "map.toml", MAPPING);
    let csv = cli::Csv {
        what_and_mapping: Some(vec!["orders".to_owned(), mapping.display().to_string()]),
    };
    let log = MemoryLog::new();
    let config = Config::parse("test", "").unwrap();
    let loaded = load(&log, &config, None, inputs(&[file], &csv).unwrap()).unwrap();
    assert_eq!((loaded.rejected, loaded.skipped), (1, 1));
    let orders = records(&log, "shop.orders");
    assert_eq!(orders.len(), 1);
    assert_eq!(
        (orders[0].1.as_str(), orders[0].3.as_deref()),
        ("1", Some("application/protobuf"))
    );
}

#[test]
fn what_cannot_go_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "a.jsonl", &order("o1"));
    for (text, told) in [
        (
            "topics.streams = [\"ops\"]",
            "topics.streams leaves that stream out",
        ),
        ("topics.create = false", "there is no topic shop.orders"),
    ] {
        let config = Config::parse("test", text).unwrap();
        let input = Input::JsonLines(file.clone());
        let error = load(&MemoryLog::new(), &config, None, vec![input]).unwrap_err();
        assert!(format!("{error:#}").contains(told), "{error:#}");
    }
    let missing = Input::JsonLines(folder.path().join("none.jsonl"));
    let config = Config::parse("test", "").unwrap();
    let error = load(&MemoryLog::new(), &config, None, vec![missing]).unwrap_err();
    assert!(
        format!("{error:#}").contains("none.jsonl cannot be opened"),
        "{error:#}"
    );
}

#[test]
fn into_a_folder_events_of_one_shop_alone_are_loaded_and_it_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let of_shop = |id: &str, shop: &str| {
        order(id).replace("\"source\"", &format!("\"shop_id\":\"{shop}\",\"source\""))
    };
    let lines = [of_shop("1", "42"), of_shop("2", "43"), of_shop("3", "42")].join("\n");
    let file = write(folder.path(), "orders.jsonl", &lines);
    let data = folder.path().join("data");
    let args = cli::Load {
        files: vec![file],
        config: None,
        data: Some(data.clone()),
        to: None,
        token_file: None,
        topic_prefix: "shop.".to_owned(),
        bootstrap: Vec::new(),
        csv: cli::Csv {
            what_and_mapping: None,
        },
    };
    run(&args).unwrap();
    let log = crate::topics::open_folder(&data).unwrap();
    let high = |partition| log.high(&TopicPartition::new("shop.orders", partition));
    assert_eq!((0..4).map(high).sum::<u64>(), 2);
    assert_eq!(log.high(&TopicPartition::new(topic::DEAD_LETTER, 0)), 1);
    let config = Config::without_file().unwrap().in_folder(data);
    let identity = Identity::open(&config, &log).unwrap();
    assert_eq!(identity.known().shop.as_deref(), Some("42"));
}
