//! The table of readable fields against the descriptors, by prost-reflect: every field is there,
//! with its type, its value and whether it is given.

use std::collections::BTreeSet;

use proptest::prelude::*;
use prost_reflect::{
    DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage, Value as Reflected,
};

use super::random::{self, Random};
use super::{EVENT, SAMPLES, to_wire, with_body};
use crate::decode::read;
use crate::schema::{self, Field, MapValue, Mark, Scope, Value};
use crate::{Encoding, Event, Stream, decode, views};

/// The paths of a message's fields, by the rules in the module's documentation.
fn paths(message: &MessageDescriptor, prefix: &str, out: &mut BTreeSet<String>) {
    for field in message.fields() {
        let name = field.name();
        out.insert(format!("{prefix}{name}"));
        let Kind::Message(inner) = field.kind() else {
            continue;
        };
        let is_own = inner.full_name().starts_with("fenghuo.") && !field.is_map();
        match field.is_list() {
            false if is_own => paths(&inner, &format!("{prefix}{name}."), out),
            true if is_own && prefix.is_empty() => {
                let element = name.strip_suffix('s').unwrap_or(name);
                paths(&inner, &format!("{element}."), out);
            }
            _ => {}
        }
    }
}

#[test]
fn every_field_of_every_stream_can_be_read() {
    let mut bodies = EVENT.oneofs().next().unwrap().fields().collect::<Vec<_>>();
    bodies.sort_by_key(|field| field.number());
    for (stream, field) in Stream::ALL.into_iter().zip(bodies) {
        let mut expected = BTreeSet::new();
        let kind = field.kind();
        paths(kind.as_message().unwrap(), "", &mut expected);
        let found = schema::fields(stream)
            .iter()
            .map(|field| field.path.to_owned());
        assert_eq!(found.collect::<BTreeSet<_>>(), expected, "{stream}");
    }
    let meta = EVENT.get_field_by_name("meta").unwrap().kind();
    let mut expected = BTreeSet::new();
    paths(meta.as_message().unwrap(), "meta.", &mut expected);
    let found = schema::meta().iter().map(|field| field.path.to_owned());
    assert_eq!(found.collect::<BTreeSet<_>>(), expected);
}

#[test]
fn what_cannot_be_a_key_is_marked() {
    let mark = |stream, path| schema::field(stream, path).unwrap().mark;
    assert_eq!(mark(Stream::Orders, "buyer_id_hash"), Mark::Hash);
    assert_eq!(mark(Stream::Orders, "order_id"), Mark::Life);
    assert_eq!(mark(Stream::Couriers, "order_ids"), Mark::Life);
    assert_eq!(mark(Stream::Feedback, "text"), Mark::FreeText);
    assert_eq!(mark(Stream::Orders, "line.sku_id"), Mark::Plain);
    assert_eq!(mark(Stream::Orders, "occurred_at"), Mark::Plain);
    assert_eq!(mark(Stream::Plans, "name"), Mark::FreeText);
    assert_eq!(mark(Stream::Custom, "name"), Mark::Plain);
    let mark = |path| schema::mark(Stream::Custom, path);
    assert_eq!(mark("name"), Some(Mark::Plain));
    assert_eq!(mark("entity.machine"), Some(Mark::Plain));
    assert_eq!(mark("entity.caller_hash"), Some(Mark::Hash));
    assert_eq!(mark("texts.state"), Some(Mark::FreeText));
    assert_eq!(mark("texts.State"), None);
    assert_eq!(mark("sort.state"), None);
}

/// What stands at `path` of a message: `None` where it has no presence and is a default, or where
/// something on the way is missing.
fn find(message: &DynamicMessage, path: &[&str], element: usize) -> Option<Reflected> {
    let (step, rest) = path.split_first()?;
    let descriptor = message.descriptor();
    let list = format!("{step}s");
    let field = descriptor
        .get_field_by_name(step)
        .filter(|field| rest.is_empty() || !field.is_list());
    let field = field.or_else(|| descriptor.get_field_by_name(&list));
    let field = field.or_else(|| descriptor.get_field_by_name(step))?;
    if !message.has_field(&field) {
        return None;
    }
    let value = message.get_field(&field).into_owned();
    match (rest, value) {
        ([], value) => Some(value),
        (_, Reflected::Message(inner)) => find(&inner, rest, element),
        (_, Reflected::List(list)) => find(list.get(element)?.as_message()?, rest, element),
        _ => None,
    }
}

fn time_ms(value: &DynamicMessage) -> i64 {
    let part = |name| value.get_field_by_name(name).unwrap().into_owned();
    let seconds = part("seconds").as_i64().unwrap();
    let nanos = part("nanos").as_i32().unwrap();
    seconds * 1000 + i64::from(nanos / 1_000_000)
}

/// Holds one accessor against what reflection finds.
fn hold(field: &Field, found: Option<&Reflected>, scope: Scope<'_>) -> Result<(), TestCaseError> {
    prop_assert_eq!((field.given)(scope), found.is_some(), "has({})", field.path);
    match (field.value, found) {
        (Value::Message, _) => {}
        (Value::Bool(read), found) => {
            prop_assert_eq!(read(scope), found == Some(&Reflected::Bool(true)));
        }
        (Value::Int(read), found) => {
            let expected = match found {
                Some(Reflected::I32(value)) => (*value).into(),
                Some(Reflected::I64(value)) => *value,
                Some(Reflected::U64(value)) => i64::try_from(*value).unwrap_or(i64::MAX),
                _ => 0,
            };
            prop_assert_eq!(read(scope), expected, "{}", field.path);
        }
        (Value::Time(read) | Value::Duration(read), found) => {
            let expected = found.and_then(Reflected::as_message).map_or(0, time_ms);
            prop_assert_eq!(read(scope), expected, "{}", field.path);
        }
        (Value::Money(read), found) => {
            let units = found.and_then(Reflected::as_message).map(|money| {
                let units = money.get_field_by_name("minor_units").unwrap();
                units.as_i64().unwrap()
            });
            prop_assert_eq!(read(scope), units.unwrap_or(0), "{}", field.path);
        }
        (Value::Enum(names, read), found) => {
            let number = found.and_then(Reflected::as_enum_number).unwrap_or(0);
            prop_assert_eq!(i64::from(read(scope)), i64::from(number), "{}", field.path);
            prop_assert!(!names.name_of(read(scope)).is_empty(), "{}", field.path);
        }
        (Value::Single(read) | Value::Double(read), found) => {
            let expected = match found {
                Some(Reflected::F32(value)) => (*value).into(),
                Some(Reflected::F64(value)) => *value,
                _ => 0.0,
            };
            prop_assert_eq!(read(scope), expected, "{}", field.path);
        }
        (Value::Text(read), found) => {
            let expected = found.and_then(Reflected::as_str).unwrap_or("");
            prop_assert_eq!(read(scope), expected, "{}", field.path);
        }
        (Value::Texts(read), found) => {
            let list = found.and_then(Reflected::as_list).unwrap_or(&[]);
            let expected: Vec<_> = list.iter().filter_map(Reflected::as_str).collect();
            prop_assert_eq!(read(scope), expected, "{}", field.path);
        }
        (Value::List(read), found) => {
            let count = match found {
                Some(Reflected::List(list)) => list.len(),
                _ => 0,
            };
            prop_assert_eq!(read(scope), count, "{}", field.path);
        }
        (Value::Map(map), found) => {
            let entries = found.and_then(Reflected::as_map);
            prop_assert_eq!((map.count)(scope), entries.map_or(0, |map| map.len()));
            for key in ["a", "b_2", "machine", "other"] {
                let found = entries.and_then(|map| map.get(&MapKey::String(key.to_owned())));
                prop_assert_eq!((map.has)(scope, key), found.is_some());
                match map.value {
                    MapValue::Single(read) => {
                        let expected = found.and_then(Reflected::as_f32).unwrap_or(0.0);
                        prop_assert_eq!(read(scope, key), f64::from(expected));
                    }
                    MapValue::Double(read) => {
                        let expected = found.and_then(Reflected::as_f64).unwrap_or(0.0);
                        prop_assert_eq!(read(scope, key), expected);
                    }
                    MapValue::Text(read) => {
                        let expected = found.and_then(Reflected::as_str).unwrap_or("");
                        prop_assert_eq!(read(scope, key), expected);
                    }
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn accessors_read_what_reflection_reads(seed: u64, element in 0_usize..4) {
        let message = random::message(&EVENT, &mut Random(seed));
        let bytes = prost::Message::encode_to_vec(&message);
        let mut unchecked = views::Event::default();
        prop_assume!(read(&mut unchecked, &bytes, Encoding::Protobuf).is_ok());
        let views::Event { meta: Some(meta), body: Some(body) } = unchecked else {
            return Ok(());
        };
        let event = Event { meta, body };
        let scope = Scope { event: &event, element };
        let body = message.fields().find(|(field, _)| field.containing_oneof().is_some());
        let (_, body) = body.expect("a body");
        for field in schema::fields(event.stream()) {
            let path: Vec<_> = field.path.split('.').collect();
            let found = find(body.as_message().unwrap(), &path, element);
            hold(field, found.as_ref(), scope)?;
        }
        for field in schema::meta() {
            let path: Vec<_> = field.path.split('.').collect();
            hold(field, find(&message, &path, element).as_ref(), scope)?;
        }
    }
}

#[test]
fn a_field_of_another_body_reads_as_its_default() {
    let bytes = to_wire(&with_body(SAMPLES[0].2));
    let event = decode(&bytes, None).unwrap();
    for stream in Stream::ALL.into_iter().skip(1) {
        for field in schema::fields(stream) {
            assert!(
                !(field.given)(Scope::new(&event)),
                "{stream} {}",
                field.path
            );
        }
    }
    assert_eq!(schema::element_count(&event, "lines"), 2);
    assert_eq!(schema::element_count(&event, "promotion_ids"), 2);
    assert_eq!(schema::element_count(&event, "skus"), 0);
}
