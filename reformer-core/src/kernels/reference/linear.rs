//! Linear layers.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};

use crate::kernels::layers::{check_linear, check_linear_backward};
use crate::kernels::{LinearGradients, LinearParents};
use crate::precision::widen;

/// See [`ReformerBackend::linear_layer`](crate::kernels::ReformerBackend::linear_layer).
pub fn linear_layer<B: Backend>(
    x: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 3> {
    check_linear(x.dims(), weight.dims(), bias.as_ref().map(Tensor::dims));
    let dtype = x.dtype();
    let output = x.matmul(weight.cast(dtype).unsqueeze());
    match bias {
        Some(bias) => output + bias.cast(dtype).unsqueeze(),
        None => output,
    }
}

/// See [`ReformerBackend::linear_layer_backward`](crate::kernels::ReformerBackend::linear_layer_backward).
pub fn linear_layer_backward<B: Backend>(
    x: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    grad: Tensor<B, 3>,
    wanted: LinearParents,
    dtype: DType,
) -> LinearGradients<B> {
    check_linear_backward(x.dims(), weight.dims(), grad.dims());
    let [batch_size, seq_length, d_in] = x.dims();
    let d_out = grad.dims()[2];
    let n_rows = batch_size * seq_length;
    LinearGradients {
        x: wanted
            .x
            .then(|| grad.clone().matmul(weight.transpose().unsqueeze())),
        weight: wanted.weight.then(|| {
            let x = x.reshape([n_rows, d_in]);
            let product = x.transpose().matmul(grad.clone().reshape([n_rows, d_out]));
            product.cast(dtype)
        }),
        bias: wanted
            .bias
            .then(|| widen(grad).sum_dims_squeeze(&[0, 1]).cast(dtype)),
    }
}
