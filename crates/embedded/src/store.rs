//! The tables of the folder, and what is written and read in them.
//!
//! Owns the layout on disk and its version. A batch is cut into pieces that fill a page of the
//! store, since pages are powers of two: whole batches would leave a third of the file empty. A
//! compacted topic keeps a record of a key until the next one comes, in the same transaction, so
//! that it never has to be compacted. It knows no group member and no session.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::Arc;

use fenghuo_log::{Append, TopicSpec};
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable as _,
    StorageBackend, TableDefinition, WriteTransaction,
};

use crate::batch::{Batch, Builder as BatchBuilder, DamagedError, Header};

/// The layout that this build reads and writes.
pub const FORMAT: u64 = 1;

/// Bytes of a piece: with its key and what the store says of it, a page of 16 KiB.
const PIECE_BYTES: usize = 16 * 1024 - 64;

/// What the store may hold in memory of the file.
const CACHE_BYTES: usize = 128 * 1024 * 1024;

/// Numbers that hold for the whole folder.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Name → id, partitions, whether compacted, retention in ms (negative = for ever).
const TOPICS: TableDefinition<'_, &str, (u32, u32, bool, i64)> = TableDefinition::new("topics");
/// Topic and partition → first offset, the one after the last, and bytes of batches.
const ENDS: TableDefinition<'_, (u32, u32), (u64, u64, u64)> = TableDefinition::new("ends");
/// Group, topic and partition → the next offset to read.
const OFFSETS: TableDefinition<'_, (&str, u32, u32), u64> = TableDefinition::new("offsets");
/// Topic, partition, base offset and number of the piece → a piece of a batch.
const BATCHES: TableDefinition<'_, PieceKey, &[u8]> = TableDefinition::new("batches");
/// Topic, partition and offset → a batch of one record, of compacted topics.
const LATEST: TableDefinition<'_, (u32, u32, u64), &[u8]> = TableDefinition::new("latest");
/// Topic, partition and key → the offset of its record, of compacted topics.
const KEYS: TableDefinition<'_, (u32, u32, &[u8]), u64> = TableDefinition::new("keys");

type PieceKey = (u32, u32, u64, u32);

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file says so.
    #[error(transparent)]
    File(Box<redb::Error>),
    /// Another process has the file.
    #[error("another process has it")]
    Taken,
    /// What was written cannot be read.
    #[error(transparent)]
    Damaged(#[from] DamagedError),
    /// A newer build wrote it.
    #[error("it has format {0}, and this build knows {FORMAT}")]
    Newer(u64),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::File(Box::new(error.into()))
    }
}

/// Where a partition is in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The topic's number.
    pub topic: u32,
    /// The partition.
    pub partition: u32,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// First offset.
    pub low: u64,
    /// Offset after the last.
    pub high: u64,
    /// Bytes of its batches on the disk; of compacted topics none are counted.
    pub bytes: u64,
}

impl Ends {
    fn row(self) -> (u64, u64, u64) {
        (self.low, self.high, self.bytes)
    }
}

/// A topic as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its number.
    pub id: u32,
    /// Whether it keeps the last record of each key.
    pub compacted: bool,
    /// How long its records are kept, in ms; `None` = for ever.
    pub retention_ms: Option<i64>,
    /// What each partition holds.
    pub ends: Vec<Ends>,
}

/// All that is known of a folder without reading its records.
#[derive(Debug, Default)]
pub struct Known {
    /// The topics.
    pub topics: BTreeMap<Arc<str>, Topic>,
    /// Group and place → where the group stands.
    pub offsets: Vec<(String, Place, u64)>,
    /// When the last record was appended, Unix ms.
    pub last_ms: i64,
}

/// A record of a compacted topic.
#[derive(Debug)]
pub struct Latest {
    /// Its partition.
    pub at: Place,
    /// Its offset.
    pub offset: u64,
    /// Its key.
    pub key: Vec<u8>,
    /// The batch that it is alone in; `None` is a tombstone.
    pub bytes: Option<Vec<u8>>,
}

/// What one transaction changes.
#[derive(Debug, Default)]
pub struct Change {
    /// Batches of plain topics, with their base offset.
    pub batches: Vec<(Place, u64, Vec<u8>)>,
    /// Records of compacted topics.
    pub latest: Vec<Latest>,
    /// What each partition that was written holds from now on.
    pub ends: Vec<(Place, Ends)>,
    /// Where the group stands from now on.
    pub offsets: Vec<(String, Place, u64)>,
    /// When it was appended, Unix ms.
    pub at_ms: i64,
}

/// An open folder.
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the file, or makes it. `check` reads all of it and compares every checksum.
    pub fn open(file: Box<dyn StorageBackend>, check: bool) -> Result<Self, StoreError> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        builder.set_check_integrity_on_open(check);
        let database = match builder.create_with_backend(Boxed(file)) {
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(StoreError::Taken),
            opened => opened?,
        };
        let store = Self { database };
        store.settle_format()?;
        Ok(store)
    }

    fn settle_format(&self) -> Result<(), StoreError> {
        let write = self.database.begin_write()?;
        let found = {
            let mut numbers = write.open_table(NUMBERS)?;
            let found = numbers.get("format")?.map(|format| format.value());
            if found.is_none() {
                numbers.insert("format", FORMAT)?;
                write.open_table(TOPICS)?;
                write.open_table(ENDS)?;
                write.open_table(OFFSETS)?;
                write.open_table(BATCHES)?;
                write.open_table(LATEST)?;
                write.open_table(KEYS)?;
            }
            found
        };
        match found {
            Some(newer) if newer > FORMAT => {
                write.abort()?;
                Err(StoreError::Newer(newer))
            }
            Some(_) => Ok(write.abort()?),
            None => finish(write, true),
        }
    }

    /// Reads what is known of the folder.
    pub fn known(&self) -> Result<Known, StoreError> {
        let read = self.database.begin_read()?;
        let mut known = Known::default();
        let ends = read.open_table(ENDS)?;
        for entry in read.open_table(TOPICS)?.iter()? {
            let (name, value) = entry?;
            let (id, partitions, compacted, retention_ms) = value.value();
            let mut topic = Topic {
                id,
                compacted,
                retention_ms: (retention_ms >= 0).then_some(retention_ms),
                ends: Vec::with_capacity(partitions as usize),
            };
            for partition in 0..partitions {
                let found = ends.get((id, partition))?;
                let (low, high, bytes) = found.map_or((0, 0, 0), |ends| ends.value());
                topic.ends.push(Ends { low, high, bytes });
            }
            known.topics.insert(name.value().into(), topic);
        }
        for entry in read.open_table(OFFSETS)?.iter()? {
            let (key, offset) = entry?;
            let (group, topic, partition) = key.value();
            let place = Place { topic, partition };
            let offset = offset.value();
            known.offsets.push((group.to_owned(), place, offset));
        }
        let numbers = read.open_table(NUMBERS)?;
        known.last_ms = numbers.get("last_ms")?.map_or(0, |at| at.value() as i64);
        Ok(known)
    }

    /// Makes a topic, or changes how long it is kept.
    pub fn put_topic(&self, id: u32, spec: &TopicSpec) -> Result<(), StoreError> {
        let write = self.database.begin_write()?;
        let retention_ms = spec.retention_ms.unwrap_or(-1);
        let row = (id, spec.partitions, spec.compacted, retention_ms);
        write.open_table(TOPICS)?.insert(spec.name.as_str(), row)?;
        finish(write, true)
    }

    /// Writes a change. It can be seen at once, and is durable after the next [sync](Self::sync).
    pub fn write(&self, change: &Change) -> Result<(), StoreError> {
        let write = self.database.begin_write()?;
        put(&write, change)?;
        finish(write, false)
    }

    /// Makes everything written so far durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        finish(self.database.begin_write()?, true)
    }

    /// Drops the batches of a partition that end at or before an offset: what it holds then.
    pub fn forget(&self, at: Place, before: u64, ends: Ends) -> Result<Ends, StoreError> {
        let read = self.database.begin_read()?;
        let mut left = Ends {
            low: ends.high,
            ..ends
        };
        for header in headers(&read, at, ..=before)? {
            let (base, header) = header?;
            if base + header.count > before {
                left.low = base;
                break;
            }
            left.low = base + header.count;
        }
        drop(read);
        let write = self.database.begin_write()?;
        {
            let mut batches = write.open_table(BATCHES)?;
            let old = piece(at, 0, 0)..piece(at, left.low, 0);
            batches.retain_in::<PieceKey, _>(old, |_, part| {
                left.bytes = left.bytes.saturating_sub(part.len() as u64);
                false
            })?;
            let mut table = write.open_table(ENDS)?;
            table.insert((at.topic, at.partition), left.row())?;
        }
        finish(write, false)?;
        Ok(left)
    }

    /// The oldest batch of a partition: when it was appended, and the offset after it.
    pub fn oldest(&self, at: Place) -> Result<Option<(i64, u64)>, StoreError> {
        let read = self.database.begin_read()?;
        let first = headers(&read, at, ..)?.next().transpose()?;
        Ok(first.map(|(base, header)| (header.timestamp_ms, base + header.count)))
    }

    /// Hands over the batches of a plain partition that hold offsets from `from` on, as long as
    /// `each` says to go on.
    pub fn batches(
        &self,
        at: Place,
        from: u64,
        mut each: impl FnMut(Batch) -> bool,
    ) -> Result<(), StoreError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(BATCHES)?;
        let before = table
            .range(piece(at, 0, 0)..=piece(at, from, 0))?
            .next_back();
        let begin = match before {
            Some(entry) => entry?.0.value(),
            None => piece(at, from, 0),
        };
        let mut bytes = Vec::new();
        let mut base = None;
        for entry in table.range(begin..=piece(at, u64::MAX, u32::MAX))? {
            let (key, part) = entry?;
            let (_, _, at_base, number) = key.value();
            if number == 0
                && let Some(base) = base
            {
                if !each(Batch::read(base, &bytes)?) {
                    return Ok(());
                }
                bytes.clear();
            }
            base = Some(at_base);
            bytes.extend_from_slice(part.value());
        }
        if let Some(base) = base {
            each(Batch::read(base, &bytes)?);
        }
        Ok(())
    }

    /// Hands over the records of a compacted partition, a batch each, from an offset up to another.
    pub fn latest(
        &self,
        at: Place,
        from: u64,
        to: u64,
        mut each: impl FnMut(Batch) -> bool,
    ) -> Result<(), StoreError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(LATEST)?;
        let (begin, end) = ((at.topic, at.partition, from), (at.topic, at.partition, to));
        if from >= to {
            return Ok(());
        }
        for entry in table.range(begin..end)? {
            let (key, bytes) = entry?;
            let (_, _, offset) = key.value();
            if !each(Batch::read(offset, bytes.value())?) {
                break;
            }
        }
        Ok(())
    }

    /// Writes all that is committed now into another file, which holds it whole or not at all.
    pub fn copy_to(&self, file: Box<dyn StorageBackend>) -> Result<(), StoreError> {
        let read = self.database.begin_read()?;
        let copy = Builder::new().create_with_backend(Boxed(file))?;
        let write = copy.begin_write()?;
        copy_table(&read, &write, NUMBERS)?;
        copy_table(&read, &write, TOPICS)?;
        copy_table(&read, &write, ENDS)?;
        copy_table(&read, &write, OFFSETS)?;
        copy_table(&read, &write, BATCHES)?;
        copy_table(&read, &write, LATEST)?;
        copy_table(&read, &write, KEYS)?;
        finish(write, true)
    }

    /// The offset of the first batch that was appended at or after a time, by the clock of then.
    pub fn offset_at(&self, at: Place, time_ms: i64) -> Result<Option<u64>, StoreError> {
        self.offset_within(at, time_ms, i64::MAX)
    }

    /// The offset of the first batch that was appended at or after one time and not after another.
    pub fn offset_within(
        &self,
        at: Place,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Option<u64>, StoreError> {
        let read = self.database.begin_read()?;
        for header in headers(&read, at, ..)? {
            let (base, header) = header?;
            if (from_ms..=to_ms).contains(&header.timestamp_ms) {
                return Ok(Some(base));
            }
        }
        Ok(None)
    }
}

fn copy_table<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    write: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), StoreError> {
    let mut into = write.open_table(table)?;
    for row in read.open_table(table)?.iter()? {
        let (key, value) = row?;
        into.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// A file layer whose kind is known at run time.
#[derive(Debug)]
struct Boxed(Box<dyn StorageBackend>);

impl StorageBackend for Boxed {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> std::io::Result<()> {
        self.0.close()
    }
}

fn piece(at: Place, base: u64, number: u32) -> PieceKey {
    (at.topic, at.partition, base, number)
}

/// The headers of a partition's batches, with their base offsets.
fn headers(
    read: &ReadTransaction,
    at: Place,
    bases: impl RangeBounds<u64>,
) -> Result<impl Iterator<Item = Result<(u64, Header), StoreError>>, StoreError> {
    let table = read.open_table(BATCHES)?;
    let bases = (bases.start_bound().cloned(), bases.end_bound().cloned());
    let range = table.range(piece(at, 0, 0)..=piece(at, u64::MAX, u32::MAX))?;
    Ok(range
        .map(|entry| {
            let (key, bytes) = entry?;
            let (_, _, base, number) = key.value();
            let first = (number == 0).then(|| Header::read(bytes.value()));
            Ok((base, first.transpose()?))
        })
        .take_while(move |found| !matches!(found, Ok((base, _)) if !bases.contains(base)))
        .filter_map(|found| match found {
            Ok((base, Some(header))) => Some(Ok((base, header))),
            Ok((_, None)) => None,
            Err(error) => Some(Err(error)),
        }))
}

fn put(write: &WriteTransaction, change: &Change) -> Result<(), StoreError> {
    if !change.batches.is_empty() {
        let mut batches = write.open_table(BATCHES)?;
        for (at, base, bytes) in &change.batches {
            for (number, part) in bytes.chunks(PIECE_BYTES).enumerate() {
                batches.insert(piece(*at, *base, number as u32), part)?;
            }
        }
    }
    if !change.latest.is_empty() {
        let mut latest = write.open_table(LATEST)?;
        let mut keys = write.open_table(KEYS)?;
        for Latest {
            at,
            offset,
            key,
            bytes,
        } in &change.latest
        {
            let of_key = (at.topic, at.partition, key.as_slice());
            let before = match bytes {
                Some(bytes) => {
                    latest.insert((at.topic, at.partition, *offset), bytes.as_slice())?;
                    keys.insert(of_key, *offset)?.map(|before| before.value())
                }
                None => keys.remove(of_key)?.map(|before| before.value()),
            };
            if let Some(before) = before {
                latest.remove((at.topic, at.partition, before))?;
            }
        }
    }
    let mut ends = write.open_table(ENDS)?;
    for (at, of) in &change.ends {
        ends.insert((at.topic, at.partition), of.row())?;
    }
    let mut offsets = write.open_table(OFFSETS)?;
    for (group, at, offset) in &change.offsets {
        offsets.insert((group.as_str(), at.topic, at.partition), *offset)?;
    }
    if !change.ends.is_empty() {
        let mut numbers = write.open_table(NUMBERS)?;
        numbers.insert("last_ms", change.at_ms.max(0) as u64)?;
    }
    Ok(())
}

/// Ends a transaction. What is durable is written so that a folder opens at once after a crash,
/// however large it is: the store notes which pages are free, and turns to the new state only when
/// all of it is on the disk.
fn finish(mut write: WriteTransaction, durable: bool) -> Result<(), StoreError> {
    if durable {
        write.set_quick_repair(true);
    } else {
        // It fails only where savepoints were touched.
        write.set_durability(Durability::None).map_err(|_| {
            StoreError::File(Box::new(redb::Error::Corrupted("savepoints".to_owned())))
        })?;
    }
    Ok(write.commit()?)
}

/// A record of a compacted topic as it is kept.
pub fn single(append: &Append) -> crate::batch::Packed {
    let mut builder = BatchBuilder::default();
    builder.push(append);
    builder.finish()
}

/// Marks a file as another build's.
#[cfg(test)]
pub fn set_format(path: &std::path::Path, format: u64) {
    let database = Database::open(path).unwrap();
    let write = database.begin_write().unwrap();
    let mut numbers = write.open_table(NUMBERS).unwrap();
    numbers.insert("format", format).unwrap();
    drop(numbers);
    write.commit().unwrap();
}
