//! Names and operators to typed trees: every name is looked up, every type is held against what
//! its place needs. It goes on after a mistake, so that independent ones are told together.

use std::borrow::Cow;

use fenghuo_event::schema::Enumeration;

use super::error::{Error, Errors, nearest};
use super::parse::{Kind, Node, Operator};
use super::schema::{Field, Leaf, Leaves, Schema};
use super::tree::{Arithmetic, Bool, Comparison, Float, Read, Root, Text, Whole};
use super::{Reads, Type};

mod call;
mod operator;

/// Mistakes after this many are not told.
const ERRORS_MAX: usize = 16;

/// A checked expression: its type, its tree and what it reads.
type Outcome<L> = Result<(Type, Root<L>, Vec<Reads>), Errors>;

/// Checks a whole expression.
pub(super) fn check<S: Schema>(node: &Node, schema: &S) -> Outcome<S::Leaves> {
    let mut checker = Checker {
        schema,
        reads: Vec::new(),
        errors: Vec::new(),
        list: None,
    };
    let typed = checker.node(node);
    let root = typed.and_then(|typed| checker.root(node, typed));
    match root {
        Some((kind, root)) if checker.errors.is_empty() => Ok((kind, root, checker.reads)),
        _ => {
            checker.errors.sort_by_key(|error| error.at);
            Err(Errors(checker.errors))
        }
    }
}

/// What a whole number counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Int,
    Time,
    Duration,
    Money,
}

impl Unit {
    fn kind(self) -> Type {
        match self {
            Unit::Int => Type::Int,
            Unit::Time => Type::Time,
            Unit::Duration => Type::Duration,
            Unit::Money => Type::Money,
        }
    }
}

/// A checked part of an expression.
enum Typed<L: Leaves> {
    Bool(Bool<L>),
    Whole(Unit, Whole<L>),
    Float(Float<L>),
    /// A field that is kept in 32 bits.
    Single(Float<L>),
    Text(Text<L>),
    Enum(&'static Enumeration, Read<L::Enum>),
    Texts(Read<L::Texts>, Read<L::Count>),
    List(Read<L::Count>),
}

impl<L: Leaves> Typed<L> {
    /// As messages call it.
    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Typed::Bool(_) => "a Bool",
            Typed::Whole(Unit::Int, _) => "an Int",
            Typed::Whole(Unit::Time, _) => "a Time",
            Typed::Whole(Unit::Duration, _) => "a Duration",
            Typed::Whole(Unit::Money, _) => "a Money",
            Typed::Float(_) | Typed::Single(_) => "a Float",
            Typed::Text(_) => "a Text",
            Typed::Enum(names, _) => return format!("an enum, {}", names.name).into(),
            Typed::Texts(..) => "a list of texts",
            Typed::List(_) => "a list",
        })
    }

    /// An enum as the text that names its value.
    fn spelt(self) -> Self {
        match self {
            Typed::Enum(names, read) => Typed::Text(Text::Name(read, names)),
            other => other,
        }
    }
}

/// Both sides of an operator, as the same type.
enum Pair<L: Leaves> {
    Bool([Bool<L>; 2]),
    Whole(Unit, [Whole<L>; 2]),
    Float([Float<L>; 2]),
    Text([Text<L>; 2]),
}

struct Checker<'s, S: Schema> {
    schema: &'s S,
    reads: Vec<Reads>,
    errors: Vec<Error>,
    /// The list whose elements are read.
    list: Option<Cow<'static, str>>,
}

/// A part of the tree; `None` where a mistake was told already.
type Checked<S> = Option<Typed<<S as Schema>::Leaves>>;

impl<S: Schema> Checker<'_, S> {
    fn tell<T>(&mut self, error: Error) -> Option<T> {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        }
        None
    }

    fn unexpected<T>(
        &mut self,
        at: usize,
        found: impl AsRef<str>,
        expected: impl Into<String>,
    ) -> Option<T> {
        self.tell(Error::unexpected(at, found, expected))
    }

    fn root(&mut self, node: &Node, typed: Typed<S::Leaves>) -> Option<(Type, Root<S::Leaves>)> {
        Some(match typed {
            Typed::Bool(root) => (Type::Bool, Root::Bool(root)),
            Typed::Whole(unit, root) => (unit.kind(), Root::Whole(root)),
            Typed::Float(root) | Typed::Single(root) => (Type::Float, Root::Float(root)),
            Typed::Text(root) => (Type::Text, Root::Text(root)),
            Typed::Enum(names, read) => (Type::Enum(names), Root::Text(Text::Name(read, names))),
            Typed::Texts(..) | Typed::List(_) => {
                let found = typed.name();
                return self.unexpected(node.at, found, "one value, such as the list's size()");
            }
        })
    }

    fn node(&mut self, node: &Node) -> Checked<S> {
        match &node.kind {
            Kind::Bool(value) => Some(Typed::Bool(Bool::Constant(*value))),
            Kind::Int(value) => Some(Typed::Whole(Unit::Int, Whole::Constant(*value))),
            Kind::Float(value) => Some(Typed::Float(Float::Constant(*value))),
            Kind::Text(text) => Some(Typed::Text(Text::Constant(text.as_str().into()))),
            Kind::Path(path) => self.path(node.at, path),
            Kind::List(_) => self.unexpected(
                node.at,
                "a list",
                "one value; a list stands on the right of `in`",
            ),
            Kind::Not(inner) => self
                .condition(inner)
                .map(|inner| Typed::Bool(inner.negated())),
            Kind::Negate(inner) => {
                let typed = self.node(inner)?;
                self.negated(inner, typed)
            }
            Kind::Binary(operator, sides) => self.binary(node, *operator, sides),
            Kind::If(parts) => self.choice(parts),
            Kind::Call(name, arguments) => self.call(node, name, arguments),
            Kind::Method(text, name, arguments) => self.method(node, text, name, arguments),
        }
    }

    /// A part that has to be a Bool.
    fn condition(&mut self, node: &Node) -> Option<Bool<S::Leaves>> {
        match self.node(node)? {
            Typed::Bool(condition) => Some(condition),
            other => {
                let hint = match other {
                    Typed::Whole(Unit::Int, _) => "a Bool, such as a comparison with 0",
                    _ => "a Bool, such as a comparison",
                };
                self.unexpected(node.at, other.name(), hint)
            }
        }
    }

    fn path(&mut self, at: usize, path: &str) -> Checked<S> {
        match self.schema.field(path) {
            Some(field) => self.field(at, field),
            None => self.unknown_field(at, path),
        }
    }

    fn unknown_field<T>(&mut self, at: usize, path: &str) -> Option<T> {
        let (noun, names) = (self.schema.noun(), self.schema.names());
        let entries = self.schema.entries(path);
        let entries = entries.iter().map(String::as_str);
        let all = names.iter().copied().chain(entries);
        // Where nothing is near, the fields are told and not every entry that there might be.
        let error = match nearest(path, all) {
            Some(near) => Error::unknown(at, noun, path, [near]),
            None => Error::unknown(at, noun, path, names),
        };
        self.tell(error)
    }

    fn field(&mut self, at: usize, field: Field<S::Leaves>) -> Checked<S> {
        let names = match &field.leaf {
            Leaf::Enum(names, _) => Some(*names),
            _ => None,
        };
        if matches!(field.leaf, Leaf::Message) {
            let prefix = format!("{}.", field.path);
            let names = self.schema.names();
            let inside = names.into_iter().find(|name| name.starts_with(&prefix));
            let expected = format!("a value, such as {}", inside.unwrap_or("one of its fields"));
            return self.unexpected(at, format!("{}, a message", field.path), expected);
        }
        let number = self.number(at, field.path, names, field.list)?;
        Some(match field.leaf {
            Leaf::Bool(leaf) => Typed::Bool(Bool::Leaf(read(number, leaf))),
            Leaf::Int(leaf) => Typed::Whole(Unit::Int, Whole::Leaf(read(number, leaf))),
            Leaf::Time(leaf) => Typed::Whole(Unit::Time, Whole::Leaf(read(number, leaf))),
            Leaf::Duration(leaf) => Typed::Whole(Unit::Duration, Whole::Leaf(read(number, leaf))),
            Leaf::Money(leaf) => Typed::Whole(Unit::Money, Whole::Leaf(read(number, leaf))),
            Leaf::Enum(names, leaf) => Typed::Enum(names, read(number, leaf)),
            Leaf::Float(leaf) => Typed::Float(Float::Leaf(read(number, leaf))),
            Leaf::Single(leaf) => Typed::Single(Float::Leaf(read(number, leaf))),
            Leaf::Text(leaf) => Typed::Text(Text::Leaf(read(number, leaf))),
            Leaf::Texts(leaf, count) => Typed::Texts(read(number, leaf), read(number, count)),
            Leaf::List(count) => Typed::List(read(number, count)),
            Leaf::Message => return None,
        })
    }

    /// The number of a field among those that are read; at most one list's elements are.
    fn number(
        &mut self,
        at: usize,
        path: Cow<'static, str>,
        names: Option<&'static Enumeration>,
        list: Option<Cow<'static, str>>,
    ) -> Option<u16> {
        match (&self.list, &list) {
            (Some(first), Some(second)) if first != second => {
                let found = format!("{path}, an element's field of {second}");
                let expected = format!("fields of one list only: it reads elements of {first}");
                return self.unexpected(at, found, expected);
            }
            (None, Some(_)) => self.list = list.clone(),
            _ => {}
        }
        let known = self.reads.iter().position(|read| read.path == path);
        let place = known.unwrap_or_else(|| {
            self.reads.push(Reads { path, names, list });
            self.reads.len() - 1
        });
        // The parser lets fewer names pass than would fill 16 bits.
        u16::try_from(place).ok()
    }

    fn choice(&mut self, parts: &[Node; 3]) -> Checked<S> {
        let [condition, then, otherwise] = parts;
        let condition = self.condition(condition);
        let (left, right) = (self.node(then), self.node(otherwise));
        let (left, right) = (left?.spelt(), right?.spelt());
        let (one, other) = (left.name(), right.name());
        let Some(pair) = pair((then, left), (otherwise, right)) else {
            let expected = format!("{one}, as the value before \":\"");
            return self.unexpected(otherwise.at, other, expected);
        };
        let condition = condition?;
        Some(match pair {
            Pair::Bool([then, otherwise]) => Typed::Bool(Bool::choose(condition, then, otherwise)),
            Pair::Whole(unit, [then, otherwise]) => {
                Typed::Whole(unit, Whole::choose(condition, then, otherwise))
            }
            Pair::Float([then, otherwise]) => {
                Typed::Float(Float::choose(condition, then, otherwise))
            }
            Pair::Text([then, otherwise]) => Typed::Text(Text::choose(condition, then, otherwise)),
        })
    }
}

fn read<T>(field: u16, leaf: T) -> Read<T> {
    Read { field, leaf }
}

/// Both values as the same type, where they can be: an Int becomes a Float beside a Float, and the
/// literal 0 a Duration or a Money beside one.
fn pair<L: Leaves>(left: (&Node, Typed<L>), right: (&Node, Typed<L>)) -> Option<Pair<L>> {
    use Typed::{Float as F, Single, Whole as W};
    let is_zero = |node: &Node| matches!(node.kind, Kind::Int(0));
    let (one, other) = (left.0, right.0);
    Some(match (left.1, right.1) {
        (Typed::Bool(left), Typed::Bool(right)) => Pair::Bool([left, right]),
        (W(unit, left), W(same, right)) if unit == same => Pair::Whole(unit, [left, right]),
        (W(unit @ (Unit::Duration | Unit::Money), left), W(Unit::Int, right)) if is_zero(other) => {
            Pair::Whole(unit, [left, right])
        }
        (W(Unit::Int, left), W(unit @ (Unit::Duration | Unit::Money), right)) if is_zero(one) => {
            Pair::Whole(unit, [left, right])
        }
        (F(left) | Single(left), F(right) | Single(right)) => Pair::Float([left, right]),
        (F(left) | Single(left), W(Unit::Int, right)) => Pair::Float([left, Float::whole(right)]),
        (W(Unit::Int, left), F(right) | Single(right)) => Pair::Float([Float::whole(left), right]),
        (Typed::Text(left), Typed::Text(right)) => Pair::Text([left, right]),
        _ => return None,
    })
}
