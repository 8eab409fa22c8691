//! Explains why a loss became infinite or NaN.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::run::checkpoint::Checkpoints;
use crate::run::training_loop::scalar;

/// A step whose loss or gradients are infinite or NaN.
pub(crate) struct Diverged<'a> {
    pub(crate) config: &'a TrainConfig,
    /// Training steps that were done before.
    pub(crate) step: usize,
    /// Its loss, and the norm of its gradients.
    pub(crate) numbers: [f64; 2],
    /// Its learning rate.
    pub(crate) rate: f64,
}

impl Diverged<'_> {
    /// The probable cause, a remedy, and the checkpoint to continue from. `was_broken_at_start`: whether the weights
    /// were not finite when training began.
    pub(crate) fn explain(
        &self,
        was_broken_at_start: bool,
        checkpoints: &Checkpoints,
    ) -> TrainError {
        let &Self {
            config,
            step,
            numbers: [loss, gradient_norm],
            rate,
        } = self;
        let warmup_steps = config.schedule.warmup_steps();
        let cause = match config.max_gradient_norm {
            _ if was_broken_at_start => format!(
                "the weights after step {step} are not finite: remove that checkpoint to resume from an \
                 older one, or start a new run"
            ),
            None => format!(
                "probably a step was too large: set max_gradient_norm to 1, or lower the learning \
                 rate, which is {rate:.2e} here"
            ),
            Some(_) if step < warmup_steps => format!(
                "probably the learning rate rises too fast: it is {rate:.2e} here, so warm up in \
                 more steps than {warmup_steps}"
            ),
            Some(_) => format!(
                "probably the learning rate is too high, {rate:.2e} here: lower it, or use \
                 `--mode exact` if the drift of the reversible layers grew"
            ),
        };
        // Resuming repeats each step, so a checkpoint saved just before this step leads here again.
        let mut complete = checkpoints.complete().into_iter();
        let last_good = match complete.find(|saved| *saved < step) {
            Some(step) => format!("the last good checkpoint is that of step {step}"),
            None => "there is no good checkpoint yet".to_owned(),
        };
        TrainError::Diverged {
            step,
            loss,
            gradient_norm,
            cause,
            last_good,
        }
    }
}

/// Whether all weights are finite.
pub(crate) fn is_finite_module<B: Backend, M: Module<B>>(module: &M) -> bool {
    struct Finite(bool);
    impl<B: Backend> ModuleVisitor<B> for Finite {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let largest = scalar(&param.val().abs().max());
            self.0 &= largest.is_finite();
        }
    }
    let mut finite = Finite(true);
    module.visit(&mut finite);
    finite.0
}
