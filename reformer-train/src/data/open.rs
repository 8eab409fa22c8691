//! From a configuration of data to the data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reformer_core::ConfigError;
use reformer_datasets::images::{ImageNet64, ImageSet};
use reformer_datasets::recall::{AssociativeRecallConfig, NeedlesConfig, ReturningPassagesConfig};
use reformer_datasets::{DuplicationConfig, Split, SplitName, Splits};

use crate::data::classes::{Asked, ClassFiles, QuestionFiles, load_classes};
use crate::data::{Data, DataConfig, DataReport};
use crate::error::TrainError;

/// One of this many images is held out for validation where the files have no split.
const VALID_EVERY: usize = 20;

/// What a run needs of its data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Seed of generated data.
    pub(crate) seed: u64,
    /// Tokens of a sequence.
    pub(crate) window_length: usize,
    /// Size of the model's vocabulary.
    pub(crate) vocab_size: usize,
}

impl DataConfig {
    /// Opens the data of a run. Generated data depends on the configuration only. The folder of the
    /// run, if given, can already contain the vocabulary.
    ///
    /// # Errors
    /// Data that is missing, unreadable, empty or in another format.
    pub(crate) fn open(&self, wanted: Wanted, folder: Option<&Path>) -> Result<Data, TrainError> {
        let seed = wanted.seed;
        Ok(match self {
            text if text.is_text() => text.open_text()?.into(),
            Self::Tokenized(tokenized) => tokenized.open(folder)?,
            Self::Ids(ids) => ids.open(folder)?,
            Self::Images { path, size } => images(path, *size)?,
            Self::Duplication { n_symbols } => {
                let task = DuplicationConfig::new()
                    .with_seq_length(wanted.window_length)
                    .with_n_symbols(*n_symbols);
                Data::of_task(seed, |seed| task.clone().with_seed(seed).init())?
            }
            Self::AssociativeRecall {
                n_pairs,
                fewest_pairs,
                n_questions,
                n_keys,
                n_values,
            } => {
                let task = AssociativeRecallConfig::new()
                    .with_seq_length(wanted.window_length)
                    .with_n_pairs(*n_pairs)
                    .with_fewest_pairs(*fewest_pairs)
                    .with_n_questions(*n_questions)
                    .with_n_keys(*n_keys)
                    .with_n_values(*n_values);
                Data::of_task(seed, |seed| task.clone().with_seed(seed).init())?
            }
            Self::ReturningPassages {
                n_symbols,
                shortest,
                longest,
                backwards,
            } => {
                let task = ReturningPassagesConfig::new()
                    .with_seq_length(wanted.window_length)
                    .with_n_symbols(*n_symbols)
                    .with_shortest(*shortest)
                    .with_longest(*longest)
                    .with_backwards(*backwards);
                Data::of_task(seed, |seed| task.clone().with_seed(seed).init())?
            }
            Self::Needles { path, n_needles } => {
                needles(&Splits::open(path.as_deref())?, *n_needles, wanted)?
            }
            Self::Own(name) => return Err(not_in_a_file(name).into()),
            Self::Pairs(pairs) => {
                let vocab_size = wanted.vocab_size;
                pairs.open(vocab_size, folder)?.into()
            }
            Self::Classes(classes) => {
                let parts = classes.open(folder)?;
                let [train, valid] = parts.map(|part| part.encode(wanted.window_length));
                Data::of_classes(&train, valid)
            }
            Self::LongRange(task) => {
                let part = |part| task.open(part, wanted.window_length);
                Data::of_classes(&part(SplitName::Train)?, part(SplitName::Valid)?)
            }
            Self::Questions(questions) => {
                Data::of_questions(questions.open(wanted.window_length)?, wanted.window_length)
            }
            _ => unreachable!("the others are texts"),
        })
    }

    /// Opens the part that is neither trained nor validated on, to evaluate a trained model on.
    ///
    /// # Errors
    /// Data without such a part, or that is missing, unreadable or in another format.
    pub(crate) fn open_test(&self, wanted: Wanted) -> Result<Data, TrainError> {
        match self {
            Self::LongRange(task) => {
                let rows = task.open(SplitName::Test, wanted.window_length)?;
                Ok(Data::of_classes(&rows, rows.clone()))
            }
            text if text.is_text() => {
                let splits = text.open_text()?;
                let valid = splits.test.clone();
                Ok(Splits { valid, ..splits }.into())
            }
            _ => Err(ConfigError::new(
                "data",
                "of another kind",
                "only texts in bytes and tasks of the Long Range Arena have a part for the test",
                "name files to measure on",
            )
            .into()),
        }
    }

    /// As [`open`](Self::open), to measure a run; training data that is costly to prepare is left out.
    pub(crate) fn open_to_measure(
        &self,
        wanted: Wanted,
        folder: &Path,
    ) -> Result<Data, TrainError> {
        match self {
            Self::Tokenized(tokenized) => tokenized.open_valid(folder),
            _ => self.open(wanted, Some(folder)),
        }
    }

    /// Opens other files to evaluate a trained model on, without a split: for pairs of sentences a table
    /// or two files, otherwise one file or folder, of which a task of the Long Range Arena is evaluated on its part
    /// for the test. Classes and subwords are numbered as in the run's
    /// folder.
    ///
    /// # Errors
    /// Data that is missing, unreadable, empty or in another format.
    pub(crate) fn open_others(
        &self,
        wanted: Wanted,
        folder: &Path,
        paths: &[PathBuf],
    ) -> Result<Data, TrainError> {
        let (path, length) = (self.only(paths)?, wanted.window_length);
        Ok(match self {
            text if text.is_text() => thrice(text.open_whole(path)?).into(),
            Self::Tokenized(tokenized) => tokenized.open_others(folder, path)?,
            Self::Ids(ids) => ids.open_others(folder, path)?,
            Self::Needles { n_needles, .. } => {
                needles(&thrice(self.open_whole(path)?), *n_needles, wanted)?
            }
            Self::Images { size, .. } => {
                let images = ImageSet::open_images(path, *size)?;
                let report = DataReport::of_one(images.report());
                let images = Arc::new(images);
                Data::of_sequences(images.clone(), images, report)
            }
            Self::Own(name) => return Err(not_in_a_file(name).into()),
            Self::Duplication { .. }
            | Self::AssociativeRecall { .. }
            | Self::ReturningPassages { .. } => {
                return Err(ConfigError::new(
                    "data",
                    "a task",
                    "its sequences are generated, not read from a file",
                    "leave the file out",
                )
                .into());
            }
            Self::Pairs(pairs) => pairs.open_others(folder, paths)?.into(),
            Self::Classes(_) => {
                let texts = ClassFiles::at(path.to_owned()).open()?;
                let rows = texts.with_classes(&load_classes(folder)?)?.encode(length);
                Data::of_classes(&rows, rows.clone())
            }
            Self::LongRange(task) => {
                let rows = task.task().open(path, SplitName::Test, length)?;
                Data::of_classes(&rows, rows.clone())
            }
            Self::Questions(_) => {
                let valid = QuestionFiles::Squad(path.to_owned()).open()?;
                let train = valid.encode(length);
                let report = DataReport::of_one(valid.report());
                let asked = Asked {
                    train,
                    valid,
                    report,
                    n_left_out: 0,
                };
                Data::of_questions(asked, length)
            }
            _ => unreachable!("the others are texts"),
        })
    }

    /// The first path, if the number of paths is allowed.
    fn only<'a>(&self, paths: &'a [PathBuf]) -> Result<&'a Path, ConfigError> {
        let most = if matches!(self, Self::Pairs(_)) { 2 } else { 1 };
        match paths {
            [path, ..] if paths.len() <= most => Ok(path),
            _ => Err(ConfigError::new(
                "data",
                format!("{} files", paths.len()),
                format!("this run reads 1 to {most}"),
                "name fewer",
            )),
        }
    }
}

/// The error of data that only the program can generate that trains on it.
fn not_in_a_file(name: &str) -> ConfigError {
    ConfigError::new(
        "data.Own",
        name,
        "only the program that trains on them can generate these sequences",
        "use that program",
    )
}

/// The same text as every split.
fn thrice(text: Split) -> Splits {
    Splits {
        train: text.clone(),
        valid: text.clone(),
        test: text,
    }
}

fn needles(splits: &Splits, n_needles: usize, wanted: Wanted) -> Result<Data, TrainError> {
    let task = NeedlesConfig::new()
        .with_seq_length(wanted.window_length)
        .with_n_needles(n_needles);
    let least = task.min_seq_length();
    if wanted.window_length < least {
        let limit = format!("{n_needles} needles need at least {least}");
        let way_out = "raise it, or use fewer needles (data.Needles.n_needles)";
        return Err(ConfigError::new("window_length", wanted.window_length, limit, way_out).into());
    }
    let in_text = |text: &Split, seed| task.clone().with_seed(seed).init(text);
    let train = in_text(&splits.train, wanted.seed)?;
    let valid = in_text(&splits.valid, !wanted.seed)?;
    let report = DataReport::of_splits(splits);
    Ok(Data::of_sequences(Arc::new(train), Arc::new(valid), report))
}

fn images(path: &Path, size: usize) -> Result<Data, TrainError> {
    let [train, valid] = if path.join("val_data.npz").exists() {
        let ImageNet64 { train, valid } = ImageNet64::open(path)?;
        [train.with_size(size)?, valid.with_size(size)?]
    } else {
        ImageSet::open_images(path, size)?.split(VALID_EVERY)?
    };
    let report = DataReport {
        train: train.report(),
        valid: valid.report(),
        bytes_per_token: None,
    };
    Ok(Data::of_sequences(Arc::new(train), Arc::new(valid), report))
}
