//! The records of a trackers topic, as they travel in the log.
//!
//! Each carries the version of its form. None names an offset: a copied topic says the same.

use crate::ingest::duplicates::SeenClock;
use crate::ingest::trackers::take_varint;

/// Version of the records that this build writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// A record by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// What one commit changed, or a part of it; by its number.
    Journal(u64),
    /// A part of the lives of a segment: the segment, and which part.
    Lives(usize, u32),
    /// Fingerprints of events, by their number.
    Seen(u64),
}

impl Key {
    /// As it is in the log.
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Journal(number) => format!("journal/{number}"),
            Self::Lives(segment, part) => format!("lives/{segment}/{part}"),
            Self::Seen(number) => format!("seen/{number}"),
        }
        .into_bytes()
    }

    /// Reads a key; `None` for any that is none of these.
    pub fn parse(key: &[u8]) -> Option<Self> {
        let (kind, rest) = std::str::from_utf8(key).ok()?.split_once('/')?;
        match kind {
            "journal" => rest.parse().ok().map(Self::Journal),
            "seen" => rest.parse().ok().map(Self::Seen),
            "lives" => {
                let (segment, part) = rest.split_once('/')?;
                Some(Self::Lives(segment.parse().ok()?, part.parse().ok()?))
            }
            _ => None,
        }
    }
}

/// A record that carries the version of its form.
pub(super) trait Versioned: prost::Message + Default {
    fn version(&self) -> u32;
}

impl Versioned for Journal {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for LivesPart {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for SeenPart {
    fn version(&self) -> u32 {
        self.version
    }
}

/// What a commit changed. A large one is several of these, each complete in itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Journal {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The number of the oldest record of its kind that is still needed, as of this commit.
    #[prost(uint64, tag = "2")]
    pub oldest: u64,
    /// Newest event time of the source partition, Unix ms.
    #[prost(int64, optional, tag = "3")]
    pub newest_ms: Option<i64>,
    /// The kind of the lives.
    #[prost(uint32, tag = "4")]
    pub kind: u32,
    /// Words that the lives name by number.
    #[prost(string, repeated, tag = "5")]
    pub words: Vec<String>,
    /// Lives as they are now; see [`entries`].
    #[prost(bytes = "vec", tag = "6")]
    pub changed: Vec<u8>,
    /// Keys of lives that were forgotten, 16 bytes each, little-endian.
    #[prost(bytes = "vec", tag = "7")]
    pub forgotten: Vec<u8>,
    /// Fingerprints of events that were accepted, 8 bytes each, little-endian.
    #[prost(bytes = "vec", tag = "8")]
    pub seen: Vec<u8>,
    /// Where in time the fingerprints stand; those of this record are of the young generation.
    #[prost(message, optional, tag = "9")]
    pub clock: Option<SeenClock>,
}

/// Lives of a segment: all of it in one commit, in parts of bounded size.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LivesPart {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Journal records before this number are in here.
    #[prost(uint64, tag = "2")]
    pub next: u64,
    /// Parts of the segment.
    #[prost(uint32, tag = "3")]
    pub parts: u32,
    /// The kind of the lives.
    #[prost(uint32, tag = "4")]
    pub kind: u32,
    /// Words that the lives name by number.
    #[prost(string, repeated, tag = "5")]
    pub words: Vec<String>,
    /// Lives; see [`entries`].
    #[prost(bytes = "vec", tag = "6")]
    pub lives: Vec<u8>,
}

/// Fingerprints of events that were accepted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SeenPart {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Fingerprints of journal records before this number are in here or in a part before.
    #[prost(uint64, tag = "2")]
    pub next: u64,
    /// Number of the generation that they are of.
    #[prost(uint64, tag = "3")]
    pub generation: u64,
    /// 8 bytes each, little-endian.
    #[prost(bytes = "vec", tag = "4")]
    pub seen: Vec<u8>,
}

/// Lives as they lie one behind the other: the key in 16 bytes, little-endian, the length, the
/// bytes of the life. `None` is where they cannot be read, and nothing comes after it.
pub fn entries(mut packed: &[u8]) -> impl Iterator<Item = Option<(u128, &[u8])>> {
    std::iter::from_fn(move || {
        if packed.is_empty() {
            return None;
        }
        let entry = entry(&mut packed);
        if entry.is_none() {
            packed = &[];
        }
        Some(entry)
    })
}

fn entry<'a>(packed: &mut &'a [u8]) -> Option<(u128, &'a [u8])> {
    let (key, rest) = packed.split_first_chunk::<16>()?;
    *packed = rest;
    let bytes = take_varint(packed)?;
    let (life, rest) = packed.split_at_checked(usize::try_from(bytes).ok()?)?;
    *packed = rest;
    Some((u128::from_le_bytes(*key), life))
}

/// Numbers of 8 bytes each, little-endian; `None` where there is a part of one.
pub(super) fn fingerprints(packed: &[u8]) -> Option<impl Iterator<Item = u64>> {
    let (whole, rest) = packed.as_chunks::<8>();
    rest.is_empty()
        .then(|| whole.iter().map(|bytes| u64::from_le_bytes(*bytes)))
}

/// Keys of 16 bytes each, little-endian; `None` where there is a part of one.
pub(super) fn keys(packed: &[u8]) -> Option<impl Iterator<Item = u128>> {
    let (whole, rest) = packed.as_chunks::<16>();
    rest.is_empty()
        .then(|| whole.iter().map(|bytes| u128::from_le_bytes(*bytes)))
}

/// A record in words, for people: what it holds, and how much. `None` where it is none of these.
pub fn shown(key: &[u8], value: &[u8]) -> Option<serde_json::Value> {
    let hex = |key: u128| format!("{key:032x}");
    let names = |packed: &[u8]| -> Vec<String> {
        let known = entries(packed).flatten();
        known.map(|(key, _)| hex(key)).collect()
    };
    match Key::parse(key)? {
        Key::Journal(_) => {
            let record = <Journal as prost::Message>::decode(value).ok()?;
            Some(serde_json::json!({
                "version": record.version,
                "oldest": record.oldest,
                "newest_ms": record.newest_ms,
                "kind": record.kind,
                "words": record.words,
                "changed": names(&record.changed),
                "forgotten": keys(&record.forgotten)?.map(hex).collect::<Vec<_>>(),
                "fingerprints": record.seen.len() / 8,
                "generation": record.clock.map(|clock| clock.generation),
            }))
        }
        Key::Lives(..) => {
            let part = <LivesPart as prost::Message>::decode(value).ok()?;
            Some(serde_json::json!({
                "version": part.version,
                "next": part.next,
                "parts": part.parts,
                "kind": part.kind,
                "words": part.words,
                "lives": names(&part.lives),
            }))
        }
        Key::Seen(_) => {
            let part = <SeenPart as prost::Message>::decode(value).ok()?;
            Some(serde_json::json!({
                "version": part.version,
                "next": part.next,
                "generation": part.generation,
                "fingerprints": part.seen.len() / 8,
            }))
        }
    }
}
