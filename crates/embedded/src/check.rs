//! Reading all of a log, to say whether it is whole.
//!
//! Owns what is told of damage: each partition that cannot be read, from which offset on. It goes on
//! past what it finds, so that all of it is named at once.

use fenghuo_log::TopicPartition;

use crate::batch::Batch;
use crate::guard::StoreError;
use crate::store::Place;
use crate::{EmbeddedLog, FolderError};

/// What a topic holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// Records, in all its partitions.
    pub records: u64,
    /// Batches that they are in.
    pub batches: u64,
}

impl EmbeddedLog {
    /// Reads the whole file, compares every checksum, and unpacks every batch: what each topic
    /// holds.
    ///
    /// # Errors
    /// [`FolderError::Damaged`] with everything that cannot be read.
    pub fn check(&self) -> Result<Vec<Checked>, FolderError> {
        let topics = self.shared.lock().all();
        let mut what = Vec::new();
        self.shared.close();
        if let Err(error) = self.shared.reopen(true) {
            what.push(told("the file", &error));
            // What it is made of may be whole all the same.
            self.open_again(&mut what);
        }
        let mut checked = Vec::new();
        for (name, topic) in topics {
            let mut found = Checked {
                name,
                records: 0,
                batches: 0,
            };
            for partition in 0..topic.ends.len() as u32 {
                let of = TopicPartition::new(found.name.as_str(), partition);
                let Ok(store) = self.shared.lock().store() else {
                    break;
                };
                let at = Place {
                    topic: topic.id,
                    partition,
                };
                let count = |batch: Batch| {
                    found.batches += 1;
                    found.records += batch.end() - batch.base();
                    true
                };
                let counted = match topic.compacted {
                    true => store.latest(at, 0, u64::MAX, count),
                    false => store.batches(at, 0, count),
                };
                drop(store);
                if let Err(error) = counted {
                    what.push(told(&of.to_string(), &error));
                    self.open_again(&mut what);
                }
            }
            checked.push(found);
        }
        match what.is_empty() {
            true => Ok(checked),
            false => Err(FolderError::Damaged {
                folder: self.folder(),
                what,
            }),
        }
    }

    fn folder(&self) -> String {
        let home = self.shared.home.as_ref();
        home.map_or_else(
            || "the log".to_owned(),
            |home| home.folder.display().to_string(),
        )
    }

    /// A store that has met damage is of no use any more; another one reads on.
    fn open_again(&self, what: &mut Vec<String>) {
        self.shared.lock().forgive();
        if let Err(error) = self.shared.reopen(false) {
            let nothing = told("the file cannot be opened", &error);
            if what.last() != Some(&nothing) {
                what.push(nothing);
            }
        }
    }
}

/// What is damaged, without what is to be done: that is said once.
fn told(of: &str, error: &StoreError) -> String {
    match error {
        StoreError::Damaged { offset, what } => match offset {
            Some(offset) => format!("{of} from offset {offset} on: {what}"),
            None => format!("{of}: {what}"),
        },
        error => format!("{of}: {error}"),
    }
}
