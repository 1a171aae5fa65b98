//! Signals: from a table to an estimator with its inputs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;
use toml::de::DeValue;

use super::{Judge, Measure, Origin, ShownAs, Signal};
use crate::document::{Table, unknown};
use crate::estimator::{self, Arguments, Inputs};
use crate::kind::Kind;

pub(super) const KEYS: [&str; 9] = [
    "name", "title", "about", "formula", "unit", "by", "judge", "estimate", "show",
];
const SHOW_KEYS: [&str; 3] = ["as", "panel", "beside"];
const PANELS: [&str; 6] = ["sales", "stock", "parcels", "feedback", "systems", "own"];
const LANGUAGES: [&str; 3] = ["en", "zh-Hans", "zh-Hant"];

/// The longest name of a signal, which is a metric label.
const NAME_BYTES_MAX: usize = 64;

pub(super) fn name_of<'d>(table: &mut Table<'d, '_>) -> Option<&'d str> {
    const EXPECTED: &str = "a domain and a name with a point between them, such as \"payment.refused\", of lower-case letters, digits and '_'";
    let name = table.required("name", EXPECTED)?;
    table.what = format!("signal {name:?}");
    let fits = name.len() <= NAME_BYTES_MAX
        && name.split('.').count() == 2
        && name.split('.').all(super::is_name);
    if !fits {
        let what = format!("name is {name:?}; expected {EXPECTED}");
        table.mistake(table.place("name"), &what);
        return None;
    }
    Some(name)
}

/// Reads a signal; `None` with every mistake noted.
pub(super) fn read(
    table: &Table<'_, '_>,
    name: &str,
    number: usize,
    (measures, broken): (&[Measure], &[String]),
    above: &[Signal],
    is_own: bool,
) -> Option<Signal> {
    let about = table.required("about", "what it tells, in half a sentence");
    let unit = table.required("unit", "the unit of its value, such as \"share\"");
    let title = title(table);
    let judge = judge(table);
    let kinds = kinds(table);
    let show = show(table, above);
    let (estimator, inputs) = estimator(table, measures, broken)?;
    let kinds = kinds?;
    let mut is_sound = true;
    let mut check = |kinds: &[Kind]| {
        for at in &inputs.touching {
            let measure = &measures[*at];
            for kind in kinds {
                let has = measure.kinds.contains(kind)
                    || measure.total.is_some_and(|(total, _)| total == *kind);
                if !has {
                    is_sound = false;
                    let known: Vec<&str> = measure.kinds.iter().map(|kind| kind.name()).collect();
                    let what = format!(
                        "by: measure {:?} is not counted by {:?}; expected some of {}, or add it to the measure's by",
                        measure.name,
                        kind.name(),
                        known.join(", ")
                    );
                    table.mistake(table.place("by"), &what);
                }
            }
        }
    };
    check(&kinds);
    let mut streams = SmallVec::new();
    for at in &inputs.all {
        if let Origin::Stream(stream) = measures[*at].origin
            && !streams.contains(&stream)
        {
            streams.push(stream);
        }
    }
    streams.sort_unstable();
    let mut touched_by: SmallVec<[u16; 4]> = SmallVec::new();
    for at in &inputs.touching {
        let measure = &measures[*at];
        let total = measure.total.map(|(_, series)| series);
        for series in [Some(measure.series), total].into_iter().flatten() {
            if !touched_by.contains(&series) {
                touched_by.push(series);
            }
        }
    }
    let (shown_as, panel, beside) = show?;
    let rests_on = inputs.all.iter().map(|at| measures[*at].series).collect();
    let definition = format!("{name}\n{}", super::measure::definition(table));
    let signal = Signal {
        number,
        name: Arc::from(name),
        title: title?,
        about: about?.into(),
        formula: table
            .get("formula")
            .and(table.text("formula"))
            .unwrap_or("")
            .trim()
            .into(),
        unit: unit?.into(),
        kinds,
        streams,
        touched_by,
        rests_on,
        reach_ms: inputs.reach_ms,
        // Until the ids of what it rests on are known.
        definition: xxhash_rust::xxh3::xxh3_64(definition.as_bytes()) as u32,
        judge: judge?,
        estimator,
        shown_as,
        panel,
        beside,
        is_own,
    };
    is_sound.then_some(signal)
}

fn title(table: &Table<'_, '_>) -> Option<BTreeMap<Box<str>, Box<str>>> {
    let mut titles = BTreeMap::new();
    let Some(value) = table.get("title") else {
        return Some(titles);
    };
    let title = table.document.table(value, &table.what, &LANGUAGES)?;
    for (language, _, _) in title.entries() {
        titles.insert(language.into(), title.text(language)?.into());
    }
    Some(titles)
}

fn judge(table: &Table<'_, '_>) -> Option<Judge> {
    const EXPECTED: &str =
        "\"event\", or the width of the panes at whose end it is judged, such as \"1m\"";
    match table.required("judge", EXPECTED)? {
        "event" => Some(Judge::EachDelta),
        _ => {
            let width_ms = table.duration_ms("judge")?;
            if width_ms % 1_000 != 0 {
                table.mistake(table.place("judge"), "judge: expected whole seconds");
                return None;
            }
            Some(Judge::ClosedPane { width_ms })
        }
    }
}

fn kinds(table: &Table<'_, '_>) -> Option<SmallVec<[Kind; 4]>> {
    const EXPECTED: &str = "kinds of entity, such as [\"campaign\"]";
    if table.get("by").is_none() {
        table.missing("by", EXPECTED);
    }
    let mut kinds = SmallVec::new();
    for value in table.list("by")? {
        let DeValue::String(name) = value.get_ref() else {
            table.unfit(value, "by", EXPECTED);
            return None;
        };
        match Kind::from_name(name) {
            Some(kind) => kinds.push(kind),
            None => {
                let known: Vec<&str> = Kind::all().map(Kind::name).collect();
                let what = unknown("kind of entity in by", name, &known);
                table.mistake(value.span().start, &what);
                return None;
            }
        }
    }
    if kinds.is_empty() {
        table.mistake(table.place("by"), "by is empty; expected kinds of entity");
        return None;
    }
    Some(kinds)
}

type Show = (ShownAs, Box<str>, Option<Box<str>>);

fn show(table: &Table<'_, '_>, above: &[Signal]) -> Option<Show> {
    let Some(value) = table.get("show") else {
        return Some((ShownAs::Ratio, Box::from("own"), None));
    };
    let show = table.document.table(value, &table.what, &SHOW_KEYS)?;
    let names = ["percent", "count", "hours", "seconds", "ratio"];
    let shown_as = match show.get("as").and(show.text("as")) {
        None | Some("ratio") => ShownAs::Ratio,
        Some("percent") => ShownAs::Percent,
        Some("count") => ShownAs::Count,
        Some("hours") => ShownAs::Hours,
        Some("seconds") => ShownAs::Seconds,
        Some(other) => {
            show.mistake(show.place("as"), &unknown("form in show.as", other, &names));
            return None;
        }
    };
    let panel = show.get("panel").and(show.text("panel")).unwrap_or("own");
    if !PANELS.contains(&panel) {
        show.mistake(show.place("panel"), &unknown("panel", panel, &PANELS));
        return None;
    }
    let beside = show.get("beside").and(show.text("beside"));
    if let Some(beside) = beside
        && !above.iter().any(|signal| *signal.name == *beside)
    {
        let known: Vec<&str> = above.iter().map(|signal| &*signal.name).collect();
        let what = unknown("signal above this one", beside, &known);
        show.mistake(show.place("beside"), &what);
        return None;
    }
    Some((shown_as, Box::from(panel), beside.map(Box::from)))
}

fn estimator(
    table: &Table<'_, '_>,
    measures: &[Measure],
    broken: &[String],
) -> Option<(Box<dyn estimator::Estimator>, Inputs)> {
    const EXPECTED: &str = "an estimator with its arguments, such as { share = \"payment.failed / payment.tried\", window = \"5m\" }";
    let Some(value) = table.get("estimate") else {
        table.missing("estimate", EXPECTED);
        return None;
    };
    let mut arguments = table.document.table(value, &table.what, &[])?;
    let entries = arguments.entries();
    let found: Vec<_> = estimator::ALL
        .iter()
        .filter(|named| entries.iter().any(|(key, _, _)| *key == named.name))
        .collect();
    let names: Vec<&str> = estimator::ALL.iter().map(|named| named.name).collect();
    let [named] = found.as_slice() else {
        let what = match (found.len(), entries.first()) {
            (0, Some((key, _, _))) => unknown("estimator", key, &names),
            (0, None) => format!("estimate is empty; expected {EXPECTED}"),
            _ => {
                let found: Vec<&str> = found.iter().map(|named| named.name).collect();
                format!(
                    "estimate names {}; expected one estimator",
                    found.join(" and ")
                )
            }
        };
        table.mistake(value.span().start, &what);
        return None;
    };
    for (key, at, _) in &entries {
        if !named.keys.contains(key) {
            let what = unknown(&format!("argument of {:?}", named.name), key, named.keys);
            table.mistake(*at, &what);
        }
    }
    arguments.what = format!("{}: estimate", table.what);
    let arguments = Arguments {
        table: &arguments,
        measures,
        broken,
        inputs: RefCell::default(),
    };
    let estimator = (named.build)(&arguments)?;
    let mut inputs = arguments.inputs.into_inner();
    for list in [&mut inputs.touching, &mut inputs.all] {
        list.sort_unstable();
        list.dedup();
    }
    Some((estimator, inputs))
}
