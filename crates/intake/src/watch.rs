//! A folder whose files become events: what is new in them, once.
//!
//! [`Watcher`] is a state machine without a thread and without a clock: each look at the folder
//! comes in (names, sizes, times, readers, and what time it is), and a [`Batch`] goes out, whose
//! messages, rejected rows and records to remember belong into one transaction. Whatever was
//! committed is remembered; whatever was not is read again by the next life, which begins from the
//! records of the topic [`TOPIC`]. After a failed commit a watcher must not be used any more.
//!
//! **Which rows are known.** A row's id is a hash of its mapping's source, the event's type and the
//! columns that the mapping names; its other columns may change without making it another. Equal
//! rows of one file are told apart by their number, so a file that is exported again, longer, under
//! another name or in another order gives the same ids. A file that goes takes what is known along,
//! unless another one has the same rows: see `forget`.
//!
//! **When rows are taken.** A line when its end is there, an order when the next one begins; the
//! last of each when the file has rested for `settle`. More rows of an order that was sent are
//! rejected by name. Each row that is rejected is told once, as long as a file has it.
//!
//! **How a file is read.** From where it was, if its beginning is what it was (a fingerprint over
//! all of it, since a status may change in the middle); else anew, passing over what is known. A
//! look at a changed file reads it once, so large ones are looked at less often ([`PACE_BYTES`]).
//! Several files are read in turns of a few MiB each, so that none waits until a large one is read. A
//! file of which 64 MiB in a row have no row is left and named.
//!
//! Bounds: files ([`Settings::files_max`]; further ones are left and named), rows remembered
//! ([`Settings::rows_max`]; when full nothing new is taken until a file goes, and it is named), the
//! length of a row ([`Settings::row_bytes_max`]; a longer one is rejected). Memory is 50 to 100
//! bytes for each row of each file, an order counting as one, and while a changed file is read anew
//! once more 30 for each of its rows; the log holds 20.

mod folder;
mod kept;
mod known;
mod open;
mod pass;
mod records;
mod run;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fenghuo_event::bounds::MESSAGE_BYTES_MAX;

use crate::{Mapping, Message, Rejected};
use kept::{Head, Key, parse_rows};
use known::{Id, Known};
use open::Refusal;
use pass::{End, Pass};

pub use folder::{Directory, Folder, Seen};
pub use kept::{Kept, KeptError};

/// What is remembered of files: a compacted topic of one partition.
pub const TOPIC: &str = "fenghuo.files";

/// A file that has changed is not looked at again before as many seconds have passed as it has of
/// these: reading 32 MiB takes a small part of a second.
pub const PACE_BYTES: u64 = 32 * 1024 * 1024;

/// Files that are read at a time, each in its turn; others wait until one of them was read.
const PASSES_MAX: usize = 8;

/// How long an empty folder is taken for one that is out of reach: a network share that is not
/// mounted looks like that, and all its rows would come again.
pub const EMPTY_MS: i64 = 24 * 3_600_000;

/// What a watcher is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What files may hold. A file is read by the one whose columns it has.
    pub mappings: Vec<Arc<Mapping>>,
    /// How long a file has to rest before its last line and its last order are taken.
    pub settle_ms: i64,
    /// Files that are watched at most.
    pub files_max: usize,
    /// Rows that are remembered at most, of all files.
    pub rows_max: usize,
    /// Bytes of a row at most.
    pub row_bytes_max: usize,
    /// Bytes without a row, blank lines or one line that has no end, behind which nothing of a file is
    /// read: a few bytes of a packed or a sparse file can be any number of them.
    pub barren_bytes_max: u64,
}

impl Settings {
    /// The usual bounds.
    pub fn new(mappings: Vec<Arc<Mapping>>) -> Self {
        Self {
            mappings,
            settle_ms: 30_000,
            files_max: 1_000,
            rows_max: 2_000_000,
            row_bytes_max: MESSAGE_BYTES_MAX,
            barren_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// What came of one look.
#[derive(Debug, Default)]
pub struct Batch {
    /// Events.
    pub messages: Vec<Message>,
    /// Rows that are none.
    pub rejected: Vec<Rejected>,
    /// What is to be remembered, in the same transaction.
    pub kept: Vec<Kept>,
    /// What somebody should look at, told once.
    pub notices: Vec<Notice>,
    /// Whether there is more to be had at once.
    pub more: bool,
    bytes: usize,
}

impl Batch {
    /// Whether there is anything to commit.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.rejected.is_empty() && self.kept.is_empty()
    }

    /// Takes a message or a rejected row.
    fn push(&mut self, item: Result<Message, Rejected>) {
        match item {
            Ok(message) => {
                self.bytes += message.value.len();
                self.messages.push(message);
            }
            Err(rejected) => {
                self.bytes += rejected.bytes.len();
                self.rejected.push(rejected);
            }
        }
    }

    fn notice(&mut self, file: &str, problem: String) {
        let file = file.to_owned();
        self.notices.push(Notice { file, problem });
    }
}

/// Something about a file that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The file's name.
    pub file: String,
    /// What is the matter, and what to do.
    pub problem: String,
}

/// Size and time of a file: where they are as they were, so is the file.
type Stat = (u64, i64);

/// A file in the folder.
#[derive(Default)]
struct Watched {
    stat: Stat,
    /// When it was first seen like that.
    since_ms: i64,
    /// What it was like when it was last read to its end, and whether nothing of it waits.
    passed: Option<(Stat, bool)>,
    /// Not before this.
    next_ms: i64,
    told: Option<String>,
}

impl Watched {
    fn is_done(&self) -> bool {
        self.passed == Some((self.stat, true))
    }
}

/// A file that is remembered.
#[derive(Default)]
struct File {
    head: Head,
    /// Rows of the last chunk.
    tail: Vec<(Id, u32)>,
}

/// See the module.
pub struct Watcher {
    settings: Settings,
    known: Known,
    files: BTreeMap<u32, File>,
    by_name: BTreeMap<String, u32>,
    watched: BTreeMap<String, Watched>,
    /// Files that are remembered and not there, and since when.
    gone: BTreeMap<u32, i64>,
    /// Files that are being read, each in its turn.
    passes: VecDeque<Pass>,
    is_full: bool,
    told_files: bool,
    restoring: BTreeMap<Key, Vec<u8>>,
}

impl Watcher {
    /// One that remembers nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            known: Known::default(),
            files: BTreeMap::new(),
            by_name: BTreeMap::new(),
            watched: BTreeMap::new(),
            gone: BTreeMap::new(),
            passes: VecDeque::new(),
            is_full: false,
            told_files: false,
            restoring: BTreeMap::new(),
        }
    }

    /// Takes a record of [`TOPIC`], in their order; [`Watcher::restored`] ends it.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), KeptError> {
        let key = Key::parse(key)?;
        match value {
            Some(value) => self.restoring.insert(key, value.to_vec()),
            None => self.restoring.remove(&key),
        };
        Ok(())
    }

    /// All records were taken.
    pub fn restored(&mut self) -> Result<(), KeptError> {
        let restoring = std::mem::take(&mut self.restoring);
        // Heads sort before rows.
        for (key, value) in restoring {
            match key {
                Key::Head(number) => {
                    let head = Head::parse(&value)?;
                    self.by_name.insert(head.name.clone(), number);
                    let tail = Vec::new();
                    self.files.insert(number, File { head, tail });
                }
                Key::Rows(number, chunk) => {
                    let Some(file) = self.files.get_mut(&number) else {
                        continue;
                    };
                    let rows = parse_rows(&value)?;
                    for (id, count) in &rows {
                        let count = self.known.of(id, number).max(*count);
                        self.known.set(*id, number, count);
                    }
                    if chunk == file.head.chunks {
                        file.tail = rows;
                    }
                }
            }
        }
        Ok(())
    }

    /// Rows that are remembered, of all files.
    pub fn rows(&self) -> usize {
        self.known.entries()
    }

    /// Files that are remembered.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// The files that are being read, with the bytes that were read of each so far, unpacked.
    pub fn reading(&self) -> impl Iterator<Item = (&str, u64)> {
        let passes = self.passes.iter();
        passes.map(|pass| (&*pass.name, pass.records.read_bytes()))
    }

    /// Looks at the folder. The listing is of `now_ms`, counted from any instant, which never goes
    /// back; call again at once while there is [more](Batch::more).
    pub fn look(&mut self, now_ms: i64, listing: &[Seen], folder: &dyn Folder) -> Batch {
        let mut batch = Batch::default();
        self.note(now_ms, listing, &mut batch);
        if self.passes.len() < PASSES_MAX {
            self.begin(now_ms, folder, &mut batch);
        }
        match self.passes.pop_front() {
            Some(pass) => self.read(pass, now_ms, &mut batch),
            None => self.forget_gone(now_ms, &mut batch),
        }
        batch
    }

    /// Notes what is there and since when.
    fn note(&mut self, now_ms: i64, listing: &[Seen], batch: &mut Batch) {
        let names: BTreeSet<&str> = listing.iter().map(|seen| &*seen.name).collect();
        self.watched.retain(|name, _| names.contains(&**name));
        let mut listing: Vec<&Seen> = listing.iter().collect();
        listing.sort_by_key(|seen| (seen.modified_ms, &seen.name));
        for seen in listing {
            let is_new = !self.watched.contains_key(&seen.name);
            if is_new && self.watched.len() >= self.settings.files_max {
                self.too_many(&seen.name, batch);
                continue;
            }
            let stat = (seen.size_bytes, seen.modified_ms);
            let watched = self.watched.entry(seen.name.clone()).or_default();
            if is_new || watched.stat != stat {
                watched.stat = stat;
                watched.since_ms = now_ms;
            }
        }
        for (number, file) in &self.files {
            match self.watched.contains_key(&file.head.name) {
                true => self.gone.remove(number),
                false => Some(*self.gone.entry(*number).or_insert(now_ms)),
            };
        }
    }

    fn too_many(&mut self, name: &str, batch: &mut Batch) {
        if !std::mem::replace(&mut self.told_files, true) {
            let most = self.settings.files_max;
            let problem = format!(
                "there are more than {most} files: it and others are left; take old ones away"
            );
            batch.notice(name, problem);
        }
    }

    /// Begins to read the file that has waited longest of those that have something to say.
    fn begin(&mut self, now_ms: i64, folder: &dyn Folder, batch: &mut Batch) {
        let mut next: Vec<(i64, String, Stat, bool)> = Vec::new();
        let reads = |name: &str| self.passes.iter().any(|pass| &*pass.name == name);
        for (name, watched) in &self.watched {
            if reads(name) {
                continue;
            }
            let rested = now_ms - watched.since_ms >= self.settings.settle_ms;
            let changed = watched.passed.is_none_or(|(stat, _)| stat != watched.stat);
            if now_ms >= watched.next_ms && (changed || rested && !watched.is_done()) {
                next.push((watched.stat.1, name.clone(), watched.stat, rested));
            }
        }
        next.sort_unstable();
        for (_, name, stat, is_final) in next {
            match self.open(folder, &name, stat, is_final) {
                Ok(pass) => {
                    self.passes.push_back(pass);
                    return;
                }
                Err(Refusal::Wait) => self.passed(&name, stat, is_final),
                Err(Refusal::Unfit(problem)) => {
                    self.passed(&name, stat, true);
                    self.tell(&name, problem, batch);
                }
                Err(Refusal::Fault(problem)) => self.fault(&name, now_ms, is_final, problem, batch),
            }
        }
    }

    fn passed(&mut self, name: &str, stat: Stat, is_final: bool) {
        if let Some(watched) = self.watched.get_mut(name) {
            watched.passed = Some((stat, is_final));
        }
    }

    /// Names what is the matter with a file, once.
    fn tell(&mut self, name: &str, problem: String, batch: &mut Batch) {
        if let Some(watched) = self.watched.get_mut(name)
            && watched.told.as_ref() != Some(&problem)
        {
            watched.told = Some(problem.clone());
            batch.notice(name, problem);
        }
    }

    /// A file that cannot be read (further) is tried again; one that is still being written to need
    /// not be named.
    fn fault(
        &mut self,
        name: &str,
        now_ms: i64,
        is_final: bool,
        problem: String,
        batch: &mut Batch,
    ) {
        if let Some(watched) = self.watched.get_mut(name) {
            watched.next_ms = now_ms.saturating_add(self.settings.settle_ms.max(1_000));
        }
        if is_final {
            self.tell(name, problem, batch);
        }
    }

    /// Reads on in a file, as much as one batch may hold.
    fn read(&mut self, mut pass: Pass, now_ms: i64, batch: &mut Batch) {
        let name = Arc::clone(&pass.name);
        let end = self.advance(&mut pass, batch);
        let is_clean = pass.run.is_none() && !pass.records.has_rest() && pass.seen.is_none();
        let (stat, is_final) = (pass.stat, pass.is_final);
        self.write(&mut pass, batch, end == End::Done && is_final);
        batch.more = true;
        match end {
            End::More => self.passes.push_back(pass),
            End::Done => {
                self.passed(&name, stat, is_final || is_clean);
                if let Some(watched) = self.watched.get_mut(&*name) {
                    let pace_ms = (1_000 * stat.0 / PACE_BYTES) as i64;
                    watched.next_ms = now_ms.saturating_add(pace_ms);
                    watched.told = None;
                }
            }
            End::Fault(problem) => self.fault(&name, now_ms, is_final, problem, batch),
            End::Barren(problem) => {
                self.passed(&name, stat, true);
                self.tell(&name, problem, batch);
            }
            End::Full => {
                self.is_full = true;
                let most = self.settings.rows_max;
                let problem = format!(
                    "{most} rows are remembered, as many as may be: nothing new is taken until a file is taken away"
                );
                self.fault(&name, now_ms, true, problem, batch);
            }
        }
    }

    /// Forgets files that went: once each has been away for `settle`, and all that are there were
    /// read to their end, since one of them may be the same export under another name.
    fn forget_gone(&mut self, now_ms: i64, batch: &mut Batch) {
        let is_settled = self.watched.values().all(Watched::is_done);
        if self.gone.is_empty() || !(is_settled || self.is_full) {
            return;
        }
        let wait_ms = match self.watched.is_empty() {
            true => EMPTY_MS.max(self.settings.settle_ms),
            false => self.settings.settle_ms,
        };
        let gone = self.gone.iter();
        let gone = gone.filter(|(_, since_ms)| now_ms - **since_ms >= wait_ms);
        let gone: Vec<u32> = gone.map(|(number, _)| *number).collect();
        for number in gone {
            self.gone.remove(&number);
            self.known.forget(number);
            if let Some(file) = self.files.remove(&number) {
                self.by_name.remove(&file.head.name);
                let chunks = 0..file.head.chunks + u32::from(!file.tail.is_empty());
                batch.kept.push(Key::Head(number).with(None));
                let rows = chunks.map(|chunk| Key::Rows(number, chunk).with(None));
                batch.kept.extend(rows);
            }
            self.is_full = false;
            // What waited for room need not wait for its time.
            self.watched.values_mut().for_each(|one| one.next_ms = 0);
        }
    }
}

#[cfg(test)]
mod tests;
