//! What an expression over one event can read: for each stream the fields of its message, by path,
//! with their types and accessors. The tables are generated from events.proto, so a new field there
//! is readable at once.
//!
//! A field of a message inside is `levels.on_hand`. A field of a repeated message is read from one
//! element at a time, under the list's name without its `s`: `line.quantity` of `lines`. The fields
//! of [`Meta`](crate::Meta) are there for every stream: `meta.source`.
//!
//! A map is read by its keys: `numbers.celsius` of `numbers`, for any key of the form of
//! [`bounds::is_key`](crate::bounds::is_key).
//!
//! Reading is total: a field of another stream's body, of a message that is not given, or of an
//! element that is not there reads as proto3's default. Nothing here allocates.

use std::borrow::Cow;
use std::fmt;

use crate::bounds::is_key;
use crate::{Event, Stream};

/// What an accessor reads from: an event, and which element of its repeated message.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'e> {
    /// The event.
    pub event: &'e Event<'e>,
    /// The index of the element that paths such as `line.quantity` read.
    pub element: usize,
}

impl<'e> Scope<'e> {
    /// The event with its first element.
    pub const fn new(event: &'e Event<'e>) -> Self {
        Self { event, element: 0 }
    }
}

/// A field that can be read.
#[derive(Clone, Copy)]
pub struct Field {
    /// Its path, such as `line.quantity`.
    pub path: &'static str,
    /// Its type, with its accessor.
    pub value: Value,
    /// Whether it is given: proto3 does not tell a default from nothing.
    pub given: fn(Scope<'_>) -> bool,
    /// The repeated field whose element it is read from, such as `lines`.
    pub list: Option<&'static str>,
    /// Whether it may be a key.
    pub mark: Mark,
    /// Its comment in events.proto.
    pub doc: &'static str,
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path)
    }
}

/// The type of a field, with its accessor.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// True or false.
    Bool(fn(Scope<'_>) -> bool),
    /// A whole number; what does not fit 64 signed bits is the largest that does.
    Int(fn(Scope<'_>) -> i64),
    /// An instant in Unix ms.
    Time(fn(Scope<'_>) -> i64),
    /// A span in ms.
    Duration(fn(Scope<'_>) -> i64),
    /// An amount in minor units.
    Money(fn(Scope<'_>) -> i64),
    /// One of some names; its number, from 0 to 63.
    Enum(&'static Enumeration, fn(Scope<'_>) -> u32),
    /// A number that is kept in 32 bits, so that 0.1 reads as the nearest of those.
    Single(fn(Scope<'_>) -> f64),
    /// A number.
    Double(fn(Scope<'_>) -> f64),
    /// A string.
    Text(for<'e> fn(Scope<'e>) -> &'e str),
    /// A list of strings.
    Texts(for<'e> fn(Scope<'e>) -> &'e [Cow<'e, str>]),
    /// A list of anything else, by the number of its elements.
    List(fn(Scope<'_>) -> usize),
    /// Values by keys that the .proto does not name.
    Map(&'static Map),
    /// A message, which is given or not.
    Message,
}

/// A map, with its accessors.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    /// The number of its entries.
    pub count: fn(Scope<'_>) -> usize,
    /// Whether there is an entry with this key, whatever its value: unlike a field, a map tells a
    /// default from nothing.
    pub has: fn(Scope<'_>, &str) -> bool,
    /// The type of its values, with what reads the one with a key.
    pub value: MapValue,
}

/// The type of a map's values, with the accessor of the one with a key.
#[derive(Clone, Copy, Debug)]
pub enum MapValue {
    /// A number that is kept in 32 bits.
    Single(fn(Scope<'_>, &str) -> f64),
    /// A number.
    Double(fn(Scope<'_>, &str) -> f64),
    /// A string.
    Text(for<'e> fn(Scope<'e>, &str) -> &'e str),
}

/// The names of an enum.
#[derive(Debug, PartialEq, Eq)]
pub struct Enumeration {
    /// Its name, such as `Order.Type`.
    pub name: &'static str,
    /// Names and numbers in the order of the .proto. 0 is the one that means "not given".
    pub values: &'static [(&'static str, u32)],
}

impl Enumeration {
    /// The number of a name.
    pub fn number(&self, name: &str) -> Option<u32> {
        let found = self.values.iter().find(|(known, _)| *known == name);
        found.map(|(_, number)| *number)
    }

    /// The name of a number, empty where there is none.
    pub fn name_of(&self, number: u32) -> &'static str {
        let found = self.values.iter().find(|(_, known)| *known == number);
        found.map_or("", |(name, _)| name)
    }
}

/// What a field is besides its type: whether entities may be named after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing that forbids it.
    Plain,
    /// A salted hash of personal data.
    Hash,
    /// The name of one life, such as an order's: there is no end of them.
    Life,
    /// Words.
    FreeText,
}

/// The fields of the stream's message; those of the meta are in [`meta`].
pub fn fields(stream: Stream) -> &'static [Field] {
    match stream {
        Stream::Orders => generated::ORDER,
        Stream::Inventory => generated::INVENTORY,
        Stream::Couriers => generated::COURIER,
        Stream::Feedback => generated::FEEDBACK,
        Stream::Visits => generated::VISIT,
        Stream::Catalog => generated::CATALOG,
        Stream::Plans => generated::PLAN,
        Stream::Suppliers => generated::SUPPLIER,
        Stream::Ops => generated::OPS,
        Stream::Custom => generated::CUSTOM,
    }
}

/// The fields that every stream has, from `meta.event_id` on.
pub fn meta() -> &'static [Field] {
    generated::META
}

/// Fields of the meta that are known without their prefix as well.
pub const SHORT: [(&str, &str); 2] = [
    ("occurred_at", "meta.occurred_at"),
    ("recorded_at", "meta.recorded_at"),
];

/// The field of that path in events of `stream`.
///
/// ```
/// use fenghuo_event::{Stream, decode, schema};
/// let line = br#"{"meta":{"event_id":"e1","source":"/shop/42","occurred_at":"2026-11-11T12:00:00Z"},
///     "order":{"type":"PAID","order_id":"o1","lines":[{"sku_id":"s1","quantity":"2"}]}}"#;
/// let event = decode(line, None)?;
/// let Some(schema::Field { value: schema::Value::Int(read), .. }) =
///     schema::field(Stream::Orders, "line.quantity")
/// else {
///     panic!("a quantity is a whole number");
/// };
/// assert_eq!(read(schema::Scope::new(&event)), 2);
/// # Ok::<(), fenghuo_event::Rejected>(())
/// ```
pub fn field(stream: Stream, path: &str) -> Option<&'static Field> {
    let short = SHORT.iter().find(|(short, _)| *short == path);
    let path = short.map_or(path, |(_, path)| path);
    let mut all = fields(stream).iter().chain(meta());
    all.find(|field| field.path == path)
}

/// The map of `stream` and the key in it that `path` names, such as `numbers` and `celsius`.
pub fn entry(stream: Stream, path: &str) -> Option<(&'static Field, &'static Map, &str)> {
    let (name, key) = path.rsplit_once('.')?;
    let field = field(stream, name)?;
    match field.value {
        Value::Map(map) if is_key(key) => Some((field, map, key)),
        _ => None,
    }
}

/// Whether entities may be named after what `path` reads.
pub fn mark(stream: Stream, path: &str) -> Option<Mark> {
    match (field(stream, path), entry(stream, path)) {
        (Some(field), _) => Some(field.mark),
        // Keys are the sender's; what is called a hash is taken for one.
        (None, Some((_, _, key))) if key.ends_with("_hash") => Some(Mark::Hash),
        (None, entry) => entry.map(|(field, ..)| field.mark),
    }
}

/// How many elements the list `path` has, such as `lines`; 0 for what is no list of the event's.
pub fn element_count(event: &Event<'_>, path: &str) -> usize {
    match field(event.stream(), path).map(|field| field.value) {
        Some(Value::List(count)) => count(Scope::new(event)),
        Some(Value::Texts(texts)) => texts(Scope::new(event)).len(),
        Some(Value::Map(map)) => (map.count)(Scope::new(event)),
        _ => 0,
    }
}

mod generated {
    use std::borrow::Cow;

    use super::{Enumeration, Field, Map, MapValue, Mark, Scope, Value};
    use crate::time::{DurationMs, Timestamp};
    use crate::views::{self, Body, Money};

    /// What a field of that type reads as, as a whole number.
    trait Whole {
        fn whole(&self) -> i64;
    }

    impl Whole for i32 {
        fn whole(&self) -> i64 {
            i64::from(*self)
        }
    }

    impl Whole for i64 {
        fn whole(&self) -> i64 {
            *self
        }
    }

    impl Whole for u64 {
        fn whole(&self) -> i64 {
            i64::try_from(*self).unwrap_or(i64::MAX)
        }
    }

    impl Whole for Timestamp {
        fn whole(&self) -> i64 {
            self.0
        }
    }

    impl Whole for DurationMs {
        fn whole(&self) -> i64 {
            self.0
        }
    }

    impl Whole for Money<'_> {
        fn whole(&self) -> i64 {
            self.minor_units
        }
    }

    /// Whether a value differs from proto3's default.
    trait Given {
        fn is_given(&self) -> bool;
    }

    macro_rules! given {
        ($($type:ty: |$value:ident| $given:expr;)+) => {$(
            impl Given for $type {
                fn is_given(&self) -> bool {
                    let $value = self;
                    $given
                }
            }
        )+};
    }
    given! {
        bool: |value| *value;
        i32: |value| *value != 0;
        i64: |value| *value != 0;
        u64: |value| *value != 0;
        f32: |value| *value != 0.0;
        f64: |value| *value != 0.0;
        Cow<'_, str>: |value| !value.is_empty();
    }

    impl<T> Given for Vec<T> {
        fn is_given(&self) -> bool {
            !self.is_empty()
        }
    }

    #[inline]
    fn given<T: Given>(value: Option<&T>) -> bool {
        value.is_some_and(T::is_given)
    }

    #[inline]
    fn whole<T: Whole>(value: Option<&T>) -> i64 {
        value.map_or(0, Whole::whole)
    }

    #[inline]
    fn float<T: Copy + Into<f64>>(value: Option<&T>) -> f64 {
        value.map_or(0.0, |value| (*value).into())
    }

    /// Enums have no number below zero or above 63: the generator refuses them.
    #[inline]
    fn number<T: Copy + Into<i32>>(value: Option<&T>) -> u32 {
        value.map_or(0, |value| (*value).into() as u32)
    }

    #[inline]
    fn text<'e>(value: Option<&'e Cow<'e, str>>) -> &'e str {
        value.map_or("", |value| value)
    }

    #[inline]
    fn texts<'e>(value: Option<&'e Vec<Cow<'e, str>>>) -> &'e [Cow<'e, str>] {
        value.map_or(&[], |value| value)
    }

    #[inline]
    fn count<T>(value: Option<&Vec<T>>) -> usize {
        value.map_or(0, Vec::len)
    }

    /// The value with that key. There are few, so they are gone through.
    #[inline]
    fn entry<'e, V>(map: Option<&'e Vec<(Cow<'e, str>, V)>>, key: &str) -> Option<&'e V> {
        let found = map?.iter().find(|(known, _)| *known == key);
        found.map(|(_, value)| value)
    }

    #[inline]
    fn entry_float<'e, V: Copy + Into<f64>>(
        map: Option<&'e Vec<(Cow<'e, str>, V)>>,
        key: &str,
    ) -> f64 {
        float(entry(map, key))
    }

    #[inline]
    fn entry_text<'e>(map: Option<&'e Vec<(Cow<'e, str>, Cow<'e, str>)>>, key: &str) -> &'e str {
        text(entry(map, key))
    }

    include!(concat!(env!("OUT_DIR"), "/schema.rs"));
}
