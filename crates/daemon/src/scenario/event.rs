//! The events of a scenario, in the order in which they happen.
//!
//! Owns what `{n}` and `{time}` stand for in an event, and what is filled in where it says nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use anyhow::bail;
use fenghuo_event::{Stream, Timestamp, decode, peek};
use serde_json::Value;

use super::document::{Scenario, Sent, body_of};

/// The rows of a scenario, each with its next event.
pub struct Sending {
    rows: Vec<Row>,
    /// Time of the next event, and the row that sends it.
    next: BinaryHeap<Reverse<(i64, usize)>>,
}

struct Row {
    begin_ms: i64,
    over_ms: i64,
    count: u64,
    sent: u64,
    /// Number of its first event among all of the scenario.
    first: u64,
    stream: Option<Stream>,
    /// Why its first event is none, where that is so.
    wrong: Option<String>,
    parts: Vec<Part>,
}

/// A part of an event's text.
enum Part {
    Text(String),
    Number,
    /// The event's time and so much, ms.
    Time(i64),
}

impl Sending {
    /// Begins with the first event.
    pub fn new(scenario: &Scenario) -> anyhow::Result<Self> {
        let mut rows = Vec::new();
        let mut next = BinaryHeap::new();
        let mut first = 1;
        for sent in &scenario.sent {
            let row = Row::new(scenario.begin_ms, first, sent)?;
            first += sent.count;
            next.push(Reverse((row.begin_ms, rows.len())));
            rows.push(row);
        }
        Ok(Self { rows, next })
    }

    /// What is wrong with the events themselves, a line each.
    pub fn wrong(&self) -> impl Iterator<Item = String> {
        self.rows.iter().filter_map(|row| row.wrong.clone())
    }

    /// The next event, if it happens no later than `to_ms`.
    pub fn next_by(&mut self, to_ms: i64) -> Option<(i64, Option<Stream>, Vec<u8>)> {
        let Reverse((at_ms, index)) = *self.next.peek()?;
        if at_ms > to_ms {
            return None;
        }
        self.next.pop();
        let row = self.rows.get_mut(index)?;
        let value = row.value(at_ms);
        row.sent += 1;
        if row.sent < row.count {
            self.next.push(Reverse((row.next_ms(), index)));
        }
        Some((at_ms, row.stream, value.into_bytes()))
    }
}

impl Row {
    fn new(begin_ms: i64, first: u64, sent: &Sent) -> anyhow::Result<Self> {
        let mut event = sent.event.clone();
        if let Value::Object(event) = &mut event {
            let meta = event
                .entry("meta")
                .or_insert_with(|| Value::Object(serde_json::Map::new()));
            if let Value::Object(meta) = meta {
                for (key, value) in [
                    ("event_id", "scenario-{n}"),
                    ("source", "scenario"),
                    ("occurred_at", "{time}"),
                ] {
                    meta.entry(key).or_insert_with(|| value.into());
                }
            }
        }
        let parts = parts(&event.to_string())?;
        let mut row = Self {
            begin_ms: begin_ms.saturating_add(sent.at_ms),
            over_ms: sent.over_ms,
            count: sent.count,
            sent: 0,
            first,
            stream: None,
            wrong: None,
            parts,
        };
        // An event that is none goes where it can be rejected.
        let value = row.value(row.begin_ms);
        if let Err(rejected) = decode(value.as_bytes(), Some(b"application/json")) {
            row.wrong = Some(format!("line {}: {rejected}", sent.line));
        }
        row.stream = peek(value.as_bytes(), Some(b"application/json")).and_then(|peek| peek.stream);
        Ok(row)
    }

    /// When the event after those that were sent happens.
    fn next_ms(&self) -> i64 {
        let passed = i128::from(self.over_ms) * i128::from(self.sent) / i128::from(self.count);
        let passed = i64::try_from(passed).unwrap_or(self.over_ms);
        self.begin_ms.saturating_add(passed)
    }

    fn value(&self, at_ms: i64) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text += part,
                Part::Number => text += &(self.first + self.sent).to_string(),
                Part::Time(more_ms) => {
                    text += &Timestamp(at_ms.saturating_add(*more_ms)).to_string();
                }
            }
        }
        text
    }
}

/// The mistakes in what is to be filled into the events of a scenario of the file `name`, a line each.
pub fn mistakes<'a>(name: &'a str, scenario: &'a Scenario) -> impl Iterator<Item = String> + 'a {
    scenario.sent.iter().filter_map(move |sent| {
        let wrong = parts(&sent.event.to_string()).err()?;
        Some(format!("{name}:{}: {wrong}", sent.line))
    })
}

/// Cuts an event's text where something is to be filled in.
fn parts(text: &str) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut done = String::new();
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        done += before;
        let (part, bytes) = match from.split_once('}') {
            Some(("{n", _)) => (Some(Part::Number), 3),
            Some((inner, _)) if inner.starts_with("{time") => {
                let span = inner.strip_prefix("{time").unwrap_or_default();
                let Some(more_ms) = more_ms(span) else {
                    bail!(
                        "{inner}}}: expected {{time}} or the time before or after it, \
                         such as {{time+48h}}"
                    );
                };
                (Some(Part::Time(more_ms)), inner.len() + 1)
            }
            _ => (None, 1),
        };
        match part {
            Some(part) => parts.extend([Part::Text(std::mem::take(&mut done)), part]),
            None => done.push('{'),
        }
        rest = from.get(bytes..).unwrap_or_default();
    }
    done += rest;
    parts.push(Part::Text(done));
    Ok(parts)
}

fn more_ms(span: &str) -> Option<i64> {
    if span.is_empty() {
        return Some(0);
    }
    let (sign, span) = match span.split_at_checked(1)? {
        ("+", span) => (1, span),
        ("-", span) => (-1, span),
        _ => return None,
    };
    let ms = humantime::parse_duration(span).ok()?.as_millis();
    Some(sign * i64::try_from(ms).ok()?)
}

/// Puts a cell where a path such as `lines.0.sku_id` leads to in the body, or `meta.source` in the
/// event. `null` takes away what stands there.
pub fn set(event: &mut Value, path: &str, cell: &str) -> Result<(), String> {
    let body = event.as_object().and_then(body_of).unwrap_or_default();
    let full = match path.split_once('.') {
        Some(("meta", _)) => path.to_owned(),
        _ => format!("{body}.{path}"),
    };
    let value = serde_json::from_str(cell).unwrap_or_else(|_| Value::String(cell.to_owned()));
    let mut parts: Vec<&str> = full.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let nowhere = || format!("column {path:?} leads to nothing in the event");
    let mut at = event;
    for part in parts {
        at = match at {
            Value::Array(list) => part
                .parse::<usize>()
                .ok()
                .and_then(|index| list.get_mut(index))
                .ok_or_else(nowhere)?,
            Value::Object(map) => map
                .entry(part)
                .or_insert_with(|| Value::Object(serde_json::Map::new())),
            _ => return Err(nowhere()),
        };
    }
    match at {
        Value::Object(map) if value.is_null() => {
            map.remove(last);
        }
        Value::Object(map) => {
            map.insert(last.to_owned(), value);
        }
        Value::Array(list) => {
            let index = last.parse::<usize>().ok();
            *index
                .and_then(|index| list.get_mut(index))
                .ok_or_else(nowhere)? = value;
        }
        _ => return Err(nowhere()),
    }
    Ok(())
}
