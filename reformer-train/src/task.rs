//! A language model as Burn's learner wants it.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerLm;
use reformer_core::{Key, Pass};
use reformer_datasets::LmBatch;

use crate::clip::global_norm;
use crate::loss_scale::LossScale;
use crate::metric::LmOutput;

/// A [`ReformerLm`] and the seed of its training.
///
/// Dropout and hash rotations of a training step are functions of the seed and of
/// [`LmBatch::step`], so a resumed run repeats them.
#[derive(Module, Debug)]
pub struct LmTask<B: Backend> {
    /// The model.
    pub model: ReformerLm<B>,
    #[module(skip)]
    seed: u64,
    #[module(skip)]
    loss_scale: LossScale,
}

impl<B: Backend> LmTask<B> {
    /// Makes a task of a model.
    pub fn new(model: ReformerLm<B>, seed: u64) -> Self {
        Self {
            model,
            seed,
            loss_scale: LossScale::none(),
        }
    }

    /// Scales the loss in training.
    pub(crate) fn with_loss_scale(self, loss_scale: LossScale) -> Self {
        Self { loss_scale, ..self }
    }
}

impl<A> TrainStep for LmTask<A>
where
    A: AutodiffBackend + ReformerBackend,
    A::InnerBackend: ReformerBackend,
{
    type Input = LmBatch<A>;
    type Output = LmOutput<A::InnerBackend>;

    fn step(&self, batch: LmBatch<A>) -> TrainOutput<Self::Output> {
        let started = Instant::now();
        let pass = Pass::train(Key::new(self.seed).fold(batch.step));
        let scale = self.loss_scale.factor();
        let (loss, grads) =
            self.model
                .scaled_gradients(batch.tokens, batch.targets, pass, scale);
        let grads = self.loss_scale.unscale(self, grads);
        let gradient_norm = global_norm(self, &grads);
        TrainOutput {
            grads,
            item: LmOutput {
                loss,
                gradient_norm,
                started,
            },
        }
    }
}

impl<B: ReformerBackend> InferenceStep for LmTask<B> {
    type Input = LmBatch<B>;
    type Output = LmOutput<B>;

    fn step(&self, batch: LmBatch<B>) -> LmOutput<B> {
        let started = Instant::now();
        let loss = self.model.loss(batch.tokens, batch.targets, &Pass::eval());
        LmOutput {
            loss,
            gradient_norm: None,
            started,
        }
    }
}
