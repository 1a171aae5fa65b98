//! What a mapping may say, and what a person is told who says something else.

use super::*;

const ORDERS: &str = r#"
source = "shop/1"
currency = "GBP"
time = { format = "%Y-%m-%d %H:%M:%S", zone = "+08:00" }
[columns]
order_id = "InvoiceNo"
sku = "StockCode"
quantity = "Quantity"
time = "InvoiceDate"
unit_price = "UnitPrice"
buyer = "CustomerID"
[buyer]
salt = "0123456789abcdef"
[type]
skip_when = [{ column = "InvoiceNo", prefix = "A" }]
"#;

const PARCELS: &str = r#"
kind = "couriers"
source = "erp"
every = "1h"
encoding = "gb18030"
id = ["parcel_id", "status"]
[time]
format = "%Y-%m-%d %H:%M"
zone = "+08:00"
[time.of]
DELIVERED = "签收时间"
[columns]
parcel_id = "运单号"
status = "状态"
time = "更新时间"
[status]
"已签收" = "DELIVERED"
"草稿" = "SKIP"
"#;

#[test]
fn a_good_mapping_is_taken() {
    let mapping = Mapping::parse(ORDERS, "m.toml").unwrap();
    assert_eq!(mapping.offset.seconds(), 8 * 3600);
    assert_eq!(mapping.pack_units, 1);
    assert_eq!(mapping.skip_when[0].prefix, "A");
    assert_eq!(mapping.column(Field::Region), None);
    assert_eq!((mapping.kind, mapping.every_ms), (Kind::Orders, None));
    assert_eq!(mapping.id, [Field::OrderId]);

    let mapping = Mapping::parse(PARCELS, "m.toml").unwrap();
    assert_eq!(
        (mapping.kind, mapping.every_ms),
        (Kind::Couriers, Some(3_600_000))
    );
    assert_eq!(mapping.encoding, Some(Encoding::Gb18030));
    assert_eq!(mapping.id, [Field::ParcelId, Field::Status]);
    assert_eq!(mapping.statuses["已签收"], Some(10));
    assert_eq!(mapping.statuses["草稿"], None);
    assert_eq!(mapping.time_of, [(10, "签收时间".to_owned())]);
    assert_eq!(mapping.currency, "");
}

fn check(good: &str, cases: &[(&str, &str, &str)]) {
    for (old, new, expect) in cases {
        let text = good.replacen(old, new, 1);
        assert_ne!(text, good, "{old}");
        let error = Mapping::parse(&text, "m.toml").unwrap_err().to_string();
        assert!(error.contains(expect), "{new}: {error}");
    }
}

#[test]
fn a_bad_mapping_says_which_key_and_what_was_meant() {
    check(
        ORDERS,
        &[
            (
                "currency = ",
                "curency = ",
                r#"m.toml:3 has an unknown key curency; did you mean "currency"?"#,
            ),
            (
                "sku = ",
                "skus = ",
                r#"m.toml:7 has an unknown key columns.skus; did you mean "sku"?"#,
            ),
            (
                "prefix = ",
                "prefixx = ",
                "unknown key type.skip_when.prefixx; did you mean",
            ),
            (
                "\"GBP\"",
                "\"gbp\"",
                "m.toml:3: currency is \"gbp\"; expected three capitals",
            ),
            ("currency = \"GBP\"", "", "currency is \"\"; expected three"),
            ("%H:%M:%S", "%H", "time.format is \"%Y-%m-%d %H\""),
            ("%H:%M:%S", "%H:%M:%Q9", "time.format is"),
            ("+08:00", "Asia/Shanghai", "time.zone is \"Asia/Shanghai\""),
            (
                "salt = \"0123456789abcdef\"",
                "salt = \"\"",
                "m.toml:13: buyer.salt is \"\"",
            ),
            (
                "salt = \"0123456789abcdef\"",
                "salt = \"change-me\"",
                "`openssl rand -hex 32`",
            ),
            (
                "salt = \"0123456789abcdef\"",
                "salt = \"please-change_me-1234\"",
                "`openssl rand -hex 32`",
            ),
            (
                "salt = \"0123456789abcdef\"",
                "salt = \"aaaaaaaaaaaaaaaaaaaa\"",
                "`openssl rand -hex 32`",
            ),
            ("prefix = \"A\"", "prefix = \"\"", "no empty prefix"),
            ("source = \"shop/1\"", "", "is malformed"),
            ("\"StockCode\"", "\"\"", "m.toml:7: columns.sku is \"\""),
            (
                "sku = \"StockCode\"\n",
                "",
                "m.toml:5: columns.sku is \"\"; expected the name of a column: orders need it",
            ),
            (
                "source",
                "id = [\"order_id\", \"tiem\"]\nsource",
                "m.toml:2: id is \"tiem\"; expected one of",
            ),
            (
                "source",
                "kind = \"order\"\nsource",
                "kind is \"order\"; expected one of orders, inventory, couriers; did you mean \"orders\"?",
            ),
            (
                "[buyer]",
                "status = \"S\"\n[buyer]",
                "status is \"\"; expected the shop's words",
            ),
            (
                "[buyer]",
                "[status]\na = \"PAID\"\n[buyer]",
                "expected columns.status beside it",
            ),
        ],
    );
    check(
        PARCELS,
        &[
            (
                "\"DELIVERED\"",
                "\"DELIVRED\"",
                "m.toml:17: status.已签收 is \"DELIVRED\"; expected one of LABEL_CREATED",
            ),
            (
                "\"DELIVERED\"",
                "\"DELIVRED\"",
                "SKIP; did you mean \"DELIVERED\"?",
            ),
            (
                "DELIVERED = ",
                "DELIVRED = ",
                "m.toml:11 has an unknown key time.of.DELIVRED; did you mean \"DELIVERED\"?",
            ),
            (
                "\"1h\"",
                "\"1s\"",
                "m.toml:4: every is \"1s\"; expected a time",
            ),
            (
                "gb18030",
                "gbk",
                "m.toml:5: encoding is \"gbk\"; expected one of utf-8, gb18030, big5",
            ),
            (
                "parcel_id = ",
                "sku = ",
                "m.toml:13 has an unknown key columns.sku",
            ),
        ],
    );
}

#[test]
fn stock_needs_levels_or_a_movement() {
    let levels = r#"
kind = "inventory"
source = "erp"
time = { format = "%Y-%m-%d %H:%M", zone = "+08:00" }
columns = { sku = "s", time = "t", on_hand = "n" }
"#;
    let mapping = Mapping::parse(levels, "m.toml").unwrap();
    assert_eq!(mapping.id, [Field::Sku, Field::Time]);
    check(
        levels,
        &[
            ("on_hand", "available", "columns.on_hand is \"\""),
            ("on_hand", "delta", "columns.status is \"\""),
        ],
    );
}
