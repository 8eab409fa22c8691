//! Buckets of cached positions, and the keys that the newest position sees.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use rayon::prelude::*;

use super::Lengths;
use crate::attention::{LshAttention, LshConfig, Window, hash};
use crate::kernels::reference::with_local_round;
use crate::kernels::{Duplicates, ReformerBackend, VisibleKeys, items_of_task};

/// Looking up the keys of a head takes about as long as so many multiplications.
const LOOKUP: usize = 1 << 14;

/// The buckets of an LSH layer.
#[derive(Debug, Clone)]
pub(super) struct Hashed<B: Backend> {
    config: LshConfig,
    context: usize,
    rotations: Tensor<B, 4>,
    factors: Vec<usize>,
    /// `[batch_size, n_heads, n_attended_rounds]`
    rounds: Vec<Vec<Round>>,
}

impl<B: ReformerBackend> Hashed<B> {
    /// For sequences without positions.
    pub(super) fn new(attention: &LshAttention<B>, context: usize, batch_size: usize) -> Self {
        let config = attention.config.lsh.clone();
        let factors = config.factors_in(context, None);
        let device = attention.heads.query.weight.device();
        let round = Round::new(factors.iter().product());
        Self {
            rotations: attention.rotations_of(None, &factors, &device),
            rounds: vec![
                vec![round; attention.heads.n_heads * config.n_attended_rounds()];
                batch_size
            ],
            factors,
            config,
            context,
        }
    }

    /// Adds the first positions of sequences, `real` of each without padding, in the given buckets
    /// if they are known.
    ///
    /// # Shapes
    /// - queries for hashing: `[batch_size, n_heads, seq_length, d_head]`
    /// - buckets: `[batch_size, n_heads, n_rounds, seq_length]`
    pub(super) fn read(
        &mut self,
        queries: Tensor<B, 4>,
        buckets: Option<Tensor<B, 4, Int>>,
        real: &[usize],
    ) {
        let [_, _, seq_length, _] = queries.dims();
        let buckets = buckets.unwrap_or_else(|| self.hash(queries));
        let buckets = self.attended_rounds(buckets);
        let of_rounds = self.rounds.iter_mut().zip(real);
        let of_rounds =
            of_rounds.flat_map(|(rounds, &real)| rounds.iter_mut().map(move |round| (round, real)));
        for ((round, real), buckets) in of_rounds.zip(buckets.chunks_exact(seq_length)) {
            for (position, &bucket) in (0..).zip(&buckets[..real]) {
                round.buckets[bucket].push(position);
            }
        }
    }

    /// Whether the next position sees all keys although the context is hashed: a prefix that is too
    /// short to be split into chunks in Hugging Face.
    pub(super) fn is_exact_at(&self, position: usize) -> bool {
        let Self {
            config, context, ..
        } = self;
        matches!(config.window, Window::Chunk { .. })
            && config.is_exact_in(position + 1, Some(*context), true)
    }

    /// Adds the next position of each sequence and returns the keys that each of its heads sees.
    ///
    /// # Shapes
    /// - queries for hashing: `[batch_size, n_heads, 1, d_head]`
    pub(super) fn advance(
        &mut self,
        queries: Tensor<B, 4>,
        positions: &[usize],
    ) -> Vec<VisibleKeys> {
        let [_, n_heads, ..] = queries.dims();
        let n_rounds = self.config.n_attended_rounds();
        let buckets = self.attended_rounds(self.hash(queries));
        let config = &self.config;
        let sequences = self.rounds.iter_mut().zip(positions);
        let heads: Vec<_> = sequences
            .flat_map(|(rounds, &position)| {
                rounds
                    .chunks_exact_mut(n_rounds)
                    .map(move |rounds| (rounds, position))
            })
            .zip(buckets.chunks_exact(n_rounds))
            .collect();
        assert_eq!(
            heads.len(),
            positions.len() * n_heads,
            "buckets of every head"
        );
        heads
            .into_par_iter()
            .with_min_len(items_of_task(LOOKUP))
            .map(|((rounds, position), buckets)| {
                let mut visible = VisibleKeys {
                    own: position as u32,
                    ..VisibleKeys::default()
                };
                for (round, &bucket) in rounds.iter_mut().zip(buckets) {
                    round.buckets[bucket].push(position as u32);
                    round.newest_sees(config, bucket, &mut visible.keys);
                    visible.end_part();
                }
                if config.duplicates == Duplicates::Exact && n_rounds > 1 {
                    visible.count_once();
                }
                visible
            })
            .collect()
    }

    fn hash(&self, queries: Tensor<B, 4>) -> Tensor<B, 4, Int> {
        hash(queries, self.rotations.clone(), &self.factors)
    }

    /// Buckets of all attention rounds, in row-major order.
    fn attended_rounds(&self, buckets: Tensor<B, 4, Int>) -> Vec<usize> {
        let n_buckets = self.factors.iter().product::<usize>() + 1;
        let buckets = match self.config.local_round {
            true => with_local_round(buckets, n_buckets),
            false => buckets,
        };
        let buckets = buckets.into_data();
        buckets
            .iter::<i64>()
            .map(|bucket| bucket as usize)
            .collect()
    }

    pub(super) fn select(&mut self, rows: &[usize]) {
        self.rounds = rows.iter().map(|&row| self.rounds[row].clone()).collect();
    }

    pub(super) fn join(parts: Vec<Self>) -> Option<Self> {
        let mut parts = parts.into_iter();
        let mut all = parts.next()?;
        all.rounds.extend(parts.flat_map(|part| part.rounds));
        Some(all)
    }

    /// Memory of the buckets of a sequence of the maximum length, in bytes. Lists have room for up to as many
    /// positions again.
    pub(super) fn bytes_of_sequence(attention: &LshAttention<B>, lengths: Lengths) -> usize {
        let config = &attention.config.lsh;
        let n_buckets: usize = config.factors_in(lengths.context, None).iter().product();
        let lists = n_buckets.saturating_mul(size_of::<Vec<u32>>());
        let positions = lengths.max.saturating_mul(2 * size_of::<u32>());
        let n_rounds = attention.heads.n_heads * config.n_attended_rounds();
        n_rounds.saturating_mul(lists.saturating_add(positions))
    }

    pub(super) fn bytes(&self) -> usize {
        self.rounds.iter().flatten().map(Round::bytes).sum()
    }
}

/// One round of one head.
#[derive(Debug, Clone)]
struct Round {
    /// Positions in each bucket, newest last.
    buckets: Vec<Vec<u32>>,
}

impl Round {
    fn new(n_buckets: usize) -> Self {
        Self {
            buckets: vec![Vec::new(); n_buckets],
        }
    }

    /// Adds the keys that the newest position (the last one in its bucket) sees, including itself.
    fn newest_sees(&self, config: &LshConfig, bucket: usize, keys: &mut Vec<u32>) {
        let own = &self.buckets[bucket];
        match config.window {
            Window::Bucket { len } => keys.extend(&own[own.len().saturating_sub(len + 1)..]),
            Window::Chunk {
                before,
                after,
                within_bucket,
            } => {
                let first_of_bucket: usize = self.buckets[..bucket].iter().map(Vec::len).sum();
                let own_chunk = (first_of_bucket + own.len() - 1) / config.chunk_length;
                let start = (own_chunk as isize - before as isize) * config.chunk_length as isize;
                let reach = config.chunk_length * (before + 1 + after);
                if config.wrap_rounds {
                    self.around(start, reach, keys);
                    return;
                }
                let end = (start + reach as isize) as usize;
                let start = start.max(0) as usize;
                if within_bucket {
                    let start = start.saturating_sub(first_of_bucket);
                    keys.extend(&own[start..]);
                } else {
                    keys.extend(self.sorted().skip(start).take(end - start));
                }
            }
        }
    }

    /// All positions, sorted by bucket and then by position.
    fn sorted(&self) -> impl Iterator<Item = u32> {
        self.buckets.iter().flatten().copied()
    }

    /// Adds `reach` keys of the sorted sequence, which wraps around at its end.
    fn around(&self, start: isize, reach: usize, keys: &mut Vec<u32>) {
        let n: usize = self.buckets.iter().map(Vec::len).sum();
        let mut start = start.rem_euclid(n as isize) as usize;
        let wanted = keys.len() + reach;
        while keys.len() < wanted {
            keys.extend(self.sorted().skip(start).take(wanted - keys.len()));
            start = 0;
        }
    }

    fn bytes(&self) -> usize {
        let lists = self
            .buckets
            .iter()
            .map(|list| list.capacity() * size_of::<u32>());
        lists.sum::<usize>() + self.buckets.capacity() * size_of::<Vec<u32>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sees(config: &LshConfig, buckets: &[usize]) -> Vec<u32> {
        let mut round = Round::new(4);
        for (position, &bucket) in (0..).zip(buckets) {
            round.buckets[bucket].push(position);
        }
        let mut keys = Vec::new();
        let newest = *buckets.last().unwrap();
        round.newest_sees(config, newest, &mut keys);
        keys
    }

    /// Sorted by bucket: 2 4 | 0 3 7 | 1 5 | 6; the newest position 7 has index 4.
    const BUCKETS: [usize; 8] = [1, 2, 0, 1, 0, 2, 3, 1];

    #[test]
    fn band_is_the_end_of_the_bucket() {
        let window = |len| LshConfig::new().with_window(Window::Bucket { len });
        assert_eq!(sees(&window(1), &BUCKETS), [3, 7]);
        assert_eq!(sees(&window(9), &BUCKETS), [0, 3, 7]);
    }

    #[test]
    fn chunks_are_those_of_the_sorted_prefix() {
        let chunks = |chunk_length, before, after, within_bucket| {
            let window = Window::Chunk {
                before,
                after,
                within_bucket,
            };
            LshConfig::new()
                .with_chunk_length(chunk_length)
                .with_window(window)
        };
        assert_eq!(sees(&chunks(2, 1, 0, false), &BUCKETS), [0, 3, 7, 1]);
        assert_eq!(sees(&chunks(2, 1, 1, false), &BUCKETS), [0, 3, 7, 1, 5, 6]);
        assert_eq!(sees(&chunks(2, 1, 0, true), &BUCKETS), [0, 3, 7]);
        assert_eq!(sees(&chunks(4, 0, 0, true), &BUCKETS), [7]);
        assert_eq!(
            sees(&chunks(4, 2, 0, false), &BUCKETS),
            [2, 4, 0, 3, 7, 1, 5, 6]
        );
        let around = chunks(3, 2, 0, false).with_wrap_rounds(true);
        assert_eq!(sees(&around, &BUCKETS), [1, 5, 6, 2, 4, 0, 3, 7, 1]);
    }
}
