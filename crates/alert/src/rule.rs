//! Rules: the limits on a reading, the filter on entities, and the set of rules in force.
//!
//! Owns the validated types; `parse` makes them from TOML. Must never read a file or hold state.

use std::collections::BTreeMap;
use std::sync::Arc;

use fenghuo_signal::{Entity, Kind, Reading, catalogue};
use serde::{Deserialize, Serialize};

use crate::error::RuleError;
use crate::machine::Transition;
use crate::summary::Summary;

/// How bad: a warning goes to the screen and the chat, a page wakes a person.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Someone should look.
    #[default]
    Warn,
    /// Someone must act now.
    Page,
}

impl Severity {
    /// As in rules, metrics and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Warn => "warn",
            Severity::Page => "page",
        }
    }
}

/// The number of a reading that a limit reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The number itself.
    Value,
    /// Its lower bound.
    Lower,
    /// Its upper bound.
    Upper,
    /// −log10 of the probability of something at least as odd.
    Surprise,
}

impl Field {
    /// Every field.
    pub const ALL: [Field; 4] = [Field::Value, Field::Lower, Field::Upper, Field::Surprise];

    /// As in rules and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Field::Value => "value",
            Field::Lower => "lower",
            Field::Upper => "upper",
            Field::Surprise => "surprise",
        }
    }

    /// The number in `reading`.
    pub fn of(self, reading: &Reading) -> f64 {
        match self {
            Field::Value => reading.value,
            Field::Lower => reading.lower,
            Field::Upper => reading.upper,
            Field::Surprise => reading.surprise,
        }
    }
}

/// The side of a limit that is trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Numbers below the limit are.
    Below,
    /// Numbers above the limit are.
    Above,
}

/// One limit of a rule. The limit itself is not yet trouble, and `clear` itself is already clear;
/// between the two the alert keeps the state that it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The severity that it raises.
    pub severity: Severity,
    /// What it reads.
    pub read: Field,
    /// Which side of it is trouble.
    pub side: Side,
    /// The limit.
    pub at: f64,
    /// From here on, towards the healthy side, the limit is clear.
    pub clear: f64,
    /// How long a reading must stay beyond the limit, without a break, before the alert fires.
    pub hold_ms: i64,
}

impl Limit {
    /// Whether the reading is beyond the limit.
    pub fn is_beyond(&self, reading: &Reading) -> bool {
        let x = self.read.of(reading);
        match self.side {
            Side::Below => x < self.at,
            Side::Above => x > self.at,
        }
    }

    /// Whether the reading is clear of the limit.
    pub fn is_clear(&self, reading: &Reading) -> bool {
        let x = self.read.of(reading);
        match self.side {
            Side::Below => x >= self.clear,
            Side::Above => x <= self.clear,
        }
    }

    /// The worse of two numbers, as this limit sees it.
    pub(crate) fn worse(&self, a: f64, b: f64) -> f64 {
        match self.side {
            Side::Below => a.min(b),
            Side::Above => a.max(b),
        }
    }
}

/// Which entities a rule watches: all conditions must hold, and no condition is no restriction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of one of these kinds; empty is any.
    pub kinds: Vec<Kind>,
    /// The name of a part, and a pattern for its value in which `*` stands for any text.
    pub parts: Vec<(&'static str, String)>,
}

impl Filter {
    /// Whether the entity passes.
    pub fn matches(&self, entity: &Entity) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&entity.kind))
            && self
                .parts
                .iter()
                .all(|(name, pattern)| entity.part(name).is_some_and(|value| glob(pattern, value)))
    }
}

/// Whether `text` is as `pattern` says, where `*` stands for any text, also none.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, mut pattern)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    // Taking each middle piece where it first occurs leaves the most for the pieces after it.
    while let Some((piece, rest)) = pattern.split_once('*') {
        let Some(found) = text.find(piece) else {
            return false;
        };
        text = &text[found + piece.len()..];
        pattern = rest;
    }
    text.ends_with(pattern)
}

/// In a file of the catalogue, what follows are rules.
const RULES_MARK: &str = "\n# --- Rules\n";

/// A validated rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name, unique in the set.
    pub name: String,
    /// The signal that it reads.
    pub signal: String,
    /// The entities that it watches.
    pub filter: Filter,
    /// Its limits, of which any fires; at least one.
    pub limits: Vec<Limit>,
    /// How long every reading must be clear, without a break, before the alert is resolved.
    pub keep_firing_ms: i64,
    /// A reading with a smaller sample is taken as insufficient.
    pub least_sample: u64,
    /// The playbook to open.
    pub playbook: Option<String>,
    /// The role that answers for it.
    pub owner_role: Option<String>,
    /// Labels for routes and grouping.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The template of the summary.
    pub summary: Summary,
    /// Rules or signals whose open alerts keep this one quiet. Applied after judging: the alert
    /// itself goes through its states all the same.
    pub inhibited_by: Vec<String>,
}

impl Rule {
    /// Whether the rule watches this entity.
    pub fn watches(&self, entity: &Entity) -> bool {
        self.filter.matches(entity)
    }

    /// Whether the reading is beyond any limit.
    pub fn is_beyond(&self, reading: &Reading) -> bool {
        self.limits.iter().any(|limit| limit.is_beyond(reading))
    }
}

/// The set of rules in force, in the order in which they were given.
///
/// ```
/// use fenghuo_alert::Rules;
/// let rules = Rules::parse(
///     "rules.toml",
///     r#"
///         [[rule]]
///         name = "pace"
///         signal = "sales.pace"
///         page = [{ read = "value", below = 0.6, clear = 0.7 }]
///     "#,
///     &["sales.pace"],
/// )?;
/// assert_eq!(rules.for_signal("sales.pace").count(), 1);
/// # Ok::<(), fenghuo_alert::RuleError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    rules: Vec<Rule>,
    by_signal: BTreeMap<String, Vec<usize>>,
    texts: Vec<String>,
}

impl Rules {
    /// The most rules that a set holds; one more is an error.
    pub const COUNT_MAX: usize = 1_000;

    /// The rules of one TOML text. `file` is its name in errors, `signals` the names of the
    /// signals that there are.
    pub fn parse(file: &str, text: &str, signals: &[&str]) -> Result<Rules, RuleError> {
        Rules::default().with(file, text, signals)
    }

    /// The built-in rules: the defaults of every signal.
    pub fn builtin(signals: &[&str]) -> Result<Rules, RuleError> {
        let mut files = catalogue::BUILT_IN.iter();
        files.try_fold(Rules::default(), |rules, (file, text)| {
            rules.with(file, text, signals)
        })
    }

    /// The text of the built-in rules, in the form of a rules file, with what each key may hold.
    pub fn builtin_text() -> String {
        let mut out = include_str!("rules_head.toml").to_owned();
        for (_, text) in catalogue::BUILT_IN {
            if let Some((_, rules)) = text.split_once(RULES_MARK) {
                out.push_str(rules);
            }
        }
        out
    }

    /// These rules with those of a further text laid over them: a rule with the name of one that
    /// is there takes its place whole, `enabled = false` takes it out, any other is added.
    pub fn with(self, file: &str, text: &str, signals: &[&str]) -> Result<Rules, RuleError> {
        let laid = self.with_all(file, text, signals);
        laid.map_err(|mut mistakes| mistakes.swap_remove(0))
    }

    /// As [`Rules::with`], for a person: tells the first mistake of every rule, at least one.
    pub fn with_all(
        self,
        file: &str,
        text: &str,
        signals: &[&str],
    ) -> Result<Rules, Vec<RuleError>> {
        let mut texts = self.texts;
        let rules = crate::parse::overlay(self.rules, file, text, signals)?;
        texts.push(text.to_owned());
        Ok(Rules::from_list(rules, texts))
    }

    /// The texts that the rules come from, in the order in which they were laid over each other.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    fn from_list(rules: Vec<Rule>, texts: Vec<String>) -> Rules {
        let mut by_signal: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, rule) in rules.iter().enumerate() {
            by_signal
                .entry(rule.signal.clone())
                .or_default()
                .push(index);
        }
        Rules {
            rules,
            by_signal,
            texts,
        }
    }

    /// The rules that read `signal`, each with its index in the set.
    pub fn for_signal(&self, signal: &str) -> impl Iterator<Item = (usize, &Rule)> {
        let indices = self.by_signal.get(signal).map_or(&[][..], Vec::as_slice);
        indices
            .iter()
            .filter_map(|&index| Some((index, self.rules.get(index)?)))
    }

    /// The rule with this index.
    pub fn get(&self, index: usize) -> Option<&Rule> {
        self.rules.get(index)
    }

    /// Lets a transition that was read share what all of its rule's have, where it is the same.
    pub fn share(&self, transition: &mut Transition) {
        if let Some((_, rule)) = self.named(&transition.rule)
            && rule.labels == transition.labels
        {
            transition.labels = Arc::clone(&rule.labels);
        }
    }

    /// The rule with this name, and its index.
    pub fn named(&self, name: &str) -> Option<(usize, &Rule)> {
        self.rules
            .iter()
            .enumerate()
            .find(|(_, rule)| rule.name == name)
    }

    /// Every rule, by index.
    pub fn iter(&self) -> std::slice::Iter<'_, Rule> {
        self.rules.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let table = [
            ("A1", "A1", true),
            ("A1", "A12", false),
            ("*", "", true),
            ("A*", "A", true),
            ("A*", "BA", false),
            ("*1", "A11", true),
            ("A*1", "A", false),
            ("A*A", "A", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*b*b*", "abc", false),
            ("**", "x", true),
            ("烽*", "烽火", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_filter_needs_every_condition() {
        let filter = Filter {
            kinds: vec![Kind::COURIER_LANE],
            parts: vec![("courier", "SF".into()), ("lane", "BJ>*".into())],
        };
        assert!(filter.matches(&Entity::pair(Kind::COURIER_LANE, "SF", "BJ>SH")));
        assert!(!filter.matches(&Entity::pair(Kind::COURIER_LANE, "SF", "SH>BJ")));
        assert!(!filter.matches(&Entity::pair(Kind::COURIER_LANE, "ZTO", "BJ>SH")));
        assert!(!filter.matches(&Entity::one(Kind::COURIER, "SF")));
        assert!(Filter::default().matches(&Entity::shop()));
    }
}
