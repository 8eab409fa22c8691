//! Layer normalisation.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorPrimitive};

use crate::kernels::LayerNormGradients;
use crate::precision::widen;

/// See [`ReformerBackend::layer_normalization`](crate::kernels::ReformerBackend::layer_normalization).
pub fn layer_normalization<B: Backend>(
    x: Tensor<B, 3>,
    gamma: Tensor<B, 1>,
    beta: Tensor<B, 1>,
    epsilon: f64,
    dtype: DType,
) -> Tensor<B, 3> {
    let output = Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(B::layer_norm(
        x.into_primitive().tensor(),
        gamma.into_primitive().tensor(),
        Some(beta.into_primitive().tensor()),
        epsilon,
    )));
    output.cast(dtype)
}

/// See [`ReformerBackend::layer_normalization_backward`](crate::kernels::ReformerBackend::layer_normalization_backward).
///
/// With `n` the normalised input and `g = gamma * grad`:
/// `dx = (g - mean(g) - n * mean(g * n)) / deviation`.
pub fn layer_normalization_backward<B: Backend>(
    x: Tensor<B, 3>,
    gamma: Tensor<B, 1>,
    epsilon: f64,
    grad: Tensor<B, 3>,
    sum: Option<Tensor<B, 3>>,
) -> LayerNormGradients<B> {
    let grad = if x.dtype() == DType::F32 {
        widen(grad)
    } else {
        grad
    };
    let centered = x.clone() - x.mean_dim(2);
    let deviation = (centered.clone().square().mean_dim(2) + epsilon).sqrt();
    let normalized = centered / deviation.clone();
    let of_normalized = grad.clone() * gamma.unsqueeze();
    let along = (of_normalized.clone() * normalized.clone()).mean_dim(2);
    let x = (of_normalized.clone() - of_normalized.mean_dim(2) - normalized.clone() * along)
        / deviation;
    LayerNormGradients {
        x: match sum {
            Some(sum) => sum + x,
            None => x,
        },
        gamma: (grad.clone() * normalized).sum_dims_squeeze(&[0, 1]),
        beta: grad.sum_dims_squeeze(&[0, 1]),
    }
}
