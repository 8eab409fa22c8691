//! Parallel text to train an encoder-decoder on.

use std::path::{Path, PathBuf};

use burn::config::Config;
use reformer_datasets::translation::{
    ParallelText, SpecialTokens, Subwords, SubwordsConfig, TokenPairs,
};

use crate::data::DataReport;
use crate::data::tokens::SUBWORDS;
use crate::error::TrainError;

/// One of this many different sources of a text is held out for validation.
const VALID_EVERY: usize = 20;

/// Where pairs of sentences are.
#[derive(Config, Debug, PartialEq, Eq)]
pub enum PairFiles {
    /// The sentences that ship with `reformer-datasets`, English and German.
    Sample,
    /// A file with a pair in each line, a tab between source and target.
    Table(
        /// Its path.
        PathBuf,
    ),
    /// Two files, line by line.
    Lines {
        /// Path of the sources.
        source: PathBuf,
        /// Path of the targets.
        target: PathBuf,
    },
}

/// Parallel text for training and validation.
#[derive(Config, Debug, PartialEq, Eq)]
pub struct PairsConfig {
    /// The training data. The vocabulary is made of it.
    pub train: PairFiles,
    /// The validation data. Default: every twentieth different source of the training text, excluded
    /// from training.
    pub valid: Option<PairFiles>,
    /// Whether to translate from target to source.
    #[config(default = false)]
    pub reversed: bool,
}

impl PairFiles {
    /// One path is a table, two are line-by-line files; `None` without a path.
    pub fn at(paths: &[PathBuf]) -> Option<Self> {
        match paths {
            [] => None,
            [table] => Some(Self::Table(table.clone())),
            [source, target, ..] => Some(Self::Lines {
                source: source.clone(),
                target: target.clone(),
            }),
        }
    }

    /// Its files.
    pub(crate) fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Sample => vec![],
            Self::Table(path) => vec![path],
            Self::Lines { source, target } => vec![source, target],
        }
    }

    fn open(&self, reversed: bool) -> Result<ParallelText, TrainError> {
        let text = match self {
            Self::Sample => ParallelText::sample(),
            Self::Table(path) => ParallelText::open_tsv(path)?,
            Self::Lines { source, target } => ParallelText::open_files(source, target)?,
        };
        Ok(match reversed {
            true => text.reversed(),
            false => text,
        })
    }
}

/// Opened pairs of a run.
#[derive(Debug, Clone)]
pub struct Pairs {
    /// The joint vocabulary.
    pub subwords: Subwords,
    /// Sentences of the validation split, as text.
    pub valid_text: ParallelText,
    /// The same as numbers.
    pub valid: TokenPairs,
    /// The training split.
    pub train: TokenPairs,
    /// What was read from both.
    pub(crate) report: DataReport,
}

impl PairsConfig {
    /// Opens the text. The vocabulary is that of the run's folder, or is trained on the text, with the
    /// vocabulary size of the model.
    pub(crate) fn open(
        &self,
        vocab_size: usize,
        folder: Option<&Path>,
    ) -> Result<Pairs, TrainError> {
        let text = self.train.open(self.reversed)?;
        let [train, valid_text] = match &self.valid {
            Some(valid) => [text, valid.open(self.reversed)?],
            None => text.split_by_source(VALID_EVERY)?,
        };
        let subwords = match folder.filter(|folder| folder.join(SUBWORDS).exists()) {
            Some(folder) => load_subwords(folder)?,
            None => SubwordsConfig::new(vocab_size).train(train.sentences())?,
        };
        let mut report = DataReport {
            train: train.report(),
            valid: valid_text.report(),
            bytes_per_token: None,
        };
        let valid = TokenPairs::encode(&valid_text, &subwords)?;
        let train = TokenPairs::encode(&train, &subwords)?;
        report.count_tokens(train.n_pieces(), valid.n_pieces());
        Ok(Pairs {
            valid,
            train,
            subwords,
            valid_text,
            report,
        })
    }
}

impl PairsConfig {
    /// Opens other text for evaluation, a table or two files, with the vocabulary of the run.
    pub(crate) fn open_others(
        &self,
        folder: &Path,
        paths: &[PathBuf],
    ) -> Result<Pairs, TrainError> {
        let files = PairFiles::at(paths).unwrap_or(PairFiles::Sample);
        let valid_text = files.open(self.reversed)?;
        let subwords = load_subwords(folder)?;
        let valid = TokenPairs::encode(&valid_text, &subwords)?;
        let read = valid_text.report().with_count(valid.n_pieces(), "tokens");
        Ok(Pairs {
            train: valid.clone(),
            valid,
            subwords,
            valid_text,
            report: DataReport::of_one(read),
        })
    }
}

/// The vocabulary of a run of an encoder-decoder.
///
/// # Errors
/// A folder without one, or a damaged file.
pub fn load_subwords(folder: &Path) -> Result<Subwords, TrainError> {
    Ok(Subwords::open(
        folder.join(SUBWORDS),
        &SpecialTokens::default(),
    )?)
}
