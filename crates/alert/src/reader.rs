//! Typed values out of a TOML tree, each error with its line.
//!
//! Owns types and bounds; what a key means is not its business.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Problem, RuleError};

/// The longest hold or keep_firing.
const DURATION_MS_MAX: u128 = 30 * 24 * 3_600 * 1_000;
/// The longest text of any key.
const TEXT_BYTES_MAX: usize = 1_024;
/// The most entries of any list.
pub(crate) const LIST_COUNT_MAX: usize = 32;

/// A value and its place in the text.
pub(crate) type Value<'t> = Spanned<DeValue<'t>>;

/// One file being read: the rule that it has come to, for the errors, and the names of the signals.
pub(crate) struct Reader<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub signals: &'a [&'a str],
    pub rule: Option<String>,
}

impl Reader<'_> {
    pub fn line(&self, at: usize) -> usize {
        1 + self
            .text
            .bytes()
            .take(at)
            .filter(|byte| *byte == b'\n')
            .count()
    }

    pub fn error(&self, at: usize, problem: Problem) -> RuleError {
        RuleError {
            file: self.file.to_owned(),
            line: self.line(at),
            rule: self.rule.clone(),
            problem: Box::new(problem),
        }
    }

    /// The value is of the wrong type, or beyond its bound.
    pub fn unfit(&self, value: &Value<'_>, key: &str, expected: &str) -> RuleError {
        let found = match value.get_ref() {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(flag) => flag.to_string(),
            other => format!("of type {}", other.type_str()),
        };
        self.error(value.span().start, Problem::unfit(key, found, expected))
    }

    pub fn check_keys(
        &self,
        of: &str,
        table: &DeTable<'_>,
        known: &[&str],
    ) -> Result<(), RuleError> {
        let unknown = table
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()));
        let Some(key) = unknown.min_by_key(|key| key.span().start) else {
            return Ok(());
        };
        let what = if of.is_empty() {
            "key".to_owned()
        } else {
            format!("key in {of}")
        };
        let problem = Problem::unknown(what, key.get_ref(), known.iter().copied());
        Err(self.error(key.span().start, problem))
    }

    pub fn table<'t, 'v>(
        &self,
        value: &'v Value<'t>,
        key: &str,
    ) -> Result<&'v DeTable<'t>, RuleError> {
        value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.unfit(value, key, "a table"))
    }

    pub fn text<'v>(&self, value: &'v Value<'_>, key: &str) -> Result<&'v str, RuleError> {
        let text = value
            .get_ref()
            .as_str()
            .filter(|text| text.len() <= TEXT_BYTES_MAX);
        text.ok_or_else(|| self.unfit(value, key, "a text of at most 1024 bytes"))
    }

    pub fn optional_text(
        &self,
        table: &DeTable<'_>,
        key: &str,
    ) -> Result<Option<String>, RuleError> {
        let Some(value) = table.get(key) else {
            return Ok(None);
        };
        match self.text(value, key)? {
            "" => Err(self.unfit(value, key, "a text that is not empty")),
            text => Ok(Some(text.to_owned())),
        }
    }

    pub fn flag(&self, table: &DeTable<'_>, key: &str, default: bool) -> Result<bool, RuleError> {
        let Some(value) = table.get(key) else {
            return Ok(default);
        };
        value
            .get_ref()
            .as_bool()
            .ok_or_else(|| self.unfit(value, key, "true or false"))
    }

    pub fn count(&self, table: &DeTable<'_>, key: &str) -> Result<u64, RuleError> {
        let Some(value) = table.get(key) else {
            return Ok(0);
        };
        let number = value.get_ref().as_integer();
        let number = number.and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        number.ok_or_else(|| self.unfit(value, key, "a whole number from 0 up"))
    }

    pub fn number(&self, value: &Value<'_>, key: &str) -> Result<f64, RuleError> {
        let number = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| self.unfit(value, key, "a finite number"))
    }

    pub fn duration_ms(&self, table: &DeTable<'_>, key: &str) -> Result<Option<i64>, RuleError> {
        let Some(value) = table.get(key) else {
            return Ok(None);
        };
        let text = value.get_ref().as_str();
        let ms = text.and_then(|text| humantime::parse_duration(text).ok());
        let ms = ms
            .map(|duration| duration.as_millis())
            .filter(|ms| *ms <= DURATION_MS_MAX);
        match ms.and_then(|ms| i64::try_from(ms).ok()) {
            Some(ms) => Ok(Some(ms)),
            None => Err(self.unfit(
                value,
                key,
                "a duration of at most 30d, such as \"90s\", \"5m\" or \"1h30m\"",
            )),
        }
    }

    /// A list of texts, or one text alone.
    pub fn texts<'v>(
        &self,
        value: &'v Value<'_>,
        key: &str,
    ) -> Result<Vec<(usize, &'v str)>, RuleError> {
        match value.get_ref() {
            DeValue::Array(list) if list.len() <= LIST_COUNT_MAX => list
                .iter()
                .map(|item| Ok((item.span().start, self.text(item, key)?)))
                .collect(),
            DeValue::String(_) => Ok(vec![(value.span().start, self.text(value, key)?)]),
            _ => Err(self.unfit(value, key, "a text, or a list of at most 32")),
        }
    }
}
