//! Compiling: from files to a catalogue, or to every mistake in them.

use fenghuo_event::Stream;
use fenghuo_event::schema::{self, Enumeration, Value};
use fenghuo_window::Series;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::measure::{Built, Draft};
use super::{
    BUILT_IN, Catalogue, File, Measure, OWN_MEASURES_MAX, OWN_ROWS_MAX, OWN_SIGNALS_MAX,
    OWN_SIGNALS_OF_KIND_MAX, Signal,
};
use crate::document::{Document, Mistakes, Table};
use crate::expression::Leaves;
use crate::kind::Kind;
use crate::life;
use crate::program::{ByType, Counted, Group, Program, Work, type_field};

/// Keys of a file's root. Rules are read by those who judge.
const ROOT_KEYS: [&str; 3] = ["measure", "signal", "rule"];

/// Measures that one type of event can count for.
const MEASURES_OF_TYPE_MAX: usize = 64;

pub(super) fn compile(own: &[File]) -> Result<Catalogue, Mistakes> {
    let built_in = BUILT_IN.iter().map(|(name, text)| (*name, *text, false));
    let own_files = own
        .iter()
        .map(|file| (file.name.as_str(), file.text.as_str(), true));
    let files: Vec<_> = built_in.chain(own_files).collect();
    let documents: Vec<_> = files
        .iter()
        .map(|(name, text, is_own)| (Document::new(name, text), *is_own))
        .collect();
    let roots: Vec<_> = documents
        .iter()
        .map(|(document, _)| document.parse())
        .collect();
    for ((document, _), root) in documents.iter().zip(&roots) {
        if let Some(root) = root {
            document.check_root(root.get_ref(), &ROOT_KEYS);
        }
    }
    let mut making = Making::default();
    for ((document, is_own), root) in documents.iter().zip(&roots) {
        let Some(root) = root else { continue };
        for table in document.tables(root.get_ref(), "measure", &super::measure::KEYS) {
            making.measure(table, *is_own);
        }
    }
    for ((document, is_own), root) in documents.iter().zip(&roots) {
        let Some(root) = root else { continue };
        for table in document.tables(root.get_ref(), "signal", &super::signal::KEYS) {
            making.signal(table, *is_own);
        }
    }
    drop(roots);
    let list: Vec<_> = documents
        .into_iter()
        .flat_map(|(document, _)| document.into_mistakes())
        .collect();
    match list.is_empty() {
        true => Ok(making.catalogue(own)),
        false => Err(Mistakes { list }),
    }
}

#[derive(Default)]
struct Making {
    measures: Vec<Measure>,
    built: Vec<Built>,
    signals: Vec<Signal>,
    series: Vec<Series>,
    ids: Vec<u32>,
    /// Names of measures with mistakes: what reads them has none of its own.
    broken: Vec<String>,
}

impl Making {
    fn measure(&mut self, mut table: Table<'_, '_>, is_own: bool) {
        let Some(name) = super::name_of(&mut table, "measure") else {
            return;
        };
        if self.measures.iter().any(|known| *known.name == *name) {
            let place = table.place("name");
            return table.mistake(place, "there is a measure of this name already");
        }
        let own = self.measures.iter().filter(|known| known.is_own).count();
        if is_own && own == OWN_MEASURES_MAX {
            let what = format!("one measure too many; a shop may add {OWN_MEASURES_MAX}");
            return table.mistake(table.at, &what);
        }
        let number = self.series.len() as u16;
        let Some(draft) = Draft::read(&table, name, number, is_own) else {
            self.broken.push(name.to_owned());
            return;
        };
        for (series, id) in draft.series {
            if self.ids.contains(&id) {
                table.mistake(
                    table.at,
                    "its id is that of another measure; rename a column",
                );
            }
            self.series.push(series);
            self.ids.push(id);
        }
        if is_own {
            let of_stream = self.measures.iter().filter(|known| known.is_own);
            let of_stream = of_stream.filter(|known| known.origin == draft.measure.origin);
            let rows: usize = of_stream.map(|known| known.kinds.len()).sum();
            if rows + draft.measure.kinds.len() > OWN_ROWS_MAX {
                let what = format!(
                    "an event would count for more than {OWN_ROWS_MAX} rows of own measures of its \
                     stream, one for each kind of \"by\"; leave out a kind, or a measure"
                );
                self.broken.push(name.to_owned());
                return table.mistake(table.at, &what);
            }
        }
        self.measures.push(draft.measure);
        self.built.push(draft.built);
    }

    fn signal(&mut self, mut table: Table<'_, '_>, is_own: bool) {
        let Some(name) = super::signal::name_of(&mut table) else {
            return;
        };
        if self.signals.iter().any(|known| *known.name == *name) {
            let place = table.place("name");
            return table.mistake(place, "there is a signal of this name already");
        }
        let own = self.signals.iter().filter(|known| known.is_own).count();
        if is_own && own == OWN_SIGNALS_MAX {
            let what = format!("one signal too many; a shop may add {OWN_SIGNALS_MAX}");
            return table.mistake(table.at, &what);
        }
        let number = self.signals.len();
        let read = super::signal::read(
            &table,
            name,
            number,
            (&self.measures, &self.broken),
            &self.signals,
            is_own,
        );
        let about = |kind: &Kind| {
            let own = self.signals.iter().filter(|known| known.is_own);
            own.filter(|known| known.kinds.contains(kind)).count()
        };
        if let Some(read) = &read
            && is_own
            && read
                .kinds
                .iter()
                .any(|kind| about(kind) >= OWN_SIGNALS_OF_KIND_MAX)
        {
            let what = format!(
                "one signal too many of this kind; a shop may add {OWN_SIGNALS_OF_KIND_MAX} about \
                 each kind of entity"
            );
            return table.mistake(table.place("by"), &what);
        }
        self.signals.extend(read);
    }

    fn catalogue(mut self, own: &[File]) -> Catalogue {
        for signal in &mut self.signals {
            // A measure that means something else now makes another signal of it.
            let mut hash = xxhash_rust::xxh3::Xxh3::new();
            hash.update(&signal.definition.to_le_bytes());
            for series in &signal.rests_on {
                hash.update(&self.ids[usize::from(*series)].to_le_bytes());
            }
            signal.definition = hash.digest() as u32;
        }
        let mut touches = vec![SmallVec::new(); self.series.len()];
        for signal in &self.signals {
            for series in &signal.touched_by {
                touches[usize::from(*series)].push(signal.number as u16);
            }
        }
        let mut numbers = HashMap::default();
        for (number, id) in self.ids.iter().enumerate() {
            numbers.insert(*id, number as u16);
        }
        let mut text = String::new();
        for (_, built_in) in BUILT_IN {
            text.push_str(built_in);
        }
        for file in own {
            text.push('\0');
            text.push_str(&file.text);
        }
        Catalogue {
            program: program(&self.built, &self.series),
            measures: self.measures,
            signals: self.signals,
            series: self.series,
            ids: self.ids,
            numbers,
            touches,
            files: own.to_vec(),
            hash: xxhash_rust::xxh3::xxh3_64(text.as_bytes()),
        }
    }
}

fn program(built: &[Built], series: &[Series]) -> Program {
    let mut program = Program::default();
    for stream in Stream::ALL {
        let names = types_of(stream);
        let mut drafts = Vec::new();
        for built in built {
            if let Built::Event(of, draft) = built
                && *of == stream
            {
                drafts.push(draft);
            }
        }
        program
            .events
            .push(by_type(&drafts, type_field(stream), names, series));
    }
    let mut parcels = Vec::new();
    for built in built {
        match built {
            Built::Life(draft) => parcels.push(draft),
            Built::Arrivals(arrivals) => program.arrivals.push(arrivals.clone()),
            Built::Lost(lost) => program.lost.push(lost.clone()),
            Built::Event(..) => {}
        }
    }
    let changes = life::parcel::SCHEMA.changes;
    program.parcel = by_type(&parcels, life::CHANGE, changes, series);
    program
}

/// The types of a stream's events.
fn types_of(stream: Stream) -> &'static Enumeration {
    const NONE: &Enumeration = &Enumeration {
        name: "",
        values: &[],
    };
    match schema::field(stream, type_field(stream)).map(|field| field.value) {
        Some(Value::Enum(names, _)) => names,
        _ => NONE,
    }
}

fn by_type<L: Leaves>(
    drafts: &[&super::counting::Counting<L>],
    field: &str,
    names: &Enumeration,
    series: &[Series],
) -> ByType<L> {
    let most = names.values.iter().map(|(_, number)| *number).max();
    let work = (0..=most.unwrap_or(0)).map(|number| {
        let name = names.name_of(number);
        let mut work = Work {
            measures: Vec::new(),
            whole: Vec::new(),
            by_element: Vec::new(),
            width: 0,
            list: None,
        };
        for draft in drafts {
            add(&mut work, draft, field, name, series);
        }
        work
    });
    ByType {
        work: work.collect(),
    }
}

/// Adds a measure to the work of one type, where events of it count.
fn add<L: Leaves>(
    work: &mut Work<L>,
    draft: &super::counting::Counting<L>,
    field: &str,
    name: &str,
    series: &[Series],
) {
    let Some(counted) = draft.specialise(field, name, &series[usize::from(draft.series)]) else {
        return;
    };
    if work.measures.len() == MEASURES_OF_TYPE_MAX {
        return;
    }
    let at = work.measures.len() as u16;
    if let Some(list) = draft.list() {
        work.list = Some(list.into());
    }
    let mut has_whole = false;
    for (kind, names) in &draft.keys {
        let by_element = names.iter().any(|name| name.uses_element());
        has_whole |= !by_element;
        let groups = match by_element {
            true => &mut work.by_element,
            false => &mut work.whole,
        };
        let sources: Vec<&str> = names.iter().map(|name| name.source()).collect();
        let key = format!("{} {}", kind.name(), sources.join("\0"));
        match groups.iter_mut().find(|group| group.key == key) {
            Some(group) => group.measures.push(at),
            None => groups.push(Group {
                key,
                kind: *kind,
                names: names
                    .iter()
                    .cloned()
                    .filter_map(|name| name.into_phrase())
                    .collect(),
                measures: SmallVec::from_slice(&[at]),
            }),
        }
    }
    let totals_at = work.width;
    work.width += counted.series.width();
    work.measures.push(Counted {
        totals_at,
        has_whole,
        ..counted
    });
}
