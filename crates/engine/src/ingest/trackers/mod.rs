//! Trackers: the small records of open lives in one source partition.
//!
//! Owns their form in memory. A closed life is remembered for a while, so that what overtook its
//! end cannot open it again. How they are written down is with [`super::kept`].

mod life;
mod lives;
mod parcel;
mod slab;
mod words;

#[cfg(test)]
pub(super) mod tests;

pub(crate) use life::Life;
pub(crate) use life::{Named, Word, put_varint, take_varint, translate};
pub(crate) use lives::{Changes, Lives, SEGMENTS, key_of, segment_of};

use life::Buffers;

/// How many, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackerBounds {
    /// Lives that are kept at most; further ones are not tracked, and counted.
    pub entries_max: usize,
    /// Bytes of memory that they take at most; further lives are not tracked, and counted.
    pub bytes_max: usize,
    /// How long a closed life is remembered, in event time, ms; to the next minute.
    pub closed_ms: i64,
}

/// The trackers of one partition: lives of one kind.
pub(crate) struct Trackers<L> {
    bounds: TrackerBounds,
    pub(super) lives: Lives,
    /// A life to read into, for its texts to be used again.
    scratch: L,
    buffers: Buffers,
    /// Events of lives that there was no room for.
    pub(crate) refused: u64,
}

impl<L: Life> Trackers<L> {
    /// None yet.
    pub(crate) fn new(bounds: TrackerBounds) -> Self {
        Self {
            bounds,
            lives: Lives::new(bounds.closed_ms),
            scratch: L::default(),
            buffers: Buffers::default(),
            refused: 0,
        }
    }

    /// Number of lives kept.
    pub(crate) fn len(&self) -> usize {
        self.lives.len()
    }

    /// Bytes of memory that they take.
    pub(crate) fn held_bytes(&self) -> usize {
        self.lives.held_bytes()
    }

    fn is_full(&self) -> bool {
        self.lives.len() >= self.bounds.entries_max
            || self.lives.held_bytes() >= self.bounds.bytes_max
    }

    /// Lets `change` see and replace the tracker of a life.
    pub(crate) fn with(&mut self, name: &str, change: impl FnOnce(&mut Option<L>)) {
        let key = key_of(name);
        let known = self.lives.find(key);
        if known.is_none() && self.is_full() {
            // Half a life would be counted as one that never ends, so nothing of it is.
            self.refused += 1;
            return;
        }
        let mut tracker = known.and_then(|handle| {
            let mut life = std::mem::take(&mut self.scratch);
            // What this process wrote itself can be read.
            let read = life::decode(&mut life, self.lives.payload(handle), &self.lives.words);
            read.map(|()| life)
        });
        change(&mut tracker);
        let Some(life) = tracker else { return };
        let payload = life::encode(&life, &mut self.lives.words, &mut self.buffers);
        let is_new = known.is_none_or(|handle| self.lives.payload(handle) != payload);
        if is_new && !self.lives.put(key, payload) {
            self.refused += 1;
        }
        self.scratch = life;
    }
}
