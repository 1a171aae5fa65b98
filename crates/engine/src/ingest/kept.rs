//! What a source partition knows, written down so that a restart reads that and never the source.
//!
//! Owns the records of its trackers topic. Each commit appends one journal record of what it
//! changed: lives, fingerprints of the events that it accepted, and the newest event time. Beside
//! the journal lie segments: the lives in [`SEGMENTS`] of them by the hash of their names, the
//! fingerprints in parts in the order in which they came. Where the journal has grown longer than
//! the segments, the segment that lacks most is written whole, and the journal records that no
//! segment lacks any more are deleted. So what is written is about twice what has changed, what a
//! restart reads is at most about three times what is known, and no pause is longer than the
//! writing of one segment. All of it is in the transaction that carries the source offsets.

mod pack;
pub mod record;
mod restore;
mod seen;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use fenghuo_log::{Append, TopicPartition};

use super::duplicates::Duplicates;
use super::trackers::{Changes, Lives, SEGMENTS, segment_of};
use pack::{JournalParts, Packer};
use record::{Journal, Key, LivesPart, VERSION};
use seen::SeenParts;

pub(crate) use restore::Restored;

/// Nothing of a segment is in the journal alone.
const CLEAN: u64 = u64::MAX;

/// When segments are written, and how large a record may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Bytes that the journal may have, however little is known.
    pub journal_bytes_min: usize,
    /// Records of the journal beyond which a segment is written with every commit; from the half
    /// of it on, with some.
    pub journal_records_max: usize,
    /// Bytes from which on another record is begun.
    pub part_bytes_max: usize,
}

impl Default for Rewrite {
    fn default() -> Self {
        Self {
            journal_bytes_min: 256 * 1024,
            journal_records_max: 16_384,
            part_bytes_max: 256 * 1024,
        }
    }
}

/// What is written whole at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Lives(usize),
    Seen,
}

/// What of a source partition is written down, and where.
pub(crate) struct Kept {
    to: TopicPartition,
    /// The kind of its lives; 0 where it has none.
    kind: u32,
    rewrite: Rewrite,
    /// Number of the next journal record.
    next: u64,
    /// Bytes of the journal records that are still needed, the oldest first.
    sizes: VecDeque<u32>,
    journal_bytes: usize,
    /// Of each segment the first journal record with a change that its parts lack.
    lacking: Vec<u64>,
    /// Parts that each segment was written in.
    parts: Vec<u32>,
    seen: SeenParts,
    /// Journal records since a segment was written.
    since: usize,
    /// Bytes of segments that may be written for what the journal has grown by.
    budget: usize,
    /// A record is due, whether anything has changed or not.
    must: bool,
}

impl Kept {
    pub(crate) fn new(to: TopicPartition, kind: u32, rewrite: Rewrite) -> Self {
        Self {
            to,
            kind,
            next: 0,
            sizes: VecDeque::new(),
            journal_bytes: 0,
            lacking: vec![CLEAN; SEGMENTS],
            parts: vec![0; SEGMENTS],
            seen: SeenParts::new(rewrite.part_bytes_max),
            rewrite,
            since: 0,
            budget: 0,
            must: false,
        }
    }

    /// Nothing was ever written.
    pub(crate) fn is_new(&self) -> bool {
        self.next == 0
    }

    /// Says at the next commit how things are, even if nothing changes.
    pub(crate) fn say(&mut self) {
        self.must = true;
    }

    /// Appends what has changed, and what is written whole in its turn.
    pub(crate) fn flush(
        &mut self,
        newest_ms: Option<i64>,
        lives: &mut Lives,
        seen: &mut Duplicates,
        appends: &mut Vec<Append>,
    ) {
        if let Some(newest_ms) = newest_ms {
            lives.forget(newest_ms);
        }
        let (fresh, changes) = (seen.take_fresh(), lives.take_changes());
        let is_idle =
            fresh.is_empty() && changes.changed.is_empty() && changes.forgotten.is_empty();
        if is_idle && !std::mem::take(&mut self.must) {
            return;
        }
        self.must = false;
        let clock = seen.clock();
        let pieces = self.due(lives);
        let mut put = Put {
            to: &self.to,
            appends,
        };
        self.seen.take(fresh, clock.generation, self.next, &mut put);
        let mut written = 0_u64;
        for piece in pieces {
            match piece {
                Piece::Seen => self.seen.write(self.next, &mut put),
                Piece::Lives(segment) => {
                    written |= 1 << segment;
                    self.parts[segment] = self.write_segment(segment, lives, &mut put);
                    self.lacking[segment] = CLEAN;
                }
            }
        }
        let blank = Journal {
            version: VERSION,
            newest_ms,
            kind: self.kind,
            clock: Some(clock),
            ..Journal::default()
        };
        let parts = JournalParts::new(blank, self.rewrite.part_bytes_max);
        let parts = self.journal(parts, &changes, written, lives);
        self.append(parts, appends);
    }

    /// What is to be written whole with this commit.
    fn due(&mut self, lives: &Lives) -> Vec<Piece> {
        let (records, most) = (self.sizes.len(), self.rewrite.journal_records_max);
        let known_bytes = lives.bytes() + self.seen.bytes();
        let by_bytes = self.journal_bytes > known_bytes.max(self.rewrite.journal_bytes_min);
        let in_turn = self.since * SEGMENTS * 2 >= most;
        let by_count = records > most || records > most / 2 && in_turn;
        if !by_bytes {
            self.budget = 0;
        }
        if !by_bytes && !by_count {
            return Vec::new();
        }
        let segments = self.lacking.iter().enumerate();
        let segments = segments.map(|(segment, lacking)| (*lacking, Piece::Lives(segment)));
        let seen = (self.seen.lacking(), Piece::Seen);
        let mut pieces: Vec<(u64, Piece)> = segments.chain([seen]).collect();
        pieces.retain(|(lacking, _)| *lacking != CLEAN);
        pieces.sort_by_key(|(lacking, _)| *lacking);
        let mut due = Vec::new();
        for (_, piece) in pieces {
            let bytes = match piece {
                Piece::Lives(segment) => lives.segment_bytes(segment),
                Piece::Seen => self.seen.bytes(),
            };
            let is_paid = by_bytes && self.budget >= bytes;
            let is_in_turn = by_count && due.is_empty();
            // Whatever came before: the journal never has more records than this.
            if !is_paid && !is_in_turn && records <= 2 * most {
                break;
            }
            self.budget = self.budget.saturating_sub(bytes);
            due.push(piece);
        }
        if !due.is_empty() {
            self.since = 0;
        }
        due
    }

    fn write_segment(&self, segment: usize, lives: &Lives, put: &mut Put<'_>) -> u32 {
        let mut packers = vec![Packer::default()];
        for (key, payload) in lives.segment(segment) {
            if let Some(packer) = packers.last_mut() {
                packer.push(key, payload, lives);
                if packer.bytes() >= self.rewrite.part_bytes_max {
                    packers.push(Packer::default());
                }
            }
        }
        if packers.len() > 1 {
            packers.pop_if(|last| last.bytes() == 0);
        }
        let parts = packers.len() as u32;
        for (part, packer) in (0..).zip(packers) {
            let (words, lives) = packer.into_parts();
            let part_of = LivesPart {
                version: VERSION,
                next: self.next,
                parts,
                kind: self.kind,
                words,
                lives,
            };
            put.value(Key::Lives(segment, part), &part_of);
        }
        for gone in parts..self.parts[segment] {
            put.tombstone(Key::Lives(segment, gone));
        }
        parts
    }

    /// The journal of what has changed, but for the segments that are `written` whole.
    fn journal(
        &mut self,
        mut parts: JournalParts,
        changes: &Changes,
        written: u64,
        lives: &Lives,
    ) -> Vec<Journal> {
        let lacking = &mut self.lacking;
        let next = self.next;
        let mut is_told = |key: u128| {
            let segment = segment_of(key);
            let is_told = written & 1 << segment == 0;
            if is_told {
                lacking[segment] = lacking[segment].min(next);
            }
            is_told
        };
        for key in &changes.changed {
            // One that was forgotten since is told below.
            if let Some(payload) = lives.get(*key).filter(|_| is_told(*key)) {
                parts.changed(*key, payload, lives);
            }
        }
        for key in changes.forgotten.iter().filter(|key| is_told(**key)) {
            parts.forgotten(*key);
        }
        for key in self.seen.untold(next) {
            parts.seen(*key);
        }
        parts.finish()
    }

    /// Appends the journal records, and deletes those that are not needed any more.
    fn append(&mut self, mut parts: Vec<Journal>, appends: &mut Vec<Append>) {
        let first = self.next - self.sizes.len() as u64;
        self.next += parts.len() as u64;
        let lacking = self.lacking.iter().copied().min().unwrap_or(CLEAN);
        // The last one says where things stand, so there always is one.
        let oldest = lacking.min(self.seen.lacking()).min(self.next - 1);
        let mut put = Put {
            to: &self.to,
            appends,
        };
        let begin = self.next - parts.len() as u64;
        for (number, part) in (begin..).zip(&mut parts) {
            part.oldest = oldest;
            let bytes = put.value(Key::Journal(number), part);
            self.sizes
                .push_back(u32::try_from(bytes).unwrap_or(u32::MAX));
            self.journal_bytes += bytes;
            self.budget += bytes;
            self.since += 1;
        }
        for number in first..oldest {
            put.tombstone(Key::Journal(number));
            let bytes = self.sizes.pop_front().unwrap_or(0);
            self.journal_bytes -= bytes as usize;
        }
    }
}

/// Where records are put.
struct Put<'a> {
    to: &'a TopicPartition,
    appends: &'a mut Vec<Append>,
}

impl Put<'_> {
    /// Puts a record, and returns its bytes.
    fn value(&mut self, key: Key, message: &impl prost::Message) -> usize {
        let value = message.encode_to_vec();
        let bytes = value.len();
        let append = Append::new(self.to.clone(), Some(key.to_bytes()), value);
        self.appends.push(append);
        bytes
    }

    fn tombstone(&mut self, key: Key) {
        self.appends.push(Append {
            to: self.to.clone(),
            key: Some(key.to_bytes()),
            value: None,
            headers: Vec::new(),
        });
    }
}
