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
    plus(x, Tensor::cat(parts, 1), direction)
}

/// See [`ReformerBackend::residual_at`](crate::kernels::ReformerBackend::residual_at).
pub fn residual_at<B: Backend>(
    x: Tensor<B, 3>,
    start: usize,
    part: Tensor<B, 3>,
    direction: Residual,
) -> Tensor<B, 3> {
    let [batch_size, length, d] = part.dims();
    let positions = start..start + length;
    let part = part.cast(x.dtype());
    let some = plus(x.clone().slice_dim(1, positions.clone()), part, direction);
    x.slice_assign([0..batch_size, positions, 0..d], some)
}

fn plus<B: Backend>(x: Tensor<B, 3>, residual: Tensor<B, 3>, direction: Residual) -> Tensor<B, 3> {
    match direction {
        Residual::Add => x + residual,
        Residual::Subtract => x - residual,
    }
}
