//! Full maps: what found no room is told, not passed over.
//!
//! Owns when a map counts as full and what is said of it. Nothing here empties a map.

use std::collections::BTreeMap;

use fenghuo_alert::Severity;

use super::Condition;

/// A refusal is told for so long after the last one.
const TOLD_MS: i64 = 5 * 60_000;

/// A shortened memory of duplicates is told for so long: it is one until the horizon has passed.
const SHORTENED_MS: i64 = 60 * 60_000;

/// A map, the counter of what found no room in it, and what to do.
struct Map {
    name: &'static str,
    refused: &'static str,
    /// What is lost.
    lost: &'static str,
    /// What to do.
    remedy: &'static str,
    severity: Severity,
    told_ms: i64,
}

const MAPS: [Map; 5] = [
    Map {
        name: "entities",
        refused: "entities_refused",
        lost: "skus, lanes or campaigns found no place, and nothing about them is judged or paged",
        remedy: "raise evaluate.entities_max (about 3.6 KiB each, for every panes partition), and look for a \
                 sender that makes up names, and for own measures by which a sku takes several places \
                 (`fenghuo check` tells)",
        severity: Severity::Page,
        told_ms: TOLD_MS,
    },
    Map {
        name: "panes_bytes",
        refused: "panes_cut",
        lost: "the oldest panes of skus and others that are counted all the time were cut, and what is \
               judged by windows that reach so far back is unknown; what is judged at each event is not",
        remedy: "raise evaluate.panes_bytes_max (about 4 KiB for a sku that is sold in each hour of 15 days, \
                 for every panes partition)",
        severity: Severity::Warn,
        told_ms: TOLD_MS,
    },
    Map {
        name: "plan_points",
        refused: "plan_points_refused",
        lost: "plans were not taken, and their skus are judged without one",
        remedy: "send plans with fewer points: a sku without a curve of its own follows its campaign's",
        severity: Severity::Page,
        told_ms: TOLD_MS,
    },
    Map {
        name: "trackers",
        refused: "trackers_refused",
        lost: "parcels are not followed, and nothing about their delays is counted",
        remedy: "raise ingest.trackers.entries_max and bytes_max, or shorten ingest.trackers.closed",
        severity: Severity::Page,
        told_ms: TOLD_MS,
    },
    Map {
        name: "duplicates",
        refused: "duplicates_forgotten",
        lost: "events are forgotten before their horizon, and one that is sent again later counts twice",
        remedy: "raise ingest.duplicates.entries_max",
        severity: Severity::Warn,
        told_ms: SHORTENED_MS,
    },
];

/// What was refused so far, and when last.
#[derive(Debug, Default)]
pub struct Maps {
    seen: BTreeMap<&'static str, (u64, Option<i64>)>,
}

impl Maps {
    /// What stands as `map.full`, by what the maps hold now and may hold, and the names that were
    /// refused last. To be called every second or so.
    pub fn full(
        &mut self,
        now_ms: i64,
        entries: &[(&'static str, u64)],
        limits: &[(&'static str, u64)],
        names: &[String],
    ) -> Vec<Condition> {
        let of = |counts: &[(&'static str, u64)], map: &str| {
            let found = counts.iter().find(|(name, _)| *name == map);
            found.map_or(0, |(_, count)| *count)
        };
        let mut conditions = Vec::new();
        for map in &MAPS {
            let refused = of(entries, map.refused);
            let (before, last_ms) = self.seen.entry(map.name).or_default();
            if refused > *before {
                *last_ms = Some(now_ms);
            }
            // It goes down when a stage leaves.
            *before = refused;
            let (held, limit) = (of(entries, map.name), of(limits, map.name));
            let is_recent = last_ms.is_some_and(|last| now_ms.saturating_sub(last) < map.told_ms);
            let (severity, text) = if is_recent {
                let mut text = format!("The map of {} is full: {}.", map.name, map.lost);
                if map.name == "entities" && !names.is_empty() {
                    text += &format!(" The last ones: {}.", names.join(", "));
                }
                (map.severity, text)
            } else if map.name != "duplicates" && limit > 0 && held >= limit - limit / 10 {
                let text = format!("The map of {} is nearly full: {held} of {limit}.", map.name);
                (Severity::Warn, text)
            } else {
                continue;
            };
            conditions.push(Condition {
                name: "map.full",
                about: map.name.to_owned(),
                severity,
                blocks_ready: false,
                text: format!("{text} What to do: {}.", map.remedy),
            });
        }
        conditions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: [(&str, u64); 2] = [("entities", 100), ("duplicates", 100)];

    #[test]
    fn what_found_no_room_is_paged_by_name_until_five_minutes_after() {
        let mut maps = Maps::default();
        let entries = [("entities", 50), ("entities_refused", 1)];
        let told = maps.full(1_000, &entries, &LIMITS, &["sku=A1".to_owned()]);
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].severity, &*told[0].about),
            (Severity::Page, "entities")
        );
        assert!(told[0].text.contains("sku=A1"), "{}", told[0].text);
        assert!(!told[0].blocks_ready);
        assert_eq!(
            maps.full(1_000 + TOLD_MS - 1, &entries, &LIMITS, &[]).len(),
            1
        );
        assert_eq!(maps.full(1_000 + TOLD_MS, &entries, &LIMITS, &[]), []);
        // Another life counts from 0 again.
        assert_eq!(
            maps.full(400_000, &[("entities_refused", 0)], &LIMITS, &[]),
            []
        );
        let again = [("entities_refused", 1)];
        assert_eq!(maps.full(400_001, &again, &LIMITS, &[]).len(), 1);
    }

    #[test]
    fn nine_tenths_are_a_warning() {
        let mut maps = Maps::default();
        assert_eq!(maps.full(0, &[("entities", 89)], &LIMITS, &[]), []);
        let told = maps.full(0, &[("entities", 90)], &LIMITS, &[]);
        assert_eq!(told[0].severity, Severity::Warn);
        // The set of duplicates is full most of the time where many come, and loses nothing by it.
        assert_eq!(maps.full(0, &[("duplicates", 99)], &LIMITS, &[]), []);
        let told = maps.full(0, &[("duplicates_forgotten", 7)], &LIMITS, &[]);
        assert_eq!(told[0].severity, Severity::Warn);
    }
}
