//! Cross-entropy that never holds the logits of more than a chunk.

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

impl<B: Backend> LmLoss<B> {
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

/// Number of targets, which are those not below zero: `[1]`, at least one.
pub(super) fn count_targets<B: Backend>(targets: Tensor<B, 2, Int>) -> Tensor<B, 1> {
    targets
        .greater_equal_elem(0)
        .int()
        .sum()
        .float()
        .clamp_min(1.0)
}
