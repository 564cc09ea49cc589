//! Chance that can be repeated: bits told from numbers by a hash, and a stream of random numbers per visit.
//!
//! Only sums, products, quotients and square roots are used, which are exact by IEEE 754: the same seed gives the same
//! numbers on every machine.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What random bits are for, so that bits for one purpose say nothing about another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Traits = 1,
    Arrival,
    Visits,
    Rhythm,
    Gap,
    Variant,
    Device,
    User,
    Email,
    Phone,
    Loyalty,
    EventHigh,
    EventLow,
    Defect,
}

/// A bijection of 64-bit numbers that looks random: the finaliser of SplitMix64 (Steele, Lea and Flood,
/// "Fast splittable pseudorandom number generators", 2014).
pub(super) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Bits as a number of [0, 1).
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Quantile of a log-logistic distribution of median 1 and shape 2: skewed like waiting times and prices.
pub(super) fn odds(chance: f64) -> f64 {
    (chance / (1.0 - chance)).sqrt()
}

/// The random numbers of one visit.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64, customer: u32, ordinal: u16) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..12].copy_from_slice(&customer.to_le_bytes());
        key[12..14].copy_from_slice(&ordinal.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(super) fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    pub(super) fn below(&mut self, count: u64) -> u64 {
        self.bits() % count
    }

    /// A positive number that is mostly near `usual` and now and then far above.
    pub(super) fn around(&mut self, usual: f64) -> f64 {
        usual * odds(self.unit())
    }
}
