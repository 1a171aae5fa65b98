//! Chance from a seed: the same numbers at every run, on every machine.
//!
//! It must never be used where numbers have to be hard to guess.

/// SplitMix64, after Steele, Lea and Flood, "Fast splittable pseudorandom number generators"
/// (OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0; small against 2^64, so that none is favoured.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    /// A number of `[from, to)`, or `from` where there is none.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from).max(1))
    }

    /// Yes, so often in a thousand.
    pub fn one_of_thousand(&mut self, times: u64) -> bool {
        self.below(1_000) < times
    }
}
