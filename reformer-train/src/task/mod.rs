//! A model with the interface of Burn's learner.

pub(crate) mod model;
pub(crate) mod own_config;
pub(crate) mod run_model;
pub(crate) mod step_counter;
pub(crate) mod task_heads;
mod trainable;

use std::marker::PhantomData;
use std::time::Instant;

use burn::module::{Module, ModuleDisplay};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::{Loss, LossOutput, Reformer};
use reformer_core::{Key, Pass};

use crate::data::batch::Batch;
use crate::metrics::StepOutput;
use crate::metrics::hashing::{Hashing, probe_hashing};
use crate::optimizer::clip::{global_norm, scaled};
use crate::optimizer::loss_scale::LossScale;
use crate::task::model::Model;
use crate::task::run_model::RunModel;

pub use step_counter::StepCounter;
pub use task_heads::HeadLogits;

/// A model and the seed of its training.
///
/// Dropout and hash rotations of a training step are functions of the seed and of
/// [`Batch::step`], so a resumed run repeats them.
#[derive(Module, Debug)]
pub struct Task<B: Backend, M = Model<B>> {
    /// The model.
    pub model: M,
    #[module(skip)]
    seed: u64,
    /// Micro-batches of a step.
    #[module(skip)]
    n_parts: usize,
    /// Index of the first of them in the batch of all replicas.
    #[module(skip)]
    first_part: usize,
    /// Context length in tokens.
    #[module(skip)]
    context: Option<usize>,
    #[module(skip)]
    loss_scale: LossScale,
    backend: PhantomData<B>,
}

impl<B: Backend, M> Task<B, M> {
    /// Creates a task from a model.
    pub fn new(model: M, seed: u64) -> Self {
        Self {
            model,
            seed,
            n_parts: 1,
            first_part: 0,
            context: None,
            loss_scale: LossScale::none(),
            backend: PhantomData,
        }
    }

    /// Splits each training step into micro-batches, computed one after the other. The sum of
    /// their gradients, each weighted by its share of the targets, is the gradient of the batch.
    pub fn with_parts(mut self, n_parts: usize) -> Self {
        self.n_parts = n_parts;
        self
    }

    /// Lets hashing depend on the context length instead of on the length to which
    /// sequences of a batch are padded.
    pub fn with_context(mut self, window_length: usize) -> Self {
        self.context = Some(window_length);
        self
    }

    /// Takes the micro-batches of the `n`-th of several replicas, with dropout masks of
    /// their own.
    pub(crate) fn of_replica(mut self, n: usize) -> Self {
        self.first_part = n * self.n_parts;
        self
    }

    /// Scales the loss in training.
    pub(crate) fn with_loss_scale(mut self, loss_scale: LossScale) -> Self {
        self.loss_scale = loss_scale;
        self
    }
}

/// Statistics of hashing on the first sequence of a batch, up to `max_length` tokens; `None` if the model
/// has no LSH attention, or reads two sequences.
pub(crate) fn probe<B: ReformerBackend>(
    reformer: Option<&Reformer<B>>,
    batch: &Batch<B>,
    max_length: usize,
) -> Option<Hashing> {
    let reformer = reformer?;
    let (tokens, seq_length) = match batch {
        Batch::Tokens(batch) => (&batch.tokens, batch.tokens.dims()[1]),
        Batch::Labelled(batch) => (&batch.tokens, batch.length(0)),
        Batch::Pairs(_) => return None,
    };
    let length = max_length.min(seq_length);
    let tokens = tokens.clone().slice([0..1, 0..length]);
    Hashing::mean_of(&probe_hashing(reformer, tokens))
}

impl<A: TrainBackend, M: RunModel<A>> Task<A, M> {
    /// The loss of a batch and its gradients.
    fn gradients(&self, batch: Batch<A>) -> (LossOutput<A::InnerBackend>, GradientsParams) {
        if self.n_parts == 1 {
            return self.gradients_of_part(batch, 0);
        }
        let [batch_size, _] = batch.targets().dims();
        let n_targets = count(batch.targets());
        let mut sum = GradientsAccumulator::new();
        let mut losses = Vec::new();
        let part_size = batch_size.div_ceil(self.n_parts);
        for (number, first) in (0..batch_size).step_by(part_size).enumerate() {
            let rows = first..batch_size.min(first + part_size);
            let part = batch.rows(rows);
            let weight = share(count(part.targets()), &n_targets);
            let (loss, gradients) = self.gradients_of_part(part, number);
            sum.accumulate(self, scaled(self, gradients, weight.clone()));
            losses.push((loss, weight));
        }
        (joined(losses, n_targets), sum.grads())
    }

    fn gradients_of_part(
        &self,
        part: Batch<A>,
        number: usize,
    ) -> (LossOutput<A::InnerBackend>, GradientsParams) {
        let pass = Pass::train(Key::new(self.seed).fold(part.step()));
        let pass = pass
            .with_part((self.first_part + number) as u64)
            .with_context(self.context);
        let scale = self.loss_scale.factor();
        let (loss, gradients) = self.model.scaled_gradients(part, pass, scale);
        (loss, self.loss_scale.unscale(self, gradients))
    }
}

/// Number of targets: `[1]`.
fn count<A: AutodiffBackend>(targets: &Tensor<A, 2, Int>) -> Tensor<A::InnerBackend, 1> {
    targets
        .clone()
        .inner()
        .greater_equal_elem(0)
        .int()
        .sum()
        .float()
}

/// A part's share of all targets: 0, if there are none.
pub(crate) fn share<B: Backend>(part: Tensor<B, 1>, all: &Tensor<B, 1>) -> Tensor<B, 1> {
    part / all.clone().clamp_min(1.0)
}

/// The loss of a batch from those of its parts, weighted by their shares of its targets.
pub(crate) fn joined<B: Backend>(
    parts: Vec<(LossOutput<B>, Tensor<B, 1>)>,
    n_targets: Tensor<B, 1>,
) -> LossOutput<B> {
    let zero = n_targets.zeros_like();
    let empty = LossOutput {
        loss: zero.clone(),
        n_correct: zero,
        n_targets,
        drift: None,
    };
    parts
        .into_iter()
        .fold(empty, |sum, (part, weight)| LossOutput {
            loss: sum.loss + part.loss * weight,
            n_correct: sum.n_correct + part.n_correct,
            n_targets: sum.n_targets,
            drift: match (sum.drift, part.drift) {
                (Some(largest), Some(drift)) => Some(largest.max_pair(drift)),
                (largest, drift) => largest.or(drift),
            },
        })
}

impl<A: TrainBackend, M: RunModel<A>> TrainStep for Task<A, M> {
    type Input = Batch<A>;
    type Output = StepOutput<A::InnerBackend>;

    fn step(&self, batch: Batch<A>) -> TrainOutput<Self::Output> {
        let started = Instant::now();
        let (loss, grads) = self.gradients(batch);
        let gradient_norm = global_norm(self, &grads);
        TrainOutput {
            grads,
            item: StepOutput {
                loss,
                gradient_norm,
                hashing: None,
                started,
            },
        }
    }
}

impl<B, M> InferenceStep for Task<B, M>
where
    B: ReformerBackend,
    M: Loss<B, Batch = Batch<B>> + ModuleDisplay,
{
    type Input = Batch<B>;
    type Output = StepOutput<B>;

    fn step(&self, batch: Batch<B>) -> StepOutput<B> {
        let started = Instant::now();
        let loss = self
            .model
            .loss(batch, &Pass::eval().with_context(self.context));
        StepOutput {
            loss,
            gradient_norm: None,
            hashing: None,
            started,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::model::ModelConfig;
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::TensorData;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;
    use reformer_core::attention::{ExactUpTo, LshConfig, Window};
    use reformer_core::model::{ReformerConfig, ReformerLmConfig};
    use reformer_core::reversible::Mode;
    use reformer_datasets::LmBatch;

    type B = Autodiff<Flex>;
    const ROWS: usize = 5;
    const LENGTH: usize = 24;

    fn task(mode: Mode) -> Task<B> {
        let lsh = LshConfig::new()
            .with_chunk_length(4)
            .with_window(Window::Bucket { len: 4 })
            .with_exact_up_to(ExactUpTo::Never);
        let model = ReformerConfig::new(13, 16, 2)
            .with_n_heads(2)
            .with_lsh(lsh)
            .with_mode(mode);
        task_of(model)
    }

    fn task_of<B: Backend>(model: ReformerConfig) -> Task<B> {
        let config = ModelConfig::from(ReformerLmConfig::new(model));
        Task::new(config.init(&Default::default()), 7)
    }

    /// Rows with very different numbers of targets; the last row has none.
    fn batch() -> Batch<B> {
        let number = |i: usize| (i * i * 31 + 7 * i) as i32 % 13;
        let tokens: Vec<i32> = (0..ROWS * LENGTH).map(number).collect();
        let target = |i: usize| match i % LENGTH < (ROWS - 1 - i / LENGTH) * 5 {
            true => number(i + 1),
            false => -1,
        };
        let targets: Vec<i32> = (0..ROWS * LENGTH).map(target).collect();
        let tensor = |values| {
            let data = TensorData::new(values, [ROWS, LENGTH]);
            Tensor::from_data(data, &Default::default())
        };
        Batch::Tokens(LmBatch {
            tokens: tensor(tokens),
            targets: tensor(targets),
            step: 3,
        })
    }

    struct Compare<'a> {
        whole: &'a GradientsParams,
        parts: &'a GradientsParams,
        n_compared: usize,
    }

    impl ModuleVisitor<B> for Compare<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let of = |gradients: &GradientsParams| gradients.get::<Flex, D>(param.id);
            let (whole, parts) = (of(self.whole), of(self.parts));
            let (whole, parts) = (whole.expect("it is trained"), parts.expect("it is trained"));
            let largest = whole.clone().abs().max().into_scalar();
            let error = (whole - parts).abs().max().into_scalar();
            assert!(error <= 1e-5 * largest, "{error} of {largest}");
            self.n_compared += 1;
        }
    }

    #[test]
    fn parts_of_a_batch_make_the_step_of_the_whole() {
        for mode in [Mode::Reversible, Mode::Plain] {
            let task = task(mode);
            let (loss, whole) = task.gradients(batch());
            for n_parts in [2, 3, ROWS] {
                let (in_parts, parts) = task.clone().with_parts(n_parts).gradients(batch());
                let mut compare = Compare {
                    whole: &whole,
                    parts: &parts,
                    n_compared: 0,
                };
                task.visit(&mut compare);
                assert_eq!(compare.n_compared, whole.len());
                let error = (in_parts.loss - loss.loss.clone()).into_scalar();
                assert!(error.abs() < 1e-6, "{error}");
                for (part, whole) in [
                    (in_parts.n_correct, &loss.n_correct),
                    (in_parts.n_targets, &loss.n_targets),
                ] {
                    assert_eq!(part.into_scalar(), whole.clone().into_scalar());
                }
                assert_eq!(in_parts.drift.is_some(), loss.drift.is_some());
            }
        }
    }

    #[test]
    fn only_models_that_hash_are_probed() {
        let Batch::Tokens(batch) = batch() else {
            unreachable!("made above");
        };
        let batch = Batch::Tokens(LmBatch {
            tokens: batch.tokens.inner(),
            targets: batch.targets.inner(),
            step: 0,
        });
        let inner = |task: Task<B>| burn::module::AutodiffModule::valid(&task);
        let hashing = probe(inner(task(Mode::Plain)).model.reformer(), &batch, 20);
        let hashing = hashing.expect("it hashes");
        assert!(
            hashing.coverage > 0.0 && hashing.coverage < 1.0,
            "{hashing:?}"
        );
        let full = ReformerConfig::new(13, 16, 1)
            .with_layers(vec![reformer_core::attention::AttentionKind::Full]);
        assert_eq!(
            probe(task_of::<Flex>(full).model.reformer(), &batch, 20),
            None
        );
    }
}
