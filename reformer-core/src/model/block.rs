//! One layer of the model: attention and feed-forward as a reversible block.

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use super::config::ReformerConfig;
use crate::attention::{Attended, Attention};
use crate::feed_forward::FeedForward;
use crate::kernels::ReformerBackend;
use crate::norm::{LayerNorm, LayerNormConfig};
use crate::pass::{Pass, dropout};
use crate::precision::{Precision, widen};
use crate::reversible::ReversibleBlock;

/// Purpose of the randomness that a block adds to those of its parts.
const OUTPUT: u64 = 0;
const ATTENTION: u64 = 1;

/// `y1 = x1 + Attention(LayerNorm(x2))`, `y2 = x2 + FeedForward(LayerNorm(y1))` (paper, eq. 9).
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    /// Normalises what attention sees.
    pub attention_norm: LayerNorm<B>,
    /// F.
    pub attention: Attention<B>,
    /// Normalises what feed-forward sees.
    pub feed_forward_norm: LayerNorm<B>,
    /// G.
    pub feed_forward: FeedForward<B>,
    dropout: f64,
    ff_chunk_length: Option<usize>,
    #[module(skip)]
    precision: Precision,
}

impl<B: Backend> Block<B> {
    pub(super) fn new(
        attention: Attention<B>,
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

impl<B: ReformerBackend> Block<B> {
    /// Attention and dropout, of what is normalised already: `f32` whatever it computes in.
    pub(super) fn attend(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Attended<B> {
        let inside = pass.fold(ATTENTION).with_buckets(pass.buckets().cloned());
        let attended = self.attention.forward(self.precision.lower(x), &inside);
        Attended {
            output: dropout(widen(attended.output), pass.dropout(self.dropout, OUTPUT)),
            buckets: attended.buckets,
        }
    }

    /// F in evaluation, with attention to what is normalised left to the caller.
    pub(super) fn f_by(
        &self,
        x: Tensor<B, 3>,
        attend: impl FnOnce(Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        widen(attend(self.precision.lower(self.attention_norm.forward(x))))
    }
}

impl<B: ReformerBackend> ReversibleBlock<B> for Block<B> {
    fn f(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> (Tensor<B, 3>, Option<Tensor<B, 4, Int>>) {
        let attended = self.attend(self.attention_norm.forward(x), pass);
        (attended.output, attended.buckets)
    }

    fn g(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let x = self.precision.lower(self.feed_forward_norm.forward(x));
        widen(self.feed_forward.forward(x, pass))
    }

    fn g_chunk_length(&self) -> Option<usize> {
        self.ff_chunk_length
    }
}
