//! Measuring while something else goes on: health from fresh connections, pages, memory.
//!
//! It must never share a connection with the attack.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{pass, wire};

const EVERY: Duration = Duration::from_millis(40);
/// What does not answer by then counts as so long.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Times in ms, sorted.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<u64>);

impl Times {
    /// Sorts them.
    pub fn new(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that so many of a hundred do not exceed; 0 of none.
    pub fn percentile(&self, percent: usize) -> u64 {
        let at = (self.0.len() * percent).div_ceil(100).max(1) - 1;
        self.0.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [50, 99, 100].map(|percent| self.percentile(percent));
        write!(f, "{half}/{most}/{all} ms p50/p99/max of {}", self.len())
    }
}

/// Asks for a path again and again until it is told to end.
pub struct Probe {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
}

impl Probe {
    /// Starts with the path of health.
    pub fn start(to: SocketAddr) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let ask = move || {
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let answer = wire::get(to, "/-/healthy", ANSWERS_WITHIN);
                let took = if answer.status == 0 {
                    // Closed at once is no answer either.
                    ANSWERS_WITHIN
                } else {
                    answer.took
                };
                times.push(took.as_millis() as u64);
                pass(EVERY);
            }
            times
        };
        let thread = std::thread::Builder::new()
            .name("probe".to_owned())
            .spawn(ask)?;
        Ok(Self { is_over, thread })
    }

    /// Ends it and gives what it measured.
    pub fn finish(self) -> Times {
        self.is_over.store(true, Ordering::Relaxed);
        Times::new(self.thread.join().unwrap_or_default())
    }
}

/// The most memory that a process has ever had, and has now, in MiB.
pub fn memory_mib(id: u32) -> Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{id}/status")).context("the process is gone")?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib = line.trim_start_matches(':').split_whitespace().next()?;
        Some(kib.parse::<u64>().ok()? / 1024)
    };
    let most = value("VmHWM").context("no VmHWM")?;
    Ok((most, value("VmRSS").context("no VmRSS")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_few_and_of_none() {
        assert_eq!(Times::default().percentile(99), 0);
        let times = Times::new((1..=200).rev().collect());
        assert_eq!(
            [50, 99, 100].map(|of| times.percentile(of)),
            [100, 198, 200]
        );
    }

    #[test]
    fn memory_of_this_process_is_some() {
        let (most, now) = memory_mib(std::process::id()).unwrap();
        assert!(most >= now && now > 0);
    }
}
