//! Resuming runs: allowed changes, their state, and whether they are over.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::marker::PhantomData;

use burn::tensor::backend::Backend;
use reformer_core::ConfigError;
use reformer_core::kernels::TrainBackend;
use serde::{Deserialize, Serialize};

use super::load::{load_as, model_path};
use super::lock::Lock;
use super::{Run, RunOutcome};
use crate::config::NonFiniteLoss;
use crate::error::TrainError;
use crate::metrics::row::Row;
use crate::record::{AtomicRecorder, write_atomically};
use crate::run::checkpoint::{Best, Checkpoints, ResumePoint};
use crate::run::training_loop::Ending;
use crate::task::Task;
use crate::task::model::Model;
use crate::task::run_model::RunModel;

/// Settings that may change when a run is resumed; all others determine its weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResumeOptions {
    /// Total steps of the run: more than are done, to extend a run that is finished.
    pub steps: Option<usize>,
    /// Evaluations in a row without a better loss after which the run ends.
    pub patience: Option<usize>,
}

impl ResumeOptions {
    /// Nothing changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the total number of steps of the run, if given.
    pub fn with_steps(mut self, steps: Option<usize>) -> Self {
        self.steps = steps;
        self
    }

    /// Changes the patience, if given.
    pub fn with_patience(mut self, patience: Option<usize>) -> Self {
        self.patience = patience;
        self
    }
}

/// A change of the number of steps, and its effect on the learning rate. It prints as a sentence with both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extension {
    /// Steps that are done.
    pub step: usize,
    /// Total steps of the run, before and now.
    pub steps: [usize; 2],
    /// Learning rate of the next step, before the change and now.
    pub rates: [f64; 2],
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            step,
            steps: [before, now],
            rates: [old, new],
        } = self;
        write!(
            f,
            "{now} steps instead of {before}: from step {} on the learning rate is that of a run of \
             {now} steps, {new:.2e} there instead of {old:.2e}",
            step + 1
        )
    }
}

/// The state of a run's evaluations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// The best one.
    pub(crate) best: Option<Best>,
    /// Evaluations since the best one.
    pub(crate) n_worse: usize,
    /// Steps that were done at the last evaluation.
    pub(crate) last: Option<usize>,
}

impl Standing {
    /// The state after the evaluations up to a step. One that is not finite has ended the run, unless such
    /// losses are skipped: it is done again.
    fn of(rows: &[Row], step: usize, policy: NonFiniteLoss) -> Self {
        let mut standing = Self::default();
        let is_done = |row: &Row| row.loss().is_finite() || policy != NonFiniteLoss::Stop;
        let is_counted = |row: &&Row| row.split == "valid" && row.step <= step && is_done(row);
        for row in rows.iter().filter(is_counted) {
            let (step, loss) = (row.step, row.loss());
            standing.last = Some(step);
            if Best::is_beaten(standing.best, loss) {
                standing.best = Some(Best { step, loss });
                standing.n_worse = 0;
            } else {
                standing.n_worse += 1;
            }
        }
        standing
    }
}

impl Run {
    /// Checks requested changes against the steps that are done, before anything is changed.
    pub(super) fn check_options(&self, options: &ResumeOptions) -> Result<(), TrainError> {
        let Some(steps) = options.steps else {
            return Ok(());
        };
        let refused =
            |law: String, way_out: &str| Err(ConfigError::new("steps", steps, law, way_out).into());
        let standing = self.standing_after(&self.rows_if_any()?, usize::MAX);
        let complete = Checkpoints::of_run(&self.folder).complete();
        let saved = complete.first().copied();
        // Final weights are those of the last evaluation, whose checkpoint may be gone.
        let finished = standing.last.filter(|_| self.has_final_weights());
        let done = saved.max(finished).unwrap_or(0);
        if steps < done {
            let law = format!("{done} steps are done");
            return refused(law, "name more, or start a new run");
        }
        match (self.config.patience, standing.last) {
            (Some(patience), Some(last)) if standing.n_worse >= patience && last < steps => {
                refused(
                    format!(
                        "the run ended at step {last} after {patience} evaluations without a better loss"
                    ),
                    "raise patience too",
                )
            }
            _ => Ok(()),
        }
    }

    /// The state of evaluations after a step.
    pub(super) fn standing(&self, step: usize) -> Result<Standing, TrainError> {
        let rows = match step {
            0 => vec![],
            _ => self.rows_if_any()?,
        };
        Ok(self.standing_after(&rows, step))
    }

    fn standing_after(&self, rows: &[Row], step: usize) -> Standing {
        Standing::of(rows, step, self.config.bad_loss)
    }

    /// The requested number of steps, if it differs from config.json.
    pub fn extension(&self) -> Option<Extension> {
        let old = self.written.as_ref()?;
        let step = Checkpoints::of_run(&self.folder).complete();
        let step = step.first().copied().unwrap_or(0);
        let [before, now] = [old.steps, self.config.steps];
        (before != now).then(|| Extension {
            step,
            steps: [before, now],
            rates: [before, now].map(|steps| self.config.schedule.rate(step, steps)),
        })
    }

    /// How the run ended, if it is over: [training](Self::train) then has no effect.
    ///
    /// # Errors
    /// Metrics that cannot be read.
    pub fn ending(&self) -> Result<Option<Ending>, TrainError> {
        if !self.has_final_weights() {
            return Ok(None);
        }
        let standing = self.standing_after(&self.rows_if_any()?, usize::MAX);
        let is_patient = |patience| standing.n_worse < patience;
        Ok(match standing.last {
            Some(last) if last >= self.config.steps => Some(Ending::Finished),
            Some(_) if !self.config.patience.is_none_or(is_patient) => Some(Ending::Early),
            _ => None,
        })
    }

    /// Whether the weights of the end of the run are there.
    fn has_final_weights(&self) -> bool {
        AtomicRecorder::file(model_path(&self.folder)).is_file()
    }

    /// The outcome of a run that is over.
    pub(super) fn outcome<B: TrainBackend, M: RunModel<B>>(
        &self,
        ending: Ending,
        device: &B::Device,
    ) -> Result<RunOutcome<B::InnerBackend, M::InnerModule>, TrainError> {
        let (model, _) = load_as(&self.folder, device, |config| {
            Ok(M::init(config, device)?.valid())
        })?;
        let rows = self.rows()?;
        Ok(RunOutcome {
            model,
            best: self.standing_after(&rows, usize::MAX).best,
            valid: rows
                .into_iter()
                .filter(|row| row.split == "valid")
                .collect(),
            ending,
            backend: PhantomData,
        })
    }

    /// Finds the newest checkpoint that is complete, can be read and fits the configuration.
    ///
    /// # Errors
    /// If there are complete checkpoints, but not one can be read; if there is none, but the run has
    /// trained some steps; or if another process is training it.
    pub fn resume_point<B: TrainBackend>(
        &self,
        device: &B::Device,
    ) -> Result<ResumePoint, TrainError> {
        self.resume_point_of::<B, Model<B>>(device)
    }

    /// The same for any model, to be [trained](Self::train_model) from there.
    ///
    /// # Errors
    /// The same, and a run of another model.
    pub fn resume_point_of<B: TrainBackend, M: RunModel<B>>(
        &self,
        device: &B::Device,
    ) -> Result<ResumePoint, TrainError> {
        self.check_device::<B>(device)?;
        drop(Lock::take(&self.folder)?);
        let checkpoints = Checkpoints::of_run(&self.folder);
        let task = Task::new(M::init(&self.config.model, device)?, self.config.seed);
        let optimizer = &self.config.optimizer;
        let owner = self.owner();
        let point = checkpoints.newest_readable(&task, optimizer, &owner, device)?;
        if point.step == 0 {
            self.check_is_new(&checkpoints)?;
        }
        Ok(point)
    }

    /// Refuses to restart a run that has trained some steps. A run that was killed early has a folder for
    /// checkpoints, and no steps beyond the second checkpoint that was due: the first one is complete before
    /// the second one is begun.
    fn check_is_new(&self, checkpoints: &Checkpoints) -> Result<(), TrainError> {
        let step = self.rows_if_any()?.iter().map(|row| row.step).max();
        if self.has_final_weights() {
            // All steps are done, even if no row is left that says so.
            let written = self.written.as_ref().unwrap_or(&self.config);
            let step = step.unwrap_or(written.steps);
            let path = self.folder.clone();
            return Err(TrainError::NoCheckpoint { path, step });
        }
        let Some(step) = step else {
            return Ok(());
        };
        let config = &self.config;
        let interval = config
            .checkpoint_every
            .unwrap_or(0)
            .max(config.steps_per_epoch);
        if checkpoints.has_folder() && step <= interval.saturating_mul(2) {
            return Ok(());
        }
        Err(TrainError::NoCheckpoint {
            path: self.folder.clone(),
            step,
        })
    }

    /// Writes requested changes and removes the final weights, which are outdated from here on.
    pub(crate) fn begin(&self) -> Result<(), TrainError> {
        if self.written.is_some() {
            let path = self.config_path();
            let write = || -> io::Result<()> {
                let json = serde_json::to_string_pretty(&self.config)?;
                write_atomically(&path, |file| file.write_all(json.as_bytes()))
            };
            write().map_err(|source| TrainError::Write {
                path: path.clone(),
                source,
            })?;
        }
        let path = AtomicRecorder::file(model_path(&self.folder));
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(TrainError::Write { path, source })
            }
            _ => Ok(()),
        }
    }

    /// Checks that the device supports a configuration.
    pub(super) fn check_device<B: Backend>(&self, device: &B::Device) -> Result<(), TrainError> {
        Ok(self.config.model.precision().check::<B>(device)?)
    }
}
