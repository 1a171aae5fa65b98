//! Reading JSON into the views. Names are matched as bytes, strings are borrowed unless they hold
//! escapes, null is the same as not given, and unknown members are passed over. An error's path is
//! left in the [`Trail`] on its way up, so that the good path keeps none.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

use crate::bounds::{ELEMENTS_MAX, ENTRIES_MAX, NESTING_MAX};
use crate::field::{Field, Message, Scalar};
use crate::rejected::{Path, Reason, Rejected, Step, quote};

/// Where reading has got to, as far as an error will want to know.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    depth: Cell<u32>,
    path: RefCell<Path>,
    too_large: Cell<bool>,
}

impl Trail {
    #[cold]
    fn leave(&self, step: Step) {
        self.path.borrow_mut().push(step);
    }

    /// One level down, as far as that is allowed; the caller goes back [`up`](Self::up).
    fn down<E: Error>(&self) -> Result<(), E> {
        self.depth.set(self.depth.get() + 1);
        match self.depth.get() > NESTING_MAX {
            true => Err(self.too_large(format!("nested deeper than {NESTING_MAX}"))),
            false => Ok(()),
        }
    }

    fn up(&self) {
        self.depth.set(self.depth.get() - 1);
    }

    #[cold]
    fn too_large<E: Error>(&self, what: String) -> E {
        self.too_large.set(true);
        E::custom(what)
    }

    /// What the parser's error comes to.
    #[cold]
    pub(crate) fn reject(&self, error: &serde_json::Error) -> Rejected {
        use serde_json::error::Category;
        let reason = match error.classify() {
            _ if self.too_large.get() => Reason::TooLarge,
            Category::Data => Reason::InvalidValue,
            Category::Io | Category::Syntax | Category::Eof => Reason::Malformed,
        };
        let path = self.path.borrow().to_string();
        match path.is_empty() {
            true => Rejected::new(reason, &error.to_string()),
            false => Rejected::new(reason, &format!("{path}: {error}")),
        }
    }
}

/// A field to read into.
pub(crate) struct Slot<'s, F> {
    pub(crate) field: &'s mut F,
    pub(crate) trail: &'s Trail,
}

impl<'a, F: Field<'a>> DeserializeSeed<'a> for Slot<'_, F> {
    type Value = bool;

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<bool, D::Error> {
        self.field.merge_json(json, self.trail)
    }
}

/// Reads the value of the current member into `field`.
pub(crate) fn member<'a, F: Field<'a>, A: MapAccess<'a>>(
    field: &mut F,
    map: &mut A,
    trail: &Trail,
) -> Result<(), A::Error> {
    map.next_value_seed(Slot { field, trail }).map(drop)
}

/// Reads the value of the current member as the member of a oneof, in place: `wrap` makes it and
/// `unwrap` finds it again.
pub(crate) fn choose<'a, M, B, A>(
    slot: &mut Option<B>,
    wrap: impl Fn(M) -> B,
    unwrap: impl Fn(&mut B) -> Option<&mut M>,
    map: &mut A,
    trail: &Trail,
) -> Result<(), A::Error>
where
    M: Field<'a> + Default,
    A: MapAccess<'a>,
{
    if slot.is_some() {
        // A null says nothing and may stand beside the one body.
        let mut second = M::default();
        let field = &mut second;
        return match map.next_value_seed(Slot { field, trail })? {
            true => Err(A::Error::custom("a second body")),
            false => Ok(()),
        };
    }
    let given = match unwrap(slot.insert(wrap(M::default()))) {
        Some(field) => map.next_value_seed(Slot { field, trail })?,
        None => false,
    };
    if !given {
        *slot = None;
    }
    Ok(())
}

/// Passes over the value of the current member.
pub(crate) fn skip<'a, A: MapAccess<'a>>(map: &mut A, trail: &Trail) -> Result<(), A::Error> {
    map.next_value_seed(Skip { trail })
}

/// Reads an object's members into `message`; false where there is null instead.
pub(crate) fn message<'a, M: Message<'a>, D: Deserializer<'a>>(
    message: &mut M,
    json: D,
    trail: &Trail,
) -> Result<bool, D::Error> {
    json.deserialize_any(Members { message, trail })
}

struct Members<'s, M> {
    message: &'s mut M,
    trail: &'s Trail,
}

impl<'a, M: Message<'a>> Visitor<'a> for Members<'_, M> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<bool, A::Error> {
        self.trail.down()?;
        let mut seen = 0_u64;
        while let Some(member) = map.next_key_seed(Name::<M>(PhantomData))? {
            let Some(member) = member else {
                map.next_value_seed(Skip { trail: self.trail })?;
                continue;
            };
            let read = match seen & (1 << member) {
                0 => self.message.merge_json(member, &mut map, self.trail),
                _ => Err(A::Error::custom("given twice")),
            };
            if let Err(error) = read {
                let name = M::FIELDS.get(member).map_or("", |(_, name)| name);
                self.trail.leave(Step::Field(name));
                return Err(error);
            }
            seen |= 1 << member;
        }
        self.trail.up();
        Ok(true)
    }
}

/// A member's name, as its place among the fields of `M`.
struct Name<M>(PhantomData<M>);

impl<'a, M: Message<'a>> DeserializeSeed<'a> for Name<M> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<Option<usize>, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'a, M: Message<'a>> Visitor<'a> for Name<M> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(M::member(name.as_bytes()))
    }
}

/// Reads a scalar; `None` where there is null instead.
pub(crate) fn scalar<'a, T: Scalar<'a>, D: Deserializer<'a>>(
    json: D,
) -> Result<Option<T>, D::Error> {
    json.deserialize_any(Value(PhantomData))
}

struct Value<T>(PhantomData<T>);

impl<T> Value<T> {
    #[cold]
    fn refuse<'a, E: Error>(got: &str) -> E
    where
        T: Scalar<'a>,
    {
        E::custom(format_args!("expected {}, got {got}", T::EXPECTED))
    }

    fn take<'a, E: Error>(value: Option<T>, got: impl fmt::Display) -> Result<Option<T>, E>
    where
        T: Scalar<'a>,
    {
        match value {
            Some(value) => Ok(Some(value)),
            None => Err(Self::refuse(&got.to_string())),
        }
    }
}

impl<'a, T: Scalar<'a>> Visitor<'a> for Value<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Option<T>, E> {
        Self::take(T::from_bool(value), value)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Option<T>, E> {
        Self::take(T::from_signed(number), number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Option<T>, E> {
        Self::take(T::from_unsigned(number), number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Option<T>, E> {
        Self::take(T::from_float(number), number)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<Option<T>, E> {
        match T::from_text(text) {
            Some(value) => Ok(Some(value)),
            None => Err(Self::refuse(&quote(text))),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<T>, E> {
        match T::from_passing_text(text) {
            Some(value) => Ok(Some(value)),
            None => Err(Self::refuse(&quote(text))),
        }
    }
}

/// Reads a list into `list`; false where there is null instead.
pub(crate) fn elements<'a, T: Field<'a> + Default, D: Deserializer<'a>>(
    list: &mut Vec<T>,
    json: D,
    trail: &Trail,
) -> Result<bool, D::Error> {
    json.deserialize_any(Elements { list, trail })
}

struct Elements<'s, T> {
    list: &'s mut Vec<T>,
    trail: &'s Trail,
}

impl<'a, T: Field<'a> + Default> Visitor<'a> for Elements<'_, T> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<bool, A::Error> {
        self.trail.down()?;
        loop {
            let mut value = T::default();
            let slot = Slot {
                field: &mut value,
                trail: self.trail,
            };
            let fault = match list.next_element_seed(slot) {
                Ok(None) => break,
                Ok(Some(true)) if self.list.len() < ELEMENTS_MAX => {
                    self.list.push(value);
                    continue;
                }
                Ok(Some(true)) => {
                    return Err(self
                        .trail
                        .too_large(format!("more than {ELEMENTS_MAX} elements")));
                }
                Ok(Some(false)) => A::Error::invalid_type(Unexpected::Unit, &"an element"),
                Err(error) => error,
            };
            self.trail.leave(Step::Element(self.list.len()));
            return Err(fault);
        }
        self.trail.up();
        Ok(true)
    }
}

/// Reads an object whose names are data into `map`; false where there is null instead.
pub(crate) fn entries<'a, V: Scalar<'a> + Default, D: Deserializer<'a>>(
    map: &mut Vec<(Cow<'a, str>, V)>,
    json: D,
    trail: &Trail,
) -> Result<bool, D::Error> {
    json.deserialize_any(Entries { map, trail })
}

struct Entries<'s, 'a, V> {
    map: &'s mut Vec<(Cow<'a, str>, V)>,
    trail: &'s Trail,
}

impl<'a, V: Scalar<'a> + Default> Visitor<'a> for Entries<'_, 'a, V> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut object: A) -> Result<bool, A::Error> {
        self.trail.down()?;
        let mut key = Cow::default();
        let trail = self.trail;
        while object
            .next_key_seed(Slot {
                field: &mut key,
                trail,
            })?
            .is_some()
        {
            let mut value = V::default();
            let field = &mut value;
            if !object.next_value_seed(Slot { field, trail })? {
                return Err(A::Error::invalid_type(Unexpected::Unit, &"a value"));
            }
            if self.map.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom(format_args!(
                    "{} given twice",
                    quote(&key)
                )));
            }
            if self.map.len() == ENTRIES_MAX {
                return Err(trail.too_large(format!("more than {ENTRIES_MAX} entries")));
            }
            self.map.push((std::mem::take(&mut key), value));
        }
        trail.up();
        Ok(true)
    }
}

/// Passes over a value of any kind, as deep as is allowed.
struct Skip<'s> {
    trail: &'s Trail,
}

impl<'a> DeserializeSeed<'a> for Skip<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Skip<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _value: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _number: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _number: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _number: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _text: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<(), A::Error> {
        let trail = self.trail;
        trail.down()?;
        while list.next_element_seed(Skip { trail })?.is_some() {}
        trail.up();
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let trail = self.trail;
        trail.down()?;
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Skip { trail })?;
        }
        trail.up();
        Ok(())
    }
}
