//! Which checkpoints of a run are complete, and which are kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{AutodiffModule, Module};
use burn::optim::Optimizer;
use burn::tensor::backend::AutodiffBackend;
use burn::train::checkpoint::{CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::EventStoreClient;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::optimizer::OptimizerConfig;
use crate::record::{AtomicRecorder, Owner};
use crate::run::optimizer::RunOptimizer;

/// The files of a checkpoint of Burn's learner.
const PARTS: [&str; 3] = ["model", "optim", "scheduler"];

/// The checkpoints in a run's folder.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
}

/// The checkpoint from which a run can be resumed.
#[derive(Debug)]
pub struct ResumePoint {
    /// Training steps that are done.
    pub step: usize,
    /// Newer checkpoints that are complete but cannot be read, each with its reason.
    pub damaged: Vec<TrainError>,
}

impl Checkpoints {
    /// The checkpoints of the run in this folder.
    pub fn of_run(run: &Path) -> Self {
        Self {
            folder: run.join("checkpoint"),
        }
    }

    /// Whether a path is their folder or in it.
    pub(crate) fn contain(&self, path: &Path) -> bool {
        path.starts_with(&self.folder)
    }

    /// Path, without extension, of the model's record after a step.
    pub fn model(&self, step: usize) -> PathBuf {
        self.part("model", step)
    }

    /// Whether two checkpoints have the same weights, as if all steps between them were skipped.
    pub(crate) fn have_same_weights(&self, steps: [usize; 2]) -> bool {
        let [first, second] = steps.map(|step| self.model(step));
        AtomicRecorder::are_same([&first, &second])
    }

    fn part(&self, part: &str, step: usize) -> PathBuf {
        self.folder.join(format!("{part}-{step}"))
    }

    /// Whether the run has a folder of checkpoints at all.
    pub(crate) fn has_folder(&self) -> bool {
        self.folder.is_dir()
    }

    /// The files of a checkpoint: model, optimizer and schedule.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn bytes(&self, step: usize) -> Result<[Vec<u8>; 3], TrainError> {
        let read = |part| {
            let path = AtomicRecorder::file(self.part(part, step));
            fs::read(&path).map_err(|source| TrainError::Read { path, source })
        };
        let [model, optim, scheduler] = PARTS.map(read);
        Ok([model?, optim?, scheduler?])
    }

    /// Steps whose checkpoint has all parts, the newest first. A run that was killed between two
    /// parts leaves an incomplete set, which is not among them.
    pub fn complete(&self) -> Vec<usize> {
        let is_complete = |step: &usize| {
            PARTS
                .iter()
                .all(|part| AtomicRecorder::file(self.part(part, *step)).is_file())
        };
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut steps: Vec<usize> = entries
            .filter_map(|entry| step_of_part(entry.file_name().to_str()?))
            .filter(is_complete)
            .collect();
        steps.sort_unstable_by(|a, b| b.cmp(a));
        steps.dedup();
        steps
    }

    /// The newest checkpoint that can be read; step 0 if there is none at all.
    ///
    /// # Errors
    /// If there are complete checkpoints, but not one can be read: the newest one's reason.
    pub(crate) fn newest_readable<B, M>(
        &self,
        module: &M,
        optimizer: &OptimizerConfig,
        owner: &Owner,
        device: &B::Device,
    ) -> Result<ResumePoint, TrainError>
    where
        B: AutodiffBackend,
        M: AutodiffModule<B>,
    {
        let mut damaged = Vec::new();
        for step in self.complete() {
            match self.check(step, module, optimizer, owner, device) {
                Ok(()) => return Ok(ResumePoint { step, damaged }),
                Err(error) => damaged.push(error),
            }
        }
        match damaged.is_empty() {
            true => Ok(ResumePoint { step: 0, damaged }),
            false => Err(damaged.swap_remove(0)),
        }
    }

    /// Burn's learner panics on a file that it cannot read, so each is read once before. A record that does
    /// not fit the model is found before any tensor is allocated.
    fn check<B, M>(
        &self,
        step: usize,
        module: &M,
        optimizer: &OptimizerConfig,
        owner: &Owner,
        device: &B::Device,
    ) -> Result<(), TrainError>
    where
        B: AutodiffBackend,
        M: AutodiffModule<B>,
    {
        type State<M, B> = <RunOptimizer<M, B> as Optimizer<M, B>>::Record;
        let [model, optim, scheduler] = PARTS.map(|part| self.part(part, step));
        let parameters = AtomicRecorder::check_module(&model, module, owner)?;
        AtomicRecorder::check_state(&optim, &parameters, owner)?;
        AtomicRecorder::check(&scheduler, owner)?;
        let damaged = |part, reason| {
            let path = AtomicRecorder::file(part);
            Err(TrainError::Damaged { path, reason })
        };
        AtomicRecorder::load_named::<B, <M as Module<B>>::Record>(&model, device)?;
        let (state, _) = AtomicRecorder::load_named::<B, State<M, B>>(&optim, device)?;
        let done = AtomicRecorder::load_named::<B, usize>(&scheduler, device)?;
        if done != step {
            return damaged(scheduler, format!("it is that of step {done}"));
        }
        if state.name() != optimizer.name() {
            let reason = format!(
                "it is a state of {}, not of {}",
                state.name(),
                optimizer.name()
            );
            return damaged(optim, reason);
        }
        Ok(())
    }
}

impl Checkpoints {
    /// Removes incomplete checkpoints before a step, as a killed run or a full disk leaves them. Files that
    /// cannot be removed do no harm.
    pub(crate) fn remove_incomplete(&self, before: usize) {
        let complete = self.complete();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let step = name.to_str().and_then(step_of_part);
            if step.is_some_and(|step| step < before && !complete.contains(&step)) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}

/// The step that a file of a checkpoint belongs to, whether the file is complete or not.
fn step_of_part(name: &str) -> Option<usize> {
    let (stem, _) = name.split_once('.')?;
    let (part, step) = stem.split_once('-')?;
    PARTS.contains(&part).then(|| step.parse().ok())?
}

/// The best evaluation so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Training steps that were done.
    pub step: usize,
    /// Mean negative log-likelihood, in nats.
    pub loss: f64,
}

impl Best {
    /// Whether a loss is finite and better than that of the best evaluation before. Losses are compared with
    /// the precision of `metrics.csv`, so that a resumed run decides as an uninterrupted one.
    pub(crate) fn is_beaten(before: Option<Self>, loss: f64) -> bool {
        loss.is_finite() && before.is_none_or(|best| (loss as f32) < (best.loss as f32))
    }
}

/// The best evaluation, shared by the parts of a training.
pub(crate) type SharedBest = Arc<Mutex<Option<Best>>>;

/// Keeps the last checkpoints and the best one. None is deleted before as many newer ones are
/// complete, so that there is always one to resume from.
pub(crate) struct KeepBestAndLast {
    pub(crate) checkpoints: Checkpoints,
    pub(crate) n_last: usize,
    pub(crate) best: SharedBest,
    /// Step of the last checkpoint that was started, which may not be written yet.
    pub(crate) newest: usize,
}

impl KeepBestAndLast {
    /// Steps whose checkpoints are not needed any more. The one that is about to be saved is not
    /// complete yet, and so not counted.
    fn old(&self) -> Vec<usize> {
        let best = self.best.lock().unwrap_or_else(PoisonError::into_inner);
        let best = best.map(|best| best.step);
        let complete = self.checkpoints.complete().into_iter();
        complete
            .skip(self.n_last)
            .filter(|step| Some(*step) != best)
            .collect()
    }
}

impl CheckpointingStrategy for KeepBestAndLast {
    fn checkpointing(
        &mut self,
        step: usize,
        _collector: &EventStoreClient,
    ) -> Vec<CheckpointingAction> {
        self.checkpoints.remove_incomplete(self.newest);
        self.newest = step;
        let delete = self.old().into_iter().map(CheckpointingAction::Delete);
        std::iter::once(CheckpointingAction::Save)
            .chain(delete)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_sets_count_and_the_newest_comes_first() {
        let run = tempfile::tempdir().unwrap();
        let folder = run.path().join("checkpoint");
        let checkpoints = Checkpoints::of_run(run.path());
        assert!(checkpoints.complete().is_empty());
        fs::create_dir(&folder).unwrap();
        for name in [
            "model-9.mpk",
            "optim-9.mpk",
            "scheduler-9.mpk",
            "model-10.mpk",
            "optim-10.mpk",
            "scheduler-10.mpk",
            "model-11.mpk",
            "optim-11.mpk",
            "scheduler-11.mpk.partial",
            "model-12.mpk.partial",
            "model-x.mpk",
            "notes.txt",
        ] {
            fs::write(folder.join(name), "").unwrap();
        }
        assert_eq!(checkpoints.complete(), [10, 9]);
    }

    fn with_sets(steps: &[usize]) -> (tempfile::TempDir, Checkpoints) {
        let run = tempfile::tempdir().unwrap();
        fs::create_dir(run.path().join("checkpoint")).unwrap();
        let checkpoints = Checkpoints::of_run(run.path());
        for step in steps {
            for part in PARTS {
                fs::write(AtomicRecorder::file(checkpoints.part(part, *step)), "").unwrap();
            }
        }
        (run, checkpoints)
    }

    #[test]
    fn last_and_best_are_kept_until_the_new_one_is_safe() {
        let (_run, checkpoints) = with_sets(&[10, 20, 30, 40]);
        let best = Best {
            step: 20,
            loss: 1.0,
        };
        let keep = KeepBestAndLast {
            checkpoints,
            n_last: 2,
            best: Arc::new(Mutex::new(Some(best))),
            newest: 40,
        };
        assert_eq!(keep.old(), [10]);
    }

    #[test]
    fn leftovers_are_removed_and_nothing_else() {
        let (run, checkpoints) = with_sets(&[10, 20]);
        let folder = run.path().join("checkpoint");
        fs::remove_file(folder.join("optim-20.mpk")).unwrap();
        fs::write(folder.join("model-30.mpk.partial"), "").unwrap();
        fs::write(folder.join("notes.txt"), "").unwrap();
        fs::write(folder.join("model-40.mpk.partial"), "").unwrap();
        checkpoints.remove_incomplete(40);
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "model-10.mpk",
                "model-40.mpk.partial",
                "notes.txt",
                "optim-10.mpk",
                "scheduler-10.mpk"
            ]
        );
    }
}
