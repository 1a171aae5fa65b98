//! Measures: from a table to what is counted.

use fenghuo_event::Stream;
use fenghuo_window::{Merge, Series, Shape, Tier};
use smallvec::SmallVec;
use toml::de::DeValue;

use super::counting::{Column, Counting, Formula, Keys};
use super::{COLUMNS_MAX, ColumnOf, KINDS_OF_MEASURE_MAX, Measure, Origin, naming};
use crate::document::{DURATION, Table, Value, unknown};
use crate::expression::{EventLeaves, EventSchema, Expression, Schema, Type};
use crate::kind::Kind;
use crate::life::{self, LifeLeaves, LifeSchema};
use crate::program::{Arrivals, Arrived};

pub(super) const KEYS: [&str; 12] = [
    "name", "about", "stream", "life", "when", "by", "at", "keep", "total", "set_when", "columns",
    "title",
];
const COLUMN_KEYS: [&str; 7] = ["count", "sum", "min", "max", "set", "add", "when"];
const TIER_KEYS: [&str; 3] = ["pane", "cohort", "for"];

/// Tiers of a measure.
const TIERS_MAX: usize = 4;
/// Cells that one entity may keep of one measure.
const CELLS_MAX: i64 = 5_000;

/// A measure as it was read.
pub(super) struct Draft {
    pub(super) measure: Measure,
    /// Its series, and that of its total where it has one, each with its id.
    pub(super) series: Vec<(Series, u32)>,
    pub(super) built: Built,
}

/// What the program does for a measure.
pub(super) enum Built {
    Event(Stream, Counting<EventLeaves>),
    Life(Counting<LifeLeaves>),
    Arrivals(Arrivals),
    Lost(Series),
}

/// How a measure is kept.
enum Keep {
    Panes(Vec<Tier>),
    Cohorts(Vec<Tier>),
    Level,
    Register,
}

impl Draft {
    /// Reads a measure; `None` with every mistake noted.
    pub(super) fn read(
        table: &Table<'_, '_>,
        name: &str,
        number: u16,
        is_own: bool,
    ) -> Option<Self> {
        let about = table.required("about", "what it counts, in a sentence");
        let keep = keep(table);
        let origin = origin(table)?;
        let life = life_of(table, origin);
        let definition = definition(table);
        let mut counting = Reading {
            table,
            is_register: matches!(keep, Some(Keep::Register)),
        };
        let built = match (origin, life) {
            (Origin::Stream(_), Some(Some(life))) => {
                let schema: &LifeSchema = life;
                counting
                    .life(number, &schema)
                    .map(|(kinds, columns, of)| (kinds, columns, Built::Life(of)))
            }
            (Origin::Stream(stream), Some(None)) => counting
                .event(number, stream)
                .map(|(kinds, columns, of)| (kinds, columns, Built::Event(stream, of))),
            (Origin::Any | Origin::Lost, Some(None)) => counting.own(origin),
            (_, None | Some(Some(_))) => None,
        };
        let (about, keep, (kinds, columns, mut built)) = (about?, keep?, built?);
        let mut total = None;
        let merges: SmallVec<[Merge; 8]> = columns.iter().map(|(_, merge)| *merge).collect();
        let shape = match &keep {
            Keep::Panes(tiers) => Shape::Panes(tiers.clone().into()),
            Keep::Cohorts(tiers) => Shape::Cohorts(tiers.clone().into()),
            Keep::Level => Shape::Level,
            Keep::Register => {
                let kind = total_kind(table, &kinds)?;
                total = Some((kind, number + 1));
                Shape::Register { total: number + 1 }
            }
        };
        let id = xxhash_rust::xxh3::xxh3_64(format!("{name}\n{definition}").as_bytes()) as u32;
        let own = Series {
            number,
            shape,
            merges: merges.clone(),
        };
        match &mut built {
            Built::Arrivals(arrivals) => arrivals.series = own.clone(),
            Built::Lost(series) => *series = own.clone(),
            Built::Event(..) | Built::Life(_) => {}
        }
        let mut series = vec![(own, id)];
        if let Some((_, number)) = total {
            let level = Series {
                number,
                shape: Shape::Level,
                merges,
            };
            series.push((level, id ^ 1));
        }
        let tiers = match &keep {
            Keep::Panes(tiers) | Keep::Cohorts(tiers) => tiers.as_slice(),
            Keep::Level | Keep::Register => &[],
        };
        let measure = Measure {
            name: name.into(),
            about: about.into(),
            origin,
            kinds: kinds.into(),
            series: number,
            total,
            columns: columns
                .into_iter()
                .map(|(name, _)| ColumnOf { name })
                .collect(),
            kept_ms: tiers.last().map(|tier| tier.keep_ms),
            finest_ms: tiers.first().map(|tier| tier.width_ms),
            is_own,
        };
        Some(Self {
            measure,
            series,
            built,
        })
    }
}

/// What an id follows from: everything but what is said for people.
pub(super) fn definition(table: &Table<'_, '_>) -> String {
    fn write(out: &mut String, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => {
                let mut keys: Vec<_> = table.iter().collect();
                keys.sort_by_key(|(key, _)| key.get_ref().to_string());
                for (key, value) in keys {
                    out.push_str(key.get_ref());
                    out.push('=');
                    write(out, value.get_ref());
                }
            }
            DeValue::Array(values) => {
                for value in values.iter() {
                    write(out, value.get_ref());
                }
            }
            DeValue::String(text) => out.push_str(text),
            other => out.push_str(&format!("{other:?}")),
        }
        out.push('\n');
    }
    let mut out = String::new();
    let mut entries = table.entries();
    entries.sort_by_key(|(key, _, _)| *key);
    for (key, _, value) in entries {
        if !matches!(
            key,
            "about" | "formula" | "name" | "show" | "title" | "unit"
        ) {
            out.push_str(key);
            out.push('=');
            if key == "columns"
                && let DeValue::Table(columns) = value.get_ref()
            {
                // Their order is that of the fields.
                let mut columns: Vec<_> = columns.iter().collect();
                columns.sort_by_key(|(key, _)| key.span().start);
                for (name, column) in columns {
                    out.push_str(name.get_ref());
                    write(&mut out, column.get_ref());
                }
                continue;
            }
            write(&mut out, value.get_ref());
        }
    }
    out
}

fn origin(table: &Table<'_, '_>) -> Option<Origin> {
    let name = table.required(
        "stream",
        "the stream whose events it counts, such as \"orders\"",
    )?;
    match name {
        "any" => Some(Origin::Any),
        "lost" => Some(Origin::Lost),
        _ => {
            let stream = Stream::from_topic(name);
            if stream.is_none() {
                let known: Vec<&str> = Stream::ALL.iter().map(|stream| stream.topic()).collect();
                let what = unknown("stream", name, &known);
                table.mistake(table.place("stream"), &what);
            }
            stream.map(Origin::Stream)
        }
    }
}

/// The life whose changes are counted, if any; `None` with the mistake noted.
fn life_of(table: &Table<'_, '_>, origin: Origin) -> Option<Option<&'static LifeSchema>> {
    let Some(name) = table.get("life").and(table.text("life")) else {
        return table.get("life").is_none().then_some(None);
    };
    let found = life::ALL.iter().find(|life| life.name == name);
    let Some(life) = found else {
        let known: Vec<&str> = life::ALL.iter().map(|life| life.name).collect();
        table.mistake(table.place("life"), &unknown("life", name, &known));
        return None;
    };
    if origin != Origin::Stream(life.stream) {
        let what = format!(
            "life {name:?} is folded from stream {:?}",
            life.stream.topic()
        );
        table.mistake(table.place("stream"), &what);
        return None;
    }
    Some(Some(life))
}

fn keep(table: &Table<'_, '_>) -> Option<Keep> {
    const EXPECTED: &str =
        "\"level\", \"register\", or panes such as [{ pane = \"10s\", for = \"15m\" }]";
    let Some(value) = table.get("keep") else {
        table.missing("keep", EXPECTED);
        return None;
    };
    match value.get_ref() {
        DeValue::String(text) if text == "level" => Some(Keep::Level),
        DeValue::String(text) if text == "register" => Some(Keep::Register),
        DeValue::Array(_) => tiers(table),
        _ => {
            table.unfit(value, "keep", EXPECTED);
            None
        }
    }
}

fn tiers(table: &Table<'_, '_>) -> Option<Keep> {
    let place = table.place("keep");
    let list = table.list("keep")?;
    let (mut tiers, mut cohorts) = (Vec::new(), 0);
    for value in list {
        let tier = table.document.table(value, &table.what, &TIER_KEYS)?;
        let key = match tier.get("cohort") {
            Some(_) => "cohort",
            None => "pane",
        };
        cohorts += usize::from(key == "cohort");
        tier.required(key, DURATION)?;
        tier.required("for", DURATION)?;
        tiers.push(Tier {
            width_ms: tier.duration_ms(key)?,
            keep_ms: tier.duration_ms("for")?,
        });
    }
    let is_sorted = tiers.windows(2).all(|pair| {
        pair[1].width_ms % pair[0].width_ms == 0
            && pair[1].width_ms > pair[0].width_ms
            && pair[1].keep_ms > pair[0].keep_ms
    });
    let cells: i64 = tiers.iter().map(|tier| tier.keep_ms / tier.width_ms).sum();
    let mistake = if tiers.is_empty() || tiers.len() > TIERS_MAX {
        format!("keep has {} panes; expected 1 to {TIERS_MAX}", tiers.len())
    } else if cohorts != 0 && cohorts != tiers.len() {
        "keep mixes pane and cohort; expected one of the two".to_owned()
    } else if !is_sorted {
        "keep: expected panes from fine to coarse, each width a multiple of the one before, and each kept longer"
            .to_owned()
    } else if cells > CELLS_MAX {
        format!(
            "keep makes {cells} cells an entity; at most {CELLS_MAX} are kept; widen the panes or keep them shorter"
        )
    } else if (cohorts != 0) != table.get("at").is_some() {
        match cohorts {
            0 => "at is given, which is for cohorts; write cohort instead of pane in keep".to_owned(),
            _ => "at is missing; expected the time by which a cohort is counted, such as \"promised_at\"".to_owned(),
        }
    } else {
        return Some(match cohorts {
            0 => Keep::Panes(tiers),
            _ => Keep::Cohorts(tiers),
        });
    };
    table.mistake(place, &mistake);
    None
}

/// The kind in which a register's changes are summed.
fn total_kind(table: &Table<'_, '_>, kinds: &[Kind]) -> Option<Kind> {
    let place = table.place("total");
    let name = table.required(
        "total",
        "the kind in which its changes are summed, such as \"sku\"",
    )?;
    let kind = Kind::from_name(name);
    let fits = kind.is_some_and(|kind| {
        kind.parts().1.is_none() && kinds.iter().all(|of| of.parts().0 == kind.name())
    });
    if !fits || kinds.len() != 1 {
        let what = format!("total is {name:?}; expected the first part of its one kind");
        table.mistake(place, &what);
        return None;
    }
    kind
}

type Columns = Vec<(Box<str>, Merge)>;

struct Reading<'t, 'd, 'a> {
    table: &'t Table<'d, 'a>,
    is_register: bool,
}

impl Reading<'_, '_, '_> {
    fn event(
        &mut self,
        number: u16,
        stream: Stream,
    ) -> Option<(Vec<Kind>, Columns, Counting<EventLeaves>)> {
        let schema = EventSchema(stream);
        let path = |part: &str| naming::path_of(stream, part).into_owned();
        let counting = self.counting(number, &schema, &path)?;
        let mut is_sound = true;
        for (kind, names) in &counting.1.keys {
            let paths = names.iter().flat_map(|name| name.fields());
            for what in naming::mistakes(stream, *kind, paths) {
                is_sound = false;
                self.table.mistake(self.table.place("by"), &what);
            }
        }
        let (columns, counting) = counting;
        let kinds = counting.keys.iter().map(|(kind, _)| *kind).collect();
        is_sound.then_some((kinds, columns, counting))
    }

    fn life(
        &mut self,
        number: u16,
        schema: &&LifeSchema,
    ) -> Option<(Vec<Kind>, Columns, Counting<LifeLeaves>)> {
        let (columns, counting) = self.counting(number, schema, &str::to_owned)?;
        let kinds = counting.keys.iter().map(|(kind, _)| *kind).collect();
        Some((kinds, columns, counting))
    }

    /// A measure that ingest counts by itself.
    fn own(&mut self, origin: Origin) -> Option<(Vec<Kind>, Columns, Built)> {
        let kinds = self.kinds()?;
        if kinds.iter().any(|(kind, _)| *kind != Kind::SOURCE) {
            let what = "by: what is counted of every message is about its \"source\" alone";
            self.table.mistake(self.table.place("by"), what);
            return None;
        }
        let (mut columns, mut arrived) = (Vec::new(), Vec::new());
        for (name, _, column) in self.columns()? {
            let found = ["sum", "min", "max"]
                .iter()
                .find_map(|key| Some((*key, column.get(key).and(column.text(key))?)));
            let (what, merge) = match (origin, found) {
                (Origin::Any, Some(("sum", "events"))) => (Arrived::Events, Merge::Sum),
                (Origin::Any, Some(("min", "occurred_at"))) => (Arrived::At, Merge::Min),
                (Origin::Any, Some(("max", "occurred_at"))) => (Arrived::At, Merge::Max),
                (Origin::Lost, Some(("sum", "records"))) => (Arrived::Events, Merge::Sum),
                _ => {
                    let what = "expected { sum = \"events\" }, or min or max of \"occurred_at\"";
                    column.mistake(column.at, what);
                    return None;
                }
            };
            columns.push((Box::from(name), merge));
            arrived.push(what);
        }
        // Its series is put in by who makes it.
        let series = Series {
            number: 0,
            shape: Shape::Level,
            merges: SmallVec::new(),
        };
        let built = match origin {
            Origin::Lost => Built::Lost(series),
            _ => Built::Arrivals(Arrivals {
                series,
                columns: arrived,
            }),
        };
        Some((vec![Kind::SOURCE], columns, built))
    }

    fn counting<S: Schema>(
        &mut self,
        number: u16,
        schema: &S,
        path: &dyn Fn(&str) -> String,
    ) -> Option<(Columns, Counting<S::Leaves>)> {
        let when = self.optional(self.table, "when", schema, "Bool", is_bool);
        let at = self.optional(self.table, "at", schema, "Time", |kind| kind == Type::Time);
        let set_when = self.optional(self.table, "set_when", schema, "Bool", is_bool);
        let keys = self.keys(schema, path);
        let mut columns = Vec::new();
        let mut is_sound = true;
        for (name, _, table) in self.columns()? {
            match self.column(name, &table, schema) {
                Some(column) => columns.push(column),
                None => is_sound = false,
            }
        }
        let (when, at, set_when, keys) = (when?, at?, set_when?, keys?);
        let counting = Counting {
            series: number,
            keys,
            when,
            at,
            set_when,
            columns,
        };
        if let Err(what) = counting.check_lists() {
            self.table.mistake(self.table.at, &what);
            return None;
        }
        let columns = counting.columns.iter();
        let columns: Columns = columns
            .map(|column| (column.name.clone(), column.merge))
            .collect();
        is_sound.then_some((columns, counting))
    }

    fn columns(&self) -> Option<Vec<(&str, usize, Table<'_, '_>)>> {
        const EXPECTED: &str = "columns such as columns.orders = { count = 'true' }";
        let Some(value) = self.table.get("columns") else {
            self.table.missing("columns", EXPECTED);
            return None;
        };
        let all = self.table.document.table(value, &self.table.what, &[])?;
        let mut columns = Vec::new();
        for (name, at, value) in all.entries() {
            if !super::is_name(name) {
                let what = format!("column {name:?}: expected lower-case letters, digits and '_'");
                self.table.mistake(at, &what);
                continue;
            }
            let what = format!("{}: column {name:?}", self.table.what);
            if let Some(table) = self.table.document.table(value, &what, &COLUMN_KEYS) {
                columns.push((name, at, table));
            }
        }
        if columns.is_empty() || columns.len() > COLUMNS_MAX {
            let what = format!("{} columns; expected 1 to {COLUMNS_MAX}", columns.len());
            self.table.mistake(self.table.at, &what);
            return None;
        }
        Some(columns)
    }

    fn column<S: Schema>(
        &self,
        name: &str,
        table: &Table<'_, '_>,
        schema: &S,
    ) -> Option<Column<S::Leaves>> {
        let given: Vec<&str> = ["count", "sum", "min", "max", "set"]
            .into_iter()
            .filter(|key| table.get(key).is_some())
            .collect();
        let [key] = given.as_slice() else {
            let what = "expected one of count, sum, min, max or set";
            table.mistake(table.at, what);
            return None;
        };
        if (*key == "set") != self.is_register {
            let what = match self.is_register {
                true => "expected set and add, as keep is \"register\"",
                false => "set is for a measure with keep = \"register\"",
            };
            table.mistake(table.place(key), what);
            return None;
        }
        let when_key = if *key == "count" { "count" } else { "when" };
        let when = self.optional(table, when_key, schema, "Bool", is_bool)?;
        let merge = match *key {
            "min" => Merge::Min,
            "max" => Merge::Max,
            _ => Merge::Sum,
        };
        let whole = |key| self.expression(table, key, schema, "a whole number", is_whole);
        let what = match *key {
            "count" => Formula::Count,
            "set" => {
                if table.get("add").is_none() {
                    table.missing(
                        "add",
                        "what an event that does not set it adds, such as 'delta'",
                    );
                }
                Formula::Set(whole("set")?, whole("add")?)
            }
            key => Formula::Value(whole(key)?),
        };
        Some(Column {
            name: name.into(),
            merge,
            when,
            what,
        })
    }

    fn optional<S: Schema>(
        &self,
        table: &Table<'_, '_>,
        key: &str,
        schema: &S,
        expected: &str,
        fits: impl Fn(Type) -> bool,
    ) -> Option<Option<Expression<S::Leaves>>> {
        match table.get(key) {
            Some(_) => self
                .expression(table, key, schema, expected, fits)
                .map(Some),
            None => Some(None),
        }
    }

    fn expression<S: Schema>(
        &self,
        table: &Table<'_, '_>,
        key: &str,
        schema: &S,
        expected: &str,
        fits: impl Fn(Type) -> bool,
    ) -> Option<Expression<S::Leaves>> {
        let source = table.text(key)?;
        self.parsed(table, key, source, schema, expected, fits)
    }

    fn parsed<S: Schema>(
        &self,
        table: &Table<'_, '_>,
        key: &str,
        source: &str,
        schema: &S,
        expected: &str,
        fits: impl Fn(Type) -> bool,
    ) -> Option<Expression<S::Leaves>> {
        let place = table.place(key);
        match Expression::parse(source, schema) {
            Ok(expression) if fits(expression.kind()) => Some(expression),
            Ok(expression) => {
                let hint = match expression.kind() {
                    Type::Float if fits(Type::Int) => ", such as int(… * 1000.0)",
                    _ => "",
                };
                let what = format!(
                    "{key}: {source:?} is of type {}; expected {expected}{hint}",
                    expression.kind()
                );
                table.mistake(place, &what);
                None
            }
            Err(errors) => {
                for error in errors.0 {
                    table.mistake(place, &format!("{key}: {error}"));
                }
                None
            }
        }
    }

    /// The kinds of `by`, with the table of those that say where their parts are.
    fn kinds(&self) -> Option<Vec<(Kind, Option<&Value<'_>>)>> {
        const EXPECTED: &str = "kinds of entity, such as [\"campaign\", \"sku\"]";
        if self.table.get("by").is_none() {
            self.table.missing("by", EXPECTED);
        }
        let list = self.table.list("by")?;
        let mut kinds: Vec<(Kind, Option<&Value<'_>>)> = Vec::new();
        for value in list {
            let (name, table) = match value.get_ref() {
                DeValue::String(name) => (Some(name.as_ref()), None),
                DeValue::Table(table) => {
                    let name = table.get("kind").and_then(|kind| kind.get_ref().as_str());
                    (name, Some(value))
                }
                _ => (None, None),
            };
            let Some(name) = name else {
                self.table.unfit(value, "by", EXPECTED);
                return None;
            };
            match Kind::named(name) {
                Ok(kind) if kinds.iter().any(|(known, _)| *known == kind) => {
                    let what = format!("by names {name:?} twice");
                    self.table.mistake(value.span().start, &what);
                }
                Ok(kind) => kinds.push((kind, table)),
                Err(error) => self
                    .table
                    .mistake(value.span().start, &format!("by: {error}")),
            }
        }
        if kinds.is_empty() || kinds.len() > KINDS_OF_MEASURE_MAX {
            let what = format!(
                "by has {} kinds; expected 1 to {KINDS_OF_MEASURE_MAX}",
                kinds.len()
            );
            self.table.mistake(self.table.place("by"), &what);
            return None;
        }
        Some(kinds)
    }

    fn keys<S: Schema>(
        &self,
        schema: &S,
        path: &dyn Fn(&str) -> String,
    ) -> Option<Keys<S::Leaves>> {
        let mut keys = Vec::new();
        let mut is_sound = true;
        for (kind, value) in self.kinds()? {
            let (first, second) = kind.parts();
            let parts: Vec<&str> = match kind {
                Kind::SHOP => Vec::new(),
                _ => [Some(first), second].into_iter().flatten().collect(),
            };
            let mut names = Vec::new();
            for part in parts {
                let given = value.and_then(|value| match value.get_ref() {
                    DeValue::Table(table) => table.get(part)?.get_ref().as_str(),
                    _ => None,
                });
                let source = given.map_or_else(|| path(part), str::to_owned);
                let is_text = |kind| matches!(kind, Type::Text | Type::Enum(_));
                match self.parsed(self.table, "by", &source, schema, "a Text", is_text) {
                    Some(expression) => names.push(expression),
                    None => is_sound = false,
                }
            }
            keys.push((kind, names));
        }
        is_sound.then_some(keys)
    }
}

fn is_bool(kind: Type) -> bool {
    kind == Type::Bool
}

fn is_whole(kind: Type) -> bool {
    matches!(kind, Type::Int | Type::Time | Type::Duration | Type::Money)
}
