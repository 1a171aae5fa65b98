//! The catalogue: what is counted, what is read from it, and how it is shown.
//!
//! It is data: a file a domain in `crates/signal/catalogue/`, and a shop's own files in the same
//! form. [`Catalogue::compile`] checks all of them at once and makes the [`Program`] that folds
//! events, and the estimators that read. A measure's id in the log follows from its definition: a
//! changed definition is a new measure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use fenghuo_event::Stream;
use fenghuo_window::Series;
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::document::{Mistakes, Table};
use crate::estimator::Estimator;
use crate::kind::Kind;
use crate::program::Program;

mod compile;
mod counting;
mod measure;
mod naming;
mod signal;

/// The built-in files: name and content.
pub const BUILT_IN: [(&str, &str); 6] = [
    ("sales.toml", include_str!("../../catalogue/sales.toml")),
    ("stock.toml", include_str!("../../catalogue/stock.toml")),
    ("price.toml", include_str!("../../catalogue/price.toml")),
    ("parcels.toml", include_str!("../../catalogue/parcels.toml")),
    (
        "feedback.toml",
        include_str!("../../catalogue/feedback.toml"),
    ),
    ("systems.toml", include_str!("../../catalogue/systems.toml")),
];

/// Measures that a shop may add.
pub const OWN_MEASURES_MAX: usize = 64;

/// What an entity takes by the built-in measures and signals, bytes.
const PLACE_BYTES: usize = 3_700;

/// What an entity takes for an own measure with panes: those that are never cut, and their tiers.
const PANED_BYTES: usize = 800;

/// What it takes for one without, besides its columns.
const LEVEL_BYTES: usize = 64;

/// What it takes for a signal: its slot, its reading, and the screen's copy of that.
const SIGNAL_BYTES: usize = 400;
/// Signals that a shop may add.
pub const OWN_SIGNALS_MAX: usize = 128;
/// Rows that one event may count for in what a shop adds: a measure has one for each kind.
pub const OWN_ROWS_MAX: usize = 24;
/// Signals that a shop may add about one kind of entity: each has a reading for each entity.
pub const OWN_SIGNALS_OF_KIND_MAX: usize = 24;
/// Columns of a measure.
pub const COLUMNS_MAX: usize = 32;
/// Kinds of entity of a measure.
pub const KINDS_OF_MEASURE_MAX: usize = 8;

/// A file of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name in messages.
    pub name: String,
    /// Its content, TOML.
    pub text: String,
}

/// Where a measure's counts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the events of a stream.
    Stream(Stream),
    /// From every message that is taken, of its source.
    Any,
    /// From records of a source that were gone before they were read.
    Lost,
}

/// What is counted: of which events, about which entities, and how long it is kept.
#[derive(Debug)]
pub struct Measure {
    /// Its name, such as `sold`.
    pub name: Box<str>,
    /// What it counts, in a sentence.
    pub about: Box<str>,
    /// Where its counts come from.
    pub origin: Origin,
    /// What it is about.
    pub kinds: SmallVec<[Kind; 4]>,
    /// The number of its series.
    pub series: u16,
    /// Of a register, the series in which its changes are summed, and the kind that has it.
    pub total: Option<(Kind, u16)>,
    /// Its columns, in order.
    pub columns: Vec<ColumnOf>,
    /// How far back its panes reach; `None` for levels and registers, which never end.
    pub kept_ms: Option<i64>,
    /// Width of its finest panes.
    pub finest_ms: Option<i64>,
    /// A shop added it.
    pub is_own: bool,
}

/// A column of a measure.
#[derive(Debug)]
pub struct ColumnOf {
    /// Its name, such as `orders`.
    pub name: Box<str>,
}

impl Measure {
    /// The place of a column.
    pub fn field(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|of| *of.name == *column)
    }

    /// Whether it keeps panes or cohorts.
    pub fn is_paned(&self) -> bool {
        self.kept_ms.is_some()
    }
}

/// When a signal is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// At once, with every commit that touches the entity; reads open panes. For deterministic
    /// signals.
    EachDelta,
    /// Whenever a pane of this width closes.
    ClosedPane {
        /// Width of the pane.
        width_ms: i64,
    },
}

/// How a signal is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShownAs {
    /// A share or a ratio in per cent.
    Percent,
    /// A whole number.
    Count,
    /// Hours.
    Hours,
    /// Seconds.
    Seconds,
    /// A number with two places.
    Ratio,
}

/// A named, documented number about an entity.
#[derive(Debug)]
pub struct Signal {
    /// Its number in this catalogue; the log names signals by name.
    pub number: usize,
    /// Its name.
    pub name: Arc<str>,
    /// Its name for people, by language: `en`, `zh-Hans`, `zh-Hant`.
    pub title: BTreeMap<Box<str>, Box<str>>,
    /// What it tells, in half a sentence.
    pub about: Box<str>,
    /// How it is computed.
    pub formula: Box<str>,
    /// Unit of value, lower and upper.
    pub unit: Box<str>,
    /// Kinds of entity it reads.
    pub kinds: SmallVec<[Kind; 4]>,
    /// Streams that must have passed before it is read; none where it is about a source itself.
    pub streams: SmallVec<[Stream; 2]>,
    /// Series whose deltas change it, by number.
    pub touched_by: SmallVec<[u16; 4]>,
    /// Series that it looks at, by number.
    pub rests_on: SmallVec<[u16; 4]>,
    /// How far back its window reaches, 0 where it has none.
    pub reach_ms: i64,
    /// Follows from what it is: what was kept under another one is not gone on with.
    pub definition: u32,
    /// When it is judged.
    pub judge: Judge,
    /// Its statistics.
    pub estimator: Box<dyn Estimator>,
    /// How its value is shown.
    pub shown_as: ShownAs,
    /// The part of the screen that shows it.
    pub panel: Box<str>,
    /// The signal whose reading stands beside its own.
    pub beside: Option<Box<str>>,
    /// A shop added it.
    pub is_own: bool,
}

/// Everything that is counted and read.
pub struct Catalogue {
    measures: Vec<Measure>,
    signals: Vec<Signal>,
    series: Vec<Series>,
    /// By number of the series.
    ids: Vec<u32>,
    numbers: HashMap<u32, u16, foldhash::fast::FixedState>,
    /// Signals touched by each series, by its number.
    touches: Vec<SmallVec<[u16; 4]>>,
    program: Program,
    files: Vec<File>,
    hash: u64,
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Catalogue({:016x})", self.hash)
    }
}

impl PartialEq for Catalogue {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Catalogue {
    /// The built-in catalogue alone.
    ///
    /// # Panics
    /// Never: its files are compiled by every test run.
    pub fn built_in() -> Arc<Self> {
        static BUILT: std::sync::OnceLock<Arc<Catalogue>> = std::sync::OnceLock::new();
        Arc::clone(BUILT.get_or_init(|| match Self::compile(&[]) {
            Ok(catalogue) => Arc::new(catalogue),
            Err(mistakes) => unreachable!("the built-in catalogue has mistakes: {mistakes}"),
        }))
    }

    /// The built-in files and a shop's own.
    ///
    /// # Errors
    /// Every mistake in them, with file, line and the nearest name.
    pub fn compile(own: &[File]) -> Result<Self, Mistakes> {
        compile::compile(own)
    }

    /// Every measure.
    pub fn measures(&self) -> &[Measure] {
        &self.measures
    }

    /// Every signal, by number.
    pub fn signals(&self) -> &[Signal] {
        &self.signals
    }

    /// The signal with this name.
    pub fn signal(&self, name: &str) -> Option<&Signal> {
        self.signals.iter().find(|signal| *signal.name == *name)
    }

    /// The names of all signals.
    pub fn signal_names(&self) -> Vec<&str> {
        self.signals.iter().map(|signal| &*signal.name).collect()
    }

    /// The measure with this name.
    pub fn measure(&self, name: &str) -> Option<&Measure> {
        self.measures.iter().find(|measure| *measure.name == *name)
    }

    /// Every series, by number.
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// The series of the measure with this name, which has to be there.
    ///
    /// # Panics
    /// Where there is none: for names of the built-in catalogue.
    #[track_caller]
    pub fn series_of(&self, measure: &str) -> &Series {
        match self.measure(measure) {
            Some(measure) => &self.series[usize::from(measure.series)],
            None => unreachable!("no measure {measure}"),
        }
    }

    /// What the log calls the series, by number.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// What the log calls a series.
    pub fn id(&self, series: u16) -> u32 {
        self.ids[usize::from(series)]
    }

    /// The series that the log calls so; `None` where this catalogue has none.
    pub fn series_by_id(&self, id: u32) -> Option<&Series> {
        let number = self.numbers.get(&id)?;
        self.series.get(usize::from(*number))
    }

    /// The name of the measure whose series this is.
    pub fn name_of(&self, series: u16) -> &str {
        let is_it = |measure: &&Measure| {
            measure.series == series || measure.total.is_some_and(|(_, total)| total == series)
        };
        let found = self.measures.iter().find(is_it);
        found.map_or("?", |measure| &measure.name)
    }

    /// Numbers of the signals that a change of a series touches.
    pub fn touched_by(&self, series: u16) -> &[u16] {
        &self.touches[usize::from(series)]
    }

    /// What is done with an event.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// How many places an entity of a kind takes among those that there is memory for: one by what is
    /// built in, and more where a shop's own measures and signals are about it.
    pub fn places(&self, kind: Kind) -> usize {
        let own = self.measures.iter().filter(|measure| measure.is_own);
        let own = own.filter(|measure| measure.kinds.contains(&kind));
        let measures = own.map(|measure| match measure.is_paned() {
            true => PANED_BYTES,
            false => LEVEL_BYTES + 8 * measure.columns.len(),
        });
        let own = self.signals.iter().filter(|signal| signal.is_own);
        let signals = own.filter(|signal| signal.kinds.contains(&kind)).count();
        let bytes = measures.sum::<usize>() + signals * SIGNAL_BYTES;
        1 + bytes / PLACE_BYTES
    }

    /// The files that a shop added.
    pub fn own_files(&self) -> &[File] {
        &self.files
    }

    /// Tells one catalogue from another.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// The name of a measure or column, noted as a mistake where it has another form.
fn name_of<'d>(table: &mut Table<'d, '_>, what: &str) -> Option<&'d str> {
    const EXPECTED: &str = "lower-case letters, digits and '_', from a letter on, at most 48";
    let name = table.required("name", EXPECTED)?;
    table.what = format!("{what} {name:?}");
    if !is_name(name) {
        let what = format!("name is {name:?}; expected {EXPECTED}");
        table.mistake(table.place("name"), &what);
        return None;
    }
    Some(name)
}

fn is_name(name: &str) -> bool {
    name.len() <= 48
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
mod tests;
