//! Combining: many events to one delta for each cell, in a table that one thread owns.
//!
//! This is the hottest code of ingest: no lock, no shared write, one probe for a touched cell.
//! Rows keep the order in which they were first touched, so what is written does not depend on
//! the hash.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::{Equivalent, HashTable};

use crate::series::{Series, Shape};

/// One touched cell.
#[derive(Debug)]
pub struct Row<E> {
    hash: u64,
    values_at: usize,
    /// Its series.
    pub series: &'static Series,
    /// What it is about.
    pub entity: E,
    /// Start of the cell; 0 for levels and registers.
    pub start_ms: i64,
}

/// A table of touched cells.
#[derive(Debug)]
pub struct Combiner<E> {
    hasher: FixedState,
    index: HashTable<u32>,
    rows: Vec<Row<E>>,
    values: Vec<i64>,
}

impl<E> Combiner<E> {
    /// An empty table. The seed should differ between processes, so that nobody outside can make
    /// keys that collide.
    pub fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            index: HashTable::new(),
            rows: Vec::new(),
            values: Vec::new(),
        }
    }

    /// The cell of `entity` at `at_ms`, to be changed in place: add to sums, lower minima, raise
    /// maxima. A new cell holds what changes nothing.
    pub fn cell<Q>(&mut self, series: &'static Series, entity: Q, at_ms: i64) -> &mut [i64]
    where
        Q: Hash + Equivalent<E> + Into<E>,
    {
        let start_ms = series.cell_start(at_ms);
        let hash = self.hasher.hash_one((series.id, start_ms, &entity));
        let rows = &self.rows;
        let found = self.index.find(hash, |row| {
            let row = &rows[*row as usize];
            row.start_ms == start_ms && row.series.id == series.id && entity.equivalent(&row.entity)
        });
        let at = match found {
            Some(row) => self.rows[*row as usize].values_at,
            None => self.insert(hash, series, entity.into(), start_ms),
        };
        &mut self.values[at..at + series.width()]
    }

    fn insert(&mut self, hash: u64, series: &'static Series, entity: E, start_ms: i64) -> usize {
        let values_at = self.values.len();
        self.values.extend_from_slice(&series.identity());
        let row = self.rows.len() as u32;
        self.rows.push(Row {
            hash,
            values_at,
            series,
            entity,
            start_ms,
        });
        let rows = &self.rows;
        self.index
            .insert_unique(hash, row, |row| rows[*row as usize].hash);
        values_at
    }

    /// Merges `values` into a cell.
    pub fn merge<Q>(&mut self, series: &'static Series, entity: Q, at_ms: i64, values: &[i64])
    where
        Q: Hash + Equivalent<E> + Into<E>,
    {
        let cell = self.cell(series, entity, at_ms);
        series.merge(cell, values);
    }

    /// Sets a register.
    pub fn set<Q>(&mut self, series: &'static Series, entity: Q, values: &[i64])
    where
        Q: Hash + Equivalent<E> + Into<E>,
    {
        debug_assert!(
            matches!(series.shape, Shape::Register { .. }),
            "only registers are set"
        );
        let cell = self.cell(series, entity, 0);
        cell[..values.len()].copy_from_slice(values);
        cell[series.fields.len()] = 1;
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Number of touched cells.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The touched cells, in the order of their first touch.
    pub fn rows(&self) -> impl Iterator<Item = (&Row<E>, &[i64])> {
        self.rows.iter().map(|row| {
            (
                row,
                &self.values[row.values_at..row.values_at + row.series.width()],
            )
        })
    }

    /// Forgets everything and keeps the memory for the next batch.
    pub fn clear(&mut self) {
        self.index.clear();
        self.rows.clear();
        self.values.clear();
    }
}
