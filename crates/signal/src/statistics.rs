//! The few tests that signals make, each from its textbook form.

use statrs::function::beta::checked_beta_reg;
use statrs::function::erf::erfc;

/// Counts of arrivals are over-dispersed: their variance is about twice their mean.
pub const DISPERSION: f64 = 2.0;

/// Part of the standard deviation that grows with the mean: what a plan is off by.
pub const RELATIVE_SPREAD: f64 = 0.15;

/// Largest surprise that is told.
pub const SURPRISE_MAX: f64 = 300.0;

/// Variance of a count with this mean: φμ + (0.15μ)².
pub fn count_variance(mean: f64) -> f64 {
    DISPERSION * mean + (RELATIVE_SPREAD * mean).powi(2)
}

/// −log10 of the probability of at most `count`, from a negative binomial distribution with this
/// mean and [`count_variance`].
pub fn count_surprise_low(count: u64, mean: f64) -> f64 {
    if mean <= 0.0 {
        return 0.0;
    }
    // Variance v > mean m: p = m / v, r = m² / (v − m), and P(Y ≤ k) = I_p(r, k + 1).
    let variance = count_variance(mean);
    let p = mean / variance;
    let r = mean * mean / (variance - mean);
    let probability = checked_beta_reg(r, count as f64 + 1.0, p).unwrap_or(1.0);
    surprise(probability)
}

/// −log10 of the probability of a standard normal variable of at least `z`.
pub fn normal_surprise(z: f64) -> f64 {
    surprise(erfc(z / std::f64::consts::SQRT_2) / 2.0)
}

fn surprise(probability: f64) -> f64 {
    (-probability.log10()).clamp(0.0, SURPRISE_MAX)
}

/// Wilson score interval of a share, 95 % two-sided; (0, 1) without a sample.
///
/// E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
pub fn wilson(part: u64, of: u64) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    const Z: f64 = 1.959_964;
    let (n, p) = (of as f64, part.min(of) as f64 / of as f64);
    let z2n = Z * Z / n;
    let centre = p + z2n / 2.0;
    let half = Z * (p * (1.0 - p) / n + z2n / (4.0 * n)).sqrt();
    let scale = 1.0 + z2n;
    (
        ((centre - half) / scale).max(0.0),
        ((centre + half) / scale).min(1.0),
    )
}

/// Mean number of steps until a lower CUSUM with this allowance first reaches `level`, were all
/// well; level and allowance in standard deviations.
///
/// D. Siegmund's approximation, "Sequential Analysis", 1985.
pub fn cusum_run_length(level: f64, allowance: f64) -> f64 {
    let b = level + 1.166;
    let x = 2.0 * allowance * b;
    if x < 1e-6 {
        return b * b;
    }
    (x.exp() - x - 1.0) / (2.0 * allowance * allowance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, by: f64) {
        assert!((a - b).abs() <= by, "{a} is not {b} ± {by}");
    }

    #[test]
    fn the_negative_binomial_tail_is_the_sum_of_its_terms() {
        for mean in [0.5, 3.0, 20.0, 150.0] {
            let variance = count_variance(mean);
            let (p, r) = (mean / variance, mean * mean / (variance - mean));
            for count in [0_u64, 1, 5, 40] {
                // P(0) = p^r, P(k) = P(k−1)·(k−1+r)/k·(1−p).
                let mut term = p.powf(r);
                let mut sum = term;
                for k in 1..=count {
                    term *= (k as f64 - 1.0 + r) / k as f64 * (1.0 - p);
                    sum += term;
                }
                near(count_surprise_low(count, mean), -sum.min(1.0).log10(), 1e-6);
            }
        }
    }

    #[test]
    fn published_values_are_met() {
        // Wilson, 10 of 100: 0.0552 to 0.1744.
        let (lower, upper) = wilson(10, 100);
        near(lower, 0.0552, 1e-4);
        near(upper, 0.1744, 1e-4);
        // P(Z ≥ 4.7534) = 1e-6.
        near(normal_surprise(4.753_424), 6.0, 1e-4);
        // Montgomery, table of CUSUM run lengths: h = 4, k = 0.5 one-sided about 336.
        near(cusum_run_length(4.0, 0.5), 336.0, 6.0);
    }
}
