//! Budgets of bytes: what all requests together may hold of one kind.
//!
//! Owns the counting. It must never let more be held than there is, nor wait where nobody says for
//! how long.

use std::sync::Arc;

use axum::body::Bytes;
use fenghuo_intake::body::Room;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit in which is counted: a semaphore holds too few permits for single bytes.
const UNIT_BYTES: usize = 1024;
/// What grows takes this much at a time, so that it asks rarely.
const STEP_UNITS: usize = 64;

/// Bytes that all who ask share.
#[derive(Clone)]
pub(super) struct Budget {
    units: Arc<Semaphore>,
}

/// A share of a budget; what is dropped is given back.
pub(super) struct Reserved {
    units: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    used_bytes: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            units: Arc::new(Semaphore::new(bytes / UNIT_BYTES)),
        }
    }

    /// A share of nothing yet.
    pub(super) fn empty(&self) -> Reserved {
        Reserved {
            units: Arc::clone(&self.units),
            permit: None,
            used_bytes: 0,
        }
    }

    /// A share of so many bytes, if there are so many left.
    pub(super) fn try_reserve(&self, bytes: usize) -> Option<Reserved> {
        let mut reserved = self.empty();
        reserved.take(bytes).then_some(reserved)
    }

    /// A share of so many bytes, once there are so many left; those who wait get theirs in turn.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<Reserved> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        Some(Reserved {
            units: Arc::clone(&self.units),
            permit: permit.ok(),
            used_bytes: bytes,
        })
    }

    /// Bytes that nobody holds.
    #[cfg(test)]
    pub(super) fn left_bytes(&self) -> usize {
        self.units.available_permits() * UNIT_BYTES
    }
}

impl Reserved {
    fn held_units(&self) -> usize {
        self.permit
            .as_ref()
            .map_or(0, |permit| permit.num_permits())
    }

    fn acquire(&mut self, units: usize) -> bool {
        let Ok(count) = u32::try_from(units) else {
            return false;
        };
        let Ok(more) = Arc::clone(&self.units).try_acquire_many_owned(count) else {
            return false;
        };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        true
    }

    /// Gives back all but so many bytes.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        self.give(self.used_bytes.saturating_sub(bytes));
    }

    /// Bytes that hold this share until the last part of them is gone, wherever it is by then.
    pub(super) fn holding(mut self, bytes: Vec<u8>) -> Bytes {
        struct Held(Vec<u8>, #[allow(dead_code, reason = "held")] Reserved);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        self.shrink_to(bytes.capacity());
        Bytes::from_owner(Held(bytes, self))
    }
}

impl Room for Reserved {
    fn take(&mut self, bytes: usize) -> bool {
        let Some(used_bytes) = self.used_bytes.checked_add(bytes) else {
            return false;
        };
        let missing = used_bytes
            .div_ceil(UNIT_BYTES)
            .saturating_sub(self.held_units());
        let is_held =
            missing == 0 || self.acquire(missing.max(STEP_UNITS)) || self.acquire(missing);
        if is_held {
            self.used_bytes = used_bytes;
        }
        is_held
    }

    fn give(&mut self, bytes: usize) {
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
        let wanted = self.used_bytes.div_ceil(UNIT_BYTES);
        let surplus = self.held_units().saturating_sub(wanted);
        if let Some(permit) = &mut self.permit {
            drop(permit.split(surplus));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_there_once_and_comes_back() {
        let budget = Budget::new(1 << 20);
        let mut one = budget.empty();
        assert!(one.take(600 << 10));
        let mut two = budget.empty();
        assert!(!two.take(600 << 10));
        assert!(two.take(300 << 10));
        one.shrink_to(10);
        assert!(two.take(600 << 10));
        drop(two);
        assert_eq!(budget.left_bytes(), (1 << 20) - 1024);
        drop(one);
        assert_eq!(budget.left_bytes(), 1 << 20);
        assert!(budget.try_reserve((1 << 20) + 1).is_none());
    }

    #[test]
    fn bytes_hold_their_share_until_the_last_part_is_gone() {
        let budget = Budget::new(1 << 20);
        let reserved = budget.try_reserve(512 << 10).unwrap();
        let mut bytes = reserved.holding(vec![7; 100 << 10]);
        assert_eq!(budget.left_bytes(), 924 << 10);
        let part = bytes.split_to(10);
        drop(bytes);
        assert_eq!(budget.left_bytes(), 924 << 10);
        drop(part);
        assert_eq!(budget.left_bytes(), 1 << 20);
    }
}
