//! Writing owned messages as JSON, in the names and order of the .proto. What is not given is left
//! out, as proto3 has it. The generated code names the members; how each type looks is here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::time::{DurationMs, Timestamp};

/// Numbers past this lose digits where JSON numbers are doubles, and are written as strings.
const SAFE_INTEGER: u64 = 1 << 53;

/// A message that can list its members.
pub(crate) trait Members {
    fn members(&self, object: &mut Object<'_>);
}

/// A value as JSON writes it.
pub(crate) trait Json {
    /// Not given, and so not written.
    fn absent(&self) -> bool;

    fn write(&self, out: &mut String);
}

/// An object being written.
pub(crate) struct Object<'o> {
    out: &'o mut String,
    empty: bool,
}

/// Writes `message` as an object.
pub(crate) fn object(message: &impl Members, out: &mut String) {
    out.push('{');
    message.members(&mut Object { out, empty: true });
    out.push('}');
}

impl Object<'_> {
    fn name(&mut self, name: &str) {
        if !self.empty {
            self.out.push(',');
        }
        self.empty = false;
        // Names come from the .proto and need no escapes.
        let _ = write!(self.out, "\"{name}\":");
    }

    pub(crate) fn member(&mut self, name: &str, value: &impl Json) {
        if !value.absent() {
            self.name(name);
            value.write(self.out);
        }
    }

    /// A member that says something by being there.
    pub(crate) fn required(&mut self, name: &str, value: &impl Members) {
        self.name(name);
        object(value, self.out);
    }

    /// A number that the .proto does not know stays one.
    pub(crate) fn enumeration(&mut self, name: &str, number: i32, known: &str) {
        if number == 0 {
            return;
        }
        self.name(name);
        let _ = match known.ends_with("UNSPECIFIED") {
            true => write!(self.out, "{number}"),
            false => write!(self.out, "\"{known}\""),
        };
    }
}

fn text(value: &str, out: &mut String) {
    out.push('"');
    for letter in value.chars() {
        let _ = match letter {
            '"' => out.write_str("\\\""),
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            control if control < ' ' => write!(out, "\\u{:04x}", u32::from(control)),
            plain => out.write_char(plain),
        };
    }
    out.push('"');
}

impl Json for String {
    fn absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut String) {
        text(self, out);
    }
}

impl Json for bool {
    fn absent(&self) -> bool {
        !self
    }

    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl Json for i32 {
    fn absent(&self) -> bool {
        *self == 0
    }

    fn write(&self, out: &mut String) {
        let _ = write!(out, "{self}");
    }
}

macro_rules! wide {
    ($($type:ty, $size:expr);+) => {$(
        impl Json for $type {
            fn absent(&self) -> bool {
                *self == 0
            }

            fn write(&self, out: &mut String) {
                let size: u64 = $size(*self);
                let _ = match size <= SAFE_INTEGER {
                    true => write!(out, "{self}"),
                    false => write!(out, "\"{self}\""),
                };
            }
        }
    )+};
}
wide! {
    i64, i64::unsigned_abs;
    u64, u64::from
}

macro_rules! float {
    ($($type:ty),+) => {$(
        impl Json for $type {
            /// Minus zero is a number of its own, as in the wire format.
            fn absent(&self) -> bool {
                self.to_bits() == 0
            }

            fn write(&self, out: &mut String) {
                // The shortest digits that read back as the same number.
                let _ = match *self {
                    value if value.is_finite() => write!(out, "{value:?}"),
                    value if value.is_nan() => out.write_str("\"NaN\""),
                    value if value > 0.0 => out.write_str("\"Infinity\""),
                    _ => out.write_str("\"-Infinity\""),
                };
            }
        }
    )+};
}
float!(f32, f64);

impl<M: Members> Json for M {
    fn absent(&self) -> bool {
        false
    }

    fn write(&self, out: &mut String) {
        object(self, out);
    }
}

impl Json for prost_types::Timestamp {
    fn absent(&self) -> bool {
        false
    }

    fn write(&self, out: &mut String) {
        let timestamp = Timestamp::from_parts(self.seconds, self.nanos).unwrap_or_default();
        let _ = write!(out, "\"{timestamp}\"");
    }
}

impl Json for prost_types::Duration {
    fn absent(&self) -> bool {
        false
    }

    fn write(&self, out: &mut String) {
        let DurationMs(ms) = DurationMs::from_parts(self.seconds, self.nanos).unwrap_or_default();
        let sign = if ms < 0 { "-" } else { "" };
        let (seconds, rest) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
        let _ = match rest {
            0 => write!(out, "\"{sign}{seconds}s\""),
            _ => write!(out, "\"{sign}{seconds}.{rest:03}s\""),
        };
    }
}

impl<T: Json> Json for Option<T> {
    fn absent(&self) -> bool {
        self.is_none()
    }

    fn write(&self, out: &mut String) {
        if let Some(value) = self {
            value.write(out);
        }
    }
}

impl<T: Json> Json for Vec<T> {
    fn absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut String) {
        out.push('[');
        for (at, value) in self.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            value.write(out);
        }
        out.push(']');
    }
}

impl<V: Json> Json for BTreeMap<String, V> {
    fn absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut String) {
        out.push('{');
        for (at, (name, value)) in self.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            text(name, out);
            out.push(':');
            value.write(out);
        }
        out.push('}');
    }
}
