//! Cross-entropy that never holds the logits of more than a chunk.

use burn::tensor::activation::log_softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

/// The loss of a language model.
#[derive(Debug, Clone)]
pub struct LmLoss<B: Backend> {
    /// Mean negative log-likelihood of the targets, in nats: `[1]`.
    pub loss: Tensor<B, 1>,
    /// Number of targets whose logit is the largest: `[1]`.
    pub n_correct: Tensor<B, 1>,
    /// Number of targets: `[1]`.
    pub n_targets: Tensor<B, 1>,
    /// How far the reversible stack's input, computed back from its output, was off: `[1]`. Only
    /// after a backward pass through a tape.
    pub drift: Option<Tensor<B, 1>>,
}

/// Sums over the targets of a chunk.
pub(super) struct ChunkLoss<B: Backend> {
    /// Negative log-likelihood, in nats: `[1]`.
    pub(super) nll: Tensor<B, 1>,
    /// Targets whose logit is the largest: `[1]`.
    pub(super) n_correct: Tensor<B, 1>,
}

/// Number of targets, which are those not below zero: `[1]`, at least one.
pub(super) fn count_targets<B: Backend>(targets: Tensor<B, 2, Int>) -> Tensor<B, 1> {
    targets
        .greater_equal_elem(0)
        .int()
        .sum()
        .float()
        .clamp_min(1.0)
}

/// Loss of the targets of a chunk; targets below zero are ignored.
///
/// # Shapes
/// - logits: `[batch_size, chunk_length, vocab_size]`
/// - targets: `[batch_size, chunk_length]`
pub(super) fn chunk_loss<B: Backend>(
    logits: Tensor<B, 3>,
    targets: Tensor<B, 2, Int>,
) -> ChunkLoss<B> {
    let ignored = targets.clone().lower_elem(0);
    let predicted = logits.clone().detach().argmax(2).squeeze_dim::<2>(2);
    let n_correct = predicted.equal(targets.clone()).int().sum().float();
    let log_likelihood = log_softmax(logits, 2)
        .gather(2, targets.clamp_min(0).unsqueeze_dim(2))
        .squeeze_dim::<2>(2)
        .mask_fill(ignored, 0.0);
    ChunkLoss {
        nll: -log_likelihood.sum(),
        n_correct,
    }
}
