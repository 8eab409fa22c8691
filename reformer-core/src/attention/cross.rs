//! Attention of one sequence to another.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::{Heads, HeadsConfig, purpose};
use crate::error::ConfigError;
use crate::kernels::{Masking, ReformerBackend};
use crate::pass::{Pass, Source};

/// Configuration of [`CrossAttention`].
#[derive(Config, Debug, PartialEq)]
pub struct CrossAttentionConfig {
    /// Heads and projections. Causality and rotary positions are ignored: they apply to a single
    /// sequence only.
    pub heads: HeadsConfig,
}

impl CrossAttentionConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.heads.validate()
    }

    /// Initialises the layer.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> CrossAttention<B> {
        CrossAttention {
            heads: self.heads.clone().with_rotary_base(None).init(device),
            dropout: self.heads.dropout,
        }
    }
}

/// Exact attention of every position of a sequence to all positions of another one (Vaswani et al.,
/// 2017), in slices of queries: memory is linear in both lengths.
///
/// ```
/// use burn::tensor::{Distribution, Tensor};
/// use burn_flex::Flex;
/// use reformer_core::attention::{CrossAttentionConfig, HeadsConfig};
/// use reformer_core::{Source, Pass};
///
/// let device = Default::default();
/// let attention = CrossAttentionConfig::new(HeadsConfig::new(32, 2)).init::<Flex>(&device);
/// let random = |length| Tensor::random([1, length, 32], Distribution::Default, &device);
/// let source = Source { hidden: random(70), mask_pad: None };
/// assert_eq!(attention.forward(random(5), &source, &Pass::eval()).dims(), [1, 5, 32]);
/// ```
#[derive(Module, Debug)]
pub struct CrossAttention<B: Backend> {
    /// Projections: queries of the sequence, keys and values of the source.
    pub heads: Heads<B>,
    dropout: f64,
}

impl<B: ReformerBackend> CrossAttention<B> {
    /// Cross-attention. Queries are independent of each other, so a long sequence can be processed
    /// in [chunks](crate::in_chunks).
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    pub fn forward(&self, x: Tensor<B, 3>, source: &Source<B>, pass: &Pass<B>) -> Tensor<B, 3> {
        let queries = self.heads.queries(x);
        let qkv = self
            .heads
            .queries_keys_values(queries, source.hidden.clone());
        let masking = Masking {
            causal: false,
            exclude_self: false,
            dropout: pass.dropout(self.dropout, purpose::WEIGHTS),
            mask_pad: source.mask_pad.clone(),
        };
        self.heads.join(B::full_attention(qkv, &masking).output)
    }

    /// Keys (as used in the logits) and values, for a cache.
    ///
    /// # Shapes
    /// - source: `[batch_size, source_length, d_model]`
    /// - output: `[batch_size, n_heads, source_length, d_head]` each
    pub(crate) fn keys_values(&self, source: Tensor<B, 3>) -> [Tensor<B, 4>; 2] {
        let keys = self.heads.projected_keys(source.clone());
        let keys = keys.expect("keys of another sequence are no queries of this one");
        [keys * self.heads.logit_scale, self.heads.values(source)]
    }
}
