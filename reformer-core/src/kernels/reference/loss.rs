//! Cross-entropy of tokens.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use crate::kernels::TokenLoss;
use crate::precision::widen;

/// See [`ReformerBackend::token_loss`](crate::kernels::ReformerBackend::token_loss).
pub fn token_loss<B: Backend>(logits: Tensor<B, 3>, targets: Tensor<B, 2, Int>) -> TokenLoss<B> {
    let logits = widen(logits);
    let ignored = targets.clone().lower_elem(0);
    let predicted = logits.clone().detach().argmax(2).squeeze_dim::<2>(2);
    let n_correct = predicted.equal(targets.clone()).int().sum().float();
    let log_likelihood = log_softmax(logits, 2)
        .gather(2, targets.clamp_min(0).unsqueeze_dim(2))
        .squeeze_dim::<2>(2)
        .mask_fill(ignored, 0.0);
    TokenLoss {
        nll: -log_likelihood.sum(),
        n_correct,
    }
}

/// See [`ReformerBackend::token_loss_backward`](crate::kernels::ReformerBackend::token_loss_backward).
pub fn token_loss_backward<B: Backend>(
    logits: Tensor<B, 3>,
    targets: Tensor<B, 2, Int>,
    grad: Tensor<B, 1>,
) -> Tensor<B, 3> {
    let dtype = logits.dtype();
    let logits = widen(logits);
    let vocab_size = logits.dims()[2];
    let tokens = Tensor::<B, 1, Int>::arange(0..vocab_size as i64, &logits.device());
    let is_target = targets
        .clone()
        .unsqueeze_dim::<3>(2)
        .equal(tokens.unsqueeze())
        .float();
    let counts = targets.greater_equal_elem(0).float().unsqueeze_dim::<3>(2);
    let gradient = (softmax(logits, 2) - is_target) * counts * grad.unsqueeze();
    gradient.cast(dtype)
}
