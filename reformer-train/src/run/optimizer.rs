//! The optimizer of a run.

use burn::module::AutodiffModule;
use burn::optim::{GradientsParams, LearningRate, MultiGradientsParams, Optimizer};
use burn::tensor::backend::AutodiffBackend;

use crate::config::TrainConfig;
use crate::optimizer::clip::{clip_by_global_norm, sum};
use crate::optimizer::decay::decayed;
use crate::optimizer::loss_scale::LossScale;
use crate::optimizer::{AnyRecord, DecayGroup};
use crate::parallel::{Group, Sharded};

/// The optimizer of a run: clips gradients, decays weights, and then steps the parameters, or a share of
/// them if the optimizer's state is sharded over processes. Its record includes the loss scale.
#[derive(Clone)]
pub(crate) struct RunOptimizer<M: AutodiffModule<B>, B: AutodiffBackend> {
    optimizer: Sharded<M, B>,
    max_norm: Option<f64>,
    decay: Vec<DecayGroup>,
    loss_scale: LossScale,
}

impl TrainConfig {
    /// The optimizer of the run, before its first step. In a group, its state is sharded.
    pub(crate) fn init_optimizer<B: AutodiffBackend, M: AutodiffModule<B>>(
        &self,
        group: Option<Group>,
        loss_scale: LossScale,
    ) -> RunOptimizer<M, B> {
        RunOptimizer {
            optimizer: Sharded::new(self.optimizer.init(), group),
            max_norm: self.max_gradient_norm,
            decay: self.weight_decay.clone(),
            loss_scale,
        }
    }
}

impl<M: AutodiffModule<B>, B: AutodiffBackend> Optimizer<M, B> for RunOptimizer<M, B> {
    type Record = (AnyRecord<M, B>, Option<(f64, usize)>);

    fn step(&mut self, lr: LearningRate, module: M, grads: GradientsParams) -> M {
        let grads = clip_by_global_norm(&module, grads, self.max_norm);
        let module = decayed(module, lr, &self.decay);
        self.optimizer.step(lr, module, grads)
    }

    fn step_multi(&mut self, lr: LearningRate, module: M, grads: MultiGradientsParams) -> M {
        let grads = sum(&module, grads);
        self.step(lr, module, grads)
    }

    fn to_record(&self) -> Self::Record {
        (self.optimizer.to_record(), self.loss_scale.to_record())
    }

    fn load_record(self, (record, loss_scale): Self::Record) -> Self {
        self.loss_scale.load_record(loss_scale);
        Self {
            optimizer: self.optimizer.load_record(record),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Tensor;
    use burn::tensor::backend::DeviceOps;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    use crate::optimizer::{OptimizerConfig, SgdConfig};

    type B = Autodiff<Flex>;

    #[test]
    fn gradients_are_clipped_and_weights_decay_before_the_step() {
        let device = Default::default();
        let mut layer = LinearConfig::new(1, 2).with_bias(false).init::<B>(&device);
        layer.weight = Param::from_data([[8.0, -4.0]], &device);
        let sgd = OptimizerConfig::Sgd(SgdConfig::new().with_momentum(0.0));
        let mut optimizer = RunOptimizer::<Linear<B>, B> {
            optimizer: Sharded::new(sgd.init(), None),
            max_norm: Some(1.0),
            decay: vec![DecayGroup::new(vec![], 1, 0.5)],
            loss_scale: LossScale::none(),
        };
        let gradients = || {
            let mut gradients = GradientsParams::new();
            let gradient = Tensor::<Flex, 2>::from_data([[3.0, 4.0]], &device);
            gradients.register(layer.weight.id, gradient);
            gradients
        };
        // Weights decay by 0.5 * 0.5; gradients of norm 5 become a fifth.
        let expected = [6.0 - 0.5 * 0.6, -3.0 - 0.5 * 0.8];
        let several = MultiGradientsParams {
            grads: vec![(gradients(), DeviceOps::id(&device))],
        };
        for stepped in [
            optimizer.step(0.5, layer.clone(), gradients()),
            optimizer.step_multi(0.5, layer.clone(), several),
        ] {
            let weights = stepped.weight.val().into_data();
            for (found, expected) in weights.iter::<f32>().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
            }
        }
    }
}
