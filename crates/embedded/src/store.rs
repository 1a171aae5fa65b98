//! The tables of the folder, and what is written and read in them.
//!
//! Owns the layout on disk and its version. A batch is cut into pieces that fill a page of the
//! store, since pages are powers of two: whole batches would leave a third of the file empty. A
//! compacted topic keeps a record of a key until the next one comes, in the same transaction, so
//! that it never has to be compacted. It knows no group member and no session.
//!
//! Nothing damaged is handed over: the [blocks](crate::blocks) under the tables carry checksums, the
//! batches in them carry one of their own that covers their place, and offsets between the ends of a
//! partition that no batch has are damage as well. What the store below panics over is damage too.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fenghuo_log::{Append, TopicSpec};
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable as _,
    StorageBackend, TableDefinition, WriteTransaction,
};

use crate::batch::{Batch, Builder as BatchBuilder, Header};
use crate::blocks::{Blocks, Damage, FORMAT};
use crate::guard::{StoreError, behind, damaged, guarded, outside};

/// Bytes of a piece: with its key and what the store says of it, a page of 16 KiB.
pub const PIECE_BYTES: usize = 16 * 1024 - 64;

/// What the store may hold in memory of the file.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Numbers that hold for the whole folder.
pub const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Name → id, partitions, whether compacted, retention in ms (negative = for ever).
pub const TOPICS: TableDefinition<'_, &str, (u32, u32, bool, i64)> = TableDefinition::new("topics");
/// Topic and partition → first offset, the one after the last, and bytes of batches.
pub const ENDS: TableDefinition<'_, (u32, u32), (u64, u64, u64)> = TableDefinition::new("ends");
/// Group, topic and partition → the next offset to read.
pub const OFFSETS: TableDefinition<'_, (&str, u32, u32), u64> = TableDefinition::new("offsets");
/// Topic, partition, base offset and number of the piece → a piece of a batch.
pub const BATCHES: TableDefinition<'_, PieceKey, &[u8]> = TableDefinition::new("batches");
/// Topic, partition and offset → a batch of one record, of compacted topics.
pub const LATEST: TableDefinition<'_, (u32, u32, u64), &[u8]> = TableDefinition::new("latest");
/// Topic, partition and key → the offset of its record, of compacted topics.
pub const KEYS: TableDefinition<'_, (u32, u32, &[u8]), u64> = TableDefinition::new("keys");

pub type PieceKey = (u32, u32, u64, u32);

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
    id: u64,
    /// How often something was made durable, as the file says.
    synced: AtomicU64,
    damage: Damage,
}

impl Store {
    /// Opens the file; one that is empty becomes a log where `creates` says so. `check` reads all of
    /// it and compares every checksum.
    pub fn open(
        file: Box<dyn StorageBackend>,
        creates: bool,
        check: bool,
    ) -> Result<Self, StoreError> {
        let blocks = Blocks::open(file, creates).map_err(redb::StorageError::Io)??;
        let (id, damage) = (blocks.id(), blocks.damage());
        let seen = Arc::clone(&damage);
        guarded(&damage, || {
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE_BYTES);
            builder.set_check_integrity_on_open(check);
            let database = match builder.create_with_backend(blocks) {
                Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(StoreError::Taken),
                opened => opened?,
            };
            let store = Self {
                database,
                id,
                synced: AtomicU64::new(0),
                damage: seen,
            };
            store.settle_format(creates)?;
            Ok(store)
        })
    }

    fn settle_format(&self, creates: bool) -> Result<(), StoreError> {
        let write = self.database.begin_write()?;
        let (found, synced) = {
            let mut numbers = write.open_table(NUMBERS)?;
            let found = numbers.get("format")?.map(|format| format.value());
            let synced = numbers.get("synced")?.map_or(0, |synced| synced.value());
            if found.is_none() && creates {
                numbers.insert("format", FORMAT)?;
                write.open_table(TOPICS)?;
                write.open_table(ENDS)?;
                write.open_table(OFFSETS)?;
                write.open_table(BATCHES)?;
                write.open_table(LATEST)?;
                write.open_table(KEYS)?;
            }
            (found, synced)
        };
        self.synced.store(synced, Ordering::Relaxed);
        match found {
            Some(FORMAT) => Ok(write.abort()?),
            Some(newer) if newer > FORMAT => {
                write.abort()?;
                Err(StoreError::Newer(newer))
            }
            None if creates => self.finish(write, true),
            _ => {
                write.abort()?;
                Err(damaged("the number of its format is not there"))
            }
        }
    }

    /// Begins to write.
    pub fn begin(&self) -> Result<WriteTransaction, StoreError> {
        Ok(self.database.begin_write()?)
    }

    /// Begins to read.
    pub fn reader(&self) -> Result<ReadTransaction, StoreError> {
        Ok(self.database.begin_read()?)
    }

    /// What tells this log from others.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How often something was made durable.
    pub fn synced(&self) -> u64 {
        self.synced.load(Ordering::Relaxed)
    }

    /// Runs something on the file, as [`guarded`] does.
    pub fn guarded<T>(&self, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        guarded(&self.damage, run)
    }

    /// Ends a transaction. What is durable is written so that a folder opens at once after a crash,
    /// however large it is: the store notes which pages are free, and turns to the new state only
    /// when all of it is on the disk.
    pub fn finish(&self, mut write: WriteTransaction, durable: bool) -> Result<(), StoreError> {
        if !durable {
            // It fails only where savepoints were touched.
            write.set_durability(Durability::None).map_err(|_| {
                StoreError::File(Box::new(redb::Error::Corrupted("savepoints".to_owned())))
            })?;
            return Ok(write.commit()?);
        }
        write.set_quick_repair(true);
        let synced = self.synced() + 1;
        write.open_table(NUMBERS)?.insert("synced", synced)?;
        write.commit()?;
        self.synced.store(synced, Ordering::Relaxed);
        Ok(())
    }

    /// Reads what is known of the folder.
    pub fn known(&self) -> Result<Known, StoreError> {
        self.guarded(|| {
            let read = self.database.begin_read()?;
            let mut known = Known::default();
            for entry in read.open_table(TOPICS)?.iter()? {
                let (name, value) = entry?;
                let (id, partitions, compacted, retention_ms) = value.value();
                let mut topic = Topic {
                    id,
                    compacted,
                    retention_ms: (retention_ms >= 0).then_some(retention_ms),
                    ends: Vec::new(),
                };
                for partition in 0..partitions {
                    let topic_of = Place {
                        topic: id,
                        partition,
                    };
                    topic.ends.push(ends_of(&read, topic_of)?);
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
        })
    }

    /// Makes a topic, or changes how long it is kept.
    pub fn put_topic(&self, id: u32, spec: &TopicSpec) -> Result<(), StoreError> {
        self.guarded(|| {
            let write = self.database.begin_write()?;
            let retention_ms = spec.retention_ms.unwrap_or(-1);
            let row = (id, spec.partitions, spec.compacted, retention_ms);
            let is_new = write
                .open_table(TOPICS)?
                .insert(spec.name.as_str(), row)?
                .is_none();
            if is_new {
                let mut ends = write.open_table(ENDS)?;
                for partition in 0..spec.partitions {
                    ends.insert((id, partition), Ends::default().row())?;
                }
            }
            self.finish(write, true)
        })
    }

    /// Writes a change. It can be seen at once, and is durable after the next [sync](Self::sync).
    pub fn write(&self, change: &Change) -> Result<(), StoreError> {
        self.guarded(|| {
            let write = self.database.begin_write()?;
            put(&write, change)?;
            self.finish(write, false)
        })
    }

    /// Makes everything written so far durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.guarded(|| self.finish(self.database.begin_write()?, true))
    }

    /// Drops the batches of a partition that end at or before an offset: what it holds then.
    pub fn forget(&self, at: Place, before: u64) -> Result<Ends, StoreError> {
        self.guarded(|| {
            let read = self.database.begin_read()?;
            let mut left = ends_of(&read, at)?;
            left.low = left.high;
            headers(&read, at, |base, header| {
                let goes = base + header.count <= before;
                if !goes {
                    left.low = base;
                }
                goes
            })?;
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
            self.finish(write, false)?;
            Ok(left)
        })
    }

    /// The oldest batch of a partition: when it was appended, and the offset after it.
    pub fn oldest(&self, at: Place) -> Result<Option<(i64, u64)>, StoreError> {
        self.guarded(|| {
            let mut oldest = None;
            headers(&self.database.begin_read()?, at, |base, header| {
                oldest = Some((header.timestamp_ms, base + header.count));
                false
            })?;
            Ok(oldest)
        })
    }

    /// Hands over the batches of a plain partition that hold offsets from `from` on, as long as
    /// `each` says to go on. Every offset between the ends of the partition is in one of them.
    pub fn batches(
        &self,
        at: Place,
        from: u64,
        mut each: impl FnMut(Batch) -> bool,
    ) -> Result<(), StoreError> {
        let reached = Cell::new(from);
        self.guarded(|| {
            let read = self.database.begin_read()?;
            let Ends { low, high, .. } = ends_of(&read, at)?;
            let from = from.max(low);
            reached.set(from);
            if from >= high {
                return Ok(());
            }
            let table = read.open_table(BATCHES)?;
            let before = table
                .range(piece(at, 0, 0)..=piece(at, from, u32::MAX))?
                .next_back();
            let Some(before) = before else {
                return Err(damaged(MISSING));
            };
            let (_, _, first, _) = before?.0.value();
            let mut bytes = Vec::new();
            let mut base = first;
            let mut whole = |base, bytes: &[u8]| {
                let batch = Batch::read(at, base, bytes)?;
                if batch.end() <= from {
                    return Err(damaged(MISSING));
                }
                reached.set(batch.end());
                Ok::<_, StoreError>(outside(|| each(batch)))
            };
            for entry in table.range(piece(at, first, 0)..=piece(at, u64::MAX, u32::MAX))? {
                let (key, part) = entry?;
                let (_, _, at_base, _) = key.value();
                if at_base != base {
                    if !whole(base, &bytes)? {
                        return Ok(());
                    }
                    if at_base != reached.get() {
                        return Err(damaged(MISSING));
                    }
                    bytes.clear();
                    base = at_base;
                }
                bytes.extend_from_slice(part.value());
            }
            if whole(base, &bytes)? && reached.get() != high {
                return Err(damaged(MISSING));
            }
            Ok(())
        })
        .map_err(|error| behind(error, reached.get()))
    }

    /// Hands over the records of a compacted partition, a batch each, from an offset up to another.
    pub fn latest(
        &self,
        at: Place,
        from: u64,
        to: u64,
        mut each: impl FnMut(Batch) -> bool,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let reached = Cell::new(from);
        self.guarded(|| {
            let read = self.database.begin_read()?;
            let table = read.open_table(LATEST)?;
            let (begin, end) = ((at.topic, at.partition, from), (at.topic, at.partition, to));
            for entry in table.range(begin..end)? {
                let (key, bytes) = entry?;
                let (_, _, offset) = key.value();
                let batch = Batch::read(at, offset, bytes.value())?;
                if offset < reached.get() || batch.end() != offset + 1 {
                    return Err(damaged("its records are not in their order"));
                }
                reached.set(offset + 1);
                if !outside(|| each(batch)) {
                    break;
                }
            }
            Ok(())
        })
        .map_err(|error| behind(error, reached.get()))
    }

    /// A copy goes on counting from where the file was that it was made of.
    pub fn counts_from(&self, synced: u64) {
        self.synced.store(synced, Ordering::Relaxed);
    }

    /// Writes all that is committed now into another file, which holds it whole or not at all.
    pub fn copy_to(&self, file: Box<dyn StorageBackend>) -> Result<Copied, StoreError> {
        self.guarded(|| {
            let read = self.database.begin_read()?;
            let copy = Store::open(file, true, false)?;
            let write = copy.database.begin_write()?;
            copy_table(&read, &write, NUMBERS)?;
            // Its numbers are those of the other file; from here on it counts on from there.
            copy.counts_from(self.synced());
            copy_table(&read, &write, TOPICS)?;
            copy_table(&read, &write, ENDS)?;
            copy_table(&read, &write, OFFSETS)?;
            copy_table(&read, &write, BATCHES)?;
            copy_table(&read, &write, LATEST)?;
            copy_table(&read, &write, KEYS)?;
            copy.finish(write, true)?;
            Ok((copy.id(), copy.synced()))
        })
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
        self.guarded(|| {
            let mut found = None;
            headers(&self.database.begin_read()?, at, |base, header| {
                let is_found = (from_ms..=to_ms).contains(&header.timestamp_ms);
                found = is_found.then_some(base);
                !is_found
            })?;
            Ok(found)
        })
    }
}

/// The id of a copy, and how often it was made durable.
pub type Copied = (u64, u64);

/// What is told of offsets that are nowhere.
const MISSING: &str = "records between the first and the last one are missing";

/// What a partition holds, as it is written.
fn ends_of(read: &ReadTransaction, at: Place) -> Result<Ends, StoreError> {
    let found = read.open_table(ENDS)?.get((at.topic, at.partition))?;
    let (low, high, bytes) = found
        .ok_or_else(|| damaged("where a partition ends is not there"))?
        .value();
    Ok(Ends { low, high, bytes })
}

/// Copies a table as it is.
pub fn copy_table<K: redb::Key + 'static, V: redb::Value + 'static>(
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

/// The key of a piece.
pub fn piece(at: Place, base: u64, number: u32) -> PieceKey {
    (at.topic, at.partition, base, number)
}

/// Hands over the headers of a partition's batches with their base offsets, as long as `each` says
/// to go on. Every offset between the ends of the partition is in one of them.
fn headers(
    read: &ReadTransaction,
    at: Place,
    mut each: impl FnMut(u64, Header) -> bool,
) -> Result<(), StoreError> {
    let Ends { low, high, .. } = ends_of(read, at)?;
    let table = read.open_table(BATCHES)?;
    let mut next = low;
    for entry in table.range(piece(at, low, 0)..=piece(at, u64::MAX, u32::MAX))? {
        let (key, bytes) = entry?;
        let (_, _, base, number) = key.value();
        if number > 0 {
            continue;
        }
        if base != next {
            return Err(behind(damaged(MISSING), next));
        }
        let header = Header::read(at, base, bytes.value())?;
        next = base + header.count;
        if !each(base, header) {
            return Ok(());
        }
    }
    match next == high {
        true => Ok(()),
        false => Err(behind(damaged(MISSING), next)),
    }
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
            if let Some(before) = before
                && latest.remove((at.topic, at.partition, before))?.is_none()
            {
                return Err(damaged("a key leads to a record that is not there"));
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

/// A record of a compacted topic as it is kept.
pub fn single(append: &Append) -> crate::batch::Packed {
    let mut builder = BatchBuilder::default();
    builder.push(append);
    builder.finish()
}
