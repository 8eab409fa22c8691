//! Data as the loaders of a run, and whether its model can be trained on it.

use std::ops::Range;
use std::sync::Arc;

use burn::data::dataloader::DataLoader;
use burn::tensor::backend::{AutodiffBackend, Backend};
use reformer_core::ConfigError;
use reformer_datasets::translation::{PairEvalLoaderConfig, PairTrainLoaderConfig};
use reformer_datasets::{
    EvalLoaderConfig, OverlappingWindows, Sequences, SizeError, TrainLoader, TrainLoaderConfig,
    Windows,
};

use crate::config::TrainConfig;
use crate::data::batch::Batch;
use crate::data::masked::{Masked, Purpose};
use crate::data::opened::Part;
use crate::data::pairs::Pairs;
use crate::data::up_to::UpTo;
use crate::data::{Content, Data};
use crate::error::TrainError;
use crate::task::model::ModelConfig;

impl Data {
    /// Checks that a model can be trained on this data.
    pub(crate) fn check(&self, config: &TrainConfig) -> Result<(), TrainError> {
        self.check_model(&config.model)?;
        let vocab_size = config.model.vocab_size();
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
            return Err(SizeError::ZeroMaxWindows.into());
        }
        for part in [&self.train, &self.valid] {
            match part {
                Part::Text(split) => drop(Windows::new(split, config.window_length)?),
                Part::Sequences(sequences) => check_length(&**sequences, config.window_length)?,
                Part::Pairs(pairs) if pairs.is_empty() => {
                    return Err(SizeError::NoSequences.into());
                }
                Part::Labelled(rows) if rows.is_empty() => {
                    return Err(SizeError::NoSequences.into());
                }
                Part::Pairs(_) | Part::Labelled(_) => {}
            }
        }
        if let Content::Pairs(pairs) = &self.content {
            check_pairs(pairs, config)?;
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
            return Err(SizeError::EndlessEvaluation.into());
        }
        Ok(())
    }

    /// Checks that the model can read this data.
    fn check_model(&self, model: &ModelConfig) -> Result<(), ConfigError> {
        let wanted = match (&self.content, model) {
            (Content::Tokens | Content::Tokenized(_), ModelConfig::Lm(_))
            | (Content::Pairs(_), ModelConfig::Seq2Seq(_))
            | (Content::Questions(_), ModelConfig::QuestionAnswering(_))
            | (_, ModelConfig::Own(_)) => return Ok(()),
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
                    "batches of pairs vary in size and cannot be divided among devices",
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

/// Checks that the model has positions for all validation sentences.
fn check_pairs(pairs: &Pairs, config: &TrainConfig) -> Result<(), ConfigError> {
    let longest = (0..pairs.valid.len())
        .map(|pair| pairs.valid.get(pair))
        .map(|(source, target)| source.len().max(target.len()) + 1)
        .max();
    let limit = config.model.max_length();
    match (limit, longest) {
        (Some(limit), Some(longest)) if longest > limit => Err(ConfigError::new(
            "position.max_length",
            limit,
            format!("a validation sentence has {longest} pieces, end token included"),
            "give the model more positions, or use sinusoidal or rotary ones",
        )),
        _ => Ok(()),
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
        return Err(SizeError::NoSequences.into());
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
        let data = config.data.open(config.wanted(), None).unwrap();
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
            let data = config.data.open(config.wanted(), None).unwrap();
            data.check(&config).unwrap_err().to_string()
        };
        let too_long = config(DataConfig::Sample).with_eval_context(Some(1000));
        assert!(refused(too_long).contains("leaves no target"));
        let no_text = config(DataConfig::Duplication { n_symbols: 9 }).with_eval_context(Some(9));
        assert!(refused(no_text).starts_with("`eval_context` is 9, but only windows of a text"));
    }
}
