//! Entities: what a number is about. Owns their kinds, their text and JSON forms.

use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use hashbrown::Equivalent;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kind::Kind;

/// An entity, borrowed: what the hot path looks up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntityRef<'a> {
    /// Its kind.
    pub kind: Kind,
    /// The first name; empty for the shop.
    pub first: &'a str,
    /// The second name of a pair, else empty.
    pub second: &'a str,
}

impl From<EntityRef<'_>> for Entity {
    fn from(entity: EntityRef<'_>) -> Self {
        Self::pair(entity.kind, entity.first, entity.second)
    }
}

impl Equivalent<Entity> for EntityRef<'_> {
    fn equivalent(&self, other: &Entity) -> bool {
        self.kind == other.kind
            && same(self.first, &other.first)
            && same(self.second, &other.second)
    }
}

/// Whether two names are equal. Most second names are empty, and an empty one may point nowhere:
/// the C library's vectorised `memcmp` loads from there all the same, under an empty mask, which
/// some processors answer with a microcode assist of some hundred cycles.
#[inline]
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

/// What a number is about.
///
/// Text: `courier=SF,lane=BJ>SH`; a comma, an equals sign or a backslash inside a name is written
/// with a backslash before it. The shop is `shop`. JSON:
/// `{"kind":"courier,lane","courier":"SF","lane":"BJ>SH"}`.
///
/// ```
/// use fenghuo_signal::{Entity, Kind};
/// let entity = Entity::pair(Kind::COURIER_LANE, "SF", "BJ>SH");
/// assert_eq!(entity.to_string(), "courier=SF,lane=BJ>SH");
/// assert_eq!("courier=SF,lane=BJ>SH".parse(), Ok(entity));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entity {
    /// Its kind.
    pub kind: Kind,
    /// The first name; empty for the shop.
    pub first: CompactString,
    /// The second name of a pair, else empty.
    pub second: CompactString,
}

impl Entity {
    /// An entity with one name.
    pub fn one(kind: Kind, name: &str) -> Self {
        Self {
            kind,
            first: CompactString::new(name),
            second: CompactString::default(),
        }
    }

    /// An entity with two names.
    pub fn pair(kind: Kind, first: &str, second: &str) -> Self {
        Self {
            kind,
            first: CompactString::new(first),
            second: CompactString::new(second),
        }
    }

    /// The shop.
    pub fn shop() -> Self {
        Self::one(Kind::SHOP, "")
    }

    /// Borrowed.
    pub fn as_ref(&self) -> EntityRef<'_> {
        EntityRef {
            kind: self.kind,
            first: &self.first,
            second: &self.second,
        }
    }

    /// The value of the part with this name, such as `lane`.
    pub fn part(&self, name: &str) -> Option<&str> {
        let (first, second) = self.kind.parts();
        if name == first {
            Some(&self.first)
        } else if Some(name) == second {
            Some(&self.second)
        } else {
            None
        }
    }
}

fn write_escaped(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    for c in name.chars() {
        if matches!(c, ',' | '=' | '\\') {
            f.write_str("\\")?;
        }
        fmt::Write::write_char(f, c)?;
    }
    Ok(())
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::SHOP {
            return f.write_str("shop");
        }
        let (first, second) = self.kind.parts();
        write!(f, "{first}=")?;
        write_escaped(f, &self.first)?;
        if let Some(second) = second {
            write!(f, ",{second}=")?;
            write_escaped(f, &self.second)?;
        }
        Ok(())
    }
}

/// A text that is no entity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no entity; expected a form like sku=A1 or courier=SF,lane=BJ>SH")]
pub struct ParseEntityError(pub String);

impl FromStr for Entity {
    type Err = ParseEntityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseEntityError(text.to_owned());
        if text == "shop" {
            return Ok(Entity::shop());
        }
        // Names and values in turn; unescaped `=` ends a name, unescaped `,` a value.
        let mut parts: Vec<String> = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let in_name = parts.len() % 2 == 1;
            match c {
                '\\' => parts
                    .last_mut()
                    .ok_or_else(fail)?
                    .push(chars.next().ok_or_else(fail)?),
                '=' if in_name => parts.push(String::new()),
                ',' if !in_name => parts.push(String::new()),
                c => parts.last_mut().ok_or_else(fail)?.push(c),
            }
        }
        let (kind, first, second) = match parts.as_slice() {
            [name, value] => (Kind::from_name(name), value.as_str(), ""),
            [a, x, b, y] => (Kind::from_name(&format!("{a},{b}")), x.as_str(), y.as_str()),
            _ => return Err(fail()),
        };
        let kind = kind.filter(|kind| *kind != Kind::SHOP).ok_or_else(fail)?;
        Ok(Entity::pair(kind, first, second))
    }
}

impl Serialize for Entity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", self.kind.name())?;
        if self.kind != Kind::SHOP {
            let (first, second) = self.kind.parts();
            map.serialize_entry(first, self.first.as_str())?;
            if let Some(second) = second {
                map.serialize_entry(second, self.second.as_str())?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Entity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let map = std::collections::BTreeMap::<String, String>::deserialize(deserializer)?;
        let name = map
            .get("kind")
            .ok_or_else(|| D::Error::missing_field("kind"))?;
        let kind = Kind::from_name(name)
            .ok_or_else(|| D::Error::custom(format_args!("unknown entity kind {name:?}")))?;
        if kind == Kind::SHOP {
            return Ok(Entity::shop());
        }
        let part = |name: &'static str| map.get(name).ok_or_else(|| D::Error::missing_field(name));
        let (first, second) = kind.parts();
        let second = second.map(part).transpose()?.map_or("", String::as_str);
        Ok(Entity::pair(kind, part(first)?, second))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_json_forms_round_trip(number in 1_usize..11, first in "\\PC*", second in "\\PC*") {
            let kind = Kind::all().nth(number).unwrap();
            let second = if kind.parts().1.is_some() { second } else { String::new() };
            let entity = Entity::pair(kind, &first, &second);
            prop_assert_eq!(entity.to_string().parse::<Entity>(), Ok(entity.clone()));
            let json = serde_json::to_string(&entity).unwrap();
            prop_assert_eq!(serde_json::from_str::<Entity>(&json).unwrap(), entity);
        }
    }

    #[test]
    fn what_is_no_entity_is_refused() {
        for text in [
            "",
            "sku",
            "sku=a,b",
            "lane=x,courier=y",
            "shop=1",
            "sku=a\\",
        ] {
            assert!(text.parse::<Entity>().is_err(), "{text:?} was taken");
        }
    }
}
