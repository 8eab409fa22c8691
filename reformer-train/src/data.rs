//! What to train on, and its parts as loaders.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::config::Config;
use burn::data::dataloader::DataLoader;
use burn::tensor::backend::{AutodiffBackend, Backend};
use reformer_core::ConfigError;
use reformer_datasets::images::{ImageNet64, ImageSet};
use reformer_datasets::translation::{PairEvalLoaderConfig, PairTrainLoaderConfig, TokenPairs};
use reformer_datasets::{
    ByteCorpus, ByteWindows, DatasetError, DuplicationConfig, EvalLoaderConfig, FolderCorpus,
    HundredMillion, OverlappingWindows, Sequences, Split, Splits, TrainLoaderConfig,
};

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::loader::UpTo;
use crate::model::{Batch, ModelConfig};
use crate::pairs::{Pairs, PairsConfig};

/// Every so-manieth image is kept for validation where the files do not say.
const VALID_EVERY: usize = 20;

/// What to train on.
#[derive(Config, Debug, PartialEq, Eq)]
pub enum DataConfig {
    /// The text that ships with `reformer-datasets`.
    Sample,
    /// The bytes of a file of any format: 90 % to train on, 5 % to validate, 5 % kept for a test.
    File(
        /// Its path.
        PathBuf,
    ),
    /// The bytes of all files in a folder, divided by file.
    Folder(
        /// Its path.
        PathBuf,
    ),
    /// enwik8, raw or packed, divided as in the literature.
    Enwik8(
        /// Path of the official file.
        PathBuf,
    ),
    /// text8, raw or packed, divided as in the literature.
    Text8(
        /// Path of the official file.
        PathBuf,
    ),
    /// Images as sequences of `3 * size * size` bytes.
    Images {
        /// A folder with the `.npz` files of downsampled ImageNet, a folder of PNG and JPEG files,
        /// or an archive of them.
        path: PathBuf,
        /// Side to which images are brought, in pixels.
        size: usize,
    },
    /// The duplication task `0w0w` of the paper, without end.
    Duplication {
        /// Different symbols in `w`.
        n_symbols: usize,
    },
    /// Sentences and their translations, for an encoder-decoder.
    Pairs(
        /// Where they are.
        PairsConfig,
    ),
}

/// Opened data.
#[derive(Debug, Clone)]
pub(crate) struct Data {
    train: Part,
    valid: Part,
    vocab_size: usize,
    pairs: Option<Arc<Pairs>>,
}

/// The part for one purpose.
#[derive(Debug, Clone)]
enum Part {
    /// To be cut into windows.
    Bytes(Split),
    Sequences(Arc<dyn Sequences>),
    Pairs(TokenPairs),
}

impl DataConfig {
    /// Opens the data of a run: what is made up follows from its configuration, and its folder, if
    /// it has one, can have the vocabulary already.
    ///
    /// # Errors
    /// What is missing, unreadable, empty or of another form.
    pub(crate) fn open(
        &self,
        config: &TrainConfig,
        folder: Option<&Path>,
    ) -> Result<Data, TrainError> {
        let seed = config.seed;
        Ok(match self {
            Self::Sample => ByteCorpus::sample().split().into(),
            Self::File(path) => ByteCorpus::open(path)?.split().into(),
            Self::Folder(path) => FolderCorpus::open(path)?.split_by_file()?.into(),
            Self::Enwik8(path) => HundredMillion::Enwik8.open(path)?.into(),
            Self::Text8(path) => HundredMillion::Text8.open(path)?.into(),
            Self::Images { path, size } => images(path, *size)?,
            Self::Duplication { n_symbols } => {
                let task = DuplicationConfig::new()
                    .with_seq_length(config.window_length)
                    .with_n_symbols(*n_symbols);
                // Two streams that share no sequence.
                let train = task.clone().with_seed(seed).init()?;
                let valid = task.with_seed(!seed).init()?;
                Data::of_sequences(Arc::new(train), Arc::new(valid))
            }
            Self::Pairs(pairs) => {
                let vocab_size = config.model.reformer().vocab_size;
                pairs.open(vocab_size, folder)?.into()
            }
        })
    }

    /// What a token of this data is called.
    pub fn token_name(&self) -> &'static str {
        match self {
            Self::Images { .. } => "dim",
            Self::Duplication { .. } => "token",
            Self::Pairs(_) => "piece",
            Self::Sample | Self::File(_) | Self::Folder(_) | Self::Enwik8(_) | Self::Text8(_) => {
                "byte"
            }
        }
    }

    /// Whether tokens are bytes of a text, so that there is something to read in a sample.
    pub fn is_text(&self) -> bool {
        !matches!(
            self,
            Self::Images { .. } | Self::Duplication { .. } | Self::Pairs(_)
        )
    }
}

impl From<Splits> for Data {
    fn from(splits: Splits) -> Self {
        Self {
            train: Part::Bytes(splits.train),
            valid: Part::Bytes(splits.valid),
            vocab_size: 256,
            pairs: None,
        }
    }
}

impl From<Pairs> for Data {
    fn from(pairs: Pairs) -> Self {
        Self {
            train: Part::Pairs(pairs.train.clone()),
            valid: Part::Pairs(pairs.valid.clone()),
            vocab_size: pairs.subwords.vocab_size(),
            pairs: Some(Arc::new(pairs)),
        }
    }
}

fn images(path: &Path, size: usize) -> Result<Data, TrainError> {
    if path.join("val_data.npz").exists() {
        let ImageNet64 { train, valid } = ImageNet64::open(path)?;
        let (train, valid) = (train.with_size(size)?, valid.with_size(size)?);
        return Ok(Data::of_sequences(Arc::new(train), Arc::new(valid)));
    }
    let images: Arc<dyn Sequences> = Arc::new(ImageSet::open_images(path, size)?);
    let n_images = images.n_sequences().unwrap_or(0) as u64;
    let of = |is_wanted: fn(&u64) -> bool| {
        Arc::new(Selection {
            from: images.clone(),
            numbers: (0..n_images).filter(is_wanted).collect(),
        })
    };
    let is_valid = |number: &u64| number.is_multiple_of(VALID_EVERY as u64);
    let is_train = |number: &u64| !number.is_multiple_of(VALID_EVERY as u64);
    Ok(Data::of_sequences(of(is_train), of(is_valid)))
}

impl Data {
    fn of_sequences(train: Arc<dyn Sequences>, valid: Arc<dyn Sequences>) -> Self {
        Self {
            vocab_size: train.vocab_size(),
            train: Part::Sequences(train),
            valid: Part::Sequences(valid),
            pairs: None,
        }
    }

    /// Pairs of sentences, if that is what it is.
    pub(crate) fn pairs(&self) -> Option<&Pairs> {
        self.pairs.as_deref()
    }

    /// Checks that a model can be trained on it.
    pub(crate) fn check(&self, config: &TrainConfig) -> Result<(), TrainError> {
        self.check_model(&config.model)?;
        let vocab_size = config.model.reformer().vocab_size;
        if vocab_size < self.vocab_size {
            return Err(ConfigError::new(
                "vocab_size",
                vocab_size,
                format!("the data has {} different tokens", self.vocab_size),
                "raise it",
            )
            .into());
        }
        if config.eval_windows == Some(0) {
            return Err(DatasetError::ZeroMaxWindows.into());
        }
        for part in [&self.train, &self.valid] {
            match part {
                Part::Bytes(split) => drop(ByteWindows::new(split, config.window_length)?),
                Part::Sequences(sequences) => check_length(&**sequences, config.window_length)?,
                Part::Pairs(pairs) if pairs.is_empty() => {
                    return Err(DatasetError::NoSequences.into());
                }
                Part::Pairs(_) => {}
            }
        }
        if let Some(pairs) = &self.pairs {
            pairs.check(config)?;
        }
        match (&self.valid, config.eval_context) {
            (Part::Bytes(split), Some(context)) => {
                OverlappingWindows::new(split, config.window_length, context)?;
            }
            (Part::Sequences(_) | Part::Pairs(_), Some(context)) => {
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

    /// Refuses a model that cannot read it.
    fn check_model(&self, model: &ModelConfig) -> Result<(), ConfigError> {
        let (found, wanted) = match (model, &self.pairs) {
            (ModelConfig::Lm(_), Some(_)) => ("a language model", "an encoder-decoder"),
            (ModelConfig::Seq2Seq(_), None) => ("an encoder-decoder", "a language model"),
            _ => return Ok(()),
        };
        Err(ConfigError::new(
            "model",
            found,
            format!("this data is for {wanted}"),
            "use a preset that was made for it",
        ))
    }

    /// Some rows of the batches of training steps from `step` to the end of the run, an evaluation's
    /// interval in each walk. Batches of pairs, which have rows in any number, are not shared out.
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
        let loader = match &self.train {
            Part::Bytes(split) => loader.init(split, device)?,
            Part::Sequences(sequences) => loader.init_sequences(sequences.clone(), device)?,
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
                return Ok(until(loader.starting_at(step as u64), end));
            }
        };
        Ok(until(
            loader.taking_rows(rows).starting_at(step as u64),
            end,
        ))
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
        let loader = match &self.valid {
            Part::Bytes(split) => loader.init(split, device)?,
            Part::Sequences(sequences) => loader.init_sequences(sequences.clone(), device)?,
            Part::Pairs(pairs) => {
                let loader = PairEvalLoaderConfig::new(config.batch_size)
                    .with_max_pairs(config.eval_windows)
                    .init(pairs, device)?;
                return Ok(until(loader, u64::MAX));
            }
        };
        Ok(until(loader, u64::MAX))
    }
}

/// The batches of a loader below a step.
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

/// Some of other sequences.
#[derive(Debug)]
struct Selection {
    from: Arc<dyn Sequences>,
    numbers: Vec<u64>,
}

impl Sequences for Selection {
    fn seq_length(&self) -> usize {
        self.from.seq_length()
    }

    fn vocab_size(&self) -> usize {
        self.from.vocab_size()
    }

    fn n_sequences(&self) -> Option<usize> {
        Some(self.numbers.len())
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        self.from
            .read(self.numbers[number as usize], tokens, targets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
