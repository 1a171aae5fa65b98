//! Words that many lives have in common (couriers, warehouses, lanes, campaigns), each held once.
//!
//! The dictionary is bounded and never forgets a word while it lives; what finds no room is
//! spelled where it is used, so that nothing depends on it. Its numbers mean nothing outside of
//! this process: records carry a dictionary of their own.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

/// Words that a partition holds at most, and bytes of all of them.
const WORDS_MAX: usize = 65_536;
const WORDS_BYTES_MAX: usize = 4 << 20;

/// The words of a partition.
pub(super) struct Words {
    table: HashTable<u32>,
    /// Where each word ends in the text.
    ends: Vec<u32>,
    text: String,
    hasher: FixedState,
}

impl Words {
    pub(super) fn new() -> Self {
        Self {
            table: HashTable::new(),
            ends: Vec::new(),
            text: String::new(),
            hasher: FixedState::default(),
        }
    }

    /// Bytes held.
    pub(super) fn held_bytes(&self) -> usize {
        self.table.allocation_size() + 4 * self.ends.capacity() + self.text.capacity()
    }

    /// A word by its number.
    pub(super) fn get(&self, number: u32) -> Option<&str> {
        let is_known = (number as usize) < self.ends.len();
        is_known.then(|| word(&self.ends, &self.text, number))
    }

    /// The number of a word, be it new or not; `None` where there is no room for it.
    pub(super) fn number(&mut self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        let is_it = |number: &u32| word(&self.ends, &self.text, *number) == text;
        if let Some(number) = self.table.find(hash, is_it) {
            return Some(*number);
        }
        if self.ends.len() >= WORDS_MAX || self.text.len() + text.len() > WORDS_BYTES_MAX {
            return None;
        }
        let number = self.ends.len() as u32;
        self.text.push_str(text);
        self.ends.push(self.text.len() as u32);
        let (ends, text, hasher) = (&self.ends, &self.text, &self.hasher);
        self.table.insert_unique(hash, number, |number| {
            hasher.hash_one(word(ends, text, *number))
        });
        Some(number)
    }
}

fn word<'a>(ends: &[u32], text: &'a str, number: u32) -> &'a str {
    let start = match number {
        0 => 0,
        _ => ends[number as usize - 1] as usize,
    };
    &text[start..ends[number as usize] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_numbers_and_the_dictionary_its_bounds() {
        let mut words = Words::new();
        let numbers: Vec<_> = (0..WORDS_MAX + 10)
            .map(|at| words.number(&format!("word-{at}")))
            .collect();
        assert_eq!(numbers[7], Some(7));
        assert_eq!(numbers[WORDS_MAX], None);
        assert_eq!(words.number("word-7"), Some(7));
        assert_eq!(words.get(7), Some("word-7"));
        assert_eq!(words.get(WORDS_MAX as u32), None);
        assert!(words.held_bytes() < 4 << 20);

        let mut words = Words::new();
        assert_eq!(words.number(&"x".repeat(WORDS_BYTES_MAX)), Some(0));
        assert_eq!(words.number("y"), None);
        assert_eq!(words.number(""), Some(1));
        assert_eq!(words.get(1), Some(""));
    }
}
