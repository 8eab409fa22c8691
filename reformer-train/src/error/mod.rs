//! Errors that keep a run from starting, continuing or ending.

mod parallel;
mod setting;

use std::io;
use std::path::PathBuf;

use reformer_core::ConfigError;
use reformer_core::huggingface::HuggingFaceError;
use reformer_datasets::{DatasetError, SizeError};
use thiserror::Error;

pub use parallel::ParallelError;
pub use setting::SettingError;
pub(crate) use setting::reason;

/// Why a run failed. Each message is one line and names the setting or the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// Processes that cannot train together.
    #[error(transparent)]
    Parallel(#[from] ParallelError),

    /// Data that cannot be used.
    #[error(transparent)]
    Data(#[from] DatasetError),

    /// The folder of a new run is that of another one.
    #[error("`{}` exists already, and runs are not overwritten: choose another name, or resume it", path.display())]
    RunExists {
        /// The folder.
        path: PathBuf,
    },

    /// Something else than a run, in the place of a new one.
    #[error(
        "`{}` exists already and is not the folder of a run: choose another name, or move it away",
        path.display()
    )]
    FolderTaken {
        /// The file or folder.
        path: PathBuf,
    },

    /// A new run in the folder of the checkpoints of another one.
    #[error(
        "`{}` is in the folder of the checkpoints of the run `{}`, where no other run can be: choose another folder",
        path.display(), run.display()
    )]
    AmongCheckpoints {
        /// The folder of the new run.
        path: PathBuf,
        /// The folder of the other one.
        run: PathBuf,
    },

    /// A folder that does not contain a run.
    #[error("`{}` is not the folder of a run, since {reason}", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// What is there, and the way out.
        reason: &'static str,
        /// The error of the operating system, which `reason` says in other words.
        kind: io::ErrorKind,
    },

    /// The configuration of a run is not valid.
    #[error("`{}` is not a configuration of this version", path.display())]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// The wrong setting.
        #[source]
        source: SettingError,
    },

    /// A run of another kind of model.
    #[error("the run trains {found}, but this is for {wanted}: name another run")]
    OtherModel {
        /// The kind that was found.
        found: &'static str,
        /// The kind that was asked for.
        wanted: &'static str,
    },

    /// Weights or the state of an optimizer that cannot be read.
    #[error("`{}` is missing or damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The error of the reader.
        reason: String,
    },

    /// Weights that are infinite or NaN.
    #[error(
        "`{tensor}` has weights that are not finite in `{}`: its training diverged, name another model",
        path.display()
    )]
    NotFinite {
        /// The folder of the model.
        path: PathBuf,
        /// The first tensor with such weights.
        tensor: String,
    },

    /// Complete weights that do not belong to the model that config.json describes.
    #[error("the weights in `{}` do not match its config.json: {reason}", path.display())]
    OtherWeights {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },

    /// A run without a checkpoint.
    #[error(
        "the run in `{}` has no weights yet, neither model.mpk nor a checkpoint: train it first (--resume)",
        path.display()
    )]
    NoWeights {
        /// Its folder.
        path: PathBuf,
    },

    /// Initial weights of layers with another structure.
    #[error(
        "the layers in `{}` differ from this model's, so it cannot start from them: {reason}; build it with \
         the settings of that folder's config.json",
        path.display()
    )]
    OtherLayers {
        /// Their folder.
        path: PathBuf,
        /// The first tensor that does not fit.
        reason: String,
    },

    /// A folder of Hugging Face that cannot be read.
    #[error(transparent)]
    HuggingFace(#[from] HuggingFaceError),

    /// A run that has trained some steps, but has no checkpoint to resume from.
    #[error(
        "the run in `{}` is at step {step}, and its checkpoints are gone: restore its checkpoint folder, or \
         start a new run",
        path.display()
    )]
    NoCheckpoint {
        /// The folder of the run.
        path: PathBuf,
        /// Steps that are done.
        step: usize,
    },

    /// A run that another process is training.
    #[error("`{}` is being trained by another process: wait for its end, or stop it", path.display())]
    Locked {
        /// The folder of the run.
        path: PathBuf,
    },

    /// Data that has changed since the run began.
    #[error(
        "`{}` has changed since the run began, {then} then and {now} now: restore the old data, or start \
         a new run (to continue with this data, remove run.json from the run's folder)",
        path.display()
    )]
    DataChanged {
        /// The file or folder.
        path: PathBuf,
        /// Its bytes when the run began.
        then: String,
        /// Its bytes now.
        now: String,
    },

    /// An evaluation without any target.
    #[error(
        "there is nothing to measure: none of {n_sequences} sequences has a target within \
         {window_length} tokens; name other data, measure more of them (eval_windows), or train on longer sequences \
         (window_length)"
    )]
    NothingToMeasure {
        /// Sequences in the evaluation.
        n_sequences: usize,
        /// Tokens of each sequence that the model sees.
        window_length: usize,
    },

    /// A file that cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },

    /// A file or folder that cannot be written.
    #[error("`{}` cannot be written", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },

    /// A file of metrics with other columns.
    #[error(
        "`{}` does not have the columns of this version's metrics: move it away",
        path.display()
    )]
    OtherColumns {
        /// The file.
        path: PathBuf,
    },

    /// Rows of `metrics.csv` that are not of this run.
    #[error(
        "`{}` has a row of step {step}, but the run has {steps} steps: remove the rows after its last step",
        path.display()
    )]
    OtherRows {
        /// The file.
        path: PathBuf,
        /// The last step of a row.
        step: usize,
        /// Steps of the run.
        steps: usize,
    },

    /// Lines of `metrics.csv` that are not valid rows.
    #[error(
        "line {line} of `{}` and {n_others} others are not rows of metrics, and were ignored",
        path.display()
    )]
    BadRows {
        /// The file.
        path: PathBuf,
        /// Number of the first one, from 1.
        line: usize,
        /// Number of further such lines.
        n_others: usize,
    },

    /// The loss, or the norm of the gradients, became infinite or NaN.
    #[error(
        "the loss of step {step} is {loss} and its gradient norm {gradient_norm}: {cause}; {last_good}"
    )]
    Diverged {
        /// The step, counted from 0, whose gradients were not applied.
        step: usize,
        /// Its loss.
        loss: f64,
        /// The norm of its gradients.
        gradient_norm: f64,
        /// The probable cause, and a remedy.
        cause: String,
        /// The last good checkpoint, if there is one.
        last_good: String,
    },

    /// The loss of an evaluation became infinite or NaN.
    #[error("the loss of the evaluation after step {step} is {loss}: {cause}; {last_good}")]
    DivergedEvaluation {
        /// Training steps that were done.
        step: usize,
        /// The loss.
        loss: f64,
        /// The probable cause, and a remedy.
        cause: String,
        /// The last good checkpoint, if there is one.
        last_good: String,
    },
}

impl From<SizeError> for TrainError {
    fn from(error: SizeError) -> Self {
        Self::Data(error.into())
    }
}
