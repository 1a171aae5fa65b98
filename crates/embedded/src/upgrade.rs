//! From the first format, whose records carried no checksums, into this one.
//!
//! Owns the tables of the first format and their copying, batch by batch. The old file is read
//! whole first and every checksum of its pages compared: what is copied is what was written. It
//! must never write into the old file more than opening it does.

use std::collections::BTreeMap;
use std::fmt;

use redb::{Builder, ReadableDatabase, ReadableTable as _, StorageBackend};

use crate::batch::upgraded;
use crate::blocks::Damage;
use crate::guard::{StoreError, damaged, guarded};
use crate::store::{
    BATCHES, Copied, ENDS, KEYS, LATEST, NUMBERS, OFFSETS, PIECE_BYTES, Place, Store, TOPICS,
    copy_table, piece,
};

/// The number of the first format.
const FIRST: u64 = 1;

/// A file layer whose kind is known at run time.
struct Boxed(Box<dyn StorageBackend>);

impl fmt::Debug for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Boxed").finish_non_exhaustive()
    }
}

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

/// Copies all of a file of the first format into a new one.
pub fn upgrade(
    from: Box<dyn StorageBackend>,
    to: Box<dyn StorageBackend>,
) -> Result<Copied, StoreError> {
    guarded(&Damage::default(), || copy(from, to))
}

fn copy(from: Box<dyn StorageBackend>, to: Box<dyn StorageBackend>) -> Result<Copied, StoreError> {
    let mut builder = Builder::new();
    builder.set_check_integrity_on_open(true);
    let old = builder.create_with_backend(Boxed(from))?;
    let read = old.begin_read()?;
    let format = read.open_table(NUMBERS)?.get("format")?;
    match format.map(|format| format.value()) {
        Some(FIRST) => {}
        Some(newer) => return Err(StoreError::Newer(newer)),
        None => return Err(damaged("the number of its format is not there")),
    }
    let new = Store::open(to, true, false)?;
    let write = new.begin()?;
    copy_table(&read, &write, TOPICS)?;
    copy_table(&read, &write, OFFSETS)?;
    copy_table(&read, &write, KEYS)?;
    if let Some(last_ms) = read.open_table(NUMBERS)?.get("last_ms")? {
        let mut numbers = write.open_table(NUMBERS)?;
        numbers.insert("last_ms", last_ms.value())?;
    }
    {
        let mut latest = write.open_table(LATEST)?;
        for row in read.open_table(LATEST)?.iter()? {
            let (key, batch) = row?;
            let (topic, partition, offset) = key.value();
            let place = Place { topic, partition };
            let batch = upgraded(batch.value(), place, offset)?;
            latest.insert(key.value(), batch.as_slice())?;
        }
    }
    let mut bytes_of: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    {
        let mut batches = write.open_table(BATCHES)?;
        let mut put = |(at, base): (Place, u64), old: &[u8]| {
            let batch = upgraded(old, at, base)?;
            *bytes_of.entry((at.topic, at.partition)).or_default() += batch.len() as u64;
            for (number, part) in batch.chunks(PIECE_BYTES).enumerate() {
                batches.insert(piece(at, base, number as u32), part)?;
            }
            Ok::<_, StoreError>(())
        };
        let mut of: Option<(Place, u64)> = None;
        let mut bytes = Vec::new();
        for row in read.open_table(BATCHES)?.iter()? {
            let (key, part) = row?;
            let (topic, partition, base, _) = key.value();
            let next = (Place { topic, partition }, base);
            if let Some(whole) = of.filter(|of| *of != next) {
                put(whole, &bytes)?;
                bytes.clear();
            }
            of = Some(next);
            bytes.extend_from_slice(part.value());
        }
        if let Some(whole) = of {
            put(whole, &bytes)?;
        }
    }
    let old_ends = read.open_table(ENDS)?;
    {
        let mut ends = write.open_table(ENDS)?;
        for row in read.open_table(TOPICS)?.iter()? {
            let (_, topic) = row?;
            let (id, partitions, ..) = topic.value();
            for partition in 0..partitions {
                let found = old_ends.get((id, partition))?;
                let (low, high, _) = found.map_or((0, 0, 0), |ends| ends.value());
                let bytes = bytes_of.get(&(id, partition)).copied().unwrap_or(0);
                ends.insert((id, partition), (low, high, bytes))?;
            }
        }
    }
    new.finish(write, true)?;
    // No record is lost on the way, nor was one before.
    for topic in new
        .known()?
        .topics
        .values()
        .filter(|topic| !topic.compacted)
    {
        for partition in 0..topic.ends.len() as u32 {
            let at = Place {
                topic: topic.id,
                partition,
            };
            new.batches(at, 0, |_| true)?;
        }
    }
    Ok((new.id(), new.synced()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fenghuo_log::contract::{at, spec_of, texts};
    use fenghuo_log::{Append, Log as _, TopicSpec};
    use redb::Database;

    use super::*;
    use crate::batch::downgraded;
    use crate::{EmbeddedLog, FolderError};

    /// Puts a folder back into the first format.
    fn downgrade(folder: &Path) {
        let path = folder.join("log.redb");
        let file = std::fs::File::options().read(true).write(true).open(&path);
        let backend = redb::backends::FileBackend::new(file.unwrap()).unwrap();
        let new = Store::open(Box::new(backend), false, false).unwrap();
        let old = folder.join("old");
        let database = Database::create(&old).unwrap();
        let write = database.begin_write().unwrap();
        let read = new.reader().unwrap();
        copy_table(&read, &write, TOPICS).unwrap();
        copy_table(&read, &write, ENDS).unwrap();
        copy_table(&read, &write, OFFSETS).unwrap();
        copy_table(&read, &write, KEYS).unwrap();
        let numbers = write.open_table(NUMBERS);
        numbers.unwrap().insert("format", FIRST).unwrap();
        {
            let mut latest = write.open_table(LATEST).unwrap();
            for row in read.open_table(LATEST).unwrap().iter().unwrap() {
                let (key, batch) = row.unwrap();
                let batch = downgraded(batch.value());
                latest.insert(key.value(), batch.as_slice()).unwrap();
            }
            let mut batches = write.open_table(BATCHES).unwrap();
            for row in read.open_table(BATCHES).unwrap().iter().unwrap() {
                let (key, batch) = row.unwrap();
                // Each is small enough to be one piece.
                let batch = downgraded(batch.value());
                batches.insert(key.value(), batch.as_slice()).unwrap();
            }
        }
        write.commit().unwrap();
        drop((read, new, database));
        std::fs::rename(old, path).unwrap();
        std::fs::remove_file(folder.join("identity")).unwrap();
    }

    fn all(log: &EmbeddedLog) -> Vec<fenghuo_log::Whole> {
        let mut records = Vec::new();
        for of in [at("plain", 0), at("plain", 1), at("state", 0)] {
            log.dump(&of, 0, &mut |record| {
                records.push(record);
                true
            })
            .unwrap();
        }
        records
    }

    #[test]
    fn a_folder_of_the_first_format_is_refused_and_upgraded_with_all_that_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("data");
        let before = {
            let log = EmbeddedLog::open(&folder).unwrap();
            let state = TopicSpec {
                compacted: true,
                ..spec_of("state", 1)
            };
            log.ensure(&[spec_of("plain", 2), state]).unwrap();
            for number in 0..20 {
                let of = at("plain", number % 2);
                log.append(texts(&of, number..number + 3)).unwrap();
                let key = vec![number as u8 % 3];
                let row = Append::new(at("state", 0), Some(key), vec![number as u8; 300]);
                log.append(vec![row]).unwrap();
            }
            log.forget(&at("plain", 0), 10).unwrap();
            log.sync().unwrap();
            all(&log)
        };
        assert_eq!(before.len(), 60 - 9 + 3);
        downgrade(&folder);
        let refused = EmbeddedLog::open(&folder).unwrap_err();
        let why = std::error::Error::source(&refused).unwrap().to_string();
        assert!(why.contains("fenghuo log upgrade"), "{why}");

        let old = crate::upgrade(&folder).unwrap();
        assert!(std::fs::read(old).unwrap().starts_with(b"redb"));
        let log = EmbeddedLog::open(&folder).unwrap();
        assert_eq!(all(&log), before);
        assert_eq!(log.range(&at("plain", 0)), (9, 30));
        log.append(texts(&at("plain", 0), 30..33)).unwrap();
        log.check().unwrap();
        drop(log);
        assert!(matches!(
            crate::upgrade(&folder),
            Err(FolderError::Store { .. })
        ));
    }
}
