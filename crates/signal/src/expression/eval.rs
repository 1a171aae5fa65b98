//! Evaluation: total, without allocation and without a look at a name. Where a leaf may be unknown,
//! so may what needs it.

use fenghuo_event::schema::Enumeration;

use super::schema::Leaves;
use super::text::Piece;
use super::tree::{Arithmetic, Bool, Float, Search, Text, Whole};

type Evaluated<T, L> = Result<T, <L as Leaves>::Unknown>;

impl<L: Leaves> Bool<L> {
    pub(super) fn evaluate<'s>(&'s self, scope: L::Scope<'s>) -> Evaluated<bool, L> {
        Ok(match self {
            Bool::Constant(value) => *value,
            Bool::Leaf(read) | Bool::Given(read) => L::bool(&read.leaf, scope)?,
            Bool::Not(inner) => !inner.evaluate(scope)?,
            Bool::And(sides) => return settle(sides, scope, false),
            Bool::Or(sides) => return settle(sides, scope, true),
            Bool::Same(sides) => sides[0].evaluate(scope)? == sides[1].evaluate(scope)?,
            Bool::If(parts) => {
                let (condition, [then, otherwise]) = &**parts;
                match condition.evaluate(scope)? {
                    true => then.evaluate(scope)?,
                    false => otherwise.evaluate(scope)?,
                }
            }
            Bool::Among(read, set) => set >> (L::number(&read.leaf, scope)? & 63) & 1 == 1,
            Bool::Whole(comparison, sides) => {
                let [left, right] = &**sides;
                comparison.holds(left.evaluate(scope)?.cmp(&right.evaluate(scope)?))
            }
            Bool::WholeIn(value, list) => list.contains(&value.evaluate(scope)?),
            Bool::Float(comparison, sides) => {
                let [left, right] = &**sides;
                let ordering = left.evaluate(scope)?.partial_cmp(&right.evaluate(scope)?);
                ordering.is_some_and(|ordering| comparison.holds(ordering))
            }
            Bool::FloatIn(value, list) => list.contains(&value.evaluate(scope)?),
            Bool::Text(comparison, sides) => {
                let [left, right] = &**sides;
                comparison.holds_texts(left.evaluate(scope)?, right.evaluate(scope)?)
            }
            Bool::TextIn(value, list) => {
                let value = value.evaluate(scope)?;
                list.iter().any(|text| value.equals(Piece::new(text)))
            }
            Bool::Search(search, sides) => {
                let [text, part] = &**sides;
                search.finds(text.evaluate(scope)?, part.evaluate(scope)?)
            }
            Bool::Holds(read, text) => L::holds(&read.leaf, scope, text.evaluate(scope)?)?,
        })
    }
}

/// `&&` is settled by a side that is false and `||` by one that is true, even where the other side
/// is unknown.
#[inline]
fn settle<'s, L: Leaves>(
    sides: &'s [Bool<L>; 2],
    scope: L::Scope<'s>,
    settles: bool,
) -> Evaluated<bool, L> {
    match sides[0].evaluate(scope) {
        Ok(left) if left == settles => Ok(settles),
        Ok(_) => sides[1].evaluate(scope),
        Err(unknown) => match sides[1].evaluate(scope) {
            Ok(right) if right == settles => Ok(settles),
            _ => Err(unknown),
        },
    }
}

impl super::tree::Comparison {
    #[inline]
    pub(super) fn holds_texts(self, left: Piece<'_>, right: Piece<'_>) -> bool {
        match self {
            Self::Equal => left.equals(right),
            Self::NotEqual => !left.equals(right),
            _ => self.holds(left.compare(right)),
        }
    }
}

impl Search {
    #[inline]
    pub(super) fn finds(self, text: Piece<'_>, part: Piece<'_>) -> bool {
        match self {
            Search::StartsWith => text.starts_with(part),
            Search::EndsWith => text.ends_with(part),
            Search::Contains => text.contains(part),
        }
    }
}

impl<L: Leaves> Whole<L> {
    pub(super) fn evaluate<'s>(&'s self, scope: L::Scope<'s>) -> Evaluated<i64, L> {
        Ok(match self {
            Whole::Constant(value) => *value,
            Whole::Leaf(read) => L::whole(&read.leaf, scope)?,
            Whole::Count(read) => L::count(&read.leaf, scope)?,
            Whole::Size(text) => text.evaluate(scope)?.size(),
            Whole::Negate(inner) => inner.evaluate(scope)?.saturating_neg(),
            Whole::Absolute(inner) => inner.evaluate(scope)?.saturating_abs(),
            Whole::Truncate(inner) => inner.evaluate(scope)? as i64,
            Whole::Arithmetic(arithmetic, sides) => {
                let [left, right] = &**sides;
                arithmetic.whole(left.evaluate(scope)?, right.evaluate(scope)?)
            }
            Whole::If(parts) => {
                let (condition, [then, otherwise]) = &**parts;
                match condition.evaluate(scope)? {
                    true => then.evaluate(scope)?,
                    false => otherwise.evaluate(scope)?,
                }
            }
        })
    }
}

impl<L: Leaves> Float<L> {
    pub(super) fn evaluate<'s>(&'s self, scope: L::Scope<'s>) -> Evaluated<f64, L> {
        Ok(match self {
            Float::Constant(value) => *value,
            Float::Leaf(read) => finite(L::float(&read.leaf, scope)?),
            Float::Whole(inner) => inner.evaluate(scope)? as f64,
            Float::Negate(inner) => -inner.evaluate(scope)?,
            Float::Absolute(inner) => inner.evaluate(scope)?.abs(),
            Float::Arithmetic(arithmetic, sides) => {
                let [left, right] = &**sides;
                arithmetic.float(left.evaluate(scope)?, right.evaluate(scope)?)
            }
            Float::If(parts) => {
                let (condition, [then, otherwise]) = &**parts;
                match condition.evaluate(scope)? {
                    true => then.evaluate(scope)?,
                    false => otherwise.evaluate(scope)?,
                }
            }
        })
    }
}

impl<L: Leaves> Text<L> {
    pub(super) fn evaluate<'s>(&'s self, scope: L::Scope<'s>) -> Evaluated<Piece<'s>, L> {
        Ok(match self {
            Text::Constant(text) => Piece::new(text),
            Text::Leaf(read) => Piece::new(L::text(&read.leaf, scope)?),
            Text::Name(read, names) => name_of(names, L::number(&read.leaf, scope)?),
            Text::Lower(inner) => inner.evaluate(scope)?.lower(),
            Text::If(parts) => {
                let (condition, [then, otherwise]) = &**parts;
                match condition.evaluate(scope)? {
                    true => then.evaluate(scope)?,
                    false => otherwise.evaluate(scope)?,
                }
            }
        })
    }
}

fn name_of(names: &'static Enumeration, number: u32) -> Piece<'static> {
    Piece::new(names.name_of(number))
}

impl Arithmetic {
    /// What does not fit is the nearest number that does; what is divided by 0 is 0.
    #[inline]
    pub(super) fn whole(self, left: i64, right: i64) -> i64 {
        match self {
            Arithmetic::Add => left.saturating_add(right),
            Arithmetic::Subtract => left.saturating_sub(right),
            Arithmetic::Multiply => left.saturating_mul(right),
            Arithmetic::Divide if right == 0 => 0,
            Arithmetic::Divide => left.saturating_div(right),
            Arithmetic::Remainder if right == 0 => 0,
            Arithmetic::Remainder => left.wrapping_rem(right),
            Arithmetic::Minimum => left.min(right),
            Arithmetic::Maximum => left.max(right),
        }
    }

    /// Both sides are finite, and so is what comes out; what is divided by 0 is 0.
    #[inline]
    pub(super) fn float(self, left: f64, right: f64) -> f64 {
        finite(match self {
            Arithmetic::Add => left + right,
            Arithmetic::Subtract => left - right,
            Arithmetic::Multiply => left * right,
            Arithmetic::Divide | Arithmetic::Remainder if right == 0.0 => 0.0,
            Arithmetic::Divide => left / right,
            Arithmetic::Remainder => left % right,
            Arithmetic::Minimum => left.min(right),
            Arithmetic::Maximum => left.max(right),
        })
    }
}

/// An infinity as the largest number, NaN as 0.
#[inline]
pub(super) fn finite(value: f64) -> f64 {
    match value.is_nan() {
        true => 0.0,
        false => value.clamp(f64::MIN, f64::MAX),
    }
}
