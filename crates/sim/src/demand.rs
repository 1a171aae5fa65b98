//! How many orders come when: the day's shape, the flash, and arrivals that follow them.
//!
//! Owns the curve that the plan states and that the arrivals obey, so that a shop without trouble
//! sells to plan but for chance. It must never know about single skus or orders.

use crate::ShopConfig;
use crate::random::{Random, cluster_mean};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Orders in each hour of the local day, against each other: quiet nights, evening peaks.
const HOUR_WEIGHTS: [f64; 24] = [
    0.40, 0.22, 0.14, 0.10, 0.10, 0.14, 0.30, 0.60, 0.90, 1.15, 1.30, 1.25, 1.15, 1.10, 1.10, 1.10,
    1.10, 1.15, 1.35, 1.70, 2.00, 2.10, 1.80, 1.00,
];

/// The flash: until this minute after it began, so many times the mean rate.
const FLASH: [(i64, f64); 6] = [
    (3, 30.0),
    (6, 20.0),
    (10, 12.0),
    (20, 6.0),
    (30, 4.0),
    (60, 2.5),
];

/// A span over which orders are expected evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Piece {
    /// Where it begins.
    pub(crate) start_ms: i64,
    /// How long it is.
    pub(crate) length_ms: i64,
    /// Paid orders expected in it.
    pub(crate) orders: f64,
}

/// Expected paid orders from one time to another.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pieces: Vec<Piece>,
}

impl Curve {
    /// The shop's curve between two times: quarters of an hour, single minutes around the flash.
    pub(crate) fn new(config: &ShopConfig, from_ms: i64, to_ms: i64) -> Self {
        let fine = config.flash_ms - 30 * MINUTE_MS..config.flash_ms + 60 * MINUTE_MS;
        let mut pieces = Vec::new();
        let mut start_ms = from_ms;
        while start_ms < to_ms {
            let step_ms = if fine.contains(&start_ms) {
                MINUTE_MS
            } else {
                15 * MINUTE_MS
            };
            // Steps lie on a grid anchored at the flash, so that none runs across its start.
            let into_ms = (start_ms - config.flash_ms).rem_euclid(step_ms);
            let length_ms = (step_ms - into_ms).min(to_ms - start_ms);
            let orders = config.orders_per_day * length_ms as f64 / DAY_MS as f64
                * intensity(config, start_ms);
            pieces.push(Piece {
                start_ms,
                length_ms,
                orders,
            });
            start_ms += length_ms;
        }
        Self { pieces }
    }

    /// The same number of orders every second.
    pub(crate) fn even(from_ms: i64, to_ms: i64, orders_per_s: f64) -> Self {
        let length_ms = (to_ms - from_ms).max(0);
        let orders = orders_per_s * length_ms as f64 / 1000.0;
        Self {
            pieces: vec![Piece {
                start_ms: from_ms,
                length_ms,
                orders,
            }],
        }
    }

    /// Its pieces, in order and without gaps.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Paid orders expected between two times.
    pub(crate) fn expected(&self, from_ms: i64, to_ms: i64) -> f64 {
        self.pieces
            .iter()
            .map(|piece| {
                let start = piece.start_ms.max(from_ms);
                let end = (piece.start_ms + piece.length_ms).min(to_ms);
                piece.orders * (end - start).max(0) as f64 / piece.length_ms as f64
            })
            .sum()
    }
}

/// The rate at a time, as a multiple of the mean rate of an ordinary day.
fn intensity(config: &ShopConfig, at_ms: i64) -> f64 {
    let local_ms = at_ms + config.utc_offset_ms;
    let hour = (local_ms.rem_euclid(DAY_MS) / HOUR_MS) as usize;
    let mean = HOUR_WEIGHTS.iter().sum::<f64>() / 24.0;
    let ordinary = HOUR_WEIGHTS[hour] / mean;
    let minute = (at_ms - config.flash_ms).div_euclid(MINUTE_MS);
    match minute {
        -30..=-6 => ordinary * 1.5,
        -5..=-1 => ordinary * 2.0,
        0.. => FLASH
            .iter()
            .find(|(until, _)| minute < *until)
            .map_or(ordinary, |(_, times)| times.max(ordinary)),
        _ => ordinary,
    }
}

/// Arrivals of clusters of orders along a curve, one after another.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    curve: Curve,
    random: Random,
    dispersion: f64,
    /// Clusters for one order of the curve.
    clusters_per_order: f64,
    piece: usize,
    /// Clusters of the present piece that were expected before the last arrival.
    passed: f64,
}

impl Arrivals {
    /// Arrivals of which `share` times the curve's orders come.
    pub(crate) fn new(curve: Curve, random: Random, dispersion: f64, share: f64) -> Self {
        let clusters_per_order = share / cluster_mean(dispersion);
        Self {
            curve,
            random,
            dispersion,
            clusters_per_order,
            piece: 0,
            passed: 0.0,
        }
    }

    /// When the next cluster comes, and of how many orders; `None` past the curve's end.
    pub(crate) fn next(&mut self) -> Option<(i64, u32)> {
        let mut wait = self.random.exponential();
        loop {
            let piece = self.curve.pieces.get(self.piece)?;
            let clusters = piece.orders * self.clusters_per_order;
            if self.passed + wait < clusters {
                self.passed += wait;
                let into_ms = (piece.length_ms as f64 * (self.passed / clusters)) as i64;
                return Some((
                    piece.start_ms + into_ms,
                    self.random.cluster(self.dispersion),
                ));
            }
            // An exponential wait has no memory, but carrying the rest over saves a draw.
            wait -= clusters - self.passed;
            self.passed = 0.0;
            self.piece += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_follow_the_curve() {
        let config = ShopConfig {
            orders_per_day: 50_000.0,
            ..ShopConfig::default()
        };
        let (from_ms, to_ms) = (config.start_ms, config.end_ms);
        let curve = Curve::new(&config, from_ms, to_ms);
        let mut arrivals = Arrivals::new(curve.clone(), Random::new(3), 2.0, 1.0);
        let mut hours = std::collections::BTreeMap::<i64, f64>::new();
        let mut last_ms = from_ms;
        while let Some((at_ms, size)) = arrivals.next() {
            assert!(at_ms >= last_ms && at_ms < to_ms);
            last_ms = at_ms;
            *hours.entry((at_ms - from_ms) / HOUR_MS).or_default() += f64::from(size);
        }
        for (hour, count) in hours {
            let start_ms = from_ms + hour * HOUR_MS;
            let expected = curve.expected(start_ms, start_ms + HOUR_MS);
            // Five standard deviations of a count of dispersion 2.
            let bound = 5.0 * (2.0 * expected).sqrt();
            assert!(
                (count - expected).abs() < bound,
                "hour {hour}: {count}, not {expected}"
            );
        }
    }

    #[test]
    fn the_flash_is_thirty_times_the_mean_and_an_ordinary_day_is_what_was_asked_for() {
        let config = ShopConfig {
            orders_per_day: 14_400.0,
            ..ShopConfig::default()
        };
        let curve = Curve::new(&config, config.start_ms, config.end_ms);
        let flash_ms = config.flash_ms;
        assert!((curve.expected(flash_ms, flash_ms + MINUTE_MS) - 300.0).abs() < 1e-6);
        let day = curve.expected(config.start_ms, config.start_ms + DAY_MS);
        assert!((day - 14_400.0).abs() < 1e-6, "{day}");
        assert!(
            curve
                .pieces()
                .windows(2)
                .all(|two| two[0].start_ms + two[0].length_ms == two[1].start_ms)
        );
    }
}
