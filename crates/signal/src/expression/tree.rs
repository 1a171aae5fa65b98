//! Checked expressions as trees with a type for each node: what is left to do when an event comes
//! in is decided here, at compile time. Evaluation is in `eval.rs`, folding in `fold.rs`.

use std::cmp::Ordering;

use fenghuo_event::schema::Enumeration;

use super::schema::Leaves;

/// A leaf, with the number of its field in the list of those that the expression reads.
#[derive(Clone, Debug)]
pub(super) struct Read<T> {
    pub(super) field: u16,
    pub(super) leaf: T,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    #[inline]
    pub(super) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::NotEqual => ordering.is_ne(),
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// What is done with two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Minimum,
    Maximum,
}

/// How one text is looked for in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Clone, Debug)]
pub(super) enum Bool<L: Leaves> {
    Constant(bool),
    Leaf(Read<L::Bool>),
    /// Whether a field is given.
    Given(Read<L::Bool>),
    Not(Box<Bool<L>>),
    And(Box<[Bool<L>; 2]>),
    Or(Box<[Bool<L>; 2]>),
    Same(Box<[Bool<L>; 2]>),
    If(Box<(Bool<L>, [Bool<L>; 2])>),
    /// Whether an enum's number is in a set of bits.
    Among(Read<L::Enum>, u64),
    Whole(Comparison, Box<[Whole<L>; 2]>),
    WholeIn(Box<Whole<L>>, Box<[i64]>),
    Float(Comparison, Box<[Float<L>; 2]>),
    FloatIn(Box<Float<L>>, Box<[f64]>),
    Text(Comparison, Box<[Text<L>; 2]>),
    TextIn(Box<Text<L>>, Box<[Box<str>]>),
    Search(Search, Box<[Text<L>; 2]>),
    /// Whether a list of texts holds one.
    Holds(Read<L::Texts>, Box<Text<L>>),
}

#[derive(Clone, Debug)]
pub(super) enum Whole<L: Leaves> {
    Constant(i64),
    Leaf(Read<L::Whole>),
    Count(Read<L::Count>),
    Size(Box<Text<L>>),
    Negate(Box<Whole<L>>),
    Absolute(Box<Whole<L>>),
    Truncate(Box<Float<L>>),
    Arithmetic(Arithmetic, Box<[Whole<L>; 2]>),
    If(Box<(Bool<L>, [Whole<L>; 2])>),
}

#[derive(Clone, Debug)]
pub(super) enum Float<L: Leaves> {
    Constant(f64),
    Leaf(Read<L::Float>),
    Whole(Box<Whole<L>>),
    Negate(Box<Float<L>>),
    Absolute(Box<Float<L>>),
    Arithmetic(Arithmetic, Box<[Float<L>; 2]>),
    If(Box<(Bool<L>, [Float<L>; 2])>),
}

#[derive(Clone, Debug)]
pub(super) enum Text<L: Leaves> {
    Constant(Box<str>),
    Leaf(Read<L::Text>),
    /// The name of an enum's value.
    Name(Read<L::Enum>, &'static Enumeration),
    Lower(Box<Text<L>>),
    If(Box<(Bool<L>, [Text<L>; 2])>),
}

/// A whole expression.
#[derive(Clone, Debug)]
pub(super) enum Root<L: Leaves> {
    Bool(Bool<L>),
    Whole(Whole<L>),
    Float(Float<L>),
    Text(Text<L>),
}
