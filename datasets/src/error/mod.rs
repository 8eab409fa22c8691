//! Errors of data files and of requested sizes.

mod making;
mod size;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub(crate) use making::{check, unless_zero};
pub use size::SizeError;

use crate::report::{escaped, grouped, shown, shown_path, shown_text};

/// Why data could not be read. Each message is one line: the value, its limit and a remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// No file exists at the path.
    #[error(
        "there is no file `{}`: check the path, or use the sample that ships with the crate",
        shown_path(path)
    )]
    NotFound {
        /// The path as it was given.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },

    /// The file exists, but its bytes could not be read.
    #[error(
        "`{}` could not be read: check its permissions and the disk",
        shown_path(path)
    )]
    Unreadable {
        /// The path as it was given.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },

    /// The path is a directory.
    #[error(
        "`{}` is a directory, and a file is needed: name a file in it",
        shown_path(path)
    )]
    Directory {
        /// The path as it was given.
        path: PathBuf,
    },

    /// The path is a device or a socket.
    #[error(
        "`{}` is a device or a socket, and a file is needed: name a file or a pipe",
        shown_path(path)
    )]
    NoFile {
        /// The path as it was given.
        path: PathBuf,
    },

    /// The path is a pipe without a writer.
    #[error(
        "no data arrived on the pipe `{}` for {seconds} s: start the writing program first, or name a file",
        shown_path(path)
    )]
    SilentPipe {
        /// The path as it was given.
        path: PathBuf,
        /// How long was waited, in seconds.
        seconds: u64,
    },

    /// A pipe does not end.
    #[error(
        "the pipe `{}` delivered more than {} bytes, the limit: save the data to a file and name that",
        shown_path(path), grouped(*limit)
    )]
    EndlessPipe {
        /// The path as it was given.
        path: PathBuf,
        /// Maximum number of bytes.
        limit: u64,
    },

    /// A packed file contains far more than text would.
    #[error(
        "`{}` unpacks to more than {} bytes, far more than its size suggests: if that is intended, \
         unpack it and name the result",
        shown_path(path), grouped(*limit)
    )]
    Bomb {
        /// The path as it was given.
        path: PathBuf,
        /// Maximum number of unpacked bytes.
        limit: u64,
    },

    /// Data for the temporary file does not fit on the disk.
    #[error(
        "there is not enough space in the temporary folder `{}` for the contents of `{}`: free some, or \
         set TMPDIR to a folder on a larger disk", shown_path(&std::env::temp_dir()), shown_path(path)
    )]
    NoSpace {
        /// The path as it was given.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },

    /// The folder contains the state of the system.
    #[error(
        "`{}` is a folder of the operating system, not of data: name another",
        shown_path(path)
    )]
    SystemFolder {
        /// The path as it was given.
        path: PathBuf,
    },

    /// A folder has too many files.
    #[error(
        "`{}` contains more than {} files and folders, the limit: name a folder in it, or an archive",
        shown_path(path), grouped(*limit as u64)
    )]
    TooManyFiles {
        /// The path as it was given.
        path: PathBuf,
        /// Maximum number of files and folders.
        limit: usize,
    },

    /// Too little data for a split.
    #[error(
        "`{}` has {n} different {unit}, and at least 2 are needed, one to train on and one to validate on: add more, or \
         name other data to validate on{left_out}",
        escaped(name)
    )]
    TooFew {
        /// Where they are from.
        name: String,
        /// The number of different items.
        n: usize,
        /// The unit, in the plural.
        unit: &'static str,
        /// What was skipped while reading, as the end of the message.
        left_out: String,
    },

    /// There are about as many classes as texts.
    #[error(
        "`{}` has {} different labels for {} texts (`{}`, `{}`, ...), and at least 2 texts of a class are needed on \
         average: choose a column whose labels repeat",
        escaped(name), grouped(*n_classes as u64), grouped(*n_texts as u64), shown(&examples[0]), shown(&examples[1])
    )]
    TooManyClasses {
        /// Where they are from.
        name: String,
        /// How many classes there are.
        n_classes: usize,
        /// How many texts there are.
        n_texts: usize,
        /// Two of the classes.
        examples: [String; 2],
    },

    /// The corpus has no bytes.
    #[error(
        "`{}` has 0 bytes, and a corpus needs at least 1: choose another file",
        escaped(corpus)
    )]
    Empty {
        /// Name of the corpus.
        corpus: String,
    },

    /// There are no tokens.
    #[error(
        "`{}` has 0 tokens, and a corpus needs at least 1: choose other data",
        escaped(name)
    )]
    NoTokens {
        /// Where they would be from.
        name: String,
    },

    /// A number that is not an id of the vocabulary.
    #[error(
        "`{}` has the id {id}, and ids must be below {limit}: give the size of its vocabulary, or name the tokenizer that \
         made it",
        escaped(name)
    )]
    IdTooLarge {
        /// Where it is from.
        name: String,
        /// The number.
        id: i64,
        /// Size of the vocabulary.
        limit: usize,
    },

    /// A text for a tokenizer that is not UTF-8.
    #[error(
        "`{}` has bytes at position {} that are not UTF-8, and a tokenizer reads text: convert it to UTF-8, or use its \
         bytes as tokens",
        escaped(name), grouped(*position as u64)
    )]
    NotUtf8 {
        /// Name of the corpus.
        name: String,
        /// Position of the first such byte.
        position: usize,
    },

    /// A column that the records do not have.
    #[error(
        "`{}` has no column `{}` {wanted}{}: name another one",
        shown_path(path),
        shown(column),
        shown_text(found)
    )]
    NoColumn {
        /// The path as it was given.
        path: PathBuf,
        /// The name of the column.
        column: String,
        /// What it must contain.
        wanted: &'static str,
        /// What there is instead.
        found: String,
    },

    /// A file of a format whose reader is not in this build.
    #[error(
        "`{}` is a Parquet file, and this build cannot read them: build with the cargo feature `parquet`",
        shown_path(path)
    )]
    NoParquet {
        /// The path as it was given.
        path: PathBuf,
    },

    /// The file does not have the expected format.
    #[error(
        "`{}` is not {expected} ({}): check that it is whole and of that kind",
        shown_path(path),
        shown_text(found)
    )]
    Malformed {
        /// The path as it was given.
        path: PathBuf,
        /// The expected format.
        expected: String,
        /// What is wrong with it.
        found: String,
    },

    /// A file could not be written.
    #[error(
        "`{}` could not be written ({}): check the folder, its permissions and the disk",
        shown_path(path),
        shown_text(reason)
    )]
    Unwritable {
        /// The path as it was given.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },

    /// The two files of a parallel text do not match.
    #[error(
        "`{}` has {} lines, but `{}` has {}: a line must be the translation of the same line; check that the \
         files belong together and are whole",
        shown_path(source_path), lines[0], shown_path(target_path), lines[1]
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

    /// A vocabulary cannot do what was requested.
    #[error(
        "the vocabulary {problem} ({}): train or load another",
        shown_text(reason)
    )]
    Tokenizer {
        /// What it cannot do.
        problem: &'static str,
        /// Why.
        reason: String,
    },

    /// A published data set with another size than the known one.
    #[error(
        "`{}` has {} bytes, but {name} has {}: use the whole file, or read it like any other text (figures on a \
         part of it are not comparable with published ones)",
        escaped(corpus), grouped(*bytes as u64), grouped(*bytes_expected as u64)
    )]
    WrongSize {
        /// Name of the corpus.
        corpus: String,
        /// The expected data set.
        name: &'static str,
        /// Actual size in bytes.
        bytes: usize,
        /// Expected size in bytes.
        bytes_expected: usize,
    },

    /// A folder contains nothing to read.
    #[error("`{}` has no {wanted} in it: check the path", shown_path(path))]
    NothingIn {
        /// The path as it was given.
        path: PathBuf,
        /// The kind of content that was expected.
        wanted: &'static str,
    },

    /// A text has an unknown class.
    #[error(
        "`{}` has texts of the unknown class `{}`, and the known ones are {}: leave them out, or \
         train on them",
        escaped(name),
        shown(class),
        shown_text(classes)
    )]
    OtherClass {
        /// Where the texts are from.
        name: String,
        /// The class.
        class: String,
        /// Names of the known classes.
        classes: String,
    },

    /// A requested size, or a setting, that cannot work.
    #[error(transparent)]
    Size(#[from] SizeError),
}
