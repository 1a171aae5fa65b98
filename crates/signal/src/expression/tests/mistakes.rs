//! Broken expressions and the words about them.

use std::fmt::Write as _;

use fenghuo_event::Stream;
use proptest::prelude::*;

use crate::expression::{EventExpression, EventSchema};

fn snapshot(name: &str, stream: Stream, sources: &[&str]) {
    let mut out = String::new();
    for source in sources {
        let shown: String = source.chars().take(100).collect();
        let verdict = match EventExpression::parse(source, &EventSchema(stream)) {
            Ok(expression) => format!("accepted as {}", expression.kind()),
            Err(errors) => errors.to_string().replace('\n', "\n  "),
        };
        let _ = writeln!(out, "{shown}\n  {verdict}");
    }
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(name, out) });
}

#[test]
fn broken_syntax() {
    let deep = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    let tall = format!("1 + {}1{}", "min(1, ".repeat(70), ")".repeat(70));
    let many = vec!["1"; 70].join(" + ");
    let wide = format!("order_id in [{}\"\"]", "\"a\", ".repeat(520));
    let long = "x".repeat(5_000);
    snapshot(
        "broken_syntax",
        Stream::Orders,
        &[
            "",
            "  ",
            "1 +",
            "(1 + 2",
            "1 2",
            "type = \"PAID\"",
            "has(paid_at) and has(placed_at)",
            "has(paid_at) & has(placed_at)",
            "\"PAID",
            "\"PA\\qID\"",
            "“PAID”",
            "2h",
            "99999999999999999999",
            "1e999",
            "1 < 2 < 3",
            "true ? 1",
            "[1, 2",
            "min(1 2)",
            "line..quantity",
            "channel.lower().size",
            "#",
            "in [1]",
            &deep,
            &tall,
            &many,
            &wide,
            &long,
        ],
    );
}

#[test]
fn unfit_names_and_types() {
    snapshot(
        "unfit_names_and_types",
        Stream::Orders,
        &[
            "eror_code == \"x\"",
            "quantity > 2",
            "line.quantiti * line.unit_prise",
            "levels.on_hand",
            "paid_at + 3",
            "placed_at + paid_at",
            "total + line.quantity",
            "total * line.unit_price",
            "total > 100",
            "total * 0.5",
            "type == \"PAYED\"",
            "type in [\"PAID\", \"PLACD\", \"XYZ\"]",
            "type == error_code",
            "type < \"PAID\"",
            "error_code == 3",
            "line.quantity && true",
            "!line.quantity",
            "line.is_gift < true",
            "line.is_gift > 0",
            "-placed_at",
            "-channel",
            "channel + \"x\"",
            "channel ? 1 : 2",
            "line.is_gift ? 1 : \"one\"",
            "line.is_gift ? paid_at : 0",
            "channel in []",
            "channel in \"app\"",
            "channel in [\"app\", 3]",
            "line.quantity in [1, line.pack_units]",
            "3 in promotion_ids",
            "promotion_ids",
            "lines",
            "[1, 2]",
            "promotion_ids.contains(\"p1\")",
            "channel.matches(\"a.*\")",
            "matches(channel, \"a.*\")",
            "channel.startswith(\"app\")",
            "startsWith(channel, \"app\")",
            "channel.contains(error_code)",
            "channel.startsWith()",
            "channel.startsWith(3)",
            "line.quantity.size()",
            "has(1)",
            "has(type, paid_at)",
            "has(payd_at)",
            "duration(\"2 hours\")",
            "duration(\"99999999999999d\")",
            "duration(5)",
            "minn(1, 2)",
            "min(1)",
            "min(total, 3)",
            "int(channel)",
            "abs(placed_at)",
            "total.minor_units + meta",
            "foo && bar || baz == \"x\" && channel < 3",
        ],
    );
    snapshot(
        "elements_of_two_lists",
        Stream::Plans,
        &[
            "sku.planned_units > courier.parcels_per_day",
            "skus.size() + couriers.size()",
        ],
    );
}

#[test]
fn unfit_names_of_custom_events() {
    let long = format!("numbers.{} > 1", "k".repeat(49));
    snapshot(
        "unfit_names_of_custom_events",
        Stream::Custom,
        &[
            "number.celsius > 3",
            "entty.machine == \"m7\"",
            "text.state == \"on\"",
            "numbers.Celsius > 3",
            "numbers.in-side > 3",
            "numbers.a.b > 3",
            "entity.7 == \"m\"",
            &long,
            "nam == \"oven\"",
            "type == \"oven\"",
            "celsius > 3",
            "has(number.celsius)",
            "numbers > 3",
            "entity",
            "\"m7\" in entity",
            "entity.machine > 3",
            "numbers.celsius == \"hot\"",
            "numbers.celsius && true",
            "texts.state + 1",
            "meta.sorce == \"a\"",
        ],
    );
}

/// Pieces of the language, in no order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "type",
        "line.quantity",
        "numbers.",
        "entity",
        "(",
        ")",
        "[",
        "]",
        "\"PAID\"",
        "1",
        "2.5",
        "==",
        "in",
        "&&",
        "!",
        "-",
        "?",
        ":",
        ".",
        "size",
        "has",
        ",",
        " ",
        "duration",
        "'",
        "\\",
        "烽",
        "lower()",
        "e",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_bring_the_parser_down(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        pieces in pieces(),
    ) {
        for source in [&*String::from_utf8_lossy(&bytes), &pieces] {
            for stream in [Stream::Orders, Stream::Custom] {
                if let Err(errors) = EventExpression::parse(source, &EventSchema(stream)) {
                    prop_assert!(!errors.0.is_empty());
                    prop_assert!(errors.0.iter().all(|error| error.at <= source.len()));
                }
            }
        }
    }
}
