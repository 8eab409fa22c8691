//! What can be wrong with a data file or with the sizes asked of it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::loading::Sequences;
use crate::text::SplitName;

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
    #[error("`{}` is a directory, and a file is needed: name a file in it", path.display())]
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

    /// The file is not what it should be.
    #[error("`{}` is not {expected} ({found}): check that it is whole and of that kind", path.display())]
    Malformed {
        /// The path as it was given.
        path: PathBuf,
        /// What it should be.
        expected: String,
        /// What is wrong with it.
        found: String,
    },

    /// A file could not be written.
    #[error("`{}` could not be written ({reason}): check the folder, its permissions and the disk", path.display())]
    Unwritable {
        /// The path as it was given.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },

    /// The two files of a parallel text do not belong together.
    #[error(
        "`{}` has {} lines, but `{}` has {}: a line must be the translation of the same line; check that the \
         files belong together and are whole",
        source_path.display(), lines[0], target_path.display(), lines[1]
    )]
    OtherLines {
        /// The file with the sources.
        source_path: PathBuf,
        /// The file with the targets.
        target_path: PathBuf,
        /// How many lines each has.
        lines: [usize; 2],
    },

    /// Translations without a reference, or references without a translation.
    #[error(
        "there are {hypotheses} translations, but {references} references: give each sentence one"
    )]
    OtherSentences {
        /// Number of translations.
        hypotheses: usize,
        /// Number of references.
        references: usize,
    },

    /// A vocabulary cannot do what is asked of it.
    #[error("the vocabulary {problem} ({reason}): train or load another")]
    Tokenizer {
        /// What it cannot do.
        problem: &'static str,
        /// Why.
        reason: String,
    },

    /// A published data set of a known size has another.
    #[error(
        "`{corpus}` has {bytes} bytes, but {name} has {bytes_expected}: use the whole file, or ask for a prefix \
         explicitly (figures on a prefix do not compare with published ones)"
    )]
    WrongSize {
        /// Name of the corpus.
        corpus: String,
        /// The data set it should be.
        name: &'static str,
        /// Bytes that there are.
        bytes: usize,
        /// Bytes that there should be.
        bytes_expected: usize,
    },

    /// A folder has nothing to read in it.
    #[error("`{}` has no {wanted} in it: check the path", path.display())]
    NothingIn {
        /// The path as it was given.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },

    /// A text is of a class that there is not.
    #[error(
        "`{name}` has texts of class `{class}`, which is none of those that are known ({classes}): leave them out, or \
         train on them"
    )]
    OtherClass {
        /// Where the texts are from.
        name: String,
        /// The class.
        class: String,
        /// Names of the known ones.
        classes: String,
    },

    /// The context of a window leaves nothing to predict.
    #[error(
        "a context of {context_length} leaves no target in windows of {window_length}: choose at most {}",
        window_length - 1
    )]
    ContextTooLong {
        /// The context asked for.
        context_length: usize,
        /// Tokens of a window.
        window_length: usize,
    },

    /// The length asked for is not that of the sequences.
    #[error(
        "window_length is {window_length}, but the sequences have {seq_length} tokens: choose {seq_length}"
    )]
    OtherLength {
        /// The length asked for.
        window_length: usize,
        /// The length that the sequences have.
        seq_length: usize,
    },

    /// There is no sequence to read.
    #[error("there are 0 sequences, and a loader needs at least 1: choose other data")]
    NoSequences,

    /// An evaluation of sequences that do not end.
    #[error("these sequences never end, so an evaluation needs a number of them: set max_windows")]
    EndlessEvaluation,

    /// A setting has a value that cannot be.
    #[error("{setting} is {value}, and must be {limit}: choose {way_out}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: usize,
        /// What it has to be.
        limit: &'static str,
        /// How to choose it.
        way_out: &'static str,
    },
}

impl DatasetError {
    /// What the system answered about a path.
    pub(crate) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path, source },
            _ => Self::Unreadable { path, source },
        }
    }

    /// A file that is not what it should be.
    pub(crate) fn malformed(
        path: &Path,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// What the library for vocabularies answered.
    pub(crate) fn tokenizer(problem: &'static str) -> impl FnOnce(tokenizers::Error) -> Self {
        move |error| Self::Tokenizer {
            problem,
            reason: error.to_string(),
        }
    }

    /// That sequences have the length asked for, which is not 0.
    pub(crate) fn check_length(
        window_length: usize,
        sequences: &dyn Sequences,
    ) -> Result<(), Self> {
        let seq_length = sequences.seq_length();
        if window_length == 0 {
            return Err(Self::ZeroWindowLength);
        }
        if window_length != seq_length {
            return Err(Self::OtherLength {
                window_length,
                seq_length,
            });
        }
        Ok(())
    }
}
