//! Results of the kernels of position-wise layers, and their shape checks.

use burn::config::Config;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Which gradients of a linear layer are requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearParents {
    /// That of the input.
    pub x: bool,
    /// That of the weight.
    pub weight: bool,
    /// That of the bias.
    pub bias: bool,
}

/// Requested gradients of a linear layer, in the shapes of its inputs.
#[derive(Debug, Clone)]
pub struct LinearGradients<B: Backend> {
    /// `[batch_size, seq_length, d_in]`.
    pub x: Option<Tensor<B, 3>>,
    /// `[d_in, d_out]`.
    pub weight: Option<Tensor<B, 2>>,
    /// `[d_out]`.
    pub bias: Option<Tensor<B, 1>>,
}

/// Activation function between the two projections.
#[derive(Config, Debug, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `max(0, x)`.
    Relu,
    /// `x Φ(x)`.
    Gelu,
    /// `x Φ(x)` by its tanh approximation (Hugging Face's `gelu_new`).
    GeluTanh,
    /// `x sigmoid(x)`.
    Silu,
    /// `tanh(x)`.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

/// Direction of a residual connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// Forward: the residual is added.
    Add,
    /// Backward: the residual is subtracted.
    Subtract,
}

/// Sums over the targets of a range of positions.
#[derive(Debug, Clone)]
pub struct TokenLoss<B: Backend> {
    /// Negative log-likelihood, in nats: `[1]`.
    pub nll: Tensor<B, 1>,
    /// Number of targets whose logit is the largest: `[1]`.
    pub n_correct: Tensor<B, 1>,
}

/// Checks that the shapes of a linear layer match.
pub(super) fn check_linear(x: [usize; 3], weight: [usize; 2], bias: Option<[usize; 1]>) {
    let [d_in, d_out] = weight;
    assert!(
        x[2] == d_in && bias.is_none_or(|[d]| d == d_out),
        "a linear layer with weight {weight:?} and bias {bias:?} does not fit an input {x:?}"
    );
}

/// Checks that the gradient of a linear layer's output matches its shape.
pub(super) fn check_linear_backward(x: [usize; 3], weight: [usize; 2], grad: [usize; 3]) {
    check_linear(x, weight, None);
    assert_eq!(
        grad,
        [x[0], x[1], weight[1]],
        "gradient of a linear layer with weight {weight:?} on an input {x:?}"
    );
}

/// Checks that the parameters of a layer normalisation match its input.
#[cfg(any(feature = "flex", feature = "ndarray", feature = "cube"))]
pub(super) fn check_norm(x: [usize; 3], parameters: &[[usize; 1]]) {
    let fit = parameters.iter().all(|&[d]| d == x[2]);
    assert!(fit, "parameters {parameters:?} do not fit a norm of {x:?}");
}

/// Checks that the gradient of a layer normalisation's output matches its shape, and so does the gradient
/// that the input has already.
#[cfg(any(feature = "flex", feature = "ndarray", feature = "cube"))]
pub(super) fn check_norm_backward(
    x: [usize; 3],
    gamma: [usize; 1],
    grad: [usize; 3],
    sum: Option<[usize; 3]>,
) {
    check_norm(x, &[gamma]);
    assert_eq!(x, grad, "gradient of the norm of {x:?}");
    assert_eq!(x, sum.unwrap_or(x), "gradient of the input {x:?}");
}
