//! How Burn's learner goes through a run: step by step, so that it can stop, save and measure at any.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::data::dataloader::Progress;
use burn::module::AutodiffModule;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{ElementConversion, Tensor};
use burn::train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent,
    LearningComponentsMarker, SupervisedLearningStrategy, SupervisedTrainingEventProcessor,
    TrainLoader, TrainingComponents, TrainingItem, TrainingModel, ValidLoader,
};
use reformer_core::kernels::ReformerBackend;

use crate::batch::Batch;
use crate::checkpoint::{Best, Checkpoints, SharedBest};
use crate::config::{BadLoss, TrainConfig};
use crate::diverged::{Diverged, is_finite_module};
use crate::error::TrainError;
use crate::loss_scale::{LossScale, WithLossScale};
use crate::metric::LmOutput;
use crate::optimizer::RunOptimizer;
use crate::parallel::Replicas;
use crate::record::Failure;
use crate::report::Sample;
use crate::run::{Warn, WriteSample};
use crate::samples::Samples;
use crate::schedule::Schedule;
use crate::task::Task;

/// Everything of a run that Burn's learner is told by its types.
pub(crate) type Components<B> =
    LearningComponentsMarker<B, Schedule, Task<B>, WithLossScale<RunOptimizer<Task<B>, B>>>;

/// How a run came to its end.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// All steps are done.
    Finished,
    /// The loss did not get better any more; the weights are those of the best evaluation.
    Early,
    /// Somebody stopped it, for this reason. There is a checkpoint to go on from.
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
pub(crate) struct StepByStep<B: AutodiffBackend> {
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
    /// Training steps that are done in the end, and how it came.
    pub(crate) end: Arc<Mutex<(usize, Ending)>>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) samples: Samples,
    pub(crate) write: Option<WriteSample<B::InnerBackend>>,
    /// What goes wrong without ending the run.
    pub(crate) troubles: Failure,
    /// What ends it.
    pub(crate) fatal: Failure,
    pub(crate) warn: Warn,
    pub(crate) loss_scale: LossScale,
}

/// What changes from step to step.
struct State<B: AutodiffBackend + ReformerBackend>
where
    B::InnerBackend: ReformerBackend,
{
    learner: Learner<Components<B>>,
    components: TrainingComponents<Components<B>>,
    /// Training steps that are done.
    step: usize,
    /// Steps in a row whose gradients were left out.
    n_skipped: usize,
    n_worse: usize,
    last_saved: Option<usize>,
}

impl<B> SupervisedLearningStrategy<Components<B>> for StepByStep<B>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    fn fit(
        &self,
        components: TrainingComponents<Components<B>>,
        mut learner: Learner<Components<B>>,
        train: TrainLoader<Components<B>>,
        valid: ValidLoader<Components<B>>,
        _starting_epoch: usize,
    ) -> (
        TrainingModel<Components<B>>,
        SupervisedTrainingEventProcessor<Components<B>>,
    ) {
        learner.fork(&self.device);
        let mut state = State {
            learner,
            components,
            step: self.start,
            n_skipped: 0,
            n_worse: self.n_worse,
            last_saved: None,
        };
        let mut ending = match self.owes_evaluation {
            true => self.measure(&mut state, &valid),
            false => self.hopeless(&state),
        };
        let ending = loop {
            if let Some(ending) = ending {
                break ending;
            }
            if state.step >= self.config.steps {
                break Ending::Finished;
            }
            ending = self.epoch(&mut state, &train, &valid);
        };
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = (state.step, ending);
        // The checkpointer's threads end with it, and only then is known what they wrote.
        drop(state.components.checkpointer.take());
        self.report_troubles();
        (state.learner.model(), state.components.event_processor)
    }
}

impl<B> StepByStep<B>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    /// Training steps that are done, and how the run came to its end.
    pub(crate) fn end(&self) -> (usize, Ending) {
        self.end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The steps to the next evaluation, the evaluation, and a checkpoint. Some ending, if the run
    /// has come to one before its last step.
    fn epoch(
        &self,
        state: &mut State<B>,
        train: &TrainLoader<Components<B>>,
        valid: &ValidLoader<Components<B>>,
    ) -> Option<Ending> {
        let number = state.step / self.config.steps_per_epoch + 1;
        let of_run = Progress::new(number, self.config.n_epochs());
        let mut batches = train.iter();
        while let Some(batch) = batches.next() {
            let progress = batches.progress();
            if let Err(error) = self.train_step(state, batch, progress, &of_run) {
                if matches!(error, TrainError::Parallel(_)) {
                    // The weights are those of the step before on all nodes.
                    self.save(state);
                }
                self.fatal.set(error);
                return Some(Ending::Interrupted("The loss is no number.".to_owned()));
            }
            let is_due = self
                .config
                .checkpoint_every
                .is_some_and(|every| state.step.is_multiple_of(every));
            if is_due {
                self.save(state);
            }
            if interrupted(&state.components.interrupter).is_some() {
                break;
            }
        }
        let events = &mut state.components.event_processor;
        events.process_train(LearnerEvent::EndEpoch(number));
        self.measure(state, valid)
    }

    /// The evaluation after an epoch, and a checkpoint, unless somebody stopped the run. Some
    /// ending, if the run has come to one before its last step.
    fn measure(&self, state: &mut State<B>, valid: &ValidLoader<Components<B>>) -> Option<Ending> {
        let number = state.step.div_ceil(self.config.steps_per_epoch);
        let of_run = Progress::new(number, self.config.n_epochs());
        if interrupted(&state.components.interrupter).is_none()
            && let Some(loss) = self.evaluate(state, valid, &of_run)
        {
            match loss {
                Ok(loss) => self.take_in(state, loss),
                Err(nothing) => (self.warn)(&nothing),
            }
            if self.config.checkpoint_every.is_none() || state.step >= self.config.steps {
                self.save(state);
            }
        }
        if let Some(reason) = interrupted(&state.components.interrupter) {
            self.save(state);
            return Some(Ending::Interrupted(reason));
        }
        self.hopeless(state)
    }

    /// The end of a run whose loss does not get better any more, before its last step.
    fn hopeless(&self, state: &State<B>) -> Option<Ending> {
        let is_hopeless = |patience| state.n_worse >= patience && state.step < self.config.steps;
        let is_hopeless = self.config.patience.is_some_and(is_hopeless);
        is_hopeless.then_some(Ending::Early)
    }

    /// A training step, whose gradients count if they are numbers.
    fn train_step(
        &self,
        state: &mut State<B>,
        batch: Batch<B>,
        progress: Progress,
        of_run: &Progress,
    ) -> Result<(), TrainError> {
        let learner = &mut state.learner;
        let output = self.replicas.step(&learner.model(), batch)?;
        learner.lr_step();
        let [loss, gradient_norm] = numbers(&output.item);
        let is_finite = loss.is_finite() && gradient_norm.is_finite();
        let is_left_out = self.loss_scale.leaves_out(is_finite);
        if is_finite {
            state.n_skipped = 0;
            learner.optimizer_step(output.grads);
        } else if !is_left_out {
            state.n_skipped += 1;
            let diverged = Diverged {
                config: &self.config,
                step: state.step,
                numbers: [loss, gradient_norm],
                rate: state.learner.lr_current(),
            };
            // Later ones are what the steps before made them.
            let is_first = state.step == self.start;
            let started_so = is_first && !is_finite_module(&state.learner.model());
            let error = diverged.explain(started_so, &self.checkpoints);
            match self.config.bad_loss {
                BadLoss::Skip(n) if state.n_skipped <= n => (self.warn)(&error),
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
        self.report_troubles();
        Ok(())
    }

    /// Mean loss over the validation data, or that there is nothing to measure; nothing if it was
    /// interrupted.
    fn evaluate(
        &self,
        state: &mut State<B>,
        valid: &ValidLoader<Components<B>>,
        of_run: &Progress,
    ) -> Option<Result<f64, TrainError>> {
        let model = state.learner.model().valid();
        let (mut sum, mut n_targets, mut n_sequences) = (0.0, 0.0, 0);
        let mut batches = valid.iter();
        let mut iteration = 0;
        let mut hashing = None;
        while let Some(batch) = batches.next() {
            iteration += 1;
            if iteration == 1 {
                hashing = model.probe(&batch, self.config.probed_length());
            }
            n_sequences += batch.targets().dims()[0];
            let mut output = model.step(batch);
            output.hashing = hashing;
            let n: f64 = scalar(&output.loss.n_targets);
            sum += scalar(&output.loss.loss) * n;
            n_targets += n;
            let progress = batches.progress();
            let item = TrainingItem::new(output, progress, of_run.clone(), Some(iteration), None);
            let events = &mut state.components.event_processor;
            events.process_valid(LearnerEvent::ProcessedItem(item));
            if interrupted(&state.components.interrupter).is_some() {
                return None;
            }
        }
        self.sample(&model, state.step);
        let events = &mut state.components.event_processor;
        events.process_valid(LearnerEvent::EndEpoch(of_run.items_processed));
        Some(match n_targets > 0.0 {
            true => Ok(sum / n_targets),
            false => Err(TrainError::NothingToMeasure {
                n_sequences,
                window_length: self.config.window_length,
            }),
        })
    }

    /// Lets the model write, if somebody wants to read it.
    fn sample(&self, task: &Task<B::InnerBackend>, step: usize) {
        let text = self.write.as_ref().and_then(|write| write(&task.model));
        if let Some(text) = text
            && let Err(error) = self.samples.add(&Sample { step, text })
        {
            self.troubles.set(error);
        }
    }

    /// Compares an evaluation with the best one before.
    fn take_in(&self, state: &mut State<B>, loss: f64) {
        let mut best = self.best.lock().unwrap_or_else(PoisonError::into_inner);
        if Best::is_beaten(*best, loss) {
            *best = Some(Best {
                step: state.step,
                loss,
            });
            state.n_worse = 0;
            drop(best);
            // The best one has to be there to be kept.
            self.save(state);
        } else {
            state.n_worse += 1;
        }
    }

    /// Saves a checkpoint, unless the last one is of this step.
    fn save(&self, state: &mut State<B>) {
        if state.last_saved.replace(state.step) == Some(state.step) {
            return;
        }
        if let Some(checkpointer) = &mut state.components.checkpointer {
            let store = &state.components.event_store;
            checkpointer.checkpoint(&state.learner, state.step, store);
        }
    }

    /// Tells what could not be written, and goes on.
    fn report_troubles(&self) {
        if let Some(error) = self.troubles.take() {
            (self.warn)(&error);
        }
    }
}

/// Why a run was stopped, if it was.
fn interrupted(interrupter: &Interrupter) -> Option<String> {
    let reason = || {
        interrupter
            .get_message()
            .unwrap_or_else(|| "stopped".to_owned())
    };
    interrupter.should_stop().then(reason)
}

/// Loss and norm of the gradients.
pub(crate) fn numbers<B: Backend>(output: &LmOutput<B>) -> [f64; 2] {
    let norm = output.gradient_norm.as_ref().map_or(0.0, scalar);
    [scalar(&output.loss.loss), norm]
}

pub(crate) fn scalar<B: Backend>(tensor: &Tensor<B, 1>) -> f64 {
    tensor.clone().into_scalar().elem()
}
