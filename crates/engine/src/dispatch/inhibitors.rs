//! Which open episodes may keep others quiet, and which they keep quiet now.
//!
//! Owns the search: an episode finds who speaks for it by name and entity, and what became quiet is
//! found by who speaks for it, so that no step looks at every episode.

use std::collections::{BTreeMap, BTreeSet};

use fenghuo_alert::{Rules, Transition};
use fenghuo_signal::{Entity, Kind};

/// Keys of episodes, by entity.
type OfKind = BTreeMap<Entity, BTreeSet<String>>;

/// Open episodes by what rules name them by, and those that are held back.
#[derive(Default)]
pub struct Inhibitors {
    /// Names of rules and signals that some rule is inhibited by.
    named: BTreeSet<String>,
    open: BTreeMap<String, BTreeMap<Kind, OfKind>>,
    /// Who is held back, by who speaks for them.
    held: BTreeMap<String, BTreeSet<String>>,
}

impl Inhibitors {
    /// Of these rules, with nothing open.
    pub fn new(rules: &Rules) -> Self {
        let named = rules.iter().flat_map(|rule| rule.inhibited_by.iter());
        Self {
            named: named.cloned().collect(),
            ..Self::default()
        }
    }

    fn names<'a>(&'a self, alert: &'a Transition) -> impl Iterator<Item = &'a str> {
        let names = [alert.rule.as_str(), alert.signal.as_str()];
        names.into_iter().filter(|name| self.named.contains(*name))
    }

    /// An episode is open.
    pub fn open(&mut self, alert: &Transition) {
        let names: Vec<String> = self.names(alert).map(str::to_owned).collect();
        for name in names {
            let kinds = self.open.entry(name).or_default();
            let entities = kinds.entry(alert.entity.kind).or_default();
            let keys = entities.entry(alert.entity.clone()).or_default();
            keys.insert(alert.episode.clone());
        }
    }

    /// An episode is over.
    pub fn close(&mut self, alert: &Transition) {
        let names: Vec<String> = self.names(alert).map(str::to_owned).collect();
        for name in names {
            let kinds = self.open.get_mut(&name);
            let Some(entities) = kinds.and_then(|kinds| kinds.get_mut(&alert.entity.kind)) else {
                continue;
            };
            if let Some(keys) = entities.get_mut(&alert.entity) {
                keys.remove(&alert.episode);
                if keys.is_empty() {
                    entities.remove(&alert.entity);
                }
            }
        }
    }

    /// Notes that one speaks for another.
    pub fn hold(&mut self, by: &str, key: &str) {
        let held = self.held.entry(by.to_owned()).or_default();
        held.insert(key.to_owned());
    }

    /// Those for which an episode speaks no more.
    pub fn release(&mut self, by: &str) -> BTreeSet<String> {
        self.held.remove(by).unwrap_or_default()
    }

    /// The open episodes with one of these names that may concern an entity: those of the same things,
    /// as far as both name them.
    pub fn about<'a>(
        &'a self,
        names: &'a [String],
        entity: &'a Entity,
    ) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        let kinds = names
            .iter()
            .filter_map(|name| self.open.get(name))
            .flatten();
        let keys = kinds.flat_map(move |(kind, entities)| of_kind(*kind, entities, entity));
        Box::new(keys.flatten().map(String::as_str))
    }

    /// Nothing is open.
    pub fn clear(&mut self) {
        self.open.clear();
        self.held.clear();
    }
}

fn of_kind<'a>(
    kind: Kind,
    entities: &'a OfKind,
    entity: &'a Entity,
) -> Box<dyn Iterator<Item = &'a BTreeSet<String>> + 'a> {
    let (first, second) = kind.parts();
    let names = (entity.part(first), second.map(|part| entity.part(part)));
    match names {
        (Some(first), None) => Box::new(entities.get(&Entity::one(kind, first)).into_iter()),
        (Some(first), Some(Some(second))) => {
            Box::new(entities.get(&Entity::pair(kind, first, second)).into_iter())
        }
        (Some(first), Some(None)) => {
            let from = Entity::one(kind, first);
            let all = entities.range(from..);
            Box::new(
                all.take_while(move |(found, _)| found.first == first)
                    .map(|(_, keys)| keys),
            )
        }
        (None, Some(Some(second))) => {
            let of_second = move |(found, keys): (&'a Entity, &'a BTreeSet<String>)| {
                (found.second == second).then_some(keys)
            };
            Box::new(entities.iter().filter_map(of_second))
        }
        // They share no part.
        (None, _) => Box::new(entities.values()),
    }
}
