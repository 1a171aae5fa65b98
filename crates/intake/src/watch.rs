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
//! Bounds: files that are not read whole yet ([`Settings::files_max`]; further ones wait for a place, and
//! where none becomes free they are [left](Watcher::left) and named), files that are there at all
//! ([`FILES_PER_PLACE`] times as many), rows remembered ([`Settings::rows_max`]; when full nothing new is taken until a file goes, and it is named), the
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
use pass::{End, LOOK_BYTES_MAX, Pass};

pub use folder::{Directory, Folder, Seen};
pub use kept::{Kept, KeptError};

/// What is remembered of files: a compacted topic of one partition.
pub const TOPIC: &str = "fenghuo.files";

/// A file that has changed is not looked at again before as many seconds have passed as it has of
/// these: reading 32 MiB takes a small part of a second.
pub const PACE_BYTES: u64 = 32 * 1024 * 1024;

/// Files that are read at a time, each in its turn; others wait until one of them was read.
const PASSES_MAX: usize = 8;

/// Files that are known, for each that may be unread: who was read to its end, is empty or is none of
/// ours needs to be known, since it may change, but nothing else waits for it.
pub const FILES_PER_PLACE: usize = 20;

/// Small files that one look reads at most.
const LOOK_FILES_MAX: usize = 64;

/// Files that find no place for so long, beyond the time that a file has to rest, are named.
const LEFT_MS: i64 = 30_000;

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
    /// Files at most that are not read whole yet.
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
    /// It rests and could not be read.
    is_faulty: bool,
}

impl Watched {
    fn is_done(&self) -> bool {
        self.passed == Some((self.stat, true))
    }

    /// Whether others may have to wait for it.
    fn has_place(&self) -> bool {
        !self.is_done() && !self.is_faulty
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
    /// Files that found no place at the last look.
    left: usize,
    /// Since when there are some, and none of them found one.
    left_since_ms: Option<i64>,
    told_left: bool,
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
            left: 0,
            left_since_ms: None,
            told_left: false,
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

    /// How many files found no place at the last look, where that is so for long.
    pub fn left(&self, now_ms: i64) -> Option<usize> {
        let wait_ms = self.settings.settle_ms.saturating_add(LEFT_MS);
        let is_long = |since_ms| now_ms - since_ms >= wait_ms;
        self.left_since_ms.is_some_and(is_long).then_some(self.left)
    }

    /// Looks at the folder. The listing is of `now_ms`, counted from any instant, which never goes
    /// back; call again at once while there is [more](Batch::more).
    pub fn look(&mut self, now_ms: i64, listing: &[Seen], folder: &dyn Folder) -> Batch {
        let mut batch = Batch::default();
        self.note(now_ms, listing, &mut batch);
        let mut read_bytes = 0;
        for file in 0..LOOK_FILES_MAX {
            if self.passes.len() < PASSES_MAX {
                self.begin(now_ms, folder, &mut batch);
            }
            let Some(pass) = self.passes.pop_front() else {
                if file == 0 {
                    self.forget_gone(now_ms, &mut batch);
                }
                break;
            };
            let (end, bytes) = self.read(pass, now_ms, &mut batch);
            read_bytes += bytes;
            // Whoever has more waits for the next turn, and so do others behind a large one.
            if end == End::More || read_bytes >= LOOK_BYTES_MAX {
                break;
            }
        }
        batch
    }

    /// Notes what is there and since when.
    fn note(&mut self, now_ms: i64, listing: &[Seen], batch: &mut Batch) {
        let names: BTreeSet<&str> = listing.iter().map(|seen| &*seen.name).collect();
        self.watched.retain(|name, _| names.contains(&**name));
        let mut listing: Vec<&Seen> = listing.iter().collect();
        listing.sort_by_key(|seen| (seen.modified_ms, &seen.name));
        let places_max = self.settings.files_max;
        let known_max = places_max.saturating_mul(FILES_PER_PLACE);
        let mut places = self.watched.values().filter(|one| one.has_place()).count();
        let (mut left, mut is_let_in) = (Vec::new(), false);
        for seen in listing {
            let is_new = !self.watched.contains_key(&seen.name);
            if is_new && (places >= places_max || self.watched.len() >= known_max) {
                left.push(&*seen.name);
                continue;
            }
            if is_new {
                places += 1;
                is_let_in = true;
            }
            let stat = (seen.size_bytes, seen.modified_ms);
            let watched = self.watched.entry(seen.name.clone()).or_default();
            if is_new || watched.stat != stat {
                watched.stat = stat;
                watched.since_ms = now_ms;
                watched.is_faulty = false;
            }
        }
        for (number, file) in &self.files {
            match names.contains(&*file.head.name) {
                true => self.gone.remove(number),
                false => Some(*self.gone.entry(*number).or_insert(now_ms)),
            };
        }
        self.left = left.len();
        self.left_since_ms = match self.left_since_ms {
            _ if left.is_empty() => None,
            Some(since_ms) if !is_let_in => Some(since_ms),
            _ => Some(now_ms),
        };
        self.told_left &= !left.is_empty();
        if let Some(count) = self.left(now_ms)
            && let Some(first) = left.first()
            && !std::mem::replace(&mut self.told_left, true)
        {
            let problem = format!(
                "is left, with {} others: {places_max} files wait to be read, or {known_max} are \
                 there; take old ones away",
                count.saturating_sub(1)
            );
            batch.notice(first, problem);
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
            watched.is_faulty = is_final;
        }
        if is_final {
            self.tell(name, problem, batch);
        }
    }

    /// Reads on in a file, as much as one batch may hold. How that ended, and the bytes that were read.
    fn read(&mut self, mut pass: Pass, now_ms: i64, batch: &mut Batch) -> (End, u64) {
        let name = Arc::clone(&pass.name);
        let begun = pass.records.read_bytes();
        let end = self.advance(&mut pass, batch);
        let bytes = pass.records.read_bytes() - begun;
        let is_clean = pass.run.is_none() && !pass.records.has_rest() && pass.seen.is_none();
        let (stat, is_final) = (pass.stat, pass.is_final);
        self.write(&mut pass, batch, end == End::Done && is_final);
        batch.more = true;
        match &end {
            End::More => self.passes.push_back(pass),
            End::Done => {
                self.passed(&name, stat, is_final || is_clean);
                if let Some(watched) = self.watched.get_mut(&*name) {
                    let pace_ms = (1_000 * stat.0 / PACE_BYTES) as i64;
                    watched.next_ms = now_ms.saturating_add(pace_ms);
                    watched.told = None;
                    watched.is_faulty = false;
                }
            }
            End::Fault(problem) => self.fault(&name, now_ms, is_final, problem.clone(), batch),
            End::Barren(problem) => {
                self.passed(&name, stat, true);
                self.tell(&name, problem.clone(), batch);
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
        (end, bytes)
    }

    /// Forgets files that went: once each has been away for `settle`, and all that are there were
    /// read to their end, since one of them may be the same export under another name.
    fn forget_gone(&mut self, now_ms: i64, batch: &mut Batch) {
        let is_settled = self.left == 0 && self.watched.values().all(Watched::is_done);
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
