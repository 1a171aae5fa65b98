//! Combining: many events to one delta for each cell, in a table that one thread owns.
//!
//! This is the hottest code of ingest: no lock, no shared write, one probe for a touched entity.
//! Rows keep the order in which they were first touched, so what is written does not depend on
//! the hash.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::{Equivalent, HashTable};
use smallvec::SmallVec;

use crate::series::Series;

/// One touched cell.
#[derive(Debug)]
pub struct Row<'a, E> {
    /// The number of its series.
    pub series: u16,
    /// What it is about.
    pub entity: &'a E,
    /// Start of the cell; 0 for levels and registers.
    pub start_ms: i64,
    /// Its fields.
    pub values: &'a [i64],
}

/// An entity, and where its cells are: an event touches several cells of each entity, so the
/// entity is looked for once and its cells lie together.
#[derive(Debug)]
struct Touched<E> {
    hash: u64,
    entity: E,
    /// Cells without a start: one for each series. Apart from the others, so that looking for one
    /// does not pass over all the seconds of a batch.
    timeless: SmallVec<[Cell; 2]>,
    /// Cells with a start, in the order of their first touch: the one looked for is near the end.
    timed: SmallVec<[Cell; 4]>,
}

#[derive(Debug)]
struct Cell {
    series: u16,
    width: u16,
    values_at: u32,
    start_ms: i64,
}

/// A table of touched cells.
#[derive(Debug)]
pub struct Combiner<E> {
    hasher: FixedState,
    index: HashTable<u32>,
    entities: Vec<Touched<E>>,
    values: Vec<i64>,
    cells: usize,
    /// The entity of the last call, which is most often that of the next one too.
    last: usize,
}

impl<E> Combiner<E> {
    /// An empty table. The seed should differ between processes, so that nobody outside can make
    /// keys that collide.
    pub fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            index: HashTable::new(),
            entities: Vec::new(),
            values: Vec::new(),
            cells: 0,
            last: 0,
        }
    }

    /// The cell of `entity` at `at_ms`, to be changed in place: add to sums, lower minima, raise
    /// maxima. A new cell holds what changes nothing.
    pub fn cell<Q>(&mut self, series: &Series, entity: Q, at_ms: i64) -> &mut [i64]
    where
        Q: Hash + Equivalent<E> + Into<E>,
    {
        let last = self.entities.get(self.last);
        if !last.is_some_and(|last| entity.equivalent(&last.entity)) {
            self.last = self.find(entity);
        }
        let touched = &mut self.entities[self.last];
        let start_ms = series.cell_start(at_ms);
        let is_it = |cell: &&Cell| cell.series == series.number && cell.start_ms == start_ms;
        let found = match series.tiers().is_empty() {
            true => touched.timeless.iter().find(is_it),
            false => touched.timed.iter().rev().find(is_it),
        };
        let at = match found {
            Some(cell) => cell.values_at as usize,
            None => self.touch(series, start_ms),
        };
        &mut self.values[at..at + series.width()]
    }

    /// Adds a cell to the entity of this call.
    fn touch(&mut self, series: &Series, start_ms: i64) -> usize {
        let at = self.values.len();
        self.values
            .extend(series.merges.iter().map(|merge| merge.identity()));
        self.values.resize(at + series.width(), 0);
        let cell = Cell {
            series: series.number,
            width: series.width() as u16,
            values_at: at as u32,
            start_ms,
        };
        let touched = &mut self.entities[self.last];
        match series.tiers().is_empty() {
            true => touched.timeless.push(cell),
            false => touched.timed.push(cell),
        }
        self.cells += 1;
        at
    }

    fn find<Q>(&mut self, entity: Q) -> usize
    where
        Q: Hash + Equivalent<E> + Into<E>,
    {
        let hash = self.hasher.hash_one(&entity);
        let entities = &self.entities;
        let is_it = |at: &u32| entity.equivalent(&entities[*at as usize].entity);
        if let Some(at) = self.index.find(hash, is_it) {
            return *at as usize;
        }
        let at = self.entities.len();
        self.entities.push(Touched {
            hash,
            entity: entity.into(),
            timeless: SmallVec::new(),
            timed: SmallVec::new(),
        });
        let entities = &self.entities;
        self.index
            .insert_unique(hash, at as u32, |at| entities[*at as usize].hash);
        at
    }

    /// Merges `values` into a cell.
    pub fn merge<Q>(&mut self, series: &Series, entity: Q, at_ms: i64, values: &[i64])
    where
        Q: Hash + Equivalent<E> + Into<E>,
    {
        let cell = self.cell(series, entity, at_ms);
        series.merge(cell, values);
    }

    /// Sets a register.
    pub fn set<Q>(&mut self, series: &Series, entity: Q, values: &[i64])
    where
        Q: Hash + Equivalent<E> + Into<E>,
    {
        debug_assert!(series.is_register(), "only registers are set");
        let cell = self.cell(series, entity, 0);
        cell[..values.len()].copy_from_slice(values);
        cell[series.merges.len()] = 1;
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.cells == 0
    }

    /// Number of touched cells.
    pub fn len(&self) -> usize {
        self.cells
    }

    /// The touched cells, entity by entity, in the order of their first touch; those without a
    /// start first.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_, E>> {
        self.entities.iter().flat_map(|touched| {
            touched.timeless.iter().chain(&touched.timed).map(|cell| {
                let at = cell.values_at as usize;
                Row {
                    series: cell.series,
                    entity: &touched.entity,
                    start_ms: cell.start_ms,
                    values: &self.values[at..at + usize::from(cell.width)],
                }
            })
        })
    }

    /// Forgets everything and keeps the memory for the next batch.
    pub fn clear(&mut self) {
        self.index.clear();
        self.entities.clear();
        self.values.clear();
        self.cells = 0;
        self.last = 0;
    }
}
