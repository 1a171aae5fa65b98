//! The verdict: what the topics, the receivers and the instances tell, against what was sent and
//! against each other.
//!
//! Every check is a function of what was found and gives back what is wrong, in words. It must
//! never read anything itself, and never take silence for consent: an empty topic is a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::shown::Shown;
use super::traffic::Ledger;
use crate::consumer::Record;
use crate::oracle::Counted;
use crate::{pagerduty, webhook};

/// Problems of one check that are told; the others are counted.
const TOLD: usize = 8;
/// Channels that every page goes through, as they are configured.
pub const CHANNELS: [&str; 2] = ["pager", "hook"];

/// What was found in the end.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// What the instances showed.
    pub shown: Shown,
    /// Troubles that were over before anybody could see them, by sku.
    pub unseen: BTreeSet<String>,
    /// `fenghuo.alerts`, in order.
    pub alerts: Vec<Value>,
    /// `fenghuo.deliveries`, in order.
    pub deliveries: Vec<Value>,
    /// `fenghuo.dead-letter`.
    pub letters: Vec<Record>,
    /// Messages in each source topic.
    pub messages: BTreeMap<&'static str, u64>,
    /// What one receiver has.
    pub pager: pagerduty::Seen,
    /// What the other has.
    pub hook: webhook::Seen,
}

/// One question and what speaks against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What has to hold.
    pub name: &'static str,
    /// How much was looked at.
    pub about: String,
    /// Why it does not.
    pub problems: Vec<String>,
}

impl Check {
    /// A check that was made.
    pub fn new(name: &'static str, about: impl Into<String>, problems: Vec<String>) -> Self {
        Self {
            name,
            about: about.into(),
            problems,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.problems.is_empty() {
            "ok  "
        } else {
            "FAIL"
        };
        write!(f, "{mark}  {}: {}", self.name, self.about)?;
        for problem in self.problems.iter().take(TOLD) {
            write!(f, "\n        {problem}")?;
        }
        let more = self.problems.len().saturating_sub(TOLD);
        if more > 0 {
            write!(f, "\n        and {more} more")?;
        }
        Ok(())
    }
}

/// All checks of what was found.
pub fn checks(ledger: &Ledger, found: &Found) -> Vec<Check> {
    let Found {
        shown,
        alerts,
        deliveries,
        letters,
        ..
    } = found;
    let sold = &ledger.sold;
    vec![
        Check::new(
            "everything sent is in the topics once",
            format!("{} messages", ledger.messages.values().sum::<u64>()),
            sent(ledger, found),
        ),
        Check::new(
            "totals equal the oracle to the last event",
            format!(
                "{} orders, {} cancelled, {} skus",
                sold.all.orders,
                sold.all.cancelled_orders,
                sold.skus.len()
            ),
            totals(sold, &shown.sold),
        ),
        Check::new(
            "levels equal the oracle to the last event",
            format!("{} skus with stock", ledger.available.len()),
            levels(ledger, shown),
        ),
        Check::new(
            "every message that cannot be taken is set aside once",
            format!("{} wrong, {} late", ledger.wrong, ledger.late),
            dead_letters(ledger, letters),
        ),
        Check::new(
            "no range of the sources was skipped",
            format!("{} holes", shown.holes),
            if shown.holes > 0.0 {
                vec!["an instance tells of holes".to_owned()]
            } else {
                Vec::new()
            },
        ),
        Check::new(
            "no episode is decided twice, each in order",
            format!("{} transitions", alerts.len()),
            episodes(alerts),
        ),
        Check::new(
            "every trouble is one episode, begun and over",
            format!(
                "{} troubles, {} of them over before they could be seen",
                ledger.troubles.len(),
                found.unseen.len()
            ),
            troubles(ledger, &found.unseen, alerts),
        ),
        Check::new(
            "what is shown of an episode is what is in the log",
            format!(
                "{} rows",
                shown.episodes.iter().map(Vec::len).sum::<usize>()
            ),
            shown_episodes(alerts, &shown.episodes),
        ),
        Check::new(
            "every page is decided once, with one key and one outcome",
            format!("{} records", deliveries.len()),
            intents(alerts, deliveries),
        ),
        Check::new(
            "every page arrived, under its own key",
            format!(
                "{} taken by PagerDuty, {} webhooks",
                found.pager.taken.len(),
                found.hook.taken.len()
            ),
            pages(found),
        ),
    ]
}

fn sent(ledger: &Ledger, found: &Found) -> Vec<String> {
    let mut problems = Vec::new();
    for (topic, messages) in &ledger.messages {
        let there = found.messages.get(topic).copied().unwrap_or(0);
        if there != *messages {
            problems.push(format!("{topic}: {messages} sent, {there} there"));
        }
    }
    if ledger.messages.is_empty() {
        problems.push("nothing was sent".to_owned());
    }
    problems
}

/// Compares what was sold, all and sku by sku.
pub fn totals(sent: &Counted, shown: &Counted) -> Vec<String> {
    let mut problems = Vec::new();
    if sent.all != shown.all {
        problems.push(format!(
            "the shop: sent {:?}, shown {:?}",
            sent.all, shown.all
        ));
    }
    let skus: BTreeSet<&String> = sent.skus.keys().chain(shown.skus.keys()).collect();
    for sku in skus {
        let (sent, shown) = (sent.skus.get(sku), shown.skus.get(sku));
        if sent != shown {
            problems.push(format!("{sku}: sent {sent:?}, shown {shown:?}"));
        }
    }
    problems
}

/// Compares what can still be promised.
pub fn levels(ledger: &Ledger, shown: &Shown) -> Vec<String> {
    let mut problems = Vec::new();
    for (sku, available) in &ledger.available {
        let found = shown.available.get(sku).map(|available| available.units);
        if found != Some(*available as f64) {
            problems.push(format!("{sku}: {available} left, shown {found:?}"));
        }
    }
    problems
}

fn dead_letters(ledger: &Ledger, letters: &[Record]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut origins = BTreeSet::new();
    let mut late = 0;
    for letter in letters {
        let origin = ["topic", "partition", "offset"].map(|name| letter.header(name));
        if origin.contains(&None) || !origins.insert(origin) {
            problems.push(format!("offset {}: again {origin:?}", letter.offset));
        }
        late += u64::from(letter.header("reason") == Some("late"));
    }
    let found = (letters.len() as u64 - late, late);
    if found != (ledger.wrong, ledger.late) {
        problems.push(format!(
            "{} wrong and {} late were sent, {} and {} were set aside",
            ledger.wrong, ledger.late, found.0, found.1
        ));
    }
    problems
}

/// A text of a record.
fn text<'a>(record: &'a Value, pointer: &str) -> &'a str {
    record
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// What an episode is about: its rule and its entity.
fn subject(record: &Value) -> String {
    let entity = record.pointer("/transition/entity");
    format!(
        "{} of {}",
        text(record, "/transition/rule"),
        entity.cloned().unwrap_or_default()
    )
}

fn episodes(alerts: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open: BTreeMap<String, &str> = BTreeMap::new();
    let mut began: BTreeMap<(String, String), &str> = BTreeMap::new();
    for record in alerts {
        let (id, from, to) = (
            text(record, "/transition/episode"),
            text(record, "/transition/from"),
            text(record, "/transition/to"),
        );
        let subject = subject(record);
        let step = format!("{subject}, episode {id}: {from} to {to}");
        if id.is_empty() {
            problems.push(format!("no transition: {record}"));
        }
        match last.insert(id, to) {
            None if from != "pending" && from != "inactive" => {
                problems.push(format!("{step}, out of nothing"));
            }
            Some(before) if before != from || before == to || before == "resolved" => {
                problems.push(format!("{step}, after it was {before}"));
            }
            _ => {}
        }
        if let Some(other) = open.get(&subject)
            && *other != id
        {
            problems.push(format!("{step}, while {other} is open"));
        }
        if to == "resolved" {
            open.remove(&subject);
        } else {
            open.insert(subject.clone(), id);
        }
        let pending_at = record.pointer("/transition/pending_at_ms");
        let beginning = (subject, pending_at.cloned().unwrap_or_default().to_string());
        let first = *began.entry(beginning).or_insert(id);
        if first != id {
            problems.push(format!("{step}, begun as {first} at the same time"));
        }
    }
    problems
}

fn troubles(ledger: &Ledger, unseen: &BTreeSet<String>, alerts: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut found: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for record in alerts {
        let of_sku = found.entry(text(record, "/transition/entity/sku"));
        let (id, to) = (
            text(record, "/transition/episode"),
            text(record, "/transition/to"),
        );
        of_sku.or_default().insert(id, to);
    }
    for sku in ledger.troubles.keys() {
        let episodes = found.remove(sku.as_str()).unwrap_or_default();
        let states: Vec<&&str> = episodes.values().collect();
        let is_nothing = states.is_empty() && unseen.contains(sku);
        if states != [&"resolved"] && !is_nothing {
            problems.push(format!("{sku}: episodes {episodes:?}"));
        }
    }
    for (sku, episodes) in found {
        problems.push(format!("{sku:?} had no trouble: episodes {episodes:?}"));
    }
    problems
}

fn shown_episodes(alerts: &[Value], shown: &[Vec<Value>]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for record in alerts {
        let id = text(record, "/transition/episode");
        last.insert(id, text(record, "/transition/to"));
    }
    for (instance, rows) in shown.iter().enumerate() {
        for row in rows {
            let (id, state) = (text(row, "/id"), text(row, "/state"));
            let known = last.get(id).copied();
            if known != Some(state) {
                problems.push(format!(
                    "instance {instance} shows {} {state}, episode {id}; the log says {known:?}",
                    text(row, "/name")
                ));
            }
        }
    }
    problems
}

/// A page that was decided.
struct Page<'a> {
    episode: &'a str,
    channel: &'a str,
    action: &'a str,
}

/// Pages by their keys, and what became of them.
fn decided(deliveries: &[Value]) -> BTreeMap<&str, (Page<'_>, Option<bool>)> {
    let mut decided = BTreeMap::new();
    for record in deliveries {
        if let Some(intent) = record.get("intent") {
            let page = Page {
                episode: text(intent, "/alert/episode"),
                channel: text(intent, "/channel"),
                action: text(intent, "/action"),
            };
            decided.insert(text(intent, "/delivery_id"), (page, None));
        } else if let Some(outcome) = record.get("outcome")
            && let Some((_, known)) = decided.get_mut(text(outcome, "/delivery_id"))
        {
            *known = outcome["delivered"].as_bool();
        }
    }
    decided
}

fn intents(alerts: &[Value], deliveries: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    // Of each page its key; and which pages have an outcome.
    let mut keys: BTreeMap<[&str; 4], &str> = BTreeMap::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for record in deliveries {
        if let Some(intent) = record.get("intent") {
            let id = text(intent, "/delivery_id");
            let page = [
                text(intent, "/alert/episode"),
                text(intent, "/channel"),
                text(intent, "/action"),
                text(intent, "/severity"),
            ];
            if seen.insert(id, 0).is_some() {
                problems.push(format!("{page:?} is decided again under {id}"));
            }
            if let Some(other) = keys.insert(page, id)
                && other != id
            {
                problems.push(format!("{page:?} has two keys: {other} and {id}"));
            }
        } else {
            let id = text(record, "/outcome/delivery_id");
            match seen.get_mut(id) {
                Some(outcomes @ 0) => *outcomes += 1,
                Some(_) => problems.push(format!("{id} has two outcomes")),
                None => problems.push(format!("{id} has an outcome and was never decided")),
            }
        }
    }
    for (id, outcomes) in seen {
        if outcomes == 0 {
            problems.push(format!("{id} has no outcome"));
        }
    }
    // Who is told that it began is told that it is over.
    let pages = decided(deliveries);
    let told = |episode: &str, channel: &str, action: &str| {
        pages.values().find_map(|(page, outcome)| {
            let is_it = page.episode == episode && page.channel == channel && page.action == action;
            is_it.then_some(*outcome)
        })
    };
    for (to, action) in [("firing", "trigger"), ("resolved", "resolve")] {
        let episodes: BTreeSet<&str> = alerts
            .iter()
            .filter(|record| text(record, "/transition/to") == to)
            .map(|record| text(record, "/transition/episode"))
            .collect();
        for episode in episodes {
            for channel in CHANNELS {
                let was_told = told(episode, channel, "trigger") != Some(Some(false));
                if told(episode, channel, action).is_none() && was_told {
                    problems.push(format!("episode {episode}: no {action} for {channel}"));
                }
            }
        }
    }
    problems
}

fn pages(found: &Found) -> Vec<String> {
    let mut problems = Vec::new();
    let wrong = found.pager.violations.iter().chain(&found.hook.violations);
    problems.extend(wrong.map(|violation| format!("a receiver refused: {violation}")));
    let decided = decided(&found.deliveries);
    let keys: BTreeSet<(&str, &str)> = decided
        .values()
        .filter(|(page, _)| page.channel == "pager")
        .map(|(page, _)| (page.episode, page.action))
        .collect();
    let mut came: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut of_component: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for event in &found.pager.taken {
        let page = (text(event, "/dedup_key"), text(event, "/event_action"));
        if !keys.contains(&page) {
            problems.push(format!("PagerDuty got {page:?}, which nobody decided"));
        }
        came.insert(page);
        let component = text(event, "/payload/component");
        if page.1 == "trigger" {
            of_component.entry(component).or_default().insert(page.0);
        }
    }
    // A sku has one trouble, so a second key would be a second page for it.
    for (component, keys) in of_component {
        if keys.len() > 1 {
            problems.push(format!("{component} was paged under {keys:?}"));
        }
    }
    let mut bodies: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for hook in &found.hook.taken {
        let id = hook.id.as_str();
        let body = (text(&hook.data, "/dedup_key"), hook.kind.as_str());
        match decided.get(id) {
            Some((page, _)) if page.channel == "hook" && page.episode == body.0 => {}
            _ => problems.push(format!("a webhook {id} that nobody decided: {body:?}")),
        }
        if *bodies.entry(id).or_insert(body) != body {
            problems.push(format!("webhook {id} tells of {body:?} and something else"));
        }
    }
    for (id, (page, outcome)) in &decided {
        let Page {
            episode,
            channel,
            action,
        } = page;
        let arrived = match *channel {
            "pager" => came.contains(&(*episode, *action)),
            _ => bodies.contains_key(id),
        };
        // One that was given up is told of as undelivered, and may have arrived all the same.
        if *outcome == Some(true) && !arrived {
            problems.push(format!("{action} of {episode} by {channel} was lost"));
        }
    }
    problems
}

/// What is no fault and worth knowing of the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeats {
    /// Pages that came again under the same key.
    pub repeated: usize,
    /// Triggers that came after the resolve under the same key.
    pub after_resolve: usize,
    /// Pages that were given up, and are told of as undelivered.
    pub given_up: usize,
}

/// Counts them.
pub fn repeats(found: &Found) -> Repeats {
    let mut repeats = Repeats::default();
    let of_pager = found.pager.taken.iter().map(|event| {
        let page = (text(event, "/dedup_key"), text(event, "/event_action"));
        ("pager", page.0, page.1 == "resolve")
    });
    let of_hook = found.hook.taken.iter().map(|hook| {
        let is_over = hook.kind == "alert.resolved";
        ("hook", text(&hook.data, "/dedup_key"), is_over)
    });
    let mut seen = BTreeSet::new();
    for (channel, key, is_over) in of_pager.chain(of_hook) {
        repeats.repeated += usize::from(!seen.insert((channel, key, is_over)));
        let was_over = seen.contains(&(channel, key, true));
        repeats.after_resolve += usize::from(!is_over && was_over);
    }
    let outcomes = decided(&found.deliveries);
    let given_up = outcomes.values().filter(|(_, told)| *told == Some(false));
    repeats.given_up = given_up.count();
    repeats
}

/// Whether every episode is over and every page has its outcome.
pub fn is_settled(alerts: &[Value], deliveries: &[Value]) -> bool {
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for record in alerts {
        let id = text(record, "/transition/episode");
        last.insert(id, text(record, "/transition/to"));
    }
    let decided = decided(deliveries);
    last.values().all(|to| *to == "resolved")
        && decided.values().all(|(_, outcome)| outcome.is_some())
        && intents(alerts, deliveries).is_empty()
}

#[cfg(test)]
mod tests;
