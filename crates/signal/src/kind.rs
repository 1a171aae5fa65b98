//! Kinds of entity: one name, or a pair of names.
//!
//! A kind is known by its name alone; a catalogue may bring kinds of its own. The names lie in a
//! table of the process that only grows, up to [`KINDS_MAX`], so that a kind is a small number that
//! is compared and hashed at once. The number is never written down: records carry the name.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Kinds that a process can know.
pub const KINDS_MAX: usize = 256;

/// Bytes of the name of one part.
const PART_BYTES_MAX: usize = 32;

/// The kind of an entity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind(u16);

/// What is known of a kind.
#[derive(Debug)]
struct Named {
    name: &'static str,
    first: &'static str,
    second: Option<&'static str>,
}

/// A name that no kind can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// The name has another form.
    #[error(
        "{0:?} is no kind of entity; expected one name or two with a comma between them, each of lower-case letters, \
         digits and '_', from a letter on, at most 32 characters"
    )]
    Form(String),
    /// The table is full.
    #[error("{0:?} is one kind of entity too many; at most {KINDS_MAX} are known")]
    Full(String),
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $constant:ident = $number:literal: $name:literal,)*) => {
        impl Kind {
            $($(#[$doc])* pub const $constant: Kind = Kind($number);)*
        }

        const BUILT_IN: &[&str] = &[$($name),*];
    };
}

kinds! {
    /// The whole shop.
    SHOP = 0: "shop",
    /// A campaign.
    CAMPAIGN = 1: "campaign",
    /// A stock keeping unit.
    SKU = 2: "sku",
    /// A sales channel.
    CHANNEL = 3: "channel",
    /// A sku at one stock location.
    SKU_LOCATION = 4: "sku,location",
    /// A warehouse.
    WAREHOUSE = 5: "warehouse",
    /// A courier.
    COURIER = 6: "courier",
    /// Origin and destination region, `BJ>SH`.
    LANE = 7: "lane",
    /// A warehouse and the courier that collects there.
    WAREHOUSE_COURIER = 8: "warehouse,courier",
    /// A courier on one lane.
    COURIER_LANE = 9: "courier,lane",
    /// A source: one topic of the shop.
    SOURCE = 10: "source",
    /// A part of Fenghuo itself, or of what it stands on: a channel, the clock, the disk.
    COMPONENT = 11: "component",
}

/// The names in the order of their numbers. A place is filled once and never changed.
static TABLE: [OnceLock<Named>; KINDS_MAX] = [const { OnceLock::new() }; KINDS_MAX];

/// Held while a name is added.
static ADDING: Mutex<()> = Mutex::new(());

fn named(number: usize) -> Option<&'static Named> {
    let place = TABLE.get(number)?;
    match BUILT_IN.get(number) {
        Some(name) => Some(place.get_or_init(|| split(name))),
        None => place.get(),
    }
}

fn split(name: &'static str) -> Named {
    let (first, second) = match name.split_once(',') {
        Some((first, second)) => (first, Some(second)),
        None => (name, None),
    };
    Named {
        name,
        first,
        second,
    }
}

impl Kind {
    /// The kind with this name; a new one is added to those that are known.
    pub fn named(name: &str) -> Result<Kind, KindError> {
        if let Some(kind) = Self::from_name(name) {
            return Ok(kind);
        }
        let is_part = |part: &str| {
            part.len() <= PART_BYTES_MAX
                && part.starts_with(|c: char| c.is_ascii_lowercase())
                && part
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        };
        // `kind` is the key that names it in the JSON form of an entity.
        let mut parts = name.split(',');
        let is_kind =
            parts.clone().count() <= 2 && parts.all(|part| is_part(part) && part != "kind");
        if !is_kind {
            return Err(KindError::Form(crate::shown(name, 80)));
        }
        let _adding = ADDING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = Self::from_name(name) {
            return Ok(kind);
        }
        let free = (BUILT_IN.len()..KINDS_MAX).find(|number| TABLE[*number].get().is_none());
        let number = free.ok_or_else(|| KindError::Full(name.to_owned()))?;
        TABLE[number].get_or_init(|| split(String::leak(name.to_owned())));
        Ok(Kind(number as u16))
    }

    /// Every kind that is known, the built-in ones first.
    pub fn all() -> impl Iterator<Item = Kind> {
        (0..KINDS_MAX)
            .take_while(|number| named(*number).is_some())
            .map(|number| Kind(number as u16))
    }

    fn info(self) -> &'static Named {
        // Every kind was made from a place that is filled.
        const NONE: &Named = &Named {
            name: "",
            first: "",
            second: None,
        };
        named(usize::from(self.0)).unwrap_or(NONE)
    }

    /// The name of the kind, which is that of its parts, joined by a comma: `courier,lane`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The names of the parts.
    pub fn parts(self) -> (&'static str, Option<&'static str>) {
        let info = self.info();
        (info.first, info.second)
    }

    /// The kind with this name, where it is known.
    pub fn from_name(name: &str) -> Option<Kind> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// Whether entities of this kind are homed by their sku; every other is homed by shop.
    pub fn homed_by_sku(self) -> bool {
        self.parts().0 == "sku"
    }
}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u16(self.0);
    }
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The built-in ones in their order, then by name: the order in which kinds came to be known
/// decides nothing.
impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        let built_in = |kind: &Kind| usize::from(kind.0).min(BUILT_IN.len());
        let by_number = built_in(self).cmp(&built_in(other));
        by_number.then_with(|| self.name().cmp(other.name()))
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_its_name() {
        assert_eq!(Kind::named("sku,location"), Ok(Kind::SKU_LOCATION));
        let queue = Kind::named("queue,agent").unwrap();
        assert_eq!(Kind::named("queue,agent"), Ok(queue));
        assert_eq!(queue.parts(), ("queue", Some("agent")));
        assert!(Kind::COMPONENT < queue);
        for wrong in ["", "Sku", "a,b,c", "a,", ",a", "1a", "kind", "a b", "ä"] {
            assert!(Kind::named(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
