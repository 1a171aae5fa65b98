//! Turns: pages under one dedup key leave one after another.
//!
//! Without it a trigger that is being retried could arrive after its own resolve, and leave an
//! incident open at the receiver for ever.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

type Waiting = HashMap<String, Arc<Turn<()>>>;

/// The keys that are being sent or waited for; as many as the caller has pages under way.
#[derive(Default)]
pub(crate) struct Turns {
    waiting: Arc<Mutex<Waiting>>,
}

impl Turns {
    /// Waits until every page that came before under this key is done with.
    pub(crate) async fn take(&self, key: &str) -> Taken {
        let turn = Arc::clone(locked(&self.waiting).entry(key.to_owned()).or_default());
        // Made before the wait, so that a caller who gives up while waiting leaves nothing behind.
        let ticket = Ticket {
            waiting: Arc::clone(&self.waiting),
            key: key.to_owned(),
            turn: turn.clone(),
        };
        Taken {
            _guard: turn.lock_owned().await,
            _ticket: ticket,
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        locked(&self.waiting).len()
    }
}

/// A turn; the next page under the key goes when it is dropped.
pub(crate) struct Taken {
    // Dropped in this order: the ticket counts the holders that are left.
    _guard: OwnedMutexGuard<()>,
    _ticket: Ticket,
}

struct Ticket {
    waiting: Arc<Mutex<Waiting>>,
    key: String,
    turn: Arc<Turn<()>>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = locked(&self.waiting);
        // The map's and this one: nobody else holds or awaits the turn, and under the lock nobody
        // can begin to.
        if Arc::strong_count(&self.turn) == 2 {
            waiting.remove(&self.key);
        }
    }
}

fn locked(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // Nothing panics under this lock, and the map is whole after every step.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_taken_by_one_at_a_time_and_forgotten_after() {
        let turns = Turns::default();
        let first = turns.take("a").await;
        let _other = turns.take("b").await;
        let second = tokio::time::timeout(Duration::from_secs(1), turns.take("a")).await;
        assert!(second.is_err(), "two had the turn of one key");
        drop(first);
        drop(turns.take("a").await);
        assert_eq!(turns.len(), 1, "only b is still under way");
    }
}
