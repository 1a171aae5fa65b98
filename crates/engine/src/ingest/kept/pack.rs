//! Lives packed one behind the other, with a dictionary of their own.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::record::Journal;
use crate::ingest::trackers::{Lives, Named, Word, put_varint, translate};

/// Lives on their way into a record.
#[derive(Default)]
pub(super) struct Packer {
    /// The numbers here of words that have a number in the partition's dictionary.
    numbers: HashMap<u32, u32, FixedState>,
    /// And of those that found no room there.
    spelled: HashMap<String, u32, FixedState>,
    words: Vec<String>,
    words_bytes: usize,
    lives: Vec<u8>,
    scratch: Vec<u8>,
}

impl Packer {
    /// Adds a life.
    pub(super) fn push(&mut self, key: u128, payload: &[u8], lives: &Lives) {
        let Self {
            numbers,
            spelled,
            words,
            words_bytes,
            scratch,
            ..
        } = self;
        let mut add = |word: &str| {
            *words_bytes += word.len();
            words.push(word.to_owned());
            words.len() as u32 - 1
        };
        let mut number = |word: Word<'_>| match word {
            Word::Empty => None,
            Word::Numbered(known) => match numbers.get(&known) {
                Some(number) => Some(Named::Number(*number)),
                None => {
                    let number = add(lives.word(known)?);
                    numbers.insert(known, number);
                    Some(Named::Number(number))
                }
            },
            Word::Spelled(text) => match spelled.get(text) {
                Some(number) => Some(Named::Number(*number)),
                None => {
                    let number = add(text);
                    spelled.insert(text.to_owned(), number);
                    Some(Named::Number(number))
                }
            },
        };
        scratch.clear();
        // What lies in memory was written there by this process.
        if translate(payload, &mut number, scratch).is_some() {
            self.lives.extend_from_slice(&key.to_le_bytes());
            put_varint(&mut self.lives, self.scratch.len() as u64);
            self.lives.extend_from_slice(&self.scratch);
        }
    }

    /// Bytes of lives and words.
    pub(super) fn bytes(&self) -> usize {
        self.lives.len() + self.words_bytes
    }

    /// Words and lives.
    pub(super) fn into_parts(self) -> (Vec<String>, Vec<u8>) {
        (self.words, self.lives)
    }
}

/// Journal records of bounded size.
pub(super) struct JournalParts {
    blank: Journal,
    bytes_max: usize,
    done: Vec<Journal>,
    part: Journal,
    packer: Packer,
}

impl JournalParts {
    pub(super) fn new(blank: Journal, bytes_max: usize) -> Self {
        Self {
            part: blank.clone(),
            blank,
            bytes_max,
            done: Vec::new(),
            packer: Packer::default(),
        }
    }

    /// A life as it is now.
    pub(super) fn changed(&mut self, key: u128, payload: &[u8], lives: &Lives) {
        self.make_room();
        self.packer.push(key, payload, lives);
    }

    /// A life that was forgotten.
    pub(super) fn forgotten(&mut self, key: u128) {
        self.make_room();
        self.part.forgotten.extend_from_slice(&key.to_le_bytes());
    }

    /// The fingerprint of an event that was accepted.
    pub(super) fn seen(&mut self, key: u64) {
        self.make_room();
        self.part.seen.extend_from_slice(&key.to_le_bytes());
    }

    /// All of them; at least one.
    pub(super) fn finish(mut self) -> Vec<Journal> {
        self.close();
        self.done
    }

    fn make_room(&mut self) {
        let part = &self.part;
        let bytes = self.packer.bytes() + part.forgotten.len() + part.seen.len();
        if bytes >= self.bytes_max {
            self.close();
        }
    }

    fn close(&mut self) {
        let mut part = std::mem::replace(&mut self.part, self.blank.clone());
        (part.words, part.changed) = std::mem::take(&mut self.packer).into_parts();
        self.done.push(part);
    }
}
