//! The language model.

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor};

use super::config::ReformerConfig;
use super::loss::{LmLoss, count_targets};
use super::reformer::{Reformer, side_by_side};
use crate::chunks::chunk_ranges;
use crate::error::ConfigError;
use crate::kernels::ReformerBackend;
use crate::linear::linear;
use crate::pass::Pass;
use crate::precision::widen;
use crate::reversible::{GradientSum, Mode, pull_back};

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
    /// The stack below.
    pub reformer: ReformerConfig,
    /// Positions whose logits exist at a time in the loss.
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
            reformer: self.reformer.init(device),
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

/// A [`Reformer`] that predicts tokens: the next one at each position if causal, masked ones if
/// not. What is predicted where is up to the targets.
#[derive(Module, Debug)]
pub struct ReformerLm<B: Backend> {
    /// The stack below.
    pub reformer: Reformer<B>,
    /// From hidden states to logits.
    pub output: Linear<B>,
    loss_chunk_length: usize,
}

impl<B: ReformerBackend> ReformerLm<B> {
    /// Logits of every position. For a loss use [`loss`](Self::loss), which holds few of them.
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

    /// Mean loss of the targets, without gradients. Targets below zero are ignored.
    ///
    /// # Shapes
    /// - tokens, targets: `[batch_size, seq_length]`
    pub fn loss(
        &self,
        tokens: Tensor<B, 2, Int>,
        targets: Tensor<B, 2, Int>,
        pass: &Pass<B>,
    ) -> LmLoss<B> {
        let streams = self.reformer.streams(tokens, pass);
        let n_targets = count_targets(targets.clone());
        let mut total = Total::new();
        self.for_each_chunk(streams, targets, |chunk, streams, targets| {
            let logits = self.chunk_logits(streams, chunk, pass);
            let part = B::token_loss(logits, targets);
            total.add(part.nll, part.n_correct);
        });
        total.finish(n_targets)
    }

    /// Logits of a chunk of the streams that the blocks end with.
    fn chunk_logits(&self, streams: Tensor<B, 3>, chunk: u64, pass: &Pass<B>) -> Tensor<B, 3> {
        let pass = Reformer::output_pass(pass).fold(chunk);
        self.logits(self.reformer.normalize(streams, &pass))
    }

    /// The output projection, whose logits are `f32` whatever it computes in.
    pub(crate) fn logits(&self, hidden: Tensor<B, 3>) -> Tensor<B, 3> {
        let hidden = self.reformer.precision().lower(hidden);
        widen(linear(&self.output, hidden))
    }

    /// Hands out streams, side by side, and targets chunk by chunk.
    fn for_each_chunk<I: Backend>(
        &self,
        streams: [Tensor<I, 3>; 2],
        targets: Tensor<I, 2, Int>,
        mut function: impl FnMut(u64, Tensor<I, 3>, Tensor<I, 2, Int>),
    ) {
        let [_, seq_length] = targets.dims();
        for (chunk, range) in chunk_ranges(seq_length, Some(self.loss_chunk_length)) {
            let part = |stream: &Tensor<I, 3>| stream.clone().slice_dim(1, range.clone());
            let streams = side_by_side(streams.each_ref().map(part));
            function(chunk, streams, targets.clone().slice_dim(1, range.clone()));
        }
    }
}

impl<B: Backend> ReformerLm<B> {
    /// The same weights, trained in another mode.
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.reformer = self.reformer.with_mode(mode);
        self
    }
}

impl<A> ReformerLm<A>
where
    A: AutodiffBackend + ReformerBackend,
    A::InnerBackend: ReformerBackend,
{
    /// Mean loss of the targets, and the gradients of all parameters. Targets below zero are
    /// ignored.
    ///
    /// Works with the memory that the mode of the [`Reformer`] allows: on the tape, logits and
    /// their gradients exist for one chunk at a time; in plain mode the graph keeps everything.
    ///
    /// ```
    /// use burn::tensor::{Int, Tensor};
    /// use burn_autodiff::Autodiff;
    /// use burn_flex::Flex;
    /// use reformer_core::model::{ReformerConfig, ReformerLmConfig};
    /// use reformer_core::{Key, Pass};
    ///
    /// let device = Default::default();
    /// let config = ReformerLmConfig::new(ReformerConfig::new(256, 32, 2));
    /// let model = config.init::<Autodiff<Flex>>(&device);
    /// let tokens = Tensor::<_, 2, Int>::zeros([1, 100], &device);
    /// let pass = Pass::train(Key::new(42).fold(0)); // seed 42, step 0
    /// let (loss, gradients) = model.gradients(tokens.clone(), tokens, pass);
    /// // optimizer.step(learning_rate, model, gradients)
    /// # assert!(loss.loss.into_scalar() > 0.0 && gradients.len() > 0);
    /// ```
    ///
    /// # Shapes
    /// - tokens, targets: `[batch_size, seq_length]`
    pub fn gradients(
        &self,
        tokens: Tensor<A, 2, Int>,
        targets: Tensor<A, 2, Int>,
        pass: Pass<A>,
    ) -> (LmLoss<A::InnerBackend>, GradientsParams) {
        self.scaled_gradients(tokens, targets, pass, 1.0)
    }

    /// As [`gradients`](Self::gradients), with all gradients multiplied by `scale` before they go
    /// through the blocks. In [`f16`](crate::Precision::F16) small ones would be zero otherwise.
    /// The loss is not scaled.
    ///
    /// # Shapes
    /// - tokens, targets: `[batch_size, seq_length]`
    pub fn scaled_gradients(
        &self,
        tokens: Tensor<A, 2, Int>,
        targets: Tensor<A, 2, Int>,
        pass: Pass<A>,
        scale: f64,
    ) -> (LmLoss<A::InnerBackend>, GradientsParams) {
        if self.reformer.mode() == Mode::Plain {
            self.gradients_by_graph(tokens, targets, pass, scale)
        } else {
            self.gradients_by_tape(tokens, targets, pass, scale)
        }
    }

    fn gradients_by_graph(
        &self,
        tokens: Tensor<A, 2, Int>,
        targets: Tensor<A, 2, Int>,
        pass: Pass<A>,
        scale: f64,
    ) -> (LmLoss<A::InnerBackend>, GradientsParams) {
        let loss = self.loss(tokens, targets, &pass);
        let scaled = loss.loss.clone() * scale;
        let gradients = GradientsParams::from_grads(scaled.backward(), self);
        let loss = LmLoss {
            loss: loss.loss.inner(),
            n_correct: loss.n_correct.inner(),
            n_targets: loss.n_targets.inner(),
            drift: None,
        };
        (loss, gradients)
    }

    fn gradients_by_tape(
        &self,
        tokens: Tensor<A, 2, Int>,
        targets: Tensor<A, 2, Int>,
        pass: Pass<A>,
        scale: f64,
    ) -> (LmLoss<A::InnerBackend>, GradientsParams) {
        let mut sum = GradientSum::new();
        let (tape, streams) = self.reformer.record_streams(tokens, pass.clone());
        let targets = targets.inner();
        let n_targets = count_targets(targets.clone());
        let weight = (n_targets.ones_like() * scale / n_targets.clone()).reshape([1, 1, 1]);
        let mut total = Total::new();
        let mut gradients = Vec::new();
        self.for_each_chunk(streams, targets, |chunk, streams, targets| {
            let leaf = Tensor::from_inner(streams).require_grad();
            let logits = self.chunk_logits(leaf.clone(), chunk, &pass);
            let part = A::token_loss(logits, Tensor::from_inner(targets));
            total.add(part.nll.clone().inner(), part.n_correct.inner());
            let nll = part.nll.reshape([1, 1, 1]);
            gradients.push(pull_back(nll, leaf, weight.clone(), self, &mut sum));
        });
        let drift = tape.backward(&self.reformer, Tensor::cat(gradients, 1), &mut sum);
        let loss = LmLoss {
            drift: Some(drift),
            ..total.finish(n_targets)
        };
        (loss, sum.into_params())
    }
}

/// Sums over chunks.
struct Total<B: Backend> {
    nll: Option<Tensor<B, 1>>,
    n_correct: Option<Tensor<B, 1>>,
}

impl<B: Backend> Total<B> {
    fn new() -> Self {
        Self {
            nll: None,
            n_correct: None,
        }
    }

    fn add(&mut self, nll: Tensor<B, 1>, n_correct: Tensor<B, 1>) {
        let plus = |sum: &mut Option<Tensor<B, 1>>, part| {
            *sum = Some(match sum.take() {
                Some(sum) => sum + part,
                None => part,
            });
        };
        plus(&mut self.nll, nll);
        plus(&mut self.n_correct, n_correct);
    }

    fn finish(self, n_targets: Tensor<B, 1>) -> LmLoss<B> {
        let sum = |sum: Option<Tensor<B, 1>>| sum.unwrap_or_else(|| n_targets.zeros_like());
        LmLoss {
            loss: sum(self.nll) / n_targets.clone(),
            n_correct: sum(self.n_correct),
            n_targets: n_targets.clone(),
            drift: None,
        }
    }
}
