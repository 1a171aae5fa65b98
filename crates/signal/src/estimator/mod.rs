//! Estimators: from what is kept about an entity to a reading.
//!
//! An estimator is the statistics of a signal: an aggregate, what it is held against, and the test.
//! Each has a file with its reference values; a signal of the catalogue names one and gives its
//! arguments. It is two functions over what was counted and told: `advance`, for what has to be done
//! in sequence at each closed pane, and `read`. It must never read a clock, nor keep anything but
//! its [`State`].

use std::cell::{Cell, RefCell};
use std::fmt::Debug;

use fenghuo_window::{Clock, History, Panes, Series, Values};
use smallvec::SmallVec;

use crate::catalogue::Measure;
use crate::document::{Table, Value, found, unknown};
use crate::entity::Entity;
use crate::fact::Facts;
use crate::kind::Kind;
use crate::reading::Reading;

mod available;
mod cover;
mod drought;
mod flag;
mod lowest;
mod missed;
mod oversell;
mod pace;
mod share;
mod silence;
mod survival;

/// What a signal keeps from pane to pane: a few numbers, empty at first.
pub type State = SmallVec<[f64; 6]>;

/// When to read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At this event time, or when touched.
    At(i64),
    /// Nothing changes until the entity is touched.
    Touched,
}

/// A reading, and when it may change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Read {
    /// The reading.
    pub reading: Reading,
    /// When to read again.
    pub next: Next,
}

/// What a signal may look at.
pub struct Seen<'a> {
    /// The entity.
    pub entity: &'a Entity,
    /// What was counted about it.
    pub history: &'a History,
    /// How it is kept, by number of the series.
    pub series: &'a [Series],
    /// What was told about it.
    pub facts: &'a Facts,
    /// What the signal kept.
    pub state: &'a State,
    /// Event time: every pane that ends at or before it is closed.
    pub now_ms: i64,
    /// Nothing was heard of the signal's sources before this event time: no count from then is
    /// known, not even none.
    pub begun_ms: i64,
    /// The clocks of the signal's sources.
    pub clock: Clock,
    /// By how much the windows that were read reach back behind panes that were cut.
    pub short_ms: Cell<i64>,
}

/// One column of a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    series: u16,
    field: usize,
}

/// A measure that keeps levels: the columns of it that an estimator reads, in its order.
#[derive(Clone, Debug)]
pub struct Level<const N: usize> {
    series: u16,
    /// Of a register, the level in which its changes are summed, and the kind that has it.
    total: Option<(Kind, u16)>,
    fields: [usize; N],
}

impl<'a> Seen<'a> {
    /// The sum of a column over `[from_ms, to_ms)`, in the measure's unit.
    pub fn sum(&self, column: Column, from_ms: i64, to_ms: i64) -> i64 {
        self.sums(column.series, from_ms, to_ms)[column.field]
    }

    /// Every column of a series over `[from_ms, to_ms)`.
    fn sums(&self, series: u16, from_ms: i64, to_ms: i64) -> Values {
        let series = &self.series[usize::from(series)];
        let Some(panes) = self.history.panes(series) else {
            return series.identity();
        };
        if let Some(cut_ms) = panes.cut_ms() {
            let short_ms = cut_ms.saturating_sub(from_ms);
            self.short_ms.set(self.short_ms.get().max(short_ms));
        }
        panes.sum(series, from_ms, to_ms)
    }

    /// The panes of a column.
    fn panes(&self, column: Column) -> Option<(&'a Panes, &'a Series)> {
        let series = &self.series[usize::from(column.series)];
        Some((self.history.panes(series)?, series))
    }

    /// The columns of a level; `None` where nothing was ever told.
    pub fn level<const N: usize>(&self, level: &Level<N>) -> Option<[i64; N]> {
        let series = match level.total {
            Some((kind, total)) if kind == self.entity.kind => total,
            _ => level.series,
        };
        let values = self.history.amount(&self.series[usize::from(series)])?;
        Some(level.fields.map(|field| values[field]))
    }

    /// Whether anything was ever counted in the column's measure.
    pub fn is_counted(&self, column: Column) -> bool {
        self.panes(column).is_some()
    }

    /// When something was last told: `told_ms`, a maximum over all that was ever told, but not
    /// beyond the newest pane of `column`, into which the same events went. What was told under a
    /// clock that was far ahead is no longer in a pane once events of the present have come.
    pub fn honest_ms(&self, told_ms: i64, column: Column) -> i64 {
        let Some((panes, series)) = self.panes(column) else {
            return told_ms;
        };
        let width_ms = series.tiers().first().map_or(0, |tier| tier.width_ms);
        match panes.newest_ms() {
            Some(newest_ms) => told_ms.min(newest_ms + width_ms),
            None => told_ms,
        }
    }
}

/// The statistics of one signal.
pub trait Estimator: Debug + Send + Sync {
    /// Whether enough was told of an entity for the signal to say anything about it. Until then it
    /// has no reading there, not even an unknown one.
    fn applies(&self, seen: &Seen<'_>) -> bool;

    /// Whether [`advance`](Self::advance) is to be called.
    fn is_sequential(&self) -> bool {
        false
    }

    /// Takes the closed pane that ends at its time into the state; `seen` still holds the state before.
    fn advance(&self, _seen: &Seen<'_>) -> State {
        State::new()
    }

    /// Reads.
    fn read(&self, seen: &Seen<'_>) -> Read;
}

/// An estimator by its name in the catalogue.
pub(crate) struct Named {
    /// Its name, which is a key of `estimate`.
    pub name: &'static str,
    /// The keys that `estimate` may have, its name among them.
    pub keys: &'static [&'static str],
    /// Makes one; `None` with the mistakes noted.
    pub build: fn(&Arguments<'_, '_, '_>) -> Option<Box<dyn Estimator>>,
}

/// Every estimator.
pub(crate) static ALL: [&Named; 11] = [
    &available::NAMED,
    &cover::NAMED,
    &drought::NAMED,
    &flag::NAMED,
    &lowest::NAMED,
    &missed::NAMED,
    &oversell::NAMED,
    &pace::NAMED,
    &share::NAMED,
    &silence::NAMED,
    &survival::NAMED,
];

/// What the catalogue gives an estimator.
pub(crate) struct Arguments<'m, 'd, 'a> {
    /// The table `estimate`.
    pub table: &'m Table<'d, 'a>,
    /// Every measure there is.
    pub measures: &'m [Measure],
    /// Names of measures that are there with mistakes of their own.
    pub broken: &'m [String],
    /// Measures that change the reading as soon as they change, and those that are looked at with
    /// them.
    pub inputs: RefCell<Inputs>,
}

/// The measures that a signal rests on, by index.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// A change of these is a reason to read anew.
    pub touching: Vec<usize>,
    /// All that are looked at.
    pub all: Vec<usize>,
    /// How far back the window reaches, where there is one.
    pub reach_ms: i64,
}

impl<'m> Arguments<'m, '_, '_> {
    /// The value of `key`, which has to be there.
    fn required(&self, key: &str, expected: &str) -> Option<&'m str> {
        self.table.required(key, expected)
    }

    /// A column, given as `measure.column`, of which a change is a reason to read anew.
    pub fn column(&self, key: &str) -> Option<Column> {
        let column = self.looked_at(key)?;
        self.touch(column);
        Some(column)
    }

    /// A column that is looked at when something else gave the reason.
    pub fn looked_at(&self, key: &str) -> Option<Column> {
        let text = self.required(key, "a column, such as \"sold.orders\"")?;
        self.resolve(key, text)
    }

    /// A change of this column is a reason to read anew.
    pub fn touch(&self, column: Column) {
        let of = |measure: &Measure| measure.series == column.series;
        if let Some(at) = self.measures.iter().position(of) {
            self.inputs.borrow_mut().touching.push(at);
        }
    }

    /// The column that `text` names.
    pub fn resolve(&self, key: &str, text: &str) -> Option<Column> {
        let place = self.table.place(key);
        let Some((name, column)) = text.trim().split_once('.') else {
            let what = format!(
                "{key} is {text:?}; expected a measure and one of its columns, such as \"sold.orders\""
            );
            self.table.mistake(place, &what);
            return None;
        };
        let measure = self.find(key, name)?;
        let field = measure.field(column);
        if field.is_none() {
            let columns = measure.columns.iter().map(|column| &*column.name);
            let what = format!("column of {name:?} in {key}");
            let known: Vec<&str> = columns.collect();
            self.table.mistake(place, &unknown(&what, column, &known));
        }
        Some(Column {
            series: measure.series,
            field: field?,
        })
    }

    fn find(&self, key: &str, name: &str) -> Option<&'m Measure> {
        let at = self
            .measures
            .iter()
            .position(|measure| *measure.name == *name);
        let Some(at) = at else {
            if self.broken.iter().any(|broken| broken == name) {
                return None;
            }
            let known: Vec<&str> = self.measures.iter().map(|measure| &*measure.name).collect();
            let what = unknown(&format!("measure in {key}"), name, &known);
            self.table.mistake(self.table.place(key), &what);
            return None;
        };
        self.inputs.borrow_mut().all.push(at);
        Some(&self.measures[at])
    }

    /// A measure of levels, with its columns of these names.
    pub fn level<const N: usize>(
        &self,
        key: &str,
        columns: [&str; N],
        touches: bool,
    ) -> Option<Level<N>> {
        let name = self.required(key, "the name of a measure that keeps a level")?;
        let measure = self.find(key, name)?;
        if measure.is_paned() {
            let what = format!(
                "{key}: measure {name:?} keeps panes; expected one with keep = \"level\" or \"register\""
            );
            self.table.mistake(self.table.place(key), &what);
            return None;
        }
        let mut fields = [0; N];
        let mut is_whole = true;
        for (field, column) in fields.iter_mut().zip(columns) {
            match measure.field(column) {
                Some(found) => *field = found,
                None => {
                    is_whole = false;
                    let what = format!(
                        "{key}: measure {name:?} has no column {column:?}, which this estimator reads"
                    );
                    self.table.mistake(self.table.place(key), &what);
                }
            }
        }
        if touches {
            let of = |known: &Measure| known.series == measure.series;
            let at = self.measures.iter().position(of)?;
            self.inputs.borrow_mut().touching.push(at);
        }
        is_whole.then_some(Level {
            series: measure.series,
            total: measure.total,
            fields,
        })
    }

    /// A measure of panes or cohorts, with its columns of these names, which are read together.
    pub fn panes<const N: usize>(&self, key: &str, columns: [&str; N]) -> Option<[Column; N]> {
        let name = self.required(key, "the name of a measure")?;
        let found = columns.map(|column| self.resolve(key, &format!("{name}.{column}")));
        let mut all = [Column {
            series: 0,
            field: 0,
        }; N];
        for (column, found) in all.iter_mut().zip(found) {
            *column = found?;
            self.touch(*column);
        }
        Some(all)
    }

    /// A span of time, `default_ms` where none is given.
    pub fn window_ms(&self, key: &str, default_ms: i64) -> Option<i64> {
        match self.table.get(key) {
            Some(_) => self.table.duration_ms(key),
            None => Some(default_ms),
        }
    }

    /// The span for which panes have to be kept so that a window of `window_ms` is whole.
    pub fn check_kept(&self, key: &str, column: Column, window_ms: i64) -> Option<()> {
        let of = |measure: &&Measure| measure.series == column.series;
        let measure = self.measures.iter().find(of)?;
        let kept_ms = measure.kept_ms.unwrap_or(i64::MAX);
        if window_ms > kept_ms {
            let what = format!(
                "{key} looks back {} but measure {:?} keeps {}; lengthen its keep or shorten {key}",
                span(window_ms),
                measure.name,
                span(kept_ms)
            );
            self.table.mistake(self.table.place(key), &what);
            return None;
        }
        if key == "window" {
            let mut inputs = self.inputs.borrow_mut();
            inputs.reach_ms = inputs.reach_ms.max(window_ms);
        }
        Some(())
    }

    /// Width of the finest panes of a column.
    pub fn finest_ms(&self, column: Column) -> i64 {
        let of = |measure: &&Measure| measure.series == column.series;
        let measure = self.measures.iter().find(of);
        measure
            .and_then(|measure| measure.finest_ms)
            .unwrap_or(1_000)
    }

    /// A list of two whole numbers.
    pub fn pair(&self, key: &str, default: [u64; 2]) -> Option<[u64; 2]> {
        let Some(list) = self.table.get(key).and(self.table.list(key)) else {
            return self.table.get(key).is_none().then_some(default);
        };
        let number = |value: &Value<'_>| found(value).parse::<u64>().ok();
        match list {
            [a, b] if number(a).is_some() && number(b).is_some() => Some([number(a)?, number(b)?]),
            _ => {
                let what = format!("{key}: expected two whole numbers, such as [1, 20]");
                self.table.mistake(self.table.place(key), &what);
                None
            }
        }
    }
}

/// A span of time as a person writes it.
pub(crate) fn span(ms: i64) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
        (1, "ms"),
    ];
    let unit = units.iter().find(|(unit_ms, _)| ms % unit_ms == 0);
    let (unit_ms, name) = unit.unwrap_or(&(1, "ms"));
    format!("{}{name}", ms / unit_ms)
}
