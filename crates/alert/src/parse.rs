//! Rules from TOML: raw tables to validated rules.
//!
//! Owns what each key may hold and every error that a person can make in a rules file. It never
//! guesses: what is not understood is an error with the file, the line and the nearest name.

use std::collections::BTreeMap;
use std::sync::Arc;

use fenghuo_signal::Kind;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Problem, RuleError};
use crate::reader::{LIST_COUNT_MAX, Reader, Value};
use crate::rule::{Field, Filter, Limit, Rule, Rules, Severity, Side};
use crate::summary::{Fault, Summary, part_names};

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

/// Mistakes that are told at most.
const MISTAKES_MAX: usize = 64;

/// Reads `text` and lays its rules over `base`. Reading goes on after a mistake: the first one of each
/// rule is told, at least one.
pub(crate) fn overlay(
    base: Vec<Rule>,
    file: &str,
    text: &str,
    signals: &[&str],
) -> Result<Vec<Rule>, Vec<RuleError>> {
    let mut reader = Reader {
        file,
        text,
        signals,
        rule: None,
    };
    let root = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        vec![reader.error(at, Problem::syntax(error.message()))]
    })?;
    let mut mistakes = Vec::new();
    // A file of the catalogue holds rules beside what it is made for.
    let keys = reader.check_keys("", root.get_ref(), &["rule", "measure", "signal"]);
    mistakes.extend(keys.err());
    let tables = match root.get_ref().get("rule") {
        None => &[][..],
        Some(list) => match list.get_ref() {
            DeValue::Array(list) => list.as_ref(),
            _ => {
                mistakes.push(reader.unfit(list, "rule", "tables, each begun by [[rule]]"));
                &[][..]
            }
        },
    };
    let mut rules = base;
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for value in tables {
        mistakes.extend(reader.read(value, &mut lines, &mut rules).err());
        // Each costs a look for its line, and nobody reads so many.
        if mistakes.len() == MISTAKES_MAX {
            break;
        }
    }
    // A rule with a mistake in it is not known, and others may name it.
    if mistakes.is_empty() {
        let unknown = tables
            .iter()
            .map(|value| reader.check_inhibitors(value, &rules));
        mistakes.extend(unknown.filter_map(Result::err).take(MISTAKES_MAX));
    }
    match mistakes.is_empty() {
        true => Ok(rules),
        false => Err(mistakes),
    }
}

impl Reader<'_> {
    /// Reads one rule and lays it over the others; `lines` has where those of this file are.
    fn read(
        &mut self,
        value: &Value<'_>,
        lines: &mut BTreeMap<String, usize>,
        rules: &mut Vec<Rule>,
    ) -> Result<(), RuleError> {
        self.rule = None;
        let name = self.name_of(value)?;
        self.rule = Some(name.clone());
        let at = value.span().start;
        if let Some(line) = lines.insert(name.clone(), self.line(at)) {
            let found = format!("{name:?}, as at line {line}");
            return Err(self.error(at, Problem::unfit("name", found, "a name of its own")));
        }
        self.lay(value, name, rules)
    }

    /// Reads the name first, so that every further error tells it.
    fn name_of(&self, value: &Value<'_>) -> Result<String, RuleError> {
        const EXPECTED: &str =
            "lower-case letters, digits, '-' and '.', from a letter on, at most 64";
        let table = self.table(value, "rule")?;
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
        if fits {
            Ok(text.to_owned())
        } else {
            Err(self.unfit(name, "name", EXPECTED))
        }
    }

    /// Puts one rule into its place in the list, or takes it out.
    fn lay(&self, value: &Value<'_>, name: String, rules: &mut Vec<Rule>) -> Result<(), RuleError> {
        let table = self.table(value, "rule")?;
        self.check_keys("", table, &RULE_KEYS)?;
        let at = value.span().start;
        let place = rules.iter().position(|rule| rule.name == name);
        if !self.flag(table, "enabled", true)? {
            let place = place.ok_or_else(|| {
                let known = rules.iter().map(|rule| rule.name.as_str());
                self.error(at, Problem::unknown("rule to disable", &name, known))
            })?;
            rules.remove(place);
            return Ok(());
        }
        let rule = self.rule(value, table, name)?;
        match place {
            Some(place) => rules[place] = rule,
            None if rules.len() < Rules::COUNT_MAX => rules.push(rule),
            None => {
                let expected = format!("at most {} rules", Rules::COUNT_MAX);
                return Err(self.error(at, Problem::unfit("rule", "one more", expected)));
            }
        }
        Ok(())
    }

    /// Run when all rules are known, since a rule may name one that comes after it.
    fn check_inhibitors(&self, value: &Value<'_>, rules: &[Rule]) -> Result<(), RuleError> {
        let table = self.table(value, "rule")?;
        let own = table.get("name").and_then(|name| name.get_ref().as_str());
        let Some(value) = table.get("inhibited_by") else {
            return Ok(());
        };
        let names = rules
            .iter()
            .map(|rule| rule.name.as_str())
            .filter(|name| Some(*name) != own);
        let known: Vec<&str> = self.signals.iter().copied().chain(names).collect();
        for (at, name) in self.texts(value, "inhibited_by")? {
            if !known.contains(&name) {
                let known = known.iter().copied();
                let problem = Problem::unknown("rule or signal in inhibited_by", name, known);
                return Err(RuleError {
                    rule: own.map(str::to_owned),
                    ..self.error(at, problem)
                });
            }
        }
        Ok(())
    }

    fn rule(
        &self,
        value: &Value<'_>,
        table: &DeTable<'_>,
        name: String,
    ) -> Result<Rule, RuleError> {
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
            name,
            signal,
            filter,
            limits,
            keep_firing_ms: self.duration_ms(table, "keep_firing")?.unwrap_or(0),
            least_sample: self.count(table, "least_sample")?,
            playbook: self.optional_text(table, "playbook")?,
            owner_role: self.optional_text(table, "owner_role")?,
            labels: Arc::new(labels),
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
                    let known = Kind::all().map(Kind::name);
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
        let table = self.table(value, &format!("a limit of {key}"))?;
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
