//! Progress of a load on standard error: a line that changes on a terminal, one each ten seconds
//! elsewhere.
//!
//! It must never decide anything: time here is for people.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Shows how far a load is.
pub struct Progress {
    began: Instant,
    shown: Option<Instant>,
    terminal: bool,
    /// Bytes that there are to load, where the files tell.
    bytes_total: Option<u64>,
}

/// How much was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Events appended.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Lines that are no events.
    pub rejected: u64,
}

impl Progress {
    /// Begins now.
    pub fn new(bytes_total: Option<u64>) -> Self {
        Self {
            began: now(),
            shown: None,
            terminal: std::io::stderr().is_terminal(),
            bytes_total,
        }
    }

    /// Shows the state, if it is time to.
    pub fn show(&mut self, done: Done) {
        let now = now();
        let pause = Duration::from_millis(if self.terminal { 200 } else { 10_000 });
        if now - self.shown.unwrap_or(self.began) < pause {
            return;
        }
        self.shown = Some(now);
        let line = line(done, now - self.began, self.bytes_total);
        let (begin, end) = match self.terminal {
            // Back to the line's begin, and erase what stood there.
            true => ("\r\x1b[2K", ""),
            false => ("", "\n"),
        };
        let mut out = std::io::stderr().lock();
        // Where standard error is gone, nobody watches.
        let _ = write!(out, "{begin}{line}{end}").and_then(|()| out.flush());
    }

    /// Tells something beside the changing line.
    pub fn say(&mut self, what: &str) {
        self.clear();
        eprintln!("{what}");
    }

    fn clear(&self) {
        if self.terminal && self.shown.is_some() {
            eprint!("\r\x1b[2K");
        }
    }

    /// Takes the changing line away, and tells how long it took.
    pub fn end(self) -> Duration {
        self.clear();
        now() - self.began
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "how fast a load is, for the person who waits"
)]
fn now() -> Instant {
    Instant::now()
}

fn line(done: Done, took: Duration, bytes_total: Option<u64>) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    let mut line = format!(
        "{} events, {:.1} MB, {:.0} events/s",
        done.events,
        done.bytes as f64 / 1e6,
        done.events as f64 / seconds
    );
    if let Some(total) = bytes_total.filter(|total| *total > 0) {
        let share = (done.bytes as f64 / total as f64).clamp(0.0, 1.0);
        line += &format!(", {:.0} %", share * 100.0);
        if share > 0.0 {
            let left = (seconds / share - seconds).round();
            let left = Duration::from_secs(left.clamp(0.0, 1e9) as u64);
            line += &format!(", {} left", humantime::format_duration(left));
        }
    }
    if done.rejected > 0 {
        line += &format!(", {} rejected", done.rejected);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_rate_share_and_what_is_left() {
        let done = Done {
            events: 30_000,
            bytes: 5_000_000,
            rejected: 2,
        };
        let took = Duration::from_secs(10);
        assert_eq!(
            line(done, took, Some(20_000_000)),
            "30000 events, 5.0 MB, 3000 events/s, 25 %, 30s left, 2 rejected"
        );
        assert_eq!(
            line(Done::default(), Duration::ZERO, None),
            "0 events, 0.0 MB, 0 events/s"
        );
    }
}
