//! The fingerprints of events as they are written: in parts, in the order in which they came. A
//! part is of one generation, is written once it is full, and goes with its generation.

use std::collections::VecDeque;

use super::record::{Key, SeenPart, VERSION};
use super::{CLEAN, Put};
use crate::ingest::duplicates::Fresh;

/// The parts of a partition.
pub(super) struct SeenParts {
    /// Fingerprints of a whole part.
    keys_max: usize,
    /// Number and generation of the parts that are whole, the oldest first.
    whole: VecDeque<(u64, u64)>,
    /// The part that is being filled.
    number: u64,
    generation: u64,
    keys: Vec<u64>,
    /// So many of them are in the log.
    told: usize,
    /// They were written as a part before.
    is_written: bool,
    /// The first journal record with some that no part has.
    lacking: u64,
}

impl SeenParts {
    pub(super) fn new(part_bytes_max: usize) -> Self {
        Self {
            keys_max: (part_bytes_max / 16).max(1),
            whole: VecDeque::new(),
            number: 0,
            generation: 0,
            keys: Vec::new(),
            told: 0,
            is_written: false,
            lacking: CLEAN,
        }
    }

    /// Bytes of the part that is being filled.
    pub(super) fn bytes(&self) -> usize {
        8 * self.keys.len()
    }

    /// The first journal record with fingerprints that no part has.
    pub(super) fn lacking(&self) -> u64 {
        self.lacking
    }

    /// Takes fingerprints, writes the parts that become whole with them, and deletes those whose
    /// generation is gone now that `young` is the young one. `next` is the next journal record.
    pub(super) fn take(&mut self, fresh: Vec<Fresh>, young: u64, next: u64, put: &mut Put<'_>) {
        for Fresh { generation, keys } in fresh {
            if generation != self.generation {
                self.close(young, next, put);
                self.generation = generation;
            }
            self.keys.extend(keys);
            while self.keys.len() >= self.keys_max {
                let rest = self.keys.split_off(self.keys_max);
                self.close(young, next, put);
                self.keys = rest;
            }
        }
        while self.whole.front().is_some_and(|(_, of)| of + 1 < young) {
            if let Some((number, _)) = self.whole.pop_front() {
                put.tombstone(Key::Seen(number));
            }
        }
    }

    /// The part is whole: it is written, and another one begins.
    fn close(&mut self, young: u64, next: u64, put: &mut Put<'_>) {
        if self.keys.is_empty() {
            return;
        }
        let is_known = self.generation + 1 >= young;
        if is_known {
            self.write(next, put);
        }
        if is_known || self.is_written {
            self.whole.push_back((self.number, self.generation));
        }
        self.number += 1;
        self.keys.clear();
        self.told = 0;
        self.is_written = false;
        self.lacking = CLEAN;
    }

    /// Writes the part as it is.
    pub(super) fn write(&mut self, next: u64, put: &mut Put<'_>) {
        let seen = self.keys.iter().flat_map(|key| key.to_le_bytes());
        let part = SeenPart {
            version: VERSION,
            next,
            generation: self.generation,
            seen: seen.collect(),
        };
        put.value(Key::Seen(self.number), &part);
        self.told = self.keys.len();
        self.is_written = true;
        self.lacking = CLEAN;
    }

    /// The fingerprints that are not in the log, for the journal record `next`.
    pub(super) fn untold(&mut self, next: u64) -> &[u64] {
        let told = std::mem::replace(&mut self.told, self.keys.len());
        let untold = &self.keys[told..];
        if !untold.is_empty() {
            self.lacking = self.lacking.min(next);
        }
        untold
    }

    /// Takes a part that was written, in the order of their numbers.
    pub(super) fn restore_part(&mut self, number: u64, generation: u64, keys: Vec<u64>) {
        if self.is_written {
            self.whole.push_back((self.number, self.generation));
        }
        self.number = number;
        self.generation = generation;
        self.told = keys.len();
        self.keys = keys;
        self.is_written = true;
    }

    /// All parts were taken: the last one is filled on, where it can be.
    pub(super) fn restored_parts(&mut self, young: u64) {
        if self.is_written && (self.generation != young || self.keys.len() >= self.keys_max) {
            self.whole.push_back((self.number, self.generation));
            self.number += 1;
            self.keys.clear();
            self.told = 0;
            self.is_written = false;
        }
        self.generation = young;
    }

    /// Takes fingerprints of the journal record `number` that no part has.
    pub(super) fn restore_journal(&mut self, number: u64, keys: impl Iterator<Item = u64>) {
        let before = self.keys.len();
        self.keys.extend(keys);
        self.told = self.keys.len();
        if self.keys.len() > before {
            self.lacking = self.lacking.min(number);
        }
    }
}
