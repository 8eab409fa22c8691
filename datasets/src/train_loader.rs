//! The endless, shuffled stream of batches that a model trains on.

use std::sync::Arc;

use burn::config::Config;
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::Backend;

use crate::batch::LmBatch;
use crate::cursor::Cursor;
use crate::error::DatasetError;
use crate::rows::Rows;
use crate::shuffle::ShuffledWindows;
use crate::split::Split;
use crate::windows::ByteWindow;

/// Configuration of a [`TrainLoader`].
#[derive(Config, Debug)]
pub struct TrainLoaderConfig {
    /// Inputs of a window, the model's sequence length. At least 1, and less than the bytes of the split.
    pub window_length: usize,
    /// Windows in a batch. At least 1.
    pub batch_size: usize,
    /// Batches in an epoch, which is only the time between two validations. At least 1.
    pub steps_per_epoch: usize,
    /// From which the cuts and the order of all windows follow.
    #[config(default = 0)]
    pub seed: u64,
}

impl TrainLoaderConfig {
    /// A loader of the split's windows, before step 0.
    ///
    /// # Errors
    ///
    /// [`ZeroWindowLength`](DatasetError::ZeroWindowLength), [`ZeroBatchSize`](DatasetError::ZeroBatchSize),
    /// [`ZeroStepsPerEpoch`](DatasetError::ZeroStepsPerEpoch), [`EpochTooLong`](DatasetError::EpochTooLong) or
    /// [`SplitTooShort`](DatasetError::SplitTooShort).
    pub fn init<B: Backend>(
        &self,
        split: &Split,
        device: &B::Device,
    ) -> Result<TrainLoader<B>, DatasetError> {
        let &Self {
            window_length,
            batch_size,
            steps_per_epoch,
            seed,
        } = self;
        if batch_size == 0 {
            return Err(DatasetError::ZeroBatchSize);
        }
        if steps_per_epoch == 0 {
            return Err(DatasetError::ZeroStepsPerEpoch);
        }
        let n_rows = steps_per_epoch
            .checked_mul(batch_size)
            .ok_or(DatasetError::EpochTooLong {
                steps_per_epoch,
                batch_size,
            })?;
        let windows = ShuffledWindows::new(split, window_length, seed)?;
        let rows = Rows::all(n_rows, batch_size);
        Ok(TrainLoader::new(
            Arc::new(windows),
            Epoch {
                n_steps: steps_per_epoch as u64,
                batch_size: batch_size as u64,
                rows,
            },
            0,
            device.clone(),
        ))
    }
}

/// What a loader takes out of each epoch.
#[derive(Clone, Debug)]
struct Epoch {
    n_steps: u64,
    batch_size: u64,
    rows: Rows,
}

/// An endless stream of shuffled batches, cut into epochs of `steps_per_epoch` steps.
///
/// Row `r` of step `s` is sample `s * batch_size + r` of the stream. The stream is one pass over the
/// split after the other; each draws anew, from the seed and its number only, the byte at which its first
/// window starts (the phase) and the order of its windows, of which no two overlap. So the batch of a step does not
/// depend on the steps before it: see [`batch`](Self::batch).
///
/// Every pass has the same number of windows. Of `n` bytes and windows of `w` that is `n / w - 1` (1 where this is
/// 0): one less than fits, so that from `2 * w` bytes on a phase can be any of `0..w`, and a byte stand
/// anywhere in a window. The phase goes on to `n - 1 - n_windows * w`, so no byte of the split is left out for good.
///
/// # As a data loader
///
/// - `iter` goes on where the iterators before it ended, to the end of the epoch. One that is dropped half-way
///   leaves the rest of its epoch to the next.
/// - `num_items` is the number of windows in an epoch.
/// - `to_device` is the same stream: what it yields, this loader does not yield again.
/// - `slice` takes the rows `start..end` out of each epoch, as a stream of its own that starts in the epoch
///   where this one stands. Batches are cut as in the whole epoch, so a row keeps its step, and only the
///   first and the last batch of a slice can be smaller. With a number of steps that the number of
///   devices divides, Burn's way to share an epoch among devices so gives whole batches to each.
///   It panics when the slice is not inside the loader.
///
/// # Example
///
/// ```
/// use burn::data::dataloader::DataLoader;
/// use burn_flex::Flex;
/// use reformer_datasets::{ByteCorpus, TrainLoaderConfig};
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let split = ByteCorpus::sample().split().train;
/// let config = TrainLoaderConfig::new(512, 8, 4).with_seed(1);
/// let loader = config.init::<Flex>(&split, &Default::default())?;
/// for epoch in 0..2 {
///     let steps: Vec<u64> = loader.iter().map(|batch| batch.step).collect();
///     assert_eq!(steps, [0, 1, 2, 3].map(|step| 4 * epoch + step));
/// }
///
/// // A run that stopped after step 5 goes on with step 6.
/// let resumed = loader.starting_at(6);
/// let steps: Vec<u64> = resumed.iter().map(|batch| batch.step).collect();
/// assert_eq!(steps, [6, 7]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TrainLoader<B: Backend> {
    windows: Arc<ShuffledWindows>,
    epoch: Epoch,
    cursor: Arc<Cursor>,
    device: B::Device,
}

impl<B: Backend> TrainLoader<B> {
    fn new(windows: Arc<ShuffledWindows>, epoch: Epoch, next_step: u64, device: B::Device) -> Self {
        let batches = epoch.rows.batches();
        let offsets = batches.start as u64..batches.end as u64;
        Self {
            cursor: Arc::new(Cursor::new(epoch.n_steps, offsets, next_step)),
            windows,
            epoch,
            device,
        }
    }

    /// The same stream, entered at this step. The first epoch is the one that the step belongs to, and
    /// ends where it would have.
    pub fn starting_at(self, step: u64) -> Self {
        Self::new(self.windows, self.epoch, step, self.device)
    }

    /// The step of the next batch: what to keep in a checkpoint and to give to
    /// [`starting_at`](Self::starting_at).
    pub fn next_step(&self) -> u64 {
        self.cursor.next_step()
    }

    /// Windows in each pass over the split.
    pub fn windows_per_pass(&self) -> usize {
        self.windows.n_windows()
    }

    /// The batch of a step, wherever the stream stands.
    ///
    /// It is a function of the split, the configuration (but for `steps_per_epoch`) and the step alone.
    ///
    /// # Shapes
    ///
    /// - tokens, targets: `[batch_size, window_length]`
    pub fn batch(&self, step: u64) -> LmBatch<B> {
        let Epoch {
            n_steps,
            batch_size,
            ref rows,
        } = self.epoch;
        let offset = step % n_steps;
        let first_sample = (step - offset) * batch_size;
        let windows: Vec<ByteWindow> = rows
            .of_batch(offset as usize)
            .map(|row| self.windows.sample(first_sample + row as u64))
            .collect();
        LmBatch::from_windows(&windows, step, &self.device)
    }
}

impl<B: Backend> DataLoader<B, LmBatch<B>> for TrainLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<LmBatch<B>> + 'a> {
        let next_step = self.cursor.next_step();
        let offset = (next_step % self.epoch.n_steps) as usize;
        Box::new(TrainIterator {
            loader: self,
            epoch: next_step / self.epoch.n_steps,
            items_processed: self.epoch.rows.before_batch(offset),
        })
    }

    fn num_items(&self) -> usize {
        self.epoch.rows.len()
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, LmBatch<B>>> {
        Arc::new(Self {
            windows: self.windows.clone(),
            epoch: self.epoch.clone(),
            cursor: self.cursor.clone(),
            device: device.clone(),
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, LmBatch<B>>> {
        let epoch = Epoch {
            rows: self.epoch.rows.slice(start, end),
            ..self.epoch.clone()
        };
        // A memory of its own, or two slices in different passes would draw their pass at every row.
        let windows = Arc::new(ShuffledWindows::clone(&self.windows));
        Arc::new(Self::new(
            windows,
            epoch,
            self.next_step(),
            self.device.clone(),
        ))
    }
}

/// The batches from the cursor to the end of an epoch.
struct TrainIterator<'a, B: Backend> {
    loader: &'a TrainLoader<B>,
    epoch: u64,
    items_processed: usize,
}

impl<B: Backend> Iterator for TrainIterator<'_, B> {
    type Item = LmBatch<B>;

    fn next(&mut self) -> Option<LmBatch<B>> {
        let step = self.loader.cursor.take_in(self.epoch)?;
        let Epoch { n_steps, rows, .. } = &self.loader.epoch;
        self.items_processed = rows.before_batch((step % n_steps) as usize + 1);
        Some(self.loader.batch(step))
    }
}

impl<B: Backend> DataLoaderIterator<LmBatch<B>> for TrainIterator<'_, B> {
    /// Windows of the epoch up to the last batch, with those that earlier iterators took.
    fn progress(&self) -> Progress {
        Progress::new(self.items_processed, self.loader.num_items())
    }
}
