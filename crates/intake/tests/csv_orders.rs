//! A made CSV with each trap of real ones, against a naive count of the same rule.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use fenghuo_event::pb;
use fenghuo_intake::{CsvOrders, Error, Input, Item, Mapping, Messages, Rejected};

fn mapping() -> Mapping {
    let path = "../../deploy/mappings/uci-online-retail.toml";
    Mapping::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

const HEADER: &str =
    "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\r\n";

fn row(invoice: &str, sku: &str, quantity: &str, minute: u32, price: &str) -> String {
    let description = "\"RED, \"\"BIG\"\"\nLAMP\"";
    let time = format!("2010-12-01 {:02}:{:02}:00", 8 + minute / 60, minute % 60);
    format!("{invoice},{sku},{description},{quantity},{time},{price},17850.0,United Kingdom\r\n")
}

fn read_with(csv: &[u8], mapping: Mapping) -> Vec<Item> {
    let reader = Box::new(Cursor::new(csv.to_vec()));
    let orders = CsvOrders::new(reader, Arc::from("orders.csv"), mapping).unwrap();
    orders.collect::<Result<_, _>>().unwrap()
}

fn read(csv: &str) -> (Vec<pb::Order>, Vec<pb::Meta>, Vec<Rejected>) {
    let (mut orders, mut metas, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
    for item in read_with(csv.as_bytes(), mapping()) {
        match item {
            Item::Event { event, .. } => {
                metas.push(event.meta.unwrap());
                match event.body {
                    Some(pb::event::Body::Order(order)) => orders.push(order),
                    other => panic!("no order: {other:?}"),
                }
            }
            Item::Rejected(rejected) => rejects.push(rejected),
        }
    }
    (orders, metas, rejects)
}

/// The file of sixty-odd rows: whole orders, repeats, cancellations and every kind of bad row.
fn fixture() -> Vec<[String; 5]> {
    let mut rows = Vec::new();
    let mut add = |invoice: &str, sku: &str, quantity: &str, minute: u32, price: &str| {
        rows.push([invoice, sku, quantity, &minute.to_string(), price].map(str::to_owned));
    };
    for n in 0..40_u32 {
        let invoice = format!("5363{:02}", n / 4);
        add(
            &invoice,
            &format!("s{}", n % 7),
            &format!("{}", n % 5 + 1),
            n / 4,
            "2.55",
        );
    }
    add("600000", "84997a", "3", 20, "1.25");
    add("600000", "84997A", "3", 20, "1.25");
    add("600000", "84997a", "3", 20, "1.25");
    add("600001", "s1", "1", 21, "0.001");
    add("600001", "s1", "2", 21, "0");
    add("600001", "s1", "2", 22, "9.5");
    add("C60000", "84997a", "-2", 23, "1.25");
    add("C60000", "s1", "1", 23, "9.50");
    add("A60000", "B", "1", 24, "-11062.06");
    add("600002", "s2", "-5", 25, "1.00");
    add("600002", "s2", "0", 25, "1.00");
    add("600002", "s2", "1.5", 25, "1.00");
    add("600002", "s2", "4", 25, "1.00");
    add("600003", "s2", "4", 26, "-1.00");
    add("C60001", "s2", "-4", 26, "-1.00");
    add("600004", "", "4", 27, "1.00");
    add("600005", "s3", "9999999", 28, "1.00");
    add(" 600006", "s3 ", "1", 29, "1.00");
    add("600006", "s3", "1", 29, "1.00");
    add("c60006", "s3", "1", 29, "1.00");
    rows
}

#[test]
fn a_file_with_every_trap_gives_what_a_naive_count_gives() {
    let rows = fixture();
    let mut csv = HEADER.to_owned();
    // By sku, cancellations apart: lines, packs and minor units.
    let mut expect = BTreeMap::<(String, bool), (u64, i64, i64)>::new();
    let mut events = BTreeSet::new();
    for fields in &rows {
        let [invoice, sku, quantity, minute, price] = fields.each_ref().map(String::as_str);
        csv.push_str(&row(invoice, sku, quantity, minute.parse().unwrap(), price));
        let cancelled = invoice.starts_with('C');
        let Ok(packs) = quantity.parse::<i64>() else {
            continue;
        };
        let packs = if cancelled { packs.abs() } else { packs };
        let Ok(price) = price.parse::<f64>() else {
            continue;
        };
        let minor = (price * 100.0).round();
        let exact = (minor / 100.0 - price).abs() < 1e-9;
        if invoice.starts_with('A') || sku.is_empty() || !exact || price < 0.0 {
            continue;
        }
        if packs <= 0 || packs > 1_000_000 {
            continue;
        }
        events.insert((invoice.to_owned(), minute.to_owned()));
        let sums = expect.entry((sku.to_owned(), cancelled)).or_default();
        *sums = (sums.0 + 1, sums.1 + packs, sums.2 + packs * minor as i64);
    }

    let (orders, metas, rejects) = read(&csv);
    let mut got = BTreeMap::<(String, bool), (u64, i64, i64)>::new();
    for order in &orders {
        let cancelled = order.r#type == pb::order::Type::Cancelled as i32;
        assert!(cancelled || order.r#type == pb::order::Type::Paid as i32);
        for line in &order.lines {
            let price = line.unit_price.as_ref().unwrap();
            assert_eq!(price.currency_code, "GBP");
            let sums = got.entry((line.sku_id.clone(), cancelled)).or_default();
            *sums = (
                sums.0 + 1,
                sums.1 + line.quantity,
                sums.2 + line.quantity * price.minor_units,
            );
        }
    }
    assert_eq!(got, expect);
    assert_eq!(orders.len(), events.len());
    let ids: BTreeSet<&str> = metas.iter().map(|meta| meta.event_id.as_str()).collect();
    assert_eq!(ids.len(), orders.len(), "an event id came twice");
    // Rows are counted from 1, and each takes two lines: the description has a line break.
    assert!(ids.contains("536300@1") && ids.contains("536301@5") && ids.contains("600000@41"));

    let told: Vec<String> = rejects
        .iter()
        .map(|rejected| format!("{} {}", rejected.origin.line, rejected.reason))
        .collect();
    let expect = [
        r#"88 UnitPrice is "0.001"; expected an amount of GBP from 0 with up to 2 decimals"#,
        r#"100 Quantity is "-5"; expected a whole number from 1 to 1000000"#,
        r#"102 Quantity is "0"; expected a whole number from 1 to 1000000"#,
        r#"104 Quantity is "1.5"; expected a whole number from 1 to 1000000"#,
        r#"108 UnitPrice is "-1.00"; expected an amount of GBP from 0 with up to 2 decimals"#,
        r#"110 UnitPrice is "-1.00"; expected an amount of GBP from 0 with up to 2 decimals"#,
        r#"112 StockCode is ""; expected an id of 1 to 128 bytes without control characters"#,
        r#"114 Quantity is "9999999"; expected a whole number from 1 to 1000000"#,
    ];
    assert_eq!(told, expect);
}

/// Guards: dead letters had the buyer and every column that no mapping names as they stood.
#[test]
fn a_refused_row_has_the_columns_that_are_read_and_its_buyer_as_a_hash() {
    let good = row("1", "s", "1", 26, "2.55");
    let (orders, _, rejects) = read(&format!("{HEADER}{good}"));
    assert_eq!(rejects, []);
    let hash = &orders[0].buyer_id_hash;
    let bad = row("1", "s", "x", 26, "2.55");
    let (_, _, rejects) = read(&format!("{HEADER}{bad}{}", bad.replace("17850.0,", "")));
    let told: Vec<String> = rejects
        .iter()
        .map(|rejected| String::from_utf8(rejected.bytes.clone()).unwrap())
        .collect();
    let shown = format!("1,s,(hidden),x,2010-12-01 08:26:00,2.55,{hash},United Kingdom");
    assert_eq!(told, [shown, "(hidden)".to_owned()]);
    let columns = |at: usize| rejects[at].row.map(|row| row.columns);
    assert_eq!((columns(0), columns(1)), (Some(8), Some(7)));
}

#[test]
fn an_event_carries_time_buyer_and_region() {
    let (orders, metas, _) = read(&format!("{HEADER}{}", row("1", "s", "1", 26, "2.55")));
    let occurred_at = metas[0].occurred_at.as_ref().unwrap();
    assert_eq!((occurred_at.seconds, occurred_at.nanos), (1_291_191_960, 0));
    assert_eq!(metas[0].source, "uci/online-retail");
    assert_eq!(orders[0].ship_region, "United Kingdom");
    let hash = &orders[0].buyer_id_hash;
    assert_eq!(hash.len(), 32);
    assert!(!hash.contains("17850"));

    let salted = Mapping {
        buyer_salt: "other".to_owned(),
        ..mapping()
    };
    let csv = format!("{HEADER}{}", row("1", "s", "1", 26, "2.55"));
    let Item::Event { event, .. } = &read_with(csv.as_bytes(), salted)[0] else {
        panic!("rejected");
    };
    let Some(pb::event::Body::Order(order)) = &event.body else {
        panic!("no order")
    };
    assert_ne!(&order.buyer_id_hash, hash, "the salt makes no difference");

    let nobody = row("1", "s", "1", 26, "2.55").replace("17850.0", "");
    let (orders, ..) = read(&format!("{HEADER}{nobody}"));
    assert_eq!(orders[0].buyer_id_hash, "");
}

#[test]
fn another_encoding_in_unused_columns_does_no_harm_and_in_used_ones_is_told() {
    let mut csv = HEADER.as_bytes().to_vec();
    csv.extend_from_slice(b"1,s,CAF\xc9,1,2010-12-01 08:26:00,1.00,,UK\n");
    csv.extend_from_slice(b"2,caf\xe9,x,1,2010-12-01 08:26:00,1.00,,UK\n");
    csv.extend_from_slice(b"3,s,short\n");
    let items = read_with(&csv, mapping());
    let told: Vec<&str> = items
        .iter()
        .filter_map(|item| match item {
            Item::Rejected(rejected) => Some(rejected.reason.as_str()),
            Item::Event { .. } => None,
        })
        .collect();
    assert_eq!(
        told,
        [
            "StockCode is \"caf\u{fffd}\"; expected UTF-8",
            "3 fields; expected 8 as in the header"
        ]
    );
    assert_eq!(items.len(), 3);
}

#[test]
fn an_open_quote_ends_the_file_and_not_the_memory() {
    let mut csv = format!("{HEADER}{}1,\"", row("1", "s", "1", 26, "2.55")).into_bytes();
    csv.resize(csv.len() + 4 * 1024 * 1024, b'x');
    let reader = Box::new(Cursor::new(csv));
    let items: Vec<Result<Item, Error>> =
        CsvOrders::new(reader, Arc::from("orders.csv"), mapping())
            .unwrap()
            .collect();
    let error = items.last().unwrap().as_ref().unwrap_err();
    assert_eq!(error.to_string(), "orders.csv:4: cannot be read further");
    let source = std::error::Error::source(error).unwrap().to_string();
    assert!(source.contains("is a quote left open?"), "{source}");
}

#[test]
fn a_column_that_is_not_there_is_named_with_the_nearest() {
    let reader = Box::new(Cursor::new(HEADER.replace("StockCode", "Stockcode")));
    let error = CsvOrders::new(reader, Arc::from("orders.csv"), mapping())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "orders.csv has no column \"StockCode\", which the mapping names as columns.sku; \
         did you mean \"Stockcode\"?"
    );
}

#[test]
fn an_order_that_runs_past_the_lines_of_an_event_loses_only_what_is_over() {
    let mut csv = HEADER.to_owned();
    for _ in 0..4097 {
        csv.push_str("1,s,x,1,2010-12-01 08:26:00,1.00,,UK\n");
    }
    let (orders, _, rejects) = read(&csv);
    assert_eq!(orders[0].lines.len(), 4096);
    assert_eq!(rejects.len(), 1);
    assert_eq!(rejects[0].reason, "order \"1\" has more than 4096 lines");
}

#[test]
fn files_of_both_forms_become_messages() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("orders.csv");
    std::fs::write(
        &csv,
        format!("\u{feff}{HEADER}{}", row("1", "s", "1", 26, "2.55")),
    )
    .unwrap();
    let lines = folder.path().join("events.jsonl");
    let good = r#"{"meta":{"event_id":"e1","source":"s","occurred_at":"2026-11-11T12:00:00Z","recorded_at":"2026-11-11T12:00:01Z"},"order":{"type":"PAID","order_id":"o1","lines":[{"sku_id":"a","quantity":1}]}}"#;
    std::fs::write(&lines, format!("{good}\n{{\"meta\":\n")).unwrap();

    let messages = |input| -> Vec<_> {
        Messages::open(input)
            .unwrap()
            .collect::<Result<Vec<_>, _>>()
            .unwrap()
    };
    let from_csv = messages(Input::CsvOrders(csv, Box::new(mapping())));
    let message = from_csv[0].as_ref().unwrap();
    assert_eq!(
        (message.key.as_str(), message.at_ms),
        ("1", 1_291_191_960_000)
    );
    assert_eq!(message.content_type, "application/protobuf");

    let from_lines = messages(Input::JsonLines(lines));
    let message = from_lines[0].as_ref().unwrap();
    assert_eq!(
        (message.key.as_str(), message.at_ms),
        ("o1", 1_794_398_401_000)
    );
    assert_eq!(message.value, good.as_bytes());
    let rejected = from_lines[1].as_ref().unwrap_err();
    assert_eq!(rejected.origin.line, 2);
    assert!(
        rejected.reason.starts_with("malformed: "),
        "{}",
        rejected.reason
    );
}
