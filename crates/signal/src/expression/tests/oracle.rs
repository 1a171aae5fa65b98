//! Random expressions, printed, parsed and evaluated, against a naive interpreter over the event's
//! JSON. The interpreter shares no code with the language: it finds fields in the JSON, calculates
//! in 128 bits and cuts to 64, and copies every text.

use std::fmt::Write as _;

use fenghuo_event::Stream;
use fenghuo_event::schema::Scope;
use proptest::prelude::*;
use serde_json::Value as Json;

use super::random::{self, Grower, Kind, Random, Tree, grown};
use super::{event, parse};
use crate::expression::{EventExpression, Type};

/// A value, as the interpreter has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Whole(i64),
    Float(f64),
    Text(String),
}

use Value::{Bool, Float, Text, Whole};

/// Writes `tree` with few parentheses, so that the parser has to know what binds more tightly.
pub(super) fn print(tree: &Tree) -> String {
    let mut out = String::new();
    write_tree(tree, 0, &mut out);
    out
}

fn binds(sign: &str) -> u8 {
    match sign {
        "||" => 2,
        "&&" => 3,
        "+" | "-" => 5,
        "*" | "/" | "%" => 6,
        _ => 4,
    }
}

/// Writes what stands where only what binds at least as tightly as `least` can.
fn write_tree(tree: &Tree, least: u8, out: &mut String) {
    let own = match tree {
        Tree::If(_) => 1,
        Tree::Binary(sign, _) => binds(sign),
        Tree::In(..) => 4,
        Tree::Unary(..) => 7,
        Tree::Int(..0) => 7,
        Tree::Float(value) if *value < 0.0 => 7,
        _ => 8,
    };
    if own < least {
        out.push('(');
        write_tree(tree, 0, out);
        out.push(')');
        return;
    }
    match tree {
        Tree::Bool(value) => write!(out, "{value}").unwrap(),
        Tree::Int(value) => write!(out, "{value}").unwrap(),
        Tree::Float(value) => write!(out, "{value:?}").unwrap(),
        Tree::Text(text) => {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            write!(out, "\"{}\"", escaped.replace('\n', "\\n")).unwrap();
        }
        Tree::Span(seconds) => write!(out, "duration(\"{seconds}s\")").unwrap(),
        Tree::Field(_, path) => out.push_str(path),
        Tree::Unary(sign, inner) => {
            out.push_str(sign);
            write_tree(inner, 7, out);
        }
        Tree::Binary(sign, sides) => {
            // Comparisons do not follow each other; the others go from left to right.
            write_tree(&sides[0], if own == 4 { 5 } else { own }, out);
            write!(out, " {sign} ").unwrap();
            write_tree(&sides[1], own + 1, out);
        }
        Tree::In(value, list) => {
            write_tree(value, 5, out);
            out.push_str(" in [");
            write_list(list, out);
            out.push(']');
        }
        Tree::If(parts) => {
            write_tree(&parts[0], 2, out);
            out.push_str(" ? ");
            write_tree(&parts[1], 0, out);
            out.push_str(" : ");
            write_tree(&parts[2], 0, out);
        }
        Tree::Call(name, arguments) => {
            write!(out, "{name}(").unwrap();
            write_list(arguments, out);
            out.push(')');
        }
        Tree::Method(receiver, name, arguments) => {
            write_tree(receiver, 8, out);
            write!(out, ".{name}(").unwrap();
            write_list(arguments, out);
            out.push(')');
        }
    }
}

fn write_list(list: &[Tree], out: &mut String) {
    for (at, element) in list.iter().enumerate() {
        out.push_str(if at == 0 { "" } else { ", " });
        write_tree(element, 0, out);
    }
}

/// What stands at `path` in an event's JSON; null where it is not there.
fn find<'j>(json: &'j Json, path: &str, element: usize) -> &'j Json {
    let (mut at, path) = match path {
        "occurred_at" | "recorded_at" => (&json["meta"], path),
        _ => match path.strip_prefix("meta.") {
            Some(rest) => (&json["meta"], rest),
            None => {
                let bodies = ["order", "feedback", "custom"];
                let body = bodies.into_iter().find_map(|body| json.get(body));
                (body.unwrap_or(&Json::Null), path)
            }
        },
    };
    for step in path.split('.') {
        at = match step {
            "line" => &at["lines"][element],
            step => &at[step],
        };
    }
    at
}

fn read(kind: Kind, json: &Json) -> Value {
    match kind {
        Kind::Bool => Bool(json.as_bool().unwrap_or(false)),
        Kind::Int => Whole(json.as_i64().unwrap_or(0)),
        Kind::Money => Whole(json["minor_units"].as_i64().unwrap_or(0)),
        Kind::Time => Whole(json.as_str().map_or(0, |text| {
            let time: fenghuo_event::Timestamp = text.parse().unwrap();
            time.0
        })),
        Kind::Float => Float(f64::from(json.as_f64().unwrap_or(0.0) as f32)),
        Kind::Double => Float(json.as_f64().unwrap_or(0.0)),
        Kind::Text => Text(json.as_str().unwrap_or("").to_owned()),
        other => panic!("{other:?} is no value"),
    }
}

/// The interpreter.
pub(super) struct Interpreter<'j> {
    pub(super) json: &'j Json,
    pub(super) element: usize,
}

impl Interpreter<'_> {
    pub(super) fn value(&self, tree: &Tree) -> Value {
        match tree {
            Tree::Bool(value) => Bool(*value),
            Tree::Int(value) => Whole(*value),
            Tree::Float(value) => Float(*value),
            Tree::Text(text) => Text((*text).to_owned()),
            Tree::Span(seconds) => Whole(seconds * 1000),
            Tree::Field(Kind::Enum, path) => {
                let name = find(self.json, path, self.element).as_str();
                let none = format!("{}_UNSPECIFIED", path.to_uppercase());
                Text(name.map_or(none, str::to_owned))
            }
            Tree::Field(kind, path) => read(*kind, find(self.json, path, self.element)),
            Tree::Unary("!", inner) => Bool(!self.bool(inner)),
            Tree::Unary(_, inner) => match self.value(inner) {
                Whole(value) => cut(-i128::from(value)),
                Float(value) => Float(-value),
                other => panic!("-{other:?}"),
            },
            Tree::Binary(sign, sides) => self.binary(sign, &sides[0], &sides[1]),
            Tree::In(value, list) => {
                let among = list
                    .iter()
                    .any(|element| self.compare("==", value, element));
                Bool(among)
            }
            Tree::If(parts) => {
                let [condition, then, otherwise] = &**parts;
                self.value(if self.bool(condition) {
                    then
                } else {
                    otherwise
                })
            }
            Tree::Call(name, arguments) => self.call(name, arguments),
            Tree::Method(receiver, name, arguments) => self.method(receiver, name, arguments),
        }
    }

    fn bool(&self, tree: &Tree) -> bool {
        match self.value(tree) {
            Bool(value) => value,
            other => panic!("{other:?} is no Bool"),
        }
    }

    fn text(&self, tree: &Tree) -> String {
        match self.value(tree) {
            Text(text) => text,
            other => panic!("{other:?} is no Text"),
        }
    }

    fn list(&self, path: &str) -> Vec<Json> {
        let list = find(self.json, path, self.element).as_array();
        list.cloned().unwrap_or_default()
    }

    fn binary(&self, sign: &str, left: &Tree, right: &Tree) -> Value {
        match sign {
            "&&" => Bool(self.bool(left) & self.bool(right)),
            "||" => Bool(self.bool(left) | self.bool(right)),
            "in" => match right {
                Tree::Field(_, path) => {
                    Bool(self.list(path).contains(&Json::from(self.text(left))))
                }
                other => panic!("in {other:?}"),
            },
            "+" | "-" | "*" | "/" | "%" => {
                // A span divided by a span has no unit left.
                let spans = [left, right].map(|side| self.is_span(side));
                match (self.value(left), self.value(right)) {
                    (Whole(left), Whole(right)) if sign != "/" || spans != [true, true] => {
                        whole(sign, left.into(), right.into())
                    }
                    (left, right) => Float(number(sign, float(&left), float(&right))),
                }
            }
            comparison => Bool(self.compare(comparison, left, right)),
        }
    }

    /// Whether `tree` is a span or an amount, told by its shape alone.
    fn is_span(&self, tree: &Tree) -> bool {
        match tree {
            Tree::Span(_) | Tree::Field(Kind::Money | Kind::Duration, _) => true,
            Tree::Unary(_, inner) => self.is_span(inner),
            Tree::Binary("-", sides) => match self.is_time(&sides[0]) {
                true => self.is_time(&sides[1]),
                false => self.is_span(&sides[0]),
            },
            Tree::Binary("+" | "%", sides) => !self.is_time(&sides[0]) && self.is_span(&sides[0]),
            Tree::Binary("*", sides) => self.is_span(&sides[0]),
            Tree::Binary("/", sides) => self.is_span(&sides[0]) && !self.is_span(&sides[1]),
            Tree::If(parts) => self.is_span(&parts[1]),
            Tree::Call("abs" | "min" | "max", arguments) => self.is_span(&arguments[0]),
            _ => false,
        }
    }

    fn is_time(&self, tree: &Tree) -> bool {
        match tree {
            Tree::Field(kind, _) => *kind == Kind::Time,
            Tree::Binary("+", sides) => self.is_time(&sides[0]),
            Tree::Binary("-", sides) => self.is_time(&sides[0]) && !self.is_time(&sides[1]),
            Tree::If(parts) => self.is_time(&parts[1]),
            _ => false,
        }
    }

    fn compare(&self, sign: &str, left: &Tree, right: &Tree) -> bool {
        let is_kept_in_32_bits = |tree: &Tree| matches!(tree, Tree::Field(Kind::Float, _));
        let side = |own: &Tree, other: &Tree| match own {
            Tree::Float(value) if is_kept_in_32_bits(other) => {
                let near = f64::from(*value as f32);
                Float(if near.is_finite() { near } else { f64::MAX })
            }
            own => self.value(own),
        };
        let ordering = match (side(left, right), side(right, left)) {
            (Bool(left), Bool(right)) => left.cmp(&right),
            (Text(left), Text(right)) => left.cmp(&right),
            (Whole(left), Whole(right)) => left.cmp(&right),
            (left, right) => float(&left).partial_cmp(&float(&right)).unwrap(),
        };
        match sign {
            "==" => ordering.is_eq(),
            "!=" => ordering.is_ne(),
            "<" => ordering.is_lt(),
            "<=" => ordering.is_le(),
            ">" => ordering.is_gt(),
            _ => ordering.is_ge(),
        }
    }

    fn call(&self, name: &str, arguments: &[Tree]) -> Value {
        if let ("has", [Tree::Field(kind, path)]) = (name, arguments) {
            let json = find(self.json, path, self.element);
            // Messages and times are given once they are there, even with nothing in them.
            // So is an entry of a map.
            let is_entry = ["entity.", "numbers.", "texts."]
                .iter()
                .any(|map| path.starts_with(map));
            let is_message = matches!(kind, Kind::Money | Kind::Time) || is_entry;
            let defaults = [0.into(), "".into(), false.into(), 0.0.into()];
            let unspecified = json
                .as_str()
                .is_some_and(|name| name == "PHASE_UNSPECIFIED");
            let is_default = !is_message && (defaults.contains(json) || unspecified);
            return Bool(!json.is_null() && !is_default);
        }
        let values: Vec<Value> = arguments.iter().map(|tree| self.value(tree)).collect();
        match (name, &values[..]) {
            ("abs", [Whole(value)]) => cut(i128::from(*value).abs()),
            ("abs", [value]) => Float(float(value).abs()),
            ("int", [value]) => match value {
                Whole(value) => Whole(*value),
                Float(value) => cut(*value as i128),
                other => Whole((*other == Bool(true)).into()),
            },
            ("float", [Bool(value)]) => Float(if *value { 1.0 } else { 0.0 }),
            ("float", [value]) => Float(float(value)),
            ("min", [left, right]) => if float_less(right, left) { right } else { left }.clone(),
            ("max", [left, right]) => if float_less(left, right) { right } else { left }.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn method(&self, receiver: &Tree, name: &str, arguments: &[Tree]) -> Value {
        if let (Tree::Field(Kind::Texts | Kind::List, path), "size") = (receiver, name) {
            let entries = find(self.json, path, self.element).as_object();
            let count = entries.map_or_else(|| self.list(path).len(), serde_json::Map::len);
            return Whole(count as i64);
        }
        let text = self.text(receiver);
        let part = arguments
            .first()
            .map(|part| self.text(part))
            .unwrap_or_default();
        match name {
            "size" => Whole(text.chars().count() as i64),
            "lower" => Text(text.to_ascii_lowercase()),
            "startsWith" => Bool(text.strip_prefix(&part).is_some()),
            "endsWith" => Bool(text.strip_suffix(&part).is_some()),
            _ => Bool(text.split(&part).count() > 1),
        }
    }
}

/// Both are of one kind.
fn float_less(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Whole(left), Whole(right)) => left < right,
        _ => float(left) < float(right),
    }
}

fn float(value: &Value) -> f64 {
    match value {
        Whole(value) => *value as f64,
        Float(value) => *value,
        other => panic!("{other:?} is no number"),
    }
}

fn cut(value: i128) -> Value {
    Whole(value.max(i64::MIN.into()).min(i64::MAX.into()) as i64)
}

fn whole(sign: &str, left: i128, right: i128) -> Value {
    cut(match sign {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        _ if right == 0 => 0,
        "/" => left / right,
        _ => left % right,
    })
}

fn number(sign: &str, left: f64, right: f64) -> f64 {
    let value = match sign {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        _ if right == 0.0 => 0.0,
        "/" => left / right,
        _ => left % right,
    };
    match value {
        f64::INFINITY => f64::MAX,
        f64::NEG_INFINITY => f64::MIN,
        value => value,
    }
}

/// The language's value.
pub(super) fn evaluate(expression: EventExpression, scope: Scope<'_>) -> Value {
    match expression.kind() {
        Type::Bool => Bool(expression.into_condition().unwrap().holds(scope)),
        Type::Float => Float(expression.into_number().unwrap().value(scope)),
        Type::Text | Type::Enum(_) => {
            Text(expression.into_phrase().unwrap().value(scope).into_owned())
        }
        _ => Whole(expression.into_quantity().unwrap().value(scope)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_expressions_have_the_value_that_a_naive_interpreter_gives(
        seed: u64,
        depth in 0_usize..5,
        stream in prop::sample::select(vec![Stream::Orders, Stream::Feedback, Stream::Custom]),
        element in 0_usize..3,
    ) {
        let mut random = Random(seed);
        let json = random::event(stream, &mut random);
        let kinds = grown(stream);
        let kind = kinds[random.below(kinds.len())];
        let tree = Grower { stream, random: &mut random }.grow(kind, depth);
        let source = print(&tree);
        let line = json.to_string();
        let event = event(&line);
        let scope = Scope { event: &event, element };
        let found = evaluate(parse(stream, &source), scope);
        let expected = Interpreter { json: &json, element }.value(&tree);
        prop_assert_eq!(found, expected, "{}\n{}", source, line);
    }
}
