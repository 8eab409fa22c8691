//! What a query sees by hashing, and where attention is exact instead.

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
    /// Not strictly causal, like every implementation that cuts this way: a later token moves
    /// the borders of chunks, and with them what an earlier query sees.
    Chunk {
        /// Chunks before its own one that a query sees.
        before: usize,
        /// Chunks after its own one that a query sees.
        after: usize,
        /// Whether it sees only those in its own bucket (the paper's text) or all of them (the
        /// code of Hugging Face, trax and reformer_pytorch).
        within_bucket: bool,
    },
    /// The last `len` earlier positions in the same bucket; without causality, as many on the
    /// other side too. What comes later changes nothing for what was before, down to the last
    /// bit, so that generating equals training.
    Bucket {
        /// Positions seen on a side.
        len: usize,
    },
}

/// Up to which length attention is computed exactly instead of by hashing.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum ExactUpTo {
    /// The width of the window: until then, hashing computes more and sees less.
    Window,
    /// As long as that computes no more logits than hashing, which sees less. Whoever wants to
    /// know what hashing does at short lengths should not ask for it.
    Cheaper,
    /// This length.
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
    /// round, in which all positions share a bucket. Hash rounds are then free to find what is far
    /// away, instead of finding the neighbours again. The peers have no such round.
    #[config(default = true)]
    pub local_round: bool,
    /// Whether queries are hashed as they are compared, after they were rotated by position, or
    /// before (as in reformer_pytorch). The same without rotary positions.
    #[config(default = true)]
    pub hash_rotated: bool,
    /// Number of buckets.
    #[config(default = "Buckets::Auto")]
    pub n_buckets: Buckets,
    /// Sorted positions in a chunk, and the measure of automatic bucket numbers.
    #[config(default = 64)]
    pub chunk_length: usize,
    /// What a query sees.
    #[config(default = "Window::Bucket { len: 64 }")]
    pub window: Window,
    /// How a key seen in several rounds is counted.
    #[config(default = "Duplicates::Exact")]
    pub duplicates: Duplicates,
    /// Whether the first chunk of a round looks back into the last one of the round before, as in
    /// the peers. Only with chunks across buckets, [`Duplicates::Keep`] and no local round.
    #[config(default = false)]
    pub wrap_rounds: bool,
    /// Up to which length attention is exact instead.
    #[config(default = "ExactUpTo::Window")]
    pub exact_up_to: ExactUpTo,
    /// Whether training hashes with the rotations used outside of it, instead of fresh ones in
    /// each step.
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

    /// Rounds of attention: those of hashing, and the local one.
    pub fn n_attended_rounds(&self) -> usize {
        self.n_rounds + usize::from(self.local_round)
    }

    /// Positions that a query can reach in a round.
    fn window_width(&self) -> usize {
        match self.window {
            Window::Chunk { before, after, .. } => self.chunk_length * (before + 1 + after),
            Window::Bucket { len } => 2 * len,
        }
    }

    /// Whether attention is exact at a length, instead of by hashing.
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

    /// Whether attention is exact, where a [context](crate::Pass::with_context) may stand for the length.
    /// Windows cut from the sorted sequence are those of the sequence at hand in any case, as in
    /// Hugging Face.
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

    /// Factors of the number of buckets, where a context may stand for the length.
    pub(crate) fn factors_in(&self, seq_length: usize, context: Option<usize>) -> Vec<usize> {
        let length = context.unwrap_or(seq_length);
        self.n_buckets.factors(length, self.chunk_length)
    }

    /// Tiles, rule and layout of slots that make the window.
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
                // Buckets begin with a tile, so shorter tiles leave fewer slots empty; half the
                // window is what an average bucket fills.
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
        // 4 rounds of 2 chunks of 64, against half the length, or all of it.
        assert!(chunks.is_exact(1024, true) && !chunks.is_exact(1026, true));
        assert!(chunks.is_exact(512, false) && !chunks.is_exact(513, false));
        // Tiles of 32, of which a query reaches three.
        let buckets = chunks.with_window(Window::Bucket { len: 64 });
        assert!(buckets.is_exact(768, true) && !buckets.is_exact(770, true));
        // A local round costs as much as one of hashing.
        let local = buckets.with_n_rounds(3).with_local_round(true);
        assert!(local.is_exact(768, true) && !local.is_exact(770, true));
    }
}
