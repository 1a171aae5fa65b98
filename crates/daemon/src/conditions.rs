//! What is wrong with this process itself, or with what it stands on: a clock, a disk, a channel,
//! a full map.
//!
//! Owns the registry that everything in the daemon reports to, and that `/-/ready`, the screen and
//! the metrics read. [`alerts`] pages about what stands here. It must never hold more than
//! [`STANDING_MAX`] conditions, nor a secret: their texts are shown to whoever may ask for health.

pub mod alerts;
pub mod clock;
pub mod maps;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fenghuo_alert::Severity;
use serde::Serialize;

/// Every name of a condition: the screen has a word for each.
#[cfg(test)]
pub const NAMES: [&str; 15] = [
    clock::NAMES[0],
    clock::NAMES[1],
    clock::NAMES[2],
    clock::NAMES[3],
    "map.full",
    "disk.full",
    crate::refusals::CONDITION,
    crate::sender::STUCK,
    crate::sender::BEHIND,
    crate::sender::UNDELIVERED,
    crate::sets::SUPERSEDED,
    "files.folder",
    "files.left",
    "files.slow",
    "log.lost",
];

/// Conditions that stand at a time; of more only the graver ones are kept.
const STANDING_MAX: usize = 64;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// What kind of thing it is, such as `clock.behind`. Its alert's rule is `fenghuo.` and this.
    pub name: &'static str,
    /// Which of several it is about, such as the name of a channel; empty where there is one.
    pub about: String,
    /// Who has to know: a person at once, or whoever looks next.
    pub severity: Severity,
    /// Whether the process is not ready while it stands.
    pub blocks_ready: bool,
    /// What is wrong, and what to do about it.
    pub text: String,
}

/// A condition and since when it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The condition, as it was reported last.
    #[serde(flatten)]
    pub condition: Condition,
    /// Since when, Unix ms of this machine.
    pub since_ms: i64,
}

/// All conditions of a process, by name and by what they are about.
#[derive(Debug, Default)]
pub struct Conditions {
    standing: Mutex<BTreeMap<(&'static str, String), Standing>>,
}

impl Conditions {
    /// Nothing is wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// Something is wrong, or still is: the text may change, the beginning does not.
    pub fn set(&self, now_ms: i64, condition: Condition) {
        let mut standing = self.lock();
        let key = (condition.name, condition.about.clone());
        if let Some(known) = standing.get_mut(&key) {
            known.condition = condition;
            return;
        }
        if standing.len() >= STANDING_MAX {
            let mildest = standing
                .iter()
                .min_by_key(|(_, known)| known.condition.severity)
                .map(|(key, known)| (key.clone(), known.condition.severity));
            match mildest {
                Some((mildest, severity)) if severity < condition.severity => {
                    standing.remove(&mildest);
                }
                _ => return,
            }
        }
        tracing::warn!(
            condition = condition.name,
            about = condition.about,
            text = condition.text,
            "something is wrong"
        );
        let since_ms = now_ms;
        standing.insert(
            key,
            Standing {
                condition,
                since_ms,
            },
        );
    }

    /// It is right again.
    pub fn clear(&self, name: &'static str, about: &str) {
        if self.lock().remove(&(name, about.to_owned())).is_some() {
            tracing::info!(condition = name, about, "right again");
        }
    }

    /// Lets exactly these conditions stand under a name.
    pub fn replace(&self, now_ms: i64, name: &'static str, now: Vec<Condition>) {
        let gone: Vec<String> = {
            let standing = self.lock();
            let of_name = standing.keys().filter(|(known, _)| *known == name);
            of_name
                .map(|(_, about)| about.clone())
                .filter(|about| now.iter().all(|condition| condition.about != *about))
                .collect()
        };
        for about in gone {
            self.clear(name, &about);
        }
        for condition in now {
            self.set(now_ms, condition);
        }
    }

    /// What stands now, in the order of names.
    pub fn all(&self) -> Vec<Standing> {
        self.lock().values().cloned().collect()
    }

    /// What stands now, the gravest and then the oldest first, no more than so many.
    pub fn gravest(&self, limit: usize) -> Vec<Standing> {
        let mut all = self.all();
        all.sort_by_key(|one| (std::cmp::Reverse(one.condition.severity), one.since_ms));
        all.truncate(limit);
        all
    }

    /// Why the process is not ready, where a condition says so.
    pub fn blocking(&self) -> Option<String> {
        let standing = self.lock();
        let blocking = standing.values().find(|known| known.condition.blocks_ready);
        blocking.map(|known| known.condition.text.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(&'static str, String), Standing>> {
        // Every change is one insertion or removal.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn condition(name: &'static str, about: &str, severity: Severity) -> Condition {
        Condition {
            name,
            about: about.to_owned(),
            severity,
            blocks_ready: severity == Severity::Page,
            text: format!("{name} {about}"),
        }
    }

    #[test]
    fn what_stands_keeps_its_beginning_and_goes_when_it_is_right_again() {
        let conditions = Conditions::new();
        conditions.set(1, condition("disk.full", "", Severity::Page));
        conditions.set(2, condition("disk.full", "", Severity::Page));
        assert_eq!(conditions.all()[0].since_ms, 1);
        assert_eq!(conditions.blocking().as_deref(), Some("disk.full "));
        conditions.clear("disk.full", "");
        assert_eq!((conditions.all(), conditions.blocking()), (vec![], None));
    }

    #[test]
    fn those_of_one_name_are_replaced_together() {
        let conditions = Conditions::new();
        let full = |about| condition("map.full", about, Severity::Warn);
        conditions.replace(1, "map.full", vec![full("entities"), full("trackers")]);
        conditions.replace(2, "map.full", vec![full("trackers"), full("duplicates")]);
        let all = conditions.all();
        let standing = all.iter().map(|one| (&*one.condition.about, one.since_ms));
        assert_eq!(
            standing.collect::<Vec<_>>(),
            [("duplicates", 2), ("trackers", 1)]
        );
    }

    #[test]
    fn a_page_has_room_however_many_warnings_stand() {
        let conditions = Conditions::new();
        for number in 0..2 * STANDING_MAX {
            conditions.set(
                1,
                condition("map.full", &number.to_string(), Severity::Warn),
            );
        }
        conditions.set(2, condition("disk.full", "", Severity::Page));
        assert_eq!(conditions.all().len(), STANDING_MAX);
        assert_eq!(conditions.blocking().as_deref(), Some("disk.full "));
    }
}
