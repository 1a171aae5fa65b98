//! Packing: what one commit says to one panes partition, in parts of bounded size.

use fenghuo_signal::{Catalogue, Entity, Fact};
use fenghuo_window::{Row, Series};

use crate::record::{CommitRecord, EntityTable, FactRow, MeasureRows};

/// Largest part of a commit record, in bytes; a larger one is sent in several.
const RECORD_BYTES_MAX: usize = 512 * 1024;

/// The commit record of one panes partition, in the making.
#[derive(Default)]
pub(super) struct Pack {
    parts: Vec<Part>,
}

/// One part of it.
#[derive(Default)]
struct Part {
    entities: EntityTable,
    /// By number of the series.
    rows: Vec<Rows>,
    facts: Vec<FactRow>,
    bytes: usize,
    /// The entity of the last row and its index: those of one entity come together.
    last: Option<(Entity, u32)>,
}

/// Rows of one measure, row after row.
#[derive(Default)]
struct Rows {
    entities: Vec<u32>,
    starts_ms: Vec<i64>,
    values: Vec<i64>,
}

impl Pack {
    fn part(&mut self, bytes: usize) -> &mut Part {
        let is_full = |part: &Part| part.bytes + bytes > RECORD_BYTES_MAX;
        if self.parts.last().is_none_or(is_full) {
            self.parts.push(Part::default());
        }
        let last = self.parts.len() - 1;
        let part = &mut self.parts[last];
        part.bytes += bytes;
        part
    }

    /// Adds an increment of an entity.
    pub(super) fn row(&mut self, row: &Row<'_, Entity>) {
        let names = row.entity.first.len() + row.entity.second.len();
        let part = self.part(16 + 10 * row.values.len() + names);
        let entity = part.entity(row.entity);
        let number = usize::from(row.series);
        if part.rows.len() <= number {
            part.rows.resize_with(number + 1, Rows::default);
        }
        let rows = &mut part.rows[number];
        rows.entities.push(entity);
        rows.starts_ms.push(row.start_ms);
        rows.values.extend_from_slice(row.values);
    }

    /// Adds a fact about an entity.
    pub(super) fn fact(&mut self, entity: &Entity, fact: Fact) {
        let bytes = match &fact {
            Fact::Catalog(fact) => prost::Message::encoded_len(fact),
            Fact::Plan(fact) => prost::Message::encoded_len(fact),
        };
        let part = self.part(64 + bytes + entity.first.len());
        let entity = part.entity(entity);
        part.facts.push(FactRow {
            entity,
            fact: Some(fact),
        });
    }

    /// The record, in parts of bounded size; at least one.
    pub(super) fn into_parts(mut self, catalogue: &Catalogue) -> Vec<CommitRecord> {
        if self.parts.is_empty() {
            self.parts.push(Part::default());
        }
        let parts = self.parts.into_iter();
        parts.map(|part| part.into_record(catalogue)).collect()
    }
}

impl Part {
    fn entity(&mut self, entity: &Entity) -> u32 {
        if let Some((last, index)) = &self.last
            && last == entity
        {
            return *index;
        }
        let index = self.entities.push(entity);
        self.last = Some((entity.clone(), index));
        index
    }

    fn into_record(self, catalogue: &Catalogue) -> CommitRecord {
        let rows = self.rows.into_iter().zip(catalogue.series());
        let rows = rows
            .filter(|(rows, _)| !rows.entities.is_empty())
            .map(|(rows, series)| rows.into_columns(series, catalogue.id(series.number)));
        CommitRecord {
            catalogue: catalogue.hash(),
            measures: catalogue.ids().to_vec(),
            entities: (!self.entities.kind.is_empty()).then_some(self.entities),
            rows: rows.collect(),
            facts: self.facts,
            ..CommitRecord::default()
        }
    }
}

impl Rows {
    fn into_columns(self, series: &Series, id: u32) -> MeasureRows {
        let width = series.width();
        let identity = series.identity();
        let (mut columns, mut values) = (0, Vec::with_capacity(self.values.len()));
        for (column, nothing) in identity.iter().enumerate() {
            let of_column = || self.values.iter().skip(column).step_by(width);
            if of_column().any(|value| value != nothing) {
                columns |= 1 << column;
                values.extend(of_column());
            }
        }
        let mut before_ms = 0_i64;
        let step = |start_ms: i64| {
            let step_ms = start_ms.wrapping_sub(before_ms);
            before_ms = start_ms;
            step_ms
        };
        let starts = match series.tiers().is_empty() {
            true => Vec::new(),
            false => self.starts_ms.into_iter().map(step).collect(),
        };
        MeasureRows {
            id,
            entities: self.entities,
            starts,
            columns,
            values,
        }
    }
}
