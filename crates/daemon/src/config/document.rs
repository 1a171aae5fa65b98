//! A TOML file being read: its text, its tree, and errors that name a place in it.
//!
//! Owns the list of mistakes, their wording and the search for lines and nearest names. Reading goes
//! on after a mistake, so that all of them are told at once: what is wrong is read as nothing, and
//! what follows from it is not told. What a key means is not its business. It must never show the
//! text around a mistake: someone may wrongly have put a secret there.

use std::cell::{Cell, RefCell};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// Bytes of a config or a rules file at most: parsing takes up to a hundred times as many.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes of a plan file at most, some 50,000 skus; a larger plan comes in several files.
pub const PLAN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The most that is said of one mistake, in characters: no error grows with its file.
const SAID_CHARS_MAX: usize = 1_200;

/// Mistakes of one file that are told.
const MISTAKES_MAX: usize = 50;

/// Corrections while the keys and types of one file are read: one for each mistake, and a second one
/// where the first is of the wrong type.
const CORRECTIONS_MAX: usize = 3 * MISTAKES_MAX;

/// What is said of a mistake has keys and values of the file in it, and goes to a terminal.
fn cut(said: String) -> String {
    fenghuo_signal::shown(&said, SAID_CHARS_MAX)
}

/// Reads a file that must be text, of at most `bytes_max` bytes, which are a whole number of MiB.
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let fail = |source| ConfigError::Read {
        file: path.display().to_string(),
        source,
    };
    let mut text = String::new();
    // Opening a pipe to which nobody writes would wait for ever.
    if !std::fs::metadata(path).map_err(fail)?.is_file() {
        return Err(fail(std::io::Error::other("it is no regular file")));
    }
    let file = std::fs::File::open(path).map_err(fail)?;
    let read = file.take(bytes_max + 1).read_to_string(&mut text);
    if read.map_err(fail)? as u64 > bytes_max {
        let problem = format!("the file is larger than {} MiB", bytes_max >> 20);
        return Err(fail(std::io::Error::other(problem)));
    }
    Ok(text)
}

/// One file.
pub struct Document<'t> {
    file: &'t str,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
    mistakes: RefCell<Vec<Mistake>>,
    /// There are more mistakes than are told.
    has_more: Cell<bool>,
    /// Keys that are there under a name that is nearly theirs.
    misspelt: RefCell<Vec<String>>,
}

/// A mistake and its place.
struct Mistake {
    at: usize,
    key: String,
    error: ConfigError,
}

impl<'t> Document<'t> {
    /// Parses a text; `file` is its name, and paths in it are relative to the file's folder.
    pub fn parse(file: &'t str, text: &'t str) -> Result<Self, ConfigError> {
        match DeTable::parse(text) {
            Ok(root) => Ok(Self {
                file,
                text,
                root,
                mistakes: RefCell::default(),
                has_more: Cell::new(false),
                misspelt: RefCell::default(),
            }),
            Err(error) => Err(ConfigError::At {
                file: file.to_owned(),
                line: line(text, error.span().map_or(0, |span| span.start)),
                key: String::new(),
                problem: cut(format!("no valid TOML: {}", error.message())),
            }),
        }
    }

    /// The file's name.
    pub fn file(&self) -> &'t str {
        self.file
    }

    /// Reads the whole file as `T`, whose keys are all there are. serde ends at the first mistake: it
    /// is noted, corrected in a copy of the tree, which keeps all places, and the copy is read again.
    pub fn read<T: DeserializeOwned + Default>(&self) -> T {
        let mut root = self.root.clone();
        for step in 0..CORRECTIONS_MAX {
            let error = match T::deserialize(toml::Deserializer::from(root.clone())) {
                Ok(read) => return read,
                Err(error) => error,
            };
            let at = error.span().map_or(0, |span| span.start);
            let place = place_at(root.get_ref(), at).unwrap_or_default();
            let (key, problem) = worded(dotted(&place), error.message());
            if let Some(near) = misspelt(&place, error.message()) {
                self.misspelt.borrow_mut().push(near);
            }
            if self.takes(&key) {
                self.push(at, &key, self.at(at, &key, problem));
            }
            // What is put in stands behind the text, where nothing else does.
            let behind = self.text.len() + step;
            let span = behind..behind + 1;
            if self.is_full() || correct(&mut root, place, error.message(), span).is_none() {
                break;
            }
        }
        T::default()
    }

    fn at(&self, at: usize, key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::At {
            file: self.file.to_owned(),
            line: line(self.text, at),
            key: cut(key.to_owned()),
            problem: cut(problem.into()),
        }
    }

    /// Notes a mistake at a key such as `campaign[0].sku[1].id`.
    pub fn mistake(&self, key: &str, problem: impl Into<String>) {
        if self.takes(key) {
            let at = self.place_of(key);
            self.push(at, key, self.at(at, key, problem));
        }
    }

    /// Notes what is wrong with something that a key names.
    pub fn note(&self, key: &str, error: impl Into<ConfigError>) {
        if self.takes(key) {
            self.push(self.place_of(key), key, error.into());
        }
    }

    /// Notes all that is wrong in a file that a key names, each with its own place.
    pub fn note_all(&self, key: &str, mut errors: Vec<ConfigError>) {
        match errors.pop() {
            Some(only) if errors.is_empty() => self.note(key, only),
            None => {}
            Some(last) => {
                errors.push(last);
                let lines = errors.iter().take(MISTAKES_MAX).map(ToString::to_string);
                let mut lines: Vec<String> = lines.collect();
                if errors.len() > MISTAKES_MAX {
                    lines.push("and more".to_owned());
                }
                self.note(key, ConfigError::Many(lines));
            }
        }
    }

    fn place_of(&self, key: &str) -> usize {
        start_of(self.root.get_ref(), key).unwrap_or(0)
    }

    /// Of one place one mistake is told: a further one there mostly comes from the first.
    fn takes(&self, key: &str) -> bool {
        if self.is_full() || self.is_unsure(key) {
            return false;
        }
        let is_full = self.mistakes.borrow().len() == MISTAKES_MAX;
        self.has_more.set(is_full);
        !is_full
    }

    fn push(&self, at: usize, key: &str, error: ConfigError) {
        let key = key.to_owned();
        self.mistakes.borrow_mut().push(Mistake { at, key, error });
    }

    /// Whether so much is wrong that looking for more is of no use.
    pub fn is_full(&self) -> bool {
        self.has_more.get()
    }

    /// Whether a mistake is known at a key, in what it holds, or in what holds it.
    pub fn is_told(&self, key: &str) -> bool {
        let holds = |outer: &str, inner: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let mistakes = self.mistakes.borrow();
        let mut keys = mistakes.iter().map(|mistake| mistake.key.as_str());
        keys.any(|told| holds(told, key) || holds(key, told))
    }

    /// Whether a key is there under a name that is nearly its own.
    pub fn is_misspelt(&self, key: &str) -> bool {
        self.misspelt.borrow().iter().any(|known| known == key)
    }

    /// Whether a key may hold something else than what was read: nothing that rests on it is a
    /// mistake of its own.
    pub fn is_unsure(&self, key: &str) -> bool {
        self.is_told(key) || self.is_misspelt(key)
    }

    /// What was read, where there is no mistake in it; else all mistakes in the order of their lines.
    pub fn finish<T>(&self, read: T) -> Result<T, ConfigError> {
        let mut mistakes = self.mistakes.take();
        match mistakes.pop() {
            None => return Ok(read),
            Some(only) if mistakes.is_empty() => return Err(only.error),
            Some(last) => mistakes.push(last),
        }
        mistakes.sort_by_key(|mistake| mistake.at);
        let lines = mistakes.into_iter().map(|mistake| self.told(mistake));
        let mut lines: Vec<String> = lines.collect();
        if self.has_more.get() {
            lines.push(format!("{}: and more", self.file));
        }
        Err(ConfigError::Many(lines))
    }

    /// A mistake among others: each line begins with a place.
    fn told(&self, Mistake { at, key, error }: Mistake) -> String {
        let (file, line) = (self.file, line(self.text, at));
        match error {
            ConfigError::Channel(error) => {
                format!("{file}:{line}: {}: {}", error.at, error.problem)
            }
            ConfigError::At { .. }
            | ConfigError::Many(_)
            | ConfigError::Rule(_)
            | ConfigError::Catalogue(_) => error.to_string(),
            ConfigError::Read { .. } | ConfigError::Mapping(_) | ConfigError::Secret { .. } => {
                let key = cut(key);
                format!("{file}:{line}: {key}: {:#}", anyhow::Error::from(error))
            }
        }
    }

    /// A path named in the file.
    pub fn path(&self, relative: &str) -> PathBuf {
        let folder = Path::new(self.file).parent().unwrap_or(Path::new(""));
        folder.join(relative)
    }

    /// A number that must lie in a range.
    pub fn number<N>(&self, key: &str, value: i64, range: RangeInclusive<i64>) -> N
    where
        N: TryFrom<i64> + Default,
    {
        let fits = range.contains(&value).then(|| N::try_from(value).ok());
        fits.flatten().unwrap_or_else(|| {
            let (low, high) = range.into_inner();
            self.mistake(key, format!("is {value}; expected {low} to {high}"));
            N::default()
        })
    }

    /// A share, rate or expectation that must lie in a range.
    pub fn float(&self, key: &str, value: f64, range: RangeInclusive<f64>) -> f64 {
        if !range.contains(&value) {
            let (low, high) = range.into_inner();
            self.mistake(key, format!("is {value}; expected {low} to {high}"));
        }
        value
    }

    /// A time such as `"90s"` that must lie in a range.
    pub fn duration(
        &self,
        key: &str,
        text: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let problem = match humantime::parse_duration(text) {
            Ok(time) if range.contains(&time) => return Some(time),
            Ok(_) => {
                let (low, high) = range.into_inner();
                format!(
                    "is {text:?}; expected {} to {}",
                    humantime::format_duration(low),
                    humantime::format_duration(high)
                )
            }
            Err(_) => format!("is {text:?}; expected a time such as \"90s\", \"5m\" or \"1h30m\""),
        };
        self.mistake(key, problem);
        None
    }

    /// As [`Document::duration`], in ms.
    pub fn duration_ms(
        &self,
        key: &str,
        text: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<i64> {
        let time = self.duration(key, text, range)?;
        Some(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
    }

    /// An amount of bytes such as `"256MiB"` that must lie in a range.
    pub fn bytes(&self, key: &str, text: &str, range: RangeInclusive<u64>) -> u64 {
        const UNITS: [(&str, u64); 4] = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
        ];
        let parse = || {
            let (_, factor) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
            let number = text[..text.len() - 3].trim_end().parse::<u64>().ok()?;
            number.checked_mul(*factor)
        };
        let problem = match parse() {
            Some(bytes) if range.contains(&bytes) => return bytes,
            Some(_) => {
                let (low, high) = range.into_inner();
                let (low, high) = (low >> 20, high >> 20);
                format!("is {text:?}; expected \"{low}MiB\" to \"{high}MiB\"")
            }
            None => format!("is {text:?}; expected an amount such as \"256MiB\" or \"20GiB\""),
        };
        self.mistake(key, problem);
        0
    }

    /// An id or name: not empty and not endless.
    pub fn id(&self, key: &str, text: &str, bytes_max: usize) -> String {
        match text.len() {
            0 => self.mistake(key, "is empty; expected a name or id"),
            len if len > bytes_max => self.mistake(
                key,
                format!("is {len} bytes long; expected at most {bytes_max}"),
            ),
            _ => {}
        }
        text.to_owned()
    }

    /// A name that is not among those known.
    pub fn unknown<'k>(&self, key: &str, name: &str, known: impl IntoIterator<Item = &'k str>) {
        let known: Vec<&str> = known.into_iter().collect();
        self.mistake(key, format!("unknown {name:?}{}", hint(name, &known)));
    }
}

fn line(text: &str, at: usize) -> usize {
    let before = text.bytes().take(at);
    1 + before.filter(|byte| *byte == b'\n').count()
}

/// The longest name that is compared with the known ones.
const NAME_BYTES_COMPARED_MAX: usize = 256;

/// The nearest of the known names, or all of them.
pub fn hint(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("; did you mean {near:?}?"),
        None if known.is_empty() => "; there is none to name".to_owned(),
        None => format!("; expected one of {}", known.join(", ")),
    }
}

fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let most = (name.chars().count() / 2).clamp(1, 3);
    // `token` for `token_file` is no slip of the hand, yet it is clear what is meant.
    let begins = |known: &str| {
        known
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('_'))
    };
    let near = known
        .iter()
        // What is far longer than any name is near to none, and comparing costs its square.
        .filter(|_| name.len() <= NAME_BYTES_COMPARED_MAX)
        .map(|known| match begins(known) {
            true => (1, known),
            false => (strsim::damerau_levenshtein(name, known), known),
        })
        .filter(|(edits, _)| *edits <= most)
        .min_by_key(|(edits, _)| *edits);
    near.map(|(_, near)| *near)
}

/// What serde says of a mistake, in our words: it knows the names, but not which is near.
fn worded(key: String, message: &str) -> (String, String) {
    let quoted = quoted(message);
    let parent = || match key.rsplit_once('.') {
        Some((parent, _)) => format!("in [{parent}] "),
        None => String::new(),
    };
    if let Some((found, expected)) = of_type(message) {
        let expected = match expected {
            "a string" => "text in quotes",
            "a sequence" => "a list in brackets",
            "a boolean" => "true or false",
            "i64" => "a whole number",
            "f64" => "a number",
            other if other.starts_with("struct ") || other == "a map" => "a table",
            other => other,
        };
        return (
            key,
            format!("is {}; expected {expected}", found.replace('`', "")),
        );
    }
    match quoted.split_first() {
        Some((name, known)) if message.starts_with("unknown field") => {
            let problem = format!("{}there is no such key{}", parent(), hint(name, known));
            (key, problem)
        }
        Some((name, known)) if message.starts_with("unknown variant") => {
            (key, format!("unknown {name:?}{}", hint(name, known)))
        }
        Some((name, _)) if message.starts_with("missing field") => {
            let key = match key.is_empty() {
                true => (*name).to_owned(),
                false => format!("{key}.{name}"),
            };
            (key, "is missing".to_owned())
        }
        _ => (key, message.to_owned()),
    }
}

/// The names in what serde says: it puts each between back ticks, the wrong one first.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// What was found and what was expected, where that is of another type.
fn of_type(message: &str) -> Option<(&str, &str)> {
    let types = message.strip_prefix("invalid type: ")?;
    types.rsplit_once(", expected ")
}

/// The key that was meant by one that is not known, where that is clear.
fn misspelt(place: &[Step], message: &str) -> Option<String> {
    let message = message.strip_prefix("unknown field")?;
    let (name, known) = quoted(message)
        .split_first()
        .map(|(name, known)| (*name, known.to_vec()))?;
    let near = nearest(name, &known)?;
    let is_key = |step: &Step| matches!(step, Step::Key(_));
    let parent = &place[..place.iter().rposition(is_key)?];
    Some(match parent.is_empty() {
        true => near.to_owned(),
        false => format!("{}.{near}", dotted(parent)),
    })
}

/// Takes a mistake out of a tree: the next reading finds the next one. `None` where that cannot be done.
fn correct<'t>(
    root: &mut Spanned<DeTable<'t>>,
    mut place: Vec<Step>,
    message: &str,
    behind: Range<usize>,
) -> Option<()> {
    let stand_in = |toml: &'static str| DeValue::parse(toml).ok().map(Spanned::into_inner);
    if message.starts_with("missing field") {
        let name = (*quoted(message).first()?).to_owned();
        let key = Spanned::new(behind.clone(), name.into());
        // Where it is of the wrong type, that is the next mistake, at a place that is told already.
        let value = Spanned::new(behind, stand_in("\"\"")?);
        table_mut(root.get_mut(), &place)?.insert(key, value);
        return Some(());
    }
    let is_unknown_key = message.starts_with("unknown field");
    while is_unknown_key && matches!(place.last(), Some(Step::Index(_))) {
        place.pop();
    }
    let new = match of_type(message) {
        _ if is_unknown_key => None,
        Some((_, "a string")) => stand_in("\"\""),
        Some((_, "a sequence")) => stand_in("[]"),
        Some((_, "a boolean")) => stand_in("false"),
        Some((_, "i64")) => stand_in("0"),
        Some((_, "f64")) => stand_in("0.0"),
        Some((_, other)) if other.starts_with("struct ") || other == "a map" => stand_in("{}"),
        Some(_) => None,
        None if message.starts_with("unknown variant") => {
            let known = (*quoted(message).get(1)?).to_owned();
            Some(DeValue::String(known.into()))
        }
        None => None,
    };
    match (new, place.pop()?) {
        (Some(new), last) => {
            place.push(last);
            let value = value_mut(root.get_mut(), &place)?;
            *value = Spanned::new(value.span(), new);
        }
        (None, Step::Key(name)) => {
            table_mut(root.get_mut(), &place)?.remove(name.as_str())?;
        }
        // The number of every other element stays.
        (None, last @ Step::Index(_)) => {
            place.push(last);
            let value = value_mut(root.get_mut(), &place)?;
            *value = Spanned::new(value.span(), stand_in("\"\"")?);
        }
    }
    Some(())
}

/// A step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// A way as it is told: `campaign[0].sku[1].id`.
fn dotted(place: &[Step]) -> String {
    let mut path = String::new();
    for step in place {
        match step {
            Step::Key(name) if path.is_empty() => path.push_str(name),
            Step::Key(name) => path += &format!(".{name}"),
            Step::Index(index) => path += &format!("[{index}]"),
        }
    }
    path
}

fn value_mut<'v, 't>(
    table: &'v mut DeTable<'t>,
    place: &[Step],
) -> Option<&'v mut Spanned<DeValue<'t>>> {
    let (Step::Key(first), rest) = place.split_first()? else {
        return None;
    };
    let mut value = table.get_mut(first.as_str())?;
    for step in rest {
        value = match (step, value.get_mut()) {
            (Step::Key(name), DeValue::Table(table)) => table.get_mut(name.as_str())?,
            (Step::Index(index), DeValue::Array(array)) => array.get_mut(*index)?,
            _ => return None,
        };
    }
    Some(value)
}

fn table_mut<'v, 't>(root: &'v mut DeTable<'t>, place: &[Step]) -> Option<&'v mut DeTable<'t>> {
    if place.is_empty() {
        return Some(root);
    }
    match value_mut(root, place)?.get_mut() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// The way to the key or value that holds this place of the text.
fn place_at(table: &DeTable<'_>, at: usize) -> Option<Vec<Step>> {
    let mut found = None;
    for (key, value) in table {
        let step = || Step::Key(key.get_ref().to_string());
        let inner = inner_at(value.get_ref(), at);
        let is_inside = !inner.is_empty();
        if is_inside || key.span().contains(&at) || value.span().contains(&at) {
            let place = std::iter::once(step()).chain(inner).collect();
            if is_inside {
                return Some(place);
            }
            found = Some(place);
        }
    }
    found
}

fn inner_at(value: &DeValue<'_>, at: usize) -> Vec<Step> {
    match value {
        DeValue::Table(table) => place_at(table, at).unwrap_or_default(),
        DeValue::Array(array) => {
            let holding = array.iter().enumerate().find_map(|(index, item)| {
                let inner = inner_at(item.get_ref(), at);
                let holds = !inner.is_empty() || item.span().contains(&at);
                holds.then(|| std::iter::once(Step::Index(index)).chain(inner).collect())
            });
            holding.unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// Where the key of a dotted path stands; of a path that is not there, its nearest parent.
fn start_of(root: &DeTable<'_>, path: &str) -> Option<usize> {
    let (segment, rest) = path.split_once('.').unwrap_or((path, ""));
    let mut parts = segment.split('[');
    let name = parts.next().unwrap_or_default();
    // A key may itself have dots in it, as properties of librdkafka do.
    let whole = || root.get_key_value(path).map(|(key, _)| key.span().start);
    let Some((key, mut value)) = root.get_key_value(name) else {
        return whole();
    };
    let mut at = key.span().start;
    for index in parts {
        let index = index.trim_end_matches(']').parse::<usize>().ok();
        let items = value.get_ref().as_array();
        let Some(item) = items.zip(index).and_then(|(items, index)| items.get(index)) else {
            return Some(at);
        };
        at = item.span().start;
        value = item;
    }
    let inner = value.get_ref().as_table();
    inner.and_then(|inner| start_of(inner, rest)).or(Some(at))
}
