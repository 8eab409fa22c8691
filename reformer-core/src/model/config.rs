//! Configuration of the stack.

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::tensor::backend::Backend;

use super::block::Block;
use super::limits;
use super::reformer::Reformer;
use crate::attention::{
    Attention, AttentionKind, FullAttentionConfig, HeadsConfig, LocalAttentionConfig, LocalConfig,
    LshAttentionConfig, LshConfig,
};
use crate::error::ConfigError;
use crate::feed_forward::{Activation, FeedForwardConfig};
use crate::position::PositionConfig;
use crate::precision::Precision;
use crate::reversible::Mode;

/// Configuration of a [`Reformer`].
#[derive(Config, Debug, PartialEq)]
pub struct ReformerConfig {
    /// Number of different tokens.
    pub vocab_size: usize,
    /// Width of each of the two residual streams.
    pub d_model: usize,
    /// Number of blocks, each with attention and feed-forward.
    pub n_layers: usize,
    /// Number of attention heads.
    #[config(default = 4)]
    pub n_heads: usize,
    /// Width of a head. Default: `d_model / n_heads`.
    pub d_head: Option<usize>,
    /// Width inside the feed-forward layers. Default: `4 * d_model`.
    pub d_ff: Option<usize>,
    /// Kinds of attention from the first block on, repeated cyclically.
    #[config(default = "vec![AttentionKind::Local, AttentionKind::Lsh]")]
    pub layers: Vec<AttentionKind>,
    /// No position sees a later one.
    #[config(default = true)]
    pub causal: bool,
    /// Position information.
    #[config(default = "PositionConfig::Rotary { base: 10_000.0 }")]
    pub position: PositionConfig,
    /// Whether only local attention uses rotary positions. LSH and full attention then compare
    /// contents regardless of position, which generalises beyond the lengths of training.
    #[config(default = false)]
    pub rotary_local_only: bool,
    /// Window, hashing and rounds of LSH attention.
    #[config(default = "LshConfig::new()")]
    pub lsh: LshConfig,
    /// Chunks of local attention.
    #[config(default = "LocalConfig::new()")]
    pub local: LocalConfig,
    /// Whether full attention shares query and key as LSH attention does.
    #[config(default = true)]
    pub full_share_qk: bool,
    /// Factor of attention logits. Default: see
    /// [`HeadsConfig`](crate::attention::HeadsConfig::logit_scale).
    pub logit_scale: Option<f64>,
    /// Fixed length of queries that are also keys. Default: see
    /// [`HeadsConfig`](crate::attention::HeadsConfig::query_length).
    pub query_length: Option<f64>,
    /// Activation function of feed-forward layers.
    #[config(default = "Activation::Gelu")]
    pub activation: Activation,
    /// Whether feed-forward layers are gated.
    #[config(default = false)]
    pub gated: bool,
    /// Number of positions in a feed-forward chunk; a device with more memory may process more.
    /// Default: all.
    pub ff_chunk_length: Option<usize>,
    /// Dropout rate in training of embeddings, of the outputs of attention and feed-forward, and of
    /// the stack's output.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Dropout rate of weights in LSH and full attention in training.
    #[config(default = 0.0)]
    pub attention_dropout: f64,
    /// Dropout rate of weights in local attention in training. Default: that of LSH and full attention.
    pub local_attention_dropout: Option<f64>,
    /// How the backward pass obtains activations.
    #[config(default = "Mode::Reversible")]
    pub mode: Mode,
    /// Floating-point type of blocks and the output projection. Weights, streams, normalisation and
    /// the loss keep theirs.
    #[config(default = "Precision::Full")]
    pub precision: Precision,
    /// Added to the variance in layer normalisation.
    #[config(default = 1e-6)]
    pub norm_epsilon: f64,
    /// Standard deviation of the initial token embeddings.
    #[config(default = 0.02)]
    pub embedding_std: f64,
    /// Initial distribution of the projections' weights.
    #[config(default = "Initializer::XavierUniform{gain: 1.0}")]
    pub initializer: Initializer,
    /// Seed of the hash rotations used outside of training.
    #[config(default = 0)]
    pub hash_seed: u64,
}

impl ReformerConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least_one("vocab_size", self.vocab_size)?;
        ConfigError::at_least_one("n_layers", self.n_layers)?;
        limits::check(self)?;
        if self.layers.is_empty() {
            return Err(ConfigError::new(
                "layers",
                "[]",
                "every block needs an attention",
                "name at least one of Lsh, Local, Full",
            ));
        }
        if let Some(length) = self.ff_chunk_length {
            ConfigError::at_least_one("ff_chunk_length", length)?;
        }
        self.heads(AttentionKind::Lsh).validate()?;
        self.heads(AttentionKind::Local).validate()?;
        self.lsh.validate()?;
        self.local.validate()?;
        self.feed_forward().validate()?;
        self.position.validate(self.d_model)?;
        self.mode.validate()
    }

    /// Kind of attention in each block.
    pub fn kinds(&self) -> impl Iterator<Item = AttentionKind> {
        self.layers.iter().copied().cycle().take(self.n_layers)
    }

    /// Whether queries are also keys in a kind of attention.
    pub fn shares_qk(&self, kind: AttentionKind) -> bool {
        match kind {
            AttentionKind::Lsh => true,
            AttentionKind::Local => self.local.share_qk,
            AttentionKind::Full => self.full_share_qk,
        }
    }

    /// Number of keys that a query of a kind of attention is compared with, on average over
    /// positions if causal attention is exact.
    pub fn keys_of_query(&self, kind: AttentionKind, seq_length: usize) -> f64 {
        let exact = seq_length as f64 / if self.causal { 2.0 } else { 1.0 };
        match kind {
            AttentionKind::Full => exact,
            AttentionKind::Local => self.local.keys_of_query(seq_length) as f64,
            AttentionKind::Lsh if self.lsh.is_exact(seq_length, self.causal) => exact,
            AttentionKind::Lsh => self.lsh.keys_of_query(seq_length, self.causal) as f64,
        }
    }

    /// Initialises the stack.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> Reformer<B> {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        Reformer::new(self.blocks(device), self, device)
    }

    /// Initialises a stack with attention layers of your own: `attention` makes that of a block
    /// from its number. [`layers`](Self::layers) and the settings of attention have no effect.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init_with<B: Backend, L: Module<B>>(
        &self,
        device: &B::Device,
        attention: impl FnMut(usize) -> L,
    ) -> Reformer<B, L> {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        Reformer::new(self.blocks_with(device, attention), self, device)
    }

    pub(super) fn blocks<B: Backend>(&self, device: &B::Device) -> Vec<Block<B>> {
        let kinds: Vec<_> = self.kinds().collect();
        self.blocks_with(device, |number| {
            self.attention(number, kinds[number], device)
        })
    }

    fn blocks_with<B: Backend, L>(
        &self,
        device: &B::Device,
        mut attention: impl FnMut(usize) -> L,
    ) -> Vec<Block<B, L>> {
        let block = |number| {
            let feed_forward = self.feed_forward();
            Block::new(attention(number), feed_forward.init(device), self, device)
        };
        (0..self.n_layers).map(block).collect()
    }

    pub(super) fn heads(&self, kind: AttentionKind) -> HeadsConfig {
        let dropout = match kind {
            AttentionKind::Local => self
                .local_attention_dropout
                .unwrap_or(self.attention_dropout),
            AttentionKind::Lsh | AttentionKind::Full => self.attention_dropout,
        };
        let rotated = !self.rotary_local_only || kind == AttentionKind::Local;
        HeadsConfig::new(self.d_model, self.n_heads)
            .with_d_head(self.d_head)
            .with_causal(self.causal)
            .with_dropout(dropout)
            .with_logit_scale(self.logit_scale)
            .with_query_length(self.query_length)
            .with_rotary_base(self.position.rotary_base().filter(|_| rotated))
            .with_initializer(self.initializer.clone())
    }

    fn feed_forward(&self) -> FeedForwardConfig {
        let d_ff = self.d_ff.unwrap_or(4 * self.d_model);
        FeedForwardConfig::new(self.d_model, d_ff)
            .with_activation(self.activation)
            .with_gated(self.gated)
            .with_dropout(self.dropout)
            .with_initializer(self.initializer.clone())
    }

    pub(super) fn attention<B: Backend>(
        &self,
        number: usize,
        kind: AttentionKind,
        device: &B::Device,
    ) -> Attention<B> {
        let heads = self.heads(kind);
        match kind {
            AttentionKind::Lsh => Attention::Lsh(
                LshAttentionConfig::new(heads, self.lsh.clone())
                    .with_hash_seed(self.hash_seed.wrapping_add(number as u64))
                    .init(device),
            ),
            AttentionKind::Local => {
                Attention::Local(LocalAttentionConfig::new(heads, self.local.clone()).init(device))
            }
            AttentionKind::Full => Attention::Full(
                FullAttentionConfig::new(heads)
                    .with_share_qk(self.full_share_qk)
                    .init(device),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::Buckets;

    fn config() -> ReformerConfig {
        ReformerConfig::new(256, 64, 2)
    }

    fn refused(config: ReformerConfig, message: &str) {
        assert_eq!(config.validate().unwrap_err().to_string(), message);
    }

    #[test]
    fn defaults_are_valid() {
        config().validate().unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        refused(
            config().with_n_heads(5),
            "`n_heads` is 5, but it must divide `d_model` (64): change one of them or set `d_head`",
        );
        refused(
            config().with_lsh(LshConfig::new().with_chunk_length(0)),
            "`lsh.chunk_length` is 0, but it must be at least 1: raise it",
        );
        refused(
            config().with_lsh(LshConfig::new().with_n_buckets(Buckets::Count(15))),
            "`n_buckets` is [15], but a vector and its opposite fall into buckets that form pairs: \
             use even numbers",
        );
        refused(
            config().with_layers(vec![]),
            "`layers` is [], but every block needs an attention: name at least one of Lsh, Local, \
             Full",
        );
        refused(
            config().with_position(PositionConfig::Axial {
                shape: vec![8, 8],
                dims: vec![32, 31],
                std: 1.0,
            }),
            "`position.dims` is [32, 31], but they must add up to `d_model` (64), but make 63: \
             divide `d_model` among the axes",
        );
        refused(
            config().with_dropout(1.0),
            "`dropout` is 1, but a dropout rate lies in [0, 1): use 0 to switch it off",
        );
        refused(
            config().with_lsh(LshConfig::new().with_wrap_rounds(true)),
            "`lsh.wrap_rounds` is true, but rounds that look into each other count keys in ways \
             that are not corrected: use `Duplicates::Keep`, chunks across buckets and no \
             `local_round`, or leave it off",
        );
    }
}
