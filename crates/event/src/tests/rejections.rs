//! What is refused, and with which words.

use std::fmt::Write as _;

use super::{META, to_wire, with_body};
use crate::decode;

const ORDER: &str = r#""order":{"type":"PAID","order_id":"o1"}"#;

/// Holds the rejection of each message against the snapshot `name`; a message that is taken shows
/// as such.
fn snapshot(name: &str, messages: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let mut out = String::new();
    for (message, bytes) in messages {
        let verdict = match decode(&bytes, None) {
            Ok(_) => "accepted".to_owned(),
            Err(rejected) => rejected.to_string(),
        };
        let _ = writeln!(out, "{message}\n  {verdict}");
    }
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(name, out) });
}

fn text(message: impl Into<String>) -> (String, Vec<u8>) {
    let message = message.into();
    (message.clone(), message.into_bytes())
}

/// Without the meta that all of them have.
fn body(body: impl Into<String>) -> (String, Vec<u8>) {
    let body = body.into();
    let message = with_body(&body);
    (body, message.into_bytes())
}

#[test]
fn malformed_json() {
    snapshot(
        "malformed_json",
        [
            text(""),
            text("{"),
            text("[]"),
            text("{}"),
            text("null"),
            text(" 7"),
            text("{}{}"),
            text(r#"{"order":{"lines":[{"sku_id":"s1""#),
            text(r#"{"order":{"order_id":"o1",}}"#),
            text("{\"order\":{\"order_id\":\"o\n1\"}}"),
            text(r#"{"order":{"order_id":"\ud800"}}"#),
            ("not UTF-8".to_owned(), b"{\"x\":\"\xff\"}".to_vec()),
        ],
    );
}

#[test]
fn json_of_the_wrong_shape() {
    snapshot(
        "json_of_the_wrong_shape",
        [
            body(r#""order":[]"#),
            body(r#""order":{"type":"PAYED"}"#),
            body(r#""order":{"type":99}"#),
            body(r#""order":{"type":true}"#),
            body(r#""order":{"order_id":7}"#),
            body(r#""order":{"lines":{}}"#),
            body(r#""order":{"lines":[null]}"#),
            body(r#""order":{"lines":[{"sku_id":"s1","quantity":1},{"quantity":"two"}]}"#),
            body(r#""order":{"lines":[{"quantity":1.5}]}"#),
            body(r#""order":{"lines":[{"quantity":99999999999999999999}]}"#),
            body(r#""order":{"lines":[{"pack_units":3000000000}]}"#),
            body(r#""order":{"lines":[{"is_gift":"yes"}]}"#),
            body(r#""order":{"lines":[{"unit_price":12.5}]}"#),
            body(r#""order":{"ship_by":"tomorrow"}"#),
            body(r#""order":{"ship_by":1794398400}"#),
            body(r#""order":{"order_id":"o1","orderId":"o1"}"#),
            body(format!("{ORDER},{ORDER}")),
            body(format!("{ORDER},\"ops\":{{}}")),
            body(r#""visit":{"window":"1 minute"}"#),
            body(r#""supplier":{"scores":{"quality":"high"}}"#),
            body(r#""supplier":{"scores":{"quality":1,"quality":2}}"#),
            body(r#""plan":{"flash_offsets_s":[0,null]}"#),
            body(r#""custom":{"entity":{"machine":7}}"#),
            body(r#""custom":{"entity":["m7"]}"#),
            body(r#""custom":{"numbers":{"celsius":"hot"}}"#),
            body(r#""custom":{"numbers":{"celsius":null}}"#),
            body(r#""custom":{"texts":{"state":"a","state":"b"}}"#),
        ],
    );
}

#[test]
fn required_fields() {
    snapshot(
        "required_fields",
        [
            text(format!("{{{ORDER}}}")),
            text(format!("{{{META}}}")),
            text(format!("{{\"meta\":{{}},{ORDER}}}")),
            text(format!("{{\"meta\":{{\"event_id\":\"e1\"}},{ORDER}}}")),
            text(format!(
                "{{\"meta\":{{\"event_id\":\"e1\",\"source\":\"/s\"}},{ORDER}}}"
            )),
            body(r#""order":{"order_id":"o1"}"#),
            body(r#""order":{"type":"TYPE_UNSPECIFIED","order_id":"o1"}"#),
            body(r#""order":{"type":"PAID"}"#),
            body(r#""order":{"type":"PAID","order_id":"o1","lines":[{"quantity":1}]}"#),
            body(r#""inventory":{"type":"ADJUST"}"#),
            body(r#""inventory":{"type":"SNAPSHOT","sku_id":"s1"}"#),
            body(r#""courier":{"parcel_id":"p1"}"#),
            body(r#""feedback":{"kind":"CHAT"}"#),
            body(r#""visit":{"type":"PAGE_VIEW"}"#),
            body(r#""catalog":{"type":"UPSERT"}"#),
            body(r#""plan":{"type":"UPSERT","campaign_id":"d11"}"#),
            body(r#""plan":{"type":"PAUSED","campaign_id":"d11","skus":[{}]}"#),
            body(r#""supplier":{"type":"ASN"}"#),
            body(r#""ops":{"type":"HEARTBEAT"}"#),
            body(r#""custom":{}"#),
        ],
    );
}

#[test]
fn values_out_of_bounds() {
    let order = |rest: &str| {
        body(format!(
            r#""order":{{"type":"PAID","order_id":"o1",{rest}}}"#
        ))
    };
    let line = |rest: &str| order(&format!(r#""lines":[{{"sku_id":"s1",{rest}}}]"#));
    let plan = |rest: &str| {
        body(format!(
            r#""plan":{{"type":"PAUSED","campaign_id":"d11",{rest}}}"#
        ))
    };
    let meta = |rest: &str| {
        text(format!(
            r#"{{"meta":{{"event_id":"e1","source":"/s",{rest}}},{ORDER}}}"#
        ))
    };
    let custom = |rest: &str| body(format!(r#""custom":{{"name":"oven",{rest}}}"#));
    let named = |name: &str| body(format!(r#""custom":{{"name":"{name}"}}"#));
    let of = |map: &str, entries: usize, value: &str| {
        let entries: Vec<String> = (0..entries)
            .map(|at| format!("\"k{at}\":{value}"))
            .collect();
        custom(&format!("\"{map}\":{{{}}}", entries.join(",")))
    };
    let long = "x".repeat(129);
    snapshot(
        "values_out_of_bounds",
        [
            line(r#""quantity":0"#),
            line(r#""quantity":-1"#),
            line(r#""quantity":1000001"#),
            line(r#""quantity":1,"pack_units":-1"#),
            line(r#""quantity":1,"unit_price":{"minor_units":5}"#),
            line(r#""quantity":1,"unit_price":{"currency_code":"cny","minor_units":5}"#),
            line(r#""quantity":1,"unit_price":{"currency_code":"CNY","minor_units":-5}"#),
            line(
                r#""quantity":1,"list_price":{"currency_code":"CNY","minor_units":1000000000001}"#,
            ),
            line(
                r#""quantity":1000000,"unit_price":{"currency_code":"CNY","minor_units":1000001}"#,
            ),
            order(&format!("\"channel\":\"{long}\"")),
            order(r#""channel":"a\u0000b""#),
            order(r#""channel":"a\u007f""#),
            order(r#""channel":"eightlettersand\t""#),
            order(r#""channel":"烽火\u0085""#),
            order(r#""promotion_ids":["p1","p\n2"]"#),
            order(r#""ship_by":"1999-12-31T23:59:59Z""#),
            meta(r#""occurred_at":"2200-01-01T00:00:00Z""#),
            meta(r#""occurred_at":"2026-11-11T12:00:00Z","utc_offset_min":2000"#),
            body(r#""inventory":{"type":"ADJUST","sku_id":"s1","delta":-1000000000001}"#),
            body(r#""feedback":{"kind":"REVIEW","feedback_id":"f1","rating":6}"#),
            body(r#""feedback":{"kind":"REVIEW","feedback_id":"f1","sentiment":"NaN"}"#),
            body(r#""visit":{"type":"AGGREGATE","campaign_id":"d11","window":"-1s"}"#),
            body(r#""visit":{"type":"AGGREGATE","campaign_id":"d11","page_views":-1}"#),
            plan(r#""curve":[{"offset_s":60},{"offset_s":60}]"#),
            plan(r#""skus":[{"sku_id":"s1","curve":[{"offset_s":60,"units":-1}]}]"#),
            plan(r#""start":"2026-11-11T12:00:00Z","end":"2026-11-11T12:00:00Z""#),
            plan(r#""forecast_cv":1e13"#),
            plan(r#""currency_code":"RMB¥""#),
            body(r#""supplier":{"type":"PROFILE","supplier_id":"u1","scores":{"quality":101}}"#),
            named("Oven"),
            named("oven temperature"),
            named(&"o".repeat(64)),
            named(&"o".repeat(65)),
            named("0-9_.a"),
            of("entity", 16, "\"m\""),
            of("entity", 17, "\"m\""),
            of("numbers", 17, "1"),
            of("texts", 17, "\"m\""),
            of("texts", 65, "\"m\""),
            custom(r#""entity":{"Machine":"m7"}"#),
            custom(r#""entity":{"":"m7"}"#),
            custom(r#""numbers":{"1st":1}"#),
            custom(&format!(r#""texts":{{"{}":"a"}}"#, "k".repeat(48))),
            custom(&format!(r#""texts":{{"{}":"a"}}"#, "k".repeat(49))),
            custom(&format!(r#""entity":{{"machine":"{long}"}}"#)),
            custom(r#""entity":{"machine":"a\tb"}"#),
            custom(r#""numbers":{"celsius":"NaN"}"#),
            custom(r#""numbers":{"celsius":"-Infinity"}"#),
            custom(r#""numbers":{"celsius":1.1e12}"#),
            custom(r#""numbers":{"celsius":-1e12}"#),
            custom(&format!(r#""texts":{{"state":"{}"}}"#, "x".repeat(512))),
            custom(&format!(r#""texts":{{"state":"{}"}}"#, "x".repeat(513))),
        ],
    );
}

#[test]
fn wire_of_the_wrong_shape() {
    let hex = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let good = to_wire(&with_body(ORDER));
    let after = |name: &str, bytes: &[u8]| (name.to_owned(), [&good, bytes].concat());
    snapshot(
        "wire_of_the_wrong_shape",
        [
            hex("meta is a number", &[0x08, 0x01]),
            hex("length past the end", &[0x0a, 0x05, 0x0a]),
            hex(
                "length of 64 bits",
                &[
                    0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
                ],
            ),
            hex(
                "number over 64 bits",
                &[
                    0x12, 0x0b, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
                ],
            ),
            hex("number cut short", &[0x12, 0x02, 0x08, 0xff]),
            hex(
                "inner length past the outer end",
                &[0x0a, 0x02, 0x0a, 0x05, 1, 2, 3, 4, 5],
            ),
            hex("not UTF-8", &[0x0a, 0x04, 0x0a, 0x02, b'a', 0xff]),
            hex("unknown enum number", &[0x12, 0x02, 0x08, 0x63]),
            hex(
                "nanos out of range",
                &[0x0a, 0x08, 0x1a, 0x06, 0x10, 0x80, 0x94, 0xeb, 0xdc, 0x03],
            ),
            hex(
                "line with a string for a number",
                &[0x12, 0x04, 0x62, 0x02, 0x1a, 0x00],
            ),
            hex("wire type 7", &[0x0f]),
            hex("field number 0", &[0x02, 0x00]),
            after("a second body", &[0x52, 0x00]),
            after("the same body again", &[0x12, 0x00]),
            after("end of no group", &[0x7c]),
            after("end of another group", &[0x7b, 0x74]),
            after("group without an end", &[0x7b]),
        ],
    );
}
