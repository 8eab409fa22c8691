//! What can keep a run from starting, going on or ending.

use std::io;
use std::path::PathBuf;

use reformer_core::ConfigError;
use reformer_datasets::DatasetError;
use thiserror::Error;

use crate::parallel::ParallelError;

/// Why a run failed. Each message is one line and names the setting or the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// Nodes that cannot train together.
    #[error(transparent)]
    Parallel(#[from] ParallelError),

    /// Data that cannot be used.
    #[error(transparent)]
    Data(#[from] DatasetError),

    /// The folder of a new run is there already.
    #[error("`{}` exists already, and runs are not overwritten: choose another name, or resume it", path.display())]
    RunExists {
        /// The folder.
        path: PathBuf,
    },

    /// A folder that is not one of a run.
    #[error("`{}` is not the folder of a run: it has no config.json", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },

    /// The configuration of a run is no valid one.
    #[error("`{}` is not a configuration of this version", path.display())]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },

    /// A run of a model of another kind.
    #[error("the run trains {found}, but this is for {wanted}: name another run")]
    OtherModel {
        /// What it is.
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },

    /// Weights or the state of an optimizer that cannot be read.
    #[error("`{}` is missing or damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader stumbled on.
        reason: String,
    },

    /// A file that cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },

    /// A file or folder that cannot be written.
    #[error("`{}` cannot be written", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },

    /// A line of `metrics.csv` that is none of this version.
    #[error("line {line} of `{}` is no row of metrics of this version: remove it", path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },

    /// The loss, or the norm of the gradients, became infinite or no number.
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
        /// What probably led to it, and what helps.
        cause: String,
        /// Where there is a checkpoint of a good state.
        last_good: String,
    },
}
