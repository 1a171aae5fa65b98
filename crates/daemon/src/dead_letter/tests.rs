//! Letters as they are shown, what becomes of each, and that none goes back twice.

use fenghuo_engine::IngestConfig;
use fenghuo_event::pb;
use fenghuo_log::Whole;
use fenghuo_log::memory::MemoryLog;
use fenghuo_log::{Log, Session, SessionSpec, Start, TopicPartition, TopicSpec};

use super::letter::{Letter, Origin};
use super::replay::{Batch, Fate, Judge, Replayed};
use super::*;

const NOW_MS: i64 = 1_794_398_400_000;

fn scanned(value: &[u8], headers: &[(&str, &[u8])]) -> Whole {
    let headers = headers.iter();
    Whole {
        offset: 7,
        timestamp_ms: NOW_MS,
        key: Some(b"shop.orders/2@40".to_vec()),
        value: Some(value.to_vec()),
        headers: headers
            .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
            .collect(),
    }
}

fn order(shop: &str, currency: &str) -> Vec<u8> {
    format!(
        r#"{{"meta":{{"event_id":"e1","source":"erp","shop_id":"{shop}","occurred_at":"2026-11-11T12:00:00Z"}},
        "order":{{"type":"PAID","order_id":"o1","lines":[{{"sku_id":"s1","quantity":1,
        "unit_price":{{"currency_code":"{currency}","minor_units":100}}}}]}}}}"#
    )
    .into_bytes()
}

/// A letter as ingest writes it.
fn letter(offset: u64, reason: &str, value: &[u8]) -> Letter {
    let mut record = scanned(
        value,
        &[
            ("reason", reason.as_bytes()),
            ("detail", b"why"),
            ("topic", b"shop.orders"),
            ("partition", b"2"),
            ("offset", b"40"),
            ("key", b"o1"),
            ("content-type", b"application/json"),
        ],
    );
    record.offset = offset;
    Letter::read(record)
}

fn ingest() -> IngestConfig {
    let text = "shop.id = \"42\"\ntopics.streams = [\"orders\", \"inventory\"]";
    Config::parse("test", text).unwrap().topology(NOW_MS).ingest
}

fn partitions() -> BTreeMap<String, u32> {
    let counts = ["shop.orders", "shop.inventory"];
    counts.map(|topic| (topic.to_owned(), 3)).into()
}

fn fate(letter: &Letter) -> Fate {
    let judge = Judge {
        config: &ingest(),
        replayed: &Replayed::default(),
        partitions: &partitions(),
        now_ms: NOW_MS,
    };
    judge.fate(letter)
}

#[test]
fn what_comes_from_outside_is_shown_on_a_line_without_its_tricks() {
    let value = "{\"a\":\u{1b}[2J\r\n\u{202e}烽火\0\u{7f}\u{200b}é\"".as_bytes();
    let tricks = "no\n\u{1b}]0;title\u{7}\u{9b}1A";
    let record = scanned(
        value,
        &[
            ("reason", tricks.as_bytes()),
            ("detail", tricks.as_bytes()),
            ("topic", tricks.as_bytes()),
            ("partition", b"1"),
            ("offset", b"2"),
        ],
    );
    let letter = Letter::read(record);
    let text = letter.to_string();
    assert_eq!(text.lines().count(), 3);
    let json = letter.as_json(false).to_string();
    for shown in [text.replace('\n', ""), json.clone()] {
        let plain = |c: char| !c.is_control() && !"\u{202e}\u{200b}".contains(c);
        assert!(shown.chars().all(plain), "{shown:?}");
    }
    assert!(text.contains("烽火") && text.contains("é\""), "{text}");
    insta::assert_snapshot!(letter, @r#"
    7 2026-11-11T12:00:00Z no\n\u{1b}]0;title\u{7}\u{9b}1A no\n\u{1b}]0;title\u{7}\u{9b}1A/1@2 28 bytes
        no\n\u{1b}]0;title\u{7}\u{9b}1A
        {"a":\u{1b}[2J\r\n\u{202e}烽火\0\u{7f}\u{200b}é"
    "#);
}

#[test]
fn long_texts_are_cut_and_bad_headers_are_survived() {
    let long = vec![b'x'; 100_000];
    let record = scanned(
        &long,
        &[("detail", &long), ("partition", b"-1"), ("bytes", b"?")],
    );
    let letter = Letter::read(record);
    assert!(letter.to_string().len() < 600, "{letter}");
    assert_eq!(letter.origin, Origin::Unknown);
    assert_eq!(letter.bytes, 100_000);
    let not_utf8 = Letter::read(scanned(&[0xff; 40], &[]));
    assert_eq!(not_utf8.excerpt(), "\u{fffd}".repeat(40));
}

#[test]
fn each_letter_has_the_fate_that_it_must_have() {
    let taken = fate(&letter(0, "other_shop", &order("42", "CNY")));
    let Fate::Submit(append) = taken else {
        panic!("expected it to be re-submitted, got {taken}");
    };
    assert_eq!(append.to, TopicPartition::new("shop.orders", 2));
    assert_eq!(append.key.as_deref(), Some(b"o1".as_slice()));
    assert_eq!(append.value.as_deref(), Some(order("42", "CNY").as_slice()));
    assert_eq!(
        append.headers,
        [("content-type", b"application/json".to_vec())]
    );

    let bad = |value: &[u8]| match fate(&letter(0, "malformed", value)) {
        Fate::StillBad(reason, _) => reason,
        other => panic!("expected a letter still bad, got {other}"),
    };
    assert_eq!(bad(b"{"), "malformed");
    assert_eq!(bad(&order("43", "CNY")), "other_shop");
    assert_eq!(bad(&order("42", "USD")), "other_currency");
    let ops = br#"{"meta":{"event_id":"e","source":"s","occurred_at":"2026-11-11T12:00:00Z"},"ops":{"type":"HEARTBEAT","component":"c"}}"#;
    assert_eq!(bad(ops), "wrong_topic");
    let future = String::from_utf8(order("42", "CNY"))
        .unwrap()
        .replace("2026", "2027");
    assert_eq!(bad(future.as_bytes()), "future");

    assert_eq!(fate(&letter(0, "late", &order("42", "CNY"))), Fate::Late);
    let mut cut = letter(0, "other_shop", &order("42", "CNY"));
    cut.bytes += 1;
    assert_eq!(fate(&cut), Fate::Cut);
    let mut cut = letter(0, "other_shop", &order("42", "CNY"));
    cut.key_is_cut = true;
    assert_eq!(fate(&cut), Fate::Cut);
    let mut elsewhere = letter(0, "other_shop", &order("42", "CNY"));
    elsewhere.origin = Origin::Record {
        topic: "other.orders".to_owned(),
        partition: 0,
        offset: Some(0),
    };
    assert_eq!(fate(&elsewhere), Fate::NoTopic("other.orders".to_owned()));
}

#[test]
fn a_line_of_a_file_goes_where_it_would_have_been_loaded_to() {
    let headers: [(&str, &[u8]); 3] = [
        ("reason", b"malformed"),
        ("file", b"a.jsonl"),
        ("line", b"3"),
    ];
    let line = Letter::read(scanned(&order("42", "CNY"), &headers));
    let Fate::Submit(append) = fate(&line) else {
        panic!("expected it to be re-submitted");
    };
    let partition = crate::load::partition_for(b"o1", 3);
    assert_eq!(append.to, TopicPartition::new("shop.orders", partition));
    assert_eq!(append.key.as_deref(), Some(b"o1".as_slice()));
    let json = ("content-type", b"application/json".to_vec());
    assert_eq!(append.headers, [json]);
}

/// Guards: of a row of a CSV file only what may be shown is kept, which is no message.
#[test]
fn a_row_of_a_csv_file_is_shown_and_never_re_submitted() {
    let value = order("42", "CNY");
    let kept = |bytes: &[u8], row| {
        let rejected = fenghuo_intake::Rejected {
            origin: fenghuo_intake::Origin {
                file: "a.csv".into(),
                line: 3,
            },
            reason: "quantity is \"x\"; expected a number".to_owned(),
            bytes: bytes.to_vec(),
            row,
        };
        let append = crate::intake::dead_letter(rejected);
        let headers = append.headers.iter();
        let headers: Vec<_> = headers.map(|(name, value)| (*name, &**value)).collect();
        Letter::read(scanned(&append.value.unwrap(), &headers))
    };
    let size = |bytes, columns| Some(fenghuo_intake::RowSize { bytes, columns });
    let row = kept(b"1,(hidden),x", size(57, 3));
    insta::assert_snapshot!(row, @r#"
    7 2026-11-11T12:00:00Z row a.csv:3 57 bytes 3 columns
        quantity is "x"; expected a number
        1,(hidden),x
    "#);
    assert_eq!(row.as_json(false)["columns"], 3);
    assert_eq!(fate(&row), Fate::Row);
    // Whatever it looks like, and however long it was.
    for bytes in [0, value.len() as u64, 1 << 20] {
        assert_eq!(fate(&kept(&value, size(bytes, 0))), Fate::Row);
    }
    let Fate::Submit(_) = fate(&kept(&value, None)) else {
        panic!("expected a line of events to be re-submitted");
    };
}

#[test]
fn what_the_door_refused_for_a_wrong_shop_goes_back_in_either_encoding() {
    let headers: [(&str, &[u8]); 3] = [
        ("reason", b"other_shop"),
        ("file", b"127.0.0.1"),
        ("line", b"1"),
    ];
    let json = order("42", "CNY");
    let order = pb::Order {
        r#type: pb::order::Type::Paid.into(),
        order_id: "o1".to_owned(),
        ..Default::default()
    };
    let meta = pb::Meta {
        event_id: "e1".to_owned(),
        source: "erp".to_owned(),
        shop_id: "42".to_owned(),
        occurred_at: Some(fenghuo_event::Timestamp(NOW_MS).into()),
        ..Default::default()
    };
    let protobuf = fenghuo_event::to_protobuf(&pb::Event {
        meta: Some(meta),
        body: Some(pb::event::Body::Order(order)),
    });
    for (value, content_type) in [
        (json.clone(), "application/json"),
        (protobuf, "application/protobuf"),
    ] {
        let letter = Letter::read(scanned(&value, &headers));
        let Fate::Submit(append) = fate(&letter) else {
            panic!("expected it to be re-submitted: {:?}", fate(&letter));
        };
        let header = ("content-type", content_type.as_bytes().to_vec());
        assert_eq!(append.headers, [header]);
    }
}

#[test]
fn a_partition_that_is_no_longer_there_gives_way_to_the_keys_own() {
    let mut gone = letter(0, "other_shop", &order("42", "CNY"));
    if let Origin::Record { partition, .. } = &mut gone.origin {
        *partition = 9;
    }
    let Fate::Submit(append) = fate(&gone) else {
        panic!("expected it to be re-submitted");
    };
    assert_eq!(append.to.partition, crate::load::partition_for(b"o1", 3));
}

fn session(log: &MemoryLog) -> Box<dyn Session> {
    log.open(&SessionSpec {
        group: "g".to_owned(),
        member: "g".to_owned(),
        topics: Vec::new(),
        start: Start::Earliest,
        low_latency: false,
    })
    .unwrap()
}

fn read(log: &MemoryLog, topic: &str, partition: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let at = TopicPartition::new(topic, partition);
    session(log)
        .read(&at, 0, u64::MAX, &mut |record| {
            let owned = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
            found.push((owned(record.key), owned(record.value)));
        })
        .unwrap();
    found
}

#[test]
fn what_goes_back_is_noted_with_it_and_goes_back_once() {
    let log = MemoryLog::new();
    for (name, partitions) in [("shop.orders", 3), (topic::REPLAYED, 1)] {
        let spec = TopicSpec {
            name: name.to_owned(),
            partitions,
            compacted: false,
            retention_ms: None,
        };
        log.ensure(&[spec]).unwrap();
    }
    let letters = [
        letter(3, "other_shop", &order("42", "CNY")),
        letter(4, "malformed", b"{"),
        letter(5, "other_shop", &order("42", "CNY")),
    ];
    let replay = || {
        let mut replayed = Replayed::default();
        for (key, _) in read(&log, topic::REPLAYED, 0) {
            replayed.note(&key);
        }
        let judge = Judge {
            config: &ingest(),
            replayed: &replayed,
            partitions: &partitions(),
            now_ms: NOW_MS,
        };
        let mut batch = Batch::default();
        for letter in &letters {
            if let Fate::Submit(append) = judge.fate(letter) {
                batch.add(letter, append);
            }
        }
        batch.submit(session(&log).as_mut()).unwrap();
    };
    replay();
    let expected = (b"o1".to_vec(), order("42", "CNY"));
    assert_eq!(read(&log, "shop.orders", 2), vec![expected; 2]);
    replay();
    assert_eq!(read(&log, "shop.orders", 2).len(), 2);
    assert_eq!(read(&log, topic::REPLAYED, 0).len(), 2);

    // The topic was made anew, and the same offset is another letter.
    let mut replayed = Replayed::default();
    for (key, _) in read(&log, topic::REPLAYED, 0) {
        replayed.note(&key);
    }
    assert!(replayed.has(&letters[0]));
    let mut anew = letters[0].clone();
    anew.at_ms += 1;
    assert!(!replayed.has(&anew));
}

#[test]
fn the_total_says_what_is_not_shown() {
    let counts = BTreeMap::from([("late".to_owned(), 2), ("malformed".to_owned(), 3)]);
    assert_eq!(total(&counts, 5), "5 dead letters: late 2, malformed 3\n");
    assert_eq!(
        total(&counts, 4),
        "5 dead letters, the newest 4 of them shown: late 2, malformed 3\n"
    );
    assert_eq!(total(&BTreeMap::new(), 0), "no dead letters\n");
}
