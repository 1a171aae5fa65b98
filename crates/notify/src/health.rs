//! How a channel fares: whether its receiver answers, and how much waits for it.
//!
//! A channel is stuck once nothing was taken or refused for [`STUCK_AFTER`] while tries failed. It is
//! tried on; pages that have another channel to go to do not wait for it for long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Failing for so long, a channel is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// After so long without a try nothing is known of a channel that was stuck.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// How a channel fares now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub channel: String,
    /// Pages that are being tried, or wait for their next try.
    pub sending: usize,
    /// Since when nothing was answered, and what the last try came to; where the last try failed.
    pub failing: Option<(Duration, String)>,
    /// It has failed for so long that pages go another way where they can.
    pub is_stuck: bool,
}

struct Failing {
    since: Instant,
    last: Instant,
    reason: String,
}

pub(crate) struct Health {
    failing: Mutex<Option<Failing>>,
    stuck: watch::Sender<bool>,
    sending: AtomicUsize,
}

/// Counts a page for as long as it is tried.
pub(crate) struct Sending<'a>(&'a Health);

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            failing: Mutex::new(None),
            stuck: watch::Sender::new(false),
            sending: AtomicUsize::new(0),
        }
    }

    /// One more page is tried.
    pub(crate) fn enter(&self) -> Sending<'_> {
        self.sending.fetch_add(1, Ordering::Relaxed);
        Sending(self)
    }

    /// The receiver took a page, or refused it: it is there.
    pub(crate) fn answered(&self) {
        *self.lock() = None;
        self.stuck.send_replace(false);
    }

    /// A try that began then came to nothing.
    pub(crate) fn failed(&self, began: Instant, reason: &str) {
        let now = Instant::now();
        let mut failing = self.lock();
        let since = failing.as_ref().map_or(began, |failing| failing.since);
        *failing = Some(Failing {
            since,
            last: now,
            reason: reason.to_owned(),
        });
        if now - since >= STUCK_AFTER {
            self.stuck.send_replace(true);
        }
    }

    pub(crate) fn is_stuck(&self) -> bool {
        *self.stuck.borrow()
    }

    /// Waits until it is stuck.
    pub(crate) async fn stuck(&self) {
        let mut stuck = self.stuck.subscribe();
        // It lives as long as the sender of its news.
        let _ = stuck.wait_for(|stuck| *stuck).await;
    }

    pub(crate) fn standing(&self, channel: &str) -> Standing {
        let now = Instant::now();
        let failing = self.lock();
        let sending = self.sending.load(Ordering::Relaxed);
        let is_known = |failing: &&Failing| sending > 0 || now - failing.last < KNOWN_FOR;
        let failing = failing.as_ref().filter(is_known);
        Standing {
            channel: channel.to_owned(),
            sending,
            failing: failing.map(|failing| (now - failing.since, failing.reason.clone())),
            is_stuck: failing.is_some() && self.is_stuck(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failing>> {
        // It is whole after every change.
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
