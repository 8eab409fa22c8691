//! Self-attention: by locality-sensitive hashing, local, and full; and attention to another
//! sequence.
//!
//! [`LshAttention`] is the Reformer's; [`LocalAttention`] attends to neighbouring chunks;
//! [`FullAttention`] is exact, the reference for the other two. All three take
//! `[batch_size, seq_length, d_model]` of any length and share [`Heads`], the projections around
//! them, with [`CrossAttention`], through which a decoder reads the source.

mod coverage;
mod cross;
mod full;
mod hashing;
mod heads;
mod inspect;
mod local;
mod lsh;

use burn::config::Config;
use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

pub use coverage::LshCoverage;
pub use cross::{CrossAttention, CrossAttentionConfig};
pub use full::{FullAttention, FullAttentionConfig};
pub use hashing::{Buckets, hash, rotations};
pub use heads::{Heads, HeadsConfig};
pub use inspect::InspectedHead;
pub use local::{LocalAttention, LocalAttentionConfig, LocalConfig};
pub use lsh::{ExactUpTo, LshAttention, LshAttentionConfig, LshConfig, Window};

use crate::kernels::ReformerBackend;
use crate::pass::Pass;

/// Purposes of the randomness in an attention layer.
mod purpose {
    pub(super) const WEIGHTS: u64 = 0;
    pub(super) const ROTATIONS: u64 = 1;
}

/// Names a kind of attention in a model's layer pattern.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum AttentionKind {
    /// [`LshAttention`].
    Lsh,
    /// [`LocalAttention`].
    Local,
    /// [`FullAttention`].
    Full,
}

/// Any of the three kinds.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // A model has few of them, and `Box` does not implement `Module`.
pub enum Attention<B: Backend> {
    /// By locality-sensitive hashing.
    Lsh(LshAttention<B>),
    /// Among neighbouring chunks.
    Local(LocalAttention<B>),
    /// Exact.
    Full(FullAttention<B>),
}

/// Result of an attention layer.
#[derive(Debug, Clone)]
pub struct Attended<B: Backend> {
    /// `[batch_size, seq_length, d_model]`.
    pub output: Tensor<B, 3>,
    /// Buckets that LSH attention used, unless it was exact:
    /// `[batch_size, n_heads, n_rounds, seq_length]`. See [`Pass::with_buckets`].
    pub buckets: Option<Tensor<B, 4, Int>>,
}

impl<B: Backend> Attention<B> {
    /// The projections of the layer.
    pub fn heads(&self) -> &Heads<B> {
        match self {
            Self::Lsh(attention) => &attention.heads,
            Self::Local(attention) => &attention.heads,
            Self::Full(attention) => &attention.heads,
        }
    }

    /// The same kind with other projections.
    pub(crate) fn with_heads(mut self, heads: Heads<B>) -> Self {
        match &mut self {
            Self::Lsh(attention) => attention.heads = heads,
            Self::Local(attention) => attention.heads = heads,
            Self::Full(attention) => attention.heads = heads,
        }
        self
    }

    /// Queries for hashing; for local and full attention, the queries unchanged.
    ///
    /// # Shapes
    /// - queries, rotated, output: `[batch_size, n_heads, seq_length, d_head]`
    pub(crate) fn hashed_queries(
        &self,
        queries: Tensor<B, 4>,
        rotated: &Tensor<B, 4>,
    ) -> Tensor<B, 4>
    where
        B: ReformerBackend,
    {
        match self {
            Self::Lsh(attention) => attention.hashed_queries(queries, rotated),
            Self::Local(_) | Self::Full(_) => queries,
        }
    }

    /// Whether no position sees a later one.
    pub fn is_causal(&self) -> bool {
        match self {
            Self::Lsh(attention) => attention.config.heads.causal,
            Self::Local(attention) => attention.causal,
            Self::Full(attention) => attention.causal,
        }
    }
}

impl<B: ReformerBackend> Attention<B> {
    /// Applies the attention of this kind.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    pub fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Attended<B> {
        match self {
            Self::Lsh(attention) => attention.forward(x, pass),
            Self::Local(attention) => attention.forward(x, pass),
            Self::Full(attention) => attention.forward(x, pass),
        }
    }
}
