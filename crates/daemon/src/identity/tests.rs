//! What settles a shop, what does not, and how it is corrected.

use fenghuo_intake::body::{Form, Limits, messages};
use fenghuo_log::memory::MemoryLog;

use super::*;

fn json(shop: &str, currency: &str, zone: &str) -> String {
    format!(
        r#"{{"meta":{{"event_id":"1","source":"erp","shop_id":{shop:?},
            "occurred_at":"2026-11-11T20:00:00{zone}"}},
           "order":{{"type":"PAID","order_id":"1","lines":[{{"sku_id":"a","quantity":1,
            "unit_price":{{"currency_code":{currency:?},"minor_units":100}}}}]}}}}"#
    )
}

fn admit(identity: &Identity, text: &str) -> Result<(), Foreign> {
    let limits = Limits {
        body_bytes_max: 10_000,
        events_max: 1,
        event_bytes_max: 10_000,
    };
    let messages = messages(Form::Json, text.as_bytes(), &"test".into(), limits).unwrap();
    identity.admit(messages[0].as_ref().unwrap())
}

#[test]
fn the_first_event_says_what_shop_it_is_and_the_log_keeps_it() {
    let log = MemoryLog::new();
    let identity = Identity::restore(Known::default(), &log).unwrap();
    assert_eq!(identity.known(), Known::default());
    admit(&identity, &json("42", "JPY", "+09:00")).unwrap();
    let known = Known {
        shop: Some("42".to_owned()),
        currency: Some("JPY".to_owned()),
        utc_offset_min: Some(540),
    };
    assert_eq!(identity.known(), known);
    for (shop, currency, word) in [("43", "JPY", "other_shop"), ("42", "CNY", "other_currency")] {
        let refused = admit(&identity, &json(shop, currency, "Z"));
        assert_eq!(refused.unwrap_err().0, word);
    }
    admit(&identity, &json("", "JPY", "-03:30")).unwrap();
    assert_eq!(identity.known(), known);

    let record = identity.unkept().unwrap();
    log.append(vec![record.clone()]).unwrap();
    identity.kept(&record);
    assert_eq!(identity.unkept(), None);
    let again = Identity::restore(Known::default(), &log).unwrap();
    assert_eq!(again.known(), known);
    // What the config says goes before.
    let told = Known {
        currency: Some("CNY".to_owned()),
        ..Known::default()
    };
    let again = Identity::restore(told, &log).unwrap();
    assert_eq!(again.known().currency.as_deref(), Some("CNY"));
}

#[test]
fn a_folder_learns_what_its_config_leaves_open() {
    for (text, said) in [
        ("", (None, None)),
        ("shop.currency = \"JPY\"", (Some("JPY"), None)),
        ("shop.time_zone = \"+08:00\"", (None, Some(480))),
    ] {
        let text = format!("{text}\nlog.kind = \"embedded\"");
        let config = Config::parse("test", &text).unwrap();
        let known = Identity::open(&config, &MemoryLog::new()).unwrap().known();
        assert_eq!((known.currency.as_deref(), known.utc_offset_min), said);
    }
    let kafka = Config::parse("test", "").unwrap();
    let known = Identity::open(&kafka, &MemoryLog::new()).unwrap().known();
    assert_eq!(known.currency.as_deref(), Some("CNY"));
    let moved = kafka.in_folder("there".into());
    let known = Identity::open(&moved, &MemoryLog::new()).unwrap().known();
    assert_eq!(known, Known::default());
}

#[test]
fn what_the_config_leaves_open_on_kafka_stays_open() {
    let identity = Identity::new(Known::default());
    admit(&identity, &json("42", "JPY", "+09:00")).unwrap();
    admit(&identity, &json("43", "CNY", "+09:00")).unwrap();
    assert_eq!(
        (identity.known(), identity.unkept()),
        (Known::default(), None)
    );
}

#[test]
fn what_is_learned_bit_by_bit_is_kept_bit_by_bit() {
    let identity = Identity::restore(Known::default(), &MemoryLog::new()).unwrap();
    let stock = r#"{"meta":{"event_id":"1","source":"wms","shop_id":"42",
        "occurred_at":"2026-11-11T20:00:00Z"},
        "inventory":{"type":"SNAPSHOT","sku_id":"a","location_id":"w","levels":{"on_hand":1}}}"#;
    admit(&identity, stock).unwrap();
    let first = identity.unkept().unwrap();
    let known = identity.known();
    assert_eq!((known.currency, known.utc_offset_min), (None, None));
    admit(&identity, &json("42", "CNY", "+08:00")).unwrap();
    identity.kept(&first);
    assert!(identity.unkept().is_some(), "more was learned since");
    assert_eq!(identity.known().utc_offset_min, Some(480));
}

/// A folder's identity as `run` opens it.
fn opened(log: &MemoryLog) -> Identity {
    let config = Config::parse("test", "log.kind = \"embedded\"").unwrap();
    Identity::open(&config, log).unwrap()
}

#[test]
fn what_ingest_would_refuse_settles_nothing() {
    let identity = opened(&MemoryLog::new());
    // A wrong clock: by the year 2199 it is a dead letter.
    let future = json("wrong", "USD", "-05:00").replace("2026-11-11", "2199-01-01");
    admit(&identity, &future).unwrap();
    assert_eq!(identity.known(), Known::default());
    admit(
        &identity,
        &json("42", "JPY", "+09:00").replace("2026", "2025"),
    )
    .unwrap();
    assert_eq!(identity.known().shop.as_deref(), Some("42"));
}

#[test]
fn heartbeats_and_visits_settle_nothing_and_utc_is_no_time_zone() {
    let identity = opened(&MemoryLog::new());
    let heartbeat = r#"{"meta":{"event_id":"1","source":"probe","shop_id":"test",
        "occurred_at":"2025-11-11T20:00:00+02:00"},
        "ops":{"type":"HEARTBEAT","component":"erp"}}"#;
    let visit = r#"{"meta":{"event_id":"2","source":"probe","shop_id":"test",
        "occurred_at":"2025-11-11T20:00:00+02:00"},
        "visit":{"type":"AGGREGATE","campaign_id":"c"}}"#;
    let custom = r#"{"meta":{"event_id":"3","source":"probe","shop_id":"test",
        "occurred_at":"2025-11-11T20:00:00+02:00"},
        "custom":{"name":"tick"}}"#;
    for said in [heartbeat, visit, custom] {
        admit(&identity, said).unwrap();
    }
    assert_eq!(identity.known(), Known::default());
    for zone in ["Z", "z", "-00:00"] {
        admit(&identity, &json("42", "CNY", zone).replace("2026", "2025")).unwrap();
        assert_eq!(identity.known().utc_offset_min, None, "{zone}");
    }
    admit(
        &identity,
        &json("42", "CNY", "+08:00").replace("2026", "2025"),
    )
    .unwrap();
    assert_eq!(identity.known().utc_offset_min, Some(480));
}

#[test]
fn what_could_not_be_written_settles_nothing() {
    let identity = Identity::restore(Known::default(), &MemoryLog::new()).unwrap();
    admit(&identity, &json("wrong", "USD", "-05:00")).unwrap();
    identity.unlearn();
    assert_eq!(
        (identity.known(), identity.unkept()),
        (Known::default(), None)
    );
    admit(&identity, &json("42", "JPY", "+09:00")).unwrap();
}

#[test]
fn a_correction_counts_at_once_and_is_kept() {
    let log = MemoryLog::new();
    let identity = opened(&log);
    admit(
        &identity,
        &json("wrong", "USD", "-05:00").replace("2026", "2025"),
    )
    .unwrap();
    let honest = json("42", "JPY", "+09:00").replace("2026", "2025");
    assert_eq!(admit(&identity, &honest).unwrap_err().0, "other_shop");
    let correction = Correction {
        forget: false,
        known: Known {
            shop: Some("42".to_owned()),
            currency: Some("JPY".to_owned()),
            utc_offset_min: None,
        },
    };
    let known = identity.correct(&correction, &log).unwrap();
    assert_eq!(known.utc_offset_min, Some(-300), "what was left out stays");
    admit(&identity, &honest).unwrap();
    assert_eq!(opened(&log).known(), known);

    let forget = Correction {
        forget: true,
        known: Known::default(),
    };
    assert_eq!(identity.correct(&forget, &log).unwrap(), Known::default());
    assert_eq!(opened(&log).known(), Known::default());
    admit(&identity, &honest).unwrap();
    assert_eq!(identity.known().utc_offset_min, Some(540));
}

#[test]
fn a_correction_against_the_config_is_refused() {
    let log = MemoryLog::new();
    let text = "shop.id = \"42\"\nlog.kind = \"embedded\"";
    let config = Config::parse("test", text).unwrap();
    let identity = Identity::open(&config, &log).unwrap();
    let correction = Correction {
        forget: false,
        known: Known {
            shop: Some("43".to_owned()),
            ..Known::default()
        },
    };
    let error = identity.correct(&correction, &log).unwrap_err();
    assert!(error.to_string().contains("[shop]"), "{error}");
    assert_eq!(identity.known().shop.as_deref(), Some("42"));
}
