//! What a field of a view can do, by its type: be read from either encoding. The generated views
//! name their fields; everything a field knows is here. A type that events.proto does not use has
//! no place here.

use std::borrow::Cow;

use serde::de::{Deserializer, MapAccess};

use crate::json::read::{self as json, Trail};
use crate::rejected::Fault;
use crate::time::{DurationMs, Timestamp};
use crate::wire::{self, Reader, Wire};

/// A generated view.
pub(crate) trait Message<'a>: Sized {
    /// Numbers and names of the fields, in the order of the .proto.
    const FIELDS: &'static [(u32, &'static str)];

    /// Place in [`FIELDS`](Self::FIELDS) of a JSON name.
    fn member(name: &[u8]) -> Option<usize>;

    /// Reads the value of field `number`.
    fn merge_wire(&mut self, number: u32, wire: Wire, input: &mut Reader<'a>) -> Result<(), Fault>;

    /// Reads the value of the field at place `member`.
    fn merge_json<A: MapAccess<'a>>(
        &mut self,
        member: usize,
        map: &mut A,
        trail: &Trail,
    ) -> Result<(), A::Error>;
}

/// Something a view holds.
pub(crate) trait Field<'a>: Sized {
    /// The layout of one of many in a packed list, where the type can be packed.
    const PACKED: Option<Wire> = None;

    /// Whether a second value is an error and neither takes the first one's place nor is merged
    /// with it.
    const ONCE: bool = false;

    /// Reads the value.
    fn merge_wire(&mut self, wire: Wire, input: &mut Reader<'a>) -> Result<(), Fault>;

    /// Reads the value; false where it is null.
    fn merge_json<D: Deserializer<'a>>(&mut self, json: D, trail: &Trail)
    -> Result<bool, D::Error>;
}

/// A value without fields.
pub(crate) trait Scalar<'a>: Sized {
    const WIRE: Wire;

    /// As in [`Field`].
    const ONCE: bool = false;

    /// Ends "expected …".
    const EXPECTED: &'static str;

    fn read(input: &mut Reader<'a>) -> Result<Self, Fault>;

    /// From a JSON string that stays.
    fn from_text(text: &'a str) -> Option<Self> {
        Self::from_passing_text(text)
    }

    /// From a JSON string that does not stay, because it had escapes.
    fn from_passing_text(_text: &str) -> Option<Self> {
        None
    }

    fn from_signed(_number: i64) -> Option<Self> {
        None
    }

    fn from_unsigned(number: u64) -> Option<Self> {
        i64::try_from(number).ok().and_then(Self::from_signed)
    }

    /// proto3 JSON lets a whole number be written as 1.0 or 1e3.
    fn from_float(number: f64) -> Option<Self> {
        const SAFE: f64 = 9_007_199_254_740_992.0;
        let whole = number.fract() == 0.0 && number.abs() <= SAFE;
        whole.then_some(number as i64).and_then(Self::from_signed)
    }

    fn from_bool(_value: bool) -> Option<Self> {
        None
    }
}

impl<'a, T: Scalar<'a>> Field<'a> for T {
    const PACKED: Option<Wire> = match T::WIRE {
        Wire::Length => None,
        wire => Some(wire),
    };
    const ONCE: bool = T::ONCE;

    fn merge_wire(&mut self, wire: Wire, input: &mut Reader<'a>) -> Result<(), Fault> {
        input.expect(T::WIRE, wire)?;
        *self = T::read(input)?;
        Ok(())
    }

    fn merge_json<D: Deserializer<'a>>(
        &mut self,
        json: D,
        _trail: &Trail,
    ) -> Result<bool, D::Error> {
        match json::scalar(json)? {
            None => Ok(false),
            Some(value) => {
                *self = value;
                Ok(true)
            }
        }
    }
}

impl<'a, T: Field<'a> + Default> Field<'a> for Option<T> {
    fn merge_wire(&mut self, wire: Wire, input: &mut Reader<'a>) -> Result<(), Fault> {
        if T::ONCE && self.is_some() {
            return Err(input.invalid("given twice"));
        }
        self.get_or_insert_default().merge_wire(wire, input)
    }

    fn merge_json<D: Deserializer<'a>>(
        &mut self,
        json: D,
        trail: &Trail,
    ) -> Result<bool, D::Error> {
        let mut value = T::default();
        let given = value.merge_json(json, trail)?;
        *self = given.then_some(value);
        Ok(given)
    }
}

impl<'a, T: Field<'a> + Default> Field<'a> for Vec<T> {
    fn merge_wire(&mut self, wire: Wire, input: &mut Reader<'a>) -> Result<(), Fault> {
        wire::elements(self, wire, input)
    }

    fn merge_json<D: Deserializer<'a>>(
        &mut self,
        json: D,
        trail: &Trail,
    ) -> Result<bool, D::Error> {
        json::elements(self, json, trail)
    }
}

impl<'a, V: Scalar<'a> + Default> Field<'a> for Vec<(Cow<'a, str>, V)> {
    fn merge_wire(&mut self, wire: Wire, input: &mut Reader<'a>) -> Result<(), Fault> {
        wire::entry(self, wire, input)
    }

    fn merge_json<D: Deserializer<'a>>(
        &mut self,
        json: D,
        trail: &Trail,
    ) -> Result<bool, D::Error> {
        json::entries(self, json, trail)
    }
}

impl<'a> Scalar<'a> for Cow<'a, str> {
    const WIRE: Wire = Wire::Length;
    const EXPECTED: &'static str = "a string";

    fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
        input.string().map(Cow::Borrowed)
    }

    fn from_text(text: &'a str) -> Option<Self> {
        Some(Cow::Borrowed(text))
    }

    fn from_passing_text(text: &str) -> Option<Self> {
        Some(Cow::Owned(text.to_owned()))
    }

    fn from_float(_number: f64) -> Option<Self> {
        None
    }
}

impl<'a> Scalar<'a> for bool {
    const WIRE: Wire = Wire::Varint;
    const EXPECTED: &'static str = "true or false";

    fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
        input.varint().map(|value| value != 0)
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

/// Whole numbers: a varint (negative ones as 64 bits), a JSON number or a string of digits.
macro_rules! whole {
    ($($type:ty, $expected:literal);+) => {$(
        impl<'a> Scalar<'a> for $type {
            const WIRE: Wire = Wire::Varint;
            const EXPECTED: &'static str = $expected;

            fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
                // Wider numbers are cut to the type, as the wire format has it.
                input.varint().map(|value| value as $type)
            }

            fn from_passing_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn from_signed(number: i64) -> Option<Self> {
                number.try_into().ok()
            }

            fn from_unsigned(number: u64) -> Option<Self> {
                number.try_into().ok()
            }
        }
    )+};
}
whole! {
    i32, "a whole number of 32 bits";
    i64, "a whole number of 64 bits";
    u64, "a whole number of 64 bits, zero or above"
}

/// Other numbers. Strings serve for NaN and the infinities too, which the checks then refuse.
macro_rules! float {
    ($($type:ty, $wire:expr);+) => {$(
        impl<'a> Scalar<'a> for $type {
            const WIRE: Wire = $wire;
            const EXPECTED: &'static str = "a number";

            fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
                input.fixed().map(<$type>::from_le_bytes)
            }

            fn from_passing_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn from_signed(number: i64) -> Option<Self> {
                Some(number as $type)
            }

            fn from_unsigned(number: u64) -> Option<Self> {
                Some(number as $type)
            }

            fn from_float(number: f64) -> Option<Self> {
                Some(number as $type)
            }
        }
    )+};
}
float! {
    f32, Wire::Fixed32;
    f64, Wire::Fixed64
}

impl<'a> Scalar<'a> for Timestamp {
    const WIRE: Wire = Wire::Length;
    // Two halves could be merged into an instant that neither says; nobody writes that in good faith.
    const ONCE: bool = true;
    const EXPECTED: &'static str = "an RFC 3339 time such as 2026-11-11T12:00:00Z";

    fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
        let (seconds, nanos) = wire::seconds_and_nanos(input)?;
        Self::from_parts(seconds, nanos)
            .ok_or_else(|| input.invalid("seconds or nanos out of range"))
    }

    fn from_passing_text(text: &str) -> Option<Self> {
        Self::read(text)
    }
}

impl<'a> Scalar<'a> for DurationMs {
    const WIRE: Wire = Wire::Length;
    // Two halves could be merged into a span that neither says; nobody writes that in good faith.
    const ONCE: bool = true;
    const EXPECTED: &'static str = "a span of time in seconds such as \"3.5s\"";

    fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
        let (seconds, nanos) = wire::seconds_and_nanos(input)?;
        Self::from_parts(seconds, nanos)
            .ok_or_else(|| input.invalid("seconds or nanos out of range"))
    }

    fn from_passing_text(text: &str) -> Option<Self> {
        Self::read(text)
    }
}

/// Enums of prost: a varint, or in JSON a name or a number. What the .proto does not know is
/// refused in both, rather than taken for "not given".
macro_rules! enumeration {
    ($type:ty, $name:literal) => {
        impl<'a> Scalar<'a> for $type {
            const WIRE: Wire = Wire::Varint;
            const EXPECTED: &'static str = concat!("a name or number of ", $name);

            fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
                let number = input.varint()? as i32;
                Self::try_from(number)
                    .map_err(|_| input.invalid(&format!("{number} is no {}", $name)))
            }

            fn from_passing_text(text: &str) -> Option<Self> {
                Self::from_str_name(text)
            }

            fn from_signed(number: i64) -> Option<Self> {
                i32::try_from(number).ok()?.try_into().ok()
            }
        }

        impl Check for $type {}
    };
}
pub(crate) use enumeration;

/// Messages as fields of others.
macro_rules! message {
    ($type:ty) => {
        impl<'a> Field<'a> for $type {
            fn merge_wire(&mut self, wire: Wire, input: &mut Reader<'a>) -> Result<(), Fault> {
                wire::message(self, wire, input)
            }

            fn merge_json<D: Deserializer<'a>>(
                &mut self,
                json: D,
                trail: &Trail,
            ) -> Result<bool, D::Error> {
                json::message(self, json, trail)
            }
        }
    };
}
pub(crate) use message;
