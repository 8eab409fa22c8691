//! Opened data.

use std::path::Path;
use std::sync::Arc;

use reformer_core::ConfigError;
use reformer_datasets::labelled::{ClassifiedRows, LabelledRows, Questions};
use reformer_datasets::tokens::{TokenCorpus, Tokenizer};
use reformer_datasets::translation::TokenPairs;
use reformer_datasets::{Corpus, DatasetError, ReadReport, Sequences, SizeError, Split, Splits};

use crate::data::DataReport;
use crate::data::classes::{Asked, save_classes};
use crate::data::pairs::Pairs;
use crate::data::tokens::{bytes_per_token, save_vocabulary};
use crate::error::TrainError;

/// Opened data.
#[derive(Debug, Clone)]
pub(crate) struct Data {
    pub(crate) train: Part,
    pub(crate) valid: Part,
    pub(crate) vocab_size: usize,
    pub(crate) content: Content,
    pub(crate) report: DataReport,
}

/// What the task needs besides token numbers: texts, names of classes, questions.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// For a language model.
    Tokens,
    /// The same, of a tokenizer's vocabulary.
    Tokenized(Arc<Tokenizer>),
    Pairs(Arc<Pairs>),
    /// Rows of the validation split.
    Classes(ClassifiedRows),
    Questions(Arc<AskedQuestions>),
}

/// Questions of a run.
#[derive(Debug)]
pub struct AskedQuestions {
    /// The validation split.
    pub valid: Questions,
    /// Questions that are left out of training, because their answer lies beyond the window.
    pub n_left_out: usize,
}

/// One split of the data.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// A text, as bytes or ids, to be cut into windows.
    Text(Split<TokenCorpus>),
    Sequences(Arc<dyn Sequences>),
    Pairs(TokenPairs),
    Labelled(LabelledRows),
}

impl From<Splits> for Data {
    fn from(splits: Splits) -> Self {
        Self {
            report: DataReport::of_splits(&splits),
            train: Part::Text(splits.train.into()),
            valid: Part::Text(splits.valid.into()),
            vocab_size: 256,
            content: Content::Tokens,
        }
    }
}

impl From<Pairs> for Data {
    fn from(pairs: Pairs) -> Self {
        Self {
            train: Part::Pairs(pairs.train.clone()),
            valid: Part::Pairs(pairs.valid.clone()),
            vocab_size: pairs.subwords.vocab_size(),
            report: pairs.report.clone(),
            content: Content::Pairs(Arc::new(pairs)),
        }
    }
}

impl Data {
    /// Ids of a text, and the tokenizer that made them, if it is known.
    pub(crate) fn of_ids(
        train: Split<TokenCorpus>,
        valid: Split<TokenCorpus>,
        tokenizer: Option<Arc<Tokenizer>>,
    ) -> Self {
        let bytes_per_token = bytes_per_token(&valid, tokenizer.as_deref());
        Self {
            report: DataReport::of_ids(&train, &valid, bytes_per_token),
            vocab_size: train.corpus().vocab_size(),
            train: Part::Text(train),
            valid: Part::Text(valid),
            content: tokenizer.map_or(Content::Tokens, Content::Tokenized),
        }
    }

    pub(crate) fn of_sequences(
        train: Arc<dyn Sequences>,
        valid: Arc<dyn Sequences>,
        report: DataReport,
    ) -> Self {
        Self {
            report,
            vocab_size: train.vocab_size(),
            train: Part::Sequences(train),
            valid: Part::Sequences(valid),
            content: Content::Tokens,
        }
    }

    /// A task with seeded sequences: a training and a validation stream that share no sequence.
    pub(super) fn of_task<T: Sequences + 'static>(
        seed: u64,
        init: impl Fn(u64) -> Result<T, DatasetError>,
    ) -> Result<Self, TrainError> {
        let init = |seed| init(seed).map_err(of_run);
        let [train, valid] = [init(seed)?, init(!seed)?];
        let report = DataReport::of_one(ReadReport::new("generated sequences"));
        Ok(Self::of_sequences(Arc::new(train), Arc::new(valid), report))
    }

    /// Rows with classes for training and validation.
    pub(super) fn of_classes(train: &ClassifiedRows, valid: ClassifiedRows) -> Self {
        let report = DataReport {
            train: train.report(),
            valid: valid.report(),
            bytes_per_token: None,
        };
        let rows = [train.rows().clone(), valid.rows().clone()];
        Self::of_rows(rows, Content::Classes(valid), report)
    }

    /// Questions in rows of at most `length` tokens.
    pub(super) fn of_questions(asked: Asked, length: usize) -> Self {
        let Asked {
            train,
            valid,
            report,
            n_left_out,
        } = asked;
        let rows = [train, valid.encode(length)];
        let asked = AskedQuestions { valid, n_left_out };
        Self::of_rows(rows, Content::Questions(Arc::new(asked)), report)
    }

    fn of_rows(rows: [LabelledRows; 2], content: Content, mut report: DataReport) -> Self {
        let [train, valid] = rows;
        report.count_tokens(train.n_tokens(), valid.n_tokens());
        Self {
            report,
            vocab_size: train.vocab_size(),
            train: Part::Labelled(train),
            valid: Part::Labelled(valid),
            content,
        }
    }

    /// What was read from the files.
    pub(crate) fn report(&self) -> &DataReport {
        &self.report
    }

    /// Task-specific content.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Saves the names of classes or the vocabulary in a run's folder.
    pub(crate) fn save_names(&self, folder: &Path) -> Result<(), TrainError> {
        match &self.content {
            Content::Pairs(pairs) => save_vocabulary(folder, |path| pairs.subwords.save(path)),
            Content::Tokenized(tokenizer) => save_vocabulary(folder, |path| tokenizer.save(path)),
            Content::Classes(rows) => save_classes(rows.classes(), folder),
            Content::Tokens | Content::Questions(_) => Ok(()),
        }
    }
}

/// The error of a task, whose sequences are the windows of a run.
fn of_run(error: DatasetError) -> TrainError {
    match error {
        DatasetError::Size(SizeError::Setting {
            setting: "seq_length",
            value,
            limit,
            way_out,
        }) => {
            let (limit, way_out) = (format!("it must be {limit}"), format!("choose {way_out}"));
            ConfigError::new("window_length", value, limit, way_out).into()
        }
        other => other.into(),
    }
}
