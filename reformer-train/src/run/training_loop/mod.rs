//! The training loop in Burn's learner: step by step, so that it can stop, save and evaluate after any.

mod evaluation;
mod nowhere;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::data::dataloader::Progress;
use burn::tensor::backend::Backend;
use burn::tensor::{ElementConversion, Tensor};
use burn::train::{
    EventProcessorTraining, Learner, LearnerEvent, LearningComponentsMarker,
    SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents,
    TrainingItem, TrainingModel, ValidLoader,
};
use reformer_core::kernels::TrainBackend;

use crate::config::{NonFiniteLoss, TrainConfig};
use crate::data::batch::Batch;
use crate::error::TrainError;
use crate::metrics::StepOutput;
use crate::optimizer::loss_scale::LossScale;
use crate::parallel::Replicas;
use crate::record::Failure;
use crate::report::samples::Samples;
use crate::run::checkpoint::{Best, Checkpoints, SharedBest};
use crate::run::diverged::{Diverged, is_finite_module};
use crate::run::optimizer::RunOptimizer;
use crate::run::{Warn, WriteSample};
use crate::schedule::Schedule;
use crate::task::Task;
use crate::task::run_model::RunModel;

pub(crate) use nowhere::NoLog;

/// The type parameters of Burn's learner for this crate.
pub(crate) type Components<B, M> =
    LearningComponentsMarker<B, Schedule, Task<B, M>, RunOptimizer<Task<B, M>, B>>;

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// All steps are done.
    Finished,
    /// The loss did not improve any more; the weights are those of the best evaluation.
    Early,
    /// It was stopped, for this reason. There is a checkpoint to resume from.
    Interrupted(String),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("all steps are done"),
            Self::Early => f.write_str("the loss did not get better any more"),
            Self::Interrupted(reason) => write!(f, "it was stopped: {reason}"),
        }
    }
}

/// Training steps, with evaluations and checkpoints between them.
#[derive(Clone)]
pub(crate) struct TrainingLoop<B: TrainBackend, M: RunModel<B>> {
    pub(crate) config: TrainConfig,
    pub(crate) device: B::Device,
    pub(crate) replicas: Replicas<B>,
    /// Training steps that are done.
    pub(crate) start: usize,
    /// Whether the run was stopped after an epoch and before its evaluation.
    pub(crate) owes_evaluation: bool,
    /// Evaluations since the best one.
    pub(crate) n_worse: usize,
    pub(crate) best: SharedBest,
    /// Training steps that are done in the end, and how the run ended.
    pub(crate) end: Arc<Mutex<(usize, Ending)>>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) samples: Samples,
    pub(crate) write: Option<WriteSample<M::InnerModule>>,
    /// Errors that do not end the run.
    pub(crate) warnings: Failure,
    /// The error that ends it.
    pub(crate) fatal: Failure,
    pub(crate) warn: Warn,
    /// Whether the optimizer's state is sharded over processes.
    pub(crate) shares_optimizer: bool,
    pub(crate) loss_scale: LossScale,
}

/// The state that changes from step to step.
struct State<B: TrainBackend, M: RunModel<B>> {
    learner: Learner<Components<B, M>>,
    components: TrainingComponents<Components<B, M>>,
    /// Training steps that are done.
    step: usize,
    /// Training steps after which the weights last changed; at a resume, those that are done.
    last_update: usize,
    /// Steps in a row whose gradients were skipped.
    n_skipped: usize,
    n_worse: usize,
    last_saved: Option<usize>,
}

impl<B: TrainBackend, M: RunModel<B>> SupervisedLearningStrategy<Components<B, M>>
    for TrainingLoop<B, M>
{
    fn fit(
        &self,
        components: TrainingComponents<Components<B, M>>,
        mut learner: Learner<Components<B, M>>,
        train: TrainLoader<Components<B, M>>,
        valid: ValidLoader<Components<B, M>>,
        _starting_epoch: usize,
    ) -> (
        TrainingModel<Components<B, M>>,
        SupervisedTrainingEventProcessor<Components<B, M>>,
    ) {
        learner.fork(&self.device);
        let mut state = State {
            learner,
            components,
            step: self.start,
            last_update: self.start,
            n_skipped: 0,
            n_worse: self.n_worse,
            last_saved: None,
        };
        if self.shares_optimizer && state.components.checkpointer.is_none() {
            state.components.checkpointer = Some(nowhere::checkpointer());
        }
        let ending = self
            .run(&mut state, &train, &valid)
            .unwrap_or_else(|error| {
                self.fatal.set(error);
                Ending::Interrupted("It failed.".to_owned())
            });
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = (state.step, ending);
        // Dropping it joins the checkpointer's threads, after which the result of their writes is known.
        drop(state.components.checkpointer.take());
        self.report_warnings();
        (state.learner.model(), state.components.event_processor)
    }
}

impl<B: TrainBackend, M: RunModel<B>> TrainingLoop<B, M> {
    /// Training steps that are done, and how the run ended.
    pub(crate) fn end(&self) -> (usize, Ending) {
        self.end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Trains to the end of the run.
    fn run(
        &self,
        state: &mut State<B, M>,
        train: &TrainLoader<Components<B, M>>,
        valid: &ValidLoader<Components<B, M>>,
    ) -> Result<Ending, TrainError> {
        let mut ending = match self.owes_evaluation {
            true => self.measure(state, valid)?,
            false => self.early_ending(state),
        };
        loop {
            if let Some(ending) = ending {
                return Ok(ending);
            }
            if state.step >= self.config.steps {
                return Ok(Ending::Finished);
            }
            ending = self.epoch(state, train, valid)?;
        }
    }

    /// The steps to the next evaluation, the evaluation, and a checkpoint. Returns the ending, if the run
    /// ends before its last step.
    fn epoch(
        &self,
        state: &mut State<B, M>,
        train: &TrainLoader<Components<B, M>>,
        valid: &ValidLoader<Components<B, M>>,
    ) -> Result<Option<Ending>, TrainError> {
        let number = state.step / self.config.steps_per_epoch + 1;
        let of_run = Progress::new(number, self.config.n_epochs());
        let mut batches = train.iter();
        while let Some(batch) = batches.next() {
            let progress = batches.progress();
            self.train_step(state, batch, progress, &of_run)?;
            let is_due = self
                .config
                .checkpoint_every
                .is_some_and(|every| state.step.is_multiple_of(every));
            if is_due {
                self.save(state)?;
            }
            if self.replicas.stopped().is_some() {
                break;
            }
        }
        let events = &mut state.components.event_processor;
        events.process_train(LearnerEvent::EndEpoch(number));
        self.measure(state, valid)
    }

    /// The evaluation after an epoch, and a checkpoint, unless the run was stopped. Returns the
    /// ending, if the run ends before its last step.
    fn measure(
        &self,
        state: &mut State<B, M>,
        valid: &ValidLoader<Components<B, M>>,
    ) -> Result<Option<Ending>, TrainError> {
        let number = state.step.div_ceil(self.config.steps_per_epoch);
        let of_run = Progress::new(number, self.config.n_epochs());
        if self.replicas.stopped().is_none()
            && let Some(loss) = self.evaluate(state, valid, &of_run)?
        {
            match loss {
                Ok(loss) if loss.is_finite() => self.compare(state, loss)?,
                Ok(loss) => self.reject(state, loss)?,
                Err(nothing) => (self.warn)(&nothing),
            }
            if self.config.checkpoint_every.is_none() || state.step >= self.config.steps {
                self.save(state)?;
            }
        }
        if let Some(reason) = self.replicas.stopped() {
            self.save(state)?;
            return Ok(Some(Ending::Interrupted(reason)));
        }
        Ok(self.early_ending(state))
    }

    /// Early stopping: the ending of a run whose loss has not improved for too long.
    fn early_ending(&self, state: &State<B, M>) -> Option<Ending> {
        let has_stagnated = |patience| state.n_worse >= patience && state.step < self.config.steps;
        let has_stagnated = self.config.patience.is_some_and(has_stagnated);
        has_stagnated.then_some(Ending::Early)
    }

    /// A training step, whose gradients are applied if they are finite.
    fn train_step(
        &self,
        state: &mut State<B, M>,
        batch: Batch<B>,
        progress: Progress,
        of_run: &Progress,
    ) -> Result<(), TrainError> {
        let learner = &mut state.learner;
        let output = self.replicas.step(&learner.model(), batch)?;
        learner.lr_step();
        let numbers = numbers(&output.item);
        let is_finite = numbers.iter().all(|number| number.is_finite());
        // The loss is not scaled, so no smaller scale would help it.
        let [loss, _] = numbers;
        let is_skipped = loss.is_finite() && self.loss_scale.update_and_check_skip(is_finite);
        if is_finite {
            state.n_skipped = 0;
            state.last_update = state.step + 1;
            learner.optimizer_step(output.grads);
            self.replicas.failed()?;
        } else if !is_skipped {
            state.n_skipped += 1;
            let error = self.diverged(state).of_step(numbers);
            match self.config.bad_loss {
                NonFiniteLoss::Skip(n) if state.n_skipped <= n => (self.warn)(&error),
                _ => return Err(error),
            }
        }
        let item = TrainingItem::new(
            output.item,
            progress.clone(),
            of_run.clone(),
            Some(progress.items_processed),
            Some(state.learner.lr_current()),
        );
        let events = &mut state.components.event_processor;
        events.process_train(LearnerEvent::ProcessedItem(item));
        state.step += 1;
        self.report_warnings();
        Ok(())
    }

    /// Compares an evaluation with the best one before.
    fn compare(&self, state: &mut State<B, M>, loss: f64) -> Result<(), TrainError> {
        let mut best = self.best.lock().unwrap_or_else(PoisonError::into_inner);
        if Best::is_beaten(*best, loss) {
            *best = Some(Best {
                step: state.step,
                loss,
            });
            state.n_worse = 0;
            drop(best);
            // The checkpoint of the best evaluation has to exist to be kept.
            self.save(state)?;
        } else {
            state.n_worse += 1;
        }
        Ok(())
    }

    /// An evaluation whose loss is not finite. It ends the run, or counts as worse than the best one if the run
    /// skips such steps.
    fn reject(&self, state: &mut State<B, M>, loss: f64) -> Result<(), TrainError> {
        let error = self.diverged(state).of_evaluation(loss);
        match self.config.bad_loss {
            NonFiniteLoss::Stop => return Err(error),
            NonFiniteLoss::Skip(_) => (self.warn)(&error),
        }
        state.n_worse += 1;
        Ok(())
    }

    /// Describes a loss that is not finite.
    fn diverged(&self, state: &State<B, M>) -> Diverged<'_> {
        let is_unchanged = state.last_update == self.start;
        Diverged {
            config: &self.config,
            checkpoints: &self.checkpoints,
            step: state.step,
            last_update: state.last_update,
            rate: state.learner.lr_current(),
            was_broken_at_start: is_unchanged && !is_finite_module(&state.learner.model()),
        }
    }

    /// Saves a checkpoint, unless the last one is of this step. All processes must have the same weights:
    /// others are not saved.
    fn save(&self, state: &mut State<B, M>) -> Result<(), TrainError> {
        if state.last_saved.replace(state.step) == Some(state.step) {
            return Ok(());
        }
        self.replicas
            .check_same(&state.learner.model(), state.step)?;
        if let Some(checkpointer) = &mut state.components.checkpointer {
            let store = &state.components.event_store;
            checkpointer.checkpoint(&state.learner, state.step, store);
        }
        Ok(self.replicas.failed()?)
    }

    /// Reports files that could not be written.
    fn report_warnings(&self) {
        if let Some(error) = self.warnings.take() {
            (self.warn)(&error);
        }
    }
}

/// Loss and norm of the gradients.
fn numbers<B: Backend>(output: &StepOutput<B>) -> [f64; 2] {
    let norm = output.gradient_norm.as_ref().map_or(0.0, scalar);
    [scalar(&output.loss.loss), norm]
}

pub(crate) fn scalar<B: Backend>(tensor: &Tensor<B, 1>) -> f64 {
    tensor.clone().into_scalar().elem()
}
