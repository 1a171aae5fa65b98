//! The types of functions and methods.

use super::operator::unit_hint;
use super::{
    Arithmetic, Bool, Checked, Checker, Error, Float, Kind, Leaf, Node, Pair, Schema, Typed, Unit,
    Whole, pair, read,
};
use crate::expression::schema::Argument;
use crate::expression::tree::Search;

const FUNCTIONS: [&str; 7] = ["has", "min", "max", "abs", "int", "float", "duration"];
const METHODS: [&str; 5] = ["startsWith", "endsWith", "contains", "size", "lower"];

/// The longest span, about 292 million years, is what fits the type.
const UNITS_MS: [(&str, i64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

impl<S: Schema> Checker<'_, S> {
    pub(super) fn call(&mut self, node: &Node, name: &str, arguments: &[Node]) -> Checked<S> {
        match (name, arguments) {
            ("has", [argument]) => self.has(argument),
            ("duration", [argument]) => self.duration(argument),
            ("min", [left, right]) => self.extreme(Arithmetic::Minimum, left, right),
            ("max", [left, right]) => self.extreme(Arithmetic::Maximum, left, right),
            ("abs", [argument]) => self.absolute(argument),
            ("int", [argument]) => self.int(argument),
            ("float", [argument]) => self.float(argument),
            ("size", [argument]) => self.method(node, argument, "size", &[]),
            ("min" | "max", _) => self.miscounted(node, name, arguments, "two arguments"),
            ("has" | "duration" | "abs" | "int" | "float" | "size", _) => {
                self.miscounted(node, name, arguments, "one argument")
            }
            ("matches", _) => self.no_matches(node.at),
            _ => self.foreign(node, name, arguments),
        }
    }

    fn miscounted<T>(
        &mut self,
        node: &Node,
        name: &str,
        arguments: &[Node],
        expected: &str,
    ) -> Option<T> {
        let count = arguments.len();
        let plural = if count == 1 { "" } else { "s" };
        let found = format!("{name} with {count} argument{plural}");
        self.unexpected(node.at, found, expected)
    }

    fn no_matches<T>(&mut self, at: usize) -> Option<T> {
        self.unexpected(
            at,
            "matches",
            "startsWith, endsWith or contains: there are no regular expressions",
        )
    }

    /// A function of the schema.
    fn foreign(&mut self, node: &Node, name: &str, arguments: &[Node]) -> Checked<S> {
        let literals: Vec<Option<Argument<'_>>> = arguments.iter().map(argument).collect();
        let known: Vec<Argument<'_>> = literals.iter().copied().flatten().collect();
        let Some(answer) = self.schema.function(name, &known) else {
            if METHODS.contains(&name) {
                let found = format!("{name}(…)");
                return self.unexpected(node.at, found, format!("value.{name}(…): it is a method"));
            }
            let functions = self.schema.functions();
            let names = FUNCTIONS.into_iter().chain(functions);
            let error = Error::unknown(node.at, "function", name, names);
            return self.tell(error);
        };
        if let Some(at) = literals.iter().position(Option::is_none) {
            let expected = "a name or a literal";
            return self.unexpected(arguments[at].at, "an operation", expected);
        }
        match answer {
            Ok(field) => self.field(node.at, field),
            Err(refusal) => {
                let argument = refusal.argument.and_then(|at| arguments.get(at));
                let at = argument.map_or(node.at, |argument| argument.at);
                self.unexpected(at, refusal.found, refusal.expected)
            }
        }
    }

    fn has(&mut self, node: &Node) -> Checked<S> {
        let Kind::Path(path) = &node.kind else {
            return self.unexpected(node.at, "a value", "the name of a field in has(…)");
        };
        let Some(field) = self.schema.field(path) else {
            return self.unknown_field(node.at, path);
        };
        let names = match field.leaf {
            Leaf::Enum(names, _) => Some(names),
            _ => None,
        };
        let Some(given) = field.given else {
            let expected = "a field that may be missing";
            return self.unexpected(node.at, field.path, expected);
        };
        let number = self.number(node.at, field.path, names, field.list)?;
        Some(Typed::Bool(Bool::Given(read(number, given))))
    }

    fn duration(&mut self, node: &Node) -> Checked<S> {
        let expected = "a text such as \"90s\", \"2h30m\" or \"1d\"; units are ms, s, m, h and d";
        let Kind::Text(text) = &node.kind else {
            return self.unexpected(node.at, "a value", expected);
        };
        match span_ms(text) {
            Some(ms) => Some(Typed::Whole(Unit::Duration, Whole::Constant(ms))),
            None => self.unexpected(node.at, format!("{text:?}"), expected),
        }
    }

    fn extreme(&mut self, arithmetic: Arithmetic, left: &Node, right: &Node) -> Checked<S> {
        let typed = (self.node(left), self.node(right));
        let (one, other) = (typed.0?, typed.1?);
        let (first, second) = (one.name(), other.name());
        match pair((left, one), (right, other)) {
            Some(Pair::Whole(unit, [one, other])) => Some(Typed::Whole(
                unit,
                Whole::arithmetic(arithmetic, one, other),
            )),
            Some(Pair::Float([one, other])) => {
                Some(Typed::Float(Float::arithmetic(arithmetic, one, other)))
            }
            _ => {
                let expected =
                    format!("two numbers of the same kind{}", unit_hint(&first, &second));
                self.unexpected(left.at, format!("{first} and {second}"), expected)
            }
        }
    }

    fn absolute(&mut self, node: &Node) -> Checked<S> {
        Some(match self.node(node)? {
            Typed::Whole(unit, value) if unit != Unit::Time => Typed::Whole(unit, value.absolute()),
            Typed::Float(value) | Typed::Single(value) => Typed::Float(value.absolute()),
            other => {
                let expected = "an Int, a Float, a Duration or a Money";
                return self.unexpected(node.at, other.name(), expected);
            }
        })
    }

    fn int(&mut self, node: &Node) -> Checked<S> {
        let value = match self.node(node)? {
            Typed::Whole(_, value) => value,
            Typed::Float(value) | Typed::Single(value) => Whole::truncated(value),
            Typed::Bool(value) => Whole::choose(value, Whole::Constant(1), Whole::Constant(0)),
            other => return self.unexpected(node.at, other.name(), "a number or a Bool"),
        };
        Some(Typed::Whole(Unit::Int, value))
    }

    fn float(&mut self, node: &Node) -> Checked<S> {
        let value = match self.node(node)? {
            Typed::Whole(_, value) => Float::whole(value),
            Typed::Float(value) | Typed::Single(value) => value,
            Typed::Bool(value) => Float::choose(value, Float::Constant(1.0), Float::Constant(0.0)),
            other => return self.unexpected(node.at, other.name(), "a number or a Bool"),
        };
        Some(Typed::Float(value))
    }

    pub(super) fn method(
        &mut self,
        node: &Node,
        receiver: &Node,
        name: &str,
        arguments: &[Node],
    ) -> Checked<S> {
        if name == "matches" {
            return self.no_matches(node.at);
        }
        if !METHODS.contains(&name) {
            let error = Error::unknown(node.at, "method", name, METHODS);
            return self.tell(error);
        }
        let receiver = match (self.node(receiver)?.spelt(), name) {
            (Typed::Texts(_, count) | Typed::List(count), "size") if arguments.is_empty() => {
                return Some(Typed::Whole(Unit::Int, Whole::Count(count)));
            }
            (Typed::Text(text), _) => text,
            (Typed::Texts(..), "contains") => {
                return self.unexpected(receiver.at, "a list", "\"x\" in list to look into a list");
            }
            (other, _) => {
                let expected = format!("a Text before .{name}(…)");
                return self.unexpected(receiver.at, other.name(), expected);
            }
        };
        let search = match (name, arguments) {
            ("size", []) => return Some(Typed::Whole(Unit::Int, Whole::size(receiver))),
            ("lower", []) => return Some(Typed::Text(receiver.lowered())),
            ("size" | "lower", _) => {
                return self.miscounted(node, name, arguments, "no argument");
            }
            ("startsWith", [_]) => Search::StartsWith,
            ("endsWith", [_]) => Search::EndsWith,
            ("contains", [_]) => Search::Contains,
            _ => return self.miscounted(node, name, arguments, "one argument"),
        };
        let argument = &arguments[0];
        match self.node(argument)?.spelt() {
            // Two texts of an event could cost the product of their lengths.
            Typed::Text(part) if search == Search::Contains && part.piece().is_none() => self
                .unexpected(
                    argument.at,
                    "a text of the event",
                    "a literal in contains(…)",
                ),
            Typed::Text(part) => Some(Typed::Bool(Bool::search(search, receiver, part))),
            other => self.unexpected(argument.at, other.name(), "a Text"),
        }
    }
}

/// What a function of the schema may be given.
fn argument(node: &Node) -> Option<Argument<'_>> {
    Some(match &node.kind {
        Kind::Path(path) => Argument::Path(path),
        Kind::Text(text) => Argument::Text(text),
        Kind::Int(value) => Argument::Int(*value),
        Kind::Float(value) => Argument::Float(*value),
        Kind::Bool(value) => Argument::Bool(*value),
        Kind::Negate(inner) => match inner.kind {
            Kind::Int(value) => Argument::Int(value.saturating_neg()),
            Kind::Float(value) => Argument::Float(-value),
            _ => return None,
        },
        _ => return None,
    })
}

/// `1d2h3m4s5ms`, any of them, as ms.
fn span_ms(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut sum: i64 = 0;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let count: i64 = rest[..rest.len() - unit.len()].parse().ok()?;
        rest = unit.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &unit[..unit.len() - rest.len()];
        let (_, ms) = UNITS_MS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(count.checked_mul(*ms)?)?;
    }
    (!text.is_empty()).then_some(sum)
}
