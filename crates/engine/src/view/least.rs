//! The least few of many: what a page of a list is, without sorting the list.

use std::collections::BTreeMap;

/// Up to `limit` values, those with the least keys that were offered. Equal keys replace each other.
pub(super) struct Least<K, V> {
    limit: usize,
    held: BTreeMap<K, V>,
}

impl<K: Ord, V> Least<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            held: BTreeMap::new(),
        }
    }

    /// Takes a value if it is among the least so far; only then is it made.
    pub(super) fn offer(&mut self, key: K, make: impl FnOnce() -> V) {
        if self.held.len() >= self.limit {
            match self.held.last_key_value() {
                Some((last, _)) if key < *last => {}
                _ => return,
            }
        }
        self.held.insert(key, make());
        if self.held.len() > self.limit {
            self.held.pop_last();
        }
    }

    /// The values, the least first.
    pub(super) fn into_vec(self) -> Vec<V> {
        self.held.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_are_kept_and_nothing_else_is_made() {
        let mut least = Least::new(3);
        let mut made = 0;
        for key in [5, 9, 1, 7, 3, 8, 9, 2] {
            least.offer(key, || {
                made += 1;
                key
            });
        }
        assert_eq!(least.into_vec(), [1, 2, 3]);
        // 5, 9, 1, 7, 3 and 2; neither 8 nor the second 9.
        assert_eq!(made, 6);
        let mut none = Least::new(0);
        none.offer(1, || 1);
        assert_eq!(none.into_vec(), [0; 0]);
    }
}
