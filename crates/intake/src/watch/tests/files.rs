//! What each kind of change to a folder gives.

use std::io::Write as _;

use encoding_rs::{BIG5, GB18030};

use super::*;

#[test]
fn an_order_is_sent_when_the_next_one_begins_or_the_file_has_rested() {
    let mut desk = Desk::new(&[MAPPING]);
    let mut text = format!("{HEADER}{}{}", row("1", "a", "1"), row("1", "b", "2"));
    desk.put("a.csv", &*text);
    desk.look();
    assert_eq!(desk.orders(), [""; 0]);
    text += &row("2", "a", "1");
    desk.put("a.csv", &*text);
    desk.look();
    assert_eq!(desk.orders(), ["1 PAID a*1 b*2"]);
    desk.now_ms += desk.settings.settle_ms - 1;
    desk.look();
    assert_eq!(desk.messages.len(), 1);
    desk.now_ms += 1;
    desk.look();
    assert_eq!(desk.orders(), ["1 PAID a*1 b*2", "2 PAID a*1"]);
    assert_eq!(desk.messages[0].origin.to_string(), "a.csv:2");
    assert_eq!(desk.messages[1].origin.to_string(), "a.csv:4");
    desk.rest();
    assert_eq!(desk.messages.len(), 2);
}

#[test]
fn a_changed_status_is_a_new_event_and_an_unchanged_one_the_same() {
    let mut desk = Desk::new(&[MAPPING]);
    let text = format!("{HEADER}{}{}", row("1", "a", "1"), row("2", "b", "2"));
    desk.put("10.csv", &*text);
    desk.rest();
    // In the middle, with as many bytes as before: nothing but the fingerprint of all tells it.
    let changed = text.replacen("已付款", "已取消", 1);
    assert_eq!(changed.len(), text.len());
    desk.put("10.csv", &*changed);
    desk.rest();
    assert_eq!(desk.messages.len(), 3);
    desk.put("11.csv", &*changed);
    desk.rest();
    assert_eq!(
        desk.orders(),
        ["1 CANCELLED a*1", "1 PAID a*1", "2 PAID b*2"]
    );
    assert_eq!(desk.reasons(), [""; 0]);
}

#[test]
fn rows_of_an_order_that_was_sent_are_named() {
    let mut desk = Desk::new(&[MAPPING]);
    let mut text = format!("{HEADER}{}", row("1", "a", "1"));
    desk.put("a.csv", &*text);
    desk.rest();
    text += &row("1", "b", "1");
    text += &row("2", "b", "1");
    desk.put("a.csv", &*text);
    desk.rest();
    let late = "a.csv:3 late_row: order \"1\" was sent before this row came; 1 of its rows were there then";
    assert_eq!(desk.reasons(), [late]);
    assert_eq!(desk.rejected[0].bytes, row("1", "b", "1").trim().as_bytes());
    // The same again, under two more names and newest first: nobody is told twice.
    desk.put("b.csv", &*text);
    let newest_first: Vec<String> = text
        .lines()
        .skip(1)
        .map(|line| format!("{line}\n"))
        .collect();
    let newest_first: String = newest_first.into_iter().rev().collect();
    desk.put("c.csv", format!("{HEADER}{newest_first}"));
    desk.rest();
    assert_eq!(desk.reasons(), [late]);
    assert_eq!(desk.orders(), ["1 PAID a*1", "2 PAID b*1"]);
}

/// Names, numbers and streets of people.
const PEOPLE: [&str; 4] = ["张三", "李四", "13800138000", "长安街"];

fn with_buyer() -> String {
    let read = "status = \"状态\"\nbuyer = \"买家\"\n";
    let text = MAPPING.replace("status = \"状态\"\n", read);
    let salt = "buyer.salt = \"0123456789abcdef\"\n";
    let skipped = "type.skip_when = [{ column = \"备注\", prefix = \"测试\" }]\n";
    format!("{salt}{skipped}{text}")
}

/// Guards: dead letters had names, numbers and streets as they stood, and lines of the log could.
#[test]
fn of_people_nothing_but_a_hash_leaves_with_a_refused_row() {
    let header = "订单,货号,数量,单价,时间,状态,买家,电话,地址,备注\n";
    let person = "张三,13800138000,长安街1号,李四收";
    let row = |quantity: &str| format!("1,a,{quantity},1.50,2026-11-11 10:00,已付款,{person}\n");
    let open = format!("2,a,1,1.50,2026-11-11 10:00,已付款,\"{person}\n");
    // A quote that is left open joins two rows, which have as many columns as one.
    let joined = format!("3,\"a,{person}\n{person},\"b,1,1.50,2026-11-11 10:00,已付款,{person}\n");
    let mut desk = Desk::new(&[&with_buyer()]);
    let rows = [
        row("1"),
        row("x"),
        row("1").replace(",长安街1号", ""),
        joined,
        row("1").replace("1,a", "4,a"),
        row("1"),
        open,
    ];
    desk.put("a.csv", format!("{header}{}", rows.concat()));
    desk.put("gb.csv", GB18030.encode(&format!("{header}{}", row("y"))).0);
    // Without a header, and with one that lacks a column.
    desk.put("none.csv", person.replace(',', "\n,"));
    desk.put("bare.csv", format!("{person}\n{person}\n"));
    desk.put(
        "lacks.csv",
        format!("{}{}", header.replace("买家", "买象"), row("1")),
    );
    desk.rest();
    let event = decode(&desk.messages[0].value, Some(b"application/protobuf")).unwrap();
    let Body::Order(order) = event.body else {
        panic!("no order")
    };
    let hash = order.buyer_id_hash.to_string();
    assert_eq!(hash.len(), 32);
    let told = |one: &Rejected| {
        let row = one.row.unwrap();
        let text = String::from_utf8(one.bytes.clone()).unwrap();
        (one.origin.to_string(), text, row.columns)
    };
    let shown = |quantity: &str| {
        let hidden = "(hidden),(hidden),(hidden)";
        format!("1,a,{quantity},1.50,2026-11-11 10:00,已付款,{hash},{hidden}")
    };
    let at = |line: &str, text: &str, columns| (line.to_owned(), text.to_owned(), columns);
    let mut found: Vec<_> = desk.rejected.iter().map(told).collect();
    found.sort();
    let joined = format!(
        "3,(hidden),1,1.50,2026-11-11 10:00,已付款,{hash}{}",
        ",(hidden)".repeat(3)
    );
    assert_eq!(
        found,
        [
            at("a.csv:3", &shown("x"), 10),
            at("a.csv:4", "(hidden)", 9),
            at("a.csv:5", &joined, 10),
            // The same order again, behind another.
            at("a.csv:8", &shown("1"), 10),
            at("a.csv:9", "(hidden)", 7),
            at("gb.csv:2", &shown("y"), 10),
        ]
    );
    let lines: Vec<String> = [desk.reasons(), desk.problems()].concat();
    assert_eq!(lines.len(), 6 + 3, "{lines:#?}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("did you mean \"买象\""))
    );
    for person in PEOPLE {
        let bytes = desk
            .rejected
            .iter()
            .map(|one| String::from_utf8_lossy(&one.bytes));
        let mut all = bytes.map(String::from).chain(lines.clone());
        assert!(
            all.all(|text| !text.contains(person)),
            "{person} in {lines:#?}"
        );
    }
}

#[test]
fn equal_rows_are_told_apart_by_their_number() {
    let mut desk = Desk::new(&[MAPPING]);
    let twice = [row("1", "a", "1"), row("1", "a", "1")].concat();
    desk.put("a.csv", format!("{HEADER}{twice}"));
    desk.rest();
    assert_eq!(desk.orders(), ["1 PAID a*1 a*1"]);

    let stock = r#"
kind = "inventory"
source = "stock"
time = { format = "%Y-%m-%d %H:%M", zone = "+08:00" }
columns = { sku = "s", time = "t", on_hand = "n" }
"#;
    let mut desk = Desk::new(&[stock]);
    let rows = "s,t,n\na,2026-11-11 10:00,5\na,2026-11-11 10:00,5\nb,2026-11-11 10:00,7\n";
    desk.put("a.csv", rows);
    desk.look();
    // A row of stock waits for nothing.
    assert_eq!(desk.messages.len(), 3);
    desk.put("b.csv", format!("{rows}a,2026-11-11 10:00,5\n"));
    desk.rest();
    let ids = desk.messages.iter().map(|message| {
        let event = decode(&message.value, Some(b"application/protobuf")).unwrap();
        event.meta.event_id.to_string()
    });
    let ids: Vec<String> = ids.collect();
    let a = &ids[0];
    assert_eq!(ids[1], format!("{a}#2"));
    assert_eq!((ids.len(), &*ids[3]), (4, &*format!("{a}#3")));
}

#[test]
fn a_last_line_without_its_end_waits_and_may_still_get_one() {
    let mut desk = Desk::new(&[MAPPING]);
    let whole = format!("{HEADER}{}", row("1", "a", "12"));
    let cut = whole.trim_end();
    desk.put("a.csv", &cut[..cut.len() - "款".len()]);
    desk.look();
    assert_eq!(desk.rejected.len(), 0);
    desk.put("a.csv", cut);
    desk.rest();
    assert_eq!(desk.orders(), ["1 PAID a*12"]);
    desk.put("a.csv", format!("{whole}{}", row("2", "b", "1")));
    desk.rest();
    assert_eq!(desk.orders(), ["1 PAID a*12", "2 PAID b*1"]);
    assert_eq!(desk.messages[1].origin.to_string(), "a.csv:3");
    assert_eq!(desk.reasons(), [""; 0]);
}

#[test]
fn a_line_that_goes_on_after_it_was_taken_is_named() {
    let mut desk = Desk::new(&[MAPPING
        .replace("status = \"状态\"", "")
        .split("[status]")
        .next()
        .unwrap()]);
    let header = "订单,货号,数量,时间,单价\n";
    desk.put("a.csv", format!("{header}1,a,1,2026-11-11 10:00,1.5"));
    desk.rest();
    assert_eq!(desk.messages.len(), 1);
    let text = format!("{header}1,a,1,2026-11-11 10:00,1.55\n2,b,1,2026-11-11 10:00,1\n");
    desk.put("a.csv", text);
    desk.rest();
    assert_eq!(desk.orders(), ["1 PAID a*1", "2 PAID b*1"]);
    assert!(desk.reasons()[0].starts_with("a.csv:2 late_row: order \"1\""));
    assert_eq!(desk.rejected.len(), 1);
}

#[test]
fn bad_rows_are_told_once_with_file_and_line() {
    let mut desk = Desk::new(&[MAPPING]);
    let text = format!(
        "{HEADER}{}1,a\n{}\"open,a,1,1.50,2026-11-11 10:00,已付款\n{}",
        row("1", "a", "x"),
        row("1", "a", "2"),
        row("2", "a", "3")
    );
    for name in ["a.csv", "b.csv", "c.csv"] {
        desk.put(name, &*text);
        desk.rest();
    }
    assert_eq!(
        desk.reasons(),
        [
            "a.csv:2 数量 is \"x\"; expected a whole number from 1 to 1000000",
            "a.csv:3 2 fields; expected 6 as in the header",
            "a.csv:5 the row is longer than 1048576 bytes, or a quote is left open",
        ]
    );
    assert_eq!(desk.orders(), ["1 PAID a*2", "2 PAID a*3"]);
}

#[test]
fn another_mapping_may_take_what_was_refused() {
    let mut desk = Desk::new(&[MAPPING]);
    let text = format!("{HEADER}{}", row("1", "a", "1").replace("已付款", "已成团"));
    desk.put("a.csv", &*text);
    desk.rest();
    assert_eq!(desk.rejected.len(), 1);
    assert!(desk.reasons()[0].ends_with("状态 is \"已成团\"; expected one of 已付款, 已取消"));
    let mended = format!("{MAPPING}\"已成团\" = \"GROUP_FORMED\"\n");
    desk.settings.mappings = vec![mapping(&mended)];
    desk.restart();
    desk.rest();
    assert_eq!(desk.orders(), ["1 GROUP_FORMED a*1"]);
    assert_eq!(desk.rejected.len(), 1);
}

#[test]
fn a_file_that_fits_no_mapping_or_two_is_named_once_and_left() {
    let mut desk = Desk::new(&[MAPPING, &MAPPING.replace("订单", "编号")]);
    desk.put("a.csv", "x,y\n1,2\n");
    desk.put("b.csv", format!("编号,{HEADER}"));
    desk.put("c.csv", "");
    desk.put("d.csv", [0xff, 0xd8, 0, b'\n', b'"']);
    desk.rest();
    desk.put("a.csv", "x,y\n1,2\n3,4\n");
    desk.rest();
    let problems = desk.problems();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(
        problems[0].starts_with("a.csv fits no mapping, and is left; map.toml: it has no column")
    );
    assert!(problems[1].starts_with("b.csv has the columns of map.toml and map.toml"));
    assert!(desk.messages.is_empty() && desk.kept.is_empty());
}

#[test]
fn encodings_are_named_or_told_apart_and_never_guessed() {
    let text = format!("{HEADER}{}", row("单1", "a", "1"));
    let gb = GB18030.encode(&text).0.into_owned();
    // The same names in traditional characters, which Big5 has.
    let traditional = |text: &str| {
        let pairs = [
            ("订单", "訂單"),
            ("货号", "貨號"),
            ("数量", "數量"),
            ("单价", "單價"),
        ];
        let pairs = pairs
            .into_iter()
            .chain([("时间", "時間"), ("状态", "狀態"), ("单1", "單1")]);
        pairs.fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    };
    let big5 = BIG5.encode(&traditional(&text)).0.into_owned();
    let traditional_map = traditional(MAPPING);
    let ascii_map = [
        "订单=id",
        "货号=sku",
        "数量=n",
        "单价=p",
        "时间=t",
        "状态=s",
    ]
    .into_iter()
    .fold(MAPPING.to_owned(), |map, pair| {
        let (from, to) = pair.split_once('=').unwrap();
        map.replace(&format!("\"{from}\""), &format!("\"{to}\""))
    });
    let ascii = |order: &str| format!("id,sku,n,p,t,s\n{}", row(order, "a", "1"));
    let ascii_gb = |order: &str| GB18030.encode(&ascii(order)).0.into_owned();
    let named = format!("encoding = \"gb18030\"\n{ascii_map}");
    let marked = [b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat();
    let one = "单1 PAID a*1";
    type Case<'a> = (&'a str, &'a str, Vec<u8>, Result<&'a str, &'a str>);
    let cases: &[Case<'_>] = &[
        ("utf-8", MAPPING, text.clone().into(), Ok(one)),
        ("utf-8 with a mark", MAPPING, marked, Ok(one)),
        ("gb18030 by the header", MAPPING, gb, Ok(one)),
        (
            "big5 by the header",
            &traditional_map,
            big5,
            Ok("單1 PAID a*1"),
        ),
        (
            "utf-8 by the text",
            &ascii_map,
            ascii("单1").into(),
            Ok(one),
        ),
        (
            "gb18030 by the text",
            &ascii_map,
            ascii_gb("𠮷"),
            Ok("𠮷 PAID a*1"),
        ),
        ("gb18030 by name", &named, ascii_gb("单1"), Ok(one)),
        (
            "both read it",
            &ascii_map,
            ascii_gb("单1"),
            Err("GB18030 and Big5 both read it; name its encoding in map.toml"),
        ),
        (
            "none reads it",
            &ascii_map,
            b"id,sku,n,p,t,s\ncaf\xe9\n".into(),
            Err("not in UTF-8"),
        ),
    ];
    for (name, mapping, bytes, expect) in cases {
        let mut desk = Desk::new(&[mapping]);
        // Byte by byte, as it is written: what is cut in a character is nobody's fault.
        let step = bytes.len().div_ceil(40);
        for end in (0..bytes.len()).step_by(step) {
            desk.put("a.csv", &bytes[..end]);
            desk.now_ms += 1_000;
            desk.look();
        }
        desk.notices.clear();
        desk.put("a.csv", bytes.clone());
        desk.rest();
        match expect {
            Ok(order) => {
                assert_eq!(desk.orders(), [*order], "{name}");
                assert_eq!(desk.reasons(), [""; 0], "{name}");
            }
            Err(problem) => {
                assert!(desk.messages.is_empty(), "{name}");
                let told = desk.problems();
                let again = told.is_empty() && desk.rejected.is_empty();
                assert!(again || told[0].contains(problem), "{name}: {told:?}");
            }
        }
    }
}

#[test]
fn gzip_is_unpacked_and_a_cut_archive_is_no_end() {
    let text = format!("{HEADER}{}{}", row("1", "a", "1"), row("2", "a", "1"));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let mut desk = Desk::new(&[MAPPING]);
    desk.put("a.csv.gz", &packed[..packed.len() - 10]);
    desk.rest();
    assert_eq!(desk.rejected.len(), 0);
    let problem = "a.csv.gz ends in the middle; is it still being copied?";
    assert_eq!(desk.problems(), [problem]);
    desk.put("a.csv.gz", packed);
    desk.rest();
    assert_eq!(desk.orders(), ["1 PAID a*1", "2 PAID a*1"]);
}

#[test]
fn a_file_that_goes_is_forgotten_unless_another_has_its_rows() {
    let mut desk = Desk::new(&[MAPPING]);
    let text = format!("{HEADER}{}{}", row("1", "a", "1"), row("2", "a", "1"));
    desk.put("a.csv", &*text);
    desk.put("other.csv", format!("{HEADER}{}", row("3", "a", "1")));
    desk.rest();
    desk.put("b.csv", format!("{HEADER}{}", row("1", "a", "1")));
    desk.remove("a.csv");
    desk.rest();
    assert_eq!((desk.watcher.rows(), desk.watcher.files()), (2, 2));
    desk.put("c.csv", &*text);
    desk.rest();
    let expect = ["1 PAID a*1", "2 PAID a*1", "2 PAID a*1", "3 PAID a*1"];
    assert_eq!(desk.orders(), expect);

    // An empty folder may be one that is out of reach.
    for name in ["b.csv", "c.csv", "other.csv"] {
        desk.remove(name);
    }
    desk.rest();
    assert_eq!(desk.watcher.files(), 3);
    desk.now_ms += EMPTY_MS;
    desk.look();
    assert_eq!((desk.watcher.rows(), desk.watcher.files()), (0, 0));
    assert!(desk.kept.is_empty(), "a tombstone is missing");
}

#[test]
fn an_export_that_takes_the_place_of_another_is_read_before_that_is_forgotten() {
    let mut desk = Desk::new(&[MAPPING]);
    let text = format!("{HEADER}{}{}", row("1", "a", "1"), row("2", "a", "1"));
    desk.put("10.csv", &*text);
    desk.rest();
    desk.remove("10.csv");
    // The next one is written slowly, with pauses longer than a file has to rest between looks.
    desk.put("11.csv", HEADER);
    desk.look();
    desk.now_ms += desk.settings.settle_ms - 1;
    desk.put("11.csv", &text[..text.len() - 20]);
    desk.look();
    desk.now_ms += desk.settings.settle_ms - 1;
    desk.put("11.csv", &*text);
    desk.look();
    desk.rest();
    assert_eq!(desk.orders(), ["1 PAID a*1", "2 PAID a*1"]);
    assert_eq!(desk.watcher.files(), 1);
}

#[test]
fn files_that_were_dealt_with_leave_their_places_to_others() {
    let mut settings = Settings::new(vec![mapping(MAPPING)]);
    settings.files_max = 2;
    let mut desk = Desk::with(settings);
    // Nothing in them, no rows, no columns that are known, rows that were read, no more than a part.
    for name in ["a1", "a2", "a3"] {
        desk.put(name, "");
        desk.put(&format!("b{name}"), HEADER);
        desk.put(&format!("c{name}"), "x;y\n");
        desk.put(
            &format!("d{name}"),
            format!("{HEADER}{}", row(name, "a", "1")),
        );
        desk.put(&format!("e{name}.gz"), &b"\x1f\x8b\x08"[..]);
    }
    desk.put("z.csv", format!("{HEADER}{}", row("z", "a", "1")));
    for _ in 0..10 {
        desk.rest();
    }
    let expect = ["a1 PAID a*1", "a2 PAID a*1", "a3 PAID a*1", "z PAID a*1"];
    assert_eq!(desk.orders(), expect);
    assert_eq!(desk.watcher.left(desk.now_ms), None);
    // What was read is known as long as it is there, also where it has no place.
    desk.put("again.csv", format!("{HEADER}{}", row("a1", "a", "1")));
    desk.restart();
    for _ in 0..10 {
        desk.rest();
    }
    assert_eq!(desk.orders(), expect);
}

#[test]
fn files_that_find_no_place_for_long_are_told() {
    let mut settings = Settings::new(vec![mapping(MAPPING)]);
    settings.files_max = 1;
    let mut desk = Desk::with(settings);
    for file in 0..FILES_PER_PLACE {
        desk.put(&format!("{file:02}"), "");
    }
    desk.put("z.csv", format!("{HEADER}{}", row("z", "a", "1")));
    // One after another they find a place, each for as long as a file has to rest.
    for _ in 0..4 {
        desk.rest();
        assert_eq!(desk.watcher.left(desk.now_ms), None);
    }
    for _ in 0..FILES_PER_PLACE {
        desk.rest();
    }
    assert_eq!(desk.watcher.left(desk.now_ms), Some(1));
    let told = desk.problems();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("z.csv is left, with 0 others"),
        "{told:?}"
    );
    desk.remove("00");
    desk.rest();
    desk.rest();
    assert_eq!(desk.orders(), ["z PAID a*1"]);
    assert_eq!(desk.watcher.left(desk.now_ms), None);
}

#[test]
fn too_many_rows_wait() {
    let mut settings = Settings::new(vec![mapping(MAPPING)]);
    settings.rows_max = 3;
    let mut desk = Desk::with(settings);
    let file = |order: &str| format!("{HEADER}{}{}", row(order, "a", "1"), row("x", "a", "1"));
    desk.put("a.csv", file("1"));
    desk.put("b.csv", file("2"));
    desk.rest();
    // The x of the second file is known, and yet a row of a file that has no room.
    assert_eq!(desk.orders(), ["1 PAID a*1", "2 PAID a*1", "x PAID a*1"]);
    let told = desk.problems();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("b.csv 3 rows are remembered, as many as may be"));
    desk.put("c.csv", file("3"));
    desk.remove("a.csv");
    desk.rest();
    desk.rest();
    // What could not be remembered may come again, under the same id.
    let expect = [
        "1 PAID a*1",
        "2 PAID a*1",
        "3 PAID a*1",
        "x PAID a*1",
        "x PAID a*1",
    ];
    assert_eq!(desk.orders(), expect);
    let mut again = desk.messages.iter().filter(|one| one.key == "x");
    let ids = (again.next().unwrap(), again.next().unwrap());
    assert_eq!(ids.0.value, ids.1.value);
    assert_eq!(desk.watcher.rows(), 3);
}

#[test]
fn a_large_file_is_not_read_again_at_once() {
    let mut desk = Desk::new(&[MAPPING]);
    desk.files
        .0
        .borrow_mut()
        .insert("a".to_owned(), (Vec::new(), 1));
    desk.look();
    let watched = desk.watcher.watched.get_mut("a").unwrap();
    watched.next_ms = desk.now_ms + 5_000;
    desk.put(
        "a",
        format!("{HEADER}{}{}", row("1", "a", "1"), row("2", "a", "1")),
    );
    desk.look();
    assert!(desk.messages.is_empty());
    desk.now_ms += 5_000;
    desk.look();
    assert_eq!(desk.messages.len(), 1);
}

#[test]
fn a_small_file_does_not_wait_until_a_large_one_is_read() {
    let mut desk = Desk::new(&[MAPPING]);
    let many: String = (0..400_000)
        .map(|n| row(&format!("l{n}"), "a", "1"))
        .collect();
    desk.put("large", format!("{HEADER}{many}"));
    let listing = desk.listing();
    assert!(desk.watcher.look(desk.now_ms, &listing, &desk.files).more);
    desk.put(
        "small",
        format!("{HEADER}{}{}", row("s1", "b", "1"), row("s2", "b", "1")),
    );
    let listing = desk.listing();
    let mut looks = 0;
    let is_small = |message: &Message| message.origin.file.as_ref() == "small";
    while !desk
        .watcher
        .look(desk.now_ms, &listing, &desk.files)
        .messages
        .iter()
        .any(is_small)
    {
        looks += 1;
        assert!(looks < 3, "it waits");
    }
    let (name, bytes) = desk.watcher.reading().next().unwrap();
    assert!(
        name == "large" && bytes < 16 << 20,
        "{bytes} bytes of it were read"
    );
}

#[test]
fn an_order_that_two_files_have_in_their_turns_is_sent_once() {
    let mut desk = Desk::new(&[MAPPING]);
    let many: String = (0..60_000)
        .map(|n| row(&format!("o{n}"), "a", "1"))
        .collect();
    desk.put("a", format!("{HEADER}{many}"));
    desk.put("b", format!("{HEADER}{many}"));
    desk.look();
    desk.rest();
    assert_eq!(desk.messages.len(), 60_000);
    assert_eq!(desk.rejected.len(), 0);
}

#[test]
fn a_file_of_which_too_much_has_no_row_is_named_once_and_left() {
    let mut desk = Desk::with(Settings {
        barren_bytes_max: 1 << 20,
        row_bytes_max: 1000,
        ..Settings::new(vec![mapping(MAPPING)])
    });
    for (name, filled) in [("blank", b'\n'), ("sparse", 0)] {
        let mut bytes = format!("{HEADER}{}", row("1", "a", "1")).into_bytes();
        bytes.resize(3 << 20, filled);
        desk.put(name, bytes);
    }
    desk.put(
        "good",
        format!("{HEADER}{}{}", row("g1", "a", "1"), row("g2", "a", "1")),
    );
    desk.look();
    desk.rest();
    let named: BTreeSet<&str> = desk.notices.iter().map(|notice| &*notice.file).collect();
    assert_eq!(named, BTreeSet::from(["blank", "sparse"]));
    assert!(
        desk.notices
            .iter()
            .all(|one| one.problem.contains("no row")),
        "{:?}",
        desk.notices
    );
    assert_eq!(desk.notices.len(), 2);
    let good = desk
        .messages
        .iter()
        .filter(|one| one.origin.file.as_ref() == "good");
    assert_eq!(good.count(), 2);
}
