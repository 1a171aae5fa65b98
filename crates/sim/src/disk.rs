//! A disk that can fail: the file layer of the embedded log in simulations.
//!
//! Owns what was synced and what was only written. A power loss keeps of the latter what a seed
//! says, in any order and torn in sectors; a failed sync forgets some of it for good, as a system
//! does that marks its pages clean. It must never be kinder than a real one.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fenghuo_embedded::{OpenFile, StorageBackend};

use crate::random::Random;

/// What is written at once, whatever happens.
const SECTOR_BYTES: usize = 512;

/// What a file system gives out at once.
const BLOCK_BYTES: u64 = 4_096;

/// An operation of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A write.
    Write,
    /// A sync.
    Sync,
}

#[derive(Clone, Debug)]
enum Change {
    Length(u64),
    Bytes(u64, Vec<u8>),
}

#[derive(Debug)]
struct Inner {
    random: Random,
    /// What a power loss leaves.
    durable: Vec<u8>,
    /// What a reader sees.
    cache: Vec<u8>,
    /// What is in the cache alone, in order.
    unsynced: Vec<Change>,
    /// Blocks that the file has.
    blocks: BTreeSet<u64>,
    /// No further block is given out.
    is_full: bool,
    /// The next operation of this kind but so many fails.
    armed: Option<(Operation, usize)>,
    /// A failed sync is told as one that went well.
    hides_failed_syncs: bool,
    /// Handles of an earlier life are dead.
    life: u64,
    failed: usize,
}

/// A disk with one file. Clones share it.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<Inner>>);

impl Disk {
    /// An empty one.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            random: Random::new(seed),
            durable: Vec::new(),
            cache: Vec::new(),
            unsynced: Vec::new(),
            blocks: BTreeSet::new(),
            is_full: false,
            armed: None,
            hides_failed_syncs: false,
            life: 0,
            failed: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the log opens its file.
    pub fn opener(&self) -> OpenFile {
        let disk = self.clone();
        Box::new(move || {
            let mut inner = disk.lock();
            inner.life += 1;
            inner.reread();
            Ok(Box::new(Handle {
                life: inner.life,
                disk: disk.clone(),
            }))
        })
    }

    /// The process is gone: what it wrote is still in the cache.
    pub fn kill(&self) {
        self.lock().life += 1;
    }

    /// The power is gone.
    pub fn power_loss(&self) {
        let mut inner = self.lock();
        inner.life += 1;
        for change in std::mem::take(&mut inner.unsynced) {
            inner.lose(change);
        }
        inner.reread();
    }

    /// Lets the next operation of a kind fail, or one after it.
    pub fn fail(&self, operation: Operation, after: usize) {
        self.lock().armed = Some((operation, after));
    }

    /// Whether there is no room for anything new.
    pub fn set_full(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    /// From now on failed syncs are told as good ones: a bug, to be found.
    pub fn hide_failed_syncs(&self) {
        self.lock().hides_failed_syncs = true;
    }

    /// Nothing fails from now on.
    pub fn mend(&self) {
        let mut inner = self.lock();
        inner.armed = None;
        inner.is_full = false;
    }

    /// Operations that failed.
    pub fn failed(&self) -> usize {
        self.lock().failed
    }
}

impl Inner {
    /// Whether the operation that was chosen is this one.
    fn strikes(&mut self, operation: Operation) -> bool {
        match &mut self.armed {
            Some((armed, 0)) if *armed == operation => {
                self.armed = None;
                self.failed += 1;
                true
            }
            Some((armed, after)) if *armed == operation => {
                *after -= 1;
                false
            }
            _ => false,
        }
    }

    /// What was not synced reaches the disk whole, in part, or not at all.
    fn lose(&mut self, change: Change) {
        match (self.random.between(0, 3), change) {
            (0, _) => {}
            (1, Change::Bytes(at, bytes)) => {
                for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if self.random.chance(0.5) {
                        let at = at + (number * SECTOR_BYTES) as u64;
                        apply(&mut self.durable, &Change::Bytes(at, sector.to_vec()));
                    }
                }
            }
            (_, change) => apply(&mut self.durable, &change),
        }
    }

    /// The cache is what the disk has, and what is still to be written.
    fn reread(&mut self) {
        self.cache.clone_from(&self.durable);
        for change in &self.unsynced {
            apply(&mut self.cache, change);
        }
    }

    /// Takes the blocks that a write needs.
    fn room(&mut self, at: u64, length: u64) -> io::Result<()> {
        let needed = at / BLOCK_BYTES..(at + length).div_ceil(BLOCK_BYTES);
        if self.is_full && needed.clone().any(|block| !self.blocks.contains(&block)) {
            self.failed += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.blocks.extend(needed);
        Ok(())
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.cache, &change);
        self.unsynced.push(change);
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length as usize, 0),
        Change::Bytes(at, new) => {
            let (at, end) = (*at as usize, *at as usize + new.len());
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(new);
        }
    }
}

/// An open file, for one life of a process.
#[derive(Debug)]
struct Handle {
    disk: Disk,
    life: u64,
}

impl Handle {
    fn lock(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.lock();
        match inner.life == self.life {
            true => Ok(inner),
            false => Err(io::Error::other("the process is gone")),
        }
    }
}

fn failed(operation: Operation) -> io::Error {
    io::Error::other(format!("{operation:?} failed, as was asked for"))
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock()?.cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.lock()?;
        let at = offset as usize;
        let bytes = inner.cache.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.lock()?.change(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.lock()?;
        let unsynced = std::mem::take(&mut inner.unsynced);
        if inner.strikes(Operation::Sync) {
            // Nobody will write it again.
            for change in unsynced {
                inner.lose(change);
            }
            return match inner.hides_failed_syncs {
                true => Ok(()),
                false => Err(failed(Operation::Sync)),
            };
        }
        for change in &unsynced {
            apply(&mut inner.durable, change);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.lock()?;
        inner.room(offset, data.len() as u64)?;
        if inner.strikes(Operation::Write) {
            let kept = inner.random.between(0, data.len() as i64) as usize;
            inner.change(Change::Bytes(offset, data[..kept].to_vec()));
            return Err(failed(Operation::Write));
        }
        inner.change(Change::Bytes(offset, data.to_vec()));
        Ok(())
    }
}
