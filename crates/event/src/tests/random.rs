//! Random messages of any descriptor, grown from a seed: proptest picks and prints the seed.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

/// SplitMix64: good enough to vary tests, and the same everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn text(&mut self) -> String {
        let letters = [
            "a", "Z", "7", "\"", "\\", "\n", "\u{1}", "/", "é", "烽", "🔥", " ",
        ];
        let length = self.below(12);
        (0..length).map(|_| self.pick(&letters)).collect()
    }

    /// One that expressions can read, or any.
    fn key(&mut self) -> String {
        match self.below(2) {
            0 => self.pick(&["a", "b_2", "machine"]).to_owned(),
            _ => self.text(),
        }
    }
}

/// A message with about half of its fields set, the values from the whole range of their types.
pub(super) fn message(descriptor: &MessageDescriptor, random: &mut Random) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    let oneof_field = descriptor.oneofs().next().map(|oneof| {
        let fields: Vec<_> = oneof.fields().collect();
        random.pick(&fields)
    });
    for field in descriptor.fields() {
        let chosen = match field.containing_oneof() {
            Some(_) => oneof_field.as_ref() == Some(&field),
            None => random.below(2) == 0,
        };
        if chosen {
            let value = value(&field, random);
            message.set_field(&field, value);
        }
    }
    message
}

fn value(field: &FieldDescriptor, random: &mut Random) -> Value {
    if field.is_map() {
        let entry = field.kind();
        let entry = entry.as_message().unwrap().map_entry_value_field();
        let entries = (0..random.below(4)).map(|_| {
            let value = single(&entry.kind(), random);
            (MapKey::String(random.key()), value)
        });
        return Value::Map(entries.collect());
    }
    match field.is_list() {
        true => Value::List(
            (0..random.below(4))
                .map(|_| single(&field.kind(), random))
                .collect(),
        ),
        false => single(&field.kind(), random),
    }
}

fn single(kind: &Kind, random: &mut Random) -> Value {
    let bits = random.next();
    match kind {
        Kind::String => Value::String(random.text()),
        Kind::Bool => Value::Bool(bits & 1 == 1),
        Kind::Int32 => Value::I32(random.pick(&[0, 1, -1, i32::MIN, i32::MAX, bits as i32])),
        Kind::Int64 => {
            Value::I64(random.pick(&[0, 1, -1, i64::MIN, i64::MAX, 1 << 53, bits as i64]))
        }
        Kind::Uint64 => Value::U64(random.pick(&[0, 1, u64::MAX, bits])),
        Kind::Float => {
            let any = bits as u32 as f32 / 1e3;
            Value::F32(random.pick(&[0.0, -1.5, f32::MIN_POSITIVE, 1e38, f32::INFINITY, any]))
        }
        Kind::Double => {
            let any = bits as f64 / 1e5;
            Value::F64(random.pick(&[
                0.0,
                -0.1,
                f64::MIN_POSITIVE,
                f64::MAX,
                f64::NEG_INFINITY,
                any,
            ]))
        }
        Kind::Enum(descriptor) => {
            let values: Vec<_> = descriptor.values().collect();
            Value::EnumNumber(random.pick(&values).number())
        }
        Kind::Message(descriptor) => Value::Message(match descriptor.full_name() {
            "google.protobuf.Timestamp" => time(descriptor, random, false),
            "google.protobuf.Duration" => time(descriptor, random, true),
            _ => message(descriptor, random),
        }),
        other => panic!("no random {other:?}"),
    }
}

/// To the millisecond, since that is what the views keep.
fn time(descriptor: &MessageDescriptor, random: &mut Random, signed: bool) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    let sign = if signed && random.below(2) == 0 {
        -1
    } else {
        1
    };
    let seconds = sign * random.below(4_000_000_000) as i64;
    let nanos = sign as i32 * random.below(1000) as i32 * 1_000_000;
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name("nanos", Value::I32(nanos));
    message
}
