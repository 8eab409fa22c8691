//! The optimizer of a run.

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;

use crate::config::TrainConfig;
use crate::optimizer::clip::ClipByGlobalNorm;
use crate::optimizer::{BaseOptimizer, DecayWeights};
use crate::parallel::{Group, Sharded};

/// The optimizer of a run: clips gradients, decays weights, and then steps the parameters, or
/// a share of them if the optimizer's state is sharded over processes.
pub(crate) type RunOptimizer<M, B> = ClipByGlobalNorm<DecayWeights<Sharded<BaseOptimizer<M, B>>>>;

impl TrainConfig {
    /// The optimizer of the run, before its first step. In a group, its state is sharded.
    pub(crate) fn init_optimizer<B: AutodiffBackend, M: AutodiffModule<B>>(
        &self,
        group: Option<Group>,
    ) -> RunOptimizer<M, B> {
        let optimizer = Sharded::new(self.optimizer.init(), group);
        let optimizer = DecayWeights::new(optimizer, self.weight_decay.clone());
        ClipByGlobalNorm::new(optimizer, self.max_gradient_norm)
    }
}
