//! Attention among neighbouring chunks of the sequence in its natural order.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::{Attended, Heads, HeadsConfig, ProjectedAttention, Reach, purpose};
use crate::error::ConfigError;
use crate::kernels::{Duplicates, KeyRule, Qkv, ReformerBackend, Slots, TileShape, TiledAttention};
use crate::pass::Pass;

/// Which chunks a position attends to.
#[derive(Config, Debug, PartialEq, Eq)]
pub struct LocalConfig {
    /// Positions in a chunk.
    #[config(default = 64)]
    pub chunk_length: usize,
    /// Number of preceding chunks that a position sees.
    #[config(default = 1)]
    pub before: usize,
    /// Number of following chunks that a position sees. Only for bidirectional attention.
    #[config(default = 0)]
    pub after: usize,
    /// Whether the key of a position is its normalised query.
    #[config(default = false)]
    pub share_qk: bool,
    /// Whether the first chunk also attends to the last one, as in Hugging Face. No effect on
    /// causal attention.
    #[config(default = false)]
    pub wrap: bool,
}

impl LocalConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least_one("local.chunk_length", self.chunk_length)
    }

    /// Number of keys that a query is compared with.
    pub fn keys_of_query(&self, seq_length: usize) -> usize {
        (self.chunk_length * (1 + self.before + self.after)).min(seq_length)
    }
}

/// Configuration of [`LocalAttention`].
#[derive(Config, Debug, PartialEq)]
pub struct LocalAttentionConfig {
    /// Heads and projections.
    pub heads: HeadsConfig,
    /// Chunks.
    pub local: LocalConfig,
}

impl LocalAttentionConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.heads.validate()?;
        self.local.validate()
    }

    /// Initialises the layer.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> LocalAttention<B> {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        LocalAttention {
            heads: self.heads.projections(self.local.share_qk, device),
            causal: self.heads.causal,
            dropout: self.heads.dropout,
            local: self.local.clone(),
        }
    }
}

/// Attention of a position to its own chunk and to neighbouring ones: linear in the length.
#[derive(Module, Debug)]
pub struct LocalAttention<B: Backend> {
    /// Projections.
    pub heads: Heads<B>,
    pub(super) causal: bool,
    dropout: f64,
    #[module(skip)]
    pub(crate) local: LocalConfig,
}

impl<B: ReformerBackend> LocalAttention<B> {
    /// Attends.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    pub fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Attended<B> {
        self.project_and_attend(x, pass)
    }
}

impl<B: Backend> LocalAttention<B> {
    fn tile(&self, seq_length: usize) -> TileShape {
        let length = self.local.chunk_length.min(seq_length);
        let others = seq_length.div_ceil(length) - 1;
        if self.local.wrap && others > 0 {
            return TileShape {
                length,
                before: self.local.before,
                after: self.local.after,
                wrap: true,
            };
        }
        TileShape {
            length,
            before: self.local.before.min(others),
            after: self.local.after.min(others),
            wrap: false,
        }
    }
}

impl<B: Backend> ProjectedAttention<B> for LocalAttention<B> {
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
        Reach::Chunks(&self.local)
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
        let [batch_size, n_heads, seq_length, _] = qkv.q.dims();
        let tile = self.tile(seq_length);
        let rules = TiledAttention {
            tile,
            keys: KeyRule::Across,
            duplicates: Duplicates::Keep,
            causal: self.causal,
            exclude_self: self.heads.share_qk(),
            dropout: pass.dropout(self.dropout, purpose::WEIGHTS),
        };
        let shape = [batch_size, n_heads, seq_length];
        let slots = Slots::natural(shape, tile.length, &qkv.q.device())
            .with_padding(pass.mask_pad().cloned());
        self.heads
            .join(B::tiled_attention(qkv, &slots, &rules).output)
            .into()
    }
}
