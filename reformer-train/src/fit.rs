//! What a run does once the type of its optimizer is known.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::optim::{AdamConfig, AdamWConfig, Optimizer};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::renderer::MetricsRenderer;
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};
use reformer_core::kernels::ReformerBackend;
use reformer_core::reversible::Mode;

use crate::checkpoint::{Best, Checkpoints, KeepBestAndLast, ResumePoint};
use crate::clip::ClipByGlobalNorm;
use crate::config::{OptimizerConfig, TrainConfig};
use crate::error::TrainError;
use crate::log::{CsvLog, Row};
use crate::loss_scale::{LossScale, WithLossScale};
use crate::metric::{LmMetric, Quantity};
use crate::parallel::{Replicas, state};
use crate::record::{AtomicRecorder, Failure};
use crate::run::{Outcome, Run, TrainOptions};
use crate::screen::Screen;
use crate::strategy::{Components, Ending, StepByStep};
use crate::task::LmTask;

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
            .newest_readable::<B, LmTask<B>, WithLossScale<O>>(self.device)
    }
}

/// Trains.
pub(crate) struct Fit<'a, B: Backend, R> {
    pub(crate) run: &'a Run,
    pub(crate) devices: &'a [B::Device],
    /// Training steps that are done.
    pub(crate) step: usize,
    pub(crate) options: TrainOptions<R>,
}

impl<B, R> OptimizerUser<B> for Fit<'_, B, R>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
    R: MetricsRenderer + 'static,
{
    type Output = Result<Outcome<B::InnerBackend>, TrainError>;

    fn call<O: Optimizer<LmTask<B>, B> + 'static>(mut self, optimizer: O) -> Self::Output {
        let (run, step, device) = (self.run, self.step, self.device());
        let config = run.config();
        let loss_scale = LossScale::new(config.model.reformer.precision);
        B::seed(device, config.seed);
        let task = LmTask::new(config.model.init::<B>(device), config.seed)
            .with_loss_scale(loss_scale.clone())
            // Weights are drawn when they are first used, and clones would draw their own.
            .fork(device);
        let replicas = self.replicas(&task)?;
        let strategy = self.strategy(replicas.clone(), loss_scale.clone())?;
        let training = self
            .training::<WithLossScale<O>>(&strategy)
            .inspect_err(|error| replicas.give_up(&error.to_string()))?;
        let optimizer = WithLossScale::new(optimizer, loss_scale);
        let learner = Learner::new(task, optimizer, config.schedule());
        let training = match step {
            0 => training,
            step => training.checkpoint(step),
        };
        let result = training.launch(learner);
        // The dashboard gives the terminal back when it is dropped.
        drop(result.renderer);
        if let Some(error) = strategy.fatal.take() {
            replicas.give_up(&error.to_string());
            return Err(error);
        }
        let ending = strategy.ending.lock();
        let ending = ending.unwrap_or_else(PoisonError::into_inner).clone();
        replicas.end(&ending.to_string());
        let best = *strategy.best.lock().unwrap_or_else(PoisonError::into_inner);
        let task = match (&ending, best) {
            (Ending::Early, Some(best)) => {
                let path = Checkpoints::of_run(run.folder()).model(best.step);
                let device = Default::default();
                let record = AtomicRecorder::load_named::<B::InnerBackend, _>(&path, &device)?;
                result.model.load_record(record)
            }
            _ => result.model,
        };
        run.finish(task.model, ending, best)
    }
}

impl<B, R> Fit<'_, B, R>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
    R: MetricsRenderer + 'static,
{
    /// The device that has the optimizer.
    fn device(&self) -> &'_ B::Device {
        &self.devices[0]
    }

    /// The devices that compute a step, once all other nodes are there.
    fn replicas(&mut self, task: &LmTask<B>) -> Result<Replicas<B>, TrainError> {
        let Some(coordinator) = self.options.coordinator.take() else {
            return Ok(Replicas::new(self.devices, None));
        };
        let state = state(task, &Checkpoints::of_run(self.run.folder()), self.step)?;
        let group =
            coordinator.gather(self.run.config(), self.step, self.devices.len(), &state)?;
        Ok(Replicas::new(self.devices, Some(group)))
    }

    /// The way through the run, with what is known from evaluations before it was resumed.
    fn strategy(
        &self,
        replicas: Replicas<B>,
        loss_scale: LossScale,
    ) -> Result<StepByStep<B>, TrainError> {
        let checkpoints = Checkpoints::of_run(self.run.folder());
        let rows = match self.step {
            0 => vec![],
            _ => self.run.rows()?,
        };
        let (best, n_worse) = best_of(&rows, self.step);
        checkpoints.remove_incomplete();
        Ok(StepByStep {
            config: self.run.config().clone(),
            device: self.device().clone(),
            replicas,
            start: self.step,
            n_worse,
            best: Arc::new(Mutex::new(best)),
            ending: Arc::new(Mutex::new(Ending::Finished)),
            troubles: Failure::default(),
            fatal: Failure::default(),
            warn: self.options.warn,
            loss_scale,
        })
    }

    /// Everything around the learner: data, metrics, checkpoints and where progress is shown.
    fn training<O: Optimizer<LmTask<B>, B> + 'static>(
        self,
        strategy: &StepByStep<B>,
    ) -> Result<SupervisedTraining<Components<B, O>>, TrainError> {
        let (run, step, device) = (self.run, self.step, self.devices.first());
        let device = device.expect("looked at before");
        let TrainOptions {
            screen,
            interrupter,
            ..
        } = self.options;
        let config = run.config();
        let rows = strategy.replicas.rows(config.batch_size)?;
        let train = run.data().train_loader::<B>(config, step, rows, device)?;
        let valid = run.data().valid_loader::<B::InnerBackend>(config, device)?;
        let log = CsvLog::open(
            &run.metrics_path(),
            step,
            config.steps.div_ceil(TRAIN_ROWS),
            strategy.troubles.clone(),
        )?;
        let keep = KeepBestAndLast {
            checkpoints: Checkpoints::of_run(run.folder()),
            n_last: config.keep_checkpoints,
            best: strategy.best.clone(),
        };
        let mut training = SupervisedTraining::new(run.folder(), train, valid)
            .metrics((
                LmMetric::new(Quantity::Loss),
                LmMetric::new(Quantity::BitsPerByte),
                LmMetric::new(Quantity::Accuracy),
                LmMetric::new(Quantity::TokensPerSecond),
            ))
            .metric_train_numeric(LmMetric::new(Quantity::LearningRate))
            .metric_train_numeric(LmMetric::new(Quantity::GradientNorm))
            .with_metric_logger(log)
            .with_file_checkpointer(AtomicRecorder::going_on(strategy.troubles.clone()))
            .with_checkpointing_strategy(keep)
            .with_application_logger(None)
            .with_interrupter(interrupter.clone())
            .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy.clone())))
            .num_epochs(config.n_epochs());
        if config.model.reformer.mode != Mode::Plain {
            training = training.metric_train_numeric(LmMetric::new(Quantity::Drift));
        }
        let epoch = step / config.steps_per_epoch;
        Ok(match screen {
            Screen::Dashboard => training.renderer(TuiMetricsRendererWrapper::new(
                interrupter.clone(),
                (epoch > 0).then_some(epoch),
            )),
            Screen::Renderer(renderer) => training.renderer(renderer),
        })
    }
}

/// The best evaluation up to a step, and how many came after it.
fn best_of(rows: &[Row], step: usize) -> (Option<Best>, usize) {
    let valid = rows
        .iter()
        .filter(|row| row.split == "valid" && row.step <= step);
    let (mut best, mut n_worse): (Option<Best>, usize) = (None, 0);
    for row in valid {
        let loss = row.loss();
        if best.is_none_or(|best| loss < best.loss) {
            let step = row.step;
            (best, n_worse) = (Some(Best { step, loss }), 0);
        } else {
            n_worse += 1;
        }
    }
    (best, n_worse)
}
