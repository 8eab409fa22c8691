//! Residual connections.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::kernels::Residual;

/// See [`ReformerBackend::residual`](crate::kernels::ReformerBackend::residual).
pub fn residual<B: Backend>(
    x: Tensor<B, 3>,
    parts: Vec<Tensor<B, 3>>,
    direction: Residual,
) -> Tensor<B, 3> {
    let dtype = x.dtype();
    let parts = parts.into_iter().map(|part| part.cast(dtype)).collect();
    let residual = Tensor::cat(parts, 1);
    match direction {
        Residual::Add => x + residual,
        Residual::TakeAway => x - residual,
    }
}
