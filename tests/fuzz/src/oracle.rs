//! The independent opinion: prost-reflect's reading of JSON, and the bounds as `bounds.rs` and the
//! .proto state them, held against every field by its descriptor and not by our checks.

use std::sync::LazyLock;

use fenghuo_event::bounds::{
    COUNT_MAX, CUSTOM_ENTRIES_MAX, CUSTOM_NAME_BYTES_MAX, CUSTOM_TEXT_BYTES_MAX, ELEMENTS_MAX,
    ENTRIES_MAX, FLOAT_MAX, ID_BYTES_MAX, KEY_BYTES_MAX, TEXT_BYTES_MAX, TIME_MS_END, TIME_MS_MIN,
};
use fenghuo_event::{pb, to_protobuf};
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MapKey,
    MessageDescriptor, ReflectMessage as _, Value,
};

/// Free text by field name; every other string is an id.
const TEXT_FIELDS: [&str; 6] = ["text", "texts", "raw_text", "reason_text", "title", "name"];

static EVENT: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let protos = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    let set = protox::compile(["fenghuo/v1/events.proto"], [protos]).expect("the .proto compiles");
    let pool = DescriptorPool::from_file_descriptor_set(set).expect("its descriptors agree");
    pool.get_message_by_name("fenghuo.v1.Event")
        .expect("an Event")
});

/// What prost-reflect reads in JSON. `None` where it knows fewer forms of a time than we take: a
/// comma before the decimals, a space for the T, a zone's name after the offset (ISO 8601, RFC 9557).
pub(crate) fn read_json(input: &[u8]) -> Option<pb::Event> {
    let mut parser = serde_json::Deserializer::from_slice(input);
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let read = DynamicMessage::deserialize_with_options(EVENT.clone(), &mut parser, &options);
    match read {
        Ok(message) => Some(message.transcode_to().expect("the same .proto")),
        Err(error) if error.to_string().starts_with("invalid rfc3339 timestamp") => None,
        Err(error) => panic!("prost-reflect refuses what we take: {error}"),
    }
}

/// Every field of `message` is within its bound.
pub(crate) fn check_bounds(message: &pb::Event) {
    let wire = to_protobuf(message);
    let message = DynamicMessage::decode(EVENT.clone(), wire.as_slice()).expect("it was encoded");
    check_message(&message);
}

fn check_message(message: &DynamicMessage) {
    if message.descriptor().full_name() == "google.protobuf.Timestamp" {
        let seconds = message.get_field_by_name("seconds");
        let seconds = seconds.and_then(|value| value.as_i64()).unwrap_or_default();
        assert!((TIME_MS_MIN / 1000..TIME_MS_END / 1000).contains(&seconds));
        return;
    }
    let is_custom = message.descriptor().full_name() == "fenghuo.v1.Custom";
    for (field, value) in message.fields() {
        check_value(&field, value);
        if is_custom {
            check_custom(field.name(), value);
        }
    }
}

/// What a custom event is held to besides.
fn check_custom(name: &str, value: &Value) {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    match value {
        Value::String(text) => {
            assert!((1..=CUSTOM_NAME_BYTES_MAX).contains(&text.len()), "{text}");
            let fits = |letter| is_plain(letter) || "_.-".contains(letter);
            assert!(text.chars().all(fits), "{text:?}");
        }
        Value::Map(map) => {
            assert!(map.len() <= CUSTOM_ENTRIES_MAX, "{name}");
            for (key, value) in map {
                let key = key.as_str().expect("a text");
                assert!((1..=KEY_BYTES_MAX).contains(&key.len()), "{key:?}");
                assert!(key.chars().all(|c| is_plain(c) || c == '_'), "{key:?}");
                assert!(key.starts_with(|c: char| c.is_ascii_lowercase()), "{key:?}");
                let texts = value.as_str().filter(|_| name == "texts");
                assert!(texts.is_none_or(|text| text.len() <= CUSTOM_TEXT_BYTES_MAX));
            }
        }
        other => panic!("{name} {other:?}"),
    }
}

fn check_value(field: &FieldDescriptor, value: &Value) {
    let name = field.name();
    match value {
        Value::String(text) if TEXT_FIELDS.contains(&name) => {
            assert!(text.len() <= TEXT_BYTES_MAX, "{name}");
        }
        Value::String(id) => check_id(name, id),
        Value::I64(number) => assert!(number.abs() <= COUNT_MAX, "{name} {number}"),
        Value::F32(number) => assert!(f64::from(number.abs()) <= FLOAT_MAX, "{name} {number}"),
        Value::F64(number) => assert!(number.abs() <= FLOAT_MAX, "{name} {number}"),
        Value::Message(inner) => check_message(inner),
        Value::List(list) => {
            assert!(list.len() <= ELEMENTS_MAX, "{name}");
            list.iter().for_each(|element| check_value(field, element));
        }
        Value::Map(map) => {
            assert!(map.len() <= ENTRIES_MAX, "{name}");
            for (key, value) in map {
                if let MapKey::String(key) = key {
                    check_id(name, key);
                }
                check_value(field, value);
            }
        }
        Value::Bool(_) | Value::I32(_) | Value::U32(_) | Value::U64(_) | Value::EnumNumber(_) => {}
        Value::Bytes(_) => panic!("{name}: the .proto has no bytes"),
    }
}

fn check_id(name: &str, id: &str) {
    assert!(id.len() <= ID_BYTES_MAX, "{name}");
    assert!(!id.contains(char::is_control), "{name} {id:?}");
}

/// An event of each kind with every field given, in JSON.
pub(crate) fn full_json() -> Vec<Vec<u8>> {
    let messages = full().into_iter();
    messages
        .map(|message| serde_json::to_vec(&message).expect("it can be written"))
        .collect()
}

/// The same in protobuf.
pub(crate) fn full_protobuf() -> Vec<Vec<u8>> {
    full().iter().map(DynamicMessage::encode_to_vec).collect()
}

fn full() -> Vec<DynamicMessage> {
    let bodies = EVENT
        .oneofs()
        .flat_map(|oneof| oneof.fields().collect::<Vec<_>>());
    let events = bodies.map(|body| {
        let mut event = DynamicMessage::new(EVENT.clone());
        for field in EVENT
            .fields()
            .filter(|field| field.containing_oneof().is_none())
        {
            event.set_field(&field, full_value(&field));
        }
        event.set_field(&body, full_value(&body));
        event
    });
    events.collect()
}

/// A value that the checks take, whatever the field means.
fn full_value(field: &FieldDescriptor) -> Value {
    if field.is_map() {
        let entry = field.kind();
        let entry = entry.as_message().expect("an entry");
        let value = full_value(&entry.map_entry_value_field());
        return Value::Map([(MapKey::String("quality".to_owned()), value)].into());
    }
    let single = match field.kind() {
        Kind::String if field.name() == "currency_code" => Value::String("CNY".to_owned()),
        Kind::String => Value::String(field.name().chars().take(5).collect()),
        Kind::Bool => Value::Bool(true),
        Kind::Int32 => Value::I32(1),
        Kind::Int64 => Value::I64(1),
        Kind::Uint64 => Value::U64(1),
        Kind::Float => Value::F32(0.5),
        Kind::Double => Value::F64(0.5),
        Kind::Enum(_) => Value::EnumNumber(1),
        Kind::Message(descriptor) => Value::Message(full_message(&descriptor, field.name())),
        other => panic!("{}: no value of {other:?}", field.name()),
    };
    match field.is_list() {
        true => Value::List(vec![single]),
        false => single,
    }
}

fn full_message(descriptor: &MessageDescriptor, name: &str) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    // An end comes after a start.
    let seconds = match (descriptor.full_name(), name) {
        ("google.protobuf.Timestamp", "end") => Some(1_794_412_800),
        ("google.protobuf.Timestamp", _) => Some(1_794_398_400),
        ("google.protobuf.Duration", _) => Some(60),
        _ => None,
    };
    if let Some(seconds) = seconds {
        message.set_field_by_name("seconds", Value::I64(seconds));
        return message;
    }
    for field in descriptor.fields() {
        message.set_field(&field, full_value(&field));
    }
    message
}
