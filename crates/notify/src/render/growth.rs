//! Whether the memory that a template takes is bounded by its length.
//!
//! A template's steps are bounded, but one step may double a text: thirty of them make gigabytes
//! before a single byte is written. The engine offers no hook there, so the template's syntax tree is
//! looked at before it is used. The rule: what is put together (`~`, `+`) may be written, but not be
//! given a name, so that it is never put together again; and only numbers are multiplied.

use minijinja::machinery::{Token, WhitespaceConfig, ast, tokenize};

use super::counted;

/// Bytes of a template.
const TEMPLATE_BYTES_MAX: usize = 32 * 1024;

/// Words and signs between one pair of braces: each may be a level of the syntax tree, which is read
/// and taken down level by level.
const WORDS_MAX: usize = 400;

/// Branches of one template, for the same reason.
const BRANCHES_MAX: usize = 200;

/// How often a template may put texts together. One may be as long as all labels of a page.
const JOINED_MAX: usize = 8;

/// The same within loops, where each one is done again and again.
const JOINED_IN_LOOPS_MAX: usize = 2;

/// Numbers of a page's `reading`.
const NUMBERS: [&str; 5] = ["value", "lower", "upper", "surprise", "n"];

/// Names that are known to be numbers, or to hold them. They cannot be given to anything else.
const TAKEN: [&str; 4] = ["loop", "peak", "range", "reading"];

/// Filters that give numbers, or fail.
const COUNTING: [&str; 6] = ["abs", "count", "float", "int", "length", "round"];

/// Filters whose result is no longer than a few times what they are given.
pub(super) const FILTERS: [&str; 25] = [
    "abs",
    "bool",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "max",
    "min",
    "reverse",
    "round",
    "sort",
    "string",
    "title",
    "trim",
    "upper",
];

/// Why a template's memory has no bound, and what to write instead.
pub(super) fn unbounded(source: &str) -> Option<String> {
    if source.len() > TEMPLATE_BYTES_MAX {
        return Some(format!("is longer than {TEMPLATE_BYTES_MAX} bytes"));
    }
    if let Some(problem) = too_deep(source) {
        return Some(problem);
    }
    // What does not parse is told by whoever compiles it.
    let parsed = counted::parsed("", source).ok()?;
    let mut walk = Walk::default();
    walk.statement(&parsed).err()
}

/// Whether a template could be nested deeper than the stack allows, found without reading it.
fn too_deep(source: &str) -> Option<String> {
    let (mut words, mut branches) = (0, 0);
    let whitespace = WhitespaceConfig::default();
    for token in tokenize(source, false, Default::default(), whitespace).map_while(Result::ok) {
        match token.0 {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => words = 0,
            Token::Ident("if" | "elif" | "else") => branches += 1,
            _ => {}
        }
        words += 1;
        if words > WORDS_MAX {
            let problem = format!("has more than {WORDS_MAX} words and signs in one expression");
            return Some(problem);
        }
        if branches > BRANCHES_MAX {
            return Some(format!("has more than {BRANCHES_MAX} branches"));
        }
    }
    None
}

type Found = Result<(), String>;

/// What was seen of a template so far.
#[derive(Default)]
struct Walk {
    joined: usize,
    joined_in_loops: usize,
    /// Loops around the place that is looked at.
    loops: usize,
    /// Whether the value that is looked at is given a name.
    is_named: bool,
}

impl Walk {
    fn statements(&mut self, body: &[ast::Stmt<'_>]) -> Found {
        body.iter().try_for_each(|one| self.statement(one))
    }

    fn statement(&mut self, statement: &ast::Stmt<'_>) -> Found {
        match statement {
            ast::Stmt::Template(template) => self.statements(&template.children),
            ast::Stmt::EmitRaw(_) => Ok(()),
            ast::Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            ast::Stmt::IfCond(branch) => {
                self.expression(&branch.expr)?;
                self.statements(&branch.true_body)?;
                self.statements(&branch.false_body)
            }
            ast::Stmt::ForLoop(each) if each.recursive => {
                Err("has a recursive loop; expected a plain one".to_owned())
            }
            ast::Stmt::ForLoop(each) => {
                self.bind(&each.target, &each.iter)?;
                self.loops += 1;
                if let Some(filter) = &each.filter_expr {
                    self.expression(filter)?;
                }
                self.statements(&each.body)?;
                self.loops -= 1;
                self.statements(&each.else_body)
            }
            ast::Stmt::Set(set) => self.bind(&set.target, &set.expr),
            ast::Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    self.bind(target, value)?;
                }
                self.statements(&with.body)
            }
            _ => Err(
                "has a statement that pages have no use for; expected if, for and set".to_owned(),
            ),
        }
    }

    /// A value that is given a name.
    fn bind(&mut self, target: &ast::Expr<'_>, value: &ast::Expr<'_>) -> Found {
        let names = match target {
            ast::Expr::List(list) => list.items.iter().collect(),
            name => vec![name],
        };
        for name in names {
            match name {
                ast::Expr::Var(name) if !TAKEN.contains(&name.id) => {}
                ast::Expr::Var(name) => {
                    let problem = format!("gives a value the name {:?}; expected another", name.id);
                    return Err(problem);
                }
                _ => return Err("sets something else than a name".to_owned()),
            }
        }
        self.is_named = true;
        let found = self.expression(value);
        self.is_named = false;
        found
    }

    fn expressions<'a>(&mut self, all: impl IntoIterator<Item = &'a ast::Expr<'a>>) -> Found {
        all.into_iter().try_for_each(|one| self.expression(one))
    }

    fn expression(&mut self, expression: &ast::Expr<'_>) -> Found {
        match expression {
            ast::Expr::Var(_) | ast::Expr::Const(_) => Ok(()),
            ast::Expr::Slice(slice) => {
                let bounds = [&slice.start, &slice.stop, &slice.step];
                self.expression(&slice.expr)?;
                bounds
                    .into_iter()
                    .flatten()
                    .try_for_each(|one| self.expression(one))
            }
            ast::Expr::UnaryOp(unary) => self.expression(&unary.expr),
            ast::Expr::BinOp(pair) => self.pair(pair),
            ast::Expr::Compare(compare) => {
                self.expression(&compare.expr)?;
                compare
                    .ops
                    .iter()
                    .try_for_each(|op| self.expression(&op.expr))
            }
            ast::Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr)?;
                self.expression(&choice.true_expr)?;
                choice
                    .false_expr
                    .iter()
                    .try_for_each(|one| self.expression(one))
            }
            ast::Expr::Filter(filter) => {
                if !FILTERS.contains(&filter.name) {
                    return Err(format!(
                        "uses the filter {:?}; expected one of {}",
                        filter.name,
                        FILTERS.join(", ")
                    ));
                }
                if filter.name == "join" {
                    self.join()?;
                }
                filter
                    .expr
                    .iter()
                    .try_for_each(|one| self.expression(one))?;
                self.arguments(&filter.args)
            }
            ast::Expr::Test(test) => {
                let known = counted::plain_tests().map(|(name, _)| name);
                if !known.contains(&test.name) {
                    return Err(format!(
                        "uses the test {:?}; expected one of {}",
                        test.name,
                        known.join(", ")
                    ));
                }
                self.expression(&test.expr)?;
                self.arguments(&test.args)
            }
            ast::Expr::GetAttr(get) => self.expression(&get.expr),
            ast::Expr::GetItem(get) => self.expressions([&get.expr, &get.subscript_expr]),
            ast::Expr::Call(call) => match &call.expr {
                ast::Expr::Var(name) if name.id == "range" => self.arguments(&call.args),
                _ => Err("calls something else than range()".to_owned()),
            },
            // One that holds a list, which holds it again, is as long as a power of two.
            ast::Expr::List(list) if list.as_const().is_some() => Ok(()),
            ast::Expr::List(_) | ast::Expr::Map(_) => {
                Err("puts a list or map together; expected constants in it".to_owned())
            }
        }
    }

    fn arguments(&mut self, arguments: &[ast::CallArg<'_>]) -> Found {
        arguments.iter().try_for_each(|argument| match argument {
            ast::CallArg::Pos(value) | ast::CallArg::Kwarg(_, value) => self.expression(value),
            ast::CallArg::PosSplat(_) | ast::CallArg::KwargSplat(_) => {
                Err("spreads arguments; expected them one by one".to_owned())
            }
        })
    }

    fn pair(&mut self, pair: &ast::BinOp<'_>) -> Found {
        let is_number = is_number(&pair.left) && is_number(&pair.right);
        match pair.op {
            ast::BinOpKind::Concat => self.join()?,
            ast::BinOpKind::Add if !is_number => self.join()?,
            ast::BinOpKind::Mul if !is_number => {
                let problem = "multiplies what may be a text; expected numbers, such as reading.value or x | float";
                return Err(problem.to_owned());
            }
            _ => {}
        }
        self.expressions([&pair.left, &pair.right])
    }

    /// Something is put together.
    fn join(&mut self) -> Found {
        if self.is_named {
            let problem =
                "gives a name to what it put together; expected it to be written where it is made";
            return Err(problem.to_owned());
        }
        self.joined += 1;
        self.joined_in_loops += usize::from(self.loops > 0);
        if self.joined > JOINED_MAX || self.joined_in_loops > JOINED_IN_LOOPS_MAX {
            return Err(format!(
                "puts texts together more than {JOINED_MAX} times, or {JOINED_IN_LOOPS_MAX} times \
                 within loops; expected them to be written one after the other"
            ));
        }
        Ok(())
    }
}

/// Whether an expression can be nothing but a number.
fn is_number(expression: &ast::Expr<'_>) -> bool {
    match expression {
        ast::Expr::Const(value) => value.value.is_number(),
        ast::Expr::Var(name) => name.id == "peak",
        ast::Expr::GetAttr(get) => match &get.expr {
            ast::Expr::Var(name) => match name.id {
                "reading" => NUMBERS.contains(&get.name),
                "loop" => get.name.starts_with("index") || get.name.starts_with("revindex"),
                _ => false,
            },
            _ => false,
        },
        ast::Expr::UnaryOp(unary) => is_number(&unary.expr),
        ast::Expr::BinOp(pair) => match pair.op {
            ast::BinOpKind::Add | ast::BinOpKind::Mul => {
                is_number(&pair.left) && is_number(&pair.right)
            }
            ast::BinOpKind::Sub
            | ast::BinOpKind::Div
            | ast::BinOpKind::FloorDiv
            | ast::BinOpKind::Rem
            | ast::BinOpKind::Pow => true,
            _ => false,
        },
        ast::Expr::Filter(filter) => COUNTING.contains(&filter.name),
        _ => false,
    }
}
