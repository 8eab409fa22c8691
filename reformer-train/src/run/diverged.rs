//! Explains why a loss became infinite or NaN.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::run::checkpoint::Checkpoints;
use crate::run::training_loop::scalar;

/// A loss that is not finite, in a training step or an evaluation.
pub(crate) struct Diverged<'a> {
    pub(crate) config: &'a TrainConfig,
    pub(crate) checkpoints: &'a Checkpoints,
    /// Training steps that were done before.
    pub(crate) step: usize,
    /// Training steps after which the weights last changed, at the latest: a resumed run does not know the steps
    /// that were skipped before.
    pub(crate) last_update: usize,
    /// The learning rate.
    pub(crate) rate: f64,
    /// Whether these weights were not finite when training began.
    pub(crate) was_broken_at_start: bool,
}

impl Diverged<'_> {
    /// The error of a training step.
    pub(crate) fn of_step(&self, [loss, gradient_norm]: [f64; 2]) -> TrainError {
        TrainError::Diverged {
            step: self.step,
            loss,
            gradient_norm,
            cause: self.cause(),
            last_good: self.last_good(),
        }
    }

    /// The error of an evaluation.
    pub(crate) fn of_evaluation(&self, loss: f64) -> TrainError {
        TrainError::DivergedEvaluation {
            step: self.step,
            loss,
            cause: self.cause(),
            last_good: self.last_good(),
        }
    }

    /// The probable cause, and a remedy.
    fn cause(&self) -> String {
        let &Self {
            config, step, rate, ..
        } = self;
        let warmup_steps = config.schedule.warmup_steps();
        match config.max_gradient_norm {
            _ if self.was_broken_at_start => format!(
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
        }
    }

    /// The checkpoint to continue from: one with older weights than these, since resuming repeats each step.
    fn last_good(&self) -> String {
        let complete = self.checkpoints.complete();
        let of_these = complete.iter().find(|saved| **saved >= self.last_update);
        let has_these = |saved: usize| {
            of_these.is_some_and(|these| self.checkpoints.have_same_weights([saved, *these]))
        };
        let mut older = complete.iter().filter(|saved| **saved < self.last_update);
        match older.find(|saved| !has_these(**saved)) {
            Some(step) => format!("the last good checkpoint is that of step {step}"),
            None => "there is no good checkpoint yet".to_owned(),
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
