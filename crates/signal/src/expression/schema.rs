//! What an expression may read: the seam between the language, which is the same everywhere, and
//! the values of one scope, such as an event or the readings of an entity.

use std::borrow::Cow;
use std::fmt::Debug;

use fenghuo_event::schema::Enumeration;

use super::text::Piece;

/// The leaves of an expression's tree: how each kind of value is read from a scope.
///
/// A kind that a scope does not have is [`Infallible`](std::convert::Infallible), and its function
/// is `match *read {}`.
pub trait Leaves: Clone + Debug + 'static {
    /// What is read from.
    type Scope<'s>: Copy;
    /// Why a value may not be there. `Infallible` where every value is, which then costs nothing.
    /// An expression that needs an unknown value is unknown; `false && x` needs no x.
    type Unknown;
    /// Reads a Bool, or tells whether a field is given.
    type Bool: Clone + Debug;
    /// Reads an Int, a Time, a Duration or a Money as a whole number.
    type Whole: Clone + Debug;
    /// Reads the number of an enum's value, from 0 to 63.
    type Enum: Clone + Debug;
    /// Reads a Float.
    type Float: Clone + Debug;
    /// Reads a Text.
    type Text: Clone + Debug;
    /// Reads a list of texts.
    type Texts: Clone + Debug;
    /// Counts the elements of a list.
    type Count: Clone + Debug;

    /// A Bool.
    fn bool(read: &Self::Bool, scope: Self::Scope<'_>) -> Result<bool, Self::Unknown>;
    /// A whole number.
    fn whole(read: &Self::Whole, scope: Self::Scope<'_>) -> Result<i64, Self::Unknown>;
    /// The number of an enum's value.
    fn number(read: &Self::Enum, scope: Self::Scope<'_>) -> Result<u32, Self::Unknown>;
    /// A Float; NaN counts as 0 and an infinity as the largest number.
    fn float(read: &Self::Float, scope: Self::Scope<'_>) -> Result<f64, Self::Unknown>;
    /// A Text.
    fn text<'s>(read: &'s Self::Text, scope: Self::Scope<'s>) -> Result<&'s str, Self::Unknown>;
    /// Whether a list holds a text.
    fn holds<'s>(
        read: &'s Self::Texts,
        scope: Self::Scope<'s>,
        text: Piece<'s>,
    ) -> Result<bool, Self::Unknown>;
    /// How many elements a list has.
    fn count(read: &Self::Count, scope: Self::Scope<'_>) -> Result<i64, Self::Unknown>;
}

/// The names that an expression may use, and what they stand for.
pub trait Schema {
    /// How they are read.
    type Leaves: Leaves;

    /// What messages call a name, such as "field of orders".
    fn noun(&self) -> String;

    /// What the path of a name reads.
    fn field(&self, path: &str) -> Option<Field<Self::Leaves>>;

    /// All paths, from which the nearest to a misspelt one is looked up.
    fn names(&self) -> Vec<&str>;

    /// Paths without end, such as those of a map's entries, that are near to `path`, which reads
    /// nothing.
    fn entries(&self, path: &str) -> Vec<String> {
        let _ = path;
        Vec::new()
    }

    /// What a call of a function reads that is not one of the language's own. `None` where there
    /// is no such function.
    fn function(
        &self,
        name: &str,
        arguments: &[Argument<'_>],
    ) -> Option<Result<Field<Self::Leaves>, Refusal>> {
        let _ = (name, arguments);
        None
    }

    /// The names of those functions.
    fn functions(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Something that an expression reads.
#[derive(Clone, Debug)]
pub struct Field<L: Leaves> {
    /// The name under which [`Expression::fields`](super::Expression::fields) tells it.
    pub path: Cow<'static, str>,
    /// Its type, and how it is read.
    pub leaf: Leaf<L>,
    /// How `has` is answered; `None` where it cannot be asked.
    pub given: Option<L::Bool>,
    /// The list whose element it is read from, such as `lines`.
    pub list: Option<Cow<'static, str>>,
}

/// The type of a field, and how it is read.
#[derive(Clone, Debug)]
pub enum Leaf<L: Leaves> {
    /// True or false.
    Bool(L::Bool),
    /// A whole number.
    Int(L::Whole),
    /// An instant in Unix ms.
    Time(L::Whole),
    /// A span in ms.
    Duration(L::Whole),
    /// An amount in minor units.
    Money(L::Whole),
    /// One of some names.
    Enum(&'static Enumeration, L::Enum),
    /// A number.
    Float(L::Float),
    /// A number that is kept in 32 bits; literals that it is compared with are rounded to them.
    Single(L::Float),
    /// A string.
    Text(L::Text),
    /// A list of strings.
    Texts(L::Texts, L::Count),
    /// A list of anything else.
    List(L::Count),
    /// Has no value of its own and can only be asked for with `has`.
    Message,
}

/// An argument of a function of the schema: a name or a literal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument<'a> {
    /// A name such as `sales.units`.
    Path(&'a str),
    /// A text.
    Text(&'a str),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// True or false.
    Bool(bool),
}

/// Why a function refuses its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which argument, from 0; `None` where their number is wrong.
    pub argument: Option<usize>,
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: String,
}
