//! Typed expressions that always have a value: the filters and values of the catalogue, in a subset
//! of the [Common Expression Language](https://cel.dev).
//!
//! ```
//! use fenghuo_event::{Stream, decode, schema::Scope};
//! use fenghuo_signal::expression::{EventExpression, EventSchema};
//! let line = br#"{"meta":{"event_id":"e1","source":"/shop/42","occurred_at":"2026-11-11T12:00:00Z"},
//!     "order":{"type":"PAID","order_id":"o1","lines":[{"sku_id":"s1","quantity":"2"}]}}"#;
//! let event = decode(line, None)?;
//! let orders = EventSchema(Stream::Orders);
//!
//! let paid = EventExpression::parse(r#"type in ["PAID", "PAYMENT_FAILED"]"#, &orders)?;
//! assert_eq!(paid.specialise("type", "PLACED").always(), Some(false));
//! assert!(paid.into_condition().unwrap().holds(Scope::new(&event)));
//!
//! let units = EventExpression::parse("line.quantity * max(line.pack_units, 1)", &orders)?;
//! assert_eq!(units.list(), Some("lines"));
//! assert_eq!(units.into_quantity().unwrap().value(Scope::new(&event)), 2);
//!
//! let error = EventExpression::parse(r#"tipe == "PAID""#, &orders).unwrap_err();
//! assert_eq!(error.to_string(), r#"byte 0: unknown field of orders "tipe"; did you mean "type"?"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The language
//! From the loosest to the tightest: `?:`, `||`, `&&`, `== != < <= > >= in`, `+ -`, `* / %`, unary
//! `! -`. Literals are whole numbers, numbers with a point or exponent, `"texts"` or `'texts'`,
//! `true`, `false`, `duration("2h30m")` and, on the right of `in`, lists of those. Methods of texts
//! are `startsWith`, `endsWith`, `contains` (of a literal), `size` (in characters) and `lower` (`A`
//! to `Z`); of lists `size`. Functions are `has` (whether a field is given), `min`, `max`, `abs`,
//! `int` and `float`. There is no `matches`: what a regular expression costs depends on the event.
//!
//! An entry of a map is read by its key, `numbers.celsius`, whether or not events have it; `has` tells
//! one that is 0 or "" from none.
//!
//! # Types
//! Bool, Int, Float, Text, Time, Duration, Money and enums. A whole number meets a Float as a Float.
//! Time − Time = Duration, Time ± Duration = Time, Money · Int = Money, Duration · Int = Duration;
//! both can be divided by an Int, and by their own kind, which gives a Float. `int` and `float`
//! take the unit away: ms, or minor units. The literal 0 is a Money and a Duration too. Enums are
//! compared with the names of their values, and are texts otherwise.
//!
//! # Totality
//! Whole numbers saturate, and infinities become the largest number. `x / 0` and `x % 0` are 0, so
//! NaN never comes out. A field that is not given is proto3's default: 0, "" or false. No
//! expression fails, allocates (but for the text that `lower` may have to make at the very end) or
//! takes longer than its [size](SOURCE_BYTES_MAX) and the event's texts allow.

mod check;
mod error;
mod eval;
mod event;
mod fold;
mod lex;
mod parse;
mod schema;
#[cfg(test)]
mod tests;
mod text;
mod tree;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use fenghuo_event::schema::Enumeration;

pub use error::{Error, Errors, Problem, nearest};
pub use event::{Access, Count, EventExpression, EventLeaves, EventSchema};
pub use schema::{Argument, Field, Leaf, Leaves, Refusal, Schema};
pub use text::Piece;
use tree::{Bool, Float, Root, Text, Whole};

/// The longest source.
pub const SOURCE_BYTES_MAX: usize = 4096;
/// The deepest nesting.
pub const DEPTH_MAX: usize = 64;
/// The most operators, literals and names in one expression.
pub const NODES_MAX: usize = 512;

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// An instant in Unix ms.
    Time,
    /// A span in ms.
    Duration,
    /// An amount in minor units.
    Money,
    /// A finite number.
    Float,
    /// A string.
    Text,
    /// One of some names; evaluated as a text.
    Enum(&'static Enumeration),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Bool => "Bool",
            Type::Int => "Int",
            Type::Time => "Time",
            Type::Duration => "Duration",
            Type::Money => "Money",
            Type::Float => "Float",
            Type::Text => "Text",
            Type::Enum(names) => names.name,
        })
    }
}

/// A checked expression. What it is evaluated by depends on its type: [`into_condition`] and its
/// siblings.
///
/// [`into_condition`]: Self::into_condition
#[derive(Clone, Debug)]
pub struct Expression<L: Leaves> {
    source: Arc<str>,
    kind: Type,
    root: Root<L>,
    /// Everything that the source reads, by the numbers in the leaves.
    reads: Arc<[Reads]>,
    /// Numbers of what the tree still reads.
    left: Vec<u16>,
}

/// A field that an expression reads.
#[derive(Clone, Debug)]
struct Reads {
    path: Cow<'static, str>,
    /// Of an enum.
    names: Option<&'static Enumeration>,
    list: Option<Cow<'static, str>>,
}

/// The value of an expression that reads nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Constant<'a> {
    /// Of a Bool.
    Bool(bool),
    /// Of an Int, a Time, a Duration or a Money.
    Whole(i64),
    /// Of a Float.
    Float(f64),
    /// Of a Text.
    Text(&'a str),
}

impl<L: Leaves> Expression<L> {
    /// Parses and checks `source`.
    ///
    /// # Errors
    /// The first mistake in the syntax, or else all unknown names and unfit types that do not
    /// follow from each other.
    pub fn parse<S: Schema<Leaves = L>>(source: &str, schema: &S) -> Result<Self, Errors> {
        let node = parse::parse(source)?;
        let (kind, root, reads) = check::check(&node, schema)?;
        Ok(Self::new(source.into(), kind, root, reads.into()))
    }

    fn new(source: Arc<str>, kind: Type, root: Root<L>, reads: Arc<[Reads]>) -> Self {
        let mut left = Vec::new();
        root.visit(&mut |field| left.push(field));
        left.sort_unstable();
        left.dedup();
        Self {
            source,
            kind,
            root,
            reads,
            left,
        }
    }

    /// What it was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its type.
    pub fn kind(&self) -> Type {
        self.kind
    }

    /// The paths that it reads, each once. What was folded away is not among them.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.left_reads().map(|read| &*read.path)
    }

    /// The list of whose elements it reads one, such as `lines`. There is at most one.
    pub fn list(&self) -> Option<&str> {
        self.left_reads().find_map(|read| read.list.as_deref())
    }

    /// Whether it reads an element of a list, so that its value differs from one to the next.
    pub fn uses_element(&self) -> bool {
        self.list().is_some()
    }

    fn left_reads(&self) -> impl Iterator<Item = &Reads> {
        let reads = self.left.iter();
        reads.filter_map(|field| self.reads.get(usize::from(*field)))
    }

    /// Its value, where it reads nothing.
    pub fn constant(&self) -> Option<Constant<'_>> {
        Some(match &self.root {
            Root::Bool(Bool::Constant(value)) => Constant::Bool(*value),
            Root::Whole(Whole::Constant(value)) => Constant::Whole(*value),
            Root::Float(Float::Constant(value)) => Constant::Float(*value),
            Root::Text(Text::Constant(value)) => Constant::Text(value),
            _ => return None,
        })
    }

    /// Whether it is true whatever is read, or false whatever is read.
    pub fn always(&self) -> Option<bool> {
        match self.constant() {
            Some(Constant::Bool(value)) => Some(value),
            _ => None,
        }
    }

    /// The same expression where the enum at `path` has the value of that name: what follows from
    /// it is folded away. A path that it does not read and a name that the enum does not have
    /// leave it as it is.
    pub fn specialise(&self, path: &str, name: &str) -> Self {
        let mut reads = (0..).zip(&*self.reads);
        let root = reads.find_map(|(field, read)| {
            let number = read.names.filter(|_| read.path == path)?.number(name)?;
            Some(self.root.specialise(field, name, number))
        });
        let root = root.unwrap_or_else(|| self.root.clone());
        Self::new(self.source.clone(), self.kind, root, self.reads.clone())
    }

    /// To be evaluated, where it is a Bool.
    pub fn into_condition(self) -> Option<Condition<L>> {
        match self.root {
            Root::Bool(root) => Some(Condition(root)),
            _ => None,
        }
    }

    /// To be evaluated, where it is an Int, a Time, a Duration or a Money.
    pub fn into_quantity(self) -> Option<Quantity<L>> {
        match self.root {
            Root::Whole(root) => Some(Quantity(root)),
            _ => None,
        }
    }

    /// To be evaluated, where it is a Float or what [`into_quantity`](Self::into_quantity) takes.
    pub fn into_number(self) -> Option<Number<L>> {
        match self.root {
            Root::Float(root) => Some(Number(root)),
            Root::Whole(root) => Some(Number(Float::whole(root))),
            _ => None,
        }
    }

    /// To be evaluated, where it is a Text or an enum.
    pub fn into_phrase(self) -> Option<Phrase<L>> {
        match self.root {
            Root::Text(root) => Some(Phrase(root)),
            _ => None,
        }
    }
}

impl<L: Leaves> fmt::Display for Expression<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// An expression that is true or false.
#[derive(Clone, Debug)]
pub struct Condition<L: Leaves>(Bool<L>);

/// An expression whose value is a whole number, in the unit of its type.
#[derive(Clone, Debug)]
pub struct Quantity<L: Leaves>(Whole<L>);

/// An expression whose value is a finite number.
#[derive(Clone, Debug)]
pub struct Number<L: Leaves>(Float<L>);

/// An expression whose value is a text.
#[derive(Clone, Debug)]
pub struct Phrase<L: Leaves>(Text<L>);

impl<L: Leaves> Condition<L> {
    /// Whether it is true.
    ///
    /// # Errors
    /// What it needs is unknown.
    #[inline]
    pub fn evaluate<'s>(&'s self, scope: L::Scope<'s>) -> Result<bool, L::Unknown> {
        self.0.evaluate(scope)
    }
}

impl<L: Leaves> Quantity<L> {
    /// Its value.
    ///
    /// # Errors
    /// What it needs is unknown.
    #[inline]
    pub fn evaluate<'s>(&'s self, scope: L::Scope<'s>) -> Result<i64, L::Unknown> {
        self.0.evaluate(scope)
    }
}

impl<L: Leaves> Number<L> {
    /// Its value.
    ///
    /// # Errors
    /// What it needs is unknown.
    #[inline]
    pub fn evaluate<'s>(&'s self, scope: L::Scope<'s>) -> Result<f64, L::Unknown> {
        self.0.evaluate(scope)
    }
}

impl<L: Leaves> Phrase<L> {
    /// Its value.
    ///
    /// # Errors
    /// What it needs is unknown.
    #[inline]
    pub fn evaluate<'s>(&'s self, scope: L::Scope<'s>) -> Result<Piece<'s>, L::Unknown> {
        self.0.evaluate(scope)
    }
}
