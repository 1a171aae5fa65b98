//! What is known of an event before it comes in is folded away, and changes no value.

use fenghuo_event::Stream;
use fenghuo_event::schema::Scope;
use proptest::prelude::*;

use super::oracle::{evaluate, print};
use super::random::{self, Grower, Kind, Random, grown};
use super::{event, parse};
use crate::expression::Constant;

#[test]
fn a_known_type_is_folded_away() {
    for (source, name, expected) in [
        (r#"type == "PAID""#, "PAID", Some(true)),
        (r#"type == "PAID""#, "PLACED", Some(false)),
        (r#"type != "PAID""#, "PAID", Some(false)),
        (r#"type in ["PAID", "HELD"]"#, "HELD", Some(true)),
        (r#"type == "PAID" && line.is_gift"#, "PLACED", Some(false)),
        (r#"line.is_gift && type == "PAID""#, "PLACED", Some(false)),
        (r#"line.is_gift || type == "PAID""#, "PAID", Some(true)),
        (r#"type == "PAID" && line.is_gift"#, "PAID", None),
        (
            r#"type.startsWith("PA") ? true : line.is_gift"#,
            "PAID",
            Some(true),
        ),
        ("has(type)", "PAID", Some(true)),
        ("!has(type)", "TYPE_UNSPECIFIED", Some(true)),
        (
            r#"type.lower() in ["paid"] && type.size() == 4"#,
            "PAID",
            Some(true),
        ),
    ] {
        let expression = parse(Stream::Orders, source).specialise("type", name);
        assert_eq!(
            expression.always(),
            expected,
            "{source} where type is {name}"
        );
        assert!(expression.fields().all(|field| field != "type"), "{source}");
    }
    let value = parse(Stream::Orders, r#"type == "PAID" ? 1 : line.quantity"#);
    assert!(value.uses_element());
    let paid = value.specialise("type", "PAID");
    assert_eq!(
        (paid.constant(), paid.list()),
        (Some(Constant::Whole(1)), None)
    );
    let case = parse(
        Stream::Feedback,
        r#"kind == "CHAT" && phase in ["OPENED", "QUEUED"]"#,
    );
    let chat = case.specialise("kind", "CHAT");
    assert_eq!(chat.fields().collect::<Vec<_>>(), ["phase"]);
    assert_eq!(chat.specialise("phase", "QUEUED").always(), Some(true));
}

#[test]
fn what_is_not_known_stays() {
    let expression = parse(Stream::Orders, r#"type == "PAID" && channel == "app""#);
    for (path, name) in [
        ("type", "NO_SUCH"),
        ("initiator", "BUYER"),
        ("channel", "app"),
    ] {
        let same = expression.specialise(path, name);
        assert_eq!(
            same.fields().collect::<Vec<_>>(),
            ["type", "channel"],
            "{path} {name}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn an_expression_specialised_for_an_event_has_the_same_value(
        seed: u64,
        depth in 0_usize..5,
        is_order: bool,
        element in 0_usize..3,
    ) {
        let (stream, paths): (_, &[&str]) = match is_order {
            true => (Stream::Orders, &["type"]),
            false => (Stream::Feedback, &["kind", "phase"]),
        };
        let mut random = Random(seed);
        let json = random::event(stream, &mut random);
        let kinds: Vec<Kind> = grown(stream).to_vec();
        let kind = kinds[random.below(kinds.len())];
        let source = print(&Grower { stream, random: &mut random }.grow(kind, depth));
        let line = json.to_string();
        let event = event(&line);
        let scope = Scope { event: &event, element };
        let whole = parse(stream, &source);
        let mut special = whole.clone();
        for path in paths {
            let body = json.get("order").unwrap_or(&json["feedback"]);
            special = special.specialise(path, body[path].as_str().unwrap_or("PHASE_UNSPECIFIED"));
        }
        prop_assert!(special.fields().all(|field| !paths.contains(&field)), "{}", source);
        prop_assert_eq!(evaluate(special, scope), evaluate(whole, scope), "{}\n{}", source, line);
    }
}
