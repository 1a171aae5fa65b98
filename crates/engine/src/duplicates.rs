//! Duplicates: which events of a source partition were seen within the horizon.
//!
//! Two generations of keys: a key is surely known for the horizon, or for `entries_max` newer
//! keys, whichever is shorter, and forgotten after at most twice that. A generation is dropped
//! whole, so there is no work for each key that ages.

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use xxhash_rust::xxh3::Xxh3;

/// How long, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateBounds {
    /// Append time for which a key is known.
    pub horizon_ms: i64,
    /// Newer keys for which a key is known.
    pub entries_max: usize,
}

/// The keys seen, folded to 64 bits: that a billion events find one another's among 400,000 has a
/// chance of 1 in 46,000, and it halves what they take.
#[derive(Debug)]
pub(crate) struct Duplicates {
    bounds: DuplicateBounds,
    young: HashSet<u64, FixedState>,
    old: HashSet<u64, FixedState>,
    young_since_ms: i64,
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
            young_since_ms: i64::MIN,
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
        if self.young_since_ms == i64::MIN {
            self.young_since_ms = appended_ms;
        }
        let aged = appended_ms.saturating_sub(self.young_since_ms) >= self.bounds.horizon_ms;
        if aged || self.young.len() >= self.bounds.entries_max {
            if !aged {
                self.forgotten += self.old.len() as u64;
            }
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.young_since_ms = appended_ms;
        }
        self.young.insert(folded(key));
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

    #[test]
    fn a_shifted_boundary_is_another_key() {
        assert_ne!(Duplicates::key("ab", "c"), Duplicates::key("a", "bc"));
    }
}
