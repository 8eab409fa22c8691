//! Evaluations within a run, split among processes by rows.

use std::time::Instant;

use burn::data::dataloader::Progress;
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::train::{EventProcessorTraining, InferenceStep, LearnerEvent, TrainingItem, ValidLoader};
use reformer_core::kernels::TrainBackend;
use reformer_core::model::LossOutput;

use super::{Components, State, TrainingLoop, scalar};
use crate::error::TrainError;
use crate::metrics::StepOutput;
use crate::metrics::hashing::Hashing;
use crate::report::Sample;
use crate::task::run_model::RunModel;
use crate::task::{Task, probe};

/// Sums over the rows of an evaluation.
#[derive(Default)]
struct Tally {
    nll: f64,
    n_correct: f64,
    n_targets: f64,
    n_sequences: usize,
    hashing: Option<Hashing>,
}

impl<B: TrainBackend, M: RunModel<B>> TrainingLoop<B, M> {
    /// Mean loss over the validation data, or an error if there is no target; `None` if it was
    /// interrupted.
    pub(super) fn evaluate(
        &self,
        state: &mut State<B, M>,
        valid: &ValidLoader<Components<B, M>>,
        of_run: &Progress,
    ) -> Result<Option<Result<f64, TrainError>>, TrainError> {
        let started = Instant::now();
        let model = state.learner.model().valid();
        let tally = self.tally(state, valid, of_run, &model);
        let own = [
            tally.nll,
            tally.n_correct,
            tally.n_targets,
            tally.n_sequences as f64,
        ];
        let all @ [nll, _, n_targets, n_sequences] = self.replicas.total(own)?;
        if self.replicas.stopped().is_some() {
            return Ok(None);
        }
        if self.replicas.group().is_some() {
            self.show_all(state, of_run, all, tally.hashing, started);
        }
        self.sample(&model, state.step)?;
        let events = &mut state.components.event_processor;
        events.process_valid(LearnerEvent::EndEpoch(of_run.items_processed));
        Ok(Some(match n_targets > 0.0 {
            true => Ok(nll / n_targets),
            false => Err(TrainError::NothingToMeasure {
                n_sequences: n_sequences as usize,
                window_length: self.config.window_length,
            }),
        }))
    }

    /// Measures the rows of this process, until a request to stop. A single process shows each batch.
    fn tally(
        &self,
        state: &mut State<B, M>,
        valid: &ValidLoader<Components<B, M>>,
        of_run: &Progress,
        model: &Task<B::InnerBackend, M::InnerModule>,
    ) -> Tally {
        let mut tally = Tally::default();
        let mut batches = valid.iter();
        let mut iteration = 0;
        while let Some(batch) = batches.next() {
            iteration += 1;
            if iteration == 1 && self.replicas.is_first() {
                let reformer = M::reformer(&model.model);
                tally.hashing = probe(reformer, &batch, self.config.probed_length());
            }
            tally.n_sequences += batch.targets().dims()[0];
            let mut output = model.step(batch);
            output.hashing = tally.hashing;
            let n = scalar(&output.loss.n_targets);
            tally.nll += scalar(&output.loss.loss) * n;
            tally.n_targets += n;
            if self.replicas.group().is_some() {
                tally.n_correct += scalar(&output.loss.n_correct);
            } else {
                let progress = batches.progress();
                let of_run = of_run.clone();
                let item = TrainingItem::new(output, progress, of_run, Some(iteration), None);
                let events = &mut state.components.event_processor;
                events.process_valid(LearnerEvent::ProcessedItem(item));
            }
            if self.replicas.wants_to_stop() {
                break;
            }
        }
        tally
    }

    /// Shows the result over all processes.
    fn show_all(
        &self,
        state: &mut State<B, M>,
        of_run: &Progress,
        [nll, n_correct, n_targets, n_sequences]: [f64; 4],
        hashing: Option<Hashing>,
        started: Instant,
    ) {
        let one = |value: f64| Tensor::from_data([value as f32], &self.device);
        let output = StepOutput {
            loss: LossOutput {
                loss: one(nll / n_targets.max(1.0)),
                n_correct: one(n_correct),
                n_targets: one(n_targets),
                drift: None,
            },
            gradient_norm: None,
            hashing,
            started,
        };
        let n_sequences = n_sequences as usize;
        let progress = Progress::new(n_sequences, n_sequences);
        let item = TrainingItem::new(output, progress, of_run.clone(), Some(1), None);
        let events = &mut state.components.event_processor;
        events.process_valid(LearnerEvent::ProcessedItem(item));
    }

    /// Generates a sample, if enabled.
    fn sample(
        &self,
        task: &Task<B::InnerBackend, M::InnerModule>,
        step: usize,
    ) -> Result<(), TrainError> {
        let text = self
            .replicas
            .written(|| self.write.as_ref().and_then(|write| write(&task.model)))?;
        if let Some(text) = text
            && self.replicas.is_first()
            && let Err(error) = self.samples.add(&Sample { step, text })
        {
            self.warnings.set(error);
        }
        Ok(())
    }
}
