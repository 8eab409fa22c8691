//! Gradients of parameters, summed where a parameter is used more than once.

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

/// A sum of gradients by parameter.
///
/// Chunks of a sequence, and layers that share weights, each give gradients of the same parameters.
/// [`GradientsParams::register`] would keep only the last one.
#[derive(Default)]
pub struct GradientSum {
    sum: GradientsParams,
}

impl GradientSum {
    /// An empty sum.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes the gradients of a module's parameters from the result of a backward pass and adds
    /// them to the sum.
    pub fn add<B: AutodiffBackend, M: AutodiffModule<B>>(
        &mut self,
        gradients: &mut B::Gradients,
        module: &M,
    ) {
        let new = GradientsParams::from_module(gradients, module);
        module.visit(&mut Adder {
            sum: &mut self.sum,
            new,
        });
    }

    /// The sum, in the form that optimizers take.
    pub fn into_params(self) -> GradientsParams {
        self.sum
    }
}

struct Adder<'a> {
    sum: &'a mut GradientsParams,
    new: GradientsParams,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Adder<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(new) = self.new.remove::<B::InnerBackend, D>(param.id) else {
            return;
        };
        let sum = match self.sum.remove::<B::InnerBackend, D>(param.id) {
            Some(sum) => sum + new,
            None => new,
        };
        self.sum.register(param.id, sum);
    }
}
