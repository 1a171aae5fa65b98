//! The rows that were dealt with, of every file that is there.
//!
//! Owns the table and its count of entries. A row is known by its id; of equal rows of a file the
//! number is kept. An entry is a row of a file: about 50 to 100 bytes, by how full the table is.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Half of a SHA-256.
pub(super) type Id = [u8; 16];

/// A table by ids, which are hashes already.
pub(super) type IdMap<T> = HashMap<Id, T, BuildHasherDefault<Own>>;

/// Takes the first bytes of an id for its hash.
#[derive(Default)]
pub(super) struct Own(u64);

impl Hasher for Own {
    fn write(&mut self, bytes: &[u8]) {
        for eight in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..eight.len()].copy_from_slice(eight);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    // The length of an id is always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The files that have a row, and how many each has of it.
enum Holders {
    One(u32, u32),
    More(Box<[(u32, u32)]>),
}

impl Holders {
    fn into_vec(self) -> Vec<(u32, u32)> {
        match self {
            Holders::One(file, count) => vec![(file, count)],
            Holders::More(all) => all.into_vec(),
        }
    }

    fn has(&self, file: u32) -> bool {
        match self {
            Holders::One(one, _) => *one == file,
            Holders::More(all) => all.iter().any(|(one, _)| *one == file),
        }
    }
}

/// The table.
#[derive(Default)]
pub(super) struct Known {
    rows: IdMap<Holders>,
    entries: usize,
}

impl Known {
    /// Rows of files that are remembered.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// How many equal rows of this id were dealt with: as many as the file with most of them has.
    pub(super) fn count(&self, id: &Id) -> u32 {
        match self.rows.get(id) {
            None => 0,
            Some(Holders::One(_, count)) => *count,
            Some(Holders::More(all)) => all.iter().map(|(_, count)| *count).max().unwrap_or(0),
        }
    }

    /// How many of them are of this file.
    pub(super) fn of(&self, id: &Id, file: u32) -> u32 {
        match self.rows.get(id) {
            Some(Holders::One(one, count)) if *one == file => *count,
            Some(Holders::More(all)) => {
                let mut all = all.iter();
                all.find(|(one, _)| *one == file).map_or(0, |one| one.1)
            }
            _ => 0,
        }
    }

    /// Says how many rows of this id a file has; 0 takes it out.
    pub(super) fn set(&mut self, id: Id, file: u32, count: u32) {
        let before = self.rows.remove(&id);
        let mut all = before.map_or_else(Vec::new, Holders::into_vec);
        self.entries -= all.len();
        all.retain(|(one, _)| *one != file);
        if count > 0 {
            all.push((file, count));
        }
        self.entries += all.len();
        let holders = match all.as_slice() {
            [] => return,
            [(file, count)] => Holders::One(*file, *count),
            _ => Holders::More(all.into_boxed_slice()),
        };
        self.rows.insert(id, holders);
    }

    /// The ids of all rows that a file has.
    pub(super) fn ids_of(&self, file: u32) -> Vec<Id> {
        let rows = self.rows.iter();
        let of_file = rows.filter(|(_, holders)| holders.has(file));
        of_file.map(|(id, _)| *id).collect()
    }

    /// Forgets all rows of a file.
    pub(super) fn forget(&mut self, file: u32) {
        for id in self.ids_of(file) {
            self.set(id, file, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_known_while_a_file_has_it() {
        let mut known = Known::default();
        let (a, b) = ([1; 16], [2; 16]);
        known.set(a, 1, 2);
        known.set(a, 2, 3);
        known.set(a, 2, 4);
        known.set(b, 1, 1);
        assert_eq!(
            (known.count(&a), known.of(&a, 1), known.of(&a, 3)),
            (4, 2, 0)
        );
        assert_eq!(known.entries(), 3);
        known.forget(2);
        assert_eq!((known.count(&a), known.of(&a, 2)), (2, 0));
        known.forget(1);
        assert_eq!(
            (known.count(&a), known.count(&b), known.entries()),
            (0, 0, 0)
        );
        assert!(known.rows.is_empty());
    }
}
