//! The encoder-decoder (paper, section 5): two reversible stacks; the second one reads the output
//! of the first.

mod block;
mod config;
mod stack;
mod step;
mod tape;

use burn::module::{Module, Param};
use burn::nn::Embedding;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};

pub use block::{Cross, DecoderBlock};
pub use config::{CrossKind, ReformerSeq2SeqConfig};
pub use stack::{Decoder, Encoder, Stack};

use super::stack_tape::mean;
use crate::kernels::ReformerBackend;
use crate::pass::{Pass, Source};
use crate::precision::{Precision, widen};
use crate::reversible::Mode;

/// Purposes of the keys derived from the key of a pass.
mod purpose {
    pub(super) const ENCODER: u64 = 0;
    pub(super) const DECODER: u64 = 1;
}

/// Source and decoder input of a batch.
#[derive(Debug, Clone)]
pub struct Seq2SeqInput<B: Backend> {
    /// Input of the encoder: `[batch_size, source_length]`.
    pub source: Tensor<B, 2, Int>,
    /// True where the source is padding: `[batch_size, source_length]`.
    pub source_mask_pad: Option<Tensor<B, 2, Bool>>,
    /// Input of the decoder, usually a start token followed by the target:
    /// `[batch_size, target_length]`.
    pub inputs: Tensor<B, 2, Int>,
    /// True where the inputs are padding: `[batch_size, target_length]`.
    pub input_mask_pad: Option<Tensor<B, 2, Bool>>,
}

/// An encoder-decoder that predicts the tokens of a target from those of a source.
///
/// Both stacks start from embeddings of one joint vocabulary. Hidden states are the normalised mean
/// of the two streams.
///
/// ```
/// use burn::tensor::{Int, Tensor};
/// use burn_autodiff::Autodiff;
/// use burn_flex::Flex;
/// use reformer_core::model::{ReformerConfig, ReformerSeq2SeqConfig, Seq2SeqInput, Trainable};
/// use reformer_core::{Key, Pass};
///
/// let device = Default::default();
/// let config = ReformerSeq2SeqConfig::new(ReformerConfig::new(100, 32, 2));
/// let model = config.init::<Autodiff<Flex>>(&device);
/// let tokens = |length| Tensor::<_, 2, Int>::zeros([3, length], &device);
/// let input = Seq2SeqInput {
///     source: tokens(17),
///     source_mask_pad: None,
///     inputs: tokens(9),
///     input_mask_pad: None,
/// };
/// let (loss, gradients) = model.gradients((input, tokens(9)), Pass::train(Key::new(42).fold(0)));
/// // optimizer.step(learning_rate, model, gradients)
/// # assert!(loss.loss.into_scalar() > 0.0 && gradients.len() > 0);
/// ```
#[derive(Module, Debug)]
pub struct ReformerSeq2Seq<B: Backend> {
    /// Token embeddings of source and target.
    pub embedding: Embedding<B>,
    /// Reads the source.
    pub encoder: Encoder<B>,
    /// Reads the target and the encoder's output.
    pub decoder: Decoder<B>,
    /// Projection from hidden states to logits: `[d_model, vocab_size]`. `None` if embeddings are
    /// used instead, scaled by `1 / sqrt(d_model)`.
    pub output: Option<Param<Tensor<B, 2>>>,
    /// Added to logits: `[vocab_size]`.
    pub output_bias: Option<Param<Tensor<B, 1>>>,
    loss_chunk_length: usize,
    #[module(skip)]
    mode: Mode,
    #[module(skip)]
    precision: Precision,
}

impl<B: Backend> ReformerSeq2Seq<B> {
    /// The same weights with another mode of training.
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How the backward pass obtains activations.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Number of different tokens in the joint vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.embedding.weight.dims()[0]
    }

    fn encoder_pass(pass: &Pass<B>, mask_pad: Option<Tensor<B, 2, Bool>>) -> Pass<B> {
        pass.fold(purpose::ENCODER).with_mask_pad(mask_pad)
    }

    fn decoder_pass(
        pass: &Pass<B>,
        mask_pad: Option<Tensor<B, 2, Bool>>,
        source: Source<B>,
    ) -> Pass<B> {
        pass.fold(purpose::DECODER)
            .with_mask_pad(mask_pad)
            .with_source(Some(source))
    }
}

impl<B: ReformerBackend> ReformerSeq2Seq<B> {
    /// Encodes a source for the decoder.
    ///
    /// # Shapes
    /// - tokens, mask_pad: `[batch_size, source_length]`
    ///
    /// # Panics
    /// If the sequence is longer than the positions allow.
    pub fn encode(
        &self,
        tokens: Tensor<B, 2, Int>,
        mask_pad: Option<Tensor<B, 2, Bool>>,
        pass: &Pass<B>,
    ) -> Source<B> {
        let pass = Self::encoder_pass(pass, mask_pad.clone());
        let streams = self
            .encoder
            .streams(&self.embedding, tokens, &pass, self.mode);
        Source {
            hidden: self.encoder.normalize(mean(streams), &pass),
            mask_pad,
        }
    }

    /// Logits of the token after each input. For a loss use [`loss`](super::Loss::loss), which computes
    /// them in chunks.
    ///
    /// # Shapes
    /// - output: `[batch_size, target_length, vocab_size]`
    ///
    /// # Panics
    /// If a sequence is longer than the positions allow.
    pub fn forward(&self, input: Seq2SeqInput<B>, pass: &Pass<B>) -> Tensor<B, 3> {
        let source = self.encode(input.source, input.source_mask_pad, pass);
        self.decode(source, input.inputs, input.input_mask_pad, pass)
    }

    /// As [`forward`](Self::forward), with an already encoded source.
    ///
    /// # Shapes
    /// - inputs, mask_pad: `[batch_size, target_length]`
    /// - output: `[batch_size, target_length, vocab_size]`
    pub fn decode(
        &self,
        source: Source<B>,
        inputs: Tensor<B, 2, Int>,
        mask_pad: Option<Tensor<B, 2, Bool>>,
        pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let pass = Self::decoder_pass(pass, mask_pad, source);
        let streams = self
            .decoder
            .streams(&self.embedding, inputs, &pass, self.mode);
        self.logits(mean(streams), 0, &pass)
    }

    /// Logits of a chunk of the mean of the decoder's output streams: `f32` in any precision.
    ///
    /// # Shapes
    /// - streams: `[batch_size, chunk_length, d_model]`
    fn logits(&self, streams: Tensor<B, 3>, chunk: u64, pass: &Pass<B>) -> Tensor<B, 3> {
        let hidden = self.decoder.normalize(streams, &pass.fold(chunk));
        let (hidden, weight) = match &self.output {
            Some(output) => (hidden, output.val()),
            None => {
                let d_model = hidden.dims()[2] as f64;
                let weight = self.embedding.weight.val().transpose();
                (hidden / d_model.sqrt(), weight)
            }
        };
        let hidden = self.precision.lower(hidden);
        let bias = self.output_bias.as_ref().map(|bias| bias.val());
        widen(B::linear_layer(hidden, weight, bias))
    }
}
