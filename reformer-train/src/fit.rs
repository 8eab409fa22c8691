//! What a run does once the type of its optimizer is known.

use std::sync::Arc;

use burn::optim::{AdamConfig, AdamWConfig, Optimizer};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::checkpoint::KeepLastNCheckpoints;
use burn::train::renderer::MetricsRenderer;
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::{Interrupter, Learner, LearningComponentsMarker, SupervisedTraining};
use reformer_core::kernels::ReformerBackend;
use reformer_core::reversible::Mode;

use crate::checkpoint::{Checkpoints, ResumePoint};
use crate::clip::ClipByGlobalNorm;
use crate::config::{OptimizerConfig, TrainConfig};
use crate::error::TrainError;
use crate::loader::UpTo;
use crate::log::CsvLog;
use crate::metric::{LmMetric, Quantity};
use crate::record::{AtomicRecorder, Failure};
use crate::run::{Outcome, Run};
use crate::schedule::WarmupCosine;
use crate::screen::Screen;
use crate::task::LmTask;

/// Checkpoints that are kept. Two, because the older one is the last resort while the newer one
/// is being written.
const KEPT_CHECKPOINTS: usize = 2;
/// Rows of `metrics.csv` about training, in a run.
const TRAIN_ROWS: usize = 500;

/// Something to do with an optimizer of any type.
pub(crate) trait OptimizerUser<B: AutodiffBackend + ReformerBackend>
where
    B::InnerBackend: ReformerBackend,
{
    type Output;
    fn call<O: Optimizer<LmTask<B>, B> + 'static>(self, optimizer: O) -> Self::Output;
}

/// Hands the optimizer of a configuration, whose type depends on it, to `user`.
pub(crate) fn with_optimizer<B, U>(config: &TrainConfig, user: U) -> U::Output
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
    U: OptimizerUser<B>,
{
    let limit = config.max_gradient_norm;
    match config.optimizer {
        OptimizerConfig::Adam {
            beta_1,
            beta_2,
            epsilon,
        } => {
            let adam = AdamConfig::new()
                .with_beta_1(beta_1)
                .with_beta_2(beta_2)
                .with_epsilon(epsilon);
            user.call(ClipByGlobalNorm::new(adam.init::<B, LmTask<B>>(), limit))
        }
        OptimizerConfig::AdamW {
            beta_1,
            beta_2,
            epsilon,
            weight_decay,
        } => {
            let adam_w = AdamWConfig::new()
                .with_beta_1(beta_1)
                .with_beta_2(beta_2)
                .with_epsilon(epsilon)
                .with_weight_decay(weight_decay);
            user.call(ClipByGlobalNorm::new(adam_w.init::<B, LmTask<B>>(), limit))
        }
    }
}

/// Looks for a checkpoint that can be read.
pub(crate) struct Locate<'a, B: Backend> {
    pub(crate) checkpoints: Checkpoints,
    pub(crate) device: &'a B::Device,
}

impl<B> OptimizerUser<B> for Locate<'_, B>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    type Output = Result<ResumePoint, TrainError>;

    fn call<O: Optimizer<LmTask<B>, B> + 'static>(self, _optimizer: O) -> Self::Output {
        self.checkpoints
            .newest_readable::<B, LmTask<B>, O>(self.device)
    }
}

/// Trains.
pub(crate) struct Fit<'a, B: Backend, R> {
    pub(crate) run: &'a Run,
    pub(crate) device: &'a B::Device,
    /// Epochs that are done.
    pub(crate) epoch: usize,
    pub(crate) screen: Screen<R>,
}

impl<B, R> OptimizerUser<B> for Fit<'_, B, R>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
    R: MetricsRenderer + 'static,
{
    type Output = Result<Outcome<B::InnerBackend>, TrainError>;

    fn call<O: Optimizer<LmTask<B>, B> + 'static>(self, optimizer: O) -> Self::Output {
        let Self {
            run, device, epoch, ..
        } = self;
        let config = run.config();
        let interrupter = Interrupter::new();
        let failure = Failure::default();
        let training = self.training::<O>(&interrupter, &failure)?;
        B::seed(device, config.seed);
        let task = LmTask::new(config.model.init::<B>(device), config.seed);
        let learner = Learner::new(task, optimizer, config.schedule());
        let training = match epoch {
            0 => training,
            epoch => training.checkpoint(epoch),
        };
        let result = training.launch(learner);
        // The dashboard gives the terminal back when it is dropped.
        drop(result.renderer);
        match failure.take() {
            Some(error) => Err(error),
            None => run.finish(result.model.model, interrupter.get_message()),
        }
    }
}

/// Burn's training with our parts.
type Training<B, O> = SupervisedTraining<LearningComponentsMarker<B, WarmupCosine, LmTask<B>, O>>;

impl<B, R> Fit<'_, B, R>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
    R: MetricsRenderer + 'static,
{
    /// Everything around the learner: data, metrics, checkpoints and where progress is shown.
    fn training<O: Optimizer<LmTask<B>, B> + 'static>(
        self,
        interrupter: &Interrupter,
        failure: &Failure,
    ) -> Result<Training<B, O>, TrainError> {
        let Self { run, epoch, .. } = self;
        let config = run.config();
        let (train, valid) = run.loaders::<B>(self.device, epoch)?;
        let train = UpTo::new(Arc::new(train), config.steps as u64);
        let log = CsvLog::open(
            &run.metrics_path(),
            config.steps_until(epoch),
            config.steps.div_ceil(TRAIN_ROWS),
            failure.clone(),
            interrupter.clone(),
        )?;
        let mut training = Training::<B, O>::new(run.folder(), Arc::new(train), Arc::new(valid))
            .metrics((
                LmMetric::new(Quantity::Loss),
                LmMetric::new(Quantity::BitsPerByte),
                LmMetric::new(Quantity::Accuracy),
                LmMetric::new(Quantity::TokensPerSecond),
            ))
            .with_metric_logger(log)
            .with_file_checkpointer(AtomicRecorder::with_failure(failure.clone()))
            .with_checkpointing_strategy(KeepLastNCheckpoints::new(KEPT_CHECKPOINTS))
            .with_application_logger(None)
            .with_interrupter(interrupter.clone())
            .num_epochs(config.n_epochs());
        if config.model.reformer.mode != Mode::Plain {
            training = training.metric_train_numeric(LmMetric::new(Quantity::Drift));
        }
        Ok(match self.screen {
            Screen::Dashboard => training.renderer(TuiMetricsRendererWrapper::new(
                interrupter.clone(),
                (epoch > 0).then_some(epoch),
            )),
            Screen::Renderer(renderer) => training.renderer(renderer),
        })
    }
}
