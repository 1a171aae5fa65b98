//! The wall clock, as the one seam through which this crate reads it.
//!
//! Waiting runs on the runtime's timers, which tests can pause; only stamps (a signature's time,
//! the age of an HTTP date) come from here.

/// Where the notifier reads the wall clock.
pub trait Clock: Send + Sync {
    /// Now, Unix ms.
    fn now_ms(&self) -> i64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the notifier's one reading of the wall clock"
    )]
    fn now_ms(&self) -> i64 {
        let now = std::time::SystemTime::now();
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            // A clock set before 1970: wrong in any case, and not worth a page.
            Err(_) => 0,
        }
    }
}
