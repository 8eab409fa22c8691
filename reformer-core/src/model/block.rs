//! One layer of the model: attention and feed-forward as a reversible block.

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use super::config::ReformerConfig;
use crate::attention::{Attended, Attention, AttentionLayer};
use crate::feed_forward::FeedForward;
use crate::kernels::ReformerBackend;
use crate::norm::{LayerNorm, LayerNormConfig};
use crate::pass::{Pass, dropout};
use crate::precision::{Precision, widen};
use crate::reversible::ReversibleBlock;

/// Key purposes of a block: its own output dropout, and attention.
const OUTPUT: u64 = 0;
const ATTENTION: u64 = 1;

/// Number of `d_ff` wide tensors that exist in the backward pass of a feed-forward chunk.
const TENSORS_OF_CHUNK: usize = 4;

/// `y1 = x1 + Attention(LayerNorm(x2))`, `y2 = x2 + FeedForward(LayerNorm(y1))` (paper, eq. 9).
///
/// `L` is the attention layer.
#[derive(Module, Debug)]
pub struct Block<B: Backend, L = Attention<B>> {
    /// Normalises the input of attention.
    pub attention_norm: LayerNorm<B>,
    /// F.
    pub attention: L,
    /// Normalises the input of the feed-forward layer.
    pub feed_forward_norm: LayerNorm<B>,
    /// G.
    pub feed_forward: FeedForward<B>,
    dropout: f64,
    ff_chunk_length: Option<usize>,
    #[module(skip)]
    precision: Precision,
}

impl<B: Backend, L> Block<B, L> {
    pub(super) fn new(
        attention: L,
        feed_forward: FeedForward<B>,
        config: &ReformerConfig,
        device: &B::Device,
    ) -> Self {
        let norm = LayerNormConfig::new(config.d_model).with_epsilon(config.norm_epsilon);
        Self {
            attention_norm: norm.init(device),
            attention,
            feed_forward_norm: norm.init(device),
            feed_forward,
            dropout: config.dropout,
            ff_chunk_length: config.ff_chunk_length,
            precision: config.precision,
        }
    }
}

impl<B: ReformerBackend, L: AttentionLayer<B>> Block<B, L> {
    /// Attention and dropout for an already normalised input; `f32` in any precision.
    pub(super) fn attend(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Attended<B> {
        let attended = self.attend_lowered(self.precision.lower(x), pass);
        Attended {
            output: widen(attended.output),
            buckets: attended.buckets,
        }
    }

    /// The same in the precision of the block, except that dropout gives `f32`.
    fn attend_lowered(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Attended<B> {
        let inside = pass.fold(ATTENTION).with_buckets(pass.buckets().cloned());
        let attended = self.attention.forward(x, &inside);
        let output = match pass.dropout(self.dropout, OUTPUT) {
            // Dropout factors need more digits than half precision has.
            Some(dropped) => dropout(widen(attended.output), Some(dropped)),
            None => attended.output,
        };
        Attended { output, ..attended }
    }

    /// The normalised input, in the precision of the block.
    fn normalized(&self, norm: &LayerNorm<B>, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let dtype = self.precision.dtype().unwrap_or(x.dtype());
        norm.forward_as(x, dtype)
    }

    /// Configured chunk length of G.
    pub(super) fn ff_chunk_length(&self) -> Option<usize> {
        self.ff_chunk_length
    }

    /// F in evaluation, with attention to the normalised input computed by the caller.
    pub(super) fn f_by(
        &self,
        x: Tensor<B, 3>,
        attend: impl FnOnce(Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        widen(attend(self.normalized(&self.attention_norm, x)))
    }
}

impl<B: ReformerBackend, L: AttentionLayer<B>> ReversibleBlock<B> for Block<B, L> {
    fn f(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> (Tensor<B, 3>, Option<Tensor<B, 4, Int>>) {
        let attended = self.attend_lowered(self.normalized(&self.attention_norm, x), pass);
        (attended.output, attended.buckets)
    }

    fn g(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let x = self.normalized(&self.feed_forward_norm, x);
        self.feed_forward.forward(x, pass)
    }

    fn g_chunk_length(&self, batch_size: usize) -> Option<usize> {
        let length = self.ff_chunk_length?;
        if self.dropout > 0.0 {
            // Chunks have their own dropout keys: another length would give other random numbers.
            return Some(length);
        }
        let weight = self.feed_forward.inner.weight.val();
        let bytes = self.precision.dtype().unwrap_or(weight.dtype()).size();
        let bytes = batch_size * TENSORS_OF_CHUNK * weight.dims()[1] * bytes;
        Some(B::at_once(length, bytes, &weight.device()))
    }
}
