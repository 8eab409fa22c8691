//! Window, hashing and exact lengths of LSH attention.

use burn::config::Config;

use crate::attention::Buckets;
use crate::error::ConfigError;
use crate::kernels::{Duplicates, KeyRule, SlotLayout, TileShape};

/// The set of positions that a query sees in one round.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Window {
    /// Positions sorted by bucket are cut into chunks of `chunk_length`; a query sees its own
    /// chunk and neighbouring ones (paper, figure 2).
    ///
    /// Not strictly causal, like every implementation with such chunks: later tokens move the chunk
    /// borders, and with them the keys that an earlier query sees.
    Chunk {
        /// Number of preceding chunks that a query sees.
        before: usize,
        /// Number of following chunks that a query sees.
        after: usize,
        /// Whether a query sees only keys in its own bucket (the paper's text) or all of them (the
        /// code of Hugging Face, trax and reformer_pytorch).
        within_bucket: bool,
    },
    /// The last `len` earlier positions in the same bucket; without causality, also the next `len`.
    /// Later tokens do not change results at earlier positions, down to the last bit, so that
    /// generation equals training.
    Bucket {
        /// Number of visible positions on each side.
        len: usize,
    },
}

/// Up to which length attention is computed exactly instead of by hashing.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum ExactUpTo {
    /// Up to the width of the window: at such lengths, hashing computes more and sees less.
    Window,
    /// As long as exact attention computes no more logits than hashing. Not suited to measuring
    /// hashing at short lengths.
    Cheaper,
    /// Up to this length.
    Length(usize),
    /// Never.
    Never,
}

/// Hashing, rounds and window of LSH attention.
#[derive(Config, Debug, PartialEq)]
pub struct LshConfig {
    /// Number of hash rounds.
    #[config(default = 2)]
    pub n_rounds: usize,
    /// Whether a query also sees its neighbours in the sequence, in the same softmax: one more
    /// round, with all positions in one bucket. Hash rounds are then free to find distant keys
    /// instead of the neighbours again. The peers have no such round.
    #[config(default = true)]
    pub local_round: bool,
    /// Whether queries are hashed after the rotation by position, as they are compared, or before
    /// it (as in reformer_pytorch). No difference without rotary positions.
    #[config(default = true)]
    pub hash_rotated: bool,
    /// Number of buckets.
    #[config(default = "Buckets::Auto")]
    pub n_buckets: Buckets,
    /// Sorted positions in a chunk; automatic bucket numbers are derived from it.
    #[config(default = 64)]
    pub chunk_length: usize,
    /// The keys that a query sees.
    #[config(default = "Window::Bucket { len: 64 }")]
    pub window: Window,
    /// How a key that is seen in several rounds is counted.
    #[config(default = "Duplicates::Exact")]
    pub duplicates: Duplicates,
    /// Whether the first chunk of a round also sees the last one of the previous round, as in the
    /// peers. Only with chunks across buckets, [`Duplicates::Keep`] and no local round.
    #[config(default = false)]
    pub wrap_rounds: bool,
    /// Up to which length attention is exact.
    #[config(default = "ExactUpTo::Window")]
    pub exact_up_to: ExactUpTo,
    /// Whether training uses the evaluation's hash rotations instead of fresh ones in each step.
    #[config(default = false)]
    pub fixed_rotations: bool,
}

impl LshConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least_one("lsh.n_rounds", self.n_rounds)?;
        ConfigError::at_least_one("lsh.chunk_length", self.chunk_length)?;
        self.n_buckets.validate()?;
        if let Window::Bucket { len } = self.window {
            ConfigError::at_least_one("lsh.window.len", len)?;
        }
        let across = matches!(
            self.window,
            Window::Chunk {
                within_bucket: false,
                ..
            }
        );
        let uncorrected = across && self.duplicates == Duplicates::Keep;
        if self.wrap_rounds && (self.local_round || !uncorrected) {
            return Err(ConfigError::new(
                "lsh.wrap_rounds",
                true,
                "rounds that look into each other count keys in ways that are not corrected",
                "use `Duplicates::Keep`, chunks across buckets and no `local_round`, or leave it off",
            ));
        }
        Ok(())
    }

    /// Number of attention rounds: the hash rounds and the local one.
    pub fn n_attended_rounds(&self) -> usize {
        self.n_rounds + usize::from(self.local_round)
    }

    /// Number of keys that a query is compared with, over all rounds, where attention is not
    /// [exact](Self::is_exact). A key that is seen in several rounds counts in each.
    pub fn keys_of_query(&self, seq_length: usize, causal: bool) -> usize {
        let of_round = match self.window {
            Window::Chunk { .. } => self.window_width(),
            // Keys that the query can see; tiles compute some more.
            Window::Bucket { len } if causal => len,
            Window::Bucket { .. } => self.window_width(),
        };
        self.n_attended_rounds() * of_round.min(seq_length)
    }

    /// Number of directions that a vector is projected on to hash it, over all rounds.
    pub fn n_projections(&self, seq_length: usize) -> usize {
        let factors = self.n_buckets.factors(seq_length, self.chunk_length);
        self.n_rounds * (factors.iter().sum::<usize>() / 2)
    }

    /// Number of positions that a query can reach in a round.
    fn window_width(&self) -> usize {
        match self.window {
            Window::Chunk { before, after, .. } => self.chunk_length * (before + 1 + after),
            Window::Bucket { len } => 2 * len,
        }
    }

    /// Whether attention is exact at this length.
    pub fn is_exact(&self, seq_length: usize, causal: bool) -> bool {
        match self.exact_up_to {
            ExactUpTo::Window => seq_length <= self.window_width(),
            ExactUpTo::Cheaper => {
                let (tile, ..) = self.tiling(seq_length, causal);
                let logits_of_query = seq_length.div_ceil(if causal { 2 } else { 1 });
                logits_of_query <= self.n_attended_rounds() * tile.reach() * tile.length
            }
            ExactUpTo::Length(length) => seq_length <= length,
            ExactUpTo::Never => false,
        }
    }

    /// Whether attention is exact; a [context](crate::Pass::with_context), if given, replaces the
    /// length. Chunk windows always use the actual length, as in Hugging Face.
    pub(crate) fn is_exact_in(
        &self,
        seq_length: usize,
        context: Option<usize>,
        causal: bool,
    ) -> bool {
        let length = match self.window {
            Window::Bucket { .. } => context.unwrap_or(seq_length),
            Window::Chunk { .. } => seq_length,
        };
        self.is_exact(length, causal)
    }

    /// Factors of the number of buckets; a context, if given, replaces the length.
    pub(crate) fn factors_in(&self, seq_length: usize, context: Option<usize>) -> Vec<usize> {
        let length = context.unwrap_or(seq_length);
        self.n_buckets.factors(length, self.chunk_length)
    }

    /// Tiles, key rule and slot layout that implement the window.
    pub(super) fn tiling(
        &self,
        seq_length: usize,
        causal: bool,
    ) -> (TileShape, KeyRule, SlotLayout) {
        match self.window {
            Window::Chunk {
                before,
                after,
                within_bucket,
            } => {
                let length = self.chunk_length.min(seq_length);
                let others = seq_length.div_ceil(length) - 1;
                let limit = if self.wrap_rounds { usize::MAX } else { others };
                let tile = TileShape {
                    length,
                    before: before.min(limit),
                    after: after.min(limit),
                    wrap: self.wrap_rounds,
                };
                let rule = if within_bucket {
                    KeyRule::SameBucket
                } else {
                    KeyRule::Across
                };
                (tile, rule, SlotLayout::Dense(length))
            }
            Window::Bucket { len } => {
                // Buckets begin with a tile, so shorter tiles leave fewer slots empty; an average
                // bucket fills half the window.
                let length = len.min(seq_length).div_ceil(2);
                let before = len.min(seq_length).div_ceil(length);
                let tile = TileShape {
                    length,
                    before,
                    after: if causal { 0 } else { before },
                    wrap: false,
                };
                (tile, KeyRule::Band(len), SlotLayout::BucketAligned(length))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_where_that_computes_no_more_logits() {
        let chunks = LshConfig::new()
            .with_n_rounds(4)
            .with_local_round(false)
            .with_window(Window::Chunk {
                before: 1,
                after: 0,
                within_bucket: false,
            })
            .with_exact_up_to(ExactUpTo::Cheaper);
        // 4 rounds of 2 chunks of 64, compared with half the length (causal) or all of it.
        assert!(chunks.is_exact(1024, true) && !chunks.is_exact(1026, true));
        assert!(chunks.is_exact(512, false) && !chunks.is_exact(513, false));
        // Tiles of 32; a query reaches three of them.
        let buckets = chunks.with_window(Window::Bucket { len: 64 });
        assert!(buckets.is_exact(768, true) && !buckets.is_exact(770, true));
        // A local round costs as much as a hash round.
        let local = buckets.with_n_rounds(3).with_local_round(true);
        assert!(local.is_exact(768, true) && !local.is_exact(770, true));
    }
}
