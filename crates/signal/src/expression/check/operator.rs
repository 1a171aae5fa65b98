//! The types of operators.

use super::{
    Arithmetic, Bool, Checked, Checker, Comparison, Enumeration, Error, Float, Kind, Leaves, Node,
    Operator, Pair, Schema, Text, Typed, Unit, Whole, pair,
};
use crate::expression::eval::finite;

impl<S: Schema> Checker<'_, S> {
    pub(super) fn binary(
        &mut self,
        node: &Node,
        operator: Operator,
        sides: &[Node; 2],
    ) -> Checked<S> {
        let [left, right] = sides;
        match operator {
            Operator::And | Operator::Or => {
                let (left, right) = (self.condition(left), self.condition(right));
                Some(Typed::Bool(match operator {
                    Operator::And => Bool::and(left?, right?),
                    _ => Bool::or(left?, right?),
                }))
            }
            Operator::In => self.membership(left, right),
            Operator::Compare(comparison) => self.comparison(comparison, left, right),
            Operator::Arithmetic(arithmetic) => {
                let typed = (self.node(left), self.node(right));
                let (one, other) = (typed.0?, typed.1?);
                let (first, second) = (one.name(), other.name());
                match combine(arithmetic, one, other) {
                    Ok(typed) => Some(typed),
                    Err(expected) => {
                        let sign = sign(arithmetic);
                        let found = format!("{first} {sign} {second}");
                        self.unexpected(node.at, found, expected)
                    }
                }
            }
        }
    }

    pub(super) fn negated(&mut self, node: &Node, typed: Typed<S::Leaves>) -> Checked<S> {
        Some(match typed {
            Typed::Whole(unit @ (Unit::Int | Unit::Duration | Unit::Money), value) => {
                Typed::Whole(unit, value.negated())
            }
            Typed::Float(value) | Typed::Single(value) => Typed::Float(value.negated()),
            other => {
                let expected = "an Int, a Float, a Duration or a Money after \"-\"";
                return self.unexpected(node.at, other.name(), expected);
            }
        })
    }

    fn comparison(&mut self, comparison: Comparison, left: &Node, right: &Node) -> Checked<S> {
        let typed = (self.node(left), self.node(right));
        let (one, other) = (typed.0?, typed.1?);
        let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        let (one, other) = match (one, other) {
            (Typed::Enum(names, read), Typed::Text(Text::Constant(name))) if is_equality => {
                let set = self.set(names, &[(right.at, &name)])?;
                return Some(Typed::Bool(among(comparison, Bool::Among(read, set))));
            }
            (Typed::Text(Text::Constant(name)), Typed::Enum(names, read)) if is_equality => {
                let set = self.set(names, &[(left.at, &name)])?;
                return Some(Typed::Bool(among(comparison, Bool::Among(read, set))));
            }
            (Typed::Enum(names, _), _) | (_, Typed::Enum(names, _)) => {
                let found = match is_equality {
                    true => "an enum beside what is no literal",
                    false => "an order of an enum's values",
                };
                let expected = format!("== or != with a name of {} in quotes", names.name);
                return self.unexpected(right.at, found, expected);
            }
            (Typed::Single(one), other) => (Typed::Single(one), rounded(right, other)),
            (one, Typed::Single(other)) => (rounded(left, one), Typed::Single(other)),
            pair => pair,
        };
        let (first, second) = (one.name(), other.name());
        match pair((left, one), (right, other)) {
            Some(Pair::Bool([one, other])) if is_equality => {
                Some(Typed::Bool(among(comparison, Bool::same(one, other))))
            }
            Some(Pair::Bool(_)) => self.unexpected(
                right.at,
                "an order of two Bools",
                "== or !=, which are all that Bools have",
            ),
            Some(Pair::Whole(_, [one, other])) => {
                Some(Typed::Bool(Bool::whole(comparison, one, other)))
            }
            Some(Pair::Float([one, other])) => {
                Some(Typed::Bool(Bool::float(comparison, one, other)))
            }
            Some(Pair::Text([one, other])) => Some(Typed::Bool(Bool::text(comparison, one, other))),
            None => {
                let hint = unit_hint(&first, &second);
                self.unexpected(right.at, second, format!("{first} to compare with{hint}"))
            }
        }
    }

    /// The set of the numbers of enum values.
    fn set(&mut self, names: &'static Enumeration, wanted: &[(usize, &str)]) -> Option<u64> {
        let mut set = Some(0);
        for (at, name) in wanted {
            match names.number(name) {
                Some(number) => set = set.map(|set| set | 1 << (number & 63)),
                None => {
                    let known = names.values.iter().map(|(known, _)| *known);
                    let what = format!("value of {}", names.name);
                    set = self.tell(Error::unknown(*at, what, name, known));
                }
            }
        }
        set
    }

    fn membership(&mut self, left: &Node, right: &Node) -> Checked<S> {
        let value = self.node(left);
        let Kind::List(elements) = &right.kind else {
            return match (self.node(right)?, value?.spelt()) {
                (Typed::Texts(read, _), Typed::Text(text)) => {
                    Some(Typed::Bool(Bool::Holds(read, Box::new(text))))
                }
                (Typed::Texts(..), other) => {
                    self.unexpected(left.at, other.name(), "a Text, as the list holds texts")
                }
                (other, _) => {
                    let expected = "a list such as [1, 2], or a field that is a list of texts";
                    self.unexpected(right.at, other.name(), expected)
                }
            };
        };
        if elements.is_empty() {
            return self.unexpected(right.at, "an empty list", "at least one element");
        }
        let checked: Vec<_> = elements.iter().map(|node| self.node(node)).collect();
        let list: Option<Vec<_>> = checked.into_iter().collect();
        let (value, list) = (value?, list?);
        let listed = elements.iter().zip(list);
        Some(Typed::Bool(match value {
            Typed::Enum(names, read) => {
                let texts = self.constants(listed, "a name in quotes", |_, typed| text(typed))?;
                let wanted: Vec<_> = texts.iter().map(|(at, text)| (*at, &**text)).collect();
                Bool::Among(read, self.set(names, &wanted)?)
            }
            Typed::Text(value) => {
                let list = self.constants(listed, "a text literal", |_, typed| text(typed))?;
                Bool::text_in(value, list.into_iter().map(|(_, text)| text).collect())
            }
            Typed::Whole(unit, value) => {
                let expected = match unit {
                    Unit::Int => "a whole number",
                    Unit::Duration => "a duration(\"…\")",
                    Unit::Time | Unit::Money => "a value of its own kind, which has no literals",
                };
                let list = self.constants(listed, expected, |_, typed| match typed {
                    Typed::Whole(same, Whole::Constant(value)) if same == unit => Some(value),
                    _ => None,
                })?;
                Bool::whole_in(value, list.into_iter().map(|(_, value)| value).collect())
            }
            Typed::Float(value) => {
                let list = self.constants(listed, "a number", |_, typed| float(typed))?;
                Bool::float_in(value, list.into_iter().map(|(_, value)| value).collect())
            }
            Typed::Single(value) => {
                let list = self.constants(listed, "a number", |node, typed| {
                    float(rounded(node, typed))
                })?;
                Bool::float_in(value, list.into_iter().map(|(_, value)| value).collect())
            }
            other => {
                let expected = "a number, a text or an enum before `in`";
                return self.unexpected(left.at, other.name(), expected);
            }
        }))
    }

    /// The elements of a list with their positions, all constants of one type.
    fn constants<'n, T>(
        &mut self,
        list: impl Iterator<Item = (&'n Node, Typed<S::Leaves>)>,
        expected: &str,
        constant: impl Fn(&Node, Typed<S::Leaves>) -> Option<T>,
    ) -> Option<Vec<(usize, T)>> {
        let mut constants = Some(Vec::new());
        for (node, typed) in list {
            let name = match node.kind {
                Kind::Path(_) | Kind::Binary(..) => "a value that is no literal".into(),
                _ => typed.name(),
            };
            match (constant(node, typed), &mut constants) {
                (Some(value), Some(constants)) => constants.push((node.at, value)),
                (Some(_), None) => {}
                (None, _) => constants = self.unexpected(node.at, name, expected),
            }
        }
        constants
    }
}

fn text<L: Leaves>(typed: Typed<L>) -> Option<Box<str>> {
    match typed {
        Typed::Text(Text::Constant(text)) => Some(text),
        _ => None,
    }
}

fn float<L: Leaves>(typed: Typed<L>) -> Option<f64> {
    match typed {
        Typed::Float(Float::Constant(value)) => Some(value),
        Typed::Whole(Unit::Int, Whole::Constant(value)) => Some(value as f64),
        _ => None,
    }
}

/// A literal as a field of 32 bits would keep it: 4.1 is no such number, and would equal none.
fn rounded<L: Leaves>(node: &Node, typed: Typed<L>) -> Typed<L> {
    let is_literal = match &node.kind {
        Kind::Float(_) => true,
        Kind::Negate(inner) => matches!(inner.kind, Kind::Float(_)),
        _ => false,
    };
    match typed {
        Typed::Float(Float::Constant(value)) if is_literal => {
            Typed::Float(Float::Constant(finite(f64::from(value as f32))))
        }
        other => other,
    }
}

/// `condition` or its opposite.
fn among<L: Leaves>(comparison: Comparison, condition: Bool<L>) -> Bool<L> {
    match comparison {
        Comparison::NotEqual => condition.negated(),
        _ => condition,
    }
}

fn sign(arithmetic: Arithmetic) -> &'static str {
    match arithmetic {
        Arithmetic::Add => "+",
        Arithmetic::Subtract => "-",
        Arithmetic::Multiply => "*",
        Arithmetic::Divide => "/",
        Arithmetic::Remainder => "%",
        Arithmetic::Minimum => "min",
        Arithmetic::Maximum => "max",
    }
}

/// What to do where two types do not go together because one has a unit.
pub(super) fn unit_hint(one: &str, other: &str) -> &'static str {
    match (one, other) {
        ("a Money", _) | (_, "a Money") => "; int(…) of a Money is its minor units",
        ("a Time", _) | (_, "a Time") => "; int(…) of a Time is its Unix ms",
        ("a Duration", _) | (_, "a Duration") => "; a span is written duration(\"2h\")",
        _ => "",
    }
}

/// The result of an operator, or what was expected.
fn combine<L: Leaves>(
    arithmetic: Arithmetic,
    left: Typed<L>,
    right: Typed<L>,
) -> Result<Typed<L>, String> {
    use Arithmetic::{Add, Divide, Multiply, Remainder, Subtract};
    use Typed::{Float as F, Single, Whole as W};
    use Unit::{Duration, Int, Money, Time};
    let whole = |unit, left, right| Ok(W(unit, Whole::arithmetic(arithmetic, left, right)));
    let float = |left, right| Ok(F(Float::arithmetic(arithmetic, left, right)));
    let names = (left.name(), right.name());
    match (arithmetic, left, right) {
        (_, F(left) | Single(left), F(right) | Single(right)) => float(left, right),
        (_, F(left) | Single(left), W(Int, right)) => float(left, Float::whole(right)),
        (_, W(Int, left), F(right) | Single(right)) => float(Float::whole(left), right),
        (_, W(Int, left), W(Int, right)) => whole(Int, left, right),
        (Add | Subtract, W(Time, left), W(Duration, right)) => whole(Time, left, right),
        (Add, W(Duration, left), W(Time, right)) => whole(Time, left, right),
        (Subtract, W(Time, left), W(Time, right)) => whole(Duration, left, right),
        (Add | Subtract | Remainder, W(unit @ (Duration | Money), left), W(same, right))
            if unit == same =>
        {
            whole(unit, left, right)
        }
        (Multiply | Divide, W(unit @ (Duration | Money), left), W(Int, right)) => {
            whole(unit, left, right)
        }
        (Multiply, W(Int, left), W(unit @ (Duration | Money), right)) => whole(unit, left, right),
        (Divide, W(unit @ (Duration | Money), left), W(same, right)) if unit == same => {
            float(Float::whole(left), Float::whole(right))
        }
        (_, Typed::Text(_), Typed::Text(_)) => Err("numbers: texts are not joined".to_owned()),
        _ => Err(expected(arithmetic, &names.0, &names.1)),
    }
}

fn expected(arithmetic: Arithmetic, one: &str, other: &str) -> String {
    let both = match arithmetic {
        Arithmetic::Add => "two of the same kind, or a Time and a Duration",
        Arithmetic::Subtract => "two of the same kind, or a Time less a Duration",
        Arithmetic::Multiply => "two numbers, of which one at most has a unit",
        Arithmetic::Divide => "a number to divide by a number or by its own kind",
        _ => "two numbers of the same kind",
    };
    format!("{both}{}", unit_hint(one, other))
}
