//! Cross-entropy that holds the logits of one chunk at a time.

use core::ops::Range;

use burn::module::AutodiffModule;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor};

use crate::chunks::chunk_ranges;
use crate::kernels::ReformerBackend;
use crate::reversible::{GradientSum, pull_back};

/// The loss of a model that predicts tokens, classes or positions.
#[derive(Debug, Clone)]
pub struct LossOutput<B: Backend> {
    /// Mean negative log-likelihood of the targets, in nats, and 0 if there are none: `[1]`.
    pub loss: Tensor<B, 1>,
    /// Number of targets whose logit is the largest: `[1]`.
    pub n_correct: Tensor<B, 1>,
    /// Number of targets: `[1]`.
    pub n_targets: Tensor<B, 1>,
    /// Largest error of the reversible stack's input, recomputed from its output: `[1]`. Only after
    /// a backward pass with a tape.
    pub drift: Option<Tensor<B, 1>>,
}

impl<B: Backend> LossOutput<B> {
    /// The loss of `n_targets` targets from the sum of their negative log-likelihoods.
    pub(super) fn of_sum(
        nll: Tensor<B, 1>,
        n_correct: Tensor<B, 1>,
        n_targets: Tensor<B, 1>,
    ) -> Self {
        Self {
            loss: nll / at_least_one(n_targets.clone()),
            n_correct,
            n_targets,
            drift: None,
        }
    }
}

impl<A: AutodiffBackend> LossOutput<A> {
    /// The same numbers, detached from the graph.
    pub fn inner(self) -> LossOutput<A::InnerBackend> {
        LossOutput {
            loss: self.loss.inner(),
            n_correct: self.n_correct.inner(),
            n_targets: self.n_targets.inner(),
            drift: self.drift.map(Tensor::inner),
        }
    }
}

impl<B: Backend> LossOutput<B> {
    /// The same numbers on another device.
    pub fn to_device(self, device: &B::Device) -> Self {
        Self {
            loss: self.loss.to_device(device),
            n_correct: self.n_correct.to_device(device),
            n_targets: self.n_targets.to_device(device),
            drift: self.drift.map(|drift| drift.to_device(device)),
        }
    }
}

/// Loss of targets, without gradients. `logits` is called with the number and the range of each
/// chunk of positions.
///
/// # Shapes
/// - targets: `[batch_size, seq_length]`
pub(super) fn loss_in_chunks<B: ReformerBackend>(
    targets: Tensor<B, 2, Int>,
    chunk_length: usize,
    logits: impl Fn(u64, Range<usize>) -> Tensor<B, 3>,
) -> LossOutput<B> {
    let n_targets = count_targets(targets.clone());
    let mut total = Total::new();
    for (chunk, range) in chunk_ranges(targets.dims()[1], Some(chunk_length)) {
        let targets = targets.clone().slice_dim(1, range.clone());
        let part = B::token_loss(logits(chunk, range), targets);
        total.add(part.nll, part.n_correct);
    }
    total.finish(n_targets)
}

/// Loss of targets, and its gradient with respect to the hidden states, which `take` receives one
/// range of positions after another; gradients of the parameters of `module` are added to the sum.
/// All gradients are multiplied by `scale`. `hidden` returns the hidden states of a range of
/// positions, `logits` computes logits from a chunk and its number.
///
/// # Shapes
/// - targets: `[batch_size, seq_length]`
/// - gradient: `[batch_size, length of the range, width of hidden]`
pub(super) fn gradients_in_chunks<B, A, M>(
    (targets, scale): (Tensor<B, 2, Int>, f64),
    chunk_length: usize,
    hidden: impl Fn(Range<usize>) -> Tensor<B, 3>,
    logits: impl Fn(u64, Tensor<A, 3>) -> Tensor<A, 3>,
    module: &M,
    sum: &mut GradientSum,
    mut take: impl FnMut(Range<usize>, Tensor<B, 3>),
) -> LossOutput<B>
where
    B: ReformerBackend,
    A: AutodiffBackend<InnerBackend = B> + ReformerBackend,
    M: AutodiffModule<A>,
{
    let n_targets = count_targets(targets.clone());
    let weight = n_targets.ones_like() * scale / at_least_one(n_targets.clone());
    let weight = weight.reshape([1, 1, 1]);
    let mut total = Total::new();
    for (chunk, range) in chunk_ranges(targets.dims()[1], Some(chunk_length)) {
        let leaf = Tensor::<A, 3>::from_inner(hidden(range.clone())).require_grad();
        let targets = Tensor::from_inner(targets.clone().slice_dim(1, range.clone()));
        let part = A::token_loss(logits(chunk, leaf.clone()), targets);
        total.add(part.nll.clone().inner(), part.n_correct.inner());
        let nll = part.nll.reshape([1, 1, 1]);
        take(range, pull_back(nll, leaf, weight.clone(), module, sum));
    }
    total.finish(n_targets)
}

/// Number of targets, without the negative ones: `[1]`.
fn count_targets<B: Backend>(targets: Tensor<B, 2, Int>) -> Tensor<B, 1> {
    targets.greater_equal_elem(0).int().sum().float()
}

/// Divisor of a sum over targets: without targets the sum is 0, and so is the mean.
fn at_least_one<B: Backend>(n_targets: Tensor<B, 1>) -> Tensor<B, 1> {
    n_targets.clamp_min(1.0)
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

    fn finish(self, n_targets: Tensor<B, 1>) -> LossOutput<B> {
        let sum = |sum: Option<Tensor<B, 1>>| sum.unwrap_or_else(|| n_targets.zeros_like());
        LossOutput::of_sum(sum(self.nll), sum(self.n_correct), n_targets.clone())
    }
}
