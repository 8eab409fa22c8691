//! Self-attention: by locality-sensitive hashing, local, and full; and attention to another
//! sequence.
//!
//! [`LshAttention`] is the Reformer's; [`LocalAttention`] attends to neighbouring chunks;
//! [`FullAttention`] is exact, the reference for the other two. All three take
//! `[batch_size, seq_length, d_model]` of any length and share [`Heads`], the projections around
//! them, with [`CrossAttention`], through which a decoder reads the source. A stack takes any
//! [`AttentionLayer`].

mod coverage;
mod cross;
mod full;
mod hashing;
mod heads;
mod inspect;
mod layer;
mod local;
mod lsh;

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

pub use coverage::LshCoverage;
pub use cross::{CrossAttention, CrossAttentionConfig};
pub use full::{FullAttention, FullAttentionConfig};
pub use hashing::{Buckets, hash, rotations};
pub use heads::{Heads, HeadsConfig};
pub use inspect::InspectedHead;
pub use layer::{Attended, AttentionLayer, TrainAttentionLayer};
pub use local::{LocalAttention, LocalAttentionConfig, LocalConfig};
pub use lsh::{ExactUpTo, LshAttention, LshAttentionConfig, LshConfig, Window};

pub(crate) use layer::{ProjectedAttention, Reach};

use crate::kernels::{Qkv, ReformerBackend};
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

impl AttentionKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Lsh, Self::Local, Self::Full];

    /// Its name on a command line: `lsh`, `local`, `full`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lsh => "lsh",
            Self::Local => "local",
            Self::Full => "full",
        }
    }

    /// What it is, in a few words.
    pub fn description(self) -> &'static str {
        match self {
            Self::Lsh => "Attention by locality-sensitive hashing",
            Self::Local => "Attention to neighbouring chunks",
            Self::Full => "Exact attention",
        }
    }
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

/// Calls the layer of any kind.
macro_rules! of_any_kind {
    ($attention:expr, $layer:ident => $result:expr) => {
        match $attention {
            Attention::Lsh($layer) => $result,
            Attention::Local($layer) => $result,
            Attention::Full($layer) => $result,
        }
    };
}

impl<B: Backend> Attention<B> {
    /// The projections of the layer.
    pub fn heads(&self) -> &Heads<B> {
        ProjectedAttention::heads(self)
    }

    /// The layer, if it hashes.
    pub fn lsh(&self) -> Option<&LshAttention<B>> {
        ProjectedAttention::lsh(self)
    }

    /// Whether no position sees a later one.
    pub fn is_causal(&self) -> bool {
        ProjectedAttention::is_causal(self)
    }

    /// Whether it sees neighbours only.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// The same kind with other projections.
    pub(crate) fn with_heads(mut self, heads: Heads<B>) -> Self {
        *self.heads_mut() = heads;
        self
    }
}

impl<B: ReformerBackend> Attention<B> {
    /// Applies the attention of this kind.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    pub fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Attended<B> {
        self.project_and_attend(x, pass)
    }
}

impl<B: Backend> ProjectedAttention<B> for Attention<B> {
    fn heads(&self) -> &Heads<B> {
        of_any_kind!(self, layer => &layer.heads)
    }

    fn heads_mut(&mut self) -> &mut Heads<B> {
        of_any_kind!(self, layer => &mut layer.heads)
    }

    fn is_causal(&self) -> bool {
        of_any_kind!(self, layer => layer.is_causal())
    }

    fn reach(&self, max_length: usize) -> Reach<'_, B> {
        of_any_kind!(self, layer => layer.reach(max_length))
    }

    fn lsh(&self) -> Option<&LshAttention<B>> {
        of_any_kind!(self, layer => layer.lsh())
    }

    fn hashed_queries(&self, queries: Tensor<B, 4>, rotated: &Tensor<B, 4>) -> Tensor<B, 4> {
        of_any_kind!(self, layer => layer.hashed_queries(queries, rotated))
    }

    fn attend(
        &self,
        queries: Tensor<B, 4>,
        x: Tensor<B, 3>,
        pass: &Pass<B>,
        show: impl FnOnce(&Qkv<B>),
    ) -> Attended<B>
    where
        B: ReformerBackend,
    {
        of_any_kind!(self, layer => layer.attend(queries, x, pass, show))
    }
}

/// The library's kinds as layers of a stack.
macro_rules! attention_layers {
    ($($layer:ident),*) => {
        $(impl<B: ReformerBackend> AttentionLayer<B> for $layer<B> {
            fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Attended<B> {
                self.project_and_attend(x, pass)
            }
        })*
    };
}

attention_layers!(LshAttention, LocalAttention, FullAttention, Attention);
