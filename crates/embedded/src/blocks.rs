//! The file under the store: every block of it carries a checksum that is compared when it is read.
//!
//! Owns the bytes on the disk. The store above compares the checksums of its own pages only when it
//! is asked to read all of them; what it meets before that it believes. So a checksum lies behind
//! each block of 4 KiB, over its bytes, its number and the file's id, and a block whose checksum
//! differs is an error before the store has seen it: no row, and no branch that leads to a row, is
//! ever read from damaged bytes. It must never repair anything.
//!
//! ```text
//! 0      what this is: magic, format, id, checksum
//! 4096   first copy of the store's header, with its number and a checksum
//! 8192   second copy
//! 12288  block 1, 8 bytes of checksum, block 2, 8 bytes of checksum …
//! ```
//! The store writes its header in place, so there are two copies: one that was cut by a fault leaves
//! the other. A write goes to the copy that the last sync did not cover. All other blocks are
//! written anew before anything leads to them.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use redb::StorageBackend;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The layout that this build reads and writes: of the blocks, and of the tables in them.
pub const FORMAT: u64 = 2;

/// How a file of this log begins.
pub const MAGIC: &[u8; 16] = b"fenghuo log file";

/// How the store's own files begin: the first format had nothing around them.
pub const MAGIC_OF_FORMAT_1: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// Bytes of a block as the store sees it.
const BLOCK: usize = 4096;
/// Bytes of a checksum.
const SUM: usize = 8;
/// Bytes of a block on the disk.
const STRIDE: usize = BLOCK + SUM;
/// Where the copies of the header begin, and the blocks.
const HEADS: [u64; 2] = [4096, 8192];
const BLOCKS: u64 = 12_288;
/// Bytes of a copy of the header: one sector, its number and checksum included.
const HEAD: usize = 512;
const HEAD_BYTES: usize = HEAD - 2 * SUM;
/// Magic, format, id, checksum.
const TITLE: usize = 16 + 8 + 8 + 8;

/// Why a file is no log of ours, as far as its beginning tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strange {
    /// It has no bytes at all.
    Empty,
    /// It ends before the first block.
    Cut,
    /// The first format, which carried no checksums.
    Older,
    /// A newer build wrote it.
    Newer(u64),
    /// It begins like one, and its first bytes are not those that were written.
    Damaged,
    /// Anything else.
    Foreign,
}

/// What the beginning of a file says: its id.
pub fn title(beginning: &[u8], length: u64) -> Result<u64, Strange> {
    let number = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&beginning[at..at + 8]);
        u64::from_le_bytes(eight)
    };
    if length == 0 {
        return Err(Strange::Empty);
    }
    if beginning.starts_with(MAGIC_OF_FORMAT_1) {
        return Err(Strange::Older);
    }
    // One flipped bit does not make another file of it.
    let alike = beginning.iter().zip(MAGIC).filter(|(a, b)| a == b).count();
    if alike < MAGIC.len() - 2 {
        return Err(Strange::Foreign);
    }
    if length < BLOCKS || beginning.len() < TITLE {
        return Err(Strange::Cut);
    }
    if number(TITLE - SUM) != xxh3_64(&beginning[..TITLE - SUM]) {
        return Err(Strange::Damaged);
    }
    match number(16) {
        FORMAT => Ok(number(24)),
        newer if newer > FORMAT => Err(Strange::Newer(newer)),
        _ => Err(Strange::Foreign),
    }
}

/// The first damage that was met, told to whoever asks after it.
pub type Damage = Arc<OnceLock<String>>;

/// The header of the store, and which copy of it is whose.
#[derive(Debug)]
struct Head {
    bytes: [u8; HEAD_BYTES],
    number: u64,
    /// The copy that was written last, once one was.
    written: Option<usize>,
    /// The copy that the last sync covered.
    synced: Option<usize>,
}

/// A file whose blocks carry checksums.
pub struct Blocks {
    file: Box<dyn StorageBackend>,
    id: u64,
    head: Mutex<Head>,
    damage: Damage,
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks").finish_non_exhaustive()
    }
}

/// A number that no other file has.
fn new_id() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}

impl Blocks {
    /// Puts checksums around a file; one that is empty becomes a log where `creates` says so.
    ///
    /// # Errors
    /// When it cannot be read, or is none of this log: the first word is then [`Strange`]'s.
    pub fn open(file: Box<dyn StorageBackend>, creates: bool) -> io::Result<Result<Self, Strange>> {
        let length = file.len()?;
        let mut beginning = [0; TITLE];
        let known = TITLE.min(length as usize);
        file.read(0, &mut beginning[..known])?;
        let beginning = &beginning[..known];
        let id = match title(beginning, length) {
            Ok(id) => id,
            // Whoever made it was cut off before anything was durable.
            Err(Strange::Empty | Strange::Cut) if creates => begin(&*file)?,
            Err(Strange::Foreign) if creates && beginning.iter().all(|byte| *byte == 0) => {
                begin(&*file)?
            }
            Err(strange) => return Ok(Err(strange)),
        };
        let head = read_heads(&*file, id)?;
        if creates && head.written.is_none() {
            file.set_len(BLOCKS)?;
        }
        // What an earlier process wrote and nobody synced is relied on from here on.
        file.sync_data()?;
        Ok(Ok(Self {
            file,
            id,
            head: Mutex::new(head),
            damage: Damage::default(),
        }))
    }

    /// What tells this file from others.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The first damage that is met.
    pub fn damage(&self) -> Damage {
        Arc::clone(&self.damage)
    }

    fn head(&self) -> MutexGuard<'_, Head> {
        // Every change is made whole.
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sum(&self, number: u64, block: &[u8]) -> [u8; SUM] {
        let seed = self.id ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        xxh3_64_with_seed(block, seed).to_le_bytes()
    }

    fn damaged(&self, what: String) -> io::Error {
        let _ = self.damage.set(what.clone());
        io::Error::new(io::ErrorKind::InvalidData, what)
    }

    /// Reads whole blocks.
    fn read_blocks(&self, first: u64, out: &mut [u8]) -> io::Result<()> {
        let count = out.len() / BLOCK;
        let mut raw = vec![0; count * STRIDE];
        self.file
            .read(at(first), &mut raw)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    self.damaged(format!("the file ends before its block {first} does"))
                }
                _ => error,
            })?;
        let blocks = raw.chunks_exact(STRIDE).zip(out.chunks_exact_mut(BLOCK));
        for (number, (raw, out)) in (first..).zip(blocks) {
            let (block, sum) = raw.split_at(BLOCK);
            if self.sum(number, block) != sum {
                let byte = at(number);
                let what = "does not hold what was written there";
                return Err(self.damaged(format!(
                    "block {number} of the file (4 KiB from byte {byte} on) {what}"
                )));
            }
            out.copy_from_slice(block);
        }
        Ok(())
    }
}

fn new_title(id: u64) -> [u8; TITLE] {
    let mut title = [0; TITLE];
    title[..16].copy_from_slice(MAGIC);
    title[16..24].copy_from_slice(&FORMAT.to_le_bytes());
    title[24..32].copy_from_slice(&id.to_le_bytes());
    let sum = xxh3_64(&title[..32]);
    title[32..].copy_from_slice(&sum.to_le_bytes());
    title
}

/// Makes the beginning of a log: its id.
fn begin(file: &dyn StorageBackend) -> io::Result<u64> {
    let id = new_id();
    file.set_len(BLOCKS)?;
    for at in HEADS {
        file.write(at, &[0; HEAD])?;
    }
    file.write(0, &new_title(id))?;
    Ok(id)
}

/// Where a block lies; block 0 is the header.
fn at(number: u64) -> u64 {
    BLOCKS + number.saturating_sub(1) * STRIDE as u64
}

/// The newest copy of the header that is whole.
fn read_heads(file: &dyn StorageBackend, id: u64) -> io::Result<Head> {
    let mut newest = Head {
        bytes: [0; HEAD_BYTES],
        number: 0,
        written: None,
        synced: None,
    };
    for (copy, at) in HEADS.into_iter().enumerate() {
        let mut raw = [0; HEAD];
        file.read(at, &mut raw)?;
        let (rest, sum) = raw.split_at(HEAD - SUM);
        if xxh3_64_with_seed(rest, id).to_le_bytes() != sum {
            continue;
        }
        let (bytes, number) = rest.split_at(HEAD_BYTES);
        let mut eight = [0; 8];
        eight.copy_from_slice(number);
        let number = u64::from_le_bytes(eight);
        if newest.written.is_none() || number > newest.number {
            newest.bytes.copy_from_slice(bytes);
            (newest.number, newest.written, newest.synced) = (number, Some(copy), Some(copy));
        }
    }
    Ok(newest)
}

/// Whether one of the copies of the header is whole; `read` reads so many bytes from a place on.
pub fn has_head(id: u64, read: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> bool {
    HEADS.into_iter().any(|at| {
        let mut raw = [0; HEAD];
        let is_read = read(at, &mut raw).is_ok();
        let (rest, sum) = raw.split_at(HEAD - SUM);
        is_read && xxh3_64_with_seed(rest, id).to_le_bytes() == sum
    })
}

impl StorageBackend for Blocks {
    fn len(&self) -> io::Result<u64> {
        let length = self.file.len()?;
        // A file that has no header yet has nothing.
        if self.head().written.is_none() && length <= BLOCKS {
            return Ok(0);
        }
        let blocks = length.saturating_sub(BLOCKS) / STRIDE as u64;
        Ok((1 + blocks) * BLOCK as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (block, end) = (BLOCK as u64, offset + out.len() as u64);
        if end <= block {
            let head = self.head();
            if head.written.is_none() {
                drop(head);
                let what = "neither copy of its header holds what was written there";
                return Err(self.damaged(what.to_owned()));
            }
            let mut first = [0; BLOCK];
            first[..HEAD_BYTES].copy_from_slice(&head.bytes);
            out.copy_from_slice(&first[offset as usize..end as usize]);
            return Ok(());
        }
        if offset < block {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        if offset.is_multiple_of(block) && end.is_multiple_of(block) {
            return self.read_blocks(offset / block, out);
        }
        let (first, last) = (offset / block, end.div_ceil(block));
        let mut whole = vec![0; (last - first) as usize * BLOCK];
        self.read_blocks(first, &mut whole)?;
        let skipped = (offset - first * block) as usize;
        out.copy_from_slice(&whole[skipped..skipped + out.len()]);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let blocks = (length / BLOCK as u64).saturating_sub(1);
        self.file.set_len(BLOCKS + blocks * STRIDE as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut head = self.head();
        self.file.sync_data()?;
        head.synced = head.written;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset == 0 && data.len() <= HEAD_BYTES {
            let mut head = self.head();
            let copy = head.synced.map_or(0, |synced| 1 - synced);
            head.bytes[..data.len()].copy_from_slice(data);
            head.number += 1;
            let mut raw = [0; HEAD];
            raw[..HEAD_BYTES].copy_from_slice(&head.bytes);
            raw[HEAD_BYTES..HEAD - SUM].copy_from_slice(&head.number.to_le_bytes());
            let sum = xxh3_64_with_seed(&raw[..HEAD - SUM], self.id);
            raw[HEAD - SUM..].copy_from_slice(&sum.to_le_bytes());
            // Also where it fails: what of it was written is then in this copy, and in no other.
            head.written = Some(copy);
            return self.file.write(HEADS[copy], &raw);
        }
        let block = BLOCK as u64;
        if offset < block || !offset.is_multiple_of(block) || !data.len().is_multiple_of(BLOCK) {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        let first = offset / block;
        let mut raw = Vec::with_capacity(data.len() / BLOCK * STRIDE);
        for (number, block) in (first..).zip(data.chunks_exact(BLOCK)) {
            raw.extend_from_slice(block);
            raw.extend_from_slice(&self.sum(number, block));
        }
        self.file.write(at(first), &raw)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
