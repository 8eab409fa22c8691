//! Configuration of the encoder-decoder.

use burn::config::Config;
use burn::module::Initializer;
use burn::nn::EmbeddingConfig;
use burn::tensor::backend::Backend;

use super::ReformerSeq2Seq;
use super::block::DecoderBlock;
use super::stack::Stack;
use crate::attention::{AttentionKind, CrossAttentionConfig};
use crate::error::ConfigError;
use crate::model::config::ReformerConfig;
use crate::position::PositionConfig;

/// How a decoder attends to the source.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum CrossKind {
    /// By [`CrossAttention`](crate::attention::CrossAttention) in every block: exact.
    Full,
    /// By self-attention to the concatenated source and target, with hashing in LSH layers. Local
    /// layers see the target only.
    Concatenated,
}

/// Configuration of a [`ReformerSeq2Seq`].
///
/// ```
/// use burn_flex::Flex;
/// use reformer_core::model::{ReformerConfig, ReformerSeq2SeqConfig};
///
/// let reformer = ReformerConfig::new(8000, 64, 4); // joint vocab_size, d_model, n_layers
/// let config = ReformerSeq2SeqConfig::new(reformer).with_n_encoder_layers(Some(6));
/// let model = config.init::<Flex>(&Default::default());
/// assert_eq!((model.encoder.blocks.len(), model.decoder.blocks.len()), (6, 4));
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct ReformerSeq2SeqConfig {
    /// Both stacks. The decoder is always causal and the encoder never, whatever this says. Local
    /// attention of the encoder sees as many chunks after as before.
    pub reformer: ReformerConfig,
    /// Number of encoder blocks. Default: as many as in the decoder.
    pub n_encoder_layers: Option<usize>,
    /// Kinds of attention in the encoder. Default: those of the decoder.
    pub encoder_layers: Option<Vec<AttentionKind>>,
    /// How the decoder attends to the source.
    #[config(default = "CrossKind::Full")]
    pub cross: CrossKind,
    /// Whether embeddings are also the output weights. The deviation of initial logits is then that
    /// of the embeddings.
    #[config(default = true)]
    pub tie_output: bool,
    /// Whether logits have a bias.
    #[config(default = true)]
    pub output_bias: bool,
    /// Number of positions whose logits exist at a time in the loss.
    #[config(default = 2048)]
    pub loss_chunk_length: usize,
}

impl ReformerSeq2SeqConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least_one("loss_chunk_length", self.loss_chunk_length)?;
        self.decoder().validate()?;
        let encoder = self.encoder();
        ConfigError::at_least_one("n_encoder_layers", encoder.n_layers)?;
        if encoder.layers.is_empty() {
            return Err(ConfigError::new(
                "encoder_layers",
                "[]",
                "every block needs an attention",
                "name at least one of Lsh, Local, Full",
            ));
        }
        encoder.validate()?;
        match self.cross {
            CrossKind::Full => self.cross_attention().validate(),
            CrossKind::Concatenated => self.validate_concatenated(),
        }
    }

    fn validate_concatenated(&self) -> Result<(), ConfigError> {
        let position = &self.reformer.position;
        if let PositionConfig::Rotary { .. } = position {
            return Err(ConfigError::new(
                "position",
                format!("{position:?}"),
                "rotary positions continue from the source into the target, so padding of the \
                 source would shift the target",
                "use other positions, or `cross` Full",
            ));
        }
        if self
            .decoder()
            .kinds()
            .all(|kind| kind == AttentionKind::Local)
        {
            return Err(ConfigError::new(
                "layers",
                "[Local]",
                "local attention of a decoder does not look at the source",
                "use Lsh or Full in some layers, or `cross` Full",
            ));
        }
        Ok(())
    }

    /// Initialises the model.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> ReformerSeq2Seq<B> {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let (encoder, decoder) = (self.encoder(), self.decoder());
        let cross = match self.cross {
            CrossKind::Full => Some(self.cross_attention()),
            CrossKind::Concatenated => None,
        };
        let decoder_blocks = decoder
            .blocks(device)
            .into_iter()
            .map(|block| DecoderBlock::new(block, cross.clone(), &decoder, device))
            .collect();
        let ReformerConfig {
            vocab_size,
            d_model,
            embedding_std,
            initializer,
            mode,
            precision,
            ..
        } = &self.reformer;
        ReformerSeq2Seq {
            embedding: EmbeddingConfig::new(*vocab_size, *d_model)
                .with_initializer(Initializer::Normal {
                    mean: 0.0,
                    std: *embedding_std,
                })
                .init(device),
            encoder: Stack::new(encoder.blocks(device), &encoder, device),
            decoder: Stack::new(decoder_blocks, &decoder, device),
            output: (!self.tie_output).then(|| {
                let shape = [*d_model, *vocab_size];
                initializer.init_with(shape, Some(*d_model), Some(*vocab_size), device)
            }),
            output_bias: self
                .output_bias
                .then(|| Initializer::Zeros.init([*vocab_size], device)),
            loss_chunk_length: self.loss_chunk_length,
            mode: *mode,
            precision: *precision,
        }
    }

    fn decoder(&self) -> ReformerConfig {
        self.reformer.clone().with_causal(true)
    }

    fn encoder(&self) -> ReformerConfig {
        let common = self.reformer.clone().with_causal(false);
        let after = common.local.before;
        ReformerConfig {
            n_layers: self.n_encoder_layers.unwrap_or(common.n_layers),
            layers: self.encoder_layers.clone().unwrap_or(common.layers),
            local: common.local.with_after(after),
            // Different rotations from the decoder's.
            hash_seed: common.hash_seed.wrapping_add(common.n_layers as u64),
            ..common
        }
    }

    fn cross_attention(&self) -> CrossAttentionConfig {
        CrossAttentionConfig::new(self.decoder().heads(AttentionKind::Full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ReformerSeq2SeqConfig {
        ReformerSeq2SeqConfig::new(ReformerConfig::new(100, 32, 2))
    }

    #[test]
    fn defaults_are_valid() {
        config().validate().unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |config: ReformerSeq2SeqConfig, field: &str| {
            assert_eq!(config.validate().unwrap_err().field, field);
        };
        refused(config().with_loss_chunk_length(0), "loss_chunk_length");
        refused(config().with_n_encoder_layers(Some(0)), "n_encoder_layers");
        refused(config().with_encoder_layers(Some(vec![])), "encoder_layers");
        let concatenated = config().with_cross(CrossKind::Concatenated);
        refused(concatenated.clone(), "position");
        let reformer = ReformerConfig::new(100, 32, 2)
            .with_position(PositionConfig::Sinusoidal)
            .with_layers(vec![AttentionKind::Local]);
        refused(
            ReformerSeq2SeqConfig {
                reformer,
                ..concatenated
            },
            "layers",
        );
    }
}
