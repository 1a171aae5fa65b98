//! What is remembered of a file, as records of the compacted topic `fenghuo.files`.
//!
//! Owns keys and values. It must never panic on what it reads, nor misread what a newer build
//! wrote: that is an error.
//!
//! Two kinds of records, all numbers big-endian:
//!
//! | key | value |
//! |---|---|
//! | `F`, file number (4 bytes) | a version, and the [`Head`]: its name and how far it was read |
//! | `R`, file number (4), chunk (4) | a version, then rows of 20 bytes: id (16), how many of it (4) |
//!
//! A chunk has [`CHUNK_ROWS`] rows at most. Rows are appended to the last chunk, which is written
//! again with each batch, so a batch writes about 10 KiB more than it has new rows; when a file goes,
//! all its keys get tombstones. The topic so holds 20 bytes for each row of each file that is there.

use super::known::Id;
use crate::Encoding;

/// Rows of a full chunk: 20 KiB, far below what a record may hold.
pub(super) const CHUNK_ROWS: usize = 1_024;

const VERSION: u8 = 1;
const ROW_BYTES: usize = 20;
const HEAD_BYTES: usize = 62;

/// A record to write: `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The record's key.
    pub key: Vec<u8>,
    /// The record's value.
    pub value: Option<Vec<u8>>,
}

/// Why remembered files cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "a record of remembered files that this build does not read ({what}); did a newer one write it?"
)]
pub struct KeptError {
    what: &'static str,
}

/// How far a file was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) name: String,
    /// Where the next row begins; 0 while it is read anew.
    pub(super) resume: u64,
    /// Line ends before `resume`.
    pub(super) line: u64,
    /// What the fingerprint covers: more than `resume` where the last row had no end.
    pub(super) covered: u64,
    pub(super) fingerprint: [u8; 16],
    /// The mapping that it was read by.
    pub(super) mapping: [u8; 16],
    /// The encoding, once its bytes told it.
    pub(super) encoding: Option<Encoding>,
    /// Full chunks of rows; one that is not full may follow.
    pub(super) chunks: u32,
}

/// A key, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Head(u32),
    Rows(u32, u32),
}

impl Key {
    pub(super) fn bytes(self) -> Vec<u8> {
        match self {
            Key::Head(file) => [&b"F"[..], &file.to_be_bytes()].concat(),
            Key::Rows(file, chunk) => {
                [&b"R"[..], &file.to_be_bytes(), &chunk.to_be_bytes()].concat()
            }
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, KeptError> {
        let number = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).copied();
        match (bytes.first(), bytes.len()) {
            (Some(b'F'), 5) => number(1).map(|file| Key::Head(u32::from_be_bytes(file))),
            (Some(b'R'), 9) => number(1).zip(number(5)).map(|(file, chunk)| {
                Key::Rows(u32::from_be_bytes(file), u32::from_be_bytes(chunk))
            }),
            _ => None,
        }
        .ok_or(KeptError { what: "key" })
    }

    pub(super) fn with(self, value: Option<Vec<u8>>) -> Kept {
        Kept {
            key: self.bytes(),
            value,
        }
    }
}

impl Head {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let encoding = self.encoding.map_or(0, |encoding| encoding as u8 + 1);
        let mut bytes = vec![VERSION, encoding];
        for number in [self.resume, self.line, self.covered] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(self.fingerprint);
        bytes.extend(self.mapping);
        bytes.extend(self.chunks.to_be_bytes());
        bytes.extend(self.name.bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, KeptError> {
        let bad = KeptError { what: "file" };
        let Some((fixed, name)) = bytes.split_at_checked(HEAD_BYTES) else {
            return Err(bad);
        };
        let number = |at: usize| {
            let bytes = fixed[at..].first_chunk().copied().unwrap_or_default();
            u64::from_be_bytes(bytes)
        };
        let half = |at: usize| fixed[at..].first_chunk().copied().unwrap_or_default();
        let chunks = fixed[58..].first_chunk().copied().unwrap_or_default();
        let encoding = match fixed[1] {
            0 => None,
            code => match Encoding::ALL.get(usize::from(code) - 1) {
                Some(encoding) => Some(*encoding),
                None => return Err(bad),
            },
        };
        match std::str::from_utf8(name) {
            Ok(name) if fixed[0] == VERSION => Ok(Self {
                name: name.to_owned(),
                resume: number(2),
                line: number(10),
                covered: number(18),
                fingerprint: half(26),
                mapping: half(42),
                encoding,
                chunks: u32::from_be_bytes(chunks),
            }),
            _ => Err(bad),
        }
    }
}

pub(super) fn rows_bytes(rows: &[(Id, u32)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + ROW_BYTES * rows.len());
    bytes.push(VERSION);
    for (id, count) in rows {
        bytes.extend(id);
        bytes.extend(count.to_be_bytes());
    }
    bytes
}

pub(super) fn parse_rows(bytes: &[u8]) -> Result<Vec<(Id, u32)>, KeptError> {
    let bad = KeptError { what: "rows" };
    let Some((&VERSION, rows)) = bytes.split_first() else {
        return Err(bad);
    };
    let (rows, []) = rows.as_chunks::<ROW_BYTES>() else {
        return Err(bad);
    };
    let row = |row: &[u8; ROW_BYTES]| {
        let id = row.first_chunk().copied().unwrap_or_default();
        let count = row.last_chunk().copied().unwrap_or_default();
        (id, u32::from_be_bytes(count))
    };
    Ok(rows.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_are_read_as_written() {
        let head = Head {
            name: "订单 1.csv".to_owned(),
            resume: 1,
            line: 2,
            covered: 3,
            fingerprint: [4; 16],
            mapping: [5; 16],
            encoding: Some(Encoding::Big5),
            chunks: 6,
        };
        assert_eq!(Head::parse(&head.bytes()).unwrap(), head);
        let rows = vec![([7; 16], 8), ([9; 16], u32::MAX)];
        assert_eq!(parse_rows(&rows_bytes(&rows)).unwrap(), rows);
        for key in [Key::Head(1), Key::Rows(2, 3)] {
            assert_eq!(Key::parse(&key.bytes()).unwrap(), key);
        }
    }

    #[test]
    fn what_a_newer_build_wrote_is_not_misread() {
        let mut newer = Head::default().bytes();
        newer[0] += 1;
        assert!(Head::parse(&newer).is_err());
        assert!(parse_rows(&[VERSION + 1]).is_err());
        assert!(Key::parse(b"Z0000").is_err());
    }

    proptest! {
        #[test]
        fn nothing_brings_the_reader_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Key::parse(&bytes), Head::parse(&bytes), parse_rows(&bytes));
        }
    }
}
