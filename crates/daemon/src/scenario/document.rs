//! A file of scenarios: Markdown, in which headings, events and tables have a meaning.
//!
//! Owns the form, and what is said of a mistake in it. What is neither heading, event nor table is
//! prose for people; a line that begins like one of them is never taken for prose.

use std::collections::BTreeMap;

use fenghuo_alert::{Rules, Severity, State};
use fenghuo_event::Timestamp;
use fenghuo_signal::document::unknown;
use fenghuo_signal::{Catalogue, Entity, ReadingState, shown};
use serde_json::Value;

use super::event;

/// When a scenario begins that does not say so: 2026-11-11 00:00 in China.
const BEGIN_MS: i64 = 1_794_326_400_000;

/// Events of one scenario at most.
pub const EVENTS_MAX: u64 = 5_000_000;

/// Longest time after the beginning.
const SPAN_MS_MAX: u128 = 400 * 86_400_000;

/// Characters of the file that a mistake shows.
const SHOWN_CHARS_MAX: usize = 80;

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its heading.
    pub name: String,
    /// Line of the heading.
    pub line: usize,
    /// When it begins, Unix ms.
    pub begin_ms: i64,
    /// What is sent.
    pub sent: Vec<Sent>,
    /// What is expected, in the order of the file.
    pub expected: Vec<Expected>,
}

/// One row of a table of events.
#[derive(Debug)]
pub struct Sent {
    /// Line of the row.
    pub line: usize,
    /// When the first one happens, ms after the beginning.
    pub at_ms: i64,
    /// How many.
    pub count: u64,
    /// Over how much time they are spread evenly, ms.
    pub over_ms: i64,
    /// The event, with `{n}` where its number is to stand.
    pub event: Value,
}

/// One row of a table of expectations.
#[derive(Debug)]
pub struct Expected {
    /// Line of the row.
    pub line: usize,
    /// The table's header, as it was written.
    pub header: Vec<String>,
    /// The row, as it was written.
    pub cells: Vec<String>,
    /// When it is looked at, ms after the beginning.
    pub at_ms: i64,
    /// What is looked at.
    pub what: What,
}

/// What a row expects.
#[derive(Debug)]
pub enum What {
    /// A signal's reading.
    Reading {
        signal: String,
        entity: Entity,
        numbers: Vec<(&'static str, Number)>,
        /// `Some(None)`: there is no reading at all.
        state: Option<Option<ReadingState>>,
    },
    /// An alert's state.
    Alert {
        rule: String,
        entity: Entity,
        state: Option<State>,
        severity: Option<Severity>,
        /// Episodes that fired so far.
        fired: Option<Number>,
    },
    /// Events by what became of them, since the beginning.
    Events(Vec<(&'static str, Number)>),
}

/// A number that is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// From the first to the second, both included.
    Between(f64, f64),
    /// There is no number: the reading is unknown.
    None,
}

/// Columns of a table of readings that hold numbers.
pub const NUMBERS: [&str; 4] = ["value", "lower", "upper", "n"];

/// Columns of a table of what became of events.
pub const OUTCOMES: [&str; 4] = ["accepted", "rejected", "duplicate", "late"];

const READING_COLUMNS: [&str; 8] = [
    "at", "signal", "entity", "value", "lower", "upper", "n", "state",
];
const ALERT_COLUMNS: [&str; 6] = ["at", "rule", "entity", "state", "severity", "fired"];
const STATES: [&str; 4] = ["ok", "insufficient", "unknown", "none"];
const ALERT_STATES: [&str; 6] = [
    "inactive",
    "pending",
    "firing",
    "recovering",
    "resolved",
    "unknown",
];

impl Number {
    /// Reads what a cell says: `3`, `0.2..0.4`, `>= 3`, `<= 3`, `~3` (within 1 %) or `-`.
    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let number: Option<f64> = text.trim().parse().ok();
            number.filter(|number| number.is_finite())
        };
        if text == "-" {
            return Some(Self::None);
        }
        if let Some((from, to)) = text.split_once("..") {
            let (from, to) = (number(from)?, number(to)?);
            return (from <= to).then_some(Self::Between(from, to));
        }
        if let Some(least) = text.strip_prefix(">=") {
            return Some(Self::Between(number(least)?, f64::INFINITY));
        }
        if let Some(most) = text.strip_prefix("<=") {
            return Some(Self::Between(f64::NEG_INFINITY, number(most)?));
        }
        let (value, share) = match text.strip_prefix('~') {
            Some(about) => (number(about)?, 1e-2),
            None => (number(text)?, 1e-9),
        };
        let room = value.abs() * share;
        Some(Self::Between(value - room, value + room))
    }

    /// Whether a number is as expected; NaN stands for none.
    pub fn fits(self, found: f64) -> bool {
        match self {
            Self::Between(from, to) => from <= found && found <= to,
            Self::None => found.is_nan(),
        }
    }
}

/// What a file may name.
pub struct Known<'k> {
    pub catalogue: &'k Catalogue,
    pub rules: &'k Rules,
}

/// Reads a file, or says all that is wrong in it, a line each.
pub fn parse(file: &str, text: &str, known: &Known<'_>) -> Result<Vec<Scenario>, Vec<String>> {
    let mut reader = Reader {
        file,
        known,
        mistakes: Vec::new(),
        scenarios: Vec::new(),
        events: BTreeMap::new(),
        table: Table::None,
    };
    let mut fence: Option<Fence> = None;
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        match &mut fence {
            Some(open) if line.trim_end() == "```" => {
                if let Some(name) = open.event.take() {
                    reader.event(open.line, name, &open.text);
                }
                fence = None;
            }
            Some(open) => {
                open.text += line;
                open.text.push('\n');
            }
            None => fence = reader.line(number, line),
        }
    }
    if let Some(open) = fence {
        reader.mistake(open.line, "this ``` has no end");
    }
    reader.end()
}

/// Text between lines of ```.
struct Fence {
    line: usize,
    /// The event's name, where it is one.
    event: Option<String>,
    text: String,
}

/// The table that the last line belonged to.
enum Table {
    None,
    /// Its header was wrong: the rows are not looked at.
    Wrong,
    Events(Vec<String>),
    Readings(Vec<String>),
    Alerts(Vec<String>),
    Outcomes(Vec<String>),
}

struct Reader<'r> {
    file: &'r str,
    known: &'r Known<'r>,
    mistakes: Vec<String>,
    scenarios: Vec<Scenario>,
    /// Events that rows may name; those above the first heading hold for all scenarios.
    events: BTreeMap<String, Value>,
    table: Table,
}

impl Reader<'_> {
    fn mistake(&mut self, line: usize, what: impl AsRef<str>) {
        let what = what.as_ref();
        self.mistakes.push(format!("{}:{line}: {what}", self.file));
    }

    fn end(mut self) -> Result<Vec<Scenario>, Vec<String>> {
        if self.scenarios.is_empty() && self.mistakes.is_empty() {
            self.mistake(
                1,
                "no scenario; expected a heading, such as `# What is told`",
            );
        }
        let silent: Vec<usize> = self
            .scenarios
            .iter()
            .filter(|scenario| scenario.expected.is_empty())
            .map(|scenario| scenario.line)
            .collect();
        if self.mistakes.is_empty() {
            for line in silent {
                self.mistake(
                    line,
                    "this scenario expects nothing; expected a table with a column `signal`, `rule` \
                     or `accepted`",
                );
            }
        }
        let to_fill = self.scenarios.iter();
        let wrong: Vec<String> = to_fill
            .flat_map(|scenario| event::mistakes(self.file, scenario))
            .collect();
        self.mistakes.extend(wrong);
        match self.mistakes.is_empty() {
            true => Ok(self.scenarios),
            false => Err(self.mistakes),
        }
    }

    /// Takes a line outside of ```, and says whether a fence begins.
    fn line(&mut self, number: usize, line: &str) -> Option<Fence> {
        let text = line.trim();
        if !text.starts_with('|') {
            self.table = Table::None;
        }
        if let Some(info) = text.strip_prefix("```") {
            let mut words = info.split_whitespace();
            let event = match (words.next(), words.next(), words.next()) {
                (Some("json"), Some(name), None) => Some(name.to_owned()),
                (Some("json"), ..) => {
                    let expected = "expected ```json and the event's name, such as ```json paid";
                    self.mistake(number, expected);
                    None
                }
                _ => None,
            };
            return Some(Fence {
                line: number,
                event,
                text: String::new(),
            });
        }
        if let Some(heading) = text.strip_prefix("# ") {
            self.scenarios.push(Scenario {
                name: heading.trim().to_owned(),
                line: number,
                begin_ms: BEGIN_MS,
                sent: Vec::new(),
                expected: Vec::new(),
            });
        } else if let Some(begin) = text.strip_prefix("begin:") {
            self.begin(number, begin.trim());
        } else if text.starts_with('|') {
            self.row(number, text);
        }
        None
    }

    fn begin(&mut self, number: usize, text: &str) {
        let Ok(Timestamp(begin_ms)) = text.parse() else {
            let text = shown(text, SHOWN_CHARS_MAX);
            let what =
                format!("{text:?} is no instant; expected one such as 2026-11-11T00:00:00+08:00");
            return self.mistake(number, what);
        };
        match self.scenarios.last_mut() {
            Some(scenario) => scenario.begin_ms = begin_ms,
            None => self.mistake(number, "`begin:` stands above the first heading"),
        }
    }

    fn event(&mut self, line: usize, name: String, text: &str) {
        match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(event)) if body_of(&event).is_some() => {
                self.events.insert(name, Value::Object(event));
            }
            Ok(_) => self.mistake(
                line,
                format!("event {name:?}: expected an object with one body, such as \"order\""),
            ),
            Err(error) => self.mistake(line + error.line(), format!("event {name:?}: {error}")),
        }
    }

    fn row(&mut self, number: usize, text: &str) {
        let cells = cells(text);
        if cells.iter().all(|cell| is_rule(cell)) {
            return;
        }
        if self.scenarios.is_empty() {
            if !matches!(self.table, Table::Wrong) {
                self.mistake(
                    number,
                    "a table above the first heading; expected `# …` before it",
                );
            }
            self.table = Table::Wrong;
            return;
        }
        let columns = match &self.table {
            Table::Wrong => return,
            Table::None => {
                self.table = self.header(number, cells);
                return;
            }
            Table::Events(columns)
            | Table::Readings(columns)
            | Table::Alerts(columns)
            | Table::Outcomes(columns) => columns.clone(),
        };
        if cells.len() != columns.len() {
            let (has, of) = (cells.len(), columns.len());
            return self.mistake(
                number,
                format!("{has} cells under {of} columns; | in a cell is written \\|"),
            );
        }
        let row = Row {
            line: number,
            columns: &columns,
            cells: &cells,
        };
        let done = match &self.table {
            Table::Events(_) => self.sent(&row),
            Table::Readings(_) => self.reading(&row),
            Table::Alerts(_) => self.alert(&row),
            _ => self.outcomes(&row),
        };
        if let Err(what) = done {
            self.mistake(number, what);
        }
    }

    fn header(&mut self, number: usize, columns: Vec<String>) -> Table {
        let has = |name: &str| columns.iter().any(|column| column == name);
        let twice = columns
            .iter()
            .enumerate()
            .find(|(at, column)| columns[..*at].contains(column));
        if let Some((_, column)) = twice {
            let what = format!("column {column:?} stands twice");
            self.mistake(number, what);
            return Table::Wrong;
        }
        let known: &[&str] = if has("event") {
            &[]
        } else if has("signal") {
            &READING_COLUMNS
        } else if has("rule") {
            &ALERT_COLUMNS
        } else if OUTCOMES.iter().any(|outcome| has(outcome)) {
            &["at", "accepted", "rejected", "duplicate", "late"]
        } else {
            self.mistake(
                number,
                "a table of nothing known; expected a column `event` (what is sent), `signal` \
                 (readings), `rule` (alerts) or `accepted` (what became of events)",
            );
            return Table::Wrong;
        };
        let mut is_sound = true;
        if !has("at") {
            self.mistake(
                number,
                "no column `at`; expected the time after the beginning",
            );
            is_sound = false;
        }
        if (has("signal") || has("rule")) && !has("event") && !has("entity") {
            self.mistake(number, "no column `entity`; expected one, such as sku=mug");
            is_sound = false;
        }
        for column in columns.iter().filter(|_| !known.is_empty()) {
            if !known.contains(&column.as_str()) {
                let what = unknown("column", column, known);
                self.mistake(number, what);
                is_sound = false;
            }
        }
        match known.get(1) {
            _ if !is_sound => Table::Wrong,
            None => Table::Events(columns),
            Some(&"signal") => Table::Readings(columns),
            Some(&"rule") => Table::Alerts(columns),
            Some(_) => Table::Outcomes(columns),
        }
    }

    fn sent(&mut self, row: &Row<'_>) -> Result<(), String> {
        let name = row.cell("event").unwrap_or_default();
        let known: Vec<&str> = self.events.keys().map(String::as_str).collect();
        let event = self.events.get(name);
        let mut event = event
            .cloned()
            .ok_or_else(|| unknown("event", name, &known))?;
        let count = match row.cell("count") {
            None => 1,
            Some(text) => text
                .parse::<u64>()
                .ok()
                .filter(|count| (1..=EVENTS_MAX).contains(count))
                .ok_or_else(|| format!("count {text:?}: expected 1 to {EVENTS_MAX}"))?,
        };
        let over_ms = row.cell("over").map_or(Ok(0), span_ms)?;
        for (path, cell) in row.columns.iter().zip(row.cells) {
            let is_field = !["at", "event", "count", "over"].contains(&path.as_str());
            if is_field && !cell.is_empty() {
                event::set(&mut event, path, cell)?;
            }
        }
        let at_ms = row.at_ms()?;
        let line = row.line;
        let Some(scenario) = self.scenarios.last_mut() else {
            return Ok(());
        };
        let so_far: u64 = scenario.sent.iter().map(|sent| sent.count).sum();
        if so_far + count > EVENTS_MAX {
            return Err(format!("a scenario sends {EVENTS_MAX} events at most"));
        }
        scenario.sent.push(Sent {
            line,
            at_ms,
            count,
            over_ms,
            event,
        });
        Ok(())
    }

    fn reading(&mut self, row: &Row<'_>) -> Result<(), String> {
        let signal = row.cell("signal").unwrap_or_default().to_owned();
        if self.known.catalogue.signal(&signal).is_none() {
            let signals = self.known.catalogue.signals();
            let known: Vec<&str> = signals.iter().map(|signal| &*signal.name).collect();
            return Err(unknown("signal", &signal, &known));
        }
        let state = match row.cell("state") {
            None => None,
            Some("none") => Some(None),
            Some("ok") => Some(Some(ReadingState::Ok)),
            Some("insufficient") => Some(Some(ReadingState::Insufficient)),
            Some("unknown") => Some(Some(ReadingState::Unknown)),
            Some(other) => return Err(unknown("state", other, &STATES)),
        };
        let what = What::Reading {
            signal,
            entity: row.entity()?,
            numbers: row.numbers(&NUMBERS)?,
            state,
        };
        self.expect(row, what)
    }

    fn alert(&mut self, row: &Row<'_>) -> Result<(), String> {
        let rule = row.cell("rule").unwrap_or_default().to_owned();
        let rules = self.known.rules;
        if rules.named(&rule).is_none() {
            let known: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
            return Err(unknown("rule", &rule, &known));
        }
        let state = row.cell("state").map(|state| match state {
            "inactive" => Ok(State::Inactive),
            "pending" => Ok(State::Pending),
            "firing" => Ok(State::Firing),
            "recovering" => Ok(State::Recovering),
            "resolved" => Ok(State::Resolved),
            "unknown" => Ok(State::Unknown),
            other => Err(unknown("state", other, &ALERT_STATES)),
        });
        let severity = row.cell("severity").map(|severity| match severity {
            "page" => Ok(Severity::Page),
            "warn" => Ok(Severity::Warn),
            other => Err(unknown("severity", other, &["page", "warn"])),
        });
        let fired = row.numbers(&["fired"])?.pop().map(|(_, number)| number);
        let what = What::Alert {
            rule,
            entity: row.entity()?,
            state: state.transpose()?,
            severity: severity.transpose()?,
            fired,
        };
        self.expect(row, what)
    }

    fn outcomes(&mut self, row: &Row<'_>) -> Result<(), String> {
        let numbers = row.numbers(&OUTCOMES)?;
        self.expect(row, What::Events(numbers))
    }

    fn expect(&mut self, row: &Row<'_>, what: What) -> Result<(), String> {
        let is_empty = match &what {
            What::Reading { numbers, state, .. } => numbers.is_empty() && state.is_none(),
            What::Alert {
                state,
                severity,
                fired,
                ..
            } => state.is_none() && severity.is_none() && fired.is_none(),
            What::Events(numbers) => numbers.is_empty(),
        };
        if is_empty {
            return Err("this row expects nothing".to_owned());
        }
        let expected = Expected {
            line: row.line,
            header: row.columns.to_vec(),
            cells: row.cells.to_vec(),
            at_ms: row.at_ms()?,
            what,
        };
        if let Some(scenario) = self.scenarios.last_mut() {
            scenario.expected.push(expected);
        }
        Ok(())
    }
}

/// A row under its header.
struct Row<'r> {
    line: usize,
    columns: &'r [String],
    cells: &'r [String],
}

impl Row<'_> {
    /// What stands in a column; `None` where there is no such column, or nothing in it.
    fn cell(&self, name: &str) -> Option<&str> {
        let at = self.columns.iter().position(|column| column == name)?;
        let cell = self.cells.get(at)?.as_str();
        (!cell.is_empty()).then_some(cell)
    }

    fn at_ms(&self) -> Result<i64, String> {
        span_ms(self.cell("at").unwrap_or_default())
    }

    fn entity(&self) -> Result<Entity, String> {
        let text = self.cell("entity").unwrap_or_default();
        let entity = text.parse::<Entity>();
        entity.map_err(|error| error.to_string())
    }

    fn numbers(&self, names: &[&'static str]) -> Result<Vec<(&'static str, Number)>, String> {
        let mut numbers = Vec::new();
        for name in names {
            let Some(text) = self.cell(name) else {
                continue;
            };
            let number = Number::parse(text).ok_or_else(|| {
                let text = shown(text, SHOWN_CHARS_MAX);
                format!(
                    "{name} {text:?}: expected a number, a range such as 0.2..0.4, >= 3, <= 3, ~3 \
                     (within 1 %), or - for none"
                )
            })?;
            numbers.push((*name, number));
        }
        Ok(numbers)
    }
}

/// A time such as `90s`, `5m` or `1h30m`, in ms.
fn span_ms(text: &str) -> Result<i64, String> {
    let wrong = || {
        let text = shown(text, SHOWN_CHARS_MAX);
        format!("{text:?} is no time after the beginning; expected one such as 90s, 5m or 1h30m")
    };
    if text == "0" {
        return Ok(0);
    }
    let span = humantime::parse_duration(text).map_err(|_| wrong())?;
    let ms = Some(span.as_millis()).filter(|ms| *ms <= SPAN_MS_MAX);
    ms.and_then(|ms| i64::try_from(ms).ok()).ok_or_else(wrong)
}

/// The cells of a line that begins with `|`.
fn cells(line: &str) -> Vec<String> {
    let line = line.strip_prefix('|').unwrap_or(line);
    let mut cells = vec![String::new()];
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek(), cells.last_mut()) {
            ('\\', Some('|'), Some(cell)) => {
                cell.push('|');
                chars.next();
            }
            ('|', ..) => cells.push(String::new()),
            (c, _, Some(cell)) => cell.push(c),
            (_, _, None) => {}
        }
    }
    // What follows the last `|`.
    if cells.last().is_some_and(|cell| cell.trim().is_empty()) {
        cells.pop();
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// Whether a cell is of the line between header and rows: one dash or more, and colons around them.
fn is_rule(cell: &str) -> bool {
    let dashes = cell.trim_matches(':');
    !dashes.is_empty() && dashes.bytes().all(|byte| byte == b'-')
}

/// The name of an event's body: its only key beside `meta`.
pub fn body_of(event: &serde_json::Map<String, Value>) -> Option<&str> {
    let mut others = event.keys().filter(|key| *key != "meta");
    match (others.next(), others.next()) {
        (Some(body), None) => Some(body),
        _ => None,
    }
}
