//! Duplicates: which events of a source partition were seen within the horizon.
//!
//! Two generations of keys: a key is surely known for the horizon, or for `entries_max` newer
//! keys, whichever is shorter, and forgotten after at most twice that, pauses between keys left out. A
//! generation is dropped whole, so there is no work for each key that ages. Only events that were
//! accepted are here, so what was refused is no repeat of itself when it is submitted again. How
//! the keys are written down is with [`super::kept`].

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use xxhash_rust::xxh3::Xxh3;

/// Time between two keys that is taken for time that passed; what is beyond it may be a step of the
/// clock.
const PASSED_MS_MAX: i64 = 60_000;

/// How long, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateBounds {
    /// Append time for which a key is known.
    pub horizon_ms: i64,
    /// Newer keys for which a key is known.
    pub entries_max: usize,
}

/// Where in time the keys stand, in the form in which it travels in the log.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SeenClock {
    /// Number of the young generation; the old one has the number before.
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    /// Append time that passed since the young generation began, ms.
    #[prost(int64, tag = "2")]
    pub young_ms: i64,
    /// Append time of the last key, Unix ms; absent before the first.
    #[prost(int64, optional, tag = "3")]
    pub last_ms: Option<i64>,
}

/// Keys of one generation that were not written down yet.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) generation: u64,
    pub(crate) keys: Vec<u64>,
}

/// The keys seen, folded to 64 bits: that a billion events find one another's among 400,000 has a
/// chance of 1 in 46,000, and it halves what they take.
#[derive(Debug)]
pub(crate) struct Duplicates {
    bounds: DuplicateBounds,
    young: HashSet<u64, FixedState>,
    old: HashSet<u64, FixedState>,
    clock: SeenClock,
    /// Keys that were not written down yet, in order.
    fresh: Vec<Fresh>,
    /// Keys that were forgotten before their horizon, for there were too many.
    pub(crate) forgotten: u64,
}

impl Duplicates {
    /// Nothing seen yet.
    pub(crate) fn new(bounds: DuplicateBounds) -> Self {
        Self {
            bounds,
            young: HashSet::default(),
            old: HashSet::default(),
            clock: SeenClock::default(),
            fresh: Vec::new(),
            forgotten: 0,
        }
    }

    /// The key of an event: 128 bits of its source and id.
    pub(crate) fn key(source: &str, event_id: &str) -> u128 {
        let mut hash = Xxh3::new();
        hash.update(source.as_bytes());
        // No text holds this byte, so no two pairs run into one.
        hash.update(&[0xff]);
        hash.update(event_id.as_bytes());
        hash.digest128()
    }

    /// Whether the key was seen.
    pub(crate) fn contains(&self, key: u128) -> bool {
        let key = folded(key);
        self.young.contains(&key) || self.old.contains(&key)
    }

    /// Remembers a key appended at `appended_ms`.
    pub(crate) fn insert(&mut self, key: u128, appended_ms: i64) {
        // A step of the clock ages nothing: less passes between two keys than a step may be, so a
        // key is at most known for longer than it has to be.
        let last_ms = self.clock.last_ms.replace(appended_ms);
        let last_ms = last_ms.unwrap_or(appended_ms);
        let passed_ms = appended_ms.saturating_sub(last_ms).clamp(0, PASSED_MS_MAX);
        self.clock.young_ms = self.clock.young_ms.saturating_add(passed_ms);
        let aged = self.clock.young_ms >= self.bounds.horizon_ms;
        if aged || self.young.len() >= self.bounds.entries_max {
            if !aged {
                self.forgotten += self.old.len() as u64;
            }
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.clock.young_ms = 0;
            self.clock.generation += 1;
        }
        let key = folded(key);
        self.young.insert(key);
        let generation = self.clock.generation;
        match self.fresh.last_mut() {
            Some(fresh) if fresh.generation == generation => fresh.keys.push(key),
            _ => self.fresh.push(Fresh {
                generation,
                keys: vec![key],
            }),
        }
    }

    /// Where in time the keys stand.
    pub(crate) fn clock(&self) -> SeenClock {
        self.clock
    }

    /// The keys that came since this was asked last.
    pub(crate) fn take_fresh(&mut self) -> Vec<Fresh> {
        std::mem::take(&mut self.fresh)
    }

    /// Takes where in time the keys stood, before the keys.
    pub(crate) fn restore_clock(&mut self, clock: SeenClock) {
        self.clock = clock;
    }

    /// Takes a key that was written down.
    pub(crate) fn restore(&mut self, generation: u64, key: u64) {
        match self.clock.generation.checked_sub(generation) {
            Some(0) => self.young.insert(key),
            Some(1) => self.old.insert(key),
            _ => false,
        };
    }

    /// Forgets all, as if nothing had been seen.
    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.fresh.clear();
        // Of what was written down, nothing is of these generations.
        self.clock = SeenClock {
            generation: self.clock.generation + 2,
            ..SeenClock::default()
        };
    }

    /// Number of keys held.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

fn folded(key: u128) -> u64 {
    (key ^ (key >> 64)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_for_the_horizon_and_held_for_at_most_two() {
        let mut seen = Duplicates::new(DuplicateBounds {
            horizon_ms: 100,
            entries_max: 1_000,
        });
        for at in 0..1_000_i64 {
            seen.insert(at as u128, at);
            assert!(seen.contains(u128::try_from((at - 100).max(0)).unwrap()));
        }
        assert!(!seen.contains(700));
        assert!(seen.len() <= 200);
    }

    #[test]
    fn the_count_caps_the_horizon() {
        let mut seen = Duplicates::new(DuplicateBounds {
            horizon_ms: i64::MAX,
            entries_max: 10,
        });
        for key in 0..1_000 {
            seen.insert(key, 0);
        }
        assert!(seen.len() <= 20);
        assert!(seen.contains(990));
    }

    /// Guards: two jumps of the clock once let every key be forgotten.
    #[test]
    fn steps_of_the_clock_age_nothing() {
        let mut seen = Duplicates::new(DuplicateBounds {
            horizon_ms: 600_000,
            entries_max: 1_000,
        });
        seen.insert(1, 0);
        let years_ms = 10 * 365 * 86_400_000;
        for (key, at_ms) in [(2, years_ms), (3, 1_000), (4, years_ms), (5, 2_000)] {
            seen.insert(key, at_ms);
        }
        assert!((1..=5).all(|key| seen.contains(key)));
        // And they are forgotten by the time that passes after it.
        for second in 2..1_400 {
            seen.insert(1_000 + second as u128, second * 1_000);
        }
        assert!(!seen.contains(1));
    }

    #[test]
    fn a_shifted_boundary_is_another_key() {
        assert_ne!(Duplicates::key("ab", "c"), Duplicates::key("a", "bc"));
    }
}
