//! End to end: the daemon's binary, run as people run it, against real services.
//!
//! Owns what the tests share: an installation with its config and processes, receivers that
//! check what they are sent, and oracles that count without our code. It must never call the
//! stages: what it knows of Fenghuo comes out of the binary.

#![allow(
    clippy::disallowed_methods,
    reason = "tests run on the real machine: its clock, its environment, its processes"
)]

pub mod attack;
pub mod chaos;
pub mod consumer;
pub mod http;
pub mod installation;
pub mod oracle;
pub mod pagerduty;
pub mod producer;
pub mod shop;
pub mod uci;
pub mod webhook;

use std::time::{Duration, SystemTime};

/// How long to wait for anything that is bound to happen. Only a failure takes so long.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The time now, Unix ms.
pub fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// An instant as RFC 3339.
///
/// # Panics
/// When no calendar holds it.
pub fn rfc3339(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms)
        .unwrap_or_else(|error| panic!("{at_ms}: {error}"))
        .to_string()
}
