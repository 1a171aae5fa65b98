//! Expressions over one event: the schema of a stream, from the tables that are generated from
//! events.proto.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use fenghuo_event::Stream;
use fenghuo_event::bounds::KEY_BYTES_MAX;
use fenghuo_event::schema::{self, MapValue, Scope, Value};

use super::schema::{Field, Leaf, Leaves, Schema};
use super::text::Piece;
use super::{Condition, Number, Phrase, Quantity};

/// The fields of one stream's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSchema(pub Stream);

/// Reads fields of an event. Every field has a value, proto3's default where it is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLeaves;

/// An expression over one event.
pub type EventExpression = super::Expression<EventLeaves>;

/// How something is read: by the accessor of a field, or by a key in a map.
#[derive(Clone, Debug)]
pub enum Access<F, E> {
    /// By this.
    Field(F),
    /// By this, which is given the key.
    Entry(E, Arc<str>),
}

/// Counts what a list holds.
#[derive(Clone, Copy, Debug)]
pub enum Count {
    /// Of texts.
    Texts(for<'e> fn(Scope<'e>) -> &'e [Cow<'e, str>]),
    /// Of anything else.
    List(fn(Scope<'_>) -> usize),
}

impl Leaves for EventLeaves {
    type Scope<'s> = Scope<'s>;
    type Unknown = Infallible;
    type Bool = Access<fn(Scope<'_>) -> bool, fn(Scope<'_>, &str) -> bool>;
    type Whole = fn(Scope<'_>) -> i64;
    type Enum = fn(Scope<'_>) -> u32;
    type Float = Access<fn(Scope<'_>) -> f64, fn(Scope<'_>, &str) -> f64>;
    type Text = Access<for<'e> fn(Scope<'e>) -> &'e str, for<'e> fn(Scope<'e>, &str) -> &'e str>;
    type Texts = for<'e> fn(Scope<'e>) -> &'e [Cow<'e, str>];
    type Count = Count;

    #[inline]
    fn bool(read: &Self::Bool, scope: Scope<'_>) -> Result<bool, Infallible> {
        Ok(match read {
            Access::Field(read) => read(scope),
            Access::Entry(read, key) => read(scope, key),
        })
    }

    #[inline]
    fn whole(read: &Self::Whole, scope: Scope<'_>) -> Result<i64, Infallible> {
        Ok(read(scope))
    }

    #[inline]
    fn number(read: &Self::Enum, scope: Scope<'_>) -> Result<u32, Infallible> {
        Ok(read(scope))
    }

    #[inline]
    fn float(read: &Self::Float, scope: Scope<'_>) -> Result<f64, Infallible> {
        Ok(match read {
            Access::Field(read) => read(scope),
            Access::Entry(read, key) => read(scope, key),
        })
    }

    #[inline]
    fn text<'s>(read: &'s Self::Text, scope: Scope<'s>) -> Result<&'s str, Infallible> {
        Ok(match read {
            Access::Field(read) => read(scope),
            Access::Entry(read, key) => read(scope, key),
        })
    }

    fn holds<'s>(
        read: &'s Self::Texts,
        scope: Scope<'s>,
        text: Piece<'s>,
    ) -> Result<bool, Infallible> {
        let mut texts = read(scope).iter();
        Ok(texts.any(|known| Piece::new(known).equals(text)))
    }

    fn count(read: &Count, scope: Scope<'_>) -> Result<i64, Infallible> {
        let count = match read {
            Count::Texts(texts) => texts(scope).len(),
            Count::List(count) => count(scope),
        };
        Ok(count as i64)
    }
}

impl Schema for EventSchema {
    type Leaves = EventLeaves;

    fn noun(&self) -> String {
        format!("field of {}", self.0)
    }

    fn field(&self, path: &str) -> Option<Field<EventLeaves>> {
        let Some(field) = schema::field(self.0, path) else {
            return entry(self.0, path);
        };
        let leaf = match field.value {
            Value::Bool(read) => Leaf::Bool(Access::Field(read)),
            Value::Int(read) => Leaf::Int(read),
            Value::Time(read) => Leaf::Time(read),
            Value::Duration(read) => Leaf::Duration(read),
            Value::Money(read) => Leaf::Money(read),
            Value::Enum(names, read) => Leaf::Enum(names, read),
            Value::Single(read) => Leaf::Single(Access::Field(read)),
            Value::Double(read) => Leaf::Float(Access::Field(read)),
            Value::Text(read) => Leaf::Text(Access::Field(read)),
            Value::Texts(read) => Leaf::Texts(read, Count::Texts(read)),
            Value::List(read) => Leaf::List(Count::List(read)),
            Value::Map(map) => Leaf::List(Count::List(map.count)),
            Value::Message => Leaf::Message,
        };
        Some(Field {
            path: Cow::Borrowed(field.path),
            leaf,
            given: Some(Access::Field(field.given)),
            list: field.list.map(Cow::Borrowed),
        })
    }

    fn names(&self) -> Vec<&str> {
        let fields = schema::fields(self.0).iter().chain(schema::meta());
        let short = schema::SHORT.iter().map(|(short, _)| *short);
        fields.map(|field| field.path).chain(short).collect()
    }

    /// Of maps whose name is nearly the one before the point, and of a map that is named with a key
    /// that no event has, such as one with a capital letter.
    fn entries(&self, path: &str) -> Vec<String> {
        let Some((_, key)) = path.split_once('.') else {
            return Vec::new();
        };
        let letter = |letter: char| match letter.to_ascii_lowercase() {
            letter @ ('a'..='z' | '0'..='9') => letter,
            _ => '_',
        };
        let key: String = key.chars().take(KEY_BYTES_MAX).map(letter).collect();
        let maps = schema::fields(self.0).iter();
        let maps = maps.filter(|field| matches!(field.value, Value::Map(_)));
        maps.map(|field| format!("{}.{key}", field.path)).collect()
    }
}

/// What an entry of a map reads.
fn entry(stream: Stream, path: &str) -> Option<Field<EventLeaves>> {
    let (_, map, key) = schema::entry(stream, path)?;
    let key: Arc<str> = key.into();
    let given = Access::Entry(map.has, Arc::clone(&key));
    Some(Field {
        path: Cow::Owned(path.to_owned()),
        leaf: match map.value {
            MapValue::Single(read) => Leaf::Single(Access::Entry(read, key)),
            MapValue::Double(read) => Leaf::Float(Access::Entry(read, key)),
            MapValue::Text(read) => Leaf::Text(Access::Entry(read, key)),
        },
        given: Some(given),
        list: None,
    })
}

impl Condition<EventLeaves> {
    /// Whether it is true of an event.
    #[inline]
    pub fn holds<'s>(&'s self, scope: Scope<'s>) -> bool {
        let Ok(value) = self.evaluate(scope);
        value
    }
}

impl Quantity<EventLeaves> {
    /// Its value for an event, in the unit of its type.
    #[inline]
    pub fn value<'s>(&'s self, scope: Scope<'s>) -> i64 {
        let Ok(value) = self.evaluate(scope);
        value
    }
}

impl Number<EventLeaves> {
    /// Its value for an event, which is finite.
    #[inline]
    pub fn value<'s>(&'s self, scope: Scope<'s>) -> f64 {
        let Ok(value) = self.evaluate(scope);
        value
    }
}

impl Phrase<EventLeaves> {
    /// Its text for an event; borrowed unless `lower` has to replace a capital letter.
    #[inline]
    pub fn value<'s>(&'s self, scope: Scope<'s>) -> Cow<'s, str> {
        let Ok(value) = self.evaluate(scope);
        value.into_text()
    }
}
