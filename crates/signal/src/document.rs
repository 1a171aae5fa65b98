//! A TOML file that a person wrote, read with every mistake in it.
//!
//! Owns how a mistake is told: the file, the line, the key, what was found, what was expected and
//! the nearest valid name. Reading goes on after a mistake, so that all of them are told at once. It
//! must never guess what was meant.

use std::cell::RefCell;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::shown;

/// Mistakes that are told of one set of files; further ones are counted.
const MISTAKES_MAX: usize = 100;

/// Characters of a text from a file that a mistake repeats.
const SHOWN_CHARS_MAX: usize = 80;

/// Characters of the longest list of names in a mistake.
const NAMES_CHARS_MAX: usize = 1_000;

/// The longest name that is compared with the known ones.
const NAME_BYTES_COMPARED_MAX: usize = 256;

/// A value in its place.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, by the name that was given for it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what was expected.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Every mistake that was found, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", .list.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Mistakes {
    /// The first hundred.
    pub list: Vec<Mistake>,
}

/// A file being read.
pub struct Document<'a> {
    file: &'a str,
    text: &'a str,
    mistakes: RefCell<Vec<Mistake>>,
}

impl<'a> Document<'a> {
    /// A file by its name and content.
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            mistakes: RefCell::default(),
        }
    }

    /// Its tables; `None`, with the mistake noted, where it is no TOML.
    pub fn parse(&self) -> Option<Spanned<DeTable<'a>>> {
        DeTable::parse(self.text)
            .map_err(|error| {
                let at = error.span().map_or(0, |span| span.start);
                self.mistake(at, format!("no valid TOML: {}", error.message()));
            })
            .ok()
    }

    /// Notes a mistake at a byte of the file.
    pub fn mistake(&self, at: usize, what: impl Into<String>) {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let mistake = Mistake {
            file: self.file.to_owned(),
            line,
            what: shown(&what.into(), 4 * NAMES_CHARS_MAX),
        };
        let mut mistakes = self.mistakes.borrow_mut();
        if mistakes.len() < MISTAKES_MAX && !mistakes.contains(&mistake) {
            mistakes.push(mistake);
        }
    }

    /// What was found so far.
    pub fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes.into_inner()
    }

    /// Whether nothing was found so far.
    pub fn is_sound(&self) -> bool {
        self.mistakes.borrow().is_empty()
    }

    /// The tables of an array of tables, each begun by `[[name]]`.
    pub fn tables<'d>(
        &'d self,
        root: &'d DeTable<'a>,
        name: &'static str,
        keys: &'static [&'static str],
    ) -> Vec<Table<'d, 'a>> {
        let Some(value) = root.get(name) else {
            return Vec::new();
        };
        let DeValue::Array(values) = value.get_ref() else {
            let what = format!(
                "{name} is {}; expected tables, each begun by [[{name}]]",
                found(value)
            );
            self.mistake(value.span().start, what);
            return Vec::new();
        };
        let tables = values.iter().map(|value| self.table(value, name, keys));
        tables.flatten().collect()
    }

    /// A value that has to be a table with no other keys than these.
    pub fn table<'d>(
        &'d self,
        value: &'d Value<'a>,
        what: &str,
        keys: &'static [&'static str],
    ) -> Option<Table<'d, 'a>> {
        let DeValue::Table(table) = value.get_ref() else {
            let what = format!("{what} is {}; expected a table", found(value));
            self.mistake(value.span().start, what);
            return None;
        };
        let table = Table {
            document: self,
            table,
            at: value.span().start,
            what: what.to_owned(),
        };
        table.check(keys);
        Some(table)
    }

    /// Notes the keys of the file's root that mean nothing.
    pub fn check_root(&self, root: &DeTable<'a>, keys: &[&str]) {
        for (key, _) in root.iter() {
            if !keys.contains(&key.get_ref().as_ref()) {
                self.mistake(key.span().start, unknown("table", key.get_ref(), keys));
            }
        }
    }
}

/// A table of a [`Document`].
pub struct Table<'d, 'a> {
    /// The document.
    pub document: &'d Document<'a>,
    table: &'d DeTable<'a>,
    /// Byte at which it begins.
    pub at: usize,
    /// What it is, for mistakes: `measure "sold"`.
    pub what: String,
}

impl<'d, 'a> Table<'d, 'a> {
    fn check(&self, keys: &[&str]) {
        if keys.is_empty() {
            return;
        }
        for (key, _) in self.table.iter() {
            if !keys.contains(&key.get_ref().as_ref()) {
                let what = unknown("key", key.get_ref(), keys);
                self.mistake(key.span().start, &what);
            }
        }
    }

    /// Notes a mistake in this table.
    pub fn mistake(&self, at: usize, what: &str) {
        self.document.mistake(at, format!("{}: {what}", self.what));
    }

    /// Its keys and values, in the order of the file.
    pub fn entries(&self) -> Vec<(&'d str, usize, &'d Value<'a>)> {
        let entries = self.table.iter();
        let mut entries: Vec<_> = entries
            .map(|(key, value)| (key.get_ref().as_ref(), key.span().start, value))
            .collect();
        entries.sort_by_key(|(_, at, _)| *at);
        entries
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'d Value<'a>> {
        self.table.get(key)
    }

    /// Where the value of a key is, or the table.
    pub fn place(&self, key: &str) -> usize {
        self.get(key).map_or(self.at, |value| value.span().start)
    }

    /// Notes that a value is not what is expected.
    pub fn unfit(&self, value: &Value<'_>, key: &str, expected: &str) {
        let what = format!("{key} is {}; expected {expected}", found(value));
        self.mistake(value.span().start, &what);
    }

    /// Notes that a key is missing.
    pub fn missing(&self, key: &str, expected: &str) {
        self.mistake(self.at, &format!("{key} is missing; expected {expected}"));
    }

    /// A text, where there is one.
    pub fn text(&self, key: &str) -> Option<&'d str> {
        let value = self.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.unfit(value, key, "a text in quotes");
        }
        text
    }

    /// A text that has to be there.
    pub fn required(&self, key: &str, expected: &str) -> Option<&'d str> {
        if self.get(key).is_none() {
            self.missing(key, expected);
        }
        self.text(key)
    }

    /// A list; what is no list is noted.
    pub fn list(&self, key: &str) -> Option<&'d [Value<'a>]> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Array(values) => Some(values),
            _ => {
                self.unfit(value, key, "a list in [ ]");
                None
            }
        }
    }

    /// A whole number of at least 0.
    pub fn count(&self, key: &str) -> Option<u64> {
        let value = self.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        if number.is_none() {
            self.unfit(value, key, "a whole number of at least 0");
        }
        number
    }

    /// A span of time such as `"10m"`, in ms, of at least one.
    pub fn duration_ms(&self, key: &str) -> Option<i64> {
        let text = self.text(key)?;
        let parsed = duration_ms(text);
        if parsed.is_none() {
            let value = self.get(key)?;
            self.unfit(value, key, DURATION);
        }
        parsed
    }
}

/// What a span of time looks like.
pub const DURATION: &str = "a span of time such as \"10s\", \"1m 30s\", \"24h\" or \"28d\"";

/// A span of time in ms: numbers with `ms`, `s`, `m`, `h` or `d`.
pub fn duration_ms(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut sum_ms = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let letters = &rest[digits..];
        let end = letters
            .find(|c: char| !c.is_ascii_lowercase())
            .unwrap_or(letters.len());
        let unit_ms = match &letters[..end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum_ms = sum_ms.checked_add(number.checked_mul(unit_ms)?)?;
        rest = letters[end..].trim_start();
    }
    (sum_ms > 0).then_some(sum_ms)
}

/// What a value is, for a mistake.
pub fn found(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => format!("{:?}", shown(text, SHOWN_CHARS_MAX)),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Says that a name means nothing here, with the nearest one or all there are.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let name = shown(name, SHOWN_CHARS_MAX);
    let hint = match nearest(&name, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => "there is none to name".to_owned(),
        None => {
            let mut known = known.to_vec();
            known.sort_unstable();
            format!(
                "expected one of {}",
                shown(&known.join(", "), NAMES_CHARS_MAX)
            )
        }
    };
    format!("unknown {what} {name:?}; {hint}")
}

/// The name within three edits that are also at most half of what was typed.
pub fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // What is far longer than any name is near to none, and comparing it would cost its square.
    if name.len() > NAME_BYTES_COMPARED_MAX {
        return None;
    }
    let most = (name.chars().count() / 2).min(3);
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(edits, _)| *edits <= most)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_read_and_others_are_not() {
        for (text, ms) in [
            ("10s", 10_000),
            ("1m 30s", 90_000),
            ("1h30m", 5_400_000),
            ("28d", 2_419_200_000),
            ("5ms", 5),
        ] {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5h",
            "1y",
            "0s",
            "99999999999999999d",
        ] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let text = "[[measure]]\nnaem = 'x'\nstream = 3\n[[singal]]\n";
        let document = Document::new("shop.toml", text);
        let root = document.parse().unwrap();
        document.check_root(root.get_ref(), &["measure", "signal"]);
        for table in document.tables(root.get_ref(), "measure", &["name", "stream"]) {
            table.required("name", "a name");
            table.text("stream");
        }
        let mistakes = Mistakes {
            list: document.into_mistakes(),
        };
        insta::assert_snapshot!(mistakes.to_string(), @r#"
        shop.toml:4: unknown table "singal"; did you mean "signal"?
        shop.toml:2: measure: unknown key "naem"; did you mean "name"?
        shop.toml:1: measure: name is missing; expected a name
        shop.toml:3: measure: stream is 3; expected a text in quotes
        "#);
    }
}
