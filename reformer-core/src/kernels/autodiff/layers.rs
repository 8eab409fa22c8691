//! Position-wise layers, embeddings, the loss and rotation, each as one autodiff step.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;

use super::step::{Gradient, Saved, gradient, parent, record, run};
use crate::kernels::{Activation, LinearParents, ReformerBackend, Rotation, Seed, TokenLoss};

#[derive(Debug, Clone)]
struct TokensOfWeight<B: Backend>(Tensor<B, 2>, Tensor<B, 2, Int>);

impl<B: ReformerBackend> Saved<B, 3> for TokensOfWeight<B> {
    fn gradients(
        self,
        grad: Tensor<B, 3>,
        _: impl Fn(usize) -> bool,
    ) -> impl IntoIterator<Item = Gradient<B>> {
        [gradient(B::token_vectors_backward(self.0, self.1, grad))]
    }
}

pub(super) fn token_vectors<B: ReformerBackend, C: CheckpointStrategy>(
    weight: Tensor<Autodiff<B, C>, 2>,
    tokens: Tensor<Autodiff<B, C>, 2, Int>,
) -> Tensor<Autodiff<B, C>, 3> {
    let inputs = TokensOfWeight(weight.clone().inner(), tokens.inner());
    run(
        [parent(weight)],
        inputs,
        |TokensOfWeight(weight, tokens)| B::token_vectors(weight, tokens),
    )
}

#[derive(Debug, Clone)]
struct Targets<B: Backend>(Tensor<B, 3>, Tensor<B, 2, Int>);

impl<B: ReformerBackend> Saved<B, 1> for Targets<B> {
    fn gradients(
        self,
        grad: Tensor<B, 1>,
        _: impl Fn(usize) -> bool,
    ) -> impl IntoIterator<Item = Gradient<B>> {
        [gradient(B::token_loss_backward(self.0, self.1, grad))]
    }
}

pub(super) fn token_loss<B: ReformerBackend, C: CheckpointStrategy>(
    logits: Tensor<Autodiff<B, C>, 3>,
    targets: Tensor<Autodiff<B, C>, 2, Int>,
) -> TokenLoss<Autodiff<B, C>> {
    let (inner, targets) = (logits.clone().inner(), targets.inner());
    let loss = B::token_loss(inner.clone(), targets.clone());
    TokenLoss {
        nll: record([parent(logits)], loss.nll, || Targets(inner, targets)),
        n_correct: Tensor::from_inner(loss.n_correct),
    }
}

#[derive(Debug, Clone)]
struct Linear<B: Backend> {
    x: Tensor<B, 3>,
    /// See [`ReformerBackend::weight_beside`].
    weight: Tensor<B, 2>,
    /// That of the parameters.
    dtype: DType,
}

/// Parents are the input, the weight and the bias, if any.
impl<B: ReformerBackend> Saved<B, 3> for Linear<B> {
    fn gradients(
        self,
        grad: Tensor<B, 3>,
        is_tracked: impl Fn(usize) -> bool,
    ) -> impl IntoIterator<Item = Gradient<B>> {
        let wanted = LinearParents {
            x: is_tracked(0),
            weight: is_tracked(1),
            bias: is_tracked(2),
        };
        let of = B::linear_layer_backward(self.x, self.weight, grad, wanted, self.dtype);
        [
            of.x.and_then(gradient),
            of.weight.and_then(gradient),
            of.bias.and_then(gradient),
        ]
    }
}

pub(super) fn linear_layer<B: ReformerBackend, C: CheckpointStrategy>(
    x: Tensor<Autodiff<B, C>, 3>,
    weight: Tensor<Autodiff<B, C>, 2>,
    bias: Option<Tensor<Autodiff<B, C>, 1>>,
) -> Tensor<Autodiff<B, C>, 3> {
    let inputs = Linear {
        x: x.clone().inner(),
        weight: B::weight_beside(weight.clone().inner(), x.dtype()),
        dtype: weight.dtype(),
    };
    let inner_bias = bias.clone().map(Tensor::inner);
    let forward = |Linear { x, weight, .. }| B::linear_layer(x, weight, inner_bias);
    let (x, weight) = (parent(x), parent(weight));
    match bias {
        Some(bias) => run([x, weight, parent(bias)], inputs, forward),
        None => run([x, weight], inputs, forward),
    }
}

#[derive(Debug, Clone)]
struct Activated<B: Backend>(Tensor<B, 3>, Activation);

impl<B: ReformerBackend> Saved<B, 3> for Activated<B> {
    fn gradients(
        self,
        grad: Tensor<B, 3>,
        _: impl Fn(usize) -> bool,
    ) -> impl IntoIterator<Item = Gradient<B>> {
        [gradient(B::activation_backward(self.0, self.1, grad))]
    }
}

pub(super) fn activation<B: ReformerBackend, C: CheckpointStrategy>(
    x: Tensor<Autodiff<B, C>, 3>,
    activation: Activation,
) -> Tensor<Autodiff<B, C>, 3> {
    let inputs = Activated(x.clone().inner(), activation);
    run([parent(x)], inputs, |Activated(x, activation)| {
        B::activation(x, activation)
    })
}

#[derive(Debug, Clone)]
struct ActivatedWithBias<B: Backend>(Tensor<B, 3>, Tensor<B, 1>, Activation);

/// Parents are the input and the bias.
impl<B: ReformerBackend> Saved<B, 3> for ActivatedWithBias<B> {
    fn gradients(
        self,
        grad: Tensor<B, 3>,
        _: impl Fn(usize) -> bool,
    ) -> impl IntoIterator<Item = Gradient<B>> {
        let (x, bias) = B::biased_activation_backward(self.0, self.1, self.2, grad);
        [gradient(x), gradient(bias)]
    }
}

pub(super) fn biased_activation<B: ReformerBackend, C: CheckpointStrategy>(
    x: Tensor<Autodiff<B, C>, 3>,
    bias: Tensor<Autodiff<B, C>, 1>,
    activation: Activation,
) -> Tensor<Autodiff<B, C>, 3> {
    let inputs = ActivatedWithBias(x.clone().inner(), bias.clone().inner(), activation);
    run([parent(x), parent(bias)], inputs, |inputs| {
        let ActivatedWithBias(x, bias, activation) = inputs;
        B::biased_activation(x, bias, activation)
    })
}

#[derive(Debug, Clone)]
struct Normalized<B: Backend> {
    x: Tensor<B, 3>,
    gamma: Tensor<B, 1>,
    epsilon: f64,
    sum: Option<Tensor<B, 3>>,
}

/// Parents are the input, gamma and beta.
impl<B: ReformerBackend> Saved<B, 3> for Normalized<B> {
    const ADDS: bool = true;

    fn onto(self, sum: Gradient<B>) -> Self {
        let sum = sum.map(|sum| Tensor::from_primitive(TensorPrimitive::Float(sum)));
        Self { sum, ..self }
    }

    fn gradients(
        self,
        grad: Tensor<B, 3>,
        _: impl Fn(usize) -> bool,
    ) -> impl IntoIterator<Item = Gradient<B>> {
        let Self {
            x,
            gamma,
            epsilon,
            sum,
        } = self;
        let of = B::layer_normalization_backward(x, gamma, epsilon, grad, sum);
        [gradient(of.x), gradient(of.gamma), gradient(of.beta)]
    }
}

pub(super) fn layer_normalization<B: ReformerBackend, C: CheckpointStrategy>(
    x: Tensor<Autodiff<B, C>, 3>,
    gamma: Tensor<Autodiff<B, C>, 1>,
    beta: Tensor<Autodiff<B, C>, 1>,
    epsilon: f64,
    dtype: DType,
) -> Tensor<Autodiff<B, C>, 3> {
    let inputs = Normalized {
        x: x.clone().inner(),
        gamma: gamma.clone().inner(),
        epsilon,
        sum: None,
    };
    let inner_beta = beta.clone().inner();
    let parents = [parent(x), parent(gamma), parent(beta)];
    run(parents, inputs, |inputs| {
        B::layer_normalization(inputs.x, inputs.gamma, inner_beta, epsilon, dtype)
    })
}

#[derive(Debug, Clone, Copy)]
struct Rotated {
    base: f64,
    rotation: Rotation,
}

/// Backward rotates by the negative angle.
impl<B: ReformerBackend> Saved<B, 4> for Rotated {
    fn gradients(
        self,
        grad: Tensor<B, 4>,
        _: impl Fn(usize) -> bool,
    ) -> impl IntoIterator<Item = Gradient<B>> {
        [gradient(B::rotate(
            grad,
            self.base,
            self.rotation.inverse(),
        ))]
    }
}

pub(super) fn rotate<B: ReformerBackend, C: CheckpointStrategy>(
    heads: Tensor<Autodiff<B, C>, 4>,
    base: f64,
    rotation: Rotation,
) -> Tensor<Autodiff<B, C>, 4> {
    let inner = heads.clone().inner();
    run([parent(heads)], Rotated { base, rotation }, |_| {
        B::rotate(inner, base, rotation)
    })
}

/// The given gradients of the parents.
#[derive(Debug, Clone)]
struct Seeds<B: Backend, const D: usize, const N: usize>([Tensor<B, D>; N]);

impl<B: Backend, const D: usize, const N: usize> Saved<B, 1> for Seeds<B, D, N> {
    fn gradients(
        self,
        _: Tensor<B, 1>,
        _: impl Fn(usize) -> bool,
    ) -> impl IntoIterator<Item = Gradient<B>> {
        self.0.map(gradient)
    }
}

/// The step from tensors to a scalar, whose backward returns the given gradients. Products and
/// sums would be equivalent, with three more passes over each tensor.
pub(super) fn seed_backward<B, C, const D: usize, const N: usize>(
    seeds: [Seed<Autodiff<B, C>, D>; N],
) -> Tensor<Autodiff<B, C>, 1>
where
    B: ReformerBackend,
    C: CheckpointStrategy,
{
    let device = seeds[0].0.device();
    let gradients = seeds.each_ref().map(|(value, gradient)| {
        assert_eq!(
            value.dims(),
            gradient.dims(),
            "a gradient has the shape of what it belongs to"
        );
        (gradient.clone().inner(), value.dtype())
    });
    let parents = seeds.map(|(value, _)| parent(value));
    // Nobody reads it.
    let output = Tensor::<B, 1>::empty([1], &device);
    // Cast when the values are gone: where a sequence is large, there is no room for both.
    record(parents, output, || {
        Seeds(gradients.map(|(gradient, dtype)| gradient.cast(dtype)))
    })
}
