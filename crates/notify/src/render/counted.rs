//! Renders a template and counts the bytes of what it handles.
//!
//! The engine bounds a template's steps, but one step may handle a text of any length. So whatever
//! costs more than a step takes its bytes from a budget: filters, tests and functions are wrapped, and
//! before an instruction that joins, compares, slices or searches there is one that counts what it is
//! given. Memory and time are bounded by the budget, whatever the template says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use minijinja::machinery::{
    CodeGenerator, Instruction, Instructions, Vm, WhitespaceConfig, ast, make_string_output, parse,
};
use minijinja::value::{Rest, ValueKind};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value, filters, tests,
};

use super::Facts;

/// Steps that a template may take: eight times what a page with all its labels needs.
const STEPS_MAX: u64 = 5_000;
/// Bytes of texts and lists that a template may handle, what is given and what is made.
pub(super) const HANDLED_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that a template may write; what is beyond a page's bounds would be cut off anyway.
pub(super) const WRITTEN_BYTES_MAX: usize = 64 * 1024;
/// How many times the bytes of a list or map count that is made a text: its texts are searched for
/// what has to be escaped, letter by letter, and once more to count them.
const ESCAPED_TIMES: usize = 8;
/// Numbers that `range` gives.
const RANGE_MAX: usize = 1_000;

/// Counts two or four values and gives them back. Templates cannot name it.
const WEIGH: &str = "weigh";
/// The same, of texts alone.
const WEIGH_TEXTS: &str = "weigh_texts";
/// The same, of values that are made one text.
const WEIGH_SHOWN: &str = "weigh_shown";
/// Counts what was made. Templates cannot name it.
const MADE: &str = "made";

/// What one rendering has cost.
#[derive(Default)]
pub(super) struct Budget {
    handled: AtomicUsize,
    written: AtomicUsize,
    is_spent: AtomicBool,
}

impl Budget {
    /// Whether the template asked for more than there is.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Relaxed)
    }

    /// Bytes that were handled, the last ones asked for included.
    #[cfg(test)]
    pub(super) fn handled(&self) -> usize {
        self.handled.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> Result<(), Error> {
        let before = self.handled.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= HANDLED_BYTES_MAX {
            return Ok(());
        }
        self.is_spent.store(true, Ordering::Relaxed);
        let problem = format!("handles more than {HANDLED_BYTES_MAX} bytes of texts and lists");
        Err(refused(problem))
    }

    fn write(&self, bytes: usize) -> Result<(), Error> {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= WRITTEN_BYTES_MAX {
            return Ok(());
        }
        self.is_spent.store(true, Ordering::Relaxed);
        let problem = format!("writes more than {WRITTEN_BYTES_MAX} bytes");
        Err(refused(problem))
    }

    /// A value as text, counted while it is made.
    fn text<'v>(&self, value: &'v Value) -> Result<Cow<'v, str>, Error> {
        if let Some(text) = value.as_str() {
            self.take(text.len())?;
            return Ok(Cow::Borrowed(text));
        }
        let mut kept = String::new();
        self.show(value, Some(&mut kept))?;
        Ok(Cow::Owned(kept))
    }

    /// Takes the bytes of a value and of what is in it.
    fn weigh(&self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::String => self.take(value.as_str().unwrap_or_default().len()),
            ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.try_for_each(|item| {
                self.take(size_of::<Value>())?;
                self.weigh(&item)
            }),
            ValueKind::Map => value.try_iter()?.try_for_each(|key| {
                self.take(2 * size_of::<Value>())?;
                self.weigh(&value.get_item(&key)?)?;
                self.weigh(&key)
            }),
            _ => self.take(size_of::<Value>()),
        }
    }

    /// Takes the bytes that a value has as text.
    fn weigh_shown(&self, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(text) => self.take(text.len()),
            None => self.show(value, None),
        }
    }

    fn weigh_all(&self, values: &[Value]) -> Result<(), Error> {
        values.iter().try_for_each(|value| self.weigh(value))
    }

    fn show(&self, value: &Value, kept: Option<&mut String>) -> Result<(), Error> {
        let mut problem = None;
        let mut shown = Shown {
            budget: self,
            kept,
            problem: &mut problem,
        };
        match write!(shown, "{value}") {
            Ok(()) => Ok(()),
            Err(error) => Err(problem.unwrap_or_else(|| error.into())),
        }
    }

    /// Takes the bytes of what was made. A list is made whole: one that is worked out when it is
    /// needed would hold the list before it, and that one the list before, as deep as the template.
    fn made(&self, value: Value) -> Result<Value, Error> {
        match value.kind() {
            ValueKind::Iterable => self.list(&value),
            _ => self.weigh(&value).map(|()| value),
        }
    }

    fn list(&self, value: &Value) -> Result<Value, Error> {
        let items = value.try_iter()?.map(|item| {
            self.take(size_of::<Value>())?;
            self.weigh(&item)?;
            Ok(item)
        });
        items.collect::<Result<Vec<_>, Error>>().map(Value::from)
    }

    /// The items of a list as one text.
    fn join(&self, list: &Value, between: Option<&str>) -> Result<String, Error> {
        let between = between.unwrap_or_default();
        let mut joined = String::new();
        for (index, item) in list.try_iter()?.enumerate() {
            if index > 0 {
                self.take(between.len())?;
                joined += between;
            }
            joined += &self.text(&item)?;
        }
        Ok(joined)
    }

    /// The numbers from `first` to before `second`, or from 0 to before `first`.
    fn range(&self, first: i64, second: Option<i64>, step: Option<u32>) -> Result<Value, Error> {
        let (from, to) = second.map_or((0, first), |to| (first, to));
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
        if step == 0 {
            return Err(refused("range has a step of 0".to_owned()));
        }
        let mut numbers = (from..to).step_by(step);
        let taken: Vec<Value> = numbers.by_ref().take(RANGE_MAX).map(Value::from).collect();
        if numbers.next().is_some() {
            self.is_spent.store(true, Ordering::Relaxed);
            return Err(refused(format!("range has more than {RANGE_MAX} numbers")));
        }
        self.take(taken.len() * size_of::<Value>())?;
        Ok(Value::from(taken))
    }
}

/// Takes the bytes of a text from the budget while it is written.
struct Shown<'a> {
    budget: &'a Budget,
    kept: Option<&'a mut String>,
    problem: &'a mut Option<Error>,
}

impl fmt::Write for Shown<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Err(error) = self.budget.take(ESCAPED_TIMES * text.len()) {
            *self.problem = Some(error);
            return Err(fmt::Error);
        }
        if let Some(kept) = &mut self.kept {
            kept.push_str(text);
        }
        Ok(())
    }
}

fn refused(problem: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

/// A template's syntax tree.
pub(super) fn parsed<'s>(name: &'s str, source: &'s str) -> Result<ast::Stmt<'s>, Error> {
    parse(
        source,
        name,
        Default::default(),
        WhitespaceConfig::default(),
    )
}

/// Renders one template within a budget.
pub(super) fn render(
    name: &str,
    source: &str,
    facts: &Facts<'_>,
    undefined: UndefinedBehavior,
    budget: &Arc<Budget>,
) -> Result<String, Error> {
    // The engine has panicked on operands that nobody thought of: to the page it is one more mistake.
    let rendered = std::panic::catch_unwind(AssertUnwindSafe(|| {
        evaluate(name, source, facts, undefined, budget)
    }));
    rendered.unwrap_or_else(|_| {
        let what = "the template engine cannot do that";
        Err(Error::new(ErrorKind::InvalidOperation, what))
    })
}

fn evaluate(
    name: &str,
    source: &str,
    facts: &Facts<'_>,
    undefined: UndefinedBehavior,
    budget: &Arc<Budget>,
) -> Result<String, Error> {
    let tree = parsed(name, source)?;
    let instructions = counting(name, source, &tree);
    let environment = environment(undefined, budget);
    let (blocks, mut written) = (BTreeMap::new(), String::new());
    let done = Vm::new(&environment).eval(
        &instructions,
        Value::from_serialize(facts),
        &blocks,
        &mut make_string_output(&mut written),
        AutoEscape::None,
    );
    if let Err(error) = done {
        if error.kind() == ErrorKind::OutOfFuel {
            budget.is_spent.store(true, Ordering::Relaxed);
        }
        return Err(error);
    }
    Ok(written)
}

/// The instructions of a template, with those that count between them.
fn counting<'s>(name: &'s str, source: &'s str, tree: &ast::Stmt<'s>) -> Instructions<'s> {
    let mut generator = CodeGenerator::new(name, source);
    generator.compile_stmt(tree);
    let (plain, _) = generator.finish();
    let each = || (0..).map_while(|at| plain.get(at).map(|one| (at, one)));
    // Where each instruction moves to.
    let mut places = Vec::with_capacity(plain.len() + 1);
    let mut place = 0;
    for (_, one) in each() {
        places.push(place);
        place += counted(one).count() as u32;
    }
    let moved = |to: &u32| places.get(*to as usize).copied().unwrap_or(place);
    let mut instructions = Instructions::new(name, source);
    for (at, one) in each() {
        let line = plain.get_line(at).unwrap_or(1);
        for one in counted(one) {
            let one = match &one {
                Instruction::Iterate(to) => Instruction::Iterate(moved(to)),
                Instruction::Jump(to) => Instruction::Jump(moved(to)),
                Instruction::JumpIfFalse(to) => Instruction::JumpIfFalse(moved(to)),
                Instruction::JumpIfFalseOrPop(to) => Instruction::JumpIfFalseOrPop(moved(to)),
                Instruction::JumpIfTrueOrPop(to) => Instruction::JumpIfTrueOrPop(moved(to)),
                _ => one,
            };
            instructions.add_with_line(one, u16::try_from(line).unwrap_or(u16::MAX));
        }
    }
    instructions
}

/// One instruction with those that count what it is given and what it makes.
fn counted<'s>(one: &Instruction<'s>) -> impl Iterator<Item = Instruction<'s>> {
    const UNCACHED: u8 = !0;
    let call = |name, values| Instruction::ApplyFilter(name, Some(values), UNCACHED);
    let (before, one, after) = match one {
        // What is looked for in a text is made a text.
        Instruction::StringConcat | Instruction::In => (
            vec![call(WEIGH_SHOWN, 2), Instruction::UnpackList(2)],
            one.clone(),
            None,
        ),
        Instruction::Add
        | Instruction::Eq
        | Instruction::Ne
        | Instruction::Gt
        | Instruction::Gte
        | Instruction::Lt
        | Instruction::Lte
        | Instruction::CompareAndPreserve(_) => (
            vec![call(WEIGH, 2), Instruction::UnpackList(2)],
            one.clone(),
            None,
        ),
        // A map is not searched as a text is.
        Instruction::GetItem => (
            vec![call(WEIGH_TEXTS, 2), Instruction::UnpackList(2)],
            one.clone(),
            None,
        ),
        Instruction::Slice => (
            vec![call(WEIGH, 4), Instruction::UnpackList(4)],
            one.clone(),
            Some(call(MADE, 1)),
        ),
        // Written as any other value, which is counted.
        Instruction::EmitRaw(raw) => (
            vec![Instruction::LoadConst(Value::from(*raw))],
            Instruction::Emit,
            None,
        ),
        _ => (Vec::new(), one.clone(), None),
    };
    before.into_iter().chain([one]).chain(after)
}

/// What a template may use, every part of it counted.
fn environment(undefined: UndefinedBehavior, budget: &Arc<Budget>) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(undefined);
    // A loop in a loop must not hold up the page, nor those of others.
    environment.set_fuel(Some(STEPS_MAX));
    let its = || Arc::clone(budget);
    for (name, filter) in plain_filters() {
        let budget = its();
        environment.add_filter(name, move |state: &State<'_, '_>, args: Rest<Value>| {
            budget.weigh_all(&args)?;
            budget.made(filter.call(state, &args)?)
        });
    }
    for (name, test) in plain_tests() {
        let budget = its();
        environment.add_test(name, move |state: &State<'_, '_>, args: Rest<Value>| {
            budget.weigh_all(&args)?;
            test.call(state, &args).map(|answer| answer.is_true())
        });
    }
    let budget = its();
    environment.add_filter("join", move |list: &Value, between: Option<&str>| {
        budget.join(list, between)
    });
    let budget = its();
    environment.add_filter("list", move |value: &Value| budget.list(value));
    let budget = its();
    environment.add_filter("string", move |value: &Value| {
        budget.text(value).map(Cow::into_owned)
    });
    let budget = its();
    environment.add_function("range", move |first, second, step| {
        budget.range(first, second, step)
    });
    let budget = its();
    environment.add_filter(WEIGH, move |values: Rest<Value>| {
        budget.weigh_all(&values)?;
        Ok::<_, Error>(given_back(values))
    });
    let budget = its();
    environment.add_filter(WEIGH_TEXTS, move |values: Rest<Value>| {
        let mut texts = values.iter().filter_map(Value::as_str);
        texts.try_for_each(|text| budget.take(text.len()))?;
        Ok::<_, Error>(given_back(values))
    });
    let budget = its();
    environment.add_filter(WEIGH_SHOWN, move |values: Rest<Value>| {
        values
            .iter()
            .try_for_each(|value| budget.weigh_shown(value))?;
        Ok::<_, Error>(given_back(values))
    });
    let budget = its();
    environment.add_filter(MADE, move |value: Value| budget.made(value));
    let budget = its();
    environment.set_formatter(move |out, _, value| {
        let text = budget.text(value)?;
        budget.write(text.len())?;
        Ok(out.write_str(&text)?)
    });
    environment
}

/// As the engine unpacks them: the last one first.
fn given_back(values: Rest<Value>) -> Value {
    values.0.into_iter().rev().collect()
}

/// The engine's filters whose result is no longer than a few times what they are given.
fn plain_filters() -> [(&'static str, Value); 22] {
    [
        ("abs", Value::from_function(filters::abs)),
        ("bool", Value::from_function(filters::bool)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("count", Value::from_function(filters::length)),
        ("d", Value::from_function(filters::default)),
        ("default", Value::from_function(filters::default)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("first", Value::from_function(filters::first)),
        ("float", Value::from_function(filters::float)),
        ("int", Value::from_function(filters::int)),
        ("items", Value::from_function(filters::items)),
        ("last", Value::from_function(filters::last)),
        ("length", Value::from_function(filters::length)),
        ("lower", Value::from_function(filters::lower)),
        ("max", Value::from_function(filters::max)),
        ("min", Value::from_function(filters::min)),
        ("reverse", Value::from_function(filters::reverse)),
        ("round", Value::from_function(filters::round)),
        ("sort", Value::from_function(filters::sort)),
        ("title", Value::from_function(filters::title)),
        ("trim", Value::from_function(filters::trim)),
        ("upper", Value::from_function(filters::upper)),
    ]
}

/// The engine's own panics where nothing can be divided by.
fn is_divisibleby(value: &Value, by: &Value) -> Result<bool, Error> {
    match i128::try_from(by.clone()) {
        Ok(0) => Err(Error::new(ErrorKind::InvalidOperation, "divisibleby 0")),
        Ok(-1 | 1) => Ok(i128::try_from(value.clone()).is_ok()),
        _ => Ok(tests::is_divisibleby(value, by)),
    }
}

/// The engine's tests that a template may use.
pub(super) fn plain_tests() -> [(&'static str, Value); 32] {
    [
        ("boolean", Value::from_function(tests::is_boolean)),
        ("defined", Value::from_function(tests::is_defined)),
        ("divisibleby", Value::from_function(is_divisibleby)),
        ("endingwith", Value::from_function(tests::is_endingwith)),
        ("eq", Value::from_function(tests::is_eq)),
        ("equalto", Value::from_function(tests::is_eq)),
        ("even", Value::from_function(tests::is_even)),
        ("false", Value::from_function(tests::is_false)),
        ("float", Value::from_function(tests::is_float)),
        ("ge", Value::from_function(tests::is_ge)),
        ("greaterthan", Value::from_function(tests::is_gt)),
        ("gt", Value::from_function(tests::is_gt)),
        ("in", Value::from_function(tests::is_in)),
        ("int", Value::from_function(tests::is_integer)),
        ("integer", Value::from_function(tests::is_integer)),
        ("iterable", Value::from_function(tests::is_iterable)),
        ("le", Value::from_function(tests::is_le)),
        ("lessthan", Value::from_function(tests::is_lt)),
        ("lower", Value::from_function(tests::is_lower)),
        ("lt", Value::from_function(tests::is_lt)),
        ("mapping", Value::from_function(tests::is_mapping)),
        ("ne", Value::from_function(tests::is_ne)),
        ("none", Value::from_function(tests::is_none)),
        ("number", Value::from_function(tests::is_number)),
        ("odd", Value::from_function(tests::is_odd)),
        ("sameas", Value::from_function(tests::is_sameas)),
        ("sequence", Value::from_function(tests::is_sequence)),
        ("startingwith", Value::from_function(tests::is_startingwith)),
        ("string", Value::from_function(tests::is_string)),
        ("true", Value::from_function(tests::is_true)),
        ("undefined", Value::from_function(tests::is_undefined)),
        ("upper", Value::from_function(tests::is_upper)),
    ]
}
