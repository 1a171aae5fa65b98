//! The catalogue as a whole: what a shop's own file can say, and what it is told when it is wrong.

use fenghuo_event::decode;
use fenghuo_window::{Clock, Combiner, History};

use super::{Catalogue, File, OWN_ROWS_MAX, OWN_SIGNALS_OF_KIND_MAX};
use crate::entity::Entity;
use crate::estimator::{Seen, State};
use crate::fact::Facts;
use crate::kind::Kind;
use crate::program::Fold;
use crate::reading::ReadingState;

fn own(text: &str) -> Vec<File> {
    vec![File {
        name: "shop.toml".to_owned(),
        text: text.to_owned(),
    }]
}

/// Payments refused because of a coupon, by channel, on their share of all that were tried.
const COUPONS: &str = r#"
[[measure]]
name = "coupon_payment"
about = "Payments tried, and refused because of a coupon."
stream = "orders"
when = 'type in ["PAID", "PAYMENT_FAILED"]'
by = ["channel"]
keep = [{ pane = "10s", for = "15m" }, { pane = "1m", for = "3h" }]
columns.tried = { count = 'true' }
columns.refused = { count = 'type == "PAYMENT_FAILED" && error_code.startsWith("COUPON")' }

[[signal]]
name = "payment.coupon_refused"
title = { en = "Refused for a coupon" }
about = "share of payments that were refused because of a coupon"
unit = "share"
by = ["channel"]
judge = "10s"
estimate = { share = "coupon_payment.refused / coupon_payment.tried", window = "5m" }
show = { as = "percent", panel = "own" }

[[rule]]
name = "coupon-refused"
signal = "payment.coupon_refused"
page = [{ read = "lower", above = 0.2 }]
least_sample = 20
"#;

#[test]
fn the_built_in_catalogue_compiles() {
    if let Err(mistakes) = Catalogue::compile(&[]) {
        panic!("{mistakes}");
    }
}

/// An id follows from the definition of a measure: where one changes here, what was counted under
/// the old one is not gone on with.
#[test]
fn measures_keep_their_ids() {
    let catalogue = Catalogue::built_in();
    let ids: Vec<String> = catalogue
        .measures()
        .iter()
        .map(|measure| format!("{} {:08x}", measure.name, catalogue.id(measure.series)))
        .collect();
    insta::assert_snapshot!(ids.join("\n"));
}

#[test]
fn a_shops_own_share_is_counted_and_read() {
    let catalogue = Catalogue::compile(&own(COUPONS)).unwrap_or_else(|wrong| panic!("{wrong}"));
    let series = catalogue.series_of("coupon_payment");
    let (mut cells, mut facts) = (Combiner::new(7), Vec::new());
    for (number, (kind, error, channel)) in [
        ("PAID", "", "app"),
        ("PAYMENT_FAILED", "COUPON_EXPIRED", "app"),
        ("PAYMENT_FAILED", "CARD_DECLINED", "app"),
        ("PAYMENT_FAILED", "COUPON_USED", "live"),
        ("PLACED", "COUPON_USED", "live"),
        ("PAID", "", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let line = format!(
            r#"{{"meta":{{"event_id":"e{number}","source":"/s","occurred_at":"2026-11-11T12:00:03Z"}},
            "order":{{"type":"{kind}","order_id":"o{number}","channel":"{channel}","error_code":"{error}"}}}}"#
        );
        let event = decode(line.as_bytes(), None).unwrap();
        let mut out = Fold {
            cells: &mut cells,
            facts: &mut facts,
            late: false,
        };
        catalogue.program().fold(&event, &mut None, &mut out);
    }
    let counted: Vec<(String, Vec<i64>)> = cells
        .rows()
        .filter(|row| row.series == series.number)
        .map(|row| (row.entity.to_string(), row.values.to_vec()))
        .collect();
    let expected = [("channel=app", vec![3, 1]), ("channel=live", vec![1, 1])];
    assert_eq!(
        counted,
        expected.map(|(entity, values)| (entity.to_owned(), values))
    );

    let mut history = History::default();
    if let Some(row) = cells.rows().find(|row| row.series == series.number) {
        history.merge(series, row.start_ms, row.values);
    }
    let now_ms = 1_794_398_410_000;
    let signal = catalogue.signal("payment.coupon_refused").unwrap();
    let seen = Seen {
        entity: &Entity::one(Kind::CHANNEL, "app"),
        history: &history,
        series: catalogue.series(),
        facts: &Facts::default(),
        state: &State::new(),
        now_ms,
        begun_ms: i64::MIN,
        clock: Clock {
            closed_ms: now_ms,
            open_ms: now_ms,
        },
        short_ms: std::cell::Cell::new(0),
    };
    assert!(signal.estimator.applies(&seen));
    let reading = signal.estimator.read(&seen).reading;
    assert_eq!(
        (reading.state, reading.n, reading.value),
        (ReadingState::Ok, 3, 1.0 / 3.0)
    );
}

/// An order of many lines: skus are counted once, quantities each.
#[test]
fn an_order_counts_once_about_each_sku_however_many_lines_it_has() {
    let catalogue = Catalogue::built_in();
    for lines in [2, 40] {
        let lines: Vec<String> = (0..lines)
            .map(|at| {
                format!(
                    r#"{{"sku_id":"s{}","quantity":2,"unit_price":{{"currency_code":"CNY","minor_units":150}}}}"#,
                    at % 2
                )
            })
            .collect();
        let text = format!(
            r#"{{"meta":{{"event_id":"e","source":"/s","occurred_at":"2026-11-11T12:00:03Z"}},
            "order":{{"type":"PAID","order_id":"o","campaign_id":"c","lines":[{}]}}}}"#,
            lines.join(",")
        );
        let event = decode(text.as_bytes(), None).unwrap();
        let (mut cells, mut facts) = (Combiner::new(7), Vec::new());
        let mut out = Fold {
            cells: &mut cells,
            facts: &mut facts,
            late: false,
        };
        catalogue.program().fold(&event, &mut None, &mut out);
        let sold = catalogue.series_of("sold").number;
        let mut counted: Vec<(String, Vec<i64>)> = cells
            .rows()
            .filter(|row| row.series == sold)
            .map(|row| (row.entity.to_string(), row.values.to_vec()))
            .collect();
        counted.sort();
        let (all, half) = (lines.len() as i64, lines.len() as i64 / 2);
        let expected = [
            ("campaign=c", vec![1, 2 * all, 300 * all]),
            ("sku=s0", vec![1, 2 * half, 300 * half]),
            ("sku=s1", vec![1, 2 * half, 300 * half]),
        ];
        assert_eq!(
            counted,
            expected.map(|(entity, values)| (entity.to_owned(), values))
        );
    }
}

#[test]
fn a_changed_definition_is_another_measure_and_a_changed_word_is_not() {
    let id = |text: &str| {
        let catalogue = Catalogue::compile(&own(text)).unwrap_or_else(|wrong| panic!("{wrong}"));
        catalogue.id(catalogue.series_of("coupon_payment").number)
    };
    let first = id(COUPONS);
    assert_eq!(
        first,
        id(&COUPONS.replace("Payments tried", "What was tried"))
    );
    for (from, to) in [
        ("COUPON\"", "VOUCHER\""),
        ("\"15m\"", "\"20m\""),
        (
            "by = [\"channel\"]\nkeep",
            "by = [\"channel\", \"campaign\"]\nkeep",
        ),
    ] {
        assert_ne!(first, id(&COUPONS.replace(from, to)), "{from}");
    }
}

/// One change of a sound file each: what stood there, and what stands there now.
const BROKEN: [(&str, &str); 44] = [
    ("[[measure]]", "[[mesure]]"),
    ("[[measure]]", "[measure]"),
    ("name = \"coupon_payment\"", ""),
    ("name = \"coupon_payment\"", "name = \"Coupon\""),
    ("name = \"coupon_payment\"", "name = \"sold\""),
    ("name = \"coupon_payment\"", "name = 3"),
    (
        "about = \"Payments tried, and refused because of a coupon.\"",
        "",
    ),
    ("stream = \"orders\"", "stream = \"order\""),
    ("stream = \"orders\"", "stream = \"couriers\""),
    (
        "stream = \"orders\"",
        "stream = \"orders\"\nlife = \"parcel\"",
    ),
    ("when = 'type in", "when = 'tipe in"),
    ("\"PAYMENT_FAILED\"]'", "\"PAYMENT_FALED\"]'"),
    (
        "when = 'type in [\"PAID\", \"PAYMENT_FAILED\"]'",
        "when = 'quantity'",
    ),
    (
        "when = 'type in [\"PAID\", \"PAYMENT_FAILED\"]'",
        "when = 'total'",
    ),
    (
        "when = 'type in [\"PAID\", \"PAYMENT_FAILED\"]'",
        "wen = 'true'",
    ),
    ("by = [\"channel\"]\nkeep", "keep"),
    ("by = [\"channel\"]\nkeep", "by = []\nkeep"),
    ("by = [\"channel\"]\nkeep", "by = \"channel\"\nkeep"),
    ("by = [\"channel\"]\nkeep", "by = [\"chanel\"]\nkeep"),
    ("by = [\"channel\"]\nkeep", "by = [\"order_id\"]\nkeep"),
    ("by = [\"channel\"]\nkeep", "by = [\"buyer_id_hash\"]\nkeep"),
    (
        "by = [\"channel\"]\nkeep",
        "by = [\"channel\", \"channel\"]\nkeep",
    ),
    (
        "by = [\"channel\"]\nkeep",
        "by = [{ kind = \"way\", way = 'lines' }]\nkeep",
    ),
    (
        "keep = [{ pane = \"10s\", for = \"15m\" }, { pane = \"1m\", for = \"3h\" }]",
        "",
    ),
    (
        "{ pane = \"1m\", for = \"3h\" }",
        "{ pane = \"15s\", for = \"3h\" }",
    ),
    (
        "{ pane = \"10s\", for = \"15m\" }",
        "{ pane = \"10\", for = \"15m\" }",
    ),
    (
        "{ pane = \"1m\", for = \"3h\" }",
        "{ pane = \"1m\", for = \"300d\" }",
    ),
    (
        "{ pane = \"1m\", for = \"3h\" }",
        "{ cohort = \"1m\", for = \"3h\" }",
    ),
    (
        "keep = [{ pane = \"10s\", for = \"15m\" }, { pane = \"1m\", for = \"3h\" }]",
        "keep = \"levels\"",
    ),
    (
        "columns.tried = { count = 'true' }",
        "columns.tried = { count = 1 }",
    ),
    (
        "columns.tried = { count = 'true' }",
        "columns.tried = { sum = 'error_code' }",
    ),
    (
        "columns.tried = { count = 'true' }",
        "columns.tried = { sum = '1', min = '2' }",
    ),
    (
        "columns.tried = { count = 'true' }",
        "columns.tried = { set = '1', add = '0' }",
    ),
    (
        "error_code.startsWith(\"COUPON\")",
        "error_code.beginsWith(\"COUPON\")",
    ),
    (
        "name = \"payment.coupon_refused\"",
        "name = \"coupon_refused\"",
    ),
    ("name = \"payment.coupon_refused\"", "name = \"sales.pace\""),
    (
        "unit = \"share\"\nby = [\"channel\"]",
        "unit = \"share\"\nby = [\"campaign\"]",
    ),
    (
        "unit = \"share\"\nby = [\"channel\"]",
        "unit = \"share\"\nby = [\"chanel\"]",
    ),
    ("judge = \"10s\"", "judge = \"often\""),
    ("estimate = { share", "estimate = { shares"),
    (
        "coupon_payment.refused / coupon_payment.tried",
        "coupon_payment.refused",
    ),
    (
        "coupon_payment.refused / coupon_payment.tried",
        "coupon_payment.refsed / coupon_paiment.tried",
    ),
    ("window = \"5m\" }", "window = \"5h\" }"),
    ("show = { as = \"percent\"", "show = { as = \"percents\""),
];

#[test]
fn every_mistake_is_told_with_what_helps() {
    let mut told = String::new();
    for (from, to) in BROKEN {
        assert!(COUPONS.contains(from), "{from}");
        let text = COUPONS.replace(from, to);
        let wrong = match Catalogue::compile(&own(&text)) {
            Ok(_) => panic!("{from} as {to} was taken"),
            Err(mistakes) => mistakes,
        };
        told.push_str(&format!("{} => {}\n", from.trim(), to.trim()));
        for mistake in wrong.list {
            told.push_str(&format!("    {mistake}\n"));
        }
    }
    insta::assert_snapshot!(told);
}

#[test]
fn the_documented_example_is_sound() {
    let page = include_str!("../../../../deploy/docs/catalogue.md");
    let blocks = page.split("```toml\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
    let example = blocks.find(|block| block.starts_with("# coupons.toml"));
    let example = example.unwrap();
    let catalogue = Catalogue::compile(&own(example)).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(catalogue.signal("payment.coupon_refused").is_some());
}

/// The file over custom events that the documentation shows.
fn machines() -> &'static str {
    let page = include_str!("../../../../deploy/docs/catalogue.md");
    let blocks = page.split("```toml\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
    blocks
        .find(|block| block.starts_with("# machines.toml"))
        .unwrap()
}

/// What a file's measure counts of custom events, by entity.
fn counted(text: &str, measure: &str, events: &[&str]) -> Vec<(String, Vec<i64>)> {
    let catalogue = Catalogue::compile(&own(text)).unwrap_or_else(|wrong| panic!("{wrong}"));
    let (mut cells, mut facts) = (Combiner::new(7), Vec::new());
    for (number, custom) in events.iter().enumerate() {
        let line = format!(
            r#"{{"meta":{{"event_id":"e{number}","source":"/s","occurred_at":"2026-11-11T12:00:03Z"}},"custom":{{{custom}}}}}"#
        );
        let event = decode(line.as_bytes(), None).unwrap();
        let mut out = Fold {
            cells: &mut cells,
            facts: &mut facts,
            late: false,
        };
        catalogue.program().fold(&event, &mut None, &mut out);
    }
    let series = catalogue.series_of(measure).number;
    let mut counted: Vec<(String, Vec<i64>)> = cells
        .rows()
        .filter(|row| row.series == series)
        .map(|row| (row.entity.to_string(), row.values.to_vec()))
        .collect();
    counted.sort();
    counted
}

#[test]
fn custom_events_are_counted_about_what_they_name() {
    let found = counted(
        machines(),
        "oven",
        &[
            r#""name":"oven.temperature","entity":{"hall":"h1","machine":"m7"},"numbers":{"celsius":231.5}"#,
            r#""name":"oven.temperature","entity":{"hall":"h1","machine":"m7"},"numbers":{"celsius":-0.25}"#,
            r#""name":"oven.temperature","entity":{"machine":"m7","hall":"h2"},"numbers":{"celsius":260.04}"#,
            // Without a hall it counts for the machine alone, and without a machine for none.
            r#""name":"oven.temperature","entity":{"machine":"m8","hall":""},"numbers":{"celsius":250}"#,
            r#""name":"oven.temperature","entity":{"hall":"h1"},"numbers":{"celsius":300}"#,
            // Something else, and a reading without its number.
            r#""name":"oven.door","entity":{"machine":"m7"},"numbers":{"celsius":300}"#,
            r#""name":"oven.temperature","entity":{"machine":"m7"}"#,
        ],
    );
    // Told, hot, the sum in tenths of a degree, and the hottest.
    let expected = [
        ("hall=h1,machine=m7", vec![2, 0, 2_313, 2_315]),
        ("hall=h2,machine=m7", vec![1, 1, 2_600, 2_600]),
        ("machine=m7", vec![3, 1, 4_913, 2_600]),
        ("machine=m8", vec![1, 0, 2_500, 2_500]),
    ];
    assert_eq!(
        found,
        expected.map(|(entity, values)| (entity.to_owned(), values))
    );
}

#[test]
fn the_documented_custom_event_is_one() {
    let page = include_str!("../../../../deploy/docs/catalogue.md");
    let (_, rest) = page.split_once("```json\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let event = decode(example.as_bytes(), None).unwrap();
    assert_eq!(event.key(), "oven.temperature,h1,m7");
}

/// The built-in kinds, by their own names and from elsewhere.
#[test]
fn a_custom_measure_may_be_about_what_fenghuo_knows_itself() {
    let measure = |by: &str| {
        format!(
            "[[measure]]\nname = \"tick\"\nabout = \"Ticks.\"\nstream = \"custom\"\nby = {by}\n\
             keep = \"level\"\ncolumns.ticks = {{ count = 'true' }}\n"
        )
    };
    let event =
        r#""name":"tick","entity":{"channel":"live","sku":"s1","location":"w1","way":"app"}"#;
    for (by, expected) in [
        (r#"["channel"]"#, "channel=live"),
        (r#"["sku,location"]"#, "sku=s1,location=w1"),
        (
            r#"[{ kind = "channel", channel = 'entity.way' }]"#,
            "channel=app",
        ),
        (r#"[{ kind = "event", event = 'name' }]"#, "event=tick"),
        (r#"["shop"]"#, "shop"),
    ] {
        let found = counted(&measure(by), "tick", &[event]);
        assert_eq!(found, [(expected.to_owned(), vec![1])], "{by}");
    }
}

#[test]
fn every_mistake_about_custom_events_is_told_with_what_helps() {
    let mut told = String::new();
    for (from, to) in [
        ("stream = \"custom\"", "stream = \"customs\""),
        ("numbers.celsius > 250", "number.celsius > 250"),
        ("numbers.celsius > 250", "numbers.Celsius > 250"),
        (
            "name == \"oven.temperature\"",
            "nmae == \"oven.temperature\"",
        ),
        (
            "name == \"oven.temperature\"",
            "type == \"oven.temperature\"",
        ),
        (
            "sum = 'int(numbers.celsius * 10.0)'",
            "sum = 'numbers.celsius'",
        ),
        (
            "max = 'int(numbers.celsius * 10.0)'",
            "max = 'texts.celsius'",
        ),
        (
            "\"hall,machine\"]\nkeep",
            "{ kind = \"state\", state = 'texts.state' }]\nkeep",
        ),
        (
            "\"hall,machine\"]\nkeep",
            "{ kind = \"state\", state = 'numbers.state' }]\nkeep",
        ),
        (
            "\"hall,machine\"]\nkeep",
            "{ kind = \"state\", state = 'entty.state' }]\nkeep",
        ),
        (
            "\"hall,machine\"]\nkeep",
            "{ kind = \"id\", id = 'meta.event_id' }]\nkeep",
        ),
        ("\"hall,machine\"]\nkeep", "\"source\"]\nkeep"),
        ("\"hall,machine\"]\nkeep", "\"caller_hash\"]\nkeep"),
        ("oven.hot / oven.measured", "oven.hott / oven.measured"),
    ] {
        assert!(machines().contains(from), "{from}");
        let text = machines().replace(from, to);
        let wrong = match Catalogue::compile(&own(&text)) {
            Ok(_) => panic!("{from} as {to} was taken"),
            Err(mistakes) => mistakes,
        };
        told.push_str(&format!("{} => {}\n", from.trim(), to.trim()));
        for mistake in wrong.list {
            told.push_str(&format!("    {mistake}\n"));
        }
    }
    insta::assert_snapshot!(told);
}

/// Guards: a catalogue with as many measures and signals as one could write took the memory and the
/// pages of all others.
#[test]
fn what_a_shop_adds_is_bounded_by_event_and_by_kind() {
    let (measure, signal) = COUPONS.split_at(COUPONS.find("[[signal]]").unwrap());
    let named = |text: &str, at: usize| {
        let text = text.replace("coupon_payment", &format!("coupon{at}_payment"));
        text.replace("coupon_refused", &format!("coupon{at}_refused"))
    };
    let measures = |count: usize| {
        let text: String = (0..count).map(|at| named(measure, at)).collect();
        Catalogue::compile(&own(&text))
    };
    assert!(measures(OWN_ROWS_MAX).is_ok());
    let told = measures(OWN_ROWS_MAX + 1).unwrap_err().to_string();
    assert!(told.contains("more than 24 rows"), "{told}");
    let signals = |count: usize| {
        let signal = |at| signal.replace("coupon_refused", &format!("coupon{at}_refused"));
        let text: String = (0..count).map(signal).collect();
        Catalogue::compile(&own(&format!("{measure}{text}")))
    };
    assert!(signals(OWN_SIGNALS_OF_KIND_MAX).is_ok());
    let told = signals(OWN_SIGNALS_OF_KIND_MAX + 1).unwrap_err();
    let told = told.to_string();
    assert!(told.contains("about each kind of entity"), "{told}");
}
