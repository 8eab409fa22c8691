//! Task heads on a bidirectional stack, which predict from its hidden states.
//!
//! Masked tokens are predicted by a non-causal [`ReformerLm`](super::ReformerLm); [`MaskingConfig`]
//! masks them.

mod classifier;
mod masking;
mod question_answering;

use burn::module::{AutodiffModule, Initializer};
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

pub use classifier::{ClassificationHead, Labels, ReformerClassifier, ReformerClassifierConfig};
pub use masking::MaskingConfig;
pub use question_answering::{
    BestSpan, ReformerQuestionAnswering, ReformerQuestionAnsweringConfig, SpanLogits,
};

use super::config::ReformerConfig;
use super::loss::LossOutput;
use super::reformer::Reformer;
use crate::kernels::TrainBackend;
use crate::pass::Pass;
use crate::reversible::GradientSum;

/// A linear layer of a head: weights initialised as in the stack, biases with zeros.
fn projection<B: Backend>(
    config: &ReformerConfig,
    d_input: usize,
    d_output: usize,
    device: &B::Device,
) -> Linear<B> {
    Linear {
        weight: LinearConfig::new(d_input, d_output)
            .with_initializer(config.initializer.clone())
            .init::<B>(device)
            .weight,
        bias: Some(Initializer::Zeros.init([d_output], device)),
    }
}

/// Mean cross-entropy of rows, each a choice among its columns. Targets that are not a column are
/// ignored.
///
/// # Shapes
/// - logits: `[n_rows, n_columns]`, targets: `[n_rows]`
fn cross_entropy<B: Backend>(logits: Tensor<B, 2>, targets: Tensor<B, 1, Int>) -> LossOutput<B> {
    let [_, n_columns] = logits.dims();
    let last = n_columns as i64 - 1;
    let is_target = targets
        .clone()
        .greater_equal_elem(0)
        .bool_and(targets.clone().lower_equal_elem(last));
    let weight = is_target.float();
    let n_targets = weight.clone().sum();
    let chosen: Tensor<B, 1, Int> = logits.clone().detach().argmax(1).squeeze_dim(1);
    let n_correct = (chosen.equal(targets.clone()).float() * weight.clone()).sum();
    let columns = targets.clamp(0, last).unsqueeze_dim::<2>(1);
    let log_probs = log_softmax(logits, 1).gather(1, columns);
    let nll = (log_probs.squeeze_dim::<1>(1) * weight).sum().neg();
    LossOutput::of_sum(nll, n_correct, n_targets)
}

/// Loss of a head on a stack, and the gradients of both, multiplied by `scale`, with the memory of
/// the stack's mode.
fn head_gradients<A, H>(
    (reformer, head): (&Reformer<A>, &H),
    tokens: Tensor<A, 2, Int>,
    pass: Pass<A>,
    scale: f64,
    loss: impl FnOnce(Tensor<A, 3>) -> LossOutput<A>,
) -> (LossOutput<A::InnerBackend>, GradientsParams)
where
    A: TrainBackend,
    H: AutodiffModule<A>,
{
    let recorded = reformer.record(tokens, pass);
    let loss = loss(recorded.hidden.clone());
    let mut gradients = (loss.loss.clone() * scale).backward();
    let mut sum = GradientSum::new();
    sum.add(&mut gradients, head);
    let drift = recorded.add_gradients(reformer, &mut gradients, &mut sum);
    let loss = LossOutput {
        drift,
        ..loss.inner()
    };
    (loss, sum.into_params())
}
