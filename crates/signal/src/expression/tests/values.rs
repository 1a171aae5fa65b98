//! Expressions and their values for one event of a stream.

use fenghuo_event::Stream;
use fenghuo_event::schema::Scope;

use super::{event, parse, value, with_body};

const ORDER: &str = r#""order":{"type":"PAYMENT_FAILED","order_id":"o1","campaign_id":"d11","channel":"Paid:TikTok",
    "error_code":"COUPON_EXPIRED","promotion_ids":["p1","p2"],"total":{"currency_code":"CNY","minor_units":5000},
    "discount_total":{"currency_code":"CNY","minor_units":500},
    "placed_at":"2026-11-11T09:00:00Z","paid_at":"2026-11-11T11:30:00Z","group_size_needed":2,
    "lines":[{"sku_id":"s1","quantity":3,"unit_price":{"currency_code":"CNY","minor_units":1999}},
             {"sku_id":"s2","quantity":1,"is_gift":true}]}"#;

/// Holds the value of each expression, with the element of that number, against what is expected.
fn hold(stream: Stream, body: &str, element: usize, table: &[(&str, &str)]) {
    let json = with_body(body);
    let event = event(&json);
    for (source, expected) in table {
        let scope = Scope {
            event: &event,
            element,
        };
        let found = value(parse(stream, source), scope);
        assert_eq!(found, *expected, "{source}");
    }
}

#[test]
fn fields_of_an_order() {
    let table = [
        (r#"type == "PAYMENT_FAILED""#, "true"),
        (r#""PAID" == type"#, "false"),
        (r#"type != "PAID""#, "true"),
        (r#"type in ["PAID", "PAYMENT_FAILED"]"#, "true"),
        (r#"!(type in ["PAID", "PAYMENT_FAILED"])"#, "false"),
        ("type", r#""PAYMENT_FAILED""#),
        ("initiator", r#""PARTY_UNSPECIFIED""#),
        (r#"type.startsWith("PAY")"#, "true"),
        (r#"error_code.startsWith("COUPON")"#, "true"),
        (
            r#"error_code.endsWith("ED") && error_code.contains("_EX")"#,
            "true",
        ),
        ("line.quantity * line.unit_price", "5997"),
        ("line.sku_id", r#""s1""#),
        ("line.unit_price.currency_code", r#""CNY""#),
        ("has(line.unit_price) && !line.is_gift", "true"),
        (
            r#"has(paid_at) && paid_at - placed_at > duration("2h")"#,
            "true",
        ),
        (r#"paid_at - placed_at >= duration("2h30m1ms")"#, "false"),
        ("paid_at - placed_at", "9000000"),
        ("int(paid_at - placed_at) / 60000", "150"),
        ("(paid_at - placed_at) / duration(\"1h\")", "2.5"),
        ("ship_by", "0"),
        ("has(ship_by)", "false"),
        ("discount_total / total", "0.1"),
        ("float(discount_total) / float(refund_amount)", "0.0"),
        ("total - discount_total", "4500"),
        ("total > 0 && refund_amount == 0", "true"),
        (r#""p2" in promotion_ids"#, "true"),
        (
            r#""P2" in promotion_ids || "P2".lower() in promotion_ids"#,
            "true",
        ),
        ("promotion_ids.size() + lines.size()", "4"),
        ("channel.lower()", r#""paid:tiktok""#),
        (
            r#"channel.lower() == "paid:tiktok" && channel != "paid:tiktok""#,
            "true",
        ),
        (r#"channel.lower().startsWith("paid:")"#, "true"),
        (r#"channel.lower() in ["app", "paid:tiktok"]"#, "true"),
        (
            r#"channel.lower().contains("d:t") && !channel.contains("d:t")"#,
            "true",
        ),
        (r#"channel < "app""#, "true"),
        ("meta.source", r#""/shop/42""#),
        ("occurred_at", "1794398400000"),
        ("recorded_at - meta.occurred_at", "3000"),
        ("meta.synthetic", "false"),
        ("group_size_needed <= 2 ? 1 : 0", "1"),
        ("has(group_size_needed) ? group_size_needed : 1.5", "2.0"),
    ];
    hold(Stream::Orders, ORDER, 0, &table);
}

#[test]
fn another_element_has_values_of_its_own() {
    let second = [
        ("line.quantity", "1"),
        ("line.is_gift", "true"),
        ("has(line.unit_price)", "false"),
        ("line.quantity * line.unit_price", "0"),
        ("lines.size()", "2"),
    ];
    hold(Stream::Orders, ORDER, 1, &second);
    let none = [("line.quantity", "0"), ("line.sku_id", r#""""#)];
    hold(Stream::Orders, ORDER, 2, &none);
}

#[test]
fn fields_of_other_streams() {
    hold(
        Stream::Inventory,
        r#""inventory":{"type":"SNAPSHOT","sku_id":"s1","levels":{"available":-3,"on_hand":40}}"#,
        0,
        &[
            ("levels.on_hand", "40"),
            ("abs(levels.available)", "3"),
            ("has(levels) && !has(levels.damaged)", "true"),
            ("-levels.available % 2 == 1", "true"),
        ],
    );
    hold(
        Stream::Feedback,
        r#""feedback":{"kind":"REVIEW","feedback_id":"f1","rating":1,"dsr_service":4.1,"text":"漏发了"}"#,
        0,
        &[
            ("rating <= 2 ? 1 : 0", "1"),
            // 4.1 is not what a float of 32 bits holds; the literal is rounded to what is.
            ("dsr_service == 4.1 && 4.1 >= dsr_service", "true"),
            ("dsr_service in [4.1, 5]", "true"),
            ("dsr_service > 4", "true"),
            ("dsr_described / 0.0", "0.0"),
            ("text.size()", "3"),
            (r#"phase == "PHASE_UNSPECIFIED" && !has(phase)"#, "true"),
            (r#"(has(phase) ? phase : kind) == "REVIEW""#, "true"),
        ],
    );
    hold(
        Stream::Visits,
        r#""visit":{"type":"AGGREGATE","campaign_id":"d11","window":"60s","page_views":900}"#,
        0,
        &[
            ("window == duration(\"1m\")", "true"),
            ("window in [duration(\"1m\"), duration(\"1h\")]", "true"),
            ("page_views * 60000 / int(window)", "900"),
        ],
    );
    hold(
        Stream::Suppliers,
        r#""supplier":{"type":"ASSESSMENT","supplier_id":"u1","scores":{"quality":88.5}}"#,
        0,
        &[
            ("scores.size()", "1"),
            ("has(scores)", "true"),
            ("scores.quality", "88.5"),
            ("scores.finance", "0.0"),
            ("has(scores.quality) && !has(scores.finance)", "true"),
        ],
    );
}

#[test]
fn a_custom_event_is_read_by_whatever_keys_it_has() {
    let body = r#""custom":{"name":"oven.temperature","entity":{"machine":"M7","hall":""},
        "numbers":{"celsius":231.5,"offset":0,"big":1e12},"texts":{"state":"Heating","note":""}}"#;
    let table = [
        (r#"name == "oven.temperature""#, "true"),
        (r#"name.startsWith("oven.")"#, "true"),
        (r#"name in ["oven.temperature", "oven.door"]"#, "true"),
        ("entity.machine", r#""M7""#),
        (r#"entity.machine.lower() == "m7""#, "true"),
        ("entity.line", r#""""#),
        ("numbers.celsius", "231.5"),
        ("numbers.celsius > 230 && numbers.celsius < 231.6", "true"),
        ("numbers.kelvin", "0.0"),
        ("numbers.celsius / numbers.offset", "0.0"),
        ("int(numbers.celsius * 10.0)", "2315"),
        ("int(numbers.big * 1e12)", "9223372036854775807"),
        ("-numbers.celsius % 1", "-0.5"),
        ("texts.state", r#""Heating""#),
        ("texts.state.size() + texts.none.size()", "7"),
        // An entry that is 0 or "" is there all the same.
        ("has(numbers.offset) && !has(numbers.kelvin)", "true"),
        ("has(entity.hall) && !has(entity.line)", "true"),
        ("has(texts.note) && !has(texts.none)", "true"),
        ("has(entity) && has(numbers) && has(texts)", "true"),
        ("entity.size() + numbers.size() + texts.size()", "7"),
        ("has(name) ? meta.source : texts.in", r#""/shop/42""#),
        ("recorded_at - occurred_at", "3000"),
    ];
    hold(Stream::Custom, body, 0, &table);
    let bare = r#""custom":{"name":"tick"}"#;
    let none = [
        ("has(entity) || has(numbers.celsius)", "false"),
        ("numbers.celsius", "0.0"),
        ("entity.machine", r#""""#),
        ("numbers.size()", "0"),
    ];
    hold(Stream::Custom, bare, 0, &none);
    // Of another stream's event, too.
    let json = with_body(ORDER);
    let order = event(&json);
    let celsius = parse(Stream::Custom, "numbers.celsius + 1.0");
    assert_eq!(value(celsius, Scope::new(&order)), "1.0");
}

#[test]
fn what_is_read_of_a_map_is_told_by_its_path() {
    let read = parse(
        Stream::Custom,
        r#"has(numbers.ms) && (name == "x" || numbers.ms > 1 || entity.machine == "m")"#,
    );
    let fields: Vec<_> = read.fields().collect();
    assert_eq!(fields, ["numbers.ms", "name", "entity.machine"]);
    assert!(!read.uses_element());
}

#[test]
fn every_expression_has_a_value() {
    let table = [
        ("9223372036854775807 + 1", "9223372036854775807"),
        ("-9223372036854775808 - 1", "-9223372036854775808"),
        ("-9223372036854775808 / -1", "9223372036854775807"),
        ("-9223372036854775808 % -1", "0"),
        ("abs(-9223372036854775808)", "9223372036854775807"),
        ("9223372036854775807 * line.quantity", "9223372036854775807"),
        ("line.quantity / 0 + line.quantity % 0", "0"),
        ("-7 / 2", "-3"),
        ("-7 % 2", "-1"),
        ("0.0 / 0.0", "0.0"),
        ("1e308 * 10.0", "1.7976931348623157e308"),
        ("-1e308 * (line.quantity * 10.0)", "-1.7976931348623157e308"),
        ("int(1e300)", "9223372036854775807"),
        ("int(-2.9)", "-2"),
        ("int(true) + int(line.is_gift)", "1"),
        ("min(3, 2) + max(1.5, 2)", "4.0"),
        ("1 + 2 * 3 - 4 / 2", "5"),
        ("(1 + 2) * 3", "9"),
        ("10 - 3 - 2", "5"),
        ("true || false && false", "true"),
        ("false ? 1 : true ? 2 : 3", "2"),
        ("!true == false", "true"),
        ("- - 3", "3"),
        (r#""a\"b\\" == 'a"b\\'"#, "true"),
        (r#""é" > "z""#, "true"),
        ("1.5e3 == 1500", "true"),
        (r#"duration("1d") == duration("23h59m59s1000ms")"#, "true"),
    ];
    hold(Stream::Orders, ORDER, 0, &table);
}

#[test]
fn what_a_constant_expression_reads_is_nothing() {
    let folded = parse(
        Stream::Orders,
        r#"true || line.quantity > 2 && type == "PAID""#,
    );
    assert_eq!(folded.always(), Some(true));
    assert_eq!(folded.fields().count(), 0);
    assert!(!folded.uses_element());
    let read = parse(
        Stream::Orders,
        "occurred_at - meta.occurred_at < placed_at - paid_at",
    );
    let fields: Vec<_> = read.fields().collect();
    assert_eq!(fields, ["meta.occurred_at", "placed_at", "paid_at"]);
}

#[test]
fn the_body_of_another_stream_reads_as_nothing_given() {
    let json = with_body(ORDER);
    let event = event(&json);
    let scope = Scope::new(&event);
    for (source, expected) in [
        ("levels.on_hand", "0"),
        ("has(sku_id)", "false"),
        ("type", r#""TYPE_UNSPECIFIED""#),
    ] {
        assert_eq!(value(parse(Stream::Inventory, source), scope), expected);
    }
}
