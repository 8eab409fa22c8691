//! Burn's own Transformer as a language model, to compare ours with.

use burn::config::Config;
use burn::module::Module;
use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor};

/// Configuration of a [`TransformerLm`].
#[derive(Config, Debug)]
pub(crate) struct TransformerLmConfig {
    /// Vocabulary size.
    pub(crate) vocab_size: usize,
    /// Width of the residual stream.
    pub(crate) d_model: usize,
    /// Width inside the feed-forward layers.
    pub(crate) d_ff: usize,
    /// Number of attention heads.
    pub(crate) n_heads: usize,
    /// Number of layers.
    pub(crate) n_layers: usize,
}

impl TransformerLmConfig {
    /// Initialises the model.
    ///
    /// # Panics
    /// If `n_heads` does not divide `d_model`.
    pub(crate) fn init<B: Backend>(&self, device: &B::Device) -> TransformerLm<B> {
        let layers =
            TransformerEncoderConfig::new(self.d_model, self.d_ff, self.n_heads, self.n_layers)
                .with_dropout(0.0)
                .with_norm_first(true);
        TransformerLm {
            embedding: EmbeddingConfig::new(self.vocab_size, self.d_model).init(device),
            layers: layers.init(device),
            output: LinearConfig::new(self.d_model, self.vocab_size).init(device),
        }
    }
}

/// Embeddings, Burn's Transformer with a causal mask, logits: what a user of Burn would write. It has
/// no position embeddings, which cost next to nothing and are not compared.
#[derive(Module, Debug)]
pub(crate) struct TransformerLm<B: Backend> {
    embedding: Embedding<B>,
    layers: TransformerEncoder<B>,
    output: Linear<B>,
}

impl<B: Backend> TransformerLm<B> {
    /// Mean cross-entropy of the targets: `[1]`.
    ///
    /// # Shapes
    /// - tokens, targets: `[batch_size, seq_length]`
    pub(crate) fn loss(
        &self,
        tokens: Tensor<B, 2, Int>,
        targets: Tensor<B, 2, Int>,
    ) -> Tensor<B, 1> {
        let [batch_size, seq_length] = tokens.dims();
        let device = tokens.device();
        let mask = generate_autoregressive_mask::<B>(batch_size, seq_length, &device);
        let input = TransformerEncoderInput::new(self.embedding.forward(tokens)).mask_attn(mask);
        let logits: Tensor<B, 2> = self
            .output
            .forward(self.layers.forward(input))
            .flatten(0, 1);
        CrossEntropyLossConfig::new()
            .init(&device)
            .forward(logits, targets.flatten(0, 1))
    }
}

impl<B: AutodiffBackend> TransformerLm<B> {
    /// The loss, and the gradients of all parameters by Burn's autodiff.
    ///
    /// # Shapes
    /// - tokens, targets: `[batch_size, seq_length]`
    pub(crate) fn gradients(
        &self,
        tokens: Tensor<B, 2, Int>,
        targets: Tensor<B, 2, Int>,
    ) -> (Tensor<B::InnerBackend, 1>, GradientsParams) {
        let loss = self.loss(tokens, targets);
        let gradients = GradientsParams::from_grads(loss.backward(), self);
        (loss.inner(), gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    #[test]
    fn an_untrained_model_knows_nothing_and_every_parameter_has_a_gradient() {
        let device = Default::default();
        let model = TransformerLmConfig::new(16, 8, 16, 2, 2).init::<Autodiff<Flex>>(&device);
        let tokens = Tensor::<_, 2, Int>::from_data([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], &device);
        let (loss, gradients) = model.gradients(tokens.clone(), tokens);
        let loss: f32 = loss.into_scalar();
        assert!((loss - 16f32.ln()).abs() < 1.0, "{loss}");
        // Per layer: four projections, two of feed-forward, with biases, and two norms.
        assert_eq!(gradients.len(), 1 + 2 * (6 * 2 + 2 * 2) + 2);
    }
}
