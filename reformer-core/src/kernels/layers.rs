//! What the kernels of position-wise layers give back, and the shapes they refuse.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};

/// Which gradients of a linear layer are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearParents {
    /// That of the input.
    pub x: bool,
    /// That of the weight.
    pub weight: bool,
    /// That of the bias.
    pub bias: bool,
}

/// Gradients of a linear layer, shaped like what they belong to; those that were asked for.
#[derive(Debug, Clone)]
pub struct LinearGradients<B: Backend> {
    /// `[batch_size, seq_length, d_in]`.
    pub x: Option<Tensor<B, 3>>,
    /// `[d_in, d_out]`.
    pub weight: Option<Tensor<B, 2>>,
    /// `[d_out]`.
    pub bias: Option<Tensor<B, 1>>,
}

impl<B: Backend> LinearGradients<B> {
    /// The same with gradients of weight and bias in a type.
    pub(super) fn with_parameters_in(self, dtype: DType) -> Self {
        Self {
            x: self.x,
            weight: self.weight.map(|weight| weight.cast(dtype)),
            bias: self.bias.map(|bias| bias.cast(dtype)),
        }
    }
}

/// Which way a residual connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// Forward: the residual is added.
    Add,
    /// Back: it is taken away again.
    TakeAway,
}

/// Sums over the targets of some positions.
#[derive(Debug, Clone)]
pub struct TokenLoss<B: Backend> {
    /// Negative log-likelihood, in nats: `[1]`.
    pub nll: Tensor<B, 1>,
    /// Targets whose logit is the largest: `[1]`.
    pub n_correct: Tensor<B, 1>,
}

/// Refuses a linear layer whose parts do not fit.
pub(super) fn check_linear(x: [usize; 3], weight: [usize; 2], bias: Option<[usize; 1]>) {
    let [d_in, d_out] = weight;
    assert!(
        x[2] == d_in && bias.is_none_or(|[d]| d == d_out),
        "a linear layer with weight {weight:?} and bias {bias:?} does not fit an input {x:?}"
    );
}

/// Refuses gradients of the output of a linear layer that do not fit it.
pub(super) fn check_linear_backward(x: [usize; 3], weight: [usize; 2], grad: [usize; 3]) {
    check_linear(x, weight, None);
    assert_eq!(
        grad,
        [x[0], x[1], weight[1]],
        "gradient of a linear layer with weight {weight:?} on an input {x:?}"
    );
}
