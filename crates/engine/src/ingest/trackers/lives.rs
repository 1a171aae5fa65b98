//! The lives of one source partition as bytes, whatever kind they are of.
//!
//! They are spread over [`SEGMENTS`] by the hash of their name, and found through one small table
//! a segment, so that no table ever grows by more than a segment at once. A life is known by 128
//! bits of its name: of a billion lives, two have the same with a chance of 1 in 10²¹, and then
//! count as one. Who makes such names on purpose spoils the counts of parcels that he could have
//! named outright.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128;

use super::life::{self, Named, Word};
use super::slab::{SLOT_BYTES_MAX, Slab};
use super::words::Words;

/// Parts that the lives are spread over. Written into the log: with another number, what was
/// written cannot be read.
pub(crate) const SEGMENTS: usize = 64;

/// Closed lives are forgotten a minute at a time.
const MINUTE_MS: i64 = 60_000;

/// A slot holds the length of what is kept, the key, and the bytes of the life.
const KEY_AT: usize = 2;
const PAYLOAD_AT: usize = KEY_AT + 16;
/// Of the length: the life has changed since the last commit.
const CHANGED: u16 = 1 << 15;

/// The name of a life.
pub(crate) fn key_of(name: &str) -> u128 {
    xxh3_128(name.as_bytes())
}

/// The segment of a life.
pub(crate) fn segment_of(key: u128) -> usize {
    (key >> 122) as usize
}

/// What has become of the lives since the last commit.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) changed: Vec<u128>,
    pub(crate) forgotten: Vec<u128>,
}

#[derive(Default)]
struct Segment {
    table: HashTable<u32>,
    /// Bytes of keys and lives.
    bytes: usize,
}

/// The lives of a partition.
pub(crate) struct Lives {
    slab: Slab,
    pub(super) words: Words,
    segments: Vec<Segment>,
    len: usize,
    bytes: usize,
    /// Bytes of the tables.
    table_bytes: usize,
    /// Closed lives, by the minute at whose begin they are forgotten.
    closed: BTreeMap<i64, Vec<u32>>,
    closed_len: usize,
    /// How long a closed life is remembered, ms.
    closed_ms: i64,
    changes: Changes,
}

impl Lives {
    pub(super) fn new(closed_ms: i64) -> Self {
        Self {
            slab: Slab::new(),
            words: Words::new(),
            segments: (0..SEGMENTS).map(|_| Segment::default()).collect(),
            len: 0,
            bytes: 0,
            table_bytes: 0,
            closed: BTreeMap::new(),
            closed_len: 0,
            closed_ms,
            changes: Changes::default(),
        }
    }

    /// Number of lives.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that all of this takes.
    pub(crate) fn held_bytes(&self) -> usize {
        let changes = &self.changes;
        let changes = changes.changed.capacity() + changes.forgotten.capacity();
        self.slab.held_bytes()
            + self.words.held_bytes()
            + self.table_bytes
            + size_of::<u32>() * 2 * self.closed_len
            + size_of::<u128>() * changes
    }

    /// Bytes of the lives of a segment as they are written.
    pub(crate) fn segment_bytes(&self, segment: usize) -> usize {
        self.segments[segment].bytes
    }

    /// Bytes of all lives as they are written.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where a life is.
    pub(super) fn find(&self, key: u128) -> Option<u32> {
        let table = &self.segments[segment_of(key)].table;
        let is_it = |handle: &u32| key_in(self.slab.get(*handle)) == key;
        table.find(hash_of(key), is_it).copied()
    }

    /// The bytes of a life.
    pub(super) fn payload(&self, handle: u32) -> &[u8] {
        let slot = self.slab.get(handle);
        &slot[PAYLOAD_AT..PAYLOAD_AT + len_in(slot)]
    }

    /// Keeps a life that was seen or has changed. `false` where there is no place for it.
    pub(super) fn put(&mut self, key: u128, payload: &[u8]) -> bool {
        let handle = match self.find(key) {
            Some(handle) => self.replace(handle, key, payload),
            None => self.insert(key, payload),
        };
        let Some(handle) = handle else { return false };
        let slot = self.slab.get_mut(handle);
        let length = u16::from_le_bytes([slot[0], slot[1]]);
        if length & CHANGED == 0 {
            slot[..KEY_AT].copy_from_slice(&(length | CHANGED).to_le_bytes());
            self.changes.changed.push(key);
        }
        true
    }

    fn insert(&mut self, key: u128, payload: &[u8]) -> Option<u32> {
        let handle = self.slab.take(PAYLOAD_AT + payload.len())?;
        fill(self.slab.get_mut(handle), key, payload, 0);
        let segment = &mut self.segments[segment_of(key)];
        let before = segment.table.allocation_size();
        let slab = &self.slab;
        segment.table.insert_unique(hash_of(key), handle, |handle| {
            hash_of(key_in(slab.get(*handle)))
        });
        self.table_bytes += segment.table.allocation_size() - before;
        segment.bytes += PAYLOAD_AT + payload.len();
        self.bytes += PAYLOAD_AT + payload.len();
        self.len += 1;
        self.note_closed(handle);
        Some(handle)
    }

    fn replace(&mut self, handle: u32, key: u128, payload: &[u8]) -> Option<u32> {
        let before = self.payload(handle).len();
        let was_closed = life::closed_ms(self.payload(handle));
        let kept = u16::from_le_bytes([self.slab.get(handle)[0], self.slab.get(handle)[1]]);
        let changed = kept & CHANGED;
        let bytes = PAYLOAD_AT + payload.len();
        let at = match self.slab.fits(handle, bytes) {
            true => handle,
            false => self.slab.take(bytes)?,
        };
        if let Some(closed_ms) = was_closed {
            self.unnote_closed(handle, closed_ms);
        }
        fill(self.slab.get_mut(at), key, payload, changed);
        let segment = &mut self.segments[segment_of(key)];
        if at != handle {
            let found = segment
                .table
                .find_mut(hash_of(key), |other| *other == handle);
            if let Some(found) = found {
                *found = at;
            }
            self.slab.give_back(handle);
        }
        segment.bytes = segment.bytes + payload.len() - before;
        self.bytes = self.bytes + payload.len() - before;
        self.note_closed(at);
        Some(at)
    }

    /// Forgets a life.
    pub(crate) fn remove(&mut self, key: u128) {
        let Some(handle) = self.find(key) else { return };
        if let Some(closed_ms) = life::closed_ms(self.payload(handle)) {
            self.unnote_closed(handle, closed_ms);
        }
        self.detach(handle, key);
    }

    fn detach(&mut self, handle: u32, key: u128) {
        let bytes = PAYLOAD_AT + self.payload(handle).len();
        let segment = &mut self.segments[segment_of(key)];
        let is_it = |other: &u32| *other == handle;
        if let Ok(entry) = segment.table.find_entry(hash_of(key), is_it) {
            entry.remove();
        }
        segment.bytes -= bytes;
        self.bytes -= bytes;
        self.len -= 1;
        self.slab.give_back(handle);
    }

    fn minute_of(&self, closed_ms: i64) -> i64 {
        closed_ms
            .saturating_add(self.closed_ms)
            .div_euclid(MINUTE_MS)
            + 1
    }

    fn note_closed(&mut self, handle: u32) {
        if let Some(closed_ms) = life::closed_ms(self.payload(handle)) {
            let minute = self.minute_of(closed_ms);
            self.closed.entry(minute).or_default().push(handle);
            self.closed_len += 1;
        }
    }

    /// A closed life has changed or goes: it is not where it was.
    fn unnote_closed(&mut self, handle: u32, closed_ms: i64) {
        let minute = self.minute_of(closed_ms);
        let is_there = |handles: &Vec<u32>| handles.contains(&handle);
        // Under a clock that has stepped back it was moved to another minute.
        let minute = match self.closed.get(&minute).is_some_and(is_there) {
            true => Some(minute),
            false => {
                let mut all = self.closed.iter();
                all.find(|(_, handles)| is_there(handles))
                    .map(|(at, _)| *at)
            }
        };
        if let Some(handles) = minute.and_then(|minute| self.closed.get_mut(&minute)) {
            handles.retain(|other| *other != handle);
            self.closed_len -= 1;
        }
    }

    /// Forgets what has been closed for long enough at `now_ms`.
    pub(crate) fn forget(&mut self, now_ms: i64) {
        // What was closed under a clock far ahead is remembered no longer than the others.
        let last = self.minute_of(now_ms);
        while let Some(entry) = self.closed.last_entry()
            && *entry.key() > last
        {
            let handles = entry.remove();
            self.closed.entry(last).or_default().extend(handles);
        }
        let now = now_ms.div_euclid(MINUTE_MS);
        while let Some(entry) = self.closed.first_entry()
            && *entry.key() <= now
        {
            let handles = entry.remove();
            self.closed_len -= handles.len();
            for handle in handles {
                let key = key_in(self.slab.get(handle));
                // It is in no minute any more, so nothing has to be looked for there.
                self.detach(handle, key);
                self.changes.forgotten.push(key);
            }
        }
    }

    /// What has become of the lives since this was asked last.
    pub(crate) fn take_changes(&mut self) -> Changes {
        let changes = std::mem::take(&mut self.changes);
        for key in &changes.changed {
            if let Some(handle) = self.find(*key) {
                let slot = self.slab.get_mut(handle);
                let length = u16::from_le_bytes([slot[0], slot[1]]) & !CHANGED;
                slot[..KEY_AT].copy_from_slice(&length.to_le_bytes());
            }
        }
        changes
    }

    /// The bytes of the life of this name, to be written down.
    pub(crate) fn get(&self, key: u128) -> Option<&[u8]> {
        self.find(key).map(|handle| self.payload(handle))
    }

    /// Every life of a segment.
    pub(crate) fn segment(&self, segment: usize) -> impl Iterator<Item = (u128, &[u8])> {
        let table = &self.segments[segment].table;
        table
            .iter()
            .map(|handle| (key_in(self.slab.get(*handle)), self.payload(*handle)))
    }

    /// The word of a number, for whoever writes lives down.
    pub(crate) fn word(&self, number: u32) -> Option<&str> {
        self.words.get(number)
    }

    /// Takes a life as it was written down, with words of its own. `false` where the bytes are
    /// not those of a life.
    pub(crate) fn restore(&mut self, key: u128, written: &[u8], words: &[String]) -> bool {
        let mut payload = Vec::with_capacity(written.len());
        let dictionary = &mut self.words;
        let mut number = |word: Word<'_>| match word {
            Word::Empty => None,
            Word::Spelled(text) => Some(Named::Spelled(text.to_owned())),
            Word::Numbered(number) => {
                let text = words.get(number as usize)?;
                let known = dictionary.number(text).map(Named::Number);
                Some(known.unwrap_or_else(|| Named::Spelled(text.clone())))
            }
        };
        let translated = life::translate(written, &mut number, &mut payload);
        if translated.is_none() || PAYLOAD_AT + payload.len() > SLOT_BYTES_MAX {
            return false;
        }
        let is_kept = match self.find(key) {
            Some(handle) => self.replace(handle, key, &payload),
            None => self.insert(key, &payload),
        };
        is_kept.is_some()
    }
}

/// The bits that a table looks at; those that choose the segment are others.
fn hash_of(key: u128) -> u64 {
    key as u64
}

fn key_in(slot: &[u8]) -> u128 {
    let mut key = [0; 16];
    key.copy_from_slice(&slot[KEY_AT..PAYLOAD_AT]);
    u128::from_le_bytes(key)
}

fn len_in(slot: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([slot[0], slot[1]]) & !CHANGED)
}

fn fill(slot: &mut [u8], key: u128, payload: &[u8], changed: u16) {
    slot[..KEY_AT].copy_from_slice(&(payload.len() as u16 | changed).to_le_bytes());
    slot[KEY_AT..PAYLOAD_AT].copy_from_slice(&key.to_le_bytes());
    slot[PAYLOAD_AT..PAYLOAD_AT + payload.len()].copy_from_slice(payload);
}
