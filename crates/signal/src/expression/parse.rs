//! Tokens to a tree of names and operators, by operator precedence (V. Pratt, "Top Down Operator
//! Precedence", 1973). It knows no types. Depth and size are bounded here, so that nothing after it
//! has to count.

use super::error::{Error, Errors};
use super::lex::{Lexer, Token};
use super::tree::{Arithmetic, Comparison};
use super::{DEPTH_MAX, NODES_MAX, SOURCE_BYTES_MAX};

/// A piece of the source.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it begins, in bytes.
    pub(super) at: usize,
    pub(super) kind: Kind,
    depth: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Path(String),
    List(Vec<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Operator, Box<[Node; 2]>),
    If(Box<[Node; 3]>),
    Call(String, Vec<Node>),
    Method(Box<Node>, String, Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    In,
    Compare(Comparison),
    Arithmetic(Arithmetic),
}

impl Operator {
    /// The operator and how tightly it binds.
    fn of(token: &Token<'_>) -> Option<(Self, u8)> {
        Some(match token {
            Token::Mark("||") => (Self::Or, 1),
            Token::Mark("&&") => (Self::And, 2),
            Token::Name("in") => (Self::In, 3),
            Token::Mark("==") => (Self::Compare(Comparison::Equal), 3),
            Token::Mark("!=") => (Self::Compare(Comparison::NotEqual), 3),
            Token::Mark("<") => (Self::Compare(Comparison::Less), 3),
            Token::Mark("<=") => (Self::Compare(Comparison::LessOrEqual), 3),
            Token::Mark(">") => (Self::Compare(Comparison::Greater), 3),
            Token::Mark(">=") => (Self::Compare(Comparison::GreaterOrEqual), 3),
            Token::Mark("+") => (Self::Arithmetic(Arithmetic::Add), 4),
            Token::Mark("-") => (Self::Arithmetic(Arithmetic::Subtract), 4),
            Token::Mark("*") => (Self::Arithmetic(Arithmetic::Multiply), 5),
            Token::Mark("/") => (Self::Arithmetic(Arithmetic::Divide), 5),
            Token::Mark("%") => (Self::Arithmetic(Arithmetic::Remainder), 5),
            _ => return None,
        })
    }
}

/// How tightly comparisons bind: there is no second one beside a first.
const COMPARISON_POWER: u8 = 3;

/// Parentheses need no node but a turn of the recursion.
const TURNS_MAX: usize = 2 * DEPTH_MAX;

/// Parses a whole source.
pub(super) fn parse(source: &str) -> Result<Node, Errors> {
    if source.len() > SOURCE_BYTES_MAX {
        let found = format!("{} bytes", source.len());
        let expected = format!("at most {SOURCE_BYTES_MAX}");
        return Err(Error::unexpected(SOURCE_BYTES_MAX, found, expected).into());
    }
    let mut lexer = Lexer::new(source);
    let (at, token) = lexer.next()?;
    let mut parser = Parser {
        lexer,
        at,
        token,
        nodes: 0,
        turns: 0,
    };
    let node = parser.expression()?;
    match parser.token {
        Token::End => Ok(node),
        _ => Err(parser.unexpected(after(&parser.token)).into()),
    }
}

/// What people mean who write this where an operator should be.
fn after(token: &Token<'_>) -> &'static str {
    match token {
        Token::Name("and" | "AND") => "\"&&\"",
        Token::Name("or" | "OR") => "\"||\"",
        Token::Mark("=") => "\"==\"",
        _ => "an operator or the end",
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// Where the token begins.
    at: usize,
    token: Token<'a>,
    nodes: usize,
    turns: usize,
}

impl<'a> Parser<'a> {
    fn advance(&mut self) -> Result<Token<'a>, Error> {
        let (at, token) = self.lexer.next()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn takes(&mut self, mark: &'static str) -> Result<bool, Error> {
        let takes = self.token == Token::Mark(mark);
        if takes {
            self.advance()?;
        }
        Ok(takes)
    }

    fn expect(&mut self, mark: &'static str) -> Result<(), Error> {
        match self.takes(mark)? {
            true => Ok(()),
            false => match after(&self.token) {
                "an operator or the end" => Err(self.unexpected(&format!("{mark:?}"))),
                meant => Err(self.unexpected(meant)),
            },
        }
    }

    fn unexpected(&self, expected: &str) -> Error {
        let found = match &self.token {
            Token::Name(name) => format!("{name:?}"),
            Token::Int(value) => value.to_string(),
            Token::Float(value) => value.to_string(),
            Token::Text(text) => format!("the text {text:?}"),
            Token::Mark(mark) => format!("{mark:?}"),
            Token::End => "the end".to_owned(),
        };
        Error::unexpected(self.at, found, expected)
    }

    /// A node of `kind` over others, of which the deepest is `below` deep.
    fn node(&mut self, at: usize, kind: Kind, below: usize) -> Result<Node, Error> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let found = format!("more than {NODES_MAX} operators, names and literals");
            return Err(Error::unexpected(at, found, "a shorter expression"));
        }
        let depth = below + 1;
        if depth > DEPTH_MAX {
            return Err(too_deep(at));
        }
        Ok(Node { at, kind, depth })
    }

    fn leaf(&mut self, at: usize, kind: Kind) -> Result<Node, Error> {
        self.node(at, kind, 0)
    }

    /// Runs `parse` one turn deeper.
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.turns += 1;
        if self.turns > TURNS_MAX {
            return Err(too_deep(self.at));
        }
        let parsed = parse(self);
        self.turns -= 1;
        parsed
    }

    fn expression(&mut self) -> Result<Node, Error> {
        self.deeper(|parser| {
            let condition = parser.binary(0)?;
            if !parser.takes("?")? {
                return Ok(condition);
            }
            let then = parser.expression()?;
            parser.expect(":")?;
            let otherwise = parser.expression()?;
            let parts = [condition, then, otherwise];
            let (at, below) = (parts[0].at, deepest(&parts));
            parser.node(at, Kind::If(Box::new(parts)), below)
        })
    }

    /// Operators that bind more tightly than `power`.
    fn binary(&mut self, power: u8) -> Result<Node, Error> {
        let mut left = self.unary()?;
        let mut last = 0;
        while let Some((operator, binds)) = Operator::of(&self.token) {
            if binds <= power {
                break;
            }
            if binds == COMPARISON_POWER && last == COMPARISON_POWER {
                return Err(self.unexpected("one comparison, or && between two"));
            }
            last = binds;
            self.advance()?;
            let sides = [left, self.binary(binds)?];
            let (at, below) = (sides[0].at, deepest(&sides));
            left = self.node(at, Kind::Binary(operator, Box::new(sides)), below)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, Error> {
        let at = self.at;
        match self.token {
            Token::Mark("!") => {
                self.advance()?;
                let inner = self.deeper(Self::unary)?;
                let below = inner.depth;
                self.node(at, Kind::Not(Box::new(inner)), below)
            }
            Token::Mark("-") => {
                self.advance()?;
                // The smallest number has no positive twin.
                if let Token::Int(value @ 9_223_372_036_854_775_808) = self.token {
                    self.advance()?;
                    return self.leaf(at, Kind::Int((value as i64).wrapping_neg()));
                }
                let inner = self.deeper(Self::unary)?;
                let below = inner.depth;
                self.node(at, Kind::Negate(Box::new(inner)), below)
            }
            _ => self.postfix(),
        }
    }

    /// A value and the methods that are called on it.
    fn postfix(&mut self) -> Result<Node, Error> {
        let mut node = self.primary()?;
        while self.takes(".")? {
            let at = self.at;
            let Token::Name(name) = self.token else {
                return Err(self.unexpected("a name after \".\""));
            };
            self.advance()?;
            if self.takes("(")? {
                let arguments = self.list(")")?;
                let below = node.depth.max(deepest(&arguments));
                let kind = Kind::Method(Box::new(node), name.to_owned(), arguments);
                node = self.node(at, kind, below)?;
            } else if let Kind::Path(path) = &mut node.kind {
                path.push('.');
                path.push_str(name);
            } else {
                return Err(self.unexpected("\"(\": what is before it has no fields"));
            }
        }
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node, Error> {
        let at = self.at;
        match self.token {
            Token::Name("in") | Token::Mark(_) | Token::End => self.group(),
            _ => match self.advance()? {
                Token::Name("true") => self.leaf(at, Kind::Bool(true)),
                Token::Name("false") => self.leaf(at, Kind::Bool(false)),
                Token::Name(name) if self.takes("(")? => {
                    let arguments = self.list(")")?;
                    let below = deepest(&arguments);
                    self.node(at, Kind::Call(name.to_owned(), arguments), below)
                }
                Token::Name(name) => self.leaf(at, Kind::Path(name.to_owned())),
                Token::Int(value) => match i64::try_from(value) {
                    Ok(value) => self.leaf(at, Kind::Int(value)),
                    Err(_) => Err(Error::unexpected(
                        at,
                        value.to_string(),
                        "a whole number below 2^63",
                    )),
                },
                Token::Float(value) => self.leaf(at, Kind::Float(value)),
                Token::Text(text) => self.leaf(at, Kind::Text(text)),
                Token::Mark(_) | Token::End => Err(self.unexpected("a value")),
            },
        }
    }

    /// What stands in brackets.
    fn group(&mut self) -> Result<Node, Error> {
        let at = self.at;
        if self.takes("(")? {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.takes("[")? {
            let elements = self.list("]")?;
            let below = deepest(&elements);
            return self.node(at, Kind::List(elements), below);
        }
        Err(self.unexpected("a name, a number, a text, \"(\" or \"[\""))
    }

    /// Expressions between commas, up to the bracket `end`.
    fn list(&mut self, end: &'static str) -> Result<Vec<Node>, Error> {
        let mut list = Vec::new();
        if self.takes(end)? {
            return Ok(list);
        }
        loop {
            list.push(self.expression()?);
            if self.takes(end)? {
                return Ok(list);
            }
            if !self.takes(",")? {
                return Err(self.unexpected(&format!("\",\" or {end:?}")));
            }
        }
    }
}

fn deepest(nodes: &[Node]) -> usize {
    nodes.iter().map(|node| node.depth).max().unwrap_or(0)
}

fn too_deep(at: usize) -> Error {
    let found = format!("nesting deeper than {DEPTH_MAX}");
    Error::unexpected(
        at,
        found,
        "a flatter expression; `in` takes the place of many ||",
    )
}
