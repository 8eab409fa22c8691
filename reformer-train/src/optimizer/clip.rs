//! Gradient clipping by the global norm.

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::LearningRate;
use burn::optim::{GradientsParams, MultiGradientsParams, Optimizer};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

/// Guards the division by the norm.
const EPSILON: f64 = 1e-6;

/// An optimizer whose gradients are scaled down together when their global norm is too large, so
/// that their direction stays. (Burn's own clipping treats each tensor separately.)
///
/// Nothing is read back from the device.
#[derive(Debug, Clone)]
pub struct ClipByGlobalNorm<O> {
    optimizer: O,
    max_norm: Option<f64>,
}

impl<O> ClipByGlobalNorm<O> {
    /// Wraps an optimizer; without a limit, gradients stay as they are.
    pub fn new(optimizer: O, max_norm: Option<f64>) -> Self {
        Self {
            optimizer,
            max_norm,
        }
    }

    fn clipped<B: AutodiffBackend, M: AutodiffModule<B>>(
        &self,
        module: &M,
        gradients: GradientsParams,
    ) -> GradientsParams {
        let Some(max_norm) = self.max_norm else {
            return gradients;
        };
        let Some(norm) = global_norm(module, &gradients) else {
            return gradients;
        };
        let factor = (norm + EPSILON).recip() * max_norm;
        scaled(module, gradients, factor.clamp_max(1.0))
    }
}

/// The global norm of all gradients of a module, `[1]`; `None` if there are none.
pub fn global_norm<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: &M,
    gradients: &GradientsParams,
) -> Option<Tensor<B::InnerBackend, 1>> {
    let mut squares = SumOfSquares::<B> {
        gradients,
        sum: None,
    };
    module.visit(&mut squares);
    squares.sum.map(Tensor::sqrt)
}

/// The gradients of a module times a factor, `[1]`.
pub(crate) fn scaled<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: &M,
    mut gradients: GradientsParams,
    factor: Tensor<B::InnerBackend, 1>,
) -> GradientsParams {
    module.visit(&mut Scale::<B> {
        gradients: &mut gradients,
        factor,
    });
    gradients
}

impl<O, M, B> Optimizer<M, B> for ClipByGlobalNorm<O>
where
    O: Optimizer<M, B>,
    M: AutodiffModule<B>,
    B: AutodiffBackend,
{
    type Record = O::Record;

    fn step(&mut self, lr: LearningRate, module: M, grads: GradientsParams) -> M {
        let grads = self.clipped(&module, grads);
        self.optimizer.step(lr, module, grads)
    }

    fn step_multi(&mut self, lr: LearningRate, module: M, grads: MultiGradientsParams) -> M {
        let mut sum = Sum {
            from: grads,
            into: GradientsParams::new(),
        };
        module.visit(&mut sum);
        let grads = self.clipped(&module, sum.into);
        self.optimizer.step(lr, module, grads)
    }

    fn to_record(&self) -> Self::Record {
        self.optimizer.to_record()
    }

    fn load_record(self, record: Self::Record) -> Self {
        Self {
            optimizer: self.optimizer.load_record(record),
            ..self
        }
    }
}

struct SumOfSquares<'a, B: AutodiffBackend> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for SumOfSquares<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(param.id) {
            let squares = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => {
                    let device = sum.device();
                    sum + squares.to_device(&device)
                }
                None => squares,
            });
        }
    }
}

struct Scale<'a, B: AutodiffBackend> {
    gradients: &'a mut GradientsParams,
    factor: Tensor<B::InnerBackend, 1>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Scale<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.remove::<B::InnerBackend, D>(param.id) {
            let factor = self.factor.clone().to_device(&gradient.device());
            let scaled = gradient * factor.reshape([1; D]);
            self.gradients.register(param.id, scaled);
        }
    }
}

/// Adds the gradients of several devices.
struct Sum {
    from: MultiGradientsParams,
    into: GradientsParams,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Sum {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some((gradient, _)) = self.from.remove::<B::InnerBackend, D>(param.id) {
            self.into.register(param.id, gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::SgdConfig;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type B = Autodiff<Flex>;

    /// The change of the weights and of the bias in a step with gradients of norm 3, 4 and 12.
    fn change(max_norm: Option<f64>) -> Vec<f32> {
        let device = Default::default();
        let linear = LinearConfig::new(1, 2).init::<B>(&device);
        let before = values(&linear);
        let mut gradients = GradientsParams::new();
        let weight = Tensor::<Flex, 2>::from_data([[3.0, 4.0]], &device);
        gradients.register(linear.weight.id, weight);
        let bias = linear.bias.as_ref().expect("by default there is one");
        gradients.register(bias.id, Tensor::<Flex, 1>::from_data([0.0, 12.0], &device));
        let mut optimizer = ClipByGlobalNorm::new(SgdConfig::new().init(), max_norm);
        let linear = optimizer.step(1.0, linear, gradients);
        let after = values(&linear);
        before.iter().zip(after).map(|(b, a)| b - a).collect()
    }

    fn values(linear: &Linear<B>) -> Vec<f32> {
        let mut values = linear.weight.val().into_data().to_vec::<f32>().unwrap();
        let bias = linear.bias.as_ref().map(|bias| bias.val().into_data());
        values.extend(bias.unwrap().to_vec::<f32>().unwrap());
        values
    }

    fn assert_close(actual: Vec<f32>, expected: [f32; 4]) {
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() < 1e-5, "{actual:?} instead of {expected:?}");
        }
    }

    #[test]
    fn norm_above_the_limit_becomes_the_limit() {
        assert_close(change(Some(6.5)), [1.5, 2.0, 0.0, 6.0]);
    }

    #[test]
    fn norm_below_the_limit_stays() {
        assert_close(change(Some(14.0)), [3.0, 4.0, 0.0, 12.0]);
        assert_close(change(None), [3.0, 4.0, 0.0, 12.0]);
    }
}
