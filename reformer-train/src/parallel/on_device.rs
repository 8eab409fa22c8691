//! Gradients in the memory of a GPU.

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Tensor};
use reformer_core::kernels::{ReformerBackend, TrainBackend};

use super::engine::DeviceBuffer;

/// Addresses of all gradients in the memory of a GPU, if all are there.
pub(super) fn found<B, M>(module: &M, gradients: &GradientsParams) -> Option<Vec<DeviceBuffer>>
where
    B: TrainBackend,
    M: AutodiffModule<B>,
{
    let mut find = Find {
        gradients,
        found: Some(Vec::new()),
    };
    module.visit(&mut find);
    find.found
}

struct Find<'a> {
    gradients: &'a GradientsParams,
    found: Option<Vec<DeviceBuffer>>,
}

impl<B: TrainBackend> ModuleVisitor<B> for Find<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let gradient = self.gradients.get::<B::InnerBackend, D>(param.id);
        if let (Some(gradient), Some(found)) = (gradient, &mut self.found) {
            let n_values = gradient.shape().num_elements();
            let is_half = gradient.dtype() == DType::BF16;
            match B::InnerBackend::device_address(&gradient) {
                Some(place) => found.push(DeviceBuffer {
                    device: place.device,
                    address: place.address,
                    n_values,
                    is_half,
                }),
                None => self.found = None,
            }
        }
    }
}

/// Gradients with numbers of another type.
pub(super) fn cast<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: &M,
    gradients: GradientsParams,
    dtype: DType,
) -> GradientsParams {
    let mut cast = Cast { gradients, dtype };
    module.visit(&mut cast);
    cast.gradients
}

struct Cast {
    gradients: GradientsParams,
    dtype: DType,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Cast {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.remove::<B::InnerBackend, D>(param.id) {
            self.gradients.register(param.id, gradient.cast(self.dtype));
        }
    }
}
