//! A run from a step to its end, through Burn's learner.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::backend::AutodiffBackend;
use burn::train::renderer::MetricsRenderer;
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};
use reformer_core::attention::AttentionKind;
use reformer_core::kernels::ReformerBackend;

use crate::checkpoint::{Checkpoints, KeepBestAndLast};
use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::log::CsvLog;
use crate::loss_scale::{LossScale, WithLossScale};
use crate::metric::{LmMetric, Quantity};
use crate::model::{Model, ModelConfig};
use crate::parallel::{Replicas, state};
use crate::record::{AtomicRecorder, Failure};
use crate::report::Phase;
use crate::run::{Outcome, Run, Standing, TrainOptions, load_weights};
use crate::samples::Samples;
use crate::screen::Screen;
use crate::strategy::{Components, Ending, StepByStep};
use crate::task::Task;

/// Rows of `metrics.csv` about training, in a run.
const TRAIN_ROWS: usize = 500;

/// Trains.
pub(crate) struct Fit<'a, B: AutodiffBackend, R> {
    pub(crate) run: &'a Run,
    pub(crate) devices: &'a [B::Device],
    /// Training steps that are done.
    pub(crate) step: usize,
    pub(crate) options: TrainOptions<B, R>,
}

impl<B, R> Fit<'_, B, R>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
    R: MetricsRenderer + 'static,
{
    pub(crate) fn run(mut self) -> Result<Outcome<B::InnerBackend>, TrainError> {
        let Self {
            run, devices, step, ..
        } = self;
        let (config, device) = (run.config(), &devices[0]);
        let loss_scale = LossScale::new(config.model.reformer().precision);
        B::seed(device, config.seed);
        let task = Task::new(self.model()?, config.seed)
            .with_parts(config.accumulate)
            .with_context(config.window_length)
            .with_loss_scale(loss_scale.clone())
            // Weights are drawn when they are first used, and clones would draw their own.
            .fork(device);
        let replicas = self.replicas(&task)?;
        let give_up = |error: &TrainError| replicas.give_up(&error.to_string());
        let strategy = self.strategy(replicas.clone(), loss_scale.clone());
        let strategy = strategy.inspect_err(give_up)?;
        let training = self.training(&strategy).inspect_err(give_up)?;
        let optimizer = WithLossScale::new(config.init_optimizer(), loss_scale);
        let learner = Learner::new(task, optimizer, config.init_schedule());
        let training = match step {
            0 => training,
            step => training.checkpoint(step),
        };
        let result = training.launch(learner);
        // The dashboard gives the terminal back when it is dropped.
        drop(result.renderer);
        let (step, ending) = strategy.end();
        let phase = match ending {
            Ending::Finished | Ending::Early => Phase::Finished,
            Ending::Interrupted(_) => Phase::Stopped,
        };
        if let Err(error) = run.page::<B>(device).write(phase, step) {
            (strategy.warn)(&error);
        }
        if let Some(error) = strategy.fatal.take() {
            replicas.give_up(&error.to_string());
            return Err(error);
        }
        replicas.end(&ending.to_string());
        let best = *strategy.best.lock().unwrap_or_else(PoisonError::into_inner);
        let task = match (&ending, best) {
            (Ending::Early, Some(best)) => {
                let path = Checkpoints::of_run(run.folder()).model(best.step);
                AtomicRecorder::load_module(&path, result.model, &run.owner(), device)?
            }
            _ => result.model,
        };
        run.finish(task.model, ending, best)
    }

    /// The model as the run begins. Where it goes on, its weights are read later.
    fn model(&self) -> Result<Model<B>, TrainError> {
        let device = &self.devices[0];
        let model = self.run.config().model.init::<B>(device);
        match &self.options.start_from {
            Some(folder) if self.step == 0 => load_weights(folder, model, device),
            _ => Ok(model),
        }
    }

    /// The devices that compute a step, once all other nodes are there.
    fn replicas(&mut self, task: &Task<B>) -> Result<Replicas<B>, TrainError> {
        let Some(coordinator) = self.options.coordinator.take() else {
            return Ok(Replicas::new(self.devices, None));
        };
        let state = state(task, &Checkpoints::of_run(self.run.folder()), self.step)?;
        let group = coordinator.gather(
            self.run.config(),
            self.step,
            self.devices.len(),
            &state,
            &self.options.interrupter,
        )?;
        Ok(Replicas::new(self.devices, Some(group)))
    }

    /// The way through the run, with what is known from evaluations before it was resumed.
    fn strategy(
        &self,
        replicas: Replicas<B>,
        loss_scale: LossScale,
    ) -> Result<StepByStep<B>, TrainError> {
        let folder = self.run.folder();
        let rows = match self.step {
            0 => vec![],
            _ => self.run.rows_if_any()?,
        };
        let standing = Standing::of(&rows, self.step);
        let config = self.run.config();
        let is_evaluated = standing.last == Some(self.step);
        let ends_epoch =
            self.step.is_multiple_of(config.steps_per_epoch) || self.step >= config.steps;
        Ok(StepByStep {
            config: config.clone(),
            device: self.devices[0].clone(),
            replicas,
            start: self.step,
            owes_evaluation: self.step > 0 && ends_epoch && !is_evaluated,
            n_worse: standing.n_worse,
            best: Arc::new(Mutex::new(standing.best)),
            end: Arc::new(Mutex::new((self.step, Ending::Finished))),
            checkpoints: Checkpoints::of_run(folder),
            samples: Samples::of_run(folder),
            write: self.options.write.clone(),
            troubles: Failure::default(),
            fatal: Failure::default(),
            warn: self.options.warn,
            loss_scale,
        })
    }

    /// Everything around the learner: data, metrics, checkpoints and where progress is shown. What is
    /// going to be done again is cut off, once nothing else can fail.
    fn training(
        self,
        strategy: &StepByStep<B>,
    ) -> Result<SupervisedTraining<Components<B>>, TrainError> {
        let Self {
            run, devices, step, ..
        } = self;
        let device = &devices[0];
        let TrainOptions {
            screen,
            interrupter,
            ..
        } = self.options;
        let config = run.config();
        let rows = strategy.replicas.rows(config.batch_size)?;
        let train = run.data().train_loader::<B>(config, step, rows, device)?;
        let valid = run.data().valid_loader::<B::InnerBackend>(config, device)?;
        run.begin()?;
        strategy.checkpoints.remove_incomplete(usize::MAX);
        // An evaluation that is owed writes its sample again.
        let n_evaluated = step - usize::from(strategy.owes_evaluation);
        strategy.samples.rewind(n_evaluated)?;
        let log = CsvLog::open(
            run.page::<B>(device),
            step,
            [
                config.steps.div_ceil(TRAIN_ROWS),
                config.checkpoint_every.unwrap_or(config.steps_per_epoch),
            ],
            strategy.troubles.clone(),
        )?;
        let keep = KeepBestAndLast {
            checkpoints: Checkpoints::of_run(run.folder()),
            n_last: config.keep_checkpoints,
            best: strategy.best.clone(),
            newest: step,
        };
        let recorder = AtomicRecorder::going_on(strategy.troubles.clone()).of(run.owner());
        let training = SupervisedTraining::new(run.folder(), train, valid)
            .with_metric_logger(log)
            .with_file_checkpointer(recorder)
            .with_checkpointing_strategy(keep)
            .with_application_logger(None)
            .with_interrupter(interrupter.clone())
            .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy.clone())))
            .num_epochs(config.n_epochs());
        let training = with_metrics(training, config);
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

/// What there is to measure with this configuration.
fn with_metrics<B>(
    training: SupervisedTraining<Components<B>>,
    config: &TrainConfig,
) -> SupervisedTraining<Components<B>>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    // What is measured is found again by its name.
    let metric = |quantity: Quantity| match quantity.is_measured() {
        true => LmMetric::new(quantity),
        false => LmMetric::labelled(quantity, quantity.label(&config.data)),
    };
    let both = [
        Quantity::Loss,
        Quantity::Bits,
        Quantity::Accuracy,
        Quantity::TokensPerSecond,
    ];
    let mut of_train = vec![Quantity::LearningRate, Quantity::GradientNorm];
    if config.model.reformer().mode.is_recomputed() {
        of_train.push(Quantity::Drift);
    }
    let has_lsh = match &config.model {
        // Nobody looks at its hashing.
        ModelConfig::Seq2Seq(_) => false,
        model => model
            .reformer()
            .kinds()
            .any(|kind| kind == AttentionKind::Lsh),
    };
    let of_valid: &[Quantity] = match has_lsh {
        true => &[
            Quantity::Coverage,
            Quantity::BucketEntropy,
            Quantity::LargestBucket,
        ],
        false => &[],
    };
    let training = both
        .iter()
        .chain(&of_train)
        .fold(training, |training, &quantity| {
            training.metric_train_numeric(metric(quantity))
        });
    both.iter()
        .chain(of_valid)
        .fold(training, |training, &quantity| {
            training.metric_valid_numeric(metric(quantity))
        })
}
