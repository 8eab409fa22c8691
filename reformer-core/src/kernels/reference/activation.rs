//! Activation functions of the feed-forward layer.

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, gelu_approximate, relu, sigmoid, silu, tanh};
use burn::tensor::backend::Backend;

use crate::kernels::Activation;
use crate::precision::widen;

/// See [`ReformerBackend::activation`](crate::kernels::ReformerBackend::activation).
pub fn activation<B: Backend>(x: Tensor<B, 3>, activation: Activation) -> Tensor<B, 3> {
    let dtype = x.dtype();
    let x = widen(x);
    let y = match activation {
        Activation::Relu => relu(x),
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => gelu_approximate(x),
        Activation::Silu => silu(x),
        Activation::Tanh => tanh(x),
        Activation::Sigmoid => sigmoid(x),
    };
    y.cast(dtype)
}

/// See [`ReformerBackend::activation_backward`](crate::kernels::ReformerBackend::activation_backward).
pub fn activation_backward<B: Backend>(
    x: Tensor<B, 3>,
    activation: Activation,
    grad: Tensor<B, 3>,
) -> Tensor<B, 3> {
    use core::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

    let dtype = x.dtype();
    let x = widen(x);
    let one_minus = |y: Tensor<B, 3>| -y + 1.0;
    let slope = match activation {
        Activation::Relu => x.greater_elem(0.0).float(),
        Activation::Gelu => {
            let density =
                (x.clone().square() * -0.5).exp() * (0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2);
            ((x.clone() * FRAC_1_SQRT_2).erf() + 1.0) * 0.5 + x * density
        }
        Activation::GeluTanh => {
            // (1 + tanh(u)) / 2 = sigmoid(2 u)
            let two_u = 2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
            let square = x.clone().square();
            let s = sigmoid((square.clone() * 0.044_715 + 1.0) * x.clone() * two_u);
            let along = (square * (3.0 * 0.044_715) + 1.0) * two_u;
            s.clone() + x * along * s.clone() * one_minus(s)
        }
        Activation::Silu => {
            let s = sigmoid(x.clone());
            s.clone() * (x * one_minus(s) + 1.0)
        }
        Activation::Tanh => one_minus(tanh(x).square()),
        Activation::Sigmoid => {
            let s = sigmoid(x);
            s.clone() * one_minus(s)
        }
    };
    (widen(grad) * slope).cast(dtype)
}

/// See [`ReformerBackend::biased_activation`](crate::kernels::ReformerBackend::biased_activation).
pub fn biased_activation<B: Backend>(
    x: Tensor<B, 3>,
    bias: Tensor<B, 1>,
    function: Activation,
) -> Tensor<B, 3> {
    let dtype = x.dtype();
    activation(widen(x) + bias.unsqueeze(), function).cast(dtype)
}

/// See [`ReformerBackend::biased_activation_backward`](crate::kernels::ReformerBackend::biased_activation_backward).
pub fn biased_activation_backward<B: Backend>(
    x: Tensor<B, 3>,
    bias: Tensor<B, 1>,
    function: Activation,
    grad: Tensor<B, 3>,
) -> (Tensor<B, 3>, Tensor<B, 1>) {
    let dtype = x.dtype();
    let along = activation_backward(widen(x) + bias.unsqueeze(), function, widen(grad));
    (along.clone().cast(dtype), along.sum_dims_squeeze(&[0, 1]))
}
