//! Rules files, good and bad.

use std::fmt::Write as _;

use fenghuo_alert::{Alert, Origin, Rules, Severity, Side};
use fenghuo_signal::{Entity, Kind, Reading};

/// The signals of the built-in rules.
const SIGNALS: [&str; 11] = [
    "sales.pace",
    "sales.drought",
    "stock.available_to_promise",
    "stock.hours_of_cover",
    "stock.oversell",
    "price.floor",
    "ship.first_scan",
    "parcel.eta_breach",
    "review.negative_share",
    "source.silence",
    "source.lost",
];

/// A rule that is right, to which a test adds keys.
fn with(keys: &str) -> String {
    format!(
        "[[rule]]\nname = \"pace\"\nsignal = \"sales.pace\"\nwarn = [{{ read = \"value\", below = 0.8 }}]\n{keys}\n"
    )
}

#[test]
fn the_built_in_rules_are_valid_and_cover_every_signal_that_is_not_only_shown() {
    let rules = Rules::builtin(&SIGNALS).unwrap();
    for signal in SIGNALS {
        let count = rules.for_signal(signal).count();
        assert_eq!(
            count == 0,
            signal == "stock.available_to_promise",
            "{signal}"
        );
    }
    for rule in rules.iter() {
        assert!(
            rule.playbook.is_some() && rule.owner_role.is_some(),
            "{}",
            rule.name
        );
        assert!(!rule.inhibited_by.contains(&rule.signal), "{}", rule.name);
    }
}

#[test]
fn the_built_in_rules_fire_as_the_catalogue_says() {
    let campaign = Entity::one(Kind::CAMPAIGN, "d11");
    let sku = Entity::one(Kind::SKU, "A1");
    let pair = Entity::pair(Kind::WAREHOUSE_COURIER, "W1", "SF");
    let source = Entity::one(Kind::SOURCE, "shop.orders");
    let exact = Reading::exact;
    let warn = Some(Severity::Warn);
    let page = Some(Severity::Page);
    let table = [
        ("sales-pace-campaign", &campaign, exact(0.8, 30), None),
        ("sales-pace-campaign", &campaign, exact(0.79, 29), None),
        ("sales-pace-campaign", &campaign, exact(0.79, 30), warn),
        ("sales-pace-campaign", &campaign, exact(0.59, 30), page),
        (
            "sales-pace-sku",
            &sku,
            Reading {
                surprise: 6.1,
                ..exact(1.0, 1)
            },
            page,
        ),
        (
            "sales-pace-sku",
            &sku,
            Reading {
                surprise: 5.9,
                ..exact(0.1, 1)
            },
            None,
        ),
        ("sales-drought", &campaign, exact(1.01, 0), page),
        (
            "stock-cover",
            &sku,
            Reading {
                lower: 1.0,
                upper: 1e9,
                ..exact(1.9, 1)
            },
            warn,
        ),
        (
            "stock-cover",
            &sku,
            Reading {
                lower: -0.1,
                upper: 1e9,
                ..exact(4.0, 1)
            },
            warn,
        ),
        ("stock-cover", &sku, exact(0.9, 1), page),
        (
            "stock-oversell",
            &sku,
            Reading {
                lower: 0.0,
                ..exact(0.96, 1)
            },
            warn,
        ),
        (
            "stock-oversell",
            &sku,
            Reading {
                lower: 1.0,
                ..exact(1.01, 1)
            },
            page,
        ),
        ("price-floor", &sku, exact(1.0, 1), None),
        ("price-floor", &sku, exact(0.999, 1), page),
        (
            "ship-first-scan",
            &pair,
            Reading {
                lower: 0.03,
                upper: 0.0,
                ..exact(0.2, 20)
            },
            warn,
        ),
        (
            "ship-first-scan",
            &pair,
            Reading {
                lower: 0.06,
                upper: 0.0,
                ..exact(0.2, 19)
            },
            None,
        ),
        (
            "ship-first-scan",
            &pair,
            Reading {
                surprise: 7.0,
                upper: 0.0,
                ..exact(0.0, 50)
            },
            page,
        ),
        (
            "parcel-eta-breach",
            &campaign,
            Reading {
                lower: 0.16,
                ..exact(0.2, 50)
            },
            page,
        ),
        (
            "review-negative-share",
            &sku,
            Reading {
                lower: 2.1,
                ..exact(3.0, 20)
            },
            warn,
        ),
        ("source-lost", &source, exact(1.0, 1), page),
        ("source-lost", &source, exact(0.0, 0), None),
        (
            "source-silence",
            &Entity::one(Kind::SOURCE, "orders"),
            exact(181.0, 10),
            page,
        ),
    ];
    let rules = Rules::builtin(&SIGNALS).unwrap();
    for (name, entity, reading, expected) in table {
        let (_, rule) = rules.named(name).unwrap();
        assert!(rule.watches(entity), "{name} does not watch {entity}");
        let mut alert = Alert::default();
        alert.judge(rule, entity, &reading, 0, Origin::default());
        assert_eq!(alert.severity(), expected, "{name} at {reading:?}");
    }
}

#[test]
fn a_rule_is_read_with_its_defaults() {
    let rules = Rules::parse(
        "r.toml",
        &with(
            r#"page = [{ read = "surprise", above = 6, clear = 3, hold = "0s" }]
               where = { kind = ["sku", "sku,location"], sku = "A*" }
               hold = "1h30m"
               inhibited_by = "price.floor""#,
        ),
        &SIGNALS,
    );
    let rules = rules.unwrap();
    let rule = rules.get(0).unwrap();
    let [warn, page] = rule.limits.as_slice() else {
        panic!("{:?}", rule.limits)
    };
    assert_eq!(
        (warn.side, warn.at, warn.clear, warn.hold_ms),
        (Side::Below, 0.8, 0.8, 5_400_000)
    );
    assert_eq!(
        (page.side, page.at, page.clear, page.hold_ms),
        (Side::Above, 6.0, 3.0, 0)
    );
    assert_eq!((rule.keep_firing_ms, rule.least_sample), (0, 0));
    assert_eq!(rule.inhibited_by, ["price.floor"]);
    assert!(rule.watches(&Entity::pair(Kind::SKU_LOCATION, "A1", "SH")));
    assert!(!rule.watches(&Entity::one(Kind::SKU, "B1")));
}

#[test]
fn a_rule_of_the_same_name_takes_the_place_and_a_disabled_one_is_out() {
    let text = r#"
        [[rule]]
        name = "price-floor"
        enabled = false

        [[rule]]
        name = "sales-drought"
        signal = "sales.drought"
        page = [{ read = "value", above = 2 }]

        [[rule]]
        name = "pace-of-the-hero"
        signal = "sales.pace"
        where = { kind = "sku", sku = "HERO" }
        page = [{ read = "value", below = 0.5 }]
        inhibited_by = ["sales-drought", "source.silence"]
    "#;
    let builtin = Rules::builtin(&SIGNALS).unwrap();
    let rules = builtin.clone().with("mine.toml", text, &SIGNALS).unwrap();
    assert_eq!(rules.len(), builtin.len());
    assert_eq!(rules.for_signal("price.floor").count(), 0);
    let (_, drought) = rules.named("sales-drought").unwrap();
    assert_eq!((drought.limits.len(), drought.keep_firing_ms), (1, 0));
    for signal in SIGNALS {
        for (index, rule) in rules.for_signal(signal) {
            assert_eq!(rules.get(index), Some(rule));
            assert_eq!(rule.signal, signal);
        }
    }
    let indexed: usize = SIGNALS
        .iter()
        .map(|signal| rules.for_signal(signal).count())
        .sum();
    assert_eq!(indexed, rules.len());
}

#[test]
fn a_summary_is_rendered_in_plain_words() {
    let table = [
        (
            "{sku}: {value} of {n}, {severity}",
            "A\u{a0}1 x: 0.333 of 30, warn",
        ),
        (
            "{{{rule}}} {signal} {label.area}",
            "{pace} sales.pace sales",
        ),
        ("{read} {limit} {peak} {surprise}", "value 0.8 0.333 0"),
        ("{entity}", "sku=A\u{a0}1 x"),
        ("{lower}..{upper}", "0.25..1000000000"),
    ];
    for (template, expected) in table {
        let keys = format!(
            "summary = '{template}'\nlabels = {{ area = \"sales\" }}\nwhere = {{ kind = \"sku\" }}"
        );
        let rules = Rules::parse("r.toml", &with(&keys), &SIGNALS).unwrap();
        // A name with a line break must not break the line of a page.
        let entity = Entity::one(Kind::SKU, "A\u{a0}1\nx");
        let reading = Reading {
            lower: 0.25,
            upper: 1e9,
            ..Reading::exact(1.0 / 3.0, 30)
        };
        let rule = rules.get(0).unwrap();
        let step = Alert::default().judge(rule, &entity, &reading, 0, Origin::default());
        assert_eq!(step.unwrap().summary, expected, "{template}");
    }
}

/// Every mistake that a file can hold, each with its message.
#[test]
fn a_mistake_tells_the_line_what_was_expected_and_the_nearest_name() {
    let limit = |limit: &str| {
        format!("[[rule]]\nname = \"pace\"\nsignal = \"sales.pace\"\npage = [\n  {limit},\n]\n")
    };
    let second = "[[rule]]\nname = \"pace\"\nsignal = \"sales.pace\"\nwarn = []";
    let mistakes = [
        "[[rule]\nname = 1".to_owned(),
        "rule = 3".to_owned(),
        "[[rules]]\nname = \"x\"".to_owned(),
        "[[rule]]\nsignal = \"sales.pace\"".to_owned(),
        "[[rule]]\nnome = \"x\"".to_owned(),
        "[[rule]]\nname = \"Pace now\"".to_owned(),
        "[[rule]]\nname = \"pace\"\nwarn = []".to_owned(),
        "[[rule]]\nname = \"pace\"\nsignal = \"sales.pase\"".to_owned(),
        "[[rule]]\nname = \"pace\"\nsignal = \"weather\"".to_owned(),
        "[[rule]]\nname = \"pace\"\nsignal = \"sales.pace\"\nwarn = []".to_owned(),
        "[[rule]]\nname = \"pace\"\nsignal = \"sales.pace\"\nwarn = { read = \"value\" }"
            .to_owned(),
        "[[rule]]\nname = \"pase\"\nenabled = false".to_owned(),
        "[[rule]]\nname = \"pace\"\nenabled = \"no\"".to_owned(),
        with(second),
        with("keep_fireing = \"5m\""),
        with("hold = \"5 parsecs\""),
        with("hold = 5"),
        with("keep_firing = \"31d\""),
        with("least_sample = -1"),
        with("playbook = \"\""),
        with("labels = { area = 1 }"),
        with("labels = \"sales\""),
        with("inhibited_by = [\"source.silense\"]"),
        with("inhibited_by = [\"pace\"]"),
        with("where = \"campaign\""),
        with("where = { kind = \"campain\" }"),
        with("where = { kind = \"sku\", skus = \"A*\" }"),
        with("where = { kind = [\"sku\", \"campaign\"], sku = \"A*\" }"),
        with("where = { sku = 1 }"),
        with("summary = \"{valeu}\""),
        with("summary = \"{label.area}\"\nlabels = { aera = \"x\" }"),
        with("where = { kind = \"sku\" }\nsummary = \"{campaign}\""),
        with("summary = \"{value\""),
        with("summary = \"50 %}\""),
        limit("3"),
        limit("{ below = 0.6 }"),
        limit("{ read = \"median\", below = 0.6 }"),
        limit("{ read = \"valeu\", below = 0.6 }"),
        limit("{ read = \"value\" }"),
        limit("{ read = \"value\", below = 0.6, above = 1 }"),
        limit("{ read = \"value\", below = 0.6, clear = 0.5 }"),
        limit("{ read = \"value\", above = 0.6, clear = 0.7 }"),
        limit("{ read = \"value\", above = nan }"),
        limit("{ read = \"value\", above = \"6\" }"),
        limit("{ read = \"value\", bellow = 0.6 }"),
    ];
    let mut out = String::new();
    for text in mistakes {
        let error = Rules::parse("rules.toml", &text, &SIGNALS).expect_err(&text);
        writeln!(out, "{}\n    => {error}\n", text.trim()).unwrap();
    }
    insta::assert_snapshot!(out);
}

#[test]
fn the_number_of_rules_is_bounded() {
    let rule = |n: usize| with("").replace("\"pace\"", &format!("\"r{n}\""));
    let most: String = (0..Rules::COUNT_MAX).map(rule).collect();
    let rules = Rules::parse("r.toml", &most, &SIGNALS).unwrap();
    let error = rules.with("more.toml", &with(""), &SIGNALS).unwrap_err();
    assert_eq!(
        error.to_string(),
        "more.toml:1: rule \"pace\": rule is one more; expected at most 1000 rules"
    );
}
