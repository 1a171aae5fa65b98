//! The machine's clock: the one place where the daemon reads it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Now, Unix ms.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// A watch that began when it was made.
#[derive(Clone, Copy, Debug)]
pub struct Watch(Instant);

impl Watch {
    /// Begins.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since it began.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Waits; only for the pace of the demo and of looking at a folder, and the backoff of a worker.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// What the local time is ahead of UTC now, in minutes: for who sits at this machine, never for the
/// shop.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn utc_offset_min() -> i32 {
    let now = jiff::Timestamp::from_millisecond(now_ms()).unwrap_or_default();
    jiff::tz::TimeZone::system().to_offset(now).seconds() / 60
}

/// The same as text, such as `+08:00`.
pub fn utc_offset() -> String {
    let minutes = utc_offset_min();
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}
