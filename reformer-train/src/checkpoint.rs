//! Which checkpoints of a run are complete.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::Optimizer;
use burn::tensor::backend::AutodiffBackend;

use crate::error::TrainError;
use crate::record::AtomicRecorder;

/// What Burn's learner saves at the end of an epoch, one file each.
const PARTS: [&str; 3] = ["model", "optim", "scheduler"];

/// The checkpoints in a run's folder.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
}

/// Where a run can go on.
#[derive(Debug)]
pub struct ResumePoint {
    /// Epochs that are done.
    pub epoch: usize,
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

    /// Path, without extension, of the model's record after an epoch.
    pub fn model(&self, epoch: usize) -> PathBuf {
        self.part("model", epoch)
    }

    fn part(&self, part: &str, epoch: usize) -> PathBuf {
        self.folder.join(format!("{part}-{epoch}"))
    }

    /// Epochs of which there is every part, the newest first. A run that was killed between two
    /// parts leaves a set that is not among them.
    pub fn complete(&self) -> Vec<usize> {
        let is_complete = |epoch: &usize| {
            PARTS
                .iter()
                .all(|part| AtomicRecorder::file(self.part(part, *epoch)).is_file())
        };
        let epoch_of = |name: &str| -> Option<usize> {
            let stem = name.strip_suffix(".mpk")?;
            stem.strip_prefix("model-")?.parse().ok()
        };
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut epochs: Vec<usize> = entries
            .filter_map(|entry| epoch_of(entry.file_name().to_str()?))
            .filter(is_complete)
            .collect();
        epochs.sort_unstable_by(|a, b| b.cmp(a));
        epochs
    }

    /// The newest checkpoint that can be read; epoch 0 if there is none at all.
    ///
    /// # Errors
    /// If there are complete checkpoints, but not one can be read: the newest one's reason.
    pub fn newest_readable<B, M, O>(&self, device: &B::Device) -> Result<ResumePoint, TrainError>
    where
        B: AutodiffBackend,
        M: burn::module::AutodiffModule<B>,
        O: Optimizer<M, B>,
    {
        let mut damaged = Vec::new();
        for epoch in self.complete() {
            match self.check::<B, M, O>(epoch, device) {
                Ok(()) => return Ok(ResumePoint { epoch, damaged }),
                Err(error) => damaged.push(error),
            }
        }
        match damaged.is_empty() {
            true => Ok(ResumePoint { epoch: 0, damaged }),
            false => Err(damaged.swap_remove(0)),
        }
    }

    /// Burn's learner panics on a file that it cannot read, so each is read once before.
    fn check<B, M, O>(&self, epoch: usize, device: &B::Device) -> Result<(), TrainError>
    where
        B: AutodiffBackend,
        M: burn::module::AutodiffModule<B>,
        O: Optimizer<M, B>,
    {
        let [model, optim, scheduler] = PARTS.map(|part| self.part(part, epoch));
        AtomicRecorder::load_named::<B, <M as Module<B>>::Record>(&model, device)?;
        AtomicRecorder::load_named::<B, O::Record>(&optim, device)?;
        AtomicRecorder::load_named::<B, usize>(&scheduler, device)?;
        Ok(())
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
}
