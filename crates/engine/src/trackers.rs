//! Trackers: the small records of open lives in one source partition.
//!
//! They are kept as the bytes that travel in the log, which is also the smallest form. A closed
//! life is remembered for a while, so that what overtook its end cannot open it again.

use std::collections::VecDeque;

use compact_str::CompactString;
use fenghuo_log::{Append, TopicPartition};
use fenghuo_signal::Parcel;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

/// How many, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackerBounds {
    /// Lives that are kept at most; further ones are not tracked, and counted.
    pub entries_max: usize,
    /// How long a closed life is remembered, in event time.
    pub closed_ms: i64,
}

/// The trackers of one partition.
pub(crate) struct Trackers {
    bounds: TrackerBounds,
    lives: HashMap<CompactString, Box<[u8]>, FixedState>,
    changed: HashSet<CompactString, FixedState>,
    /// When each closed life may be forgotten, in order of closing.
    closed: VecDeque<(i64, CompactString)>,
    /// Events of lives that there was no room for.
    pub(crate) refused: u64,
}

impl Trackers {
    /// None yet.
    pub(crate) fn new(bounds: TrackerBounds) -> Self {
        Self {
            bounds,
            lives: HashMap::default(),
            changed: HashSet::default(),
            closed: VecDeque::new(),
            refused: 0,
        }
    }

    /// Number of lives kept.
    pub(crate) fn len(&self) -> usize {
        self.lives.len()
    }

    /// Lets `change` see and replace the tracker of a life.
    pub(crate) fn with(
        &mut self,
        key: &str,
        now_ms: i64,
        change: impl FnOnce(&mut Option<Parcel>),
    ) {
        // What this process wrote itself decodes; anything else is as good as not told.
        let known = self.lives.get(key);
        let mut tracker: Option<Parcel> =
            known.and_then(|bytes| prost::Message::decode(&bytes[..]).ok());
        if tracker.is_none() && self.lives.len() >= self.bounds.entries_max {
            // Full. Half a life would be counted as one that never ends, so nothing of it is.
            self.refused += 1;
            return;
        }
        let was_open = tracker.as_ref().is_none_or(|parcel| parcel.closed_ms == 0);
        let before = tracker.clone();
        change(&mut tracker);
        if tracker == before {
            return;
        }
        let Some(parcel) = tracker else { return };
        let key = CompactString::new(key);
        if was_open && parcel.closed_ms != 0 {
            self.closed
                .push_back((now_ms + self.bounds.closed_ms, key.clone()));
        }
        let bytes = prost::Message::encode_to_vec(&parcel).into_boxed_slice();
        self.lives.insert(key.clone(), bytes);
        self.changed.insert(key);
    }

    /// Takes a tracker as it was written; `None` forgets it.
    pub(crate) fn restore(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Ok(key) = std::str::from_utf8(key) else {
            return;
        };
        match value {
            None => {
                self.lives.remove(key);
            }
            Some(bytes) => {
                let key = CompactString::new(key);
                if let Ok(parcel) = <Parcel as prost::Message>::decode(bytes)
                    && parcel.closed_ms != 0
                {
                    self.closed
                        .push_back((parcel.closed_ms + self.bounds.closed_ms, key.clone()));
                }
                self.lives.insert(key, bytes.into());
            }
        }
    }

    /// Appends what changed, and forgets what has been closed for long enough.
    pub(crate) fn flush(
        &mut self,
        now_ms: Option<i64>,
        to: &TopicPartition,
        appends: &mut Vec<Append>,
    ) {
        if let (Some((until_ms, _)), Some(now_ms)) = (self.closed.front_mut(), now_ms) {
            // One that was closed under a clock far ahead does not hold back the others.
            *until_ms = (*until_ms).min(now_ms.saturating_add(self.bounds.closed_ms));
        }
        let now_ms = now_ms.unwrap_or(i64::MIN);
        while self
            .closed
            .front()
            .is_some_and(|(until_ms, _)| *until_ms <= now_ms)
        {
            let Some((_, key)) = self.closed.pop_front() else {
                break;
            };
            if self.lives.get(&key).is_some_and(|bytes| is_closed(bytes)) {
                self.lives.remove(&key);
                self.changed.insert(key);
            }
        }
        let mut changed: Vec<CompactString> = self.changed.drain().collect();
        changed.sort_unstable();
        for key in changed {
            let value = self.lives.get(&key).map(|bytes| bytes.to_vec());
            let key = Some(key.as_bytes().to_vec());
            appends.push(Append {
                to: to.clone(),
                key,
                value,
                headers: Vec::new(),
            });
        }
    }
}

fn is_closed(bytes: &[u8]) -> bool {
    <Parcel as prost::Message>::decode(bytes).is_ok_and(|parcel| parcel.closed_ms != 0)
}
