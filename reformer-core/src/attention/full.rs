//! Exact attention.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::{Attended, Heads, HeadsConfig, ProjectedAttention, Reach, purpose};
use crate::error::ConfigError;
use crate::kernels::{Masking, Qkv, ReformerBackend};
use crate::pass::Pass;

/// Configuration of [`FullAttention`].
#[derive(Config, Debug, PartialEq)]
pub struct FullAttentionConfig {
    /// Heads and projections.
    pub heads: HeadsConfig,
    /// Whether the key of a position is its normalised query, as in LSH attention. A position
    /// then sees itself only if it sees nothing else.
    #[config(default = true)]
    pub share_qk: bool,
}

impl FullAttentionConfig {
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
    pub fn init<B: Backend>(&self, device: &B::Device) -> FullAttention<B> {
        FullAttention {
            heads: self.heads.projections(self.share_qk, device),
            causal: self.heads.causal,
            dropout: self.heads.dropout,
        }
    }
}

/// Attention of every position to every other: quadratic time and linear memory in the length.
#[derive(Module, Debug)]
pub struct FullAttention<B: Backend> {
    /// Projections.
    pub heads: Heads<B>,
    pub(super) causal: bool,
    dropout: f64,
}

impl<B: ReformerBackend> FullAttention<B> {
    /// Attends.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    pub fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Attended<B> {
        self.project_and_attend(x, pass)
    }
}

impl<B: Backend> ProjectedAttention<B> for FullAttention<B> {
    fn heads(&self) -> &Heads<B> {
        &self.heads
    }

    fn heads_mut(&mut self) -> &mut Heads<B> {
        &mut self.heads
    }

    fn is_causal(&self) -> bool {
        self.causal
    }

    fn reach(&self, _max_length: usize) -> Reach<'_, B> {
        Reach::All
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
        let qkv = self.heads.queries_keys_values(queries, x);
        show(&qkv);
        let masking = Masking {
            causal: self.causal,
            exclude_self: self.heads.share_qk(),
            dropout: pass.dropout(self.dropout, purpose::WEIGHTS),
            mask_pad: pass.mask_pad().cloned(),
        };
        self.heads
            .join(B::full_attention(qkv, &masking).output)
            .into()
    }
}
