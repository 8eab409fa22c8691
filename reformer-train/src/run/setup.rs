//! Set-up of a run for Burn's learner, and training to its end.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::train::renderer::MetricsRenderer;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};
use reformer_core::attention::AttentionKind;
use reformer_core::kernels::TrainBackend;

use crate::config::TrainConfig;
use crate::data::Data;
use crate::data::tokens::for_members;
use crate::error::TrainError;
use crate::metrics::{Quantity, StepMetric};
use crate::optimizer::loss_scale::LossScale;
use crate::parallel::Replicas;
use crate::record::{AtomicRecorder, Failure};
use crate::report::Phase;
use crate::report::log::CsvLog;
use crate::report::samples::Samples;
use crate::report::tensorboard::EventLog;
use crate::run::checkpoint::{Best, Checkpoints, KeepBestAndLast};
use crate::run::member::{RunMessage, record, send_run, state};
use crate::run::optimizer::RunOptimizer;
use crate::run::training_loop::{Components, Ending, NoLog, TrainingLoop};
use crate::run::{Run, Standing, TrainOptions};
use crate::screen::Screen;
use crate::screen::dashboard;
use crate::task::Task;
use crate::task::model::ModelConfig;
use crate::task::run_model::RunModel;

/// Rows of `metrics.csv` about training, in a run.
const TRAIN_ROWS: usize = 500;

/// Whether this process owns the run's folder.
pub(crate) enum Place<'a> {
    /// This process owns the run.
    Home(&'a Run),
    /// Another process owns it and sent the state to start from.
    Elsewhere(Box<[Vec<u8>; 3]>),
}

/// Trains a run.
pub(crate) struct Fit<'a, B: TrainBackend, M: RunModel<B>, R> {
    pub(crate) place: Place<'a>,
    pub(crate) config: &'a TrainConfig,
    pub(crate) data: &'a Data,
    /// The best evaluation and the evaluations since.
    pub(crate) standing: Standing,
    pub(crate) devices: &'a [B::Device],
    /// Training steps that are done.
    pub(crate) step: usize,
    pub(crate) options: TrainOptions<B, R, M::InnerModule>,
}

/// The result of a training.
pub(crate) struct Fitted<B: Backend, M> {
    pub(crate) task: Task<B, M>,
    pub(crate) ending: Ending,
    pub(crate) best: Option<Best>,
}

impl<B, M, R> Fit<'_, B, M, R>
where
    B: TrainBackend,
    M: RunModel<B>,
    R: MetricsRenderer + 'static,
{
    pub(crate) fn run(mut self) -> Result<Fitted<B::InnerBackend, M::InnerModule>, TrainError> {
        let (config, device, step) = (self.config, &self.devices[0], self.step);
        let loss_scale = LossScale::new(config.model.precision());
        B::seed(device, config.seed);
        let task = Task::new(self.model()?, config.seed)
            .with_parts(config.accumulate)
            .with_context(config.window_length)
            .with_loss_scale(loss_scale.clone())
            // Weights are initialised at first use, and clones would draw different ones.
            .fork(device);
        let sharing = self.options.sharing;
        let shared = self.options.group.clone().filter(|_| sharing.optimizer);
        let optimizer = config.init_optimizer(shared, loss_scale.clone());
        let learner = self.learner(task, optimizer)?;
        let strategy = self.strategy(loss_scale)?;
        let home = match &self.place {
            Place::Home(run) => Some(*run),
            Place::Elsewhere(_) => None,
        };
        let training = match (home, self.training(&strategy)?) {
            (Some(_), training) if step > 0 => training.checkpoint(step),
            (_, training) => training,
        };
        let result = training.launch(learner);
        // The dashboard restores the terminal when it is dropped.
        drop(result.renderer);
        let (step, ending) = strategy.end();
        let phase = match ending {
            Ending::Finished | Ending::Early => Phase::Finished,
            Ending::Interrupted(_) => Phase::Stopped,
        };
        if let Some(run) = home
            && let Err(error) = run.page::<B>(device).write(phase, step)
        {
            (strategy.warn)(&error);
        }
        if let Some(error) = strategy.fatal.take() {
            return Err(error);
        }
        let best = *strategy.best.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Fitted {
            task: result.model,
            ending,
            best,
        })
    }

    /// The model at the start of the run. Of a resumed run, weights are read later; other processes receive
    /// theirs from the first one.
    fn model(&self) -> Result<M, TrainError> {
        let device = &self.devices[0];
        match &self.place {
            Place::Home(run) if self.step == 0 => run.first_model(device),
            _ => M::init(&self.config.model, device),
        }
    }

    /// The learner before the first step of this process. In the process that owns the run, Burn reads the
    /// checkpoint; the other processes have received its parts.
    fn learner(
        &mut self,
        task: Task<B, M>,
        optimizer: RunOptimizer<Task<B, M>, B>,
    ) -> Result<Learner<Components<B, M>>, TrainError> {
        let schedule = self.config.init_schedule();
        let device = &self.devices[0];
        let run = match &mut self.place {
            Place::Home(run) => run,
            Place::Elsewhere(state) => {
                let [model, optim, scheduler] = std::mem::take(&mut **state);
                let mut learner = Learner::new(task, optimizer, schedule);
                if let Some(state) = record::<B, _>(model, device)? {
                    learner.load_model(state);
                }
                if let Some(state) = record::<B, _>(optim, device)? {
                    learner.load_optim(state);
                }
                if let Some(state) = record::<B, _>(scheduler, device)? {
                    learner.load_scheduler(state);
                }
                return Ok(learner);
            }
        };
        if let Some(group) = &self.options.group {
            let message = RunMessage {
                config: TrainConfig {
                    data: for_members(&self.config.data, run.folder()),
                    ..self.config.clone()
                },
                step: self.step,
                standing: self.standing,
                sharing: self.options.sharing,
            };
            let checkpoints = Checkpoints::of_run(run.folder());
            let state = state(&task, &checkpoints, self.step)?;
            send_run(group, Some((&message, state)))?;
        }
        Ok(Learner::new(task, optimizer, schedule))
    }

    /// The training loop, with the state of evaluations before the run was resumed.
    fn strategy(&self, loss_scale: LossScale) -> Result<TrainingLoop<B, M>, TrainError> {
        let (config, standing, options) = (self.config, &self.standing, &self.options);
        let replicas = Replicas::new(
            self.devices,
            options.group.clone(),
            options.sharing,
            &options.interrupter,
        )?;
        let folder = self.folder();
        let is_evaluated = standing.last == Some(self.step);
        let ends_epoch =
            self.step.is_multiple_of(config.steps_per_epoch) || self.step >= config.steps;
        Ok(TrainingLoop {
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
            write: options.write.clone(),
            warnings: Failure::default(),
            fatal: Failure::default(),
            warn: options.warn,
            shares_optimizer: options.sharing.optimizer,
            loss_scale,
        })
    }

    /// The run's folder, which only the process that owns the run reads and writes.
    fn folder(&self) -> &Path {
        match &self.place {
            Place::Home(run) => run.folder(),
            Place::Elsewhere(_) => Path::new(""),
        }
    }

    /// The learner's surroundings: data, metrics, checkpoints and progress display.
    fn training(
        self,
        strategy: &TrainingLoop<B, M>,
    ) -> Result<SupervisedTraining<Components<B, M>>, TrainError> {
        let (config, step, device) = (self.config, self.step, &self.devices[0]);
        let replicas = &strategy.replicas;
        let rows = replicas.rows(config.batch_size)?;
        let train = self.data.train_loader::<B>(config, step, rows, device)?;
        let valid = self.data.valid_loader::<B::InnerBackend>(config, device)?;
        let rows = replicas.evaluated_rows(valid.num_items());
        let valid = match replicas.group() {
            Some(_) => valid.slice(rows.start, rows.end),
            None => valid,
        };
        let interrupter = &self.options.interrupter;
        let training = SupervisedTraining::new(self.folder(), train, valid)
            .with_application_logger(None)
            .with_interrupter(interrupter.clone())
            .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy.clone())))
            .num_epochs(config.n_epochs());
        let training = match self.place {
            Place::Home(run) => {
                let has_events = self.options.tensorboard || EventLog::is_in(run.folder());
                with_files(training, run, step, strategy, device, has_events)?
            }
            Place::Elsewhere(_) => training.with_metric_logger(NoLog),
        };
        let n_epochs_done = step / config.steps_per_epoch;
        Ok(match self.options.screen {
            Screen::Dashboard => {
                training.renderer(dashboard::open(interrupter.clone(), n_epochs_done))
            }
            Screen::Renderer(renderer) => training.renderer(renderer),
        })
    }
}

/// Writes the files of a run's folder. Rows of steps that will be repeated are cut off, after everything
/// else that can fail.
fn with_files<B: TrainBackend, M: RunModel<B>>(
    training: SupervisedTraining<Components<B, M>>,
    run: &Run,
    step: usize,
    strategy: &TrainingLoop<B, M>,
    device: &B::Device,
    has_events: bool,
) -> Result<SupervisedTraining<Components<B, M>>, TrainError> {
    let config = run.config();
    strategy.checkpoints.remove_incomplete(usize::MAX);
    // An evaluation that is still due writes its sample again.
    let n_evaluated = step - usize::from(strategy.owes_evaluation);
    strategy.samples.rewind(n_evaluated)?;
    let log = CsvLog::open(
        run.page::<B>(device),
        [step, n_evaluated],
        [
            config.steps.div_ceil(TRAIN_ROWS),
            config.checkpoint_every.unwrap_or(config.steps_per_epoch),
        ],
        strategy.warnings.clone(),
    )?;
    // Fewer steps than before are written down once no row has more.
    run.begin()?;
    let log = match has_events {
        true => log.with_events()?,
        false => log,
    };
    let keep = KeepBestAndLast {
        checkpoints: strategy.checkpoints.clone(),
        n_last: config.keep_checkpoints,
        best: strategy.best.clone(),
        newest: step,
    };
    let recorder = AtomicRecorder::lenient(strategy.warnings.clone()).of(run.owner());
    let training = training
        .with_metric_logger(log)
        .with_file_checkpointer(recorder)
        .with_checkpointing_strategy(keep);
    Ok(with_metrics(training, config))
}

/// The metrics for this configuration.
fn with_metrics<B: TrainBackend, M: RunModel<B>>(
    training: SupervisedTraining<Components<B, M>>,
    config: &TrainConfig,
) -> SupervisedTraining<Components<B, M>> {
    // Entries are matched to quantities by this name.
    let metric = |quantity: Quantity| match quantity.is_measured() {
        true => StepMetric::new(quantity),
        false => StepMetric::labelled(quantity, quantity.label(&config.data)),
    };
    let both = [
        Quantity::Loss,
        Quantity::Bits,
        Quantity::Accuracy,
        Quantity::TokensPerSecond,
    ];
    let mut of_train = vec![Quantity::LearningRate, Quantity::GradientNorm];
    let stack = config.model.stack();
    if stack.is_some_and(|stack| stack.mode.is_recomputed()) {
        of_train.push(Quantity::Drift);
    }
    let has_lsh = match &config.model {
        // Hashing is not probed in the encoder-decoder, which has two sequences.
        ModelConfig::Seq2Seq(_) => false,
        _ => stack.is_some_and(|stack| stack.kinds().any(|kind| kind == AttentionKind::Lsh)),
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
