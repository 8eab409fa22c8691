//! Layer normalisation.

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};

use crate::kernels::ReformerBackend;

/// Configuration of [`LayerNorm`].
#[derive(Config, Debug, PartialEq)]
pub struct LayerNormConfig {
    /// Number of features.
    pub d_model: usize,
    /// Added to the variance.
    #[config(default = 1e-6)]
    pub epsilon: f64,
}

impl LayerNormConfig {
    /// Initialises the layer: `gamma` with ones, `beta` with zeros.
    pub fn init<B: Backend>(&self, device: &B::Device) -> LayerNorm<B> {
        LayerNorm {
            gamma: Initializer::Ones.init([self.d_model], device),
            beta: Initializer::Zeros.init([self.d_model], device),
            epsilon: self.epsilon,
        }
    }
}

/// `gamma * (x - mean) / sqrt(variance + epsilon) + beta` over the features of each position.
///
/// Like Burn's, but equal to the last bit with and without autodiff, which reversible layers rely
/// on.
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// `[d_model]`.
    pub gamma: Param<Tensor<B, 1>>,
    /// `[d_model]`.
    pub beta: Param<Tensor<B, 1>>,
    epsilon: f64,
}

impl<B: ReformerBackend> LayerNorm<B> {
    /// Normalises each position.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let dtype = x.dtype();
        self.forward_as(x, dtype)
    }

    /// The same, cast to a type.
    pub(crate) fn forward_as(&self, x: Tensor<B, 3>, dtype: DType) -> Tensor<B, 3> {
        let (gamma, beta) = (self.gamma.val(), self.beta.val());
        B::layer_normalization(x, gamma, beta, self.epsilon, dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type B = Autodiff<Flex>;

    #[test]
    fn output_and_gradients_are_those_of_burn() {
        let device = Default::default();
        let random = || Tensor::<B, 3>::random([2, 7, 10], Distribution::Default, &device);
        let (x, weight) = (random() * 3 + 1, random());
        let row = || random().slice([0..1, 0..1, 0..10]).reshape([10]);
        let (gamma, beta) = (row(), row());

        let mut burn = burn::nn::LayerNormConfig::new(10)
            .with_epsilon(1e-6)
            .init::<B>(&device);
        burn.gamma = Param::from_tensor(gamma.clone());
        burn.beta = Some(Param::from_tensor(beta.clone()));
        let ours = LayerNorm {
            gamma: Param::from_tensor(gamma),
            beta: Param::from_tensor(beta),
            epsilon: 1e-6,
        };
        let run = |forward: &dyn Fn(Tensor<B, 3>) -> Tensor<B, 3>,
                   gamma: Tensor<B, 1>,
                   beta: Tensor<B, 1>| {
            let x = x.clone().require_grad();
            let output = forward(x.clone());
            let gradients = (output.clone() * weight.clone()).sum().backward();
            [
                output.into_data(),
                x.grad(&gradients).expect("used").into_data(),
                gamma.grad(&gradients).expect("used").into_data(),
                beta.grad(&gradients).expect("used").into_data(),
            ]
        };
        let burn_beta = burn.beta.as_ref().expect("set above").val();
        let expected = run(&|x| burn.forward(x), burn.gamma.val(), burn_beta);
        let found = run(&|x| ours.forward(x), ours.gamma.val(), ours.beta.val());
        for (found, expected) in found.iter().zip(&expected) {
            found.assert_approx_eq::<f32>(expected, Tolerance::relative(1e-4).set_absolute(1e-5));
        }
    }
}
