//! A small seeded source of random numbers, and the few distributions that the shop draws from.
//!
//! Owns xoshiro256++ (Blackman and Vigna, 2018), seeded by SplitMix64. The same seed gives the
//! same numbers for ever: it must never take anything from outside its seed. Of the floating
//! point functions only `ln` is used, so that runs agree between machines.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: [u64; 4],
}

/// One step of SplitMix64: spreads a number over all 64 bits.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// The stream of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = [0; 4];
        let mut next = seed;
        for word in &mut state {
            next = mix(next);
            *word = next;
        }
        Self { state }
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let mut state = [
            a ^ d ^ b,
            b ^ c ^ a,
            c ^ a ^ (b << 17),
            (d ^ b).rotate_left(45),
        ];
        std::mem::swap(&mut self.state, &mut state);
        result
    }

    /// From 0 up to, not including, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From `low` up to, not including, `high`.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = high.saturating_sub(low).max(1) as u128;
        low + ((u128::from(self.bits()) * span) >> 64) as i64
    }

    /// Whether something of this probability happens.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// An exponential waiting time of mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// How many orders arrive together, logarithmically distributed.
    ///
    /// Poisson arrivals of such clusters make counts that are negative binomial with variance
    /// `dispersion` times their mean over any span (Quenouille, 1949). `p = 1 − 1/dispersion`.
    pub(crate) fn cluster(&mut self, dispersion: f64) -> u32 {
        let p = 1.0 - 1.0 / dispersion;
        if p <= 0.0 {
            return 1;
        }
        let mut left = self.unit();
        let mut share = -p / (1.0 - p).ln();
        let mut size = 1;
        while left >= share && size < CLUSTER_MAX {
            left -= share;
            share *= p * f64::from(size) / f64::from(size + 1);
            size += 1;
        }
        size
    }

    /// A number drawn by its quantiles, linear between them: pairs of a rising share and a value.
    pub(crate) fn quantile(&mut self, table: &[(f64, f64)]) -> f64 {
        let share = self.unit();
        let upper = table
            .iter()
            .position(|(s, _)| *s > share)
            .unwrap_or(table.len() - 1)
            .max(1);
        let ((s0, v0), (s1, v1)) = (table[upper - 1], table[upper]);
        v0 + (v1 - v0) * (share - s0) / (s1 - s0)
    }

    /// An index, by weights that are already summed up.
    pub(crate) fn weighted(&mut self, cumulative: &[f64]) -> usize {
        let total = cumulative.last().copied().unwrap_or_default();
        let at = self.unit() * total;
        cumulative
            .partition_point(|sum| *sum <= at)
            .min(cumulative.len().saturating_sub(1))
    }
}

/// Ends the tail of the cluster sizes; at dispersion 2 its probability is below 1e-19.
const CLUSTER_MAX: u32 = 64;

/// Mean size of a cluster.
pub(crate) fn cluster_mean(dispersion: f64) -> f64 {
    if dispersion <= 1.0 {
        1.0
    } else {
        (dispersion - 1.0) / dispersion.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_make_counts_of_the_stated_dispersion() {
        let mut random = Random::new(7);
        for dispersion in [1.0, 2.0, 4.0] {
            let rate = 10.0 / cluster_mean(dispersion);
            let (mut sum, mut squares) = (0.0, 0.0);
            let rounds = 20_000;
            for _ in 0..rounds {
                let mut at = random.exponential();
                let mut count = 0;
                while at < rate {
                    count += random.cluster(dispersion);
                    at += random.exponential();
                }
                sum += f64::from(count);
                squares += f64::from(count * count);
            }
            let mean = sum / f64::from(rounds);
            let variance = squares / f64::from(rounds) - mean * mean;
            assert!(
                (mean - 10.0).abs() < 0.2,
                "dispersion {dispersion}: mean {mean}"
            );
            let ratio = variance / mean;
            assert!(
                (ratio / dispersion - 1.0).abs() < 0.1,
                "dispersion {dispersion}: {ratio}"
            );
        }
    }

    #[test]
    fn ranges_weights_and_quantiles_stay_inside() {
        let mut random = Random::new(1);
        let mut seen = [0_u32; 3];
        for _ in 0..10_000 {
            assert!((5..8).contains(&random.between(5, 8)));
            let value = random.quantile(&[(0.0, 1.0), (0.5, 2.0), (1.0, 10.0)]);
            assert!((1.0..=10.0).contains(&value));
            seen[random.weighted(&[1.0, 1.0, 4.0])] += 1;
        }
        assert_eq!(seen[1], 0, "a weight of nothing was drawn");
        assert!(seen[2] > 2 * seen[0]);
    }
}
