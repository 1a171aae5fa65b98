//! Records packed together: what one commit appends to one partition is one value of the store.
//!
//! Owns the bytes of a batch, in memory and on disk. A store that keeps records one by one costs
//! more for each than parsing it did; packed and compressed, a thousand are as cheap as one. A
//! batch carries a checksum that covers its place too: one that lies elsewhere than it was put is
//! damaged.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use fenghuo_log::{Append, Record, Whole};
use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::{Compressor, Decompressor};

use crate::store::Place;

/// Raw bytes after which a batch is full; one record may go beyond.
pub const RAW_BYTES_MAX: usize = 1024 * 1024;

/// Larger than this, in bytes, no batch can be: the largest record there may be, and room.
const RAW_BYTES_EVER: usize = 64 * 1024 * 1024;

/// The form of what follows: anything else was written by another build.
const VERSION: u8 = 2;

/// The form before: the same without checksums.
const VERSION_1: u8 = 1;
const HEADER_1_BYTES: usize = 1 + 1 + 4 + 4 + 8;

/// How the bytes behind the header are packed.
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// Below this many bytes packing gains nothing.
const PACKED_FROM: usize = 128;

/// The fastest: the others gain a tenth and cost twice.
const ZSTD_LEVEL: i32 = 1;

/// Version, packing, number of records, raw bytes, append time; then the checksum of the body, and
/// that of all this and the place.
const HEADER_BYTES: usize = HEADER_1_BYTES + 8 + 8;
const BODY_SUM: usize = HEADER_1_BYTES;
const HEADER_SUM: usize = BODY_SUM + 8;

/// Why bytes are no batch.
#[derive(Debug, thiserror::Error)]
#[error("a damaged batch: {0}")]
pub struct DamagedError(pub &'static str);

thread_local! {
    // To make one anew costs more than to pack a small batch.
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn compress(raw: &[u8]) -> io::Result<Vec<u8>> {
    PACKER.with_borrow_mut(|packer| match packer {
        Some(packer) => packer.compress(raw),
        None => packer.insert(Compressor::new(ZSTD_LEVEL)?).compress(raw),
    })
}

fn decompress(body: &[u8], raw_bytes: usize) -> io::Result<Vec<u8>> {
    UNPACKER.with_borrow_mut(|unpacker| match unpacker {
        Some(unpacker) => unpacker.decompress(body, raw_bytes),
        None => unpacker
            .insert(Decompressor::new()?)
            .decompress(body, raw_bytes),
    })
}

/// Records that are being gathered.
#[derive(Debug, Default)]
pub struct Builder {
    raw: Vec<u8>,
    starts: Vec<u32>,
}

impl Builder {
    /// Takes a record.
    pub fn push(&mut self, append: &Append) {
        self.starts.push(self.raw.len() as u32);
        put_optional(&mut self.raw, append.key.as_deref());
        put_optional(&mut self.raw, append.value.as_deref());
        put_number(&mut self.raw, append.headers.len() as u64);
        for (name, value) in &append.headers {
            put_bytes(&mut self.raw, name.as_bytes());
            put_bytes(&mut self.raw, value);
        }
    }

    /// Whether nothing was taken yet.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Whether the next record belongs into another batch.
    pub fn is_full(&self) -> bool {
        self.raw.len() >= RAW_BYTES_MAX
    }

    /// The batch, with its bytes packed for the disk.
    pub fn finish(self) -> Packed {
        let packed = (self.raw.len() >= PACKED_FROM)
            .then(|| compress(&self.raw).ok())
            .flatten()
            .filter(|packed| packed.len() < self.raw.len());
        let kind = if packed.is_some() { ZSTD } else { PLAIN };
        let body = packed.as_deref().unwrap_or(&self.raw);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend([VERSION, kind]);
        bytes.extend((self.starts.len() as u32).to_le_bytes());
        bytes.extend((self.raw.len() as u32).to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(xxh3_64(body).to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend_from_slice(body);
        Packed {
            bytes,
            raw: self.raw.into(),
            starts: self.starts,
        }
    }
}

/// A batch that has no place and no time yet.
#[derive(Debug)]
pub struct Packed {
    bytes: Vec<u8>,
    raw: Arc<[u8]>,
    starts: Vec<u32>,
}

impl Packed {
    /// Number of records.
    pub fn count(&self) -> u64 {
        self.starts.len() as u64
    }

    /// Gives it its place and time: the bytes for the disk, and the batch as readers see it.
    pub fn place(mut self, at: Place, base: u64, timestamp_ms: i64) -> (Vec<u8>, Batch) {
        self.bytes[HEADER_1_BYTES - 8..HEADER_1_BYTES].copy_from_slice(&timestamp_ms.to_le_bytes());
        let sum = header_sum(&self.bytes, at, base);
        self.bytes[HEADER_SUM..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        let batch = Batch {
            base,
            timestamp_ms,
            raw: self.raw,
            starts: self.starts,
        };
        (self.bytes, batch)
    }
}

/// Records of one partition that were appended together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Batch {
    base: u64,
    timestamp_ms: i64,
    raw: Arc<[u8]>,
    starts: Vec<u32>,
}

/// The checksum of a header, which covers where the batch lies.
fn header_sum(header: &[u8], at: Place, base: u64) -> u64 {
    let mut covered = [0; HEADER_SUM + 16];
    covered[..HEADER_SUM].copy_from_slice(&header[..HEADER_SUM]);
    let place = &mut covered[HEADER_SUM..];
    place[..4].copy_from_slice(&at.topic.to_le_bytes());
    place[4..8].copy_from_slice(&at.partition.to_le_bytes());
    place[8..].copy_from_slice(&base.to_le_bytes());
    xxh3_64(&covered)
}

/// A batch of the first format in today's form.
pub fn upgraded(old: &[u8], at: Place, base: u64) -> Result<Vec<u8>, DamagedError> {
    let (header, body) = old
        .split_at_checked(HEADER_1_BYTES)
        .filter(|(header, _)| header[0] == VERSION_1)
        .ok_or(DamagedError("it is no batch of the first format"))?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&header[1..]);
    bytes.extend(xxh3_64(body).to_le_bytes());
    let sum = header_sum(&bytes, at, base);
    bytes.extend(sum.to_le_bytes());
    bytes.extend_from_slice(body);
    // What had no checksum is taken for whole only if all of it can be read.
    Batch::read(at, base, &bytes)?;
    Ok(bytes)
}

/// A batch as the first format had it.
#[cfg(test)]
pub fn downgraded(bytes: &[u8]) -> Vec<u8> {
    let mut old = bytes[..HEADER_1_BYTES].to_vec();
    old[0] = VERSION_1;
    old.extend_from_slice(&bytes[HEADER_BYTES..]);
    old
}

/// What the header of a batch tells without unpacking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of records.
    pub count: u64,
    /// When they were appended, Unix ms.
    pub timestamp_ms: i64,
    kind: u8,
    raw_bytes: usize,
}

impl Header {
    /// Reads the beginning of a batch.
    pub fn read(at: Place, base: u64, bytes: &[u8]) -> Result<Self, DamagedError> {
        let header = bytes.get(..HEADER_BYTES);
        let header = header.ok_or(DamagedError("it is shorter than its header"))?;
        let number = |at: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&header[at..at + 4]);
            u32::from_le_bytes(four)
        };
        let mut time = [0; 8];
        time.copy_from_slice(&header[HEADER_1_BYTES - 8..HEADER_1_BYTES]);
        if header[HEADER_SUM..] != header_sum(header, at, base).to_le_bytes() {
            return Err(DamagedError("its header is not what was written there"));
        }
        if header[0] != VERSION {
            return Err(DamagedError("its version is not known"));
        }
        Ok(Self {
            count: u64::from(number(2)),
            timestamp_ms: i64::from_le_bytes(time),
            kind: header[1],
            raw_bytes: number(6) as usize,
        })
    }
}

impl Batch {
    /// Unpacks what lay on the disk at `base` of a partition.
    pub fn read(at: Place, base: u64, bytes: &[u8]) -> Result<Self, DamagedError> {
        let header = Header::read(at, base, bytes)?;
        let body = &bytes[HEADER_BYTES..];
        if bytes[BODY_SUM..HEADER_SUM] != xxh3_64(body).to_le_bytes() {
            return Err(DamagedError("its records are not those that were written"));
        }
        let raw: Arc<[u8]> = match header.kind {
            PLAIN => body.into(),
            ZSTD if header.raw_bytes <= RAW_BYTES_EVER => decompress(body, header.raw_bytes)
                .map_err(|_| DamagedError("it cannot be unpacked"))?
                .into(),
            _ => return Err(DamagedError("its packing is not known")),
        };
        let mut starts = Vec::with_capacity(header.count.min(1 << 20) as usize);
        let mut rest = &raw[..];
        for _ in 0..header.count {
            starts.push((raw.len() - rest.len()) as u32);
            Fields::read(&mut rest).ok_or(DamagedError("a record is cut"))?;
        }
        if !rest.is_empty() {
            return Err(DamagedError("there is more than its records"));
        }
        Ok(Self {
            base,
            timestamp_ms: header.timestamp_ms,
            raw,
            starts,
        })
    }

    /// The offset of its first record.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The offset after its last record.
    pub fn end(&self) -> u64 {
        self.base + self.starts.len() as u64
    }

    /// Bytes that it holds in memory.
    pub fn bytes(&self) -> usize {
        self.raw.len() + self.starts.len() * size_of::<u32>()
    }

    /// Its records from an offset on, as long as `each` says to go on.
    pub fn each(&self, from: u64, mut each: impl FnMut(Record<'_>) -> bool) {
        let first = from.saturating_sub(self.base) as usize;
        for (number, start) in self.starts.iter().enumerate().skip(first) {
            let mut rest = &self.raw[*start as usize..];
            // It was read through when it was built.
            let Some(fields) = Fields::read(&mut rest) else {
                return;
            };
            if !each(fields.record(self.base + number as u64, self.timestamp_ms)) {
                return;
            }
        }
    }
}

impl Batch {
    /// Its records from an offset on with their headers, as long as `each` says to go on.
    pub fn each_whole(&self, from: u64, mut each: impl FnMut(Whole) -> bool) {
        let first = from.saturating_sub(self.base) as usize;
        for (number, start) in self.starts.iter().enumerate().skip(first) {
            let mut rest = &self.raw[*start as usize..];
            let mut headers = Vec::new();
            let fields = Fields::read_with(&mut rest, &mut |name, value| {
                headers.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
            });
            let Some(Fields { key, value, .. }) = fields else {
                return;
            };
            let whole = Whole {
                offset: self.base + number as u64,
                timestamp_ms: self.timestamp_ms,
                key: key.map(<[u8]>::to_vec),
                value: value.map(<[u8]>::to_vec),
                headers,
            };
            if !each(whole) {
                return;
            }
        }
    }
}

/// What a record consists of, where it lies.
struct Fields<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn read(rest: &mut &'a [u8]) -> Option<Self> {
        Self::read_with(rest, &mut |_, _| {})
    }

    /// Reads them, and hands over every header.
    fn read_with(rest: &mut &'a [u8], each: &mut dyn FnMut(&'a [u8], &'a [u8])) -> Option<Self> {
        let key = take_optional(rest)?;
        let value = take_optional(rest)?;
        let mut content_type = None;
        for _ in 0..take_number(rest)? {
            let (name, header) = (take_bytes(rest)?, take_bytes(rest)?);
            each(name, header);
            if name == b"content-type" && content_type.is_none() {
                content_type = Some(header);
            }
        }
        Some(Self {
            key,
            value,
            content_type,
        })
    }

    fn record(&self, offset: u64, timestamp_ms: i64) -> Record<'a> {
        Record {
            offset,
            timestamp_ms,
            key: self.key,
            value: self.value,
            content_type: self.content_type,
        }
    }
}

/// LEB128: seven bits a byte, the lowest first.
fn put_number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    put_number(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

/// Nothing is 0, and what is there has its length plus one.
fn put_optional(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => into.push(0),
        Some(bytes) => {
            put_number(into, bytes.len() as u64 + 1);
            into.extend_from_slice(bytes);
        }
    }
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, left) = rest.split_first()?;
        *rest = left;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = left;
    Some(taken)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_number(rest)?;
    take(rest, length)
}

fn take_optional<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_number(rest)? {
        0 => Some(None),
        length => take(rest, length - 1).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use fenghuo_log::TopicPartition;
    use proptest::prelude::*;

    use super::*;

    const AT: Place = Place {
        topic: 3,
        partition: 1,
    };

    fn any_append() -> impl Strategy<Value = Append> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
        let optional = || proptest::option::of(bytes());
        (optional(), optional(), proptest::option::of(bytes())).prop_map(|(key, value, header)| {
            Append {
                to: TopicPartition::new("t", 0),
                key,
                value,
                headers: header
                    .map(|value| ("content-type", value))
                    .into_iter()
                    .collect(),
            }
        })
    }

    fn packed(appends: &[Append]) -> Packed {
        let mut builder = Builder::default();
        appends.iter().for_each(|append| builder.push(append));
        builder.finish()
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read_back(appends in proptest::collection::vec(any_append(), 1..50), from in 0..60_u64) {
            let (bytes, placed) = packed(&appends).place(AT, 7, -5);
            let read = Batch::read(AT, 7, &bytes).unwrap();
            for batch in [&placed, &read] {
                prop_assert_eq!((batch.base(), batch.end()), (7, 7 + appends.len() as u64));
                let mut number = from.saturating_sub(7);
                batch.each(from, |record| {
                    let append = &appends[number as usize];
                    assert_eq!(record.offset, 7 + number);
                    assert_eq!(record.timestamp_ms, -5);
                    assert_eq!(record.key, append.key.as_deref());
                    assert_eq!(record.value, append.value.as_deref());
                    let header = append.headers.first().map(|(_, value)| &value[..]);
                    assert_eq!(record.content_type, header);
                    number += 1;
                    true
                });
                prop_assert_eq!(number, (appends.len() as u64).max(from.saturating_sub(7)));
            }
        }

        #[test]
        fn a_batch_that_was_changed_or_lies_elsewhere_is_damaged(appends in proptest::collection::vec(any_append(), 1..20), at in any::<usize>(), bit in 0..8_u8) {
            let (mut bytes, _) = packed(&appends).place(AT, 7, -5);
            let other = Place { topic: 4, ..AT };
            prop_assert!(Batch::read(other, 7, &bytes).is_err());
            let beside = Header::read(Place { partition: 0, ..AT }, 7, &bytes);
            prop_assert!(beside.is_err());
            prop_assert!(Batch::read(AT, 8, &bytes).is_err());
            let at = at % bytes.len();
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(Batch::read(AT, 7, &bytes).is_err());
        }

        #[test]
        fn bytes_that_are_no_batch_are_told_apart(bytes in proptest::collection::vec(any::<u8>(), 0..80), at in 0..200_usize, appends in proptest::collection::vec(any_append(), 1..20)) {
            let _ = Batch::read(AT, 0, &bytes);
            let (mut bytes, _) = packed(&appends).place(AT, 0, 0);
            bytes.truncate(bytes.len().saturating_sub(1 + at % 7));
            prop_assert!(Batch::read(AT, 0, &bytes).is_err());
        }
    }
}
