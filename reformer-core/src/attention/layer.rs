//! What a stack asks of an attention layer, and what the library's kinds have in common.

use burn::module::{AutodiffModule, Module, ModuleDisplay};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use super::{Heads, LocalConfig, LshAttention};
use crate::kernels::{Qkv, ReformerBackend, TrainBackend};
use crate::pass::Pass;

/// Result of an attention layer.
#[derive(Debug, Clone)]
pub struct Attended<B: Backend> {
    /// `[batch_size, seq_length, d_model]`.
    pub output: Tensor<B, 3>,
    /// Buckets that LSH attention used, unless it was exact:
    /// `[batch_size, n_heads, n_rounds, seq_length]`. See [`Pass::with_buckets`].
    pub buckets: Option<Tensor<B, 4, Int>>,
}

impl<B: Backend> From<Tensor<B, 3>> for Attended<B> {
    /// The output of a layer that does not hash: `[batch_size, seq_length, d_model]`.
    fn from(output: Tensor<B, 3>) -> Self {
        Self {
            output,
            buckets: None,
        }
    }
}

/// The attention layer of a block, F of the reversible layer without normalisation and dropout.
///
/// [`Attention`](super::Attention) is the library's. A stack with layers of your own is made by
/// [`ReformerConfig::init_with`](crate::model::ReformerConfig::init_with); example `own_attention`.
pub trait AttentionLayer<B: ReformerBackend>: Module<B> + ModuleDisplay {
    /// Mixes positions. The same input and pass have to give the same result, with and without
    /// autodiff: the backward pass calls this again. Random numbers therefore come from the
    /// pass.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Attended<B>;
}

/// An [`AttentionLayer`] that can be trained: also one on the backend without autodiff, which runs
/// the forward pass. Implemented for every such layer.
pub trait TrainAttentionLayer<B: TrainBackend>:
    AttentionLayer<B> + AutodiffModule<B, InnerModule: AttentionLayer<B::InnerBackend>>
{
}

impl<B, L> TrainAttentionLayer<B> for L
where
    B: TrainBackend,
    L: AttentionLayer<B> + AutodiffModule<B, InnerModule: AttentionLayer<B::InnerBackend>>,
{
}

/// Which earlier positions a new one can see, for a cache of their keys and values.
#[derive(Debug)]
pub(crate) enum Reach<'a, B: Backend> {
    /// All of them.
    All,
    /// Those of the last chunks.
    Chunks(&'a LocalConfig),
    /// Those that this layer finds by hashing.
    Hashed(&'a LshAttention<B>),
}

/// A kind of attention with the projections of [`Heads`]: what decoding, inspection and conversion
/// ask of the library's layers.
pub(crate) trait ProjectedAttention<B: Backend> {
    /// The projections.
    fn heads(&self) -> &Heads<B>;

    /// The projections, to replace them.
    fn heads_mut(&mut self) -> &mut Heads<B>;

    /// Whether no position sees a later one.
    fn is_causal(&self) -> bool;

    /// What a new position sees in a sequence of at most `max_length` positions.
    fn reach(&self, max_length: usize) -> Reach<'_, B>;

    /// The layer, if it hashes.
    fn lsh(&self) -> Option<&LshAttention<B>> {
        None
    }

    /// Queries for hashing, where they are hashed: before or after rotation by position.
    ///
    /// # Shapes
    /// - queries, rotated, output: `[batch_size, n_heads, seq_length, d_head]`
    fn hashed_queries(&self, queries: Tensor<B, 4>, _rotated: &Tensor<B, 4>) -> Tensor<B, 4> {
        queries
    }

    /// Attends with projected queries; `show` gets the inputs of the kernel.
    ///
    /// # Shapes
    /// - queries: `[batch_size, n_heads, seq_length, d_head]`
    /// - x, output: `[batch_size, seq_length, d_model]`
    fn attend(
        &self,
        queries: Tensor<B, 4>,
        x: Tensor<B, 3>,
        pass: &Pass<B>,
        show: impl FnOnce(&Qkv<B>),
    ) -> Attended<B>
    where
        B: ReformerBackend;

    /// Projects queries and attends.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    fn project_and_attend(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Attended<B>
    where
        B: ReformerBackend,
    {
        let queries = self.heads().queries(x.clone());
        self.attend(queries, x, pass, |_| {})
    }
}
