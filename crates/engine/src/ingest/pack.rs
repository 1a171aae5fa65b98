//! Packing: what one commit says to one panes partition, in parts of bounded size.

use fenghuo_signal::{Entity, Fact};

use crate::record::{CommitRecord, Delta, EntityName, FactRow};

/// Largest part of a commit record, in bytes; a larger one is sent in several.
const RECORD_BYTES_MAX: usize = 512 * 1024;

/// The commit record of one panes partition, in the making.
#[derive(Default)]
pub(super) struct Pack {
    parts: Vec<CommitRecord>,
    bytes: usize,
    index: hashbrown::HashMap<Entity, u32, foldhash::fast::FixedState>,
}

impl Pack {
    fn part(&mut self, bytes: usize) -> &mut CommitRecord {
        if self.parts.is_empty() || self.bytes + bytes > RECORD_BYTES_MAX {
            self.parts.push(CommitRecord::default());
            self.index.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }

    fn entity(&mut self, entity: &Entity) -> u32 {
        if let Some(index) = self.index.get(entity) {
            return *index;
        }
        let (first, second) = (entity.first.to_string(), entity.second.to_string());
        let part = self.part(first.len() + second.len() + 16);
        let index = part.entities.len() as u32;
        part.entities.push(EntityName {
            kind: entity.kind as u32,
            first,
            second,
        });
        self.index.insert(entity.clone(), index);
        index
    }

    /// Adds an increment of an entity.
    pub(super) fn delta(&mut self, entity: &Entity, series: u32, start_ms: i64, values: &[i64]) {
        // Room for both, so that a delta never lies in another part than its entity.
        self.part(64 + 10 * values.len() + entity.first.len() + entity.second.len());
        let entity = self.entity(entity);
        let delta = Delta {
            series,
            entity,
            start_ms,
            values: values.to_vec(),
        };
        self.part(0).deltas.push(delta);
    }

    /// Adds a fact about an entity.
    pub(super) fn fact(&mut self, entity: &Entity, fact: Fact) {
        let bytes = match &fact {
            Fact::Catalog(fact) => prost::Message::encoded_len(fact),
            Fact::Plan(fact) => prost::Message::encoded_len(fact),
        };
        self.part(64 + bytes + entity.first.len());
        let entity = self.entity(entity);
        self.part(0).facts.push(FactRow {
            entity,
            fact: Some(fact),
        });
    }

    /// The record, in parts of bounded size; at least one.
    pub(super) fn into_parts(mut self) -> Vec<CommitRecord> {
        if self.parts.is_empty() {
            self.parts.push(CommitRecord::default());
        }
        self.parts
    }
}
