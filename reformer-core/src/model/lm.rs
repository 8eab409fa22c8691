//! The language model.

use core::ops::Range;

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use super::config::ReformerConfig;
use super::loss::{LossOutput, gradients_in_chunks, loss_in_chunks};
use super::reformer::Reformer;
use super::stack_tape::{halves, side_by_side};
use super::trainable::{Loss, Trainable, gradients_by_graph};
use crate::attention::{Attention, AttentionLayer, TrainAttentionLayer};
use crate::chunks::Filling;
use crate::error::ConfigError;
use crate::kernels::{ReformerBackend, TrainBackend};
use crate::linear::linear;
use crate::pass::Pass;
use crate::precision::widen;
use crate::reversible::{GradientSum, Mode};

/// Number of tensors as wide as the hidden states, or the logits, that exist for a chunk of the loss.
const TENSORS_OF_CHUNK: usize = 4;

/// Configuration of a [`ReformerLm`].
///
/// ```
/// use burn_flex::Flex;
/// use reformer_core::model::{ReformerConfig, ReformerLmConfig};
///
/// let reformer = ReformerConfig::new(256, 64, 4); // vocab_size, d_model, n_layers
/// let model = ReformerLmConfig::new(reformer).init::<Flex>(&Default::default());
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct ReformerLmConfig {
    /// The stack.
    pub reformer: ReformerConfig,
    /// Number of positions whose logits exist at a time in the loss; a device with more memory may take more.
    #[config(default = 2048)]
    pub loss_chunk_length: usize,
    /// Whether logits have a bias.
    #[config(default = true)]
    pub output_bias: bool,
}

impl ReformerLmConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least_one("loss_chunk_length", self.loss_chunk_length)?;
        self.reformer.validate()
    }

    /// Initialises the model.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> ReformerLm<B> {
        self.with_reformer(device, |stack| stack.init(device))
    }

    /// Initialises a model with [attention layers of your own](ReformerConfig::init_with).
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init_with<B: Backend, L: Module<B>>(
        &self,
        device: &B::Device,
        attention: impl FnMut(usize) -> L,
    ) -> ReformerLm<B, L> {
        self.with_reformer(device, |stack| stack.init_with(device, attention))
    }

    fn with_reformer<B: Backend, L>(
        &self,
        device: &B::Device,
        reformer: impl FnOnce(&ReformerConfig) -> Reformer<B, L>,
    ) -> ReformerLm<B, L> {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let ReformerConfig {
            d_model,
            vocab_size,
            initializer,
            ..
        } = &self.reformer;
        ReformerLm {
            reformer: reformer(&self.reformer),
            output: Linear {
                weight: LinearConfig::new(2 * d_model, *vocab_size)
                    .with_initializer(initializer.clone())
                    .init::<B>(device)
                    .weight,
                bias: self
                    .output_bias
                    .then(|| Initializer::Zeros.init([*vocab_size], device)),
            },
            loss_chunk_length: self.loss_chunk_length,
        }
    }
}

/// A [`Reformer`] that predicts tokens: the next token of each position if causal, masked tokens
/// otherwise. The targets define what is predicted at which position.
#[derive(Module, Debug)]
pub struct ReformerLm<B: Backend, L = Attention<B>> {
    /// The stack.
    pub reformer: Reformer<B, L>,
    /// Projection from hidden states to logits.
    pub output: Linear<B>,
    loss_chunk_length: usize,
}

impl<B: ReformerBackend, L: AttentionLayer<B>> ReformerLm<B, L> {
    /// Logits of all positions. For a loss use [`loss`](Loss::loss), which computes them in chunks.
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    /// - output: `[batch_size, seq_length, vocab_size]`
    ///
    /// # Panics
    /// If the sequence is longer than the positions allow.
    pub fn forward(&self, tokens: Tensor<B, 2, Int>, pass: &Pass<B>) -> Tensor<B, 3> {
        self.logits(self.reformer.forward(tokens, pass))
    }

    /// Logits of a chunk of the last block's output streams.
    fn chunk_logits(&self, streams: Tensor<B, 3>, chunk: u64, pass: &Pass<B>) -> Tensor<B, 3> {
        let pass = Reformer::<B, L>::output_pass(pass).fold(chunk);
        linear(
            &self.output,
            self.reformer.normalize_lowered(streams, &pass),
        )
    }

    /// Number of positions whose logits exist at a time.
    fn chunk_length(&self, batch_size: usize, pass: &Pass<B>) -> usize {
        if self.reformer.draws_at_output(pass) {
            // Chunks have their own dropout keys: another length would give other random numbers.
            return self.loss_chunk_length;
        }
        let weight = self.output.weight.val();
        let [width, vocab_size] = weight.dims();
        let bytes = batch_size * TENSORS_OF_CHUNK * (width + vocab_size) * weight.dtype().size();
        B::at_once(self.loss_chunk_length, bytes, &weight.device())
    }

    /// The output projection; logits are `f32` in any precision.
    pub(crate) fn logits(&self, hidden: Tensor<B, 3>) -> Tensor<B, 3> {
        let hidden = self.reformer.precision().lower(hidden);
        widen(linear(&self.output, hidden))
    }
}

/// Both streams, concatenated, at a range of positions.
fn part<B: Backend>(streams: &[Tensor<B, 3>; 2], positions: Range<usize>) -> Tensor<B, 3> {
    let of = |stream: &Tensor<B, 3>| stream.clone().slice_dim(1, positions.clone());
    side_by_side(streams.each_ref().map(of))
}

impl<B: Backend, L> ReformerLm<B, L> {
    /// The same weights with another mode of training.
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.reformer = self.reformer.with_mode(mode);
        self
    }
}

impl<B: ReformerBackend, L: AttentionLayer<B>> Loss<B> for ReformerLm<B, L> {
    /// Tokens, and their targets, of which negative ones are ignored: both `[batch_size, seq_length]`.
    type Batch = (Tensor<B, 2, Int>, Tensor<B, 2, Int>);

    fn loss(&self, (tokens, targets): Self::Batch, pass: &Pass<B>) -> LossOutput<B> {
        let streams = self.reformer.streams(tokens, pass);
        let chunk_length = self.chunk_length(targets.dims()[0], pass);
        loss_in_chunks(targets, chunk_length, |chunk, range| {
            self.chunk_logits(part(&streams, range), chunk, pass)
        })
    }
}

impl<B: TrainBackend, L: TrainAttentionLayer<B>> Trainable<B> for ReformerLm<B, L> {
    /// The [`Reformer`]'s mode determines the memory: with a tape, logits and their gradients exist
    /// for one chunk at a time; in plain mode the graph keeps everything.
    fn scaled_gradients(
        &self,
        batch: Self::Batch,
        pass: Pass<B>,
        scale: f64,
    ) -> (LossOutput<B::InnerBackend>, GradientsParams) {
        if !self.reformer.mode().is_recomputed() {
            return gradients_by_graph(self, batch, &pass, scale);
        }
        let (tokens, targets) = batch;
        let mut sum = GradientSum::new();
        let [batch_size, seq_length] = targets.dims();
        let chunk_length = self.chunk_length(batch_size, &pass);
        let mut gradients = [Filling::new(seq_length), Filling::new(seq_length)];
        let (tape, streams) = self.reformer.record_streams(tokens, pass.clone());
        let loss = gradients_in_chunks(
            (targets.inner(), scale),
            chunk_length,
            // Owns the streams: they are dropped before backward, which then works in place.
            move |range| part(&streams, range),
            |chunk, streams| self.chunk_logits(streams, chunk, &pass),
            self,
            &mut sum,
            |range, gradient| {
                for (stream, half) in gradients.iter_mut().zip(halves(gradient)) {
                    stream.put(range.clone(), half);
                }
            },
        );
        let gradients = gradients.map(|stream| stream.finish().expect("positions have gradients"));
        let drift = Some(self.reformer.backward(tape, gradients, &mut sum));
        (LossOutput { drift, ..loss }, sum.into_params())
    }
}
