//! Waiting for a condition, for tests and services: the only place that sleeps.
//!
//! It must never wait without a limit, and never succeed because time has passed.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long to rest between two looks. Short against everything that is waited for, long against
/// the cost of a look.
const REST: Duration = Duration::from_millis(20);

/// Looks again and again until `probe` finds something, and gives it back. When `limit` is over
/// it fails and says what was waited for.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        thread::sleep(REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_found_and_says_what_was_not() {
        let mut looks = 0;
        let found = until("the third look", Duration::from_secs(60), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found.unwrap(), 3);
        let missed = until("nothing", Duration::ZERO, || None::<()>);
        assert_eq!(missed.unwrap_err().to_string(), "waited 0 s for nothing");
    }
}
