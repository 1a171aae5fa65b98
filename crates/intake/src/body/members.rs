//! A JSON object read one level deep: its names, and its values as they stand. What a value says
//! is looked at only where it is asked for, so that the decoder sees everything that the sender
//! wrote, repeated names among it.

use std::borrow::Cow;
use std::fmt;

use fenghuo_event::{Reason, Rejected};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::refused;
use crate::shown;

/// The members of an object, in their order.
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A string, in the sender's bytes where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Members<'a> {
    /// Reads an object; `name` is what it is to the sender.
    pub(super) fn read(name: &str, text: &'a str) -> Result<Self, Rejected> {
        if text.trim_ascii_start().starts_with('{') {
            return serde_json::from_str(text).map_err(|error| malformed(name, &error));
        }
        match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => Err(unexpected(name, "an object", text)),
            Err(error) => Err(malformed(name, &error)),
        }
    }

    /// No members at all.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// The members, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// The value of a member; nothing where it is null, which says the same as leaving it out.
    pub(super) fn get(&self, name: &str) -> Result<Option<&'a RawValue>, Rejected> {
        let mut values = self.iter().filter(|(other, _)| *other == name);
        let value = values.next().map(|(_, value)| value);
        match values.next() {
            None => Ok(value.filter(|value| value.get() != "null")),
            Some(_) => Err(refused(
                Reason::InvalidValue,
                format!("{name}: given twice"),
            )),
        }
    }

    /// The value of a member that is a string; nothing where it is empty.
    pub(super) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Rejected> {
        let Some(value) = self.get(name)? else {
            return Ok(None);
        };
        match serde_json::from_str::<Text<'a>>(value.get()) {
            Ok(Text(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Err(_) => Err(unexpected(name, "a string", value.get())),
        }
    }

    /// The value of a member that must be a string and not be empty.
    pub(super) fn required(&self, name: &str) -> Result<Cow<'a, str>, Rejected> {
        self.text(name)?
            .ok_or_else(|| refused(Reason::MissingField, format!("{name}: expected a string")))
    }
}

#[cold]
fn malformed(name: &str, error: &serde_json::Error) -> Rejected {
    refused(Reason::Malformed, format!("{name}: {error}"))
}

/// The value of a member is not what it may be.
#[cold]
pub(super) fn unexpected(name: &str, expected: &str, got: &str) -> Rejected {
    refused(
        Reason::InvalidValue,
        format!("{name}: expected {expected}, got {}", shown(got.as_bytes())),
    )
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some((Text(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(Members(members))
    }
}
