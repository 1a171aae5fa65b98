//! Ids of rows, and the rows that make one order.
//!
//! Owns what an id comes from: changing it makes every row that is still in a folder a new one, so
//! it must never change.

use std::borrow::Cow;

use fenghuo_event::Encoding;
use fenghuo_event::bounds::LINES_MAX;
use fenghuo_event::pb::{self, event::Body};
use sha2::{Digest, Sha256};

use super::known::Id;
use crate::message::message;
use crate::rows::{Row, timestamp};
use crate::{Mapping, Message, Origin, Rejected, RowSize, hex};

fn half(hash: Sha256) -> Id {
    let digest = hash.finalize();
    std::array::from_fn(|at| digest[at])
}

/// What a row is known by: source, type and the columns that the mapping names, each with its
/// length before it.
pub(super) fn row_id(mapping: &Mapping, event_type: i32, columns: &[Cow<'_, str>]) -> Id {
    let mut hash = Sha256::new();
    hash.update(mapping.kind.name());
    hash.update(event_type.to_be_bytes());
    let texts = columns.iter().map(|column| &**column);
    for text in std::iter::once(&*mapping.source).chain(texts) {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    half(hash)
}

/// What a refused row is known by: its bytes, and the mapping, since another may take it.
pub(super) fn refusal_id(mapping: &Mapping, bytes: &[u8]) -> Id {
    let hash = Sha256::new().chain_update("refused");
    half(hash.chain_update(mapping.digest).chain_update(bytes))
}

/// The event of a row or of an order, ready to be appended; of equal ones, the number is in its id.
pub(super) fn event(
    mapping: &Mapping,
    id: &Id,
    number: u32,
    at_ms: i64,
    body: Body,
    origin: Origin,
) -> Result<Message, Rejected> {
    let meta = pb::Meta {
        event_id: match number {
            1 => hex(id),
            _ => format!("{}#{number}", hex(id)),
        },
        source: mapping.source.clone(),
        shop_id: mapping.shop_id.clone(),
        occurred_at: Some(timestamp(at_ms)),
        ..Default::default()
    };
    let event = pb::Event {
        meta: Some(meta),
        body: Some(body),
    };
    message(
        origin,
        Encoding::Protobuf,
        fenghuo_event::to_protobuf(&event),
    )
}

/// An order that is being read.
pub(super) struct Open {
    pub(super) at_ms: i64,
    pub(super) origin: Origin,
    pub(super) order: pb::Order,
}

impl Open {
    /// What is told of an order of which another file had so many rows, and fewer than this one.
    pub(super) fn overtaken(self, known: u32) -> Rejected {
        let id = &self.order.order_id;
        Rejected {
            reason: format!(
                "late_row: order {id:?} was sent from another file, which has {known} of its rows"
            ),
            origin: self.origin,
            bytes: Vec::new(),
            row: Some(RowSize::default()),
        }
    }
}

/// Rows with one id that stand together.
pub(super) struct Run {
    pub(super) id: Id,
    /// Rows of this id in this file, with those of this run.
    pub(super) dealt: u32,
    /// Rows of this id that were dealt with before, in any file.
    known: u32,
    /// The order, if it is new.
    pub(super) open: Option<Open>,
    /// Rows that were refused since it began; those without an id are known by the run's.
    pub(super) refused: Vec<(Option<Id>, Rejected)>,
}

impl Run {
    pub(super) fn new(id: Id, dealt: u32, known: u32) -> Self {
        Self {
            id,
            dealt,
            known,
            open: None,
            refused: Vec::new(),
        }
    }

    /// Whether rows of its order were dealt with in another file since it began; so many are now.
    pub(super) fn is_overtaken(&self, known: u32) -> bool {
        known > self.known
    }

    /// Takes a row; the reason where it comes too late or is too many.
    pub(super) fn add(&mut self, row: Row, origin: &Origin) -> Option<String> {
        let Body::Order(mut order) = row.body else {
            return None;
        };
        self.dealt = self.dealt.saturating_add(1);
        if self.dealt <= self.known {
            return None;
        }
        if self.known > 0 {
            let (id, known) = (&order.order_id, self.known);
            return Some(format!(
                "late_row: order {id:?} was sent before this row came; {known} of its rows were there then"
            ));
        }
        let lines = std::mem::take(&mut order.lines);
        let open = self.open.get_or_insert_with(|| Open {
            at_ms: row.at_ms,
            origin: origin.clone(),
            order,
        });
        if open.order.lines.len() >= LINES_MAX {
            let id = &open.order.order_id;
            return Some(format!("order {id:?} has more than {LINES_MAX} lines"));
        }
        open.order.lines.extend(lines);
        None
    }
}
