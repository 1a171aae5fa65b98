//! Summaries: a template with `{placeholders}`, checked when the rules are read and rendered as
//! plain text with every transition. It must never fail to render: by then someone waits for it.

use std::fmt::Write as _;

use fenghuo_signal::{Entity, Kind, Reading};

use crate::rule::{Field, Limit, Rule, Severity};

/// The placeholders that stand in every template, apart from the entity's parts and the labels.
const NAMES: [&str; 12] = [
    "entity", "value", "lower", "upper", "surprise", "n", "severity", "rule", "signal", "read",
    "limit", "peak",
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Entity,
    Field(Field),
    Sample,
    Severity,
    Rule,
    Signal,
    Read,
    Limit,
    Peak,
    Part(&'static str),
    Label(String),
}

/// A checked template. `{entity}`, `{value}`, `{lower}`, `{upper}`, `{surprise}`, `{n}`,
/// `{severity}`, `{rule}`, `{signal}`; `{read}`, `{limit}` and `{peak}` of the limit that fired;
/// a part of the entity such as `{sku}`; `{label.X}`. `{{` and `}}` stand for the braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pieces: Vec<Piece>,
}

/// What a summary is rendered from, besides the rule.
pub(crate) struct Facts<'a> {
    pub rule: &'a Rule,
    pub entity: &'a Entity,
    pub reading: &'a Reading,
    pub severity: Severity,
    pub limit: &'a Limit,
    pub peak: f64,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A brace without its partner.
    Brace,
    /// A placeholder that there is not, and all that there are.
    Unknown(String, Vec<String>),
}

impl Summary {
    /// The summary of a rule that gives none.
    pub(crate) fn standard() -> Summary {
        let text = |text: &str| Piece::Text(text.to_owned());
        let limit = [text(", limit "), Piece::Limit];
        let mut pieces = vec![
            Piece::Signal,
            text(" of "),
            Piece::Entity,
            text(": "),
            Piece::Read,
        ];
        pieces.extend([text(" at worst "), Piece::Peak]);
        pieces.extend(limit);
        Summary { pieces }
    }

    /// Checks a template. `kinds` are those that the rule watches (none is any), `labels` the
    /// names of its labels.
    pub(crate) fn parse(template: &str, kinds: &[Kind], labels: &[&str]) -> Result<Summary, Fault> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut chars = template.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.peek() == Some(&c) => {
                    chars.next();
                    text.push(c);
                }
                '}' => return Err(Fault::Brace),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some('}') => break,
                            Some('{') | None => return Err(Fault::Brace),
                            Some(c) => name.push(c),
                        }
                    }
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    pieces.push(placeholder(&name, kinds, labels)?);
                }
                c => text.push(c),
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Summary { pieces })
    }

    /// The text for one transition, without control characters: names come from outside.
    pub(crate) fn render(&self, facts: &Facts<'_>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                // Writing into a String cannot fail.
                Piece::Entity => _ = write!(out, "{}", facts.entity),
                Piece::Field(field) => number(&mut out, field.of(facts.reading)),
                Piece::Sample => _ = write!(out, "{}", facts.reading.n),
                Piece::Severity => out.push_str(facts.severity.as_str()),
                Piece::Rule => out.push_str(&facts.rule.name),
                Piece::Signal => out.push_str(&facts.rule.signal),
                Piece::Read => out.push_str(facts.limit.read.as_str()),
                Piece::Limit => number(&mut out, facts.limit.at),
                Piece::Peak => number(&mut out, facts.peak),
                Piece::Part(name) => out.push_str(facts.entity.part(name).unwrap_or("-")),
                Piece::Label(name) => {
                    out.push_str(facts.rule.labels.get(name).map_or("-", String::as_str));
                }
            }
        }
        if out.contains(char::is_control) {
            out = out.replace(char::is_control, " ");
        }
        out
    }
}

fn placeholder(name: &str, kinds: &[Kind], labels: &[&str]) -> Result<Piece, Fault> {
    if let Some(field) = Field::ALL.into_iter().find(|field| field.as_str() == name) {
        return Ok(Piece::Field(field));
    }
    if let Some(label) = name.strip_prefix("label.")
        && labels.contains(&label)
    {
        return Ok(Piece::Label(label.to_owned()));
    }
    if let Some(part) = part_names(kinds).into_iter().find(|part| *part == name) {
        return Ok(Piece::Part(part));
    }
    Ok(match name {
        "entity" => Piece::Entity,
        "n" => Piece::Sample,
        "severity" => Piece::Severity,
        "rule" => Piece::Rule,
        "signal" => Piece::Signal,
        "read" => Piece::Read,
        "limit" => Piece::Limit,
        "peak" => Piece::Peak,
        _ => {
            let mut known: Vec<String> = NAMES.map(str::to_owned).to_vec();
            known.extend(part_names(kinds).into_iter().map(str::to_owned));
            known.extend(labels.iter().map(|label| format!("label.{label}")));
            return Err(Fault::Unknown(name.to_owned(), known));
        }
    })
}

/// The names of the parts of these kinds, of every kind if there are none, each once.
pub(crate) fn part_names(kinds: &[Kind]) -> Vec<&'static str> {
    let kinds: Vec<Kind> = match kinds {
        [] => Kind::all().collect(),
        kinds => kinds.to_vec(),
    };
    let mut names: Vec<&'static str> = Vec::new();
    for (first, second) in kinds
        .iter()
        .filter(|kind| **kind != Kind::SHOP)
        .map(|k| k.parts())
    {
        for name in [Some(first), second].into_iter().flatten() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// A number for people: at most three decimals, none that says nothing.
fn number(out: &mut String, x: f64) {
    if x.abs() >= 1e12 {
        _ = write!(out, "{x:.3e}");
        return;
    }
    let text = format!("{x:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    out.push_str(if text == "-0" { "0" } else { text });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let table = [
            (0.0, "0"),
            (-0.0001, "0"),
            (0.58, "0.58"),
            (2.0, "2"),
            (100.0, "100"),
            (1.23456, "1.235"),
            (-3.1, "-3.1"),
            (1e9, "1000000000"),
            (f64::MAX, "1.798e308"),
        ];
        for (x, expected) in table {
            let mut out = String::new();
            number(&mut out, x);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn the_parts_are_those_of_the_kinds() {
        assert_eq!(
            part_names(&[Kind::SKU, Kind::SKU_LOCATION]),
            ["sku", "location"]
        );
        assert!(part_names(&[Kind::SHOP]).is_empty());
        assert!(part_names(&[]).contains(&"lane"));
    }
}
