//! Batches of pairs, to train and to evaluate.

use std::ops::Range;
use std::sync::Arc;

use burn::config::Config;
use burn::tensor::backend::Backend;

use crate::error::DatasetError;
use crate::loading::{BatchSource, EvalLoader, TrainLoader};
use crate::translation::batch::{HostPairs, PairBatch};
use crate::translation::buckets::BucketPasses;
use crate::translation::pairs::TokenPairs;

/// An endless stream of [`PairBatch`]es, resumable at any step: a [`TrainLoader`].
pub type PairTrainLoader<B> = TrainLoader<B, BucketedPairs>;

/// The pairs of a text, once and in order: an [`EvalLoader`].
pub type PairEvalLoader<B> = EvalLoader<B, TokenPairs>;

/// Configuration of a [`PairTrainLoader`].
///
/// The stream is one pass over the pairs after the other. A batch has pairs of similar length; which ones, and the order of
/// the batches, are drawn anew for each pass from the seed and the pass's number. So the batch of a step is a
/// function of the pairs, this configuration (but for `steps_per_epoch` and `n_workers`) and the step.
///
/// Its items, for [`DataLoader::num_items`](burn::data::dataloader::DataLoader::num_items) and `slice`, are batches.
#[derive(Config, Debug)]
pub struct PairTrainLoaderConfig {
    /// Pieces of a batch on either side, padding included, at most; but a batch has at least one pair. At least 1.
    pub max_tokens: usize,
    /// Batches in an epoch, which is only the time between two validations. At least 1.
    pub steps_per_epoch: usize,
    /// Pairs of which a side has more pieces than this, with the end, are left out, as are those with an empty side.
    #[config(default = 256)]
    pub max_length: usize,
    /// From which the batches of all passes follow.
    #[config(default = 0)]
    pub seed: u64,
    /// Threads that read batches ahead. 0: the thread that asks for a batch reads it.
    #[config(default = 0)]
    pub n_workers: usize,
}

impl PairTrainLoaderConfig {
    /// A loader before step 0.
    ///
    /// # Errors
    ///
    /// [`Setting`](DatasetError::Setting) when `max_tokens` is 0,
    /// [`ZeroStepsPerEpoch`](DatasetError::ZeroStepsPerEpoch), or [`NoSequences`](DatasetError::NoSequences) when all
    /// pairs are left out.
    pub fn init<B: Backend>(
        &self,
        pairs: &TokenPairs,
        device: &B::Device,
    ) -> Result<PairTrainLoader<B>, DatasetError> {
        if self.max_tokens == 0 {
            return Err(DatasetError::Setting {
                setting: "max_tokens",
                value: 0,
                limit: "at least 1",
                way_out: "about 4096, what the memory allows",
            });
        }
        let passes = BucketPasses::new(pairs, self.max_tokens, self.max_length, self.seed);
        if passes.n_batches() == 0 {
            return Err(DatasetError::NoSequences);
        }
        let source = BucketedPairs {
            pairs: pairs.clone(),
            passes: Arc::new(passes),
        };
        TrainLoader::of_batches(source, self.steps_per_epoch, self.n_workers, device)
    }
}

/// Pairs in batches of similar length, drawn for each pass.
#[derive(Clone, Debug)]
pub struct BucketedPairs {
    pairs: TokenPairs,
    passes: Arc<BucketPasses>,
}

impl BatchSource for BucketedPairs {
    type Host = HostPairs;
    type Batch<B: Backend> = PairBatch<B>;

    fn read(&self, numbers: Range<u64>) -> HostPairs {
        let pairs = numbers.flat_map(|number| self.passes.batch(number));
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
    /// Where to stop: after the first pairs, at least 1. All of them when absent.
    pub max_pairs: Option<usize>,
}

impl PairEvalLoaderConfig {
    /// A loader of all pairs, in order, also of long and of empty ones: a score is that of the whole text.
    ///
    /// # Errors
    ///
    /// [`ZeroBatchSize`](DatasetError::ZeroBatchSize), or [`NoSequences`](DatasetError::NoSequences) when there is no pair
    /// or none is asked for.
    pub fn init<B: Backend>(
        &self,
        pairs: &TokenPairs,
        device: &B::Device,
    ) -> Result<PairEvalLoader<B>, DatasetError> {
        if self.batch_size == 0 {
            return Err(DatasetError::ZeroBatchSize);
        }
        let n_pairs = self.max_pairs.unwrap_or(usize::MAX).min(pairs.len());
        if n_pairs == 0 {
            return Err(DatasetError::NoSequences);
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
