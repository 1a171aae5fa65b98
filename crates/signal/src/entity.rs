//! Entities: what a number is about. Owns their kinds, their text and JSON forms.

use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The kind of an entity: one name, or a pair of names.
///
/// The number is written into the log: add at the end, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The whole shop.
    Shop = 0,
    /// A campaign.
    Campaign = 1,
    /// A stock keeping unit.
    Sku = 2,
    /// A sales channel.
    Channel = 3,
    /// A sku at one stock location.
    SkuLocation = 4,
    /// A warehouse.
    Warehouse = 5,
    /// A courier.
    Courier = 6,
    /// Origin and destination region, `BJ>SH`.
    Lane = 7,
    /// A warehouse and the courier that collects there.
    WarehouseCourier = 8,
    /// A courier on one lane.
    CourierLane = 9,
    /// A source: one topic of the shop.
    Source = 10,
    /// A part of Fenghuo itself, or of what it stands on: a channel, the clock, the disk.
    Component = 11,
}

impl Kind {
    /// Every kind, by number.
    pub const ALL: [Kind; 12] = [
        Kind::Shop,
        Kind::Campaign,
        Kind::Sku,
        Kind::Channel,
        Kind::SkuLocation,
        Kind::Warehouse,
        Kind::Courier,
        Kind::Lane,
        Kind::WarehouseCourier,
        Kind::CourierLane,
        Kind::Source,
        Kind::Component,
    ];

    /// The name of the kind, and of each of its parts, joined by a comma: `courier,lane`.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Shop => "shop",
            Kind::Campaign => "campaign",
            Kind::Sku => "sku",
            Kind::Channel => "channel",
            Kind::SkuLocation => "sku,location",
            Kind::Warehouse => "warehouse",
            Kind::Courier => "courier",
            Kind::Lane => "lane",
            Kind::WarehouseCourier => "warehouse,courier",
            Kind::CourierLane => "courier,lane",
            Kind::Source => "source",
            Kind::Component => "component",
        }
    }

    /// The names of the parts.
    pub fn parts(self) -> (&'static str, Option<&'static str>) {
        match self.name().split_once(',') {
            Some((first, second)) => (first, Some(second)),
            None => (self.name(), None),
        }
    }

    /// The kind with this number.
    pub fn from_number(number: u32) -> Option<Kind> {
        Kind::ALL.get(number as usize).copied()
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether entities of this kind are homed by their sku; every other is homed by shop.
    pub const fn homed_by_sku(self) -> bool {
        matches!(self, Kind::Sku | Kind::SkuLocation)
    }
}

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

impl EntityRef<'_> {
    /// Copies the names.
    pub fn to_owned(self) -> Entity {
        Entity {
            kind: self.kind,
            first: CompactString::new(self.first),
            second: CompactString::new(self.second),
        }
    }
}

/// What a number is about.
///
/// Text: `courier=SF,lane=BJ>SH`; a comma, an equals sign or a backslash inside a name is written
/// with a backslash before it. The shop is `shop`. JSON:
/// `{"kind":"courier,lane","courier":"SF","lane":"BJ>SH"}`.
///
/// ```
/// use fenghuo_signal::{Entity, Kind};
/// let entity = Entity::pair(Kind::CourierLane, "SF", "BJ>SH");
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
        Self::one(Kind::Shop, "")
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
        if self.kind == Kind::Shop {
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
        let kind = kind.filter(|kind| *kind != Kind::Shop).ok_or_else(fail)?;
        Ok(Entity::pair(kind, first, second))
    }
}

impl Serialize for Entity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", self.kind.name())?;
        if self.kind != Kind::Shop {
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
        if kind == Kind::Shop {
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
        fn text_and_json_forms_round_trip(number in 1_u32..11, first in "\\PC*", second in "\\PC*") {
            let kind = Kind::from_number(number).unwrap();
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
