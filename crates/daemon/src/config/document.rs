//! A TOML file being read: its text, its tree, and errors that name a place in it.
//!
//! Owns the wording of mistakes and the search for lines and nearest names. What a key means is
//! not its business. It must never show the text around a mistake: someone may wrongly have put a
//! secret there.

use std::ops::RangeInclusive;
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
}

impl<'t> Document<'t> {
    /// Parses a text; `file` is its name, and paths in it are relative to the file's folder.
    pub fn parse(file: &'t str, text: &'t str) -> Result<Self, ConfigError> {
        match DeTable::parse(text) {
            Ok(root) => Ok(Self { file, text, root }),
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

    /// Reads the whole file as `T`, whose keys are all there are.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let key = path_at(self.root.get_ref(), at).unwrap_or_default();
            let (key, problem) = worded(key, error.message());
            ConfigError::At {
                file: self.file.to_owned(),
                line: line(self.text, at),
                key: cut(key),
                problem: cut(problem),
            }
        })
    }

    /// A mistake at a key such as `campaign[0].sku[1].id`.
    pub fn error(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let at = start_of(self.root.get_ref(), key).unwrap_or(0);
        ConfigError::At {
            file: self.file.to_owned(),
            line: line(self.text, at),
            key: cut(key.to_owned()),
            problem: cut(problem.into()),
        }
    }

    /// A path named in the file.
    pub fn path(&self, relative: &str) -> PathBuf {
        let folder = Path::new(self.file).parent().unwrap_or(Path::new(""));
        folder.join(relative)
    }

    /// A number that must lie in a range.
    pub fn number<N>(
        &self,
        key: &str,
        value: i64,
        range: RangeInclusive<i64>,
    ) -> Result<N, ConfigError>
    where
        N: TryFrom<i64>,
    {
        let fits = range.contains(&value).then(|| N::try_from(value).ok());
        fits.flatten().ok_or_else(|| {
            let (low, high) = range.into_inner();
            self.error(key, format!("is {value}; expected {low} to {high}"))
        })
    }

    /// A share, rate or expectation that must lie in a range.
    pub fn float(
        &self,
        key: &str,
        value: f64,
        range: RangeInclusive<f64>,
    ) -> Result<f64, ConfigError> {
        if range.contains(&value) {
            return Ok(value);
        }
        let (low, high) = range.into_inner();
        Err(self.error(key, format!("is {value}; expected {low} to {high}")))
    }

    /// A time such as `"90s"` that must lie in a range.
    pub fn duration(
        &self,
        key: &str,
        text: &str,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        let problem = match humantime::parse_duration(text) {
            Ok(time) if range.contains(&time) => return Ok(time),
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
        Err(self.error(key, problem))
    }

    /// As [`Document::duration`], in ms.
    pub fn duration_ms(
        &self,
        key: &str,
        text: &str,
        range: RangeInclusive<Duration>,
    ) -> Result<i64, ConfigError> {
        let time = self.duration(key, text, range)?;
        Ok(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
    }

    /// An amount of bytes such as `"256MiB"` that must lie in a range.
    pub fn bytes(
        &self,
        key: &str,
        text: &str,
        range: RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
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
            Some(bytes) if range.contains(&bytes) => return Ok(bytes),
            Some(_) => {
                let (low, high) = range.into_inner();
                let (low, high) = (low >> 20, high >> 20);
                format!("is {text:?}; expected \"{low}MiB\" to \"{high}MiB\"")
            }
            None => format!("is {text:?}; expected an amount such as \"256MiB\" or \"20GiB\""),
        };
        Err(self.error(key, problem))
    }

    /// An id or name: not empty and not endless.
    pub fn id(&self, key: &str, text: &str, bytes_max: usize) -> Result<String, ConfigError> {
        match text.len() {
            0 => Err(self.error(key, "is empty; expected a name or id")),
            len if len > bytes_max => Err(self.error(
                key,
                format!("is {len} bytes long; expected at most {bytes_max}"),
            )),
            _ => Ok(text.to_owned()),
        }
    }

    /// A name that is not among those known.
    pub fn unknown<'k>(
        &self,
        key: &str,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> ConfigError {
        let known: Vec<&str> = known.into_iter().collect();
        self.error(key, format!("unknown {name:?}{}", hint(name, &known)))
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
    match near {
        Some((_, near)) => format!("; did you mean {near:?}?"),
        None if known.is_empty() => "; there is none to name".to_owned(),
        None => format!("; expected one of {}", known.join(", ")),
    }
}

/// What serde says of a mistake, in our words: it knows the names, but not which is near.
fn worded(key: String, message: &str) -> (String, String) {
    // serde puts every name between back ticks, the wrong one first.
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let parent = || match key.rsplit_once('.') {
        Some((parent, _)) => format!("in [{parent}] "),
        None => String::new(),
    };
    let of_type = message
        .strip_prefix("invalid type: ")
        .and_then(|types| types.rsplit_once(", expected "));
    if let Some((found, expected)) = of_type {
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

/// The dotted path of the key or value that holds this place of the text.
fn path_at(table: &DeTable<'_>, at: usize) -> Option<String> {
    let mut found = None;
    for (key, value) in table {
        let name = key.get_ref();
        if key.span().contains(&at) {
            found = Some(name.to_string());
        } else if value.span().contains(&at) {
            found = Some(format!("{name}{}", inner_at(value.get_ref(), at)));
        }
        let inner = inner_at(value.get_ref(), at);
        if !inner.is_empty() {
            return Some(format!("{name}{inner}"));
        }
    }
    found
}

fn inner_at(value: &DeValue<'_>, at: usize) -> String {
    match value {
        DeValue::Table(table) => {
            path_at(table, at).map_or_else(String::new, |path| format!(".{path}"))
        }
        DeValue::Array(array) => {
            let holding = array.iter().enumerate().find_map(|(index, item)| {
                let inner = inner_at(item.get_ref(), at);
                let holds = !inner.is_empty() || item.span().contains(&at);
                holds.then(|| format!("[{index}]{inner}"))
            });
            holding.unwrap_or_default()
        }
        _ => String::new(),
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
