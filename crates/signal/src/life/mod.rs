//! Lives: what is followed from its first event to its last, and the changes of it that measures
//! count.
//!
//! A life is a file here: the record that is kept of one while it is open, and a fold that takes an
//! event into the record and tells each change. A change is a row of a fixed form that expressions
//! read like an event; the schema of a life says what its places mean. So what is counted about a
//! life is data, and only what a life *is* needs code.

use std::borrow::Cow;
use std::convert::Infallible;

use fenghuo_event::Stream;
use fenghuo_event::schema::Enumeration;

use crate::expression::{Field, Leaf, Leaves, Piece, Schema};

pub mod parcel;

/// Whole numbers of a change.
const WHOLES_MAX: usize = 4;
/// Texts of a change.
const TEXTS_MAX: usize = 6;

/// One change of a life.
#[derive(Clone, Copy, Debug)]
pub struct Change<'s> {
    /// Which change it is: the number of its name.
    pub number: u32,
    /// Its whole numbers, in the order of the schema.
    pub wholes: [i64; WHOLES_MAX],
    /// Its texts, in the order of the schema.
    pub texts: [&'s str; TEXTS_MAX],
    /// Its flags, the first one in the lowest bit.
    pub flags: u32,
}

/// The type of a whole number of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// An instant, Unix ms.
    Time,
    /// A span, ms.
    Duration,
}

/// What the places of a life's changes mean.
#[derive(Debug)]
pub struct LifeSchema {
    /// The name of the life.
    pub name: &'static str,
    /// The stream whose events it is folded from.
    pub stream: Stream,
    /// The names of the changes, read as `change`.
    pub changes: &'static Enumeration,
    /// Names and types of the whole numbers.
    pub wholes: &'static [(&'static str, Whole)],
    /// Names of the texts.
    pub texts: &'static [&'static str],
    /// Names of the flags.
    pub flags: &'static [&'static str],
}

/// Every life.
pub static ALL: [&LifeSchema; 1] = [&parcel::SCHEMA];

/// The name under which expressions read which change it is.
pub const CHANGE: &str = "change";

/// Reads the places of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifeLeaves;

impl Leaves for LifeLeaves {
    type Scope<'s> = Change<'s>;
    type Unknown = Infallible;
    type Bool = u8;
    type Whole = u8;
    type Enum = ();
    type Float = Infallible;
    type Text = u8;
    type Texts = Infallible;
    type Count = Infallible;

    fn bool(read: &u8, scope: Change<'_>) -> Result<bool, Infallible> {
        Ok(scope.flags >> read & 1 == 1)
    }

    fn whole(read: &u8, scope: Change<'_>) -> Result<i64, Infallible> {
        Ok(scope.wholes[usize::from(*read)])
    }

    fn number((): &(), scope: Change<'_>) -> Result<u32, Infallible> {
        Ok(scope.number)
    }

    fn float(read: &Infallible, _: Change<'_>) -> Result<f64, Infallible> {
        match *read {}
    }

    fn text<'s>(read: &'s u8, scope: Change<'s>) -> Result<&'s str, Infallible> {
        Ok(scope.texts[usize::from(*read)])
    }

    fn holds<'s>(read: &'s Infallible, _: Change<'s>, _: Piece<'s>) -> Result<bool, Infallible> {
        match *read {}
    }

    fn count(read: &Infallible, _: Change<'_>) -> Result<i64, Infallible> {
        match *read {}
    }
}

impl Schema for &LifeSchema {
    type Leaves = LifeLeaves;

    fn noun(&self) -> String {
        format!("field of the life {}", self.name)
    }

    fn field(&self, path: &str) -> Option<Field<LifeLeaves>> {
        let place = |names: &[&'static str]| names.iter().position(|name| *name == path);
        let leaf = if path == CHANGE {
            Leaf::Enum(self.changes, ())
        } else if let Some(at) = place(self.texts) {
            Leaf::Text(at as u8)
        } else if let Some(at) = place(self.flags) {
            Leaf::Bool(at as u8)
        } else {
            let at = self.wholes.iter().position(|(name, _)| *name == path)?;
            match self.wholes[at].1 {
                Whole::Time => Leaf::Time(at as u8),
                Whole::Duration => Leaf::Duration(at as u8),
            }
        };
        Some(Field {
            path: Cow::Owned(path.to_owned()),
            leaf,
            given: None,
            list: None,
        })
    }

    fn names(&self) -> Vec<&str> {
        let wholes = self.wholes.iter().map(|(name, _)| *name);
        let names = self.texts.iter().chain(self.flags).copied();
        names.chain(wholes).chain([CHANGE]).collect()
    }
}
