//! Rules from TOML: raw tables to validated rules.
//!
//! Owns what each key may hold and every error that a person can make in a rules file. It never
//! guesses: what is not understood is an error with the file, the line and the nearest name.

use std::collections::BTreeMap;

use fenghuo_signal::Kind;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::rule::{Field, Filter, Limit, Rule, Rules, Severity, Side};
use crate::summary::{Fault, Summary, part_names};

/// The longest hold or keep_firing.
const DURATION_MS_MAX: u128 = 30 * 24 * 3_600 * 1_000;
/// The most limits, labels, inhibitors, kinds in one rule.
const LIST_COUNT_MAX: usize = 32;
/// The longest text of any key.
const TEXT_BYTES_MAX: usize = 1_024;
/// The longest name of a rule, which is a metric label and a part of episode ids.
const NAME_BYTES_MAX: usize = 64;

const RULE_KEYS: [&str; 14] = [
    "name",
    "enabled",
    "signal",
    "where",
    "warn",
    "page",
    "hold",
    "keep_firing",
    "least_sample",
    "playbook",
    "owner_role",
    "labels",
    "summary",
    "inhibited_by",
];
const LIMIT_KEYS: [&str; 5] = ["read", "below", "above", "clear", "hold"];

/// A mistake in a rules file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {}{problem}", .rule.as_ref().map(|name| format!("rule {name:?}: ")).unwrap_or_default())]
pub struct RuleError {
    /// The file, by the name that was given for it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule, where it got as far as a name.
    pub rule: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong in a rules file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is no TOML.
    #[error("no valid TOML: {0}")]
    Syntax(String),
    /// A name that means nothing here.
    #[error("unknown {what} {name:?}; {hint}")]
    Unknown {
        /// What it would be the name of: a key, a signal, a kind …
        what: String,
        /// The name.
        name: String,
        /// The nearest name, or else all there are.
        hint: String,
    },
    /// Something that must be there is not.
    #[error("{key} is missing; expected {expected}")]
    Missing {
        /// The key.
        key: String,
        /// What it would hold.
        expected: String,
    },
    /// Something that is there cannot be.
    #[error("{key} is {found}; expected {expected}")]
    Unfit {
        /// The key.
        key: String,
        /// What it holds.
        found: String,
        /// What it would hold.
        expected: String,
    },
}

impl Problem {
    fn unknown<'k>(
        what: impl Into<String>,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> Problem {
        let mut known: Vec<&str> = known.into_iter().collect();
        known.sort_unstable();
        known.dedup();
        let hint = match nearest(name, &known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("expected one of {}", known.join(", ")),
        };
        Problem::Unknown {
            what: what.into(),
            name: name.to_owned(),
            hint,
        }
    }

    fn missing(key: impl Into<String>, expected: &str) -> Problem {
        Problem::Missing {
            key: key.into(),
            expected: expected.to_owned(),
        }
    }

    fn unfit(
        key: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Problem {
        Problem::Unfit {
            key: key.into(),
            found: found.into(),
            expected: expected.into(),
        }
    }
}

/// The name within three edits that are also fewer than half of what was typed.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let most = (name.chars().count() / 2).min(3);
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .filter(|(edits, _)| *edits <= most)
        .min()
        .map(|(_, known)| known)
}

/// Reads `text` and lays its rules over `base`.
pub(crate) fn overlay(
    base: Vec<Rule>,
    file: &str,
    text: &str,
    signals: &[&str],
) -> Result<Vec<Rule>, RuleError> {
    let mut reader = Reader {
        file,
        text,
        signals,
        rule: None,
    };
    let root = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        reader.error(at, Problem::Syntax(error.message().to_owned()))
    })?;
    reader.check_keys("", root.get_ref(), &["rule"])?;
    let tables = match root.get_ref().get("rule") {
        None => &[][..],
        Some(list) => match list.get_ref() {
            DeValue::Array(list) => list.as_ref(),
            _ => return Err(reader.unfit(list, "rule", "tables, each begun by [[rule]]")),
        },
    };
    let mut rules = base;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut inhibitors: Vec<(usize, String, String)> = Vec::new();
    for value in tables {
        reader.rule = None;
        let table = reader.table(value, "rule")?;
        reader.name_of(value, table)?;
        let name = reader.rule.clone().unwrap_or_default();
        let line = reader.line(value.span().start);
        if let Some(first) = seen.insert(name.clone(), line) {
            let found = format!("{name:?}, as at line {first}");
            return Err(reader.error(
                value.span().start,
                Problem::unfit("name", found, "a name of its own"),
            ));
        }
        let place = rules.iter().position(|rule| rule.name == name);
        if !reader.flag(table, "enabled", true)? {
            match place {
                Some(place) => _ = rules.remove(place),
                None => {
                    let known = rules.iter().map(|rule| rule.name.as_str());
                    let problem = Problem::unknown("rule to disable", &name, known);
                    return Err(reader.error(value.span().start, problem));
                }
            }
            continue;
        }
        let rule = reader.rule(value, table)?;
        for by in &rule.inhibited_by {
            let at = table
                .get("inhibited_by")
                .map_or(0, |value| value.span().start);
            inhibitors.push((at, name.clone(), by.clone()));
        }
        match place {
            Some(place) => rules[place] = rule,
            None => rules.push(rule),
        }
        if rules.len() > Rules::COUNT_MAX {
            let expected = format!("at most {} rules", Rules::COUNT_MAX);
            return Err(reader.error(
                value.span().start,
                Problem::unfit("rule", "one more", expected),
            ));
        }
    }
    // Checked at the end, since a rule may name one that comes after it; and only what this text
    // says, since an inhibitor that it disables simply never speaks.
    for (at, rule, by) in inhibitors {
        let known = || {
            signals
                .iter()
                .copied()
                .chain(rules.iter().map(|rule| rule.name.as_str()))
        };
        if !known().any(|name| name == by) {
            reader.rule = Some(rule);
            return Err(reader.error(
                at,
                Problem::unknown("rule or signal in inhibited_by", &by, known()),
            ));
        }
    }
    Ok(rules)
}

type Value<'t> = Spanned<DeValue<'t>>;

/// Reads one file; knows where it is for the errors.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    signals: &'a [&'a str],
    rule: Option<String>,
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self
            .text
            .bytes()
            .take(at)
            .filter(|byte| *byte == b'\n')
            .count()
    }

    fn error(&self, at: usize, problem: Problem) -> RuleError {
        RuleError {
            file: self.file.to_owned(),
            line: self.line(at),
            rule: self.rule.clone(),
            problem,
        }
    }

    /// The value is of the wrong type, or beyond its bound.
    fn unfit(&self, value: &Value<'_>, key: &str, expected: &str) -> RuleError {
        let found = match value.get_ref() {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(flag) => flag.to_string(),
            other => format!("of type {}", other.type_str()),
        };
        self.error(value.span().start, Problem::unfit(key, found, expected))
    }

    fn check_keys(&self, of: &str, table: &DeTable<'_>, known: &[&str]) -> Result<(), RuleError> {
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

    fn table<'t, 'v>(&self, value: &'v Value<'t>, key: &str) -> Result<&'v DeTable<'t>, RuleError> {
        value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.unfit(value, key, "a table"))
    }

    fn text<'v>(&self, value: &'v Value<'_>, key: &str) -> Result<&'v str, RuleError> {
        let text = value
            .get_ref()
            .as_str()
            .filter(|text| text.len() <= TEXT_BYTES_MAX);
        text.ok_or_else(|| self.unfit(value, key, "a text of at most 1024 bytes"))
    }

    fn optional_text(&self, table: &DeTable<'_>, key: &str) -> Result<Option<String>, RuleError> {
        let Some(value) = table.get(key) else {
            return Ok(None);
        };
        match self.text(value, key)? {
            "" => Err(self.unfit(value, key, "a text that is not empty")),
            text => Ok(Some(text.to_owned())),
        }
    }

    fn flag(&self, table: &DeTable<'_>, key: &str, default: bool) -> Result<bool, RuleError> {
        let Some(value) = table.get(key) else {
            return Ok(default);
        };
        value
            .get_ref()
            .as_bool()
            .ok_or_else(|| self.unfit(value, key, "true or false"))
    }

    fn count(&self, table: &DeTable<'_>, key: &str) -> Result<u64, RuleError> {
        let Some(value) = table.get(key) else {
            return Ok(0);
        };
        let number = value.get_ref().as_integer();
        let number = number.and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        number.ok_or_else(|| self.unfit(value, key, "a whole number from 0 up"))
    }

    fn number(&self, value: &Value<'_>, key: &str) -> Result<f64, RuleError> {
        let number = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| self.unfit(value, key, "a finite number"))
    }

    fn duration_ms(&self, table: &DeTable<'_>, key: &str) -> Result<Option<i64>, RuleError> {
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
    fn texts<'v>(
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

    /// Reads the name first, so that every further error tells it.
    fn name_of(&mut self, value: &Value<'_>, table: &DeTable<'_>) -> Result<(), RuleError> {
        const EXPECTED: &str =
            "lower-case letters, digits, '-' and '.', from a letter on, at most 64";
        let Some(name) = table.get("name") else {
            // The likeliest cause is a misspelt key, which is then the better message.
            self.check_keys("", table, &RULE_KEYS)?;
            return Err(self.error(value.span().start, Problem::missing("name", EXPECTED)));
        };
        let text = self.text(name, "name")?;
        let fits = text.len() <= NAME_BYTES_MAX
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
        if !fits {
            return Err(self.unfit(name, "name", EXPECTED));
        }
        self.rule = Some(text.to_owned());
        self.check_keys("", table, &RULE_KEYS)
    }

    fn rule(&self, value: &Value<'_>, table: &DeTable<'_>) -> Result<Rule, RuleError> {
        let signal = self.optional_text(table, "signal")?.ok_or_else(|| {
            self.error(
                value.span().start,
                Problem::missing("signal", "the name of a signal"),
            )
        })?;
        if !self.signals.contains(&signal.as_str()) {
            let at = table.get("signal").map_or(0, |value| value.span().start);
            let problem = Problem::unknown("signal", &signal, self.signals.iter().copied());
            return Err(self.error(at, problem));
        }
        let filter = self.filter(table)?;
        let hold_ms = self.duration_ms(table, "hold")?.unwrap_or(0);
        let mut limits = self.limits(table, Severity::Warn, hold_ms)?;
        limits.extend(self.limits(table, Severity::Page, hold_ms)?);
        if limits.is_empty() {
            let problem = Problem::missing("warn or page", "at least one limit");
            return Err(self.error(value.span().start, problem));
        }
        let labels = self.labels(table)?;
        let summary = self.summary(table, &filter.kinds, &labels)?;
        let inhibited_by = match table.get("inhibited_by") {
            None => Vec::new(),
            Some(value) => {
                let names = self.texts(value, "inhibited_by")?;
                names.into_iter().map(|(_, name)| name.to_owned()).collect()
            }
        };
        Ok(Rule {
            name: self.rule.clone().unwrap_or_default(),
            signal,
            filter,
            limits,
            keep_firing_ms: self.duration_ms(table, "keep_firing")?.unwrap_or(0),
            least_sample: self.count(table, "least_sample")?,
            playbook: self.optional_text(table, "playbook")?,
            owner_role: self.optional_text(table, "owner_role")?,
            labels,
            summary,
            inhibited_by,
        })
    }

    fn filter(&self, table: &DeTable<'_>) -> Result<Filter, RuleError> {
        let Some(value) = table.get("where") else {
            return Ok(Filter::default());
        };
        let table = self.table(value, "where")?;
        let mut filter = Filter::default();
        if let Some(value) = table.get("kind") {
            for (at, name) in self.texts(value, "where.kind")? {
                let kind = Kind::from_name(name).ok_or_else(|| {
                    let known = Kind::ALL.iter().map(|kind| kind.name());
                    self.error(at, Problem::unknown("kind", name, known))
                })?;
                filter.kinds.push(kind);
            }
        }
        // A part that one of the kinds lacks would silently keep that kind out.
        let mut parts = part_names(&filter.kinds);
        parts.retain(|part| {
            filter
                .kinds
                .iter()
                .all(|kind| kind.parts().0 == *part || kind.parts().1 == Some(*part))
        });
        let known: Vec<&str> = ["kind"].into_iter().chain(parts.iter().copied()).collect();
        self.check_keys("where", table, &known)?;
        for part in parts {
            if let Some(value) = table.get(part) {
                filter
                    .parts
                    .push((part, self.text(value, part)?.to_owned()));
            }
        }
        Ok(filter)
    }

    fn limits(
        &self,
        table: &DeTable<'_>,
        severity: Severity,
        hold_ms: i64,
    ) -> Result<Vec<Limit>, RuleError> {
        let key = severity.as_str();
        let Some(value) = table.get(key) else {
            return Ok(Vec::new());
        };
        match value.get_ref() {
            DeValue::Array(list) if list.len() <= LIST_COUNT_MAX => list
                .iter()
                .map(|item| self.limit(item, severity, hold_ms))
                .collect(),
            _ => Err(self.unfit(
                value,
                key,
                "a list of at most 32 limits, such as [{ read = \"value\", below = 0.6 }]",
            )),
        }
    }

    fn limit(
        &self,
        value: &Value<'_>,
        severity: Severity,
        hold_ms: i64,
    ) -> Result<Limit, RuleError> {
        let key = severity.as_str();
        let at = value.span().start;
        let table = self.table(value, key)?;
        self.check_keys(&format!("a limit of {key}"), table, &LIMIT_KEYS)?;
        let fields = || Field::ALL.iter().map(|field| field.as_str());
        let Some(read) = table.get("read") else {
            let problem = Problem::missing(
                format!("read in a limit of {key}"),
                "value, lower, upper or surprise",
            );
            return Err(self.error(at, problem));
        };
        let name = self.text(read, "read")?;
        let read = Field::ALL
            .into_iter()
            .find(|field| field.as_str() == name)
            .ok_or_else(|| {
                self.error(
                    read.span().start,
                    Problem::unknown("field in read", name, fields()),
                )
            })?;
        let (side, limit) = match (table.get("below"), table.get("above")) {
            (Some(below), None) => (Side::Below, self.number(below, "below")?),
            (None, Some(above)) => (Side::Above, self.number(above, "above")?),
            (None, None) => {
                let problem = Problem::missing(
                    format!("below or above in a limit of {key}"),
                    "one of the two",
                );
                return Err(self.error(at, problem));
            }
            (Some(_), Some(_)) => {
                let problem = Problem::unfit(
                    format!("a limit of {key}"),
                    "both below and above",
                    "one of the two",
                );
                return Err(self.error(at, problem));
            }
        };
        let clear = match table.get("clear") {
            None => limit,
            Some(value) => {
                let clear = self.number(value, "clear")?;
                match side {
                    Side::Below if clear < limit => {
                        return Err(self.unfit(
                            value,
                            "clear",
                            &format!("{limit} or more, the healthy side of the limit"),
                        ));
                    }
                    Side::Above if clear > limit => {
                        return Err(self.unfit(
                            value,
                            "clear",
                            &format!("{limit} or less, the healthy side of the limit"),
                        ));
                    }
                    _ => clear,
                }
            }
        };
        let hold_ms = self.duration_ms(table, "hold")?.unwrap_or(hold_ms);
        Ok(Limit {
            severity,
            read,
            side,
            at: limit,
            clear,
            hold_ms,
        })
    }

    fn labels(&self, table: &DeTable<'_>) -> Result<BTreeMap<String, String>, RuleError> {
        let Some(value) = table.get("labels") else {
            return Ok(BTreeMap::new());
        };
        let labels = self.table(value, "labels")?;
        if labels.len() > LIST_COUNT_MAX {
            return Err(self.unfit(value, "labels", "at most 32"));
        }
        let label = |(name, value): (&Spanned<_>, &Value<'_>)| {
            let name: &std::borrow::Cow<'_, str> = name.get_ref();
            Ok((
                name.to_string(),
                self.text(value, &format!("labels.{name}"))?.to_owned(),
            ))
        };
        labels.iter().map(label).collect()
    }

    fn summary(
        &self,
        table: &DeTable<'_>,
        kinds: &[Kind],
        labels: &BTreeMap<String, String>,
    ) -> Result<Summary, RuleError> {
        let Some(value) = table.get("summary") else {
            return Ok(Summary::standard());
        };
        let template = self.text(value, "summary")?;
        let labels: Vec<&str> = labels.keys().map(String::as_str).collect();
        Summary::parse(template, kinds, &labels).map_err(|fault| match fault {
            Fault::Brace => self.unfit(
                value,
                "summary",
                "each brace to open or close a {placeholder}, or doubled to stand for itself",
            ),
            Fault::Unknown(name, known) => {
                let known = known.iter().map(String::as_str);
                let problem = Problem::unknown("placeholder in summary", &name, known);
                self.error(value.span().start, problem)
            }
        })
    }
}
