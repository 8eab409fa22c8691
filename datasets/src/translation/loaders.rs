//! Batches of pairs, for training and evaluation.

use std::ops::Range;
use std::sync::Arc;

use burn::config::Config;
use burn::tensor::backend::Backend;

use crate::error::{DatasetError, SizeError};
use crate::loading::{BatchSource, EvalLoader, TrainLoader};
use crate::translation::batch::{HostPairs, PairBatch};
use crate::translation::buckets::ShuffledBuckets;
use crate::translation::pairs::TokenPairs;

/// An endless stream of [`PairBatch`]es, resumable at any step: a [`TrainLoader`].
pub type PairTrainLoader<B> = TrainLoader<B, BucketedPairs>;

/// The pairs of a text, once and in order: an [`EvalLoader`].
pub type PairEvalLoader<B> = EvalLoader<B, TokenPairs>;

/// Configuration of a [`PairTrainLoader`].
///
/// The stream consists of passes over the pairs. A batch has pairs of similar length; its pairs,
/// and the order of the batches, are drawn for each pass from the seed and the pass's number. So
/// the batch of a step is a function of the pairs, this configuration (except for `steps_per_epoch`
/// and `n_workers`) and the step.
///
/// Its items, for [`DataLoader::num_items`](burn::data::dataloader::DataLoader::num_items) and
/// `slice`, are batches.
#[derive(Config, Debug)]
pub struct PairTrainLoaderConfig {
    /// Maximum pieces of a batch on either side, padding included; but a batch has at least one
    /// pair. At least 1.
    pub max_tokens: usize,
    /// Batches in an epoch, the interval between two validations. At least 1.
    pub steps_per_epoch: usize,
    /// Maximum pieces of a side, including the end token. Longer pairs and those with an empty side
    /// are left out.
    #[config(default = 256)]
    pub max_length: usize,
    /// Seed of the batches of all passes.
    #[config(default = 0)]
    pub seed: u64,
    /// Threads that read batches ahead. 0: the thread that requests a batch reads it.
    #[config(default = 0)]
    pub n_workers: usize,
}

impl PairTrainLoaderConfig {
    /// A loader before step 0.
    ///
    /// # Errors
    /// [`Setting`](SizeError::Setting) when `max_tokens` is 0,
    /// [`ZeroStepsPerEpoch`](SizeError::ZeroStepsPerEpoch), or
    /// [`NoSequences`](SizeError::NoSequences) when all pairs are left out.
    pub fn init<B: Backend>(
        &self,
        pairs: &TokenPairs,
        device: &B::Device,
    ) -> Result<PairTrainLoader<B>, DatasetError> {
        if self.max_tokens == 0 {
            return Err(SizeError::Setting {
                setting: "max_tokens",
                value: 0,
                limit: "at least 1",
                way_out: "about 4096, or what fits into memory",
            }
            .into());
        }
        let buckets = ShuffledBuckets::new(pairs, self.max_tokens, self.max_length, self.seed);
        if buckets.n_batches() == 0 {
            return Err(SizeError::NoSequences.into());
        }
        let source = BucketedPairs {
            pairs: pairs.clone(),
            buckets: Arc::new(buckets),
        };
        TrainLoader::new(source, 1, self.steps_per_epoch, self.n_workers, device)
    }
}

/// Pairs in batches of similar length, drawn for each pass.
#[derive(Clone, Debug)]
pub struct BucketedPairs {
    pairs: TokenPairs,
    buckets: Arc<ShuffledBuckets>,
}

impl BatchSource for BucketedPairs {
    type Host = HostPairs;
    type Batch<B: Backend> = PairBatch<B>;

    fn read(&self, numbers: Range<u64>) -> HostPairs {
        let pairs = numbers.flat_map(|number| self.buckets.batch(number));
        HostPairs::read(&self.pairs, pairs.collect())
    }

    fn batch<B: Backend>(host: HostPairs, step: u64, device: &B::Device) -> PairBatch<B> {
        host.into_batch(step, device)
    }
}

/// Configuration of a [`PairEvalLoader`].
#[derive(Config, Debug)]
pub struct PairEvalLoaderConfig {
    /// Pairs in a batch. At least 1.
    pub batch_size: usize,
    /// Maximum number of pairs, at least 1. Default: all.
    pub max_pairs: Option<usize>,
}

impl PairEvalLoaderConfig {
    /// A loader of all pairs, in order, long and empty ones too: scores are of the whole text.
    ///
    /// # Errors
    /// [`ZeroBatchSize`](SizeError::ZeroBatchSize), or [`NoSequences`](SizeError::NoSequences) when
    /// there are no pairs or `max_pairs` is 0.
    pub fn init<B: Backend>(
        &self,
        pairs: &TokenPairs,
        device: &B::Device,
    ) -> Result<PairEvalLoader<B>, DatasetError> {
        if self.batch_size == 0 {
            return Err(SizeError::ZeroBatchSize.into());
        }
        let n_pairs = self.max_pairs.unwrap_or(usize::MAX).min(pairs.len());
        if n_pairs == 0 {
            return Err(SizeError::NoSequences.into());
        }
        Ok(EvalLoader::new(
            pairs.clone(),
            n_pairs,
            self.batch_size,
            device,
        ))
    }
}

impl BatchSource for TokenPairs {
    type Host = HostPairs;
    type Batch<B: Backend> = PairBatch<B>;

    fn read(&self, numbers: Range<u64>) -> HostPairs {
        HostPairs::read(self, numbers.map(|number| number as usize).collect())
    }

    fn batch<B: Backend>(host: HostPairs, step: u64, device: &B::Device) -> PairBatch<B> {
        host.into_batch(step, device)
    }
}
