//! Opened data: its splits as loaders, and whether a model can be trained on it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use burn::data::dataloader::DataLoader;
use burn::tensor::backend::{AutodiffBackend, Backend};
use reformer_core::ConfigError;
use reformer_datasets::labelled::{ClassifiedRows, LabelledRows, Questions};
use reformer_datasets::tokens::{TokenCorpus, Tokenizer};
use reformer_datasets::translation::{PairEvalLoaderConfig, PairTrainLoaderConfig, TokenPairs};
use reformer_datasets::{
    Corpus, DatasetError, EvalLoaderConfig, OverlappingWindows, ReadReport, Sequences, Split,
    Splits, TrainLoader, TrainLoaderConfig, Windows,
};

use crate::config::TrainConfig;
use crate::data::DataReport;
use crate::data::batch::Batch;
use crate::data::classes::{Asked, save_classes};
use crate::data::masked::{Masked, Purpose};
use crate::data::pairs::Pairs;
use crate::data::tokens::{bytes_per_token, save_vocabulary};
use crate::data::up_to::UpTo;
use crate::error::TrainError;
use crate::task::model::ModelConfig;

/// Opened data.
#[derive(Debug, Clone)]
pub(crate) struct Data {
    train: Part,
    valid: Part,
    vocab_size: usize,
    content: Content,
    report: DataReport,
}

/// Task-specific content that token numbers alone cannot give back.
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
enum Part {
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
    ) -> Result<Self, DatasetError> {
        let [train, valid] = [init(seed)?, init(!seed)?];
        let report = DataReport::of_one(ReadReport::new("made-up sequences"));
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

    /// Checks that a model can be trained on this data.
    pub(crate) fn check(&self, config: &TrainConfig) -> Result<(), TrainError> {
        self.check_model(&config.model)?;
        let vocab_size = config.model.reformer().vocab_size;
        at_least("vocab_size", vocab_size, self.vocab_size, "tokens")?;
        if let Some(masking) = &config.masking {
            at_least(
                "masking.mask_token",
                masking.mask_token,
                self.vocab_size,
                "tokens",
            )?;
        }
        if config.eval_windows == Some(0) {
            return Err(DatasetError::ZeroMaxWindows.into());
        }
        for part in [&self.train, &self.valid] {
            match part {
                Part::Text(split) => drop(Windows::new(split, config.window_length)?),
                Part::Sequences(sequences) => check_length(&**sequences, config.window_length)?,
                Part::Pairs(pairs) if pairs.is_empty() => {
                    return Err(DatasetError::NoSequences.into());
                }
                Part::Labelled(rows) if rows.is_empty() => {
                    return Err(DatasetError::NoSequences.into());
                }
                Part::Pairs(_) | Part::Labelled(_) => {}
            }
        }
        if let Content::Pairs(pairs) = &self.content {
            pairs.check(config)?;
        }
        match (&self.valid, config.eval_context) {
            (Part::Text(split), Some(context)) => {
                OverlappingWindows::new(split, config.window_length, context)?;
            }
            (_, Some(context)) => {
                return Err(ConfigError::new(
                    "eval_context",
                    context,
                    "only windows of a text can overlap",
                    "leave it out",
                )
                .into());
            }
            (_, None) => {}
        }
        if let Part::Sequences(valid) = &self.valid
            && valid.n_sequences().is_none()
            && config.eval_windows.is_none()
        {
            return Err(DatasetError::EndlessEvaluation.into());
        }
        Ok(())
    }

    /// Checks that the model can read this data.
    fn check_model(&self, model: &ModelConfig) -> Result<(), ConfigError> {
        let wanted = match (&self.content, model) {
            (Content::Tokens | Content::Tokenized(_), ModelConfig::Lm(_))
            | (Content::Pairs(_), ModelConfig::Seq2Seq(_))
            | (Content::Questions(_), ModelConfig::QuestionAnswering(_)) => return Ok(()),
            (Content::Classes(rows), ModelConfig::Classifier(config)) => {
                let n_classes = rows.classes().len();
                return at_least("n_classes", config.n_classes, n_classes, "classes");
            }
            (Content::Tokens | Content::Tokenized(_), _) => "a language model",
            (Content::Pairs(_), _) => "an encoder-decoder",
            (Content::Classes(_), _) => "a classifier",
            (Content::Questions(_), _) => "a model that answers questions",
        };
        Err(ConfigError::new(
            "model",
            model.name(),
            format!("this data is for {wanted}"),
            "use a preset that was made for it",
        ))
    }

    /// Some rows of the batches of training steps from `step` to the end of the run; each iteration goes
    /// to the next evaluation. Batches of pairs have varying numbers of rows and are not split among devices.
    pub(crate) fn train_loader<B: AutodiffBackend>(
        &self,
        config: &TrainConfig,
        step: usize,
        rows: Range<usize>,
        device: &B::Device,
    ) -> Result<Arc<dyn DataLoader<B, Batch<B>>>, TrainError> {
        let end = config.steps as u64;
        let loader = TrainLoaderConfig::new(
            config.window_length,
            config.batch_size,
            config.steps_per_epoch,
        )
        .with_seed(config.seed)
        .with_n_workers(config.n_workers);
        let end_at = |loader: TrainLoader<B>| {
            until(
                loader.taking_rows(rows.clone()).starting_at(step as u64),
                end,
            )
        };
        Ok(match &self.train {
            Part::Text(split) => end_at(match &config.masking {
                None => loader.init(split, device)?,
                Some(masking) => {
                    let windows = Arc::new(loader.windows(split)?);
                    let masked = Masked::new(windows, masking, config.seed, Purpose::Train);
                    loader.init_sequences(Arc::new(masked), device)?
                }
            }),
            Part::Sequences(sequences) => end_at(loader.init_sequences(sequences.clone(), device)?),
            Part::Labelled(labelled) => {
                let loader = loader.init_labelled(labelled, device)?;
                until(loader.taking_rows(rows).starting_at(step as u64), end)
            }
            Part::Pairs(_) if rows != (0..config.batch_size) => {
                return Err(ConfigError::new(
                    "data",
                    "Pairs",
                    "batches of pairs have rows in any number, which are not shared out",
                    "train on one device in one process",
                )
                .into());
            }
            Part::Pairs(pairs) => {
                let max_tokens = config.batch_size.saturating_mul(config.window_length);
                let loader = PairTrainLoaderConfig::new(max_tokens, config.steps_per_epoch)
                    .with_max_length(config.window_length)
                    .with_seed(config.seed)
                    .with_n_workers(config.n_workers)
                    .init(pairs, device)?;
                until(loader.starting_at(step as u64), end)
            }
        })
    }

    /// Batches of an evaluation.
    pub(crate) fn valid_loader<B: Backend>(
        &self,
        config: &TrainConfig,
        device: &B::Device,
    ) -> Result<Arc<dyn DataLoader<B, Batch<B>>>, TrainError> {
        let loader = EvalLoaderConfig::new(config.window_length, config.batch_size)
            .with_max_windows(config.eval_windows)
            .with_context_length(config.eval_context);
        Ok(match &self.valid {
            Part::Text(split) => all(match &config.masking {
                None => loader.init(split, device)?,
                Some(masking) => {
                    let windows = Arc::new(Windows::new(split, config.window_length)?);
                    let masked = Masked::new(windows, masking, config.seed, Purpose::Validate);
                    loader.init_sequences(Arc::new(masked), device)?
                }
            }),
            Part::Sequences(sequences) => all(loader.init_sequences(sequences.clone(), device)?),
            Part::Labelled(rows) => all(loader.init_labelled(rows, device)?),
            Part::Pairs(pairs) => all(PairEvalLoaderConfig::new(config.batch_size)
                .with_max_pairs(config.eval_windows)
                .init(pairs, device)?),
        })
    }
}

/// Checks that a size is at least that of the data.
fn at_least(field: &str, value: usize, n: usize, what: &str) -> Result<(), ConfigError> {
    if value >= n {
        return Ok(());
    }
    Err(ConfigError::new(
        field,
        value,
        format!("the data has {n} different {what}"),
        "raise it",
    ))
}

/// All batches of a loader.
fn all<B: Backend, T: Into<Batch<B>> + 'static>(
    loader: impl DataLoader<B, T> + 'static,
) -> Arc<dyn DataLoader<B, Batch<B>>> {
    until(loader, u64::MAX)
}

/// The batches of a loader before a step.
fn until<B: Backend, T: Into<Batch<B>> + 'static>(
    loader: impl DataLoader<B, T> + 'static,
    end: u64,
) -> Arc<dyn DataLoader<B, Batch<B>>> {
    let loader: Arc<dyn DataLoader<B, T>> = Arc::new(loader);
    Arc::new(UpTo::new(loader, end))
}

fn check_length(sequences: &dyn Sequences, window_length: usize) -> Result<(), TrainError> {
    let length = sequences.seq_length();
    if sequences.n_sequences() == Some(0) {
        return Err(DatasetError::NoSequences.into());
    }
    if length != window_length {
        return Err(ConfigError::new(
            "window_length",
            window_length,
            format!("sequences of this data have {length} tokens"),
            format!("use {length}"),
        )
        .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataConfig;
    use burn_flex::Flex;
    use reformer_core::model::{ReformerConfig, ReformerLmConfig};

    fn config(data: DataConfig) -> TrainConfig {
        let model = ReformerLmConfig::new(ReformerConfig::new(256, 16, 1));
        TrainConfig::new(model.into(), data).with_window_length(1000)
    }

    /// Targets in an evaluation on the sample, whose validation part has 50,000 bytes.
    fn n_targets(context: Option<usize>) -> usize {
        let config = config(DataConfig::Sample).with_eval_context(context);
        let data = config.data.open(&config, None).unwrap();
        data.check(&config).unwrap();
        let loader = data.valid_loader::<Flex>(&config, &Default::default());
        let of_batch = |batch: Batch<Flex>| {
            let targets = batch.targets().to_data();
            targets.iter::<i64>().filter(|target| *target >= 0).count()
        };
        loader.unwrap().iter().map(of_batch).sum()
    }

    #[test]
    fn windows_overlap_and_each_byte_counts_once() {
        assert_eq!(n_targets(Some(600)), 49_999);
        assert_eq!(n_targets(None), 49_000);
    }

    #[test]
    fn overlap_that_cannot_be_is_named() {
        let refused = |config: TrainConfig| {
            let data = config.data.open(&config, None).unwrap();
            data.check(&config).unwrap_err().to_string()
        };
        let too_long = config(DataConfig::Sample).with_eval_context(Some(1000));
        assert!(refused(too_long).contains("leaves no target"));
        let no_text = config(DataConfig::Duplication { n_symbols: 9 }).with_eval_context(Some(9));
        assert!(refused(no_text).starts_with("`eval_context` is 9, but only windows of a text"));
    }
}
