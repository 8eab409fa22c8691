//! What can be wrong with a data file or with the sizes asked of it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::split::SplitName;

/// Why data could not be had. Each message is one line: what was given, its limit and the way out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// No file has the path given.
    #[error("there is no file `{}`: check the path, or use the sample that ships with the crate", path.display())]
    NotFound {
        /// The path as it was given.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },

    /// The file is there, but its bytes could not be read.
    #[error("`{}` could not be read: check its permissions and the disk", path.display())]
    Unreadable {
        /// The path as it was given.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },

    /// The path is that of a directory.
    #[error("`{}` is a directory, and a corpus is one file: name a file in it", path.display())]
    Directory {
        /// The path as it was given.
        path: PathBuf,
    },

    /// The corpus has no bytes.
    #[error("`{corpus}` has 0 bytes, and a corpus needs at least 1: choose another file")]
    Empty {
        /// Name of the corpus.
        corpus: String,
    },

    /// The split has no room for one window.
    #[error(
        "the {split} split of `{corpus}` has {bytes} bytes, but one window of length {window_length} needs \
         {bytes_needed} (its inputs and the byte after them): choose a shorter window or a larger file"
    )]
    SplitTooShort {
        /// Name of the corpus.
        corpus: String,
        /// The split in question.
        split: SplitName,
        /// Bytes that the split has.
        bytes: usize,
        /// Bytes that one window takes up: its length and one more.
        bytes_needed: usize,
        /// The length asked for.
        window_length: usize,
    },

    /// The first window would start so late that not one fits.
    #[error(
        "a phase of {phase} leaves no whole window in the {split} split of `{corpus}`: \
         choose at most {max_phase}"
    )]
    PhaseTooLarge {
        /// Name of the corpus.
        corpus: String,
        /// The split in question.
        split: SplitName,
        /// The phase asked for.
        phase: usize,
        /// The largest phase that leaves one window.
        max_phase: usize,
    },

    /// Windows of no bytes.
    #[error("window_length is 0, and must be at least 1: choose the sequence length of the model")]
    ZeroWindowLength,

    /// Batches of no windows.
    #[error("batch_size is 0, and must be at least 1: choose the number of windows in a batch")]
    ZeroBatchSize,

    /// Epochs of no batches.
    #[error(
        "steps_per_epoch is 0, and must be at least 1: choose the number of batches between validations"
    )]
    ZeroStepsPerEpoch,

    /// An evaluation of no windows.
    #[error(
        "max_windows is 0, and must be at least 1: choose more, or leave it out to read the whole split"
    )]
    ZeroMaxWindows,

    /// The rows of an epoch cannot be counted.
    #[error(
        "an epoch of {steps_per_epoch} batches of {batch_size} windows has more than {} windows: \
         lower steps_per_epoch",
        usize::MAX
    )]
    EpochTooLong {
        /// Batches of an epoch.
        steps_per_epoch: usize,
        /// Windows of a batch.
        batch_size: usize,
    },
}
