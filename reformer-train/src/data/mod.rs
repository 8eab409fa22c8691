//! Training data: its configuration, and the opened data.

pub(crate) mod batch;
pub(crate) mod classes;
pub(crate) mod long_range;
pub(crate) mod masked;
mod open;
pub(crate) mod opened;
mod own;
pub(crate) mod pairs;
mod report;
mod text;
pub(crate) mod tokens;
pub(crate) mod up_to;

use std::path::{Path, PathBuf};

use burn::config::Config;
use reformer_datasets::tokens::Column;

use crate::error::TrainError;

pub use classes::{ClassFiles, ClassesConfig, QuestionFiles, QuestionsConfig, load_classes};
pub use long_range::LongRangeConfig;
pub(crate) use open::Wanted;
pub use opened::AskedQuestions;
pub(crate) use opened::{Content, Data};
pub use own::OwnData;
pub use pairs::{PairFiles, Pairs, PairsConfig, load_subwords};
pub use report::DataReport;
pub use text::open_text;
pub use tokens::{
    IdFiles, IdsConfig, TokenizedConfig, TokenizerConfig, load_tokenizer, run_tokenizer_file,
};

/// The training data.
#[derive(Config, Debug, PartialEq, Eq)]
pub enum DataConfig {
    /// The text that ships with `reformer-datasets`.
    Sample,
    /// The bytes of a file of any format: 90 % for training, 5 % for validation, 5 % for a test.
    File(
        /// Its path.
        PathBuf,
    ),
    /// The bytes of all files in a folder, split by file.
    Folder(
        /// Its path.
        PathBuf,
    ),
    /// enwik8, raw or packed, with the split of the literature.
    Enwik8(
        /// Path of the official file.
        PathBuf,
    ),
    /// text8, raw or packed, with the split of the literature.
    Text8(
        /// Path of the official file.
        PathBuf,
    ),
    /// The bytes of the texts in a column of JSON Lines or Parquet files, with a byte 0 after each.
    Column(
        /// Where it is.
        Column,
    ),
    /// A text as ids of a tokenizer's vocabulary.
    Tokenized(
        /// The text and the tokenizer.
        TokenizedConfig,
    ),
    /// Ids that a tokenizer has made before.
    Ids(
        /// Where they are.
        IdsConfig,
    ),
    /// Images as sequences of `3 * size * size` bytes.
    Images {
        /// A folder with the `.npz` files of downsampled ImageNet, a folder of PNG, JPEG, WebP, GIF, BMP
        /// and TIFF files, or an archive of them.
        path: PathBuf,
        /// Side length to which images are resized, in pixels.
        size: usize,
    },
    /// The duplication task `0w0w` of the paper, without end.
    Duplication {
        /// Different symbols in `w`.
        n_symbols: usize,
    },
    /// Multi-query associative recall, generated without end.
    AssociativeRecall {
        /// Pairs of a key and a value in a sequence.
        n_pairs: usize,
        /// Minimum number of pairs, if it varies between sequences.
        fewest_pairs: Option<usize>,
        /// Number of questions, if larger than the number of pairs.
        n_questions: Option<usize>,
        /// Different keys.
        n_keys: usize,
        /// Different values.
        n_values: usize,
    },
    /// Copying of repeated passages, generated without end.
    ReturningPassages {
        /// Different symbols.
        n_symbols: usize,
        /// Minimum length of a passage, in symbols.
        shortest: usize,
        /// Maximum length of a passage, in symbols.
        longest: usize,
        /// Whether the copy is reversed.
        backwards: bool,
    },
    /// A text with inserted sentences (needles) that are asked for later on.
    Needles {
        /// A text, or a folder of them. Default: the sample.
        path: Option<PathBuf>,
        /// Sentences in a sequence.
        n_needles: usize,
    },
    /// Sentences and their translations, for an encoder-decoder.
    Pairs(
        /// Where they are.
        PairsConfig,
    ),
    /// Texts and their classes, for a classifier.
    Classes(
        /// Where they are.
        ClassesConfig,
    ),
    /// A task of the Long Range Arena, for a classifier.
    LongRange(
        /// Which one, and where its files are.
        LongRangeConfig,
    ),
    /// Questions about texts, for a model that marks answer spans.
    Questions(
        /// Where they are.
        QuestionsConfig,
    ),
    /// Sequences that the program makes itself: [`Run::create_with_data`](crate::Run::create_with_data).
    Own(
        /// Their name.
        String,
    ),
}

impl DataConfig {
    /// The files and folders that a run reads, training data first.
    pub fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Sample
            | Self::Duplication { .. }
            | Self::AssociativeRecall { .. }
            | Self::ReturningPassages { .. }
            | Self::Own(_) => vec![],
            Self::File(path) | Self::Folder(path) | Self::Enwik8(path) | Self::Text8(path) => {
                vec![path]
            }
            Self::Images { path, .. } | Self::Column(Column { path, .. }) => vec![path],
            // A run has its own copy of the tokenizer.
            Self::Tokenized(TokenizedConfig { text, .. }) => text.paths(),
            Self::Ids(IdsConfig { files, .. }) => files.paths(),
            Self::Needles { path, .. } => path.iter().map(PathBuf::as_path).collect(),
            Self::Pairs(PairsConfig { train, valid, .. }) => {
                let files = std::iter::once(train).chain(valid);
                files.flat_map(PairFiles::paths).collect()
            }
            Self::Classes(ClassesConfig { train, valid }) => {
                let files = std::iter::once(train).chain(valid);
                files.filter_map(ClassFiles::path).collect()
            }
            Self::LongRange(task) => task.path().into_iter().collect(),
            Self::Questions(QuestionsConfig { train, valid }) => {
                let files = std::iter::once(train).chain(valid);
                files.filter_map(QuestionFiles::path).collect()
            }
        }
    }

    /// The name of one prediction target: a token, or the output of a head.
    pub fn token_name(&self) -> &'static str {
        match self {
            Self::Images { .. } => "dim",
            Self::Duplication { .. }
            | Self::AssociativeRecall { .. }
            | Self::ReturningPassages { .. }
            | Self::Own(_)
            | Self::Tokenized(_)
            | Self::Ids(_) => "token",
            Self::Needles { .. } => "letter",
            Self::Pairs(_) => "piece",
            Self::Classes(_) | Self::LongRange(_) => "label",
            // The first or the last position of an answer.
            Self::Questions(_) => "border",
            Self::Sample
            | Self::File(_)
            | Self::Folder(_)
            | Self::Enwik8(_)
            | Self::Text8(_)
            | Self::Column(_) => "byte",
        }
    }

    /// The unit of throughput, in the plural: tokens, or outputs of a head.
    pub fn unit(&self) -> String {
        match self {
            Self::Classes(_) | Self::LongRange(_) | Self::Questions(_) => {
                format!("{}s", self.token_name())
            }
            _ => "tokens".to_owned(),
        }
    }

    /// Size of the vocabulary, as far as the data determines it: for ids, and texts through a tokenizer.
    ///
    /// # Errors
    /// A tokenizer or ids that cannot be read.
    pub fn vocab_size(&self) -> Result<Option<usize>, TrainError> {
        Ok(match self {
            Self::Tokenized(tokenized) => Some(tokenized.vocab_size()?),
            Self::Ids(ids) => Some(ids.vocab_size()?),
            _ => None,
        })
    }
}
