//! Batches of pairs of similar length, with little padding.

use crate::sequences::permutations::Cache;
use crate::sequences::random::{keyed_rng, shuffle};
use crate::translation::pairs::TokenPairs;

/// Endless passes over pairs, cut into batches of pairs of similar length. Each pass has its own
/// batches in its own order, and every pass has the same number of them.
#[derive(Debug)]
pub(super) struct ShuffledBuckets {
    buckets: Vec<Bucket>,
    n_batches: usize,
    seed: u64,
    cache: Cache<Vec<Vec<usize>>>,
}

/// Pairs that are padded to similar lengths.
#[derive(Debug)]
struct Bucket {
    pairs: Vec<usize>,
    batch_size: usize,
}

impl ShuffledBuckets {
    /// Passes over the pairs of at most `max_length` pieces, in batches of at most `max_tokens` on
    /// a side, padding included. A longer pair is a batch of its own.
    pub(super) fn new(all: &TokenPairs, max_tokens: usize, max_length: usize, seed: u64) -> Self {
        let mut by_length: Vec<(usize, usize)> = (0..all.len())
            .map(|pair| (all.padded_length(pair), pair))
            // A pair with an empty side has no targets.
            .filter(|&(length, pair)| {
                let (source, target) = all.get(pair);
                length <= max_length && !source.is_empty() && !target.is_empty()
            })
            .collect();
        by_length.sort_unstable();
        let buckets: Vec<Bucket> = by_length
            .chunk_by(|(a, _), (b, _)| bucket_length(*a) == bucket_length(*b))
            .map(|bucket| Bucket {
                pairs: bucket.iter().map(|&(_, pair)| pair).collect(),
                batch_size: (max_tokens / bucket_length(bucket[0].0)).max(1),
            })
            .collect();
        let n_batches = buckets
            .iter()
            .map(|bucket| bucket.pairs.len().div_ceil(bucket.batch_size))
            .sum();
        Self {
            buckets,
            n_batches,
            seed,
            cache: Cache::new(),
        }
    }

    /// Number of batches in each pass.
    pub(super) fn n_batches(&self) -> usize {
        self.n_batches
    }

    /// The pairs of a batch; there must be batches.
    pub(super) fn batch(&self, number: u64) -> Vec<usize> {
        let n_batches = self.n_batches as u64;
        let pass = number / n_batches;
        let batches = self.cache.get(pass, || self.draw(pass));
        batches[(number % n_batches) as usize].clone()
    }

    /// Draws a pass from its number and the seed only.
    fn draw(&self, pass: u64) -> Vec<Vec<usize>> {
        let mut rng = keyed_rng(b"parallel text...", self.seed, pass);
        let mut batches = Vec::with_capacity(self.n_batches);
        for bucket in &self.buckets {
            let mut pairs = bucket.pairs.clone();
            shuffle(&mut rng, &mut pairs);
            batches.extend(pairs.chunks(bucket.batch_size).map(<[usize]>::to_vec));
        }
        shuffle(&mut rng, &mut batches);
        batches
    }
}

/// The largest length in the bucket of a length: 8, 16, 24, ... and from 80 on in steps of a tenth.
fn bucket_length(length: usize) -> usize {
    let mut bucket = 8;
    while bucket < length {
        bucket += (bucket / 80).max(1) * 8;
    }
    bucket
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn buckets_hold_their_lengths_and_waste_little(length in 1_usize..20_000) {
            let bucket = bucket_length(length);
            prop_assert!(bucket >= length);
            prop_assert!(bucket - length < 8.max(length / 10 + 1));
        }
    }
}
