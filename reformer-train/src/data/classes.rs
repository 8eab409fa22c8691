//! Labelled texts and questions, to train a model with a task head.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::config::Config;
use reformer_core::ConfigError;
use reformer_datasets::labelled::{LabelledRows, LabelledTexts, Questions};
use reformer_datasets::printable;

use crate::data::DataReport;
use crate::error::TrainError;
use crate::record::{without_mark, write_atomically};

/// One of this many different texts is held out for validation.
const VALID_EVERY: usize = 10;
/// Names of the classes in a run's folder, ordered by class number.
const CLASSES: &str = "classes.json";

/// Where texts with classes are.
#[derive(Config, Debug, PartialEq, Eq)]
pub enum ClassFiles {
    /// Passages of the samples that ship with `reformer-datasets`; see [`LabelledTexts::sample`].
    Sample,
    /// A table with the columns `text` and `label`, between tabs or commas.
    Table(
        /// Its path.
        PathBuf,
    ),
    /// A folder with a folder of texts for each class.
    Folder(
        /// Its path.
        PathBuf,
    ),
}

impl ClassFiles {
    /// A folder of folders, or a table.
    pub fn at(path: PathBuf) -> Self {
        match path.is_dir() {
            true => Self::Folder(path),
            false => Self::Table(path),
        }
    }

    /// Its file or folder.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Sample => None,
            Self::Table(path) | Self::Folder(path) => Some(path),
        }
    }

    pub(crate) fn open(&self) -> Result<LabelledTexts, TrainError> {
        Ok(match self {
            Self::Sample => LabelledTexts::sample(),
            Self::Table(path) => LabelledTexts::open_table(path)?,
            Self::Folder(path) => LabelledTexts::open_folder(path)?,
        })
    }
}

/// Texts with classes for training and validation.
#[derive(Config, Debug, PartialEq, Eq)]
pub struct ClassesConfig {
    /// The training data. Its classes are those of the model.
    pub train: ClassFiles,
    /// The validation data. Default: about a tenth of the different texts of each class, chosen by a
    /// hash and excluded from training.
    pub valid: Option<ClassFiles>,
}

impl ClassesConfig {
    /// Number of classes in the training data.
    ///
    /// # Errors
    /// Data that is missing, unreadable or in another format.
    pub fn n_classes(&self) -> Result<usize, TrainError> {
        Ok(self.train.open()?.classes().len())
    }

    /// Opens the texts for training and validation. Classes are numbered as in the run's folder, if
    /// it already contains them.
    pub(crate) fn open(&self, folder: Option<&Path>) -> Result<[LabelledTexts; 2], TrainError> {
        let texts = self.train.open()?;
        let classes = match folder.filter(|folder| folder.join(CLASSES).exists()) {
            Some(folder) => load_classes(folder)?,
            None => texts.classes().to_vec(),
        };
        let parts = match &self.valid {
            Some(valid) => [texts, valid.open()?],
            None => texts.split(VALID_EVERY)?,
        };
        let [train, valid] = parts.map(|part| part.with_classes(&classes));
        Ok([train?, valid?])
    }
}

/// Names of the classes of a run of a classifier.
///
/// # Errors
/// A folder without them, or a damaged file.
pub fn load_classes(folder: &Path) -> Result<Vec<String>, TrainError> {
    let path = folder.join(CLASSES);
    let text = fs::read_to_string(&path).map_err(|source| TrainError::Read {
        path: path.clone(),
        source,
    })?;
    serde_json::from_slice(without_mark(text.as_bytes())).map_err(|error| TrainError::Damaged {
        path,
        reason: error.to_string(),
    })
}

/// Saves the names of classes in a run's folder.
pub(crate) fn save_classes(classes: &[String], folder: &Path) -> Result<(), TrainError> {
    let path = folder.join(CLASSES);
    let json = serde_json::to_string_pretty(classes).unwrap_or_default();
    write_atomically(&path, |file| file.write_all(json.as_bytes()))
        .map_err(|source| TrainError::Write { path, source })
}

/// Where questions and their texts are.
#[derive(Config, Debug, PartialEq, Eq)]
pub enum QuestionFiles {
    /// German sentences among English ones, made of the sample of Tatoeba that ships with
    /// `reformer-datasets`; see [`Questions::sample`].
    Sample,
    /// A file in the format of SQuAD, 1.1 or 2.0.
    Squad(
        /// Its path.
        PathBuf,
    ),
}

/// Questions for training and validation.
#[derive(Config, Debug, PartialEq, Eq)]
pub struct QuestionsConfig {
    /// The training data.
    pub train: QuestionFiles,
    /// The validation data. Default: the questions about a tenth of the different texts, chosen by a hash
    /// and excluded from training.
    pub valid: Option<QuestionFiles>,
}

/// Opened questions.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) train: LabelledRows,
    pub(crate) valid: Questions,
    /// What was read from both.
    pub(crate) report: DataReport,
    /// Questions without a target, because their answer lies outside the window.
    pub(crate) n_left_out: usize,
}

impl QuestionsConfig {
    /// Opens the questions, for rows of this length.
    pub(crate) fn open(&self, length: usize) -> Result<Asked, TrainError> {
        let [train, valid] = match (&self.train, &self.valid) {
            (QuestionFiles::Sample, None) => Questions::sample(),
            (train, Some(valid)) => [train.open()?, valid.open()?],
            (train, None) => train.open()?.split(VALID_EVERY)?,
        };
        let report = DataReport {
            bytes_per_token: None,
            train: train.report(),
            valid: valid.report(),
        };
        let fitting = train.fitting(length);
        if let Some([shortest, longest]) = train.needed_lengths()
            && fitting.is_empty()
        {
            return Err(ConfigError::new(
                "window_length",
                length,
                format!(
                    "the questions of `{}`, each with its text up to the answer, have {shortest} tokens or more",
                    printable(train.name())
                ),
                format!("raise it, to {longest} for all of them"),
            )
            .into());
        }
        Ok(Asked {
            n_left_out: train.len() - fitting.len(),
            train: fitting.encode(length),
            valid,
            report,
        })
    }
}

impl QuestionFiles {
    /// Its file.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Sample => None,
            Self::Squad(path) => Some(path),
        }
    }

    /// All questions; of the sample, its validation split.
    pub(crate) fn open(&self) -> Result<Questions, TrainError> {
        Ok(match self {
            Self::Sample => {
                let [_, valid] = Questions::sample();
                valid
            }
            Self::Squad(path) => Questions::open_squad(path)?,
        })
    }
}
