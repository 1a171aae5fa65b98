//! A channel's gate: how many requests a minute, how many at once, and who goes first.
//!
//! Nothing is dropped here: whoever comes waits. Pages of the highest severity go before all
//! others, so that a storm of warnings cannot hold back the page that matters. Of those pages the
//! latest and the earliest go in turn, so that a storm of pages cannot either: what happens now
//! does not wait for all that happened before it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Queue, Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

/// A token bucket, as the generic cell rate algorithm: one instant instead of a counter that
/// has to be refilled.
struct Bucket {
    interval: Duration,
    /// How far ahead of the steady rate a burst may run.
    tolerance: Duration,
    /// When the next token would be due at the steady rate.
    due: Instant,
    /// No token before this: the receiver asked for silence.
    not_before: Instant,
}

impl Bucket {
    fn new(rate_per_minute: u32, burst: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(60) / rate_per_minute.max(1);
        Self {
            interval,
            tolerance: interval * (burst.max(1) - 1),
            due: now,
            not_before: now,
        }
    }

    /// Takes a token, or says how long to wait before asking again.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let open = (self.due.checked_sub(self.tolerance).unwrap_or(now)).max(self.not_before);
        if open > now {
            return Err(open - now);
        }
        self.due = self.due.max(now) + self.interval;
        Ok(())
    }
}

/// The gate of one channel.
pub(crate) struct Gate {
    bucket: Mutex<Bucket>,
    places: Arc<Semaphore>,
    // Only the head of each asks the bucket.
    urgent: Line,
    calm: Queue<()>,
    urgent_waiting: AtomicUsize,
    urgent_left: Notify,
}

impl Gate {
    /// `burst` tokens at once, then `rate_per_minute`; at most `in_flight_max` inside.
    pub(crate) fn new(rate_per_minute: u32, burst: u32, in_flight_max: usize) -> Self {
        Self {
            bucket: Mutex::new(Bucket::new(rate_per_minute, burst, Instant::now())),
            places: Arc::new(Semaphore::new(in_flight_max.max(1))),
            urgent: Line::default(),
            calm: Queue::new(()),
            urgent_waiting: AtomicUsize::new(0),
            urgent_left: Notify::new(),
        }
    }

    /// Waits for a token and a place; the place is held until the result is dropped.
    /// `at_ms`: when what is paged happened.
    pub(crate) async fn enter(&self, urgency: Urgency, at_ms: i64) -> Option<OwnedSemaphorePermit> {
        let _waiting = (urgency == Urgency::Page).then(|| Waiting::at(self));
        let _heads = match urgency {
            Urgency::Page => (Some(self.urgent.head(at_ms).await), None),
            Urgency::Other => (None, Some(self.calm.lock().await)),
        };
        loop {
            if urgency == Urgency::Other {
                self.let_pages_pass().await;
            }
            let taken = {
                let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
                bucket.take(Instant::now())
            };
            match taken {
                Ok(()) => break,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
        // The semaphore is never closed; were it, going on unlimited is better than a lost page.
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Lets nobody in for a while: the receiver said that it is overrun.
    pub(crate) fn pause(&self, wait: Duration) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.not_before = bucket.not_before.max(Instant::now() + wait);
    }

    async fn let_pages_pass(&self) {
        loop {
            // Made before the check, so that a departure between the two is not missed.
            let left = self.urgent_left.notified();
            if self.urgent_waiting.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }
}

/// Pages that wait to be the head.
#[derive(Default)]
struct Line(Mutex<Waiters>);

#[derive(Default)]
struct Waiters {
    has_head: bool,
    /// By when what is paged happened, and who came first.
    waiting: BTreeMap<(i64, u64), oneshot::Sender<()>>,
    came: u64,
    /// The last one that was called was the latest of all.
    was_latest: bool,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is the head, and is it until the result is dropped.
    async fn head(&self, at_ms: i64) -> Head<'_> {
        let called = {
            let mut line = self.lock();
            if !line.has_head {
                line.has_head = true;
                return Head(self);
            }
            let (call, called) = oneshot::channel();
            line.came += 1;
            let place = (at_ms, line.came);
            line.waiting.insert(place, call);
            called
        };
        // It is never dropped without a call: whoever leaves calls the next one.
        let head = Called {
            line: self,
            called: Some(called),
        };
        head.wait().await
    }

    /// Lets the next one be the head.
    fn leave(&self) {
        let mut line = self.lock();
        loop {
            let next = match line.was_latest {
                true => line.waiting.pop_first(),
                false => line.waiting.pop_last(),
            };
            let Some((_, call)) = next else {
                line.has_head = false;
                return;
            };
            // One that gave up waiting is passed over.
            if call.send(()).is_ok() {
                line.was_latest = !line.was_latest;
                return;
            }
        }
    }
}

/// The head of a line.
struct Head<'a>(&'a Line);

impl Drop for Head<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// One that waits to be called. Where it gives up after it was called, it calls the next one.
struct Called<'a> {
    line: &'a Line,
    called: Option<oneshot::Receiver<()>>,
}

impl<'a> Called<'a> {
    async fn wait(mut self) -> Head<'a> {
        if let Some(called) = &mut self.called {
            // Nobody drops a call: see `leave`.
            let _ = called.await;
        }
        self.called = None;
        Head(self.line)
    }
}

impl Drop for Called<'_> {
    fn drop(&mut self) {
        let was_called = self.called.take().map(|mut called| {
            called.close();
            called.try_recv().is_ok()
        });
        if was_called == Some(true) {
            self.line.leave();
        }
    }
}

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A trigger of the highest severity.
    Page,
    /// Everything else.
    Other,
}

/// Counts a page at the gate for as long as it waits there.
struct Waiting<'a>(&'a Gate);

impl<'a> Waiting<'a> {
    fn at(gate: &'a Gate) -> Self {
        gate.urgent_waiting.fetch_add(1, Ordering::AcqRel);
        Self(gate)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.urgent_waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.urgent_left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_steady_rate_then_a_burst_again() {
        let start = Instant::now();
        let mut bucket = Bucket::new(60, 3, start);
        let at = |ms: u64| start + Duration::from_millis(ms);
        for _ in 0..3 {
            assert_eq!(bucket.take(at(0)), Ok(()));
        }
        assert_eq!(bucket.take(at(0)), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(at(400)), Err(Duration::from_millis(600)));
        assert_eq!(bucket.take(at(1_000)), Ok(()));
        assert!(bucket.take(at(1_000)).is_err());
        for _ in 0..3 {
            assert_eq!(bucket.take(at(60_000)), Ok(()), "a rest fills the bucket");
        }
        assert!(bucket.take(at(60_000)).is_err(), "and never past its size");
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_goes_before_the_warnings_that_came_first() {
        let gate = Arc::new(Gate::new(60, 1, 8));
        drop(gate.enter(Urgency::Other, 0).await);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for (name, urgency) in [
            ("warn 1", Urgency::Other),
            ("warn 2", Urgency::Other),
            ("page", Urgency::Page),
        ] {
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            tasks.spawn(async move {
                let _place = gate.enter(urgency, 0).await;
                order.lock().unwrap().push(name);
            });
            tokio::task::yield_now().await;
        }
        tasks.join_all().await;
        assert_eq!(*order.lock().unwrap(), ["page", "warn 1", "warn 2"]);
    }

    /// Guards: behind a burst of 900 pages the next one waited for 93 s.
    #[tokio::test(start_paused = true)]
    async fn the_latest_and_the_earliest_page_go_in_turn() {
        let gate = Arc::new(Gate::new(60, 1, 8));
        drop(gate.enter(Urgency::Page, 0).await);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        // In whatever order they come here.
        for number in [0, 3, 5, 1, 4, 2] {
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            tasks.spawn(async move {
                let _place = gate.enter(Urgency::Page, number).await;
                order.lock().unwrap().push(number);
            });
            tokio::task::yield_now().await;
        }
        // One that gives up is passed over, whenever it does.
        let given_up = tokio::time::timeout(Duration::from_millis(1), gate.enter(Urgency::Page, 0));
        assert!(given_up.await.is_err());
        tasks.join_all().await;
        // The first one was the head when the others came.
        assert_eq!(*order.lock().unwrap(), [0, 5, 1, 4, 2, 3]);
        let soon = tokio::time::timeout(Duration::from_secs(2), gate.enter(Urgency::Page, 0));
        assert!(soon.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_inside_than_places() {
        let gate = Gate::new(6_000, 100, 2);
        let first = gate.enter(Urgency::Other, 0).await;
        let _second = gate.enter(Urgency::Other, 0).await;
        let wait = Duration::from_secs(10);
        assert!(
            tokio::time::timeout(wait, gate.enter(Urgency::Page, 0))
                .await
                .is_err()
        );
        drop(first);
        assert!(
            tokio::time::timeout(wait, gate.enter(Urgency::Page, 0))
                .await
                .is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everyone_back() {
        let gate = Gate::new(6_000, 100, 2);
        gate.pause(Duration::from_secs(30));
        let within = |seconds| Duration::from_secs(seconds);
        assert!(
            tokio::time::timeout(within(29), gate.enter(Urgency::Page, 0))
                .await
                .is_err()
        );
        assert!(
            tokio::time::timeout(within(2), gate.enter(Urgency::Page, 0))
                .await
                .is_ok()
        );
    }
}
