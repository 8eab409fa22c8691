//! Random numbers that depend on a seed and a number only, in every version of this crate.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// A separate generator for each purpose, seed and number.
pub(crate) fn keyed_rng(purpose: &[u8; 16], seed: u64, number: u64) -> ChaCha8Rng {
    // The key is written out, since `seed_from_u64` guarantees less than the cipher itself.
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    key[16..].copy_from_slice(purpose);
    ChaCha8Rng::from_seed(key)
}

/// A uniform number below `bound` (Lemire, 2019, "Fast random integer generation in an interval").
///
/// Implemented here because the algorithm behind `random_range` may change with rand's version and
/// features, and with it the batches of a seed.
pub(crate) fn below(rng: &mut impl Rng, bound: usize) -> usize {
    let bound = bound as u64;
    // 2^64 modulo `bound`: this many low halves are rejected, and drawn again.
    let excess = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        if product as u64 >= excess {
            return (product >> 64) as usize;
        }
    }
}

/// A uniform random permutation (Fisher and Yates).
pub(crate) fn shuffle<T>(rng: &mut impl Rng, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i + 1));
    }
}
