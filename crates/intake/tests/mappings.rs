//! The mappings that are shipped, each with a small export, in each encoding.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use encoding_rs::{BIG5, GB18030};
use fenghuo_event::{Body, Event, Stream, decode, pb};
use fenghuo_intake::watch::{Folder, Seen, Settings, Watcher};
use fenghuo_intake::{Mapping, Message, Rejected};

struct One(Vec<u8>);

impl Folder for One {
    fn open(&self, _: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.0.clone())))
    }
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn shipped() -> Vec<Arc<Mapping>> {
    [
        "order-list",
        "stock-list",
        "parcel-list",
        "uci-online-retail",
    ]
    .map(|name| {
        let path = here("../../deploy/mappings").join(format!("{name}.toml"));
        // Whoever reads buyers sets a salt of his own.
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text
            .replace("#buyer = ", "buyer = ")
            .replace("#[buyer]", "[buyer]");
        let text = text.replace("#salt = \"…\"", "salt = \"0123456789abcdef\"");
        Arc::new(Mapping::parse(&text, &path.display().to_string()).unwrap())
    })
    .into()
}

/// What a file gives once it has rested; all shipped mappings are there.
fn read(bytes: Vec<u8>) -> (Vec<Message>, Vec<Rejected>) {
    let mut watcher = Watcher::new(Settings::new(shipped()));
    let seen = Seen {
        name: "export.csv".to_owned(),
        size_bytes: bytes.len() as u64,
        modified_ms: 1,
    };
    let folder = One(bytes);
    let (mut messages, mut rejected) = (Vec::new(), Vec::new());
    for now_ms in [0, 30_000] {
        loop {
            let batch = watcher.look(now_ms, std::slice::from_ref(&seen), &folder);
            assert!(batch.notices.is_empty(), "{:?}", batch.notices);
            messages.extend(batch.messages);
            rejected.extend(batch.rejected);
            if !batch.more {
                break;
            }
        }
    }
    (messages, rejected)
}

/// Reads a fixture in each encoding, and hands over each event; all have to say the same.
fn check(fixture: &str, stream: Stream, reasons: &[&str], each: &mut dyn FnMut(&Event<'_>)) {
    let text = std::fs::read_to_string(here("tests/fixtures").join(fixture)).unwrap();
    let gb = GB18030.encode(&text).0.into_owned();
    let marked = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let (messages, rejected) = read(text.clone().into_bytes());
    for other in [gb, marked.into_bytes()] {
        let (again, rejected_again) = read(other);
        assert_eq!(again, messages);
        let reasons = |all: &[Rejected]| -> Vec<String> {
            all.iter().map(|one| one.reason.clone()).collect()
        };
        assert_eq!(reasons(&rejected_again), reasons(&rejected));
    }
    // Characters that Big5 has not make another header, which fits nothing.
    assert!(BIG5.encode(&text).2);
    let told: Vec<String> = rejected
        .iter()
        .map(|one| format!("{} {}", one.origin.line, one.reason))
        .collect();
    assert_eq!(told, reasons);
    for message in &messages {
        assert_eq!(message.stream, stream);
        each(&decode(&message.value, Some(message.content_type.as_bytes())).unwrap());
    }
}

#[test]
fn an_order_list_gives_orders() {
    let mut orders = BTreeMap::new();
    let reasons = [
        "8 购买数量 is \"一\"; expected a whole number from 1 to 1000000",
        "9 订单状态 is \"已完成\"; expected one of 交易关闭, 交易成功, 已付款, 已发货, 已退款, 等待买家付款, 等待卖家发货, 草稿, 退款中",
    ];
    check("order-list.csv", Stream::Orders, &reasons, &mut |event| {
        let Body::Order(order) = &event.body else {
            panic!("no order");
        };
        let at = event.meta.occurred_at.unwrap().to_string();
        let lines = order.lines.iter();
        let lines: Vec<_> = lines
            .map(|line| {
                let price = line.unit_price.as_ref().unwrap();
                (line.sku_id.to_string(), line.quantity, price.minor_units)
            })
            .collect();
        let buyer = order.buyer_id_hash.len();
        let kind = order.r#type.as_str_name();
        let told = (kind, at, order.ship_region.to_string(), buyer, lines);
        assert!(orders.insert(order.order_id.to_string(), told).is_none());
        assert_eq!(order.paid_at.is_some(), order.order_id != "T1002");
    });
    let line = |sku: &str, quantity, minor| (sku.to_owned(), quantity, minor);
    let expect = [
        (
            "T1001",
            "PAID",
            "2026-11-10T16:01:10Z",
            "广东省",
            32,
            vec![line("SKU-1", 2, 1990), line("SKU-2", 1, 500)],
        ),
        (
            "T1002",
            "PLACED",
            "2026-11-10T16:00:04Z",
            "浙江省",
            32,
            vec![line("SKU-1", 1, 1990)],
        ),
        (
            "T1003",
            "CANCELLED",
            "2026-11-10T16:00:05Z",
            "北京市",
            0,
            vec![line("SKU-3", 1, 880)],
        ),
        (
            "T1004",
            "CONSIGNED",
            "2026-11-11T01:30:00Z",
            "北京市",
            32,
            vec![line("SKU-3", 1, 880)],
        ),
    ];
    let expect: BTreeMap<_, _> = expect
        .into_iter()
        .map(|(id, kind, at, region, buyer, lines)| {
            let at = at.to_owned();
            (id.to_owned(), (kind, at, region.to_owned(), buyer, lines))
        })
        .collect();
    assert_eq!(orders, expect);
}

#[test]
fn a_stock_list_gives_levels() {
    let mut levels = Vec::new();
    let reasons = ["5 实物库存 is \"\"; expected a whole number"];
    check(
        "stock-list.csv",
        Stream::Inventory,
        &reasons,
        &mut |event| {
            let Body::Inventory(stock) = &event.body else {
                panic!("no stock");
            };
            assert_eq!(stock.r#type, pb::inventory::Type::Snapshot);
            let at = event.meta.occurred_at.unwrap().to_string();
            assert_eq!(at, "2026-11-11T00:00:00Z");
            let given = stock.levels.as_ref().unwrap();
            let place = format!("{} {}", stock.sku_id, stock.location_id);
            let counts = [
                given.on_hand,
                given.committed,
                given.incoming,
                given.damaged,
            ];
            levels.push((place, counts));
        },
    );
    let expect = [
        ("SKU-1 华南仓", [120, 20, 0, 0]),
        ("SKU-1 华东仓", [30, 0, 200, 1]),
        ("SKU-2 华南仓", [-3, 0, 0, 0]),
    ];
    assert_eq!(
        levels,
        expect.map(|(place, counts)| (place.to_owned(), counts))
    );
}

#[test]
fn a_parcel_list_gives_steps() {
    let mut steps = Vec::new();
    let known = "已下单, 已取消, 已揽收, 已签收, 已退回, 异常, 待取件, 派送中, 派送失败, 丢失, 破损, 到达派件城市, 运输中, 退回中";
    let mut known: Vec<&str> = known.split(", ").collect();
    known.sort_unstable();
    let reason = format!(
        "5 物流状态 is \"清关中\"; expected one of {}",
        known.join(", ")
    );
    check(
        "parcel-list.csv",
        Stream::Couriers,
        &[&reason],
        &mut |event| {
            let Body::Courier(parcel) = &event.body else {
                panic!("no parcel");
            };
            let at = event.meta.occurred_at.unwrap();
            let lane = format!("{}>{}", parcel.origin_region, parcel.dest_region);
            let orders = parcel.order_ids.join(",");
            let promised = parcel.promised_by.is_some();
            let status = parcel.status.as_str_name();
            steps.push(format!(
                "{} {status} {at} {lane} {orders} {promised}",
                parcel.parcel_id
            ));
        },
    );
    assert_eq!(
        steps,
        [
            "SF1001 PICKED_UP 2026-11-11T02:00:00Z 广东省>广东省 T1001 true",
            "SF1002 DELIVERED 2026-11-12T01:12:13Z 北京市>北京市 T1004 false",
            "YT1003 IN_TRANSIT 2026-11-11T14:00:00Z 浙江省>四川省 T1002 false",
        ]
    );
}

#[test]
fn a_list_of_movements_gives_changes_of_stock() {
    let mapping = r#"
kind = "inventory"
source = "erp/movements"
time = { format = "%Y-%m-%d %H:%M", zone = "+08:00" }
id = ["sku", "time", "delta"]
[columns]
sku = "sku"
time = "at"
status = "kind"
delta = "n"
[status]
in = "RECEIPT"
out = "SHIP"
"#;
    let mapping = Arc::new(Mapping::parse(mapping, "m.toml").unwrap());
    let mut watcher = Watcher::new(Settings::new(vec![mapping]));
    let text = "sku,at,kind,n\na,2026-11-11 08:00,in,50\na,2026-11-11 08:00,out,-2\na,2026-11-11 08:00,out,-2\n";
    let seen = Seen {
        name: "m.csv".to_owned(),
        size_bytes: text.len() as u64,
        modified_ms: 1,
    };
    let batch = watcher.look(0, &[seen], &One(text.into()));
    let moves: Vec<_> = batch
        .messages
        .iter()
        .map(|message| {
            let event = decode(&message.value, Some(b"application/protobuf")).unwrap();
            let Body::Inventory(stock) = event.body else {
                panic!("no stock");
            };
            assert!(stock.levels.is_none());
            (stock.r#type, stock.delta)
        })
        .collect();
    use pb::inventory::Type;
    assert_eq!(
        moves,
        [(Type::Receipt, 50), (Type::Ship, -2), (Type::Ship, -2)]
    );
}
