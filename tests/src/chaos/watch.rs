//! How far behind the instances are, moment by moment: how long a takeover takes.
//!
//! It must never touch what it looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use xtask::wait;

use crate::{http, now_ms};

/// Between two looks at an instance.
const BETWEEN: Duration = Duration::from_millis(200);
/// What is shown so long after it was sent is shown at once: commits, two hops and the look.
const AT_ONCE_MS: i64 = 1_500;
/// If nothing lags within this time of a kill, nobody noticed it: sessions end after 6 s, and of
/// what a dead instance held, a third or more of all, so much is missing earlier.
const NOTICED_WITHIN_MS: i64 = 8_000;

/// What an instance showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// When, Unix ms.
    pub at_ms: i64,
    /// Whom.
    pub instance: usize,
    /// Paid orders in all; nothing where it did not answer, or does not know.
    pub orders: Option<i64>,
}

/// Threads that look until they are told to stop.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Look>>>,
}

impl Watch {
    /// Looks at the instances that listen there.
    pub fn start(listens: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = listens
            .into_iter()
            .enumerate()
            .map(|(instance, listen)| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || look(instance, &listen, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Stops and gives what was seen, in order.
    pub fn finish(self) -> Vec<Look> {
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.threads.into_iter().filter_map(|one| one.join().ok());
        let mut all: Vec<Look> = looks.flatten().collect();
        all.sort_by_key(|look| look.at_ms);
        all
    }
}

fn look(instance: usize, listen: &str, stop: &AtomicBool) -> Vec<Look> {
    let url = format!("http://{listen}/api/v1/totals?limit=1");
    let mut looks = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let totals = http::get(&url, &[]).and_then(|answer| answer.json());
        looks.push(Look {
            at_ms: now_ms(),
            instance,
            orders: totals
                .ok()
                .and_then(|totals| totals["total"]["orders"].as_i64()),
        });
        let is_time = || (began.elapsed() >= BETWEEN).then_some(());
        if wait::until("the next look", 10 * BETWEEN, is_time).is_err() {
            break;
        }
    }
    looks
}

/// How long ago the oldest order was sent that nobody showed, at each look; orders sent so far
/// come as times and numbers, in order.
pub fn delays(sent: &[(i64, i64)], looks: &[Look]) -> Vec<(i64, i64)> {
    let instances = looks.iter().map(|look| look.instance + 1).max();
    let mut shown = vec![None; instances.unwrap_or(0)];
    let mut delays = Vec::new();
    for look in looks {
        shown[look.instance] = look.orders;
        let most = shown.iter().flatten().copied().max().unwrap_or(0);
        let missing = sent.partition_point(|(_, orders)| *orders <= most);
        let delay_ms = sent
            .get(missing)
            .map_or(0, |(at_ms, _)| (look.at_ms - at_ms).max(0));
        delays.push((look.at_ms, delay_ms));
    }
    delays
}

/// How long after a kill everything is shown at once again; `None` where it never is.
pub fn takeover_ms(kill_ms: i64, delays: &[(i64, i64)]) -> Option<i64> {
    let after = &delays[delays.partition_point(|(at_ms, _)| *at_ms <= kill_ms)..];
    let noticed = after
        .iter()
        .take_while(|(at_ms, _)| *at_ms <= kill_ms + NOTICED_WITHIN_MS)
        .position(|(_, delay_ms)| *delay_ms > AT_ONCE_MS);
    let Some(noticed) = noticed else {
        return Some(0);
    };
    let mended = after[noticed..]
        .iter()
        .find(|(_, delay_ms)| *delay_ms <= AT_ONCE_MS);
    mended.map(|(at_ms, _)| at_ms - kill_ms)
}

/// The longest time within a span in which nothing was missing, in ms.
pub fn longest_calm_ms(from_ms: i64, to_ms: i64, delays: &[(i64, i64)]) -> i64 {
    let mut longest_ms = 0;
    let mut since_ms = None;
    for (at_ms, delay_ms) in delays {
        if (from_ms..to_ms).contains(at_ms) && *delay_ms <= AT_ONCE_MS {
            longest_ms = longest_ms.max(at_ms - *since_ms.get_or_insert(*at_ms));
        } else {
            since_ms = None;
        }
    }
    longest_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_ends_when_nothing_is_missing_any_more() {
        // Ten orders a second; a kill at 10 s after which a third is missing until 18.5 s.
        let sent: Vec<(i64, i64)> = (0..300).map(|tick| (tick * 100, tick + 1)).collect();
        let looks: Vec<Look> = (0..150)
            .map(|tick| {
                let at_ms = tick * 200;
                let all = at_ms / 100;
                let orders = if (10_000..18_500).contains(&at_ms) {
                    100 + (all - 100) * 2 / 3
                } else {
                    all
                };
                Look {
                    at_ms,
                    instance: 0,
                    orders: Some(orders),
                }
            })
            .collect();
        let delays = delays(&sent, &looks);
        assert_eq!(takeover_ms(10_000, &delays), Some(8_600));
        // Before it is felt, after it was made good, and meanwhile.
        assert_eq!(longest_calm_ms(0, 18_000, &delays), 14_400);
        assert_eq!(longest_calm_ms(15_000, 28_000, &delays), 9_200);
        assert_eq!(longest_calm_ms(15_000, 18_000, &delays), 0);
        // A kill that nobody notices takes no time.
        assert_eq!(takeover_ms(25_000, &delays), Some(0));
        // What is never mended is told.
        let broken: Vec<(i64, i64)> = delays
            .iter()
            .map(|(at_ms, delay_ms)| (*at_ms, if *at_ms > 10_000 { 9_999 } else { *delay_ms }))
            .collect();
        assert_eq!(takeover_ms(10_000, &broken), None);
    }

    #[test]
    fn who_knows_most_is_believed_and_who_is_gone_is_not() {
        let sent = [(0, 1), (1_000, 2), (2_000, 3)];
        let look = |at_ms, instance, orders| Look {
            at_ms,
            instance,
            orders,
        };
        let looks = [
            look(2_500, 0, Some(3)),
            look(2_600, 1, Some(1)),
            look(2_700, 0, None),
        ];
        assert_eq!(
            delays(&sent, &looks),
            [(2_500, 0), (2_600, 0), (2_700, 1_700)]
        );
    }
}
