//! Gradient clipping by the global norm.

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::{GradientsParams, MultiGradientsParams};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

/// Guards the division by the norm.
const EPSILON: f64 = 1e-6;

/// The gradients of a module, all times the same factor if their global norm exceeds a limit, so that their
/// direction stays. (Burn's own clipping treats each tensor separately.)
///
/// Nothing is read back from the device.
pub(crate) fn clip_by_global_norm<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: &M,
    gradients: GradientsParams,
    max_norm: Option<f64>,
) -> GradientsParams {
    let Some(max_norm) = max_norm else {
        return gradients;
    };
    let Some(norm) = global_norm(module, &gradients) else {
        return gradients;
    };
    let factor = (norm + EPSILON).recip() * max_norm;
    scaled(module, gradients, factor.clamp_max(1.0))
}

/// The global norm of all gradients of a module, `[1]`; `None` if there are none.
pub(crate) fn global_norm<B: AutodiffBackend, M: AutodiffModule<B>>(
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

/// The sum of the gradients of several devices.
pub(crate) fn sum<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: &M,
    gradients: MultiGradientsParams,
) -> GradientsParams {
    let mut sum = Sum {
        from: gradients,
        into: GradientsParams::new(),
    };
    module.visit(&mut sum);
    sum.into
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
    use burn::nn::LinearConfig;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type B = Autodiff<Flex>;

    /// The clipped gradients of weights and bias, whose norms are 5 and 12: their global norm is 13.
    fn clipped(max_norm: Option<f64>) -> Vec<f32> {
        let device = Default::default();
        let linear = LinearConfig::new(1, 2).init::<B>(&device);
        let (weight, bias) = (linear.weight.id, linear.bias.as_ref().unwrap().id);
        let mut gradients = GradientsParams::new();
        gradients.register(weight, Tensor::<Flex, 2>::from_data([[3.0, 4.0]], &device));
        gradients.register(bias, Tensor::<Flex, 1>::from_data([0.0, 12.0], &device));
        let gradients = clip_by_global_norm(&linear, gradients, max_norm);
        let weight = gradients.get::<Flex, 2>(weight).unwrap().into_data();
        let bias = gradients.get::<Flex, 1>(bias).unwrap().into_data();
        weight.iter::<f32>().chain(bias.iter::<f32>()).collect()
    }

    fn assert_close(actual: Vec<f32>, expected: [f32; 4]) {
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() < 1e-5, "{actual:?} instead of {expected:?}");
        }
    }

    #[test]
    fn norm_above_the_limit_becomes_the_limit() {
        assert_close(clipped(Some(6.5)), [1.5, 2.0, 0.0, 6.0]);
    }

    #[test]
    fn norm_below_the_limit_stays() {
        assert_close(clipped(Some(14.0)), [3.0, 4.0, 0.0, 12.0]);
        assert_close(clipped(None), [3.0, 4.0, 0.0, 12.0]);
    }
}
