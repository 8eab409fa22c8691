//! Errors of requested sizes and settings.

use thiserror::Error;

use crate::holdout::SplitName;
use crate::report::escaped;

/// Why data cannot be read in the requested sizes. Each message is one line: the value, its limit
/// and a remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SizeError {
    /// The split is shorter than one window.
    #[error(
        "the {split} split of `{}` has {tokens} {token}s, but one window of length {window_length} needs \
         {tokens_needed} (its inputs and the {token} after them): choose a shorter window or a larger file",
        escaped(corpus)
    )]
    SplitTooShort {
        /// Name of the corpus.
        corpus: String,
        /// The split in question.
        split: SplitName,
        /// The name of a token: a byte, or an id of a vocabulary.
        token: &'static str,
        /// Tokens that the split has.
        tokens: usize,
        /// Tokens that one window needs: its length and one more.
        tokens_needed: usize,
        /// The requested length.
        window_length: usize,
    },

    /// The window length is 0.
    #[error("window_length is 0, and must be at least 1: choose the sequence length of the model")]
    ZeroWindowLength,

    /// The batch size is 0.
    #[error("batch_size is 0, and must be at least 1: choose the number of windows in a batch")]
    ZeroBatchSize,

    /// An epoch has 0 batches.
    #[error(
        "steps_per_epoch is 0, and must be at least 1: choose the number of batches between validations"
    )]
    ZeroStepsPerEpoch,

    /// An evaluation has 0 windows.
    #[error(
        "max_windows is 0, and must be at least 1: choose more, or leave it out to read the whole split"
    )]
    ZeroMaxWindows,

    /// The number of rows of an epoch overflows.
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

    /// The context of a window leaves nothing to predict.
    #[error(
        "a context of {context_length} leaves no target in windows of {window_length}: choose at most {}",
        window_length - 1
    )]
    ContextTooLong {
        /// The requested context.
        context_length: usize,
        /// Tokens of a window.
        window_length: usize,
    },

    /// The requested length is not that of the sequences.
    #[error(
        "window_length is {window_length}, but the sequences have {seq_length} tokens: choose {seq_length}"
    )]
    OtherLength {
        /// The requested length.
        window_length: usize,
        /// The length that the sequences have.
        seq_length: usize,
    },

    /// There is no sequence to read.
    #[error("there are 0 sequences, and a loader needs at least 1: choose other data")]
    NoSequences,

    /// An evaluation of endless sequences.
    #[error("these sequences never end, so an evaluation needs a number of them: set max_windows")]
    EndlessEvaluation,

    /// An invalid value of a setting.
    #[error("{setting} is {value}, and must be {limit}: choose {way_out}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: usize,
        /// The allowed values.
        limit: &'static str,
        /// How to choose it.
        way_out: &'static str,
    },
}
