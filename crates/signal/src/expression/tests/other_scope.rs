//! The same language over another scope: numbers that may be unknown, and functions of its own.

use std::borrow::Cow;
use std::convert::Infallible;

use crate::expression::{Argument, Expression, Field, Leaf, Leaves, Piece, Refusal, Schema, Type};

/// Numbers by their place; `None` is unknown.
#[derive(Clone, Debug)]
struct Numbers;

#[derive(Debug, PartialEq)]
struct Unknown;

impl Leaves for Numbers {
    type Scope<'s> = &'s [Option<f64>];
    type Unknown = Unknown;
    type Bool = Known;
    type Whole = Infallible;
    type Enum = Infallible;
    type Float = usize;
    type Text = Infallible;
    type Texts = Infallible;
    type Count = Infallible;

    fn bool(read: &Known, scope: &[Option<f64>]) -> Result<bool, Unknown> {
        Ok(scope[read.0].is_some())
    }

    fn whole(read: &Infallible, _: &[Option<f64>]) -> Result<i64, Unknown> {
        match *read {}
    }

    fn number(read: &Infallible, _: &[Option<f64>]) -> Result<u32, Unknown> {
        match *read {}
    }

    fn float(read: &usize, scope: &[Option<f64>]) -> Result<f64, Unknown> {
        scope[*read].ok_or(Unknown)
    }

    fn text<'s>(read: &'s Infallible, _: &'s [Option<f64>]) -> Result<&'s str, Unknown> {
        match *read {}
    }

    fn holds<'s>(
        read: &'s Infallible,
        _: &'s [Option<f64>],
        _: Piece<'s>,
    ) -> Result<bool, Unknown> {
        match *read {}
    }

    fn count(read: &Infallible, _: &[Option<f64>]) -> Result<i64, Unknown> {
        match *read {}
    }
}

/// Whether the number at a place is known.
#[derive(Clone, Debug)]
struct Known(usize);

/// `stock`, `plan` and `sum(sales.units, "30m")`.
struct Signals;

impl Schema for Signals {
    type Leaves = Numbers;

    fn noun(&self) -> String {
        "signal".to_owned()
    }

    fn field(&self, path: &str) -> Option<Field<Numbers>> {
        let place = self.names().iter().position(|name| *name == path)?;
        Some(field(path.to_owned(), place))
    }

    fn names(&self) -> Vec<&str> {
        vec!["stock", "plan"]
    }

    fn function(
        &self,
        name: &str,
        arguments: &[Argument<'_>],
    ) -> Option<Result<Field<Numbers>, Refusal>> {
        if name != "sum" {
            return None;
        }
        Some(match arguments {
            [Argument::Path(path), Argument::Text(window)] => {
                Ok(field(format!("sum({path}, {window})"), 2))
            }
            _ => Err(Refusal {
                argument: (arguments.len() == 2).then_some(1),
                found: format!("{} arguments", arguments.len()),
                expected: "a column and a window such as \"30m\"".to_owned(),
            }),
        })
    }

    fn functions(&self) -> Vec<&str> {
        vec!["sum"]
    }
}

fn field(path: String, place: usize) -> Field<Numbers> {
    Field {
        path: Cow::Owned(path),
        leaf: Leaf::Float(place),
        given: Some(Known(place)),
        list: None,
    }
}

#[test]
fn unknown_goes_through_unless_the_rest_settles_it() {
    let scope: &[Option<f64>] = &[Some(12.0), None, Some(4.0)];
    for (source, expected) in [
        ("stock / sum(sales.units, \"30m\") == 3", Ok(true)),
        ("stock > plan", Err(Unknown)),
        ("plan > 1 && stock > 100", Ok(false)),
        ("stock > 100 && plan > 1", Ok(false)),
        ("plan > 1 && stock > 1", Err(Unknown)),
        ("plan > 1 || stock > 1", Ok(true)),
        ("plan > 1 || stock > 100", Err(Unknown)),
        ("stock > 1 ? true : plan > 1", Ok(true)),
        ("has(plan) ? plan > 1 : true", Ok(true)),
        ("!(plan > 1)", Err(Unknown)),
    ] {
        let expression = Expression::parse(source, &Signals).unwrap();
        let found = expression.into_condition().unwrap().evaluate(scope);
        assert_eq!(found, expected, "{source}");
    }
}

#[test]
fn functions_of_the_scope_are_fields_with_arguments() {
    let expression = Expression::parse("1 - stock / sum(sales.units, \"30m\")", &Signals).unwrap();
    assert_eq!(expression.kind(), Type::Float);
    let fields: Vec<_> = expression.fields().collect();
    assert_eq!(fields, ["stock", "sum(sales.units, 30m)"]);
    let value = expression.into_number().unwrap();
    assert_eq!(value.evaluate(&[Some(1.0), None, Some(4.0)]), Ok(0.75));
    for (source, words) in [
        (
            "sum(sales.units, 30)",
            "byte 17: found 2 arguments, expected a column and a window such as \"30m\"",
        ),
        (
            "sum(1 + 2)",
            "byte 4: found an operation, expected a name or a literal",
        ),
        (
            "sun(stock, \"1h\")",
            "byte 0: unknown function \"sun\"; did you mean \"sum\"?",
        ),
        (
            "stok > 1",
            "byte 0: unknown signal \"stok\"; did you mean \"stock\"?",
        ),
    ] {
        let errors = Expression::parse(source, &Signals).unwrap_err();
        assert_eq!(errors.to_string(), words);
    }
}
