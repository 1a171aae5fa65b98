//! A folder without the rows of one compacted topic, for when these rows are damaged and can be made
//! again from another topic.
//!
//! Owns the copying of all else into a new file. It reads nothing of what is left out, so damage there
//! does not stop it; damage anywhere else does. It must never leave out what cannot be made again:
//! the topic that it is made from has to hold every record since its first.

use redb::{ReadTransaction, StorageBackend, WriteTransaction};

use crate::guard::StoreError;
use crate::store::{
    BATCHES, Copied, ENDS, KEYS, LATEST, NUMBERS, OFFSETS, Store, TOPICS, copy_table,
};

impl Store {
    /// Copies all but the rows of the topic `without` into another file. `from` is what they are made
    /// from.
    pub fn copy_without(
        &self,
        without: &str,
        from: &str,
        file: Box<dyn StorageBackend>,
    ) -> Result<Copied, StoreError> {
        let known = self.known()?;
        let of = |name: &str| {
            let topic = known.topics.get(name);
            topic.ok_or_else(|| StoreError::Strange(format!("it has no topic {name}")))
        };
        let (left_out, kept) = (of(without)?, of(from)?);
        if !left_out.compacted {
            let what = format!("{without} is no topic that could be made again");
            return Err(StoreError::Strange(what));
        }
        let trimmed = kept.ends.iter().position(|ends| ends.low > 0);
        if let Some(partition) = trimmed {
            let what = format!(
                "{without} cannot be made again: of {from}/{partition} the first {} records were dropped \
                 by retention, and what they said is in {without} alone",
                kept.ends[partition].low
            );
            return Err(StoreError::Strange(what));
        }
        let id = left_out.id;
        self.guarded(|| {
            let read = self.reader()?;
            let copy = Store::open(file, true, false)?;
            let write = copy.begin()?;
            copy_table(&read, &write, NUMBERS)?;
            copy.counts_from(self.synced());
            copy_table(&read, &write, TOPICS)?;
            copy_table(&read, &write, ENDS)?;
            copy_table(&read, &write, OFFSETS)?;
            copy_table(&read, &write, BATCHES)?;
            latest_without(&read, &write, id)?;
            keys_without(&read, &write, id)?;
            copy.finish(write, true)?;
            Ok((copy.id(), copy.synced()))
        })
    }
}

fn latest_without(
    read: &ReadTransaction,
    write: &WriteTransaction,
    id: u32,
) -> Result<(), StoreError> {
    let mut into = write.open_table(LATEST)?;
    let rows = read.open_table(LATEST)?;
    for row in rows.range(..(id, 0, 0))? {
        let (key, value) = row?;
        into.insert(key.value(), value.value())?;
    }
    for row in rows.range((id + 1, 0, 0)..)? {
        let (key, value) = row?;
        into.insert(key.value(), value.value())?;
    }
    Ok(())
}

fn keys_without(
    read: &ReadTransaction,
    write: &WriteTransaction,
    id: u32,
) -> Result<(), StoreError> {
    const FIRST: &[u8] = &[];
    let mut into = write.open_table(KEYS)?;
    let rows = read.open_table(KEYS)?;
    for row in rows.range(..(id, 0, FIRST))? {
        let (key, value) = row?;
        into.insert(key.value(), value.value())?;
    }
    for row in rows.range((id + 1, 0, FIRST)..)? {
        let (key, value) = row?;
        into.insert(key.value(), value.value())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fenghuo_log::contract::{at, spec_of};
    use fenghuo_log::{Append, Log as _, TopicSpec, Whole};
    use redb::ReadableTable as _;
    use redb::backends::FileBackend;

    use crate::EmbeddedLog;
    use crate::file;
    use crate::store::{LATEST, Store};

    /// A plain topic, a compacted one that is made from it, and another compacted one.
    fn fill(folder: &Path) {
        let log = EmbeddedLog::open(folder).unwrap();
        for topic in ["before", "panes", "state", "behind"] {
            let compacted = topic != "panes";
            let plain = spec_of(topic, 2);
            log.ensure(&[TopicSpec { compacted, ..plain }]).unwrap();
        }
        for number in 0..60_u8 {
            let to = |topic| at(topic, u32::from(number % 2));
            let append = |topic| Append::new(to(topic), Some(vec![number % 7]), vec![number; 300]);
            let appends = ["before", "panes", "state", "behind"].map(append);
            log.append(appends.to_vec()).unwrap();
        }
        log.sync().unwrap();
    }

    fn records(folder: &Path, topic: &str) -> Result<Vec<Whole>, fenghuo_log::Error> {
        let log = EmbeddedLog::open(folder).unwrap();
        let mut all = Vec::new();
        for partition in 0..2 {
            log.dump(&at(topic, partition), 0, &mut |record| {
                all.push(record);
                true
            })?;
        }
        Ok(all)
    }

    /// One of the rows is damaged where no checksum of a block shows it.
    fn damage(folder: &Path) {
        let mut options = std::fs::File::options();
        let file = options.read(true).write(true).open(folder.join("log.redb"));
        let backend = FileBackend::new(file.unwrap()).unwrap();
        let store = Store::open(Box::new(backend), false, false).unwrap();
        let id = store.known().unwrap().topics["state"].id;
        let write = store.begin().unwrap();
        {
            let mut rows = write.open_table(LATEST).unwrap();
            let first = rows.range((id, 0, 0)..).unwrap().next().unwrap().unwrap();
            let (key, mut bytes) = (first.0.value(), first.1.value().to_vec());
            drop(first);
            *bytes.last_mut().unwrap() ^= 1;
            rows.insert(key, bytes.as_slice()).unwrap();
        }
        store.finish(write, true).unwrap();
    }

    #[test]
    fn damaged_rows_that_can_be_made_again_are_taken_out_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("data");
        fill(&folder);
        let kept = ["before", "panes", "behind"];
        let before = kept.map(|topic| records(&folder, topic).unwrap());
        assert!(before.iter().all(|records| records.len() >= 14));
        damage(&folder);
        assert!(records(&folder, "state").is_err());

        let old = file::without(&folder, "state", "panes").unwrap();
        assert_eq!(old, folder.join("log.redb.damaged"));
        assert!(old.exists());
        assert_eq!(kept.map(|topic| records(&folder, topic).unwrap()), before);
        assert_eq!(records(&folder, "state").unwrap(), []);
        let log = EmbeddedLog::open(&folder).unwrap();
        log.check().unwrap();
        // Rows are written again, at offsets that nobody had before.
        let to = at("state", 0);
        assert_eq!(log.high(&to), 30);
        let again = Append::new(to.clone(), Some(b"key".to_vec()), b"new".to_vec());
        log.append(vec![again]).unwrap();
        drop(log);
        assert_eq!(records(&folder, "state").unwrap()[0].offset, 30);
        // The old file is not written over.
        let refused = file::without(&folder, "state", "panes").unwrap_err();
        assert!(
            format!("{refused:?}").contains("move it away"),
            "{refused:?}"
        );
    }

    #[test]
    fn what_dropped_records_said_is_not_taken_out() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("data");
        fill(&folder);
        let log = EmbeddedLog::open(&folder).unwrap();
        log.forget(&at("panes", 1), 20).unwrap();
        assert!(log.range(&at("panes", 1)).0 > 0);
        drop(log);
        for (topic, from, why) in [
            ("state", "panes", "panes/1"),
            ("panes", "before", "no topic that could be made again"),
            ("state", "nowhere", "no topic nowhere"),
        ] {
            let refused = file::without(&folder, topic, from).unwrap_err();
            assert!(format!("{refused:?}").contains(why), "{refused:?}");
        }
        assert!(!folder.join("log.redb.damaged").exists());
        assert!(records(&folder, "state").is_ok_and(|rows| rows.len() >= 14));
    }
}
