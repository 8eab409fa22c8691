//! A language model as Burn's learner wants it.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::{LmLoss, ReformerLm};
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
    /// Which of the parts of a batch it computes.
    #[module(skip)]
    part: usize,
}

impl<B: Backend> LmTask<B> {
    /// Makes a task of a model.
    pub fn new(model: ReformerLm<B>, seed: u64) -> Self {
        Self {
            model,
            seed,
            loss_scale: LossScale::none(),
            part: 0,
        }
    }

    /// Takes the part of each batch that the `n`-th of several replicas has, with dropout masks of
    /// its own.
    pub(crate) fn of_replica(self, n: usize) -> Self {
        Self { part: n, ..self }
    }

    /// Scales the loss in training.
    pub(crate) fn with_loss_scale(self, loss_scale: LossScale) -> Self {
        Self { loss_scale, ..self }
    }
}

/// The loss of a batch from those of its parts and their shares of its targets.
pub(crate) fn joined<B: Backend>(
    parts: Vec<(LmLoss<B>, Tensor<B, 1>)>,
    n_targets: Tensor<B, 1>,
) -> LmLoss<B> {
    let zero = n_targets.zeros_like();
    let empty = LmLoss {
        loss: zero.clone(),
        n_correct: zero,
        n_targets,
        drift: None,
    };
    parts.into_iter().fold(empty, |sum, (part, weight)| LmLoss {
        loss: sum.loss + part.loss * weight,
        n_correct: sum.n_correct + part.n_correct,
        n_targets: sum.n_targets,
        drift: match (sum.drift, part.drift) {
            (Some(largest), Some(drift)) => Some(largest.max_pair(drift)),
            (largest, drift) => largest.or(drift),
        },
    })
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
        let pass = Pass::train(Key::new(self.seed).fold(batch.step)).with_part(self.part as u64);
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
