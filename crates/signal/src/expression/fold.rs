//! Constructors that fold what is constant, and specialisation, which makes more of it constant.
//! Folding uses the same functions as evaluation, so that it cannot differ from it.

use super::schema::Leaves;
use super::text::Piece;
use super::tree::{Arithmetic, Bool, Comparison, Float, Root, Search, Text, Whole};

/// What `visit` is told: the number of a field.
type Visit<'v> = dyn FnMut(u16) + 'v;

/// The value that an enum has.
#[derive(Clone, Copy)]
struct Known<'n> {
    field: u16,
    name: &'n str,
    number: u32,
}

impl<L: Leaves> Bool<L> {
    pub(super) fn negated(self) -> Self {
        match self {
            Bool::Constant(value) => Bool::Constant(!value),
            Bool::Not(inner) => *inner,
            Bool::Among(read, set) => Bool::Among(read, !set),
            other => Bool::Not(Box::new(other)),
        }
    }

    pub(super) fn and(left: Self, right: Self) -> Self {
        match (left, right) {
            (Bool::Constant(false), _) | (_, Bool::Constant(false)) => Bool::Constant(false),
            (Bool::Constant(true), other) | (other, Bool::Constant(true)) => other,
            (left, right) => Bool::And(Box::new([left, right])),
        }
    }

    pub(super) fn or(left: Self, right: Self) -> Self {
        match (left, right) {
            (Bool::Constant(true), _) | (_, Bool::Constant(true)) => Bool::Constant(true),
            (Bool::Constant(false), other) | (other, Bool::Constant(false)) => other,
            (left, right) => Bool::Or(Box::new([left, right])),
        }
    }

    pub(super) fn same(left: Self, right: Self) -> Self {
        match (left, right) {
            (Bool::Constant(true), other) | (other, Bool::Constant(true)) => other,
            (Bool::Constant(false), other) | (other, Bool::Constant(false)) => other.negated(),
            (left, right) => Bool::Same(Box::new([left, right])),
        }
    }

    pub(super) fn choose(condition: Bool<L>, then: Self, otherwise: Self) -> Self {
        match condition {
            Bool::Constant(true) => then,
            Bool::Constant(false) => otherwise,
            condition => Bool::If(Box::new((condition, [then, otherwise]))),
        }
    }

    pub(super) fn whole(comparison: Comparison, left: Whole<L>, right: Whole<L>) -> Self {
        match (left, right) {
            (Whole::Constant(left), Whole::Constant(right)) => {
                Bool::Constant(comparison.holds(left.cmp(&right)))
            }
            (left, right) => Bool::Whole(comparison, Box::new([left, right])),
        }
    }

    pub(super) fn float(comparison: Comparison, left: Float<L>, right: Float<L>) -> Self {
        match (left, right) {
            (Float::Constant(left), Float::Constant(right)) => {
                let ordering = left.partial_cmp(&right);
                Bool::Constant(ordering.is_some_and(|ordering| comparison.holds(ordering)))
            }
            (left, right) => Bool::Float(comparison, Box::new([left, right])),
        }
    }

    pub(super) fn text(comparison: Comparison, left: Text<L>, right: Text<L>) -> Self {
        match (left.piece(), right.piece()) {
            (Some(one), Some(other)) => Bool::Constant(comparison.holds_texts(one, other)),
            _ => Bool::Text(comparison, Box::new([left, right])),
        }
    }

    pub(super) fn search(search: Search, text: Text<L>, part: Text<L>) -> Self {
        match (text.piece(), part.piece()) {
            (Some(text), Some(part)) => Bool::Constant(search.finds(text, part)),
            _ => Bool::Search(search, Box::new([text, part])),
        }
    }

    pub(super) fn whole_in(value: Whole<L>, list: Box<[i64]>) -> Self {
        match value {
            Whole::Constant(value) => Bool::Constant(list.contains(&value)),
            value => Bool::WholeIn(Box::new(value), list),
        }
    }

    pub(super) fn float_in(value: Float<L>, list: Box<[f64]>) -> Self {
        match value {
            Float::Constant(value) => Bool::Constant(list.contains(&value)),
            value => Bool::FloatIn(Box::new(value), list),
        }
    }

    pub(super) fn text_in(value: Text<L>, list: Box<[Box<str>]>) -> Self {
        match value.piece() {
            Some(value) => Bool::Constant(list.iter().any(|text| value.equals(Piece::new(text)))),
            None => Bool::TextIn(Box::new(value), list),
        }
    }

    fn visit(&self, visit: &mut Visit<'_>) {
        match self {
            Bool::Constant(_) => {}
            Bool::Leaf(read) | Bool::Given(read) => visit(read.field),
            Bool::Not(inner) => inner.visit(visit),
            Bool::And(sides) | Bool::Or(sides) | Bool::Same(sides) => {
                sides.iter().for_each(|side| side.visit(visit));
            }
            Bool::If(parts) => {
                parts.0.visit(visit);
                parts.1.iter().for_each(|part| part.visit(visit));
            }
            Bool::Among(read, _) => visit(read.field),
            Bool::Whole(_, sides) => sides.iter().for_each(|side| side.visit(visit)),
            Bool::WholeIn(value, _) => value.visit(visit),
            Bool::Float(_, sides) => sides.iter().for_each(|side| side.visit(visit)),
            Bool::FloatIn(value, _) => value.visit(visit),
            Bool::Text(_, sides) | Bool::Search(_, sides) => {
                sides.iter().for_each(|side| side.visit(visit));
            }
            Bool::TextIn(value, _) => value.visit(visit),
            Bool::Holds(read, text) => {
                visit(read.field);
                text.visit(visit);
            }
        }
    }

    fn specialise(&self, known: Known<'_>) -> Self {
        match self {
            Bool::Constant(_) | Bool::Leaf(_) => self.clone(),
            Bool::Given(read) if read.field == known.field => Bool::Constant(known.number != 0),
            Bool::Given(_) => self.clone(),
            Bool::Not(inner) => inner.specialise(known).negated(),
            Bool::And(sides) => {
                let [left, right] = sides.each_ref().map(|side| side.specialise(known));
                Bool::and(left, right)
            }
            Bool::Or(sides) => {
                let [left, right] = sides.each_ref().map(|side| side.specialise(known));
                Bool::or(left, right)
            }
            Bool::Same(sides) => {
                let [left, right] = sides.each_ref().map(|side| side.specialise(known));
                Bool::same(left, right)
            }
            Bool::If(parts) => {
                let [then, otherwise] = parts.1.each_ref().map(|part| part.specialise(known));
                Bool::choose(parts.0.specialise(known), then, otherwise)
            }
            Bool::Among(read, set) if read.field == known.field => {
                Bool::Constant(set >> (known.number & 63) & 1 == 1)
            }
            Bool::Among(..) => self.clone(),
            Bool::Whole(comparison, sides) => {
                let [left, right] = sides.each_ref().map(|side| side.specialise(known));
                Bool::whole(*comparison, left, right)
            }
            Bool::WholeIn(value, list) => Bool::whole_in(value.specialise(known), list.clone()),
            Bool::Float(comparison, sides) => {
                let [left, right] = sides.each_ref().map(|side| side.specialise(known));
                Bool::float(*comparison, left, right)
            }
            Bool::FloatIn(value, list) => Bool::float_in(value.specialise(known), list.clone()),
            Bool::Text(comparison, sides) => {
                let [left, right] = sides.each_ref().map(|side| side.specialise(known));
                Bool::text(*comparison, left, right)
            }
            Bool::TextIn(value, list) => Bool::text_in(value.specialise(known), list.clone()),
            Bool::Search(search, sides) => {
                let [text, part] = sides.each_ref().map(|side| side.specialise(known));
                Bool::search(*search, text, part)
            }
            Bool::Holds(read, text) => Bool::Holds(read.clone(), Box::new(text.specialise(known))),
        }
    }
}

impl<L: Leaves> Whole<L> {
    pub(super) fn negated(self) -> Self {
        match self {
            Whole::Constant(value) => Whole::Constant(value.saturating_neg()),
            other => Whole::Negate(Box::new(other)),
        }
    }

    pub(super) fn absolute(self) -> Self {
        match self {
            Whole::Constant(value) => Whole::Constant(value.saturating_abs()),
            other => Whole::Absolute(Box::new(other)),
        }
    }

    pub(super) fn truncated(value: Float<L>) -> Self {
        match value {
            Float::Constant(value) => Whole::Constant(value as i64),
            other => Whole::Truncate(Box::new(other)),
        }
    }

    pub(super) fn size(text: Text<L>) -> Self {
        match text.piece() {
            Some(text) => Whole::Constant(text.size()),
            None => Whole::Size(Box::new(text)),
        }
    }

    pub(super) fn arithmetic(arithmetic: Arithmetic, left: Self, right: Self) -> Self {
        match (left, right) {
            (Whole::Constant(left), Whole::Constant(right)) => {
                Whole::Constant(arithmetic.whole(left, right))
            }
            (left, right) => Whole::Arithmetic(arithmetic, Box::new([left, right])),
        }
    }

    pub(super) fn choose(condition: Bool<L>, then: Self, otherwise: Self) -> Self {
        match condition {
            Bool::Constant(true) => then,
            Bool::Constant(false) => otherwise,
            condition => Whole::If(Box::new((condition, [then, otherwise]))),
        }
    }

    fn visit(&self, visit: &mut Visit<'_>) {
        match self {
            Whole::Constant(_) => {}
            Whole::Leaf(read) => visit(read.field),
            Whole::Count(read) => visit(read.field),
            Whole::Size(text) => text.visit(visit),
            Whole::Negate(inner) | Whole::Absolute(inner) => inner.visit(visit),
            Whole::Truncate(inner) => inner.visit(visit),
            Whole::Arithmetic(_, sides) => sides.iter().for_each(|side| side.visit(visit)),
            Whole::If(parts) => {
                parts.0.visit(visit);
                parts.1.iter().for_each(|part| part.visit(visit));
            }
        }
    }

    fn specialise(&self, known: Known<'_>) -> Self {
        match self {
            Whole::Constant(_) | Whole::Leaf(_) | Whole::Count(_) => self.clone(),
            Whole::Size(text) => Whole::size(text.specialise(known)),
            Whole::Negate(inner) => inner.specialise(known).negated(),
            Whole::Absolute(inner) => inner.specialise(known).absolute(),
            Whole::Truncate(inner) => Whole::truncated(inner.specialise(known)),
            Whole::Arithmetic(arithmetic, sides) => {
                let [left, right] = sides.each_ref().map(|side| side.specialise(known));
                Whole::arithmetic(*arithmetic, left, right)
            }
            Whole::If(parts) => {
                let [then, otherwise] = parts.1.each_ref().map(|part| part.specialise(known));
                Whole::choose(parts.0.specialise(known), then, otherwise)
            }
        }
    }
}

impl<L: Leaves> Float<L> {
    /// A whole number as a Float.
    pub(super) fn whole(value: Whole<L>) -> Self {
        match value {
            Whole::Constant(value) => Float::Constant(value as f64),
            other => Float::Whole(Box::new(other)),
        }
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Float::Constant(value) => Float::Constant(-value),
            other => Float::Negate(Box::new(other)),
        }
    }

    pub(super) fn absolute(self) -> Self {
        match self {
            Float::Constant(value) => Float::Constant(value.abs()),
            other => Float::Absolute(Box::new(other)),
        }
    }

    pub(super) fn arithmetic(arithmetic: Arithmetic, left: Self, right: Self) -> Self {
        match (left, right) {
            (Float::Constant(left), Float::Constant(right)) => {
                Float::Constant(arithmetic.float(left, right))
            }
            (left, right) => Float::Arithmetic(arithmetic, Box::new([left, right])),
        }
    }

    pub(super) fn choose(condition: Bool<L>, then: Self, otherwise: Self) -> Self {
        match condition {
            Bool::Constant(true) => then,
            Bool::Constant(false) => otherwise,
            condition => Float::If(Box::new((condition, [then, otherwise]))),
        }
    }

    fn visit(&self, visit: &mut Visit<'_>) {
        match self {
            Float::Constant(_) => {}
            Float::Leaf(read) => visit(read.field),
            Float::Whole(inner) => inner.visit(visit),
            Float::Negate(inner) | Float::Absolute(inner) => inner.visit(visit),
            Float::Arithmetic(_, sides) => sides.iter().for_each(|side| side.visit(visit)),
            Float::If(parts) => {
                parts.0.visit(visit);
                parts.1.iter().for_each(|part| part.visit(visit));
            }
        }
    }

    fn specialise(&self, known: Known<'_>) -> Self {
        match self {
            Float::Constant(_) | Float::Leaf(_) => self.clone(),
            Float::Whole(inner) => Float::whole(inner.specialise(known)),
            Float::Negate(inner) => inner.specialise(known).negated(),
            Float::Absolute(inner) => inner.specialise(known).absolute(),
            Float::Arithmetic(arithmetic, sides) => {
                let [left, right] = sides.each_ref().map(|side| side.specialise(known));
                Float::arithmetic(*arithmetic, left, right)
            }
            Float::If(parts) => {
                let [then, otherwise] = parts.1.each_ref().map(|part| part.specialise(known));
                Float::choose(parts.0.specialise(known), then, otherwise)
            }
        }
    }
}

impl<L: Leaves> Text<L> {
    /// The text, where it is constant.
    pub(super) fn piece(&self) -> Option<Piece<'_>> {
        match self {
            Text::Constant(text) => Some(Piece::new(text)),
            _ => None,
        }
    }

    pub(super) fn lowered(self) -> Self {
        match self {
            Text::Constant(text) => Text::Constant(text.to_ascii_lowercase().into()),
            Text::Lower(inner) => Text::Lower(inner),
            other => Text::Lower(Box::new(other)),
        }
    }

    pub(super) fn choose(condition: Bool<L>, then: Self, otherwise: Self) -> Self {
        match condition {
            Bool::Constant(true) => then,
            Bool::Constant(false) => otherwise,
            condition => Text::If(Box::new((condition, [then, otherwise]))),
        }
    }

    fn visit(&self, visit: &mut Visit<'_>) {
        match self {
            Text::Constant(_) => {}
            Text::Leaf(read) => visit(read.field),
            Text::Name(read, _) => visit(read.field),
            Text::Lower(inner) => inner.visit(visit),
            Text::If(parts) => {
                parts.0.visit(visit);
                parts.1.iter().for_each(|part| part.visit(visit));
            }
        }
    }

    fn specialise(&self, known: Known<'_>) -> Self {
        match self {
            Text::Constant(_) | Text::Leaf(_) => self.clone(),
            Text::Name(read, _) if read.field == known.field => Text::Constant(known.name.into()),
            Text::Name(..) => self.clone(),
            Text::Lower(inner) => inner.specialise(known).lowered(),
            Text::If(parts) => {
                let [then, otherwise] = parts.1.each_ref().map(|part| part.specialise(known));
                Text::choose(parts.0.specialise(known), then, otherwise)
            }
        }
    }
}

impl<L: Leaves> Root<L> {
    /// Tells the number of every field that is read.
    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        match self {
            Root::Bool(root) => root.visit(visit),
            Root::Whole(root) => root.visit(visit),
            Root::Float(root) => root.visit(visit),
            Root::Text(root) => root.visit(visit),
        }
    }

    /// With the enum `field` being the value of that name and number.
    pub(super) fn specialise(&self, field: u16, name: &str, number: u32) -> Self {
        let known = Known {
            field,
            name,
            number,
        };
        match self {
            Root::Bool(root) => Root::Bool(root.specialise(known)),
            Root::Whole(root) => Root::Whole(root.specialise(known)),
            Root::Float(root) => Root::Float(root.specialise(known)),
            Root::Text(root) => Root::Text(root.specialise(known)),
        }
    }
}
